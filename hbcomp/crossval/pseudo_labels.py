"""The runs that pseudo-labels come from, and the record of the rows that were taken from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import Folds
from hbcomp.experiment import stored_folds
from hbcomp.experiment.folder import RunFolder, find_run, known_runs
from hbcomp.experiment.predictions import mean_probs
from hbcomp.experiment.resume import SEED_KEY, RunRecord, read_run
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError, did_you_mean, similar_names, there_are
from hbcomp.system.files import csv_bytes, write_bytes
from hbcomp.training.early_stopping import EarlyStopping
from hbcomp.training.pseudo import PseudoConfig, PseudoLabels, PseudoRows, pseudo_labels


def load_pseudo_labels(
    config: PseudoConfig,
    train: Dataset,
    test: Dataset | None,
    folds_of_seed: Mapping[int, Folds],
) -> PseudoLabels | None:
    """Return the pseudo-labels that a configuration asks for, or None where it asks for none.

    For each (seed, fold) a source is the mean of those of its nets that held out that fold of the
    same split, whatever their seeds; `hbcomp.training.pseudo` explains why. A source on other data
    or without a net for every fold is an InputError that names what is missing.
    """
    if not config.runs:
        return None
    if test is None:
        raise InputError("pseudo.runs: pseudo-labels are for test rows; name a file with --test")
    sources = [
        _Source(run, read_run(run) or RunRecord(identity={})) for run in map(find_run, config.runs)
    ]
    fingerprints = {"train": train.fingerprint, "test": test.fingerprint}
    problems = [
        text for source in sources for text in _problems(source, fingerprints, folds_of_seed)
    ]
    if problems:
        raise InputError.of("pseudo.runs", problems)
    probs_of_fold = {
        (seed, fold): [_test_probs(source, folds, fold) for source in sources]
        for seed, folds in folds_of_seed.items()
        for fold in range(folds.n_folds)
    }
    found = pseudo_labels(probs_of_fold, config.min_prob)
    if not any(len(rows.labels) for rows in found.of_fold.values()):
        raise InputError(
            f"pseudo.min_prob: no net gets a row, as no test row has {config.min_prob:g} of every "
            "source; label smoothing keeps the probabilities of a source below 1"
        )
    return found


def write_pseudo_rows(
    path: Path,
    test_ids: Shaped[np.ndarray, " m"],
    rows_of_net: Mapping[tuple[int, int], PseudoRows] | Mapping[tuple[int, str], PseudoRows],
    classes: Sequence[str],
) -> None:
    """Write `seed,fold,id,label,prob` of every row that each net was given, atomically."""
    lines = (
        (seed, fold, *line)
        for (seed, fold), rows in rows_of_net.items()
        for line in zip(
            test_ids[rows.test_idx].tolist(),
            [classes[label] for label in rows.labels.tolist()],
            rows.probs.tolist(),
            strict=True,
        )
    )
    write_bytes(path, csv_bytes(["seed", "fold", "id", "label", "prob"], lines))


@dataclass(frozen=True)
class _Source:
    run: RunFolder
    record: RunRecord


def _problems(
    source: _Source, fingerprints: Mapping[str, str], folds_of_seed: Mapping[int, Folds]
) -> Iterator[str]:
    name = source.run.name
    if not source.record.identity:
        hint = did_you_mean(similar_names(source.run.path)) or there_are(known_runs())
        yield f"{name} has no trained folds{hint}"
        return
    differing = [
        kind
        for kind, fingerprint in fingerprints.items()
        if source.record.identity.get(f"{kind} data") != fingerprint
    ]
    yield from (f"{name} was trained with other {kind} data" for kind in differing)
    # Its epochs depend on the labels of the fold it held out, which would reach a net that holds
    # out the same one.
    values = source.record.identity.get("train.early_stopping", {})
    if validate(EarlyStopping, values, source.run.run_file).is_on_scored_fold:
        yield f"{name} watched the labels of the folds it is scored on (train.early_stopping)"
    if differing:
        return  # then its folds differ as well
    for seed, folds in folds_of_seed.items():
        seeds = _seeds_of_split(source, folds)
        missing = [
            f"{each}-{fold}"
            for each in seeds
            for fold in range(folds.n_folds)
            if not source.run.is_done(each, fold)
        ]
        if not seeds:
            yield f"{name} was cross-validated over other folds than those of seed {seed}"
        elif missing:
            yield f"{name} has still to train {', '.join(missing)} (seed-fold)"


def _seeds_of_split(source: _Source, folds: Folds) -> list[int]:
    """Return the seeds under which a source was cross-validated over exactly these folds."""
    return sorted(
        int(key.removeprefix(SEED_KEY))
        for key, fingerprint in source.record.identity.items()
        if key.startswith(SEED_KEY) and fingerprint == folds.fingerprint
    )


def _test_probs(source: _Source, folds: Folds, fold: int) -> Float64[np.ndarray, "m k"]:
    results = [
        stored_folds.load_fold(source.run, source.record.fold_identity(seed), seed, fold)
        for seed in _seeds_of_split(source, folds)
    ]
    return mean_probs([each.test_probs for each in results if each.test_probs is not None])
