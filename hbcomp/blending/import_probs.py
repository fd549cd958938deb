"""The import of outside probabilities in order: read, check, write, submit, report."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from hbcomp.data.load import Data, load_data
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import write_predictions
from hbcomp.experiment.report import Part, read_part, read_report
from hbcomp.experiment.report_tables import (
    Summary,
    class_table,
    data_numbers,
    expectation,
    probs_pictures,
    rule_table,
    scorecard,
    scores_by_rule,
    transfer_tables,
)
from hbcomp.outside import Files, Imported, read_imported, rounding
from hbcomp.reporting import pages
from hbcomp.reporting.figures import runs as pictures
from hbcomp.scoring.choice import RuleResult, evaluate_rules
from hbcomp.scoring.transfer import choose_safe_rule
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission
from hbcomp.system.command import console
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError
from hbcomp.system.files import write_text


class _Identity(Part):
    """What an import was made of."""

    identity: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """What to import, and the experiment whose beats, folds and decision rule hold for it."""

    files: Files
    like: str
    config: Config
    seed: int | None
    normalise: bool


def run(wish: Wish, run: RunFolder, *, force: bool) -> dict[str, Any]:
    """Import probabilities as an experiment and return the numbers of the last line.

    Everything is checked before anything is written; the same call writes the same predictions.
    """
    data = load_data(wish.config.data)
    imported = read_imported(
        wish.files, data, wish.config.folds, wish.seed, normalise=wish.normalise
    )
    predictions = imported.predictions
    rules = evaluate_rules(predictions.oof_probs, predictions.labels, predictions.fold_of_row)
    chosen = choose_safe_rule(
        rules, predictions.oof_probs, predictions.test_probs, wish.config.decision.rule
    )
    identity = _identity(wish.files, imported)
    with locked(run):
        _admit(run, identity, force=force)
        summary = {
            "experiment": run.name,
            "kind": "imported",
            "like": wish.like,
            "files": {"oof": wish.files.oof.name, "test": wish.files.test and wish.files.test.name},
            "identity": identity,
            "has_own_folds": imported.has_own_folds,
            "config": wish.config.model_dump(
                mode="json", exclude_none=True, include={"data", "folds"}
            ),
            "data": data_numbers(data),
            **scorecard(predictions, rules, chosen),
            "folds": [],
            "environment": machine(),
        }
        write_predictions(run.path, predictions)
        submission = _submit(run, imported, chosen, summary)
        _write_report(run, data, imported, rules, chosen, summary)
        run.write_manifest()
    pages.print_table(rule_table(summary), console)
    _say(wish, imported, summary)
    return {
        "experiment": run.name,
        "n_rows": len(predictions.train_ids),
        "n_test": len(predictions.test_ids),
        "n_normalised": imported.n_normalised,
        "n_rounded": imported.n_rounded,
        "has_own_folds": imported.has_own_folds,
        "rule": chosen.name,
        "oof_per_20k": scores_by_rule(rules),
        "accuracy": summary["accuracy"],
        "submission": submission,
        "report": str(run.path / "report.html"),
    }


def _identity(files: Files, imported: Imported) -> dict[str, Any]:
    """Return what the import consists of, by hashes: one of another identity is another import."""
    predictions = imported.predictions
    return {
        "oof file": _sha256(files.oof),
        "test file": _sha256(files.test) if files.test else None,
        "train data": predictions.train_fingerprint,
        "test data": predictions.test_fingerprint,
        "folds": imported.folds.fingerprint,
        "rows normalised": imported.n_normalised,
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _admit(run: RunFolder, identity: Mapping[str, Any], *, force: bool) -> None:
    """Let an import be written where there is nothing, or the same import; another with `force`."""
    others = (run.config_file, run.recipe_file)
    if not any(path.exists() for path in (run.report_file, *others)):
        return
    is_other = any(path.exists() for path in others)
    if is_other or read_report(run.report_file).kind != "imported":
        raise InputError(f"{run.path} is an experiment of another kind; choose another NAME")
    known = read_part(run.report_file, _Identity).identity
    changed = [key for key in identity if known.get(key) != identity[key]]
    if changed and not force:
        raise InputError(
            f"{run.path} holds another import, with other {', '.join(changed)}; "
            "another NAME keeps both, --force replaces it"
        )
    run.discard_outputs()


def _submit(run: RunFolder, imported: Imported, chosen: RuleResult, summary: Summary) -> str | None:
    predictions = imported.predictions
    if not len(predictions.test_ids):
        return None
    path = FOLDER / f"{run.name}.csv"
    provenance = Provenance(
        source=run.name,
        recipe=f"import of {summary['files']['test']}, on {summary['data']['test']}",
        rule=chosen.name,
        expected_per_20k=summary["expected_per_20k"],
        standard_error=summary["expected_standard_error"],
        n_scored=len(predictions.labels),
    )
    answers = chosen.rule.apply(predictions.test_probs)
    id_column = summary["config"]["data"]["id_column"]
    write_submission(path, predictions.test_ids, answers, provenance, id_column)
    return str(path)


def _write_report(
    run: RunFolder,
    data: Data,
    imported: Imported,
    rules: Sequence[RuleResult],
    chosen: RuleResult,
    summary: Summary,
) -> None:
    """Write report.html with its pictures, then report.json."""
    train, oof = data.train, imported.predictions.oof_probs
    costliest = pictures.costliest_beats(
        train.signals, train.known_labels, oof, chosen.costs, train.ids
    )
    drawn = [
        *probs_pictures(imported.predictions, rules, chosen),
        pages.Picture(
            "costliest",
            costliest,
            "The beats that cost most, under the chosen rule, cross-fitted.",
        ),
    ]
    pages.write_pictures(run.path / "pictures", drawn)
    pages.write_page(
        run.path / "report.html",
        title=f"{run.name}: {summary['expected_per_20k']:.1f} per 20k",
        subtitle=(
            f"imported; out-of-fold, cross-fitted, rule {chosen.name}, {train.n_rows:,} rows; "
            f"{_folds(imported, summary['like'])}"
        ),
        sections=[
            rule_table(summary),
            *transfer_tables(summary),
            class_table(summary),
            *drawn,
            _provenance(summary),
        ],
    )
    write_text(run.report_file, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def _provenance(summary: Summary) -> pages.Table:
    rows = [
        [f"{section}.{key}", value if isinstance(value, str) else json.dumps(value)]
        for section in ("files", "identity", "config", "data")
        for key, value in summary[section].items()
    ]
    return pages.Table("Where it comes from", ["what", "value"], rows)


def _folds(imported: Imported, like: str) -> str:
    folds = imported.folds
    if imported.has_own_folds:
        return f"the {folds.n_folds} folds of its file"
    return f"taken on trust as made over the {folds.n_folds} folds of {like}, seed {folds.seed}"


def _say(wish: Wish, imported: Imported, summary: Summary) -> None:
    name = wish.files.oof.name
    console.print(f"{name}: {_folds(imported, wish.like)}")
    if not imported.has_own_folds:
        console.print(
            "warning: rows predicted by a model that trained on them make every score too good; "
            f"`hbcomp folds {wish.like}` writes these folds, a fold column in {name} names others"
        )
    if imported.n_normalised:
        console.print(f"{imported.n_normalised:,} rows did not sum to 1 and were normalised")
    if imported.n_rounded:
        console.print(rounding(imported.n_rounded))
    if summary["data"]["n_test"] and not len(imported.predictions.test_ids):
        console.print(
            "without --test there is no submission, and no blend with members that have one"
        )
    console.print(expectation(summary))
