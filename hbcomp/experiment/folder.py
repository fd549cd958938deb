"""The folder of a run: what is in it, who may write to it, and what of it can be kept.

experiments/<name>/config.toml         what was asked
experiments/<name>/run.toml            what the folds in it were trained with, to the data's bits
experiments/<name>/folds/<seed>-<fold> one folder per finished fold, renamed into place whole;
                                       <seed>-all is a net trained on everything
experiments/<name>/predictions.npz     and oof.csv, test.csv, report.json, report.html, pictures/
experiments/<name>/pseudo.csv          the pseudo-labelled rows of every fold's net
experiments/<name>/refit.json          and pseudo-all.csv: of the nets trained on everything
experiments/<name>/manifest.json       the sha256 of all these, written last; one in every fold, too

A file or folder that exists under its own name is complete.
"""

import json
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
import xxhash
from pydantic import BaseModel, ConfigDict, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from hbcomp.experiment import ROOT, check_name, manifest
from hbcomp.experiment.predictions import Fold, FoldResult, Layout, read_arrays
from hbcomp.system.config import read_toml, validate
from hbcomp.system.errors import InputError
from hbcomp.system.files import naming, sweep, sync, take_lock, write_text
from hbcomp.training.device import Compute

# What the fingerprints that one seed's folds alone depend on are called in an identity.
SEED_KEY, PSEUDO_KEY = "folds of seed ", "pseudo-labels of seed "
# How a config.toml begins that `hbcomp tune` wrote.
TUNED = "# Trial"
DATA_KEYS = ("train data", "test data")
# What a run's manifest covers, if it is there. The files of a fold are covered by a manifest of
# its own, which is in the run's. Not run.lock, studies.db, tuning/, space.toml, and what a person
# or a later command adds.
COVERED = (
    *("config.toml", "run.toml", "predictions.npz", "oof.csv", "test.csv", "report.json"),
    *("report.html", "pseudo.csv", "pseudo-all.csv", "refit.json", "recipe.json"),
    *("pictures/[!.]*.png", f"folds/[!.]*/{manifest.NAME}"),
)
LATER = "pictures/threshold-study.png"  # written by `hbcomp thresholds`, again and again
FOLD_FILES = ("result.npz", "history.csv", "model.safetensors")
FOLD_LAYOUT: Layout = {
    "identity": ("U", ""),
    "valid_idx": ("int64", "v"),
    "valid_probs": ("float32", "vk"),
    "test_probs": ("float32", "mk"),
}
SEED = re.compile(r"[0-9]{1,10}")

Identity = Mapping[str, Any]


class _Stored(BaseModel):
    """A run.toml: the identity of the folds, their files, and what they were trained with."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    identity: dict[str, Any]
    compute: Compute | None = None
    data: dict[str, Any] = {}
    described: dict[str, str] = {}  # what fingerprints in it are of, in words

    @field_validator("identity")
    @classmethod
    def _check(cls, identity: dict[str, Any]) -> dict[str, Any]:
        seeds = [key.removeprefix(SEED_KEY) for key in identity if key.startswith(SEED_KEY)]
        if wrong := [seed for seed in seeds if not SEED.fullmatch(seed)]:
            raise ValueError(f"a seed must be a number, but there is {wrong[0]!r}")
        return identity


@dataclass(frozen=True)
class RunFolder:
    """The files of one experiment."""

    path: Path

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """What was asked."""
        return self.path / "config.toml"

    @property
    def run_file(self) -> Path:
        """What the stored folds were trained with."""
        return self.path / "run.toml"

    @property
    def folds_folder(self) -> Path:
        """The parent of the finished folds."""
        return self.path / "folds"

    @property
    def predictions_file(self) -> Path:
        """The assembled probabilities."""
        return self.path / "predictions.npz"

    @property
    def report_file(self) -> Path:
        """What came out, as JSON."""
        return self.path / "report.json"

    @property
    def mistakes_file(self) -> Path:
        """The page of what is still wrong, which `hbcomp mistakes` writes."""
        return self.path / "mistakes.html"

    @property
    def label_issues_file(self) -> Path:
        """The list of label issues, beside that page."""
        return self.path / "label_issues.csv"

    @property
    def recipe_file(self) -> Path:
        """What a blend is made of; only blends have it."""
        return self.path / "recipe.json"

    @property
    def refit_file(self) -> Path:
        """What was trained on everything, as JSON."""
        return self.path / "refit.json"

    @property
    def manifest_file(self) -> Path:
        """The hashes of all that, written last."""
        return self.path / manifest.NAME

    def fold_folder(self, seed: int, fold: Fold) -> Path:
        """The folder of one finished fold, or of a net that was trained on everything."""
        return self.folds_folder / f"{seed}-{fold}"

    def is_done(self, seed: int, fold: Fold) -> bool:
        """Whether that fold is stored."""
        return self.fold_folder(seed, fold).is_dir()

    def discard_outputs(self) -> None:
        """Delete what came out, the report first: without it nothing counts as finished.

        Before it goes the manifest. What `hbcomp mistakes` said of it goes, too.
        """
        self.discard_manifest()
        for name in ("report.json", "report.html", "predictions.npz", "oof.csv", "test.csv"):
            (self.path / name).unlink(missing_ok=True)
        self.mistakes_file.unlink(missing_ok=True)
        self.label_issues_file.unlink(missing_ok=True)

    def covered_files(self) -> list[str]:
        """Return the files that the manifest covers, relative to the folder."""
        found = {path for pattern in COVERED for path in self.path.glob(pattern)}
        return sorted({path.relative_to(self.path).as_posix() for path in found} - {LATER})

    def write_manifest(self) -> None:
        """Write down what every output's bytes are, after the last of them."""
        manifest.write_manifest(self.path, self.covered_files())

    @property
    def is_tuned(self) -> bool:
        """Whether `hbcomp tune` wrote its configuration, chosen by the rows it was given."""
        return self.config_file.exists() and self.config_file.read_text(
            encoding="utf-8", errors="replace"
        ).startswith(TUNED)

    def discard_manifest(self) -> None:
        """Delete the manifest before files change: without one a run is unfinished, not damaged."""
        self.manifest_file.unlink(missing_ok=True)

    def stored_folds(self) -> list[Path]:
        """Return the folders of the finished folds."""
        return sorted(self.folds_folder.glob("[!.]*"))


def find_run(name: str) -> RunFolder:
    """Return the folder of the experiment of that name, `NAME` or `experiments/NAME`.

    A name under which nothing could be kept or submitted is refused here, before any work.
    """
    short = name.removeprefix(f"{ROOT}/").rstrip("/")
    check_name(short)
    run = RunFolder(ROOT / short)
    if run.path.is_file():
        raise InputError(f"{run.path} is a file; an experiment needs a folder, choose another name")
    return run


def known_runs() -> list[str]:
    """Return the names of the experiments under the working directory."""
    return sorted(path.parent.name for path in ROOT.glob("*/config.toml"))


def finished_runs() -> list[str]:
    """Return the names of the finished experiments under the working directory."""
    return sorted(path.parent.name for path in ROOT.glob("*/report.json"))


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Hold the run for this process alone; one that another process holds is an InputError.

    The error names the holder. Files that a killed process left half-written are swept away.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    lock = take_lock(run.path / "run.lock", 0.0)
    if lock is None:
        raise InputError(f"{run.path}: another process is working on this run{_holder(run)}")
    try:
        sweep(run.path)
        write_text(_holder_file(run), _own_name())
        yield
    finally:
        with suppress(OSError):
            _holder_file(run).unlink()
        lock.release()


def _holder_file(run: RunFolder) -> Path:
    # Not in the lock's own file: whoever asks for the lock empties it, and on Windows nobody else
    # could read it.
    return run.path / "run.holder"


def _own_name() -> str:
    # The words before the first option only: a database's address may hold a password.
    words = takewhile(lambda word: not word.startswith("-"), sys.argv[1:])
    command = shlex.join([Path(sys.argv[0]).stem, *words])
    since = datetime.now(UTC).isoformat(" ", "seconds")
    return f"{command}, process {os.getpid()} on {socket.gethostname()} since {since}"


def _holder(run: RunFolder) -> str:
    with suppress(OSError):  # it has the lock and not yet a name, or is just going
        return f": {_holder_file(run).read_text(encoding='utf-8')}"
    return ""


def admit(
    run: RunFolder,
    identity: Identity,
    *,
    force: bool,
    described: Mapping[str, str] | None = None,
) -> None:
    """Let a run continue if its stored folds, if any, are of this identity.

    Folds of another identity are refused with what changed; with `force` they are deleted. Those
    of its values that are fingerprints are told in the words of `described`. What a
    killed process left half-written is swept away; the caller holds the lock.
    """
    stored = read_run(run)
    changes = _changes(stored, identity, described or {}) if stored else []
    if changes and not force:
        raise InputError(
            f"{run.path} holds {len(run.stored_folds())} finished folds of something else: "
            f"{'; '.join(changes)}; --name NEW keeps both, --force deletes the old folds"
        )
    shutil.rmtree(_doomed(run), ignore_errors=True)
    if changes:
        _discard_folds(run)
    for partial in run.folds_folder.glob(".*.partial"):
        shutil.rmtree(partial)


def begin(run: RunFolder, identity: Identity, about: Mapping[str, Any]) -> None:
    """Write down what the run's folds are trained with, beside what is already written.

    A run may gain seeds: each brings a fingerprint of its own folds. Its files may have moved.
    """
    stored = read_run(run) or {**about, "identity": {}}
    known = stored["identity"] | {key: _plain(value) for key, value in identity.items()}
    now = {**stored, "data": about.get("data", {}), "identity": known}
    if now != stored or not run.run_file.exists():
        run.discard_manifest()
        described = {**about.get("described", {}), **now.pop("described", {})}
        write_text(run.run_file, tomli_w.dumps({**now, "described": described}))


def other_versions(run: RunFolder, about: Mapping[str, Any]) -> list[str]:
    """Return which versions the run began with, where they are not those of `about`."""
    stored = read_run(run) or {}
    return [
        f"{name} {stored[name]}, now {about[name]}"
        for name in ("hbcomp", "torch")
        if name in stored and stored[name] != about[name]
    ]


def _discard_folds(run: RunFolder) -> None:
    # The report first: without it nothing combines the old rule with new weights. Then the folds
    # under another name: a crash while deleting must not leave half a fold under its own.
    run.discard_outputs()
    for name in ("refit.json", "pseudo.csv", "pseudo-all.csv"):
        (run.path / name).unlink(missing_ok=True)
    if run.folds_folder.exists():
        run.folds_folder.rename(_doomed(run))
    run.run_file.unlink()
    shutil.rmtree(_doomed(run), ignore_errors=True)


def _doomed(run: RunFolder) -> Path:
    return run.path / ".folds.partial"


def fold_identity(identity: Identity, seed: int) -> str:
    """Return a hash of what the folds of one seed are trained with."""
    own_keys = {f"{SEED_KEY}{seed}", f"{PSEUDO_KEY}{seed}"}
    own = {
        key: _plain(value)
        for key, value in identity.items()
        if key in own_keys or not _is_of_a_seed(key)
    }
    return xxhash.xxh3_128_hexdigest(json.dumps(own, sort_keys=True).encode())


def read_run(run: RunFolder) -> dict[str, Any] | None:
    """Return what the stored folds were trained with, or None for a fresh folder."""
    if not run.run_file.exists():
        return None
    stored = validate(_Stored, read_toml(run.run_file), run.run_file)
    return stored.model_dump(exclude_none=True)


def _plain(value: Any) -> Any:
    return "none" if value is None else value  # TOML has no null


def _changes(run: Mapping[str, Any], wanted: Identity, described: Mapping[str, str]) -> list[str]:
    stored, now = run["identity"], {key: _plain(value) for key, value in wanted.items()}
    changed = [
        key
        for key in sorted({*stored, *now})
        if stored.get(key) != now.get(key) and not _is_of_one_side(key, stored, now)
    ]
    # The folds of other rows are others, too.
    causes = [key for key in changed if key in DATA_KEYS]
    return [
        f"{key} {_change(run['described'].get(key), described[key])}"
        if key in described
        else f"{key} was {stored.get(key, 'absent')!r}, now {now.get(key, 'absent')!r}"
        for key in changed
        if not (causes and _is_of_a_seed(key))
    ]


def _change(was: str | None, now: str) -> str:
    """Return how a fingerprint has changed, in words; older runs have none for what was."""
    if was is None:
        return f"has changed, now {now}"
    return f"was {was}, now {now}" if was != now else f"has other content than before ({now})"


def _is_of_one_side(key: str, stored: Identity, now: Identity) -> bool:
    # A seed that only one of the two has takes nothing from the folds of the others.
    return _is_of_a_seed(key) and not (key in stored and key in now)


def _is_of_a_seed(key: str) -> bool:
    return key.startswith((SEED_KEY, PSEUDO_KEY))


def save_fold(
    run: RunFolder, identity: str, result: FoldResult, net: nn.Module, history: pd.DataFrame
) -> None:
    """Store a fold with its weights and its history; its folder appears complete or not at all.

    `identity` is that of `fold_identity`; a fold that is already stored stays.
    """
    final = run.fold_folder(result.seed, result.fold)
    run.folds_folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(suffix=".partial", prefix=".", dir=run.folds_folder))
    try:
        with naming(final):
            arrays: dict[str, Any] = {
                "valid_idx": result.valid_idx,
                "valid_probs": result.valid_probs,
            }
            if result.test_probs is not None:
                arrays["test_probs"] = result.test_probs
            np.savez(partial / "result.npz", identity=np.array(identity), **arrays)
            tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
            # Written here, not by safetensors: its error on a full disk is no OSError.
            (partial / "model.safetensors").write_bytes(save(tensors))
            history.to_csv(partial / "history.csv", index=False, lineterminator="\n")
            manifest.write_manifest(partial, FOLD_FILES)
            partial.chmod(0o755)
            for path in (*partial.iterdir(), partial):
                sync(path)
            if not final.exists():
                partial.rename(final)
                sync(run.folds_folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_fold(run: RunFolder, identity: str | None, seed: int, fold: Fold) -> FoldResult:
    """Return a stored fold's predictions; a damaged one or one of another identity is refused.

    Without an identity that of the fold itself counts.
    """
    path = run.fold_folder(seed, fold) / "result.npz"
    _check_files(path.parent, "result.npz", "history.csv")
    try:
        arrays = read_arrays(path, FOLD_LAYOUT, optional=["test_probs"])
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


def _check_files(folder: Path, *names: str) -> None:
    # Folds from before there were manifests have none; `hbcomp verify` says so.
    if not (folder / manifest.NAME).exists():
        return
    try:
        hash_of = manifest.read_manifest(folder)
        problems = [
            f"{folder / name}: {what}"
            for name in names
            if (what := manifest.damage(folder / name, hash_of.get(name, "")))
        ]
    except InputError as error:
        problems = [str(error)]
    if problems:
        raise InputError(f"{'; '.join(problems)}; delete {folder}, and `hbcomp cv` trains it anew")


def load_history(run: RunFolder, seed: int, fold: Fold) -> pd.DataFrame:
    """Return a stored fold's history, one row per epoch."""
    return pd.read_csv(run.fold_folder(seed, fold) / "history.csv")


def load_weights(run: RunFolder, seed: int, fold: Fold, net: nn.Module) -> nn.Module:
    """Return the net with a stored fold's weights; any missing or left-over one is refused."""
    path = run.fold_folder(seed, fold) / "model.safetensors"
    _check_files(path.parent, "model.safetensors")
    try:
        net.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: not the weights of this run's net: {error}") from error
    return net
