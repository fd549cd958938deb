"""run.toml: what the stored folds of a run were trained with, and whether the run may continue."""

import json
import shutil
from pathlib import Path
from typing import Any

import tomli_w
import xxhash
from pydantic import BaseModel, ConfigDict, field_validator

from hbcomp.experiment.folder import RunFolder
from hbcomp.system.config import read_toml, validate
from hbcomp.system.errors import InputError
from hbcomp.system.files import write_text
from hbcomp.training.device import Compute

# How the fingerprints are called that only the folds of one seed depend on.
SEED_KEY, PSEUDO_KEY = "folds of seed ", "pseudo-labels of seed "
DATA_KEYS = ("train data", "test data")
MAX_SEED_DIGITS = 10


class RunRecord(BaseModel):
    """The options and the data that the folds of a run are trained with.

    The identity is every value that their predictions depend on: options of the configuration, and
    fingerprints of rows, splits and pseudo-labels, which `described` puts in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    hbcomp: str = ""
    torch: str = ""
    data: dict[str, Any] = {}
    compute: Compute | None = None
    identity: dict[str, Any]
    described: dict[str, str] = {}

    @field_validator("identity")
    @classmethod
    def _check_seeds(cls, identity: dict[str, Any]) -> dict[str, Any]:
        for key in identity:
            seed = key.removeprefix(SEED_KEY)
            is_number = seed.isascii() and seed.isdigit() and len(seed) <= MAX_SEED_DIGITS
            if key.startswith(SEED_KEY) and not is_number:
                raise ValueError(f"a seed must be a number, but there is {seed!r}")
        return identity

    def fold_identity(self, seed: int) -> str:
        """Return a hash of what the folds of one seed are trained with."""
        own_keys = {f"{SEED_KEY}{seed}", f"{PSEUDO_KEY}{seed}"}
        own = {
            key: value
            for key, value in self.identity.items()
            if key in own_keys or not _belongs_to_a_seed(key)
        }
        return xxhash.xxh3_128_hexdigest(json.dumps(own, sort_keys=True).encode())


def read_run(run: RunFolder) -> RunRecord | None:
    """Return what the stored folds were trained with, or None for a run that has not begun."""
    if not run.run_file.exists():
        return None
    return validate(RunRecord, read_toml(run.run_file), run.run_file)


def write_run(run: RunFolder, record: RunRecord) -> None:
    """Write what a run's folds are trained with, beside what is already written.

    A run may gain seeds, each with fingerprints of its own, and its data files may have moved. The
    versions and the hardware stay those that it began with.
    """
    stored = read_run(run)
    if stored:
        changes = {
            "data": record.data,
            "identity": stored.identity | record.identity,
            "described": record.described | stored.described,
        }
        record = stored.model_copy(update=changes)
    if record != stored:
        run.discard_manifest()
        write_text(run.run_file, tomli_w.dumps(record.model_dump(exclude_none=True)))


def check_resumable(run: RunFolder, record: RunRecord, *, force: bool) -> None:
    """Raise an InputError that names every change if stored folds were trained with something else.

    With `force` such folds are deleted instead; the caller holds the lock.
    """
    stored = read_run(run)
    changes = _changes(stored, record) if stored else []
    if changes and not force:
        raise InputError(
            f"{run.path} holds {len(run.stored_folds())} finished folds of something else: "
            f"{'; '.join(changes)}; --name NEW keeps both, --force deletes the old folds"
        )
    shutil.rmtree(_discarded_folds(run), ignore_errors=True)
    if changes:
        _discard_folds(run)


def other_versions(run: RunFolder, record: RunRecord) -> list[str]:
    """Return which versions the run began with, where they differ from those of the record."""
    stored = read_run(run) or record
    pairs = {"hbcomp": (stored.hbcomp, record.hbcomp), "torch": (stored.torch, record.torch)}
    return [f"{name} {old}, now {new}" for name, (old, new) in pairs.items() if old != new]


def _discard_folds(run: RunFolder) -> None:
    # The report is deleted first, so that nothing combines the old rule with new weights. Then the
    # folds are renamed: a crash while deleting must not leave a damaged fold under its own name.
    run.discard_outputs()
    for name in ("refit.json", "pseudo.csv", "pseudo-all.csv", "tracking.json"):
        (run.path / name).unlink(missing_ok=True)
    if run.folds_folder.exists():
        run.folds_folder.rename(_discarded_folds(run))
    run.run_file.unlink()
    shutil.rmtree(_discarded_folds(run), ignore_errors=True)


def _discarded_folds(run: RunFolder) -> Path:
    return run.path / ".folds.partial"


def _changes(stored: RunRecord, record: RunRecord) -> list[str]:
    """Return in words how the identity of the stored folds differs from that of the record."""
    before, now = stored.identity, record.identity
    changed = [
        key
        for key in sorted({*before, *now})
        # A seed that only one of the two has takes nothing from the folds of the others.
        if before.get(key) != now.get(key)
        and not (_belongs_to_a_seed(key) and (key not in before or key not in now))
    ]
    if any(key in DATA_KEYS for key in changed):  # then the folds differ for no other reason
        changed = [key for key in changed if not _belongs_to_a_seed(key)]
    return [_change(key, stored, record) for key in changed]


def _change(key: str, stored: RunRecord, record: RunRecord) -> str:
    was, now = stored.described.get(key), record.described.get(key)
    if was is None or now is None:
        old, new = (each.identity.get(key, "absent") for each in (stored, record))
        return f"{key} was {old!r}, now {new!r}"
    if was == now:
        return f"{key} has other content than before ({now})"
    return f"{key} was {was}, now {now}"


def _belongs_to_a_seed(key: str) -> bool:
    return key.startswith((SEED_KEY, PSEUDO_KEY))
