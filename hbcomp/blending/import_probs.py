"""The import of outside probabilities in order: read, check, write, submit, report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hbcomp.blending.probs_files import ProbsFile, read_probs, rounding
from hbcomp.competitions.competition import load_competition, metric_of
from hbcomp.competitions.load import load_data
from hbcomp.competitions.submission_form import form_of
from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import Folds, make_folds, pick_seed, read_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.finish import write_answers, write_report
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import (
    Environment,
    FileNames,
    Report,
    data_numbers,
    read_report,
    scorecard,
    scores_by_rule,
    scores_in_words,
)
from hbcomp.experiment.report_tables import (
    class_table,
    costliest_picture,
    probs_pictures,
    provenance_table,
    rule_table,
    transferability_tables,
)
from hbcomp.reporting import pages
from hbcomp.scoring.choice import evaluate_rules
from hbcomp.scoring.transfer import choose_accepted_rule
from hbcomp.submissions.ledger import sha256_of
from hbcomp.system.command import console
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError

Identity = dict[str, str | int | None]


@dataclass(frozen=True)
class ImportOptions:
    """The files to import, and the experiment whose rows, folds and decision rule they share.

    With `like` empty, `config` is that of no experiment, and the file must have its own folds.
    """

    oof: Path
    test: Path | None
    like: str
    config: Config  # of that experiment
    seed: int | None = None
    normalise: bool = False
    is_trusted: bool = False  # whether a metric.py from elsewhere may be executed


@dataclass(frozen=True, eq=False)
class Imported:
    """Checked predictions, and how many of their rows were normalised or rounded.

    With `has_own_folds` the folds are those in the file. Otherwise they are the experiment's, and
    the user vouches that the file was made over them.
    """

    predictions: Predictions
    folds: Folds
    has_own_folds: bool
    n_normalised: int
    n_rounded: int


def read_imported(options: ImportOptions, train: Dataset, test: Dataset | None) -> Imported:
    """Return the probabilities in the files as predictions of the data's rows, matched by id.

    Folds are those in the `fold` column of the out-of-fold file; without one, those that the
    configuration draws for the seed (None: its first). With `normalise`, rows that do not sum to
    1 are divided by their sum; otherwise they are refused.
    """
    if options.test and test is None:
        raise InputError(f"{options.test}: the experiment has no test file; name it in data.test")

    def read(path: Path, dataset: Dataset) -> ProbsFile:
        return read_probs(path, dataset, train.classes, normalise=options.normalise)

    oof = read(options.oof, train)
    answered, parts = None, [oof]
    if options.test and test:
        answered = test
        parts.append(read(options.test, test))
    if oof.has_folds and options.seed is not None:
        raise InputError(f"{options.oof}: its fold column decides, so --seed would be ignored")
    if not oof.has_folds and not options.like:
        raise InputError(f"{options.oof}: without --like it must have a column fold")
    config = options.config.folds
    seed = pick_seed(config, options.seed)
    folds = (
        read_folds(options.oof, train, seed) if oof.has_folds else make_folds(config, train, seed)
    )
    predictions = Predictions(
        train_ids=train.ids,
        labels=train.known_labels,
        fold_of_row=folds.fold_of_row,
        oof_probs=oof.probs,
        test_ids=answered.ids if answered else train.ids[:0],
        test_probs=parts[-1].probs if answered else oof.probs[:0],
        train_fingerprint=train.fingerprint,
        test_fingerprint=answered.fingerprint if answered else "",
    )
    return Imported(
        predictions,
        folds,
        oof.has_folds,
        n_normalised=sum(each.n_normalised for each in parts),
        n_rounded=sum(each.n_rounded for each in parts),
    )


def run(options: ImportOptions, run: RunFolder, *, force: bool) -> dict[str, Any]:
    """Import probabilities as an experiment and return the numbers of the last line.

    Everything is checked before anything is written; the same call writes the same predictions.
    """
    config = options.config
    train, test = load_data(config.data)
    imported = read_imported(options, train, test)
    predictions = imported.predictions
    spec = load_competition(config.data.competition).metric_spec(train.classes)
    metric = metric_of(spec, is_trusted=options.is_trusted)
    rules = evaluate_rules(
        metric, predictions.oof_probs, predictions.labels, predictions.fold_of_row
    )
    chosen = choose_accepted_rule(
        metric, rules, predictions.oof_probs, predictions.test_probs, config.decision.rule
    )
    report = Report(
        **dict(scorecard(spec, metric, predictions, rules, chosen)),
        **_origin(options, imported),
        own_form=form_of(config.data, train.classes),
        experiment=run.name,
        kind="imported",
        data=data_numbers(train, test),
        environment=Environment(**asdict(machine())),
        folds=(),
    )
    with locked(run):
        _check_target(run, report.identity, force=force)
        recipe = f"import of {report.files and report.files.test}, on {report.data.test}"
        submission = write_answers(run, predictions, chosen, report, recipe, report.form)
        drawn = [
            *probs_pictures(metric, predictions, rules, chosen, train.classes),
            costliest_picture(predictions, chosen, train),
        ]
        pages.write_pictures(run.pictures_folder, drawn)
        page = write_report(run, report, _subtitle(imported, report), _sections(report, drawn))
    pages.print_table(rule_table(report), console)
    _print_notes(options, imported, report)
    return {
        "experiment": run.name,
        "n_rows": len(predictions.train_ids),
        "n_test": len(predictions.test_ids),
        "n_normalised": imported.n_normalised,
        "n_rounded": imported.n_rounded,
        "has_own_folds": imported.has_own_folds,
        "rule": chosen.name,
        "metric": metric.name,
        "oof_scores": scores_by_rule(rules),
        "expected": report.expected_numbers,
        "accuracy": report.accuracy,
        "submission": submission,
        "report": page,
    }


def _origin(options: ImportOptions, imported: Imported) -> dict[str, Any]:
    """Return what a report says only of an import: where its probabilities come from."""
    return {
        "config": options.config.model_dump(
            mode="json", exclude_none=True, include={"data", "folds"}
        ),
        "like": options.like,
        "files": FileNames(oof=options.oof.name, test=options.test.name if options.test else None),
        "identity": _identity(options, imported),
        "has_own_folds": imported.has_own_folds,
    }


def _identity(options: ImportOptions, imported: Imported) -> Identity:
    """Return what the import consists of, by hashes: one of another identity is another import."""
    predictions = imported.predictions
    return {
        "oof file": sha256_of(options.oof),
        "test file": sha256_of(options.test) if options.test else None,
        "train data": predictions.train_fingerprint,
        "test data": predictions.test_fingerprint,
        "folds": imported.folds.fingerprint,
        "rows normalised": imported.n_normalised,
    }


def _check_target(run: RunFolder, identity: Identity, *, force: bool) -> None:
    """Refuse to write over anything but the same import; with `force` any import is replaced."""
    others = (run.config_file, run.recipe_file)
    if not any(path.exists() for path in (run.report_file, *others)):
        return
    is_other = any(path.exists() for path in others)
    known = None if is_other else read_report(run.report_file)
    if known is None or known.kind != "imported":
        raise InputError(f"{run.path} is an experiment of another kind; choose another NAME")
    changed = [key for key in identity if known.identity.get(key) != identity[key]]
    if changed and not force:
        raise InputError(
            f"{run.path} holds another import, with other {', '.join(changed)}; "
            "another NAME keeps both, --force replaces it"
        )


def _subtitle(imported: Imported, report: Report) -> str:
    return (
        f"imported; out-of-fold, cross-fitted, rule {report.chosen.name}, "
        f"{report.data.n_train:,} rows; {_folds(imported, report.like)}"
    )


def _sections(report: Report, drawn: Sequence[pages.Picture]) -> list[pages.Section]:
    return [
        rule_table(report),
        *drawn,
        *transferability_tables(report),
        class_table(report),
        provenance_table(report, "files", "identity", "config", "data"),
    ]


def _folds(imported: Imported, like: str) -> str:
    folds = imported.folds
    if imported.has_own_folds:
        return f"the {folds.n_folds} folds of its file"
    return f"taken on trust as made over the {folds.n_folds} folds of {like}, seed {folds.seed}"


def _print_notes(options: ImportOptions, imported: Imported, report: Report) -> None:
    name = options.oof.name
    console.print(f"{name}: {_folds(imported, options.like)}")
    if not imported.has_own_folds:
        console.print(
            "warning: if a model predicted rows that it was trained on, every score is too good; "
            f"`hbcomp folds {options.like}` writes these folds, and a fold column in {name} names "
            "others"
        )
    if imported.n_normalised:
        console.print(f"{imported.n_normalised:,} rows did not sum to 1 and were normalised")
    if imported.n_rounded:
        console.print(rounding(imported.n_rounded))
    if report.data.n_test and not len(imported.predictions.test_ids):
        console.print(
            "without --test there is no submission, and no blend with models that have one"
        )
    console.print(scores_in_words(report))
