"""Checks that compute again what a finished experiment reports, and compare.

A check returns what it compared, raises an InputError that names everything that differs, or raises
NotChecked. A file whose hash differs is used by no further check.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from hbcomp.blending.base_models import BaseModels, load_base_models
from hbcomp.blending.methods import evaluate_methods
from hbcomp.crossval.run_page import fold_score
from hbcomp.data.splits import make_folds
from hbcomp.experiment import manifest
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.predictions import ALL, mean_oof, mean_probs, write_predictions
from hbcomp.experiment.recipe import BlendRecipe, read_recipe
from hbcomp.experiment.report import as_json, scorecard
from hbcomp.experiment.resume import SEED_KEY, read_run
from hbcomp.scoring.calibration import CALIBRATIONS, cross_fitted_probs
from hbcomp.scoring.choice import evaluate_rules
from hbcomp.scoring.transfer import choose_accepted_rule
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import submission_bytes
from hbcomp.submissions.ledger import NAME as LEDGER
from hbcomp.submissions.ledger import find, read_ledger
from hbcomp.system.errors import InputError, did_you_mean, similar_names
from hbcomp.verification.nets import predict_again
from hbcomp.verification.run_under_test import NotChecked, RunUnderTest, as_words

Status = Literal["ok", "FAILED", "not checked"]


@dataclass(frozen=True)
class Check:
    """The result of one check of one experiment."""

    experiment: str
    name: str
    status: Status
    detail: str


def verify_run(
    run: RunFolder, nets: Sequence[str] | None, *, is_trusted: bool = False
) -> list[Check]:
    """Return the result of every check of an experiment; an unfinished one is an InputError.

    `nets` (`SEED-FOLD`) predict again. None stands for the net of the first fold and the first one
    that was trained on everything, an empty sequence for all nets.
    """
    if not run.report_file.exists() and not run.manifest_file.exists():
        similar = did_you_mean(similar_names(run.path))
        raise InputError(f"{run.path}: no report.json{similar}; has the run finished?")
    tested = RunUnderTest(run, is_trusted)
    checks: dict[str, Callable[[RunUnderTest], str]] = {
        "files": _check_files,
        "fold files": _check_fold_files,
        "scores": _check_scores,
        "predictions": _check_predictions,
        "tables": _check_tables,
        "submission": _check_submission,
        "data": _check_data,
        "nets": lambda each: predict_again(each, nets) if each.kind == "run" else ABSENT,
        "refit": _check_refit,
        "recipe": _check_recipe,
    }
    found = [_examine(tested, name, check) for name, check in checks.items()]
    return [each for each in found if each.detail != ABSENT]


ABSENT = "nothing to check"  # such checks are left out of the result


def _examine(tested: RunUnderTest, name: str, check: Callable[[RunUnderTest], str]) -> Check:
    def result(status: Status, detail: str) -> Check:
        return Check(tested.run.name, name, status, detail)

    try:
        return result("ok", check(tested))
    except NotChecked as reason:
        return result("not checked", str(reason))
    except InputError as error:
        return result("FAILED", str(error))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        # A file that was changed and its hash mended may hold anything.
        return result("FAILED", f"{tested.run.path}: has unexpected content: {error!r}")


def _raise_if_any(problems: Sequence[str]) -> None:
    # Not InputError.of: every damaged file is to be named, however many there are.
    if problems:
        raise InputError("; ".join(problems))


# --- bytes ------------------------------------------------------------------------------------


def _check_files(tested: RunUnderTest) -> str:
    run = tested.run
    if not run.manifest_file.exists():
        raise NotChecked(
            "no manifest.json, because the command that made the experiment was stopped while "
            "writing; the same command completes it"
        )
    hash_of = manifest.read_manifest(run.path)
    problems = _damages(tested, "", hash_of)
    extra = set(run.covered_files()) - set(hash_of)
    _raise_if_any(
        [*problems, *(f"{run.path / name}: not in the manifest" for name in sorted(extra))]
    )
    return f"{len(hash_of)} files have the manifest's sha256"


def _check_fold_files(tested: RunUnderTest) -> str:
    folders = tested.run.stored_folds()
    if not folders:
        return ABSENT
    problems, n_files = [], 0
    for each in folders:
        prefix = f"folds/{each.name}/"
        listed = f"{prefix}{manifest.NAME}"
        if listed in tested.damaged:
            continue  # the file check has named it
        hash_of = manifest.read_manifest(each)
        n_files += len(hash_of)
        problems += _damages(tested, prefix, hash_of)
        extra = {path.name for path in each.iterdir()} - {*hash_of, manifest.NAME}
        problems += [f"{each / name}: not in the manifest" for name in sorted(extra)]
    _raise_if_any(problems)
    return f"{n_files} files of {len(folders)} nets have their manifests' sha256"


def _damages(tested: RunUnderTest, prefix: str, hash_of: Mapping[str, str]) -> list[str]:
    problems = []
    for name, sha256 in hash_of.items():
        path = tested.run.path / prefix / name
        if what := manifest.damage(path, sha256):
            tested.damaged.add(f"{prefix}{name}")
            problems.append(f"{path}: {what}")
    return problems


# --- numbers ----------------------------------------------------------------------------------


def _check_scores(tested: RunUnderTest) -> str:
    predictions, report = tested.predictions, tested.report
    oof, test = predictions.oof_probs, predictions.test_probs
    metric = tested.metric
    rules = evaluate_rules(metric, oof, predictions.labels, predictions.fold_of_row)
    # Only a run's configuration tells whether the rule was chosen or requested.
    requested = tested.config.decision.rule if tested.kind == "run" else report.chosen.name
    if requested != "auto" and requested not in {rule.name for rule in rules}:
        raise InputError(f"{tested.run.report_file}: there is no rule {requested!r}")
    chosen = choose_accepted_rule(metric, rules, oof, test, requested)
    again = as_json(scorecard(report.metric, metric, predictions, rules, chosen))
    stored = {key: value for key, value in as_json(report).items() if key in again}
    _raise_if_any(_report_differences(tested, "", stored, again))
    how = as_words(tested.tolerance)
    return f"{len(rules)} rules, in-sample and cross-fitted, are as reported, {how}"


def _report_differences(tested: RunUnderTest, key: str, stored: Any, again: Any) -> list[str]:
    found = _differences(key, stored, again, tested.tolerance)
    return [f"{tested.run.report_file}: {text}" for text in found]


def _differences(path: str, stored: Any, again: Any, tolerance: float) -> Iterator[str]:
    """Yield each dotted path at which two JSON values differ, with both."""
    if isinstance(stored, dict) and isinstance(again, dict) and stored.keys() == again.keys():
        for key in again:
            yield from _differences(f"{path}.{key}".lstrip("."), stored[key], again[key], tolerance)
    elif isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for position, pair in enumerate(zip(stored, again, strict=True)):
            yield from _differences(f"{path}.{position}", *pair, tolerance)
    elif isinstance(stored, float) and isinstance(again, float):
        if abs(stored - again) > tolerance * max(1.0, abs(again)):
            yield f"{path} says {stored!r}, but is {again!r}"
    elif stored != again or type(stored) is not type(again):
        yield f"{path} says {stored!r}, but is {again!r}"


def _check_predictions(tested: RunUnderTest) -> str:
    if tested.kind != "run":
        return ABSENT
    predictions, run, results = tested.predictions, tested.run, tested.fold_results
    in_order = sorted(results, key=lambda result: (result.seed, result.fold))
    again = {
        "oof_probs": mean_oof(in_order, predictions.oof_probs.shape),
        "fold_of_row": np.full(len(predictions.labels), -1),
    }
    for result in results:
        if result.seed == results[0].seed:
            again["fold_of_row"][result.valid_idx] = result.fold
    of_test = [each.test_probs for each in in_order if each.test_probs is not None]
    if of_test:
        again["test_probs"] = mean_probs(of_test)
    problems = [
        f"{run.predictions_file}: {name} are not those of the folds"
        for name, array in again.items()
        if not _has_same_bits(getattr(predictions, name), array)
    ]
    chosen = tested.report.chosen.name
    again_scored = [
        fold_score(tested.metric, predictions, run, result, chosen) for result in results
    ]
    stored, scored = (
        [as_json(fold) for fold in folds] for folds in (tested.report.folds, again_scored)
    )
    problems += _report_differences(tested, "folds", stored, scored)
    _raise_if_any(problems)
    return f"the probabilities of {len(results)} nets give predictions.npz to the bit"


def _has_same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def _check_tables(tested: RunUnderTest) -> str:
    predictions, problems = tested.predictions, []
    with TemporaryDirectory() as folder:
        write_predictions(Path(folder), predictions, tested.report.form.classes)
        again = {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.csv"))}
    tested.need(*again)
    for name, content in again.items():
        if (tested.run.path / name).read_bytes() != content:
            problems.append(f"{tested.run.path / name}: differs from predictions.npz")
    _raise_if_any(problems)
    return f"{' and '.join(again)} have the numbers of predictions.npz"


def _check_submission(tested: RunUnderTest) -> str:
    path = FOLDER / f"{tested.run.name}.csv"
    if not tested.run.predictions_file.exists() and path.exists():
        if not (FOLDER / LEDGER).exists():
            raise NotChecked(f"{FOLDER / LEDGER} is not here, and there is no predictions.npz")
        if find(read_ledger(FOLDER), manifest.sha256_of(path)) is None:
            raise InputError(f"{path}: {FOLDER / LEDGER} has no row with its sha256")
        return f"{path} has the ledger's sha256; without predictions.npz no more can be said"
    predictions = tested.predictions
    if not len(predictions.test_ids):
        raise NotChecked("no test rows")
    answers = tested.rule.apply(predictions.test_probs)
    return _compare_submission(tested, path, predictions.test_ids, answers)


def _compare_submission(
    tested: RunUnderTest, path: Path, ids: np.ndarray, answers: Float[np.ndarray, "n k"]
) -> str:
    wanted = submission_bytes(ids, answers, tested.report.form)
    has_file, has_ledger = path.exists(), (FOLDER / LEDGER).exists()
    is_known = find(read_ledger(FOLDER), hashlib.sha256(wanted).hexdigest()) is not None
    if not has_file and not is_known:
        raise NotChecked(f"{path} is not here")
    problems = []
    if not has_file:
        problems.append(f"{path}: missing")
    elif path.read_bytes() != wanted:
        problems.append(f"{path}: not the rule's answers to the test probabilities")
    if has_ledger and not is_known:
        problems.append(f"{FOLDER / LEDGER}: no row has the sha256 of these answers")
    _raise_if_any(problems)
    in_ledger = "it has its row in the ledger" if has_ledger else f"{FOLDER / LEDGER} is not here"
    return f"{path} is the rule's answers; {in_ledger}"


# --- data, refit, blend -----------------------------------------------------------------------


def _check_data(tested: RunUnderTest) -> str:
    (train, test), predictions = tested.data, tested.predictions
    data = {"train": train}
    if len(predictions.test_ids) and test:
        data["test"] = test
    problems = [
        f"{each.source}: not the {kind} rows that {file} was made on"
        for kind, each in data.items()
        for file, fingerprint in (
            (tested.run.predictions_file, getattr(predictions, f"{kind}_fingerprint")),
            (tested.run.report_file, getattr(tested.report.data, f"fingerprint_{kind}")),
        )
        if each.fingerprint != fingerprint
    ]
    _raise_if_any(problems)
    own = [(predictions.train_ids, train.ids), (predictions.labels, train.known_labels)]
    if "test" in data:
        own.append((predictions.test_ids, data["test"].ids))
    if not all(np.array_equal(*pair) for pair in own):
        raise InputError(f"{tested.run.predictions_file}: ids or labels are not the data's")
    if tested.kind != "run":
        return "the rows have the stored fingerprints"
    tested.need("run.toml")
    record = read_run(tested.run)
    identity = record.identity if record else {}
    seeds = tested.config.folds.seeds
    prints = {f"{SEED_KEY}{seed}": make_folds(tested.config.folds, train, seed) for seed in seeds}
    _raise_if_any(
        [
            f"{tested.run.run_file}: {key} are not what the configuration draws"
            for key, folds in prints.items()
            if identity.get(key) != folds.fingerprint
        ]
    )
    return f"the rows and the folds of {len(seeds)} seeds have the stored fingerprints"


def _check_refit(tested: RunUnderTest) -> str:
    if not tested.run.refit_file.exists() and "refit.json" not in tested.damaged:
        return ABSENT
    refit, report = tested.refit, tested.report
    tested.need("report.json")
    problems = [
        f"{tested.run.refit_file}: {key} is not that of report.json"
        for key, reported in (("chosen", report.chosen), ("expected", report.score))
        if getattr(refit, key) != reported
    ]
    _raise_if_any(problems)
    results = [tested.load_fold(seed, ALL) for seed in refit.seeds]
    of_test = [each.test_probs for each in results if each.test_probs is not None]
    if not of_test:
        raise NotChecked("no test rows")
    answers = tested.rule.apply(mean_probs(of_test))
    path = FOLDER / f"{tested.run.name}-{ALL}.csv"
    return _compare_submission(tested, path, tested.predictions.test_ids, answers)


def _check_recipe(tested: RunUnderTest) -> str:
    if tested.kind != "blend":
        return ABSENT
    tested.need("recipe.json")
    file = tested.run.recipe_file
    recipe = read_recipe(file)
    absent = [name for name in recipe.base_models if not find_run(name).predictions_file.exists()]
    if absent:
        raise NotChecked(f"base models not here: {', '.join(absent)}")
    base_models = load_base_models(recipe.base_models, is_trusted=tested.is_trusted)
    predictions = tested.predictions
    pairs = zip(recipe.base_models, base_models.fingerprints, recipe.fingerprints, strict=True)
    _raise_if_any(
        [f"{file}: {name} is not what it was" for name, now, then in pairs if now != then]
    )
    again = {"test_probs": recipe.probs(base_models.test)}
    if recipe.method != "optuna":  # its seed is not stored
        again["oof_probs"] = _cross_fitted(recipe, base_models)
    problems = [
        f"{tested.run.predictions_file}: {name} are not what {file.name} makes of the base models"
        for name, array in again.items()
        if not np.allclose(getattr(predictions, name), array, rtol=0, atol=tested.tolerance)
    ]
    if recipe.rule_name != tested.report.chosen.name or recipe.rule != tested.rule:
        problems.append(f"{file}: another rule than in report.json")
    _raise_if_any(problems)
    what = " and ".join(name.replace("_", " ") for name in again)
    how = as_words(tested.tolerance)
    return f"applied again to {len(recipe.base_models)} base models: {what}, {how}"


def _cross_fitted(recipe: BlendRecipe, base_models: BaseModels) -> np.ndarray:
    """Return the blend's out-of-fold probabilities, its method and calibration fitted again."""
    labels, fold_of_row = base_models.labels, base_models.fold_of_row
    (method,) = evaluate_methods(
        [recipe.method], base_models.metric, base_models.oof, labels, fold_of_row, seed=0
    )
    fit = CALIBRATIONS[recipe.calibration.kind]
    return cross_fitted_probs(fit, method.probs, labels, fold_of_row)
