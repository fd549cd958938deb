"""The command `python -m hbcomp.thresholds`: tune the clipping thresholds of a run with Optuna."""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Combine")
def thresholds(
    run: options.Finished,
    trials: options.Trials = 200,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Seed of the sampler; each has its own study.")
    ] = 0,
) -> dict[str, Any]:
    """Tune clip(lo, hi) on the out-of-fold probabilities, and compare it with the exact optimum.

    The study is stored in the run's folder and continues up to the total number of trials.

    Example: hbcomp thresholds quickstart --trials 200
    """
    from hbcomp.experiment.folder import find_run
    from hbcomp.tuning.thresholds import tune_thresholds

    return tune_thresholds(find_run(run), trials, seed, cli.console)


if __name__ == "__main__":
    cli.run(thresholds)
