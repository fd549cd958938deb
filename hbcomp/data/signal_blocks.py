"""Signals that are read block by block: into memory, or into a file where they do not fit."""

import os
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs

from hbcomp.system.files import naming
from hbcomp.system.memory import SHARE, available_bytes, mapped, row_blocks


def folder() -> Path:
    """Return the cache folder: `$HBCOMP_CACHE`, or the user's."""
    named = os.environ.get("HBCOMP_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("hbcomp"))


class SignalBlocks:
    """Blocks of rows in their order, as float32.

    Where the rows would not fit into memory twice (as blocks, and as one array), all go to a file
    in the cache folder, which is deleted when its array is.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._n_bytes = 0
        self._most = SHARE * available_bytes() / 2
        self._path: Path | None = None
        self._n_rows = 0
        self._shape: tuple[int, ...] = ()

    def append(self, block: np.ndarray) -> None:
        """Add the rows of a block; those of all blocks have one shape."""
        self._n_rows += len(block)
        self._n_bytes += block.nbytes
        self._shape = block.shape[1:]
        self._blocks.append(block)
        if self._path is None and self._n_bytes > self._most:
            folder().mkdir(parents=True, exist_ok=True)
            # The name of an unfinished write, which `cache.prune` deletes if a process was killed.
            handle, name = tempfile.mkstemp(prefix=".rows.", suffix=".partial", dir=folder())
            os.close(handle)
            self._path = Path(name)
            self._deletion = weakref.finalize(self, _unlink, self._path)
        if self._path is not None:
            self._write(self._path)

    def _write(self, path: Path) -> None:
        with naming(path), path.open("ab", buffering=0) as file:
            for block in self._blocks:
                np.ascontiguousarray(block, dtype=np.float32).tofile(file)
        self._blocks.clear()

    def array(self) -> np.ndarray:
        """Return all rows; those in a file are mapped, read-only."""
        if self._path is None:
            return self._blocks[0] if len(self._blocks) == 1 else np.concatenate(self._blocks)
        mapped = np.memmap(self._path, np.float32, "r", shape=(self._n_rows, *self._shape))
        self._deletion.detach()
        weakref.finalize(mapped, _unlink, self._path)
        return mapped


def in_blocks(change: Callable[[np.ndarray], np.ndarray], signals: np.ndarray) -> np.ndarray:
    """Return signals changed row by row: those in a file block by block, into another file."""
    if mapped(signals) is None:
        return change(signals)
    blocks = SignalBlocks()
    for rows in row_blocks(signals):
        blocks.append(change(signals[rows]))
    return blocks.array()


def _unlink(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
