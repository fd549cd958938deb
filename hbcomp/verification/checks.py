"""What a finished experiment says of itself, computed again from what is stored.

Every check is a function of a `Case` that returns what it compared, raises an InputError naming
all that differs, or raises `NotChecked`. A file whose hash differs is used by no further check.
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
from hbcomp.blending.recipe import BlendRecipe, read_recipe
from hbcomp.crossval.run_page import fold_score
from hbcomp.data.splits import make_folds
from hbcomp.experiment import manifest
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.predictions import ALL, mean_oof, mean_probs, write_predictions
from hbcomp.experiment.report import plain, scorecard
from hbcomp.experiment.run_record import SEED_KEY, read_run
from hbcomp.scoring.calibration import CALIBRATIONS, cross_fitted_probs
from hbcomp.scoring.choice import evaluate_rules
from hbcomp.scoring.transfer import choose_safe_rule
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import submission_bytes
from hbcomp.submissions.ledger import NAME as LEDGER
from hbcomp.submissions.ledger import find, read_ledger
from hbcomp.system.errors import InputError, did_you_mean, similar_names
from hbcomp.verification.case import Case, NotChecked
from hbcomp.verification.nets import predict_again

Status = Literal["ok", "FAILED", "not checked"]

# What another processor or another version of numpy or torch may change in a score, relatively:
# sums run in another order, and the search for a temperature ends elsewhere. Assumed.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """What one check of one experiment found."""

    experiment: str
    name: str
    status: Status
    detail: str


def verify_run(run: RunFolder, nets: Sequence[str] | None) -> list[Check]:
    """Return what every check of a finished experiment found; an unfinished one is an InputError.

    `nets` (`SEED-FOLD`) predict again: None means the first fold's and the first of those trained
    on everything, an empty sequence all.
    """
    if not run.report_file.exists() and not run.manifest_file.exists():
        similar = did_you_mean(similar_names(run.path))
        raise InputError(f"{run.path}: no report.json{similar}; has the run finished?")
    case = Case(run)
    checks: dict[str, Callable[[Case], str]] = {
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
    found = [_examine(case, name, check) for name, check in checks.items()]
    return [each for each in found if each.detail != ABSENT]


ABSENT = "nothing of the kind"  # the table leaves it out


def _examine(case: Case, name: str, check: Callable[[Case], str]) -> Check:
    def result(status: Status, detail: str) -> Check:
        return Check(case.run.name, name, status, detail)

    try:
        return result("ok", check(case))
    except NotChecked as reason:
        return result("not checked", str(reason))
    except InputError as error:
        return result("FAILED", str(error))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        # A file that was changed and its hash mended may hold anything.
        return result("FAILED", f"{case.run.path}: cannot be understood: {error!r}")


def _refuse(problems: Sequence[str]) -> None:
    # Not InputError.of: every damaged file is to be named, however many there are.
    if problems:
        raise InputError("; ".join(problems))


# --- bytes ------------------------------------------------------------------------------------


def _check_files(case: Case) -> str:
    run = case.run
    if not run.manifest_file.exists():
        raise NotChecked(
            "no manifest.json: it was stopped while writing or is an older build's; the command "
            "that made the experiment, given again, writes one"
        )
    hash_of = manifest.read_manifest(run.path)
    problems = _damages(case, "", hash_of)
    extra = set(run.covered_files()) - set(hash_of)
    _refuse([*problems, *(f"{run.path / name}: not in the manifest" for name in sorted(extra))])
    return f"{len(hash_of)} files have the manifest's sha256"


def _check_fold_files(case: Case) -> str:
    folders = case.run.stored_folds()
    if not folders:
        return ABSENT
    problems, n_files = [], 0
    for each in folders:
        prefix = f"folds/{each.name}/"
        listed = f"{prefix}{manifest.NAME}"
        if listed in case.damaged:
            continue  # named already; what it says counts for nothing
        hash_of = manifest.read_manifest(each)
        n_files += len(hash_of)
        problems += _damages(case, prefix, hash_of)
        extra = {path.name for path in each.iterdir()} - {*hash_of, manifest.NAME}
        problems += [f"{each / name}: not in the manifest" for name in sorted(extra)]
    _refuse(problems)
    return f"{n_files} files of {len(folders)} nets have their manifests' sha256"


def _damages(case: Case, prefix: str, hash_of: Mapping[str, str]) -> list[str]:
    problems = []
    for name, sha256 in hash_of.items():
        path = case.run.path / prefix / name
        if what := manifest.damage(path, sha256):
            case.damaged.add(f"{prefix}{name}")
            problems.append(f"{path}: {what}")
    return problems


# --- numbers ----------------------------------------------------------------------------------


def _check_scores(case: Case) -> str:
    predictions, report = case.predictions, case.report
    oof, test = predictions.oof_probs, predictions.test_probs
    rules = evaluate_rules(oof, predictions.labels, predictions.fold_of_row)
    # What else is asked than a rule by its name is known of a run alone.
    asked = case.config.decision.rule if case.kind == "run" else report.chosen.name
    if asked != "auto" and asked not in {rule.name for rule in rules}:
        raise InputError(f"{case.run.report_file}: there is no rule {asked!r}")
    chosen = choose_safe_rule(rules, oof, test, asked)
    again = plain(scorecard(predictions, rules, chosen))
    tolerance = 0.0 if case.is_same_machine else TOLERANCE
    stored = {key: value for key, value in plain(report).items() if key in again}
    _refuse(
        [f"{case.run.report_file}: {text}" for text in _differences("", stored, again, tolerance)]
    )
    return f"{len(rules)} rules, in-sample and cross-fitted, are as reported, {_within(tolerance)}"


def _within(tolerance: float) -> str:
    return f"within {tolerance:g} (another machine)" if tolerance else "to the bit"


def _differences(path: str, stored: Any, again: Any, tolerance: float) -> Iterator[str]:
    """Yield each dotted path at which two JSON values differ, with both."""
    if isinstance(stored, dict) and isinstance(again, dict) and stored.keys() == again.keys():
        for key in again:
            yield from _differences(f"{path}.{key}".lstrip("."), stored[key], again[key], tolerance)
    elif isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for place, pair in enumerate(zip(stored, again, strict=True)):
            yield from _differences(f"{path}.{place}", *pair, tolerance)
    elif isinstance(stored, float) and isinstance(again, float):
        if abs(stored - again) > tolerance * max(1.0, abs(again)):
            yield f"{path} says {stored!r}, but is {again!r}"
    elif stored != again or type(stored) is not type(again):
        yield f"{path} says {stored!r}, but is {again!r}"


def _check_predictions(case: Case) -> str:
    if case.kind != "run":
        return ABSENT
    predictions, run, results = case.predictions, case.run, case.fold_results
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
    chosen = case.report.chosen.name
    again_scored = [fold_score(predictions, run, result, chosen) for result in results]
    tolerance = 0.0 if case.is_same_machine else TOLERANCE
    problems += [
        f"{run.report_file}: {text}"
        for text in _differences(
            "folds", list(map(plain, case.report.folds)), list(map(plain, again_scored)), tolerance
        )
    ]
    _refuse(problems)
    return f"the probabilities of {len(results)} nets give predictions.npz to the bit"


def _has_same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def _check_tables(case: Case) -> str:
    predictions, problems = case.predictions, []
    with TemporaryDirectory() as place:
        write_predictions(Path(place), predictions)
        names = [path.name for path in Path(place).glob("*.csv")]
        for name in sorted(names):
            case.need(name)
            if (case.run.path / name).read_bytes() != (Path(place) / name).read_bytes():
                problems.append(f"{case.run.path / name}: says something else than predictions.npz")
    _refuse(problems)
    return f"{' and '.join(sorted(names))} say what predictions.npz says"


def _check_submission(case: Case) -> str:
    path = FOLDER / f"{case.run.name}.csv"
    if not case.run.predictions_file.exists() and path.exists():
        if not (FOLDER / LEDGER).exists():
            raise NotChecked(f"{FOLDER / LEDGER} is not here, and there is no predictions.npz")
        if find(read_ledger(FOLDER), manifest.sha256_of(path)) is None:
            raise InputError(f"{path}: {FOLDER / LEDGER} has no row with its sha256")
        return f"{path} has the ledger's sha256; without predictions.npz no more can be said"
    predictions = case.predictions
    if not len(predictions.test_ids):
        raise NotChecked("no test rows")
    answers = case.rule.apply(predictions.test_probs)
    return _compare_submission(case, path, predictions.test_ids, answers)


def _compare_submission(
    case: Case, path: Path, ids: np.ndarray, answers: Float[np.ndarray, "n k"]
) -> str:
    wanted = submission_bytes(ids, answers, case.report.id_column)
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
    _refuse(problems)
    in_ledger = "it has its row in the ledger" if has_ledger else f"{FOLDER / LEDGER} is not here"
    return f"{path} is the rule's answers; {in_ledger}"


# --- data, refit, blend -----------------------------------------------------------------------


def _check_data(case: Case) -> str:
    (train, test), predictions = case.data, case.predictions
    beats = {"train": train}
    if len(predictions.test_ids) and test:
        beats["test"] = test
    problems = [
        f"{each.source}: not the {kind} beats that {whose} was made on"
        for kind, each in beats.items()
        for whose, fingerprint in (
            (case.run.predictions_file, getattr(predictions, f"{kind}_fingerprint")),
            (case.run.report_file, getattr(case.report.data, f"fingerprint_{kind}")),
        )
        if each.fingerprint != fingerprint
    ]
    _refuse(problems)
    own = [(predictions.train_ids, train.ids), (predictions.labels, train.known_labels)]
    if "test" in beats:
        own.append((predictions.test_ids, beats["test"].ids))
    if not all(np.array_equal(*pair) for pair in own):
        raise InputError(f"{case.run.predictions_file}: ids or labels are not the data's")
    if case.kind != "run":
        return "the beats have the stored fingerprints"
    case.need("run.toml")
    record = read_run(case.run)
    identity = record.identity if record else {}
    seeds = case.config.folds.seeds
    prints = {f"{SEED_KEY}{seed}": make_folds(case.config.folds, train, seed) for seed in seeds}
    _refuse(
        [
            f"{case.run.run_file}: {key} are not what the configuration draws"
            for key, folds in prints.items()
            if identity.get(key) != folds.fingerprint
        ]
    )
    return f"beats and folds of {len(seeds)} seeds have the stored fingerprints"


def _check_refit(case: Case) -> str:
    if not case.run.refit_file.exists() and "refit.json" not in case.damaged:
        return ABSENT
    refit, report = case.refit, case.report
    case.need("report.json")
    problems = [
        f"{case.run.refit_file}: {key} is not that of report.json"
        for key in ("chosen", "expected_per_20k")
        if getattr(refit, key) != getattr(report, key)
    ]
    _refuse(problems)
    results = [case.load_fold(seed, ALL) for seed in refit.seeds]
    of_test = [each.test_probs for each in results if each.test_probs is not None]
    if not of_test:
        raise NotChecked("no test rows")
    answers = case.rule.apply(mean_probs(of_test))
    path = FOLDER / f"{case.run.name}-{ALL}.csv"
    return _compare_submission(case, path, case.predictions.test_ids, answers)


def _check_recipe(case: Case) -> str:
    if case.kind != "blend":
        return ABSENT
    case.need("recipe.json")
    file = case.run.recipe_file
    recipe = read_recipe(file)
    absent = [name for name in recipe.base_models if not find_run(name).predictions_file.exists()]
    if absent:
        raise NotChecked(f"base models not here: {', '.join(absent)}")
    base_models, predictions = load_base_models(recipe.base_models), case.predictions
    pairs = zip(recipe.base_models, base_models.fingerprints, recipe.fingerprints, strict=True)
    _refuse([f"{file}: {name} is not what it was" for name, now, then in pairs if now != then])
    tolerance = 0.0 if case.is_same_machine else TOLERANCE
    again = {"test_probs": recipe.probs(base_models.test)}
    if recipe.method != "optuna":  # its seed is not stored
        again["oof_probs"] = _cross_fitted(recipe, base_models)
    problems = [
        f"{case.run.predictions_file}: {name} are not what {file.name} makes of the base models"
        for name, array in again.items()
        if not np.allclose(getattr(predictions, name), array, rtol=0, atol=tolerance)
    ]
    if recipe.rule_name != case.report.chosen.name or recipe.rule != case.rule:
        problems.append(f"{file}: another rule than in report.json")
    _refuse(problems)
    what = " and ".join(name.replace("_", " ") for name in again)
    return f"applied again to {len(recipe.base_models)} base models: {what}, {_within(tolerance)}"


def _cross_fitted(recipe: BlendRecipe, base_models: BaseModels) -> np.ndarray:
    """Return the blend's out-of-fold probabilities, its method and calibration fitted again."""
    labels, fold_of_row = base_models.labels, base_models.fold_of_row
    (method,) = evaluate_methods([recipe.method], base_models.oof, labels, fold_of_row, seed=0)
    fit = CALIBRATIONS[recipe.calibration.kind]
    return cross_fitted_probs(fit, method.probs, labels, fold_of_row)
