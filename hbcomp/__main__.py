"""All commands under one name: `hbcomp cv` is `python -m hbcomp.cv`."""

import typer

from hbcomp.bench import bench
from hbcomp.blend import blend
from hbcomp.check import check
from hbcomp.compare import compare
from hbcomp.compete import compete
from hbcomp.cv import cv
from hbcomp.diff import diff
from hbcomp.eda import eda
from hbcomp.folds import folds
from hbcomp.groups import groups
from hbcomp.import_oof import import_oof
from hbcomp.lb import lb
from hbcomp.ledger import ledger
from hbcomp.mistakes import mistakes
from hbcomp.predict import predict
from hbcomp.report import report
from hbcomp.score import score
from hbcomp.submit import submit
from hbcomp.system import command as cli
from hbcomp.thresholds import thresholds
from hbcomp.tune import tune
from hbcomp.verify import verify

COMMANDS = (
    cv,
    compete,
    tune,
    blend,
    eda,
    folds,
    groups,
    import_oof,
    thresholds,
    compare,
    mistakes,
    report,
    predict,
    check,
    diff,
    submit,
    lb,
    ledger,
    verify,
    score,
    bench,
)


def main() -> None:
    """Run the command that the first argument names."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        help="From a competition's CSV files to a cross-validated, checked submission.",
    )
    for command in COMMANDS:
        app.command()(cli.guarded(command))
    cli.start(app)


if __name__ == "__main__":
    main()
