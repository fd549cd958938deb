"""The command `python -m hbcomp.blend`: combine finished experiments into one."""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Combine", then="hbcomp compare {experiment} {against_best_base_model[base_model]}")
def blend(
    base_models: Annotated[
        list[str], typer.Argument(help="Finished experiments, of nets or imported.")
    ],
    name: Annotated[str, typer.Option(help="The blend's own name under experiments/.")] = "blend",
    method: Annotated[
        str,
        typer.Option(
            help="mean, geometric, median, vote, ranks, greedy, hill-climb, optuna, stack; auto: "
            "the simplest that none beats."
        ),
    ] = "auto",
    calibration: Annotated[
        str, typer.Option(help="Of the blend: none, temperature, vector or auto.")
    ] = "auto",
    rule: Annotated[str, typer.Option(help="The decision rule, as in a configuration.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of Optuna's draws.")] = 0,
    trust: options.Trust = False,
    force: options.Force = False,
) -> dict[str, Any]:
    """Combine finished experiments into one, by the method that their cross-fitted scores choose.

    All must be scored by the same metric. Weights are fitted, and every method is scored, under
    its fixed rule: threshold 0.5 for abs-sum, the most probable class for metrics of labels, raw
    for those of probabilities. The blend has predictions, a submission, a page, and a recipe that
    `hbcomp predict` applies to new data.

    Example: hbcomp blend resnet wide lightgbm --name blend
    """
    from hbcomp.blending.blend_runs import run
    from hbcomp.blending.selection import BlendOptions

    wanted = BlendOptions(method=method, calibration=calibration, rule=rule, seed=seed)
    return run(base_models, name, wanted, force=force, is_trusted=trust)


if __name__ == "__main__":
    cli.run(blend)
