"""The stored folds of a run: the predictions, the weights and the history of each net."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from hbcomp.experiment import manifest
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold, FoldResult, Layout, read_arrays
from hbcomp.system.errors import InputError
from hbcomp.system.files import csv_bytes, naming, sync

if TYPE_CHECKING:
    import pandas as pd

RESULT, HISTORY, WEIGHTS = "result.npz", "history.csv", "model.safetensors"
FILES = (RESULT, HISTORY, WEIGHTS, manifest.NAME)
LAYOUT: Layout = {
    "identity": ("U", ""),
    "valid_idx": ("int64", "v"),
    "valid_probs": ("float32", "vk"),
    "test_probs": ("float32", "mk"),
}


def save_fold(
    run: RunFolder,
    identity: str,
    result: FoldResult,
    net: nn.Module,
    history: Sequence[Sequence[object]],
) -> None:
    """Store a fold atomically; a fold that is already stored stays.

    `identity` is the hash of what it was trained with, the first line of `history` its header.
    """
    with _new_fold(run, result.seed, result.fold) as partial:
        arrays: dict[str, Any] = {"valid_idx": result.valid_idx, "valid_probs": result.valid_probs}
        if result.test_probs is not None:
            arrays["test_probs"] = result.test_probs
        np.savez(partial / RESULT, identity=np.array(identity), **arrays)
        tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
        # The file is not written by safetensors, whose error on a full disk is no OSError.
        (partial / WEIGHTS).write_bytes(save(tensors))
        (partial / HISTORY).write_bytes(csv_bytes(history[0], history[1:]))
        manifest.write_manifest(partial, (RESULT, HISTORY, WEIGHTS))


@contextmanager
def _new_fold(run: RunFolder, seed: int, fold: Fold) -> Iterator[Path]:
    """Yield a folder to write to, which gets the fold's name if that is still free."""
    final = run.fold_folder(seed, fold)
    run.folds_folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(suffix=".partial", prefix=".", dir=run.folds_folder))
    try:
        with naming(final):
            yield partial
            partial.chmod(0o755)
            for path in (*partial.iterdir(), partial):
                sync(path)
            if not final.exists():
                partial.rename(final)
                sync(run.folds_folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_files(run: RunFolder, seed: int, fold: Fold) -> dict[str, bytes]:
    """Return the files of a stored fold, by name."""
    folder = run.fold_folder(seed, fold)
    return {name: (folder / name).read_bytes() for name in FILES}


def write_files(run: RunFolder, seed: int, fold: Fold, files: Mapping[str, bytes]) -> None:
    """Store a fold whose files came from elsewhere, if they are those of its manifest."""
    with _new_fold(run, seed, fold) as partial:
        for name in FILES:
            (partial / name).write_bytes(files[name])
        _check_files(partial, RESULT, HISTORY, WEIGHTS)


def load_fold(run: RunFolder, identity: str | None, seed: int, fold: Fold) -> FoldResult:
    """Return the predictions of a stored fold; a damaged one is an InputError.

    So is one that was trained with something else than `identity`, unless that is None.
    """
    path = run.fold_folder(seed, fold) / RESULT
    _check_files(path.parent, RESULT, HISTORY)
    try:
        arrays = read_arrays(path, LAYOUT, optional=["test_probs"])
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a fold's result: {error}; delete its folder") from error
    if identity is not None and str(arrays["identity"]) != identity:
        raise InputError(
            f"{path}: trained with another configuration or on other data; delete its folder"
        )
    return FoldResult(
        seed=seed,
        fold=fold,
        valid_idx=arrays["valid_idx"],
        valid_probs=arrays["valid_probs"],
        test_probs=arrays.get("test_probs"),
    )


def load_history(run: RunFolder, seed: int, fold: Fold) -> "pd.DataFrame":
    """Return the history of a stored fold, one row per epoch."""
    import pandas as pd  # which takes long to import, and workers need no history

    return pd.read_csv(run.fold_folder(seed, fold) / HISTORY)


def load_weights(run: RunFolder, seed: int, fold: Fold, net: nn.Module) -> nn.Module:
    """Return the net with the weights of a stored fold, which must be exactly those it has."""
    path = run.fold_folder(seed, fold) / WEIGHTS
    _check_files(path.parent, WEIGHTS)
    try:
        net.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: not the weights of this run's net: {error}") from error
    return net


def _check_files(folder: Path, *names: str) -> None:
    """Raise an InputError unless these files of a fold have the hashes of its manifest."""
    try:
        hash_of = manifest.read_manifest(folder)
        problems = [
            f"{folder / name}: {damage}"
            for name in names
            if (damage := manifest.damage(folder / name, hash_of.get(name, "")))
        ]
    except InputError as error:
        problems = [str(error)]
    if problems:
        raise InputError(f"{'; '.join(problems)}; delete {folder}, and `hbcomp cv` trains it anew")
