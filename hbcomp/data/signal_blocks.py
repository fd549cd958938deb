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
from hbcomp.system.memory import BLOCK_BYTES, SHARE, available_bytes, mapped, row_blocks


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
        # Few large pieces, because the system gets back the memory of such as soon as it is free.
        self._pieces: list[np.ndarray] = []
        self._most = SHARE * available_bytes() / 2
        self._path: Path | None = None
        self._n_rows = 0
        self._room = 0  # rows of the last piece that are still free

    def append(self, block: np.ndarray) -> None:
        """Add the rows of a block; those of all blocks have one shape."""
        self._n_rows += len(block)
        self._shape = block.shape[1:]
        n_bytes = self._n_rows * block[:1].nbytes
        if self._path is None and n_bytes > self._most:
            self._path = self._begin_file()
        if self._path is not None:
            _write(self._path, block)
            return
        while len(block):
            if not self._room:
                self._room = max(1, BLOCK_BYTES // block[:1].nbytes)
                self._pieces.append(np.empty((self._room, *self._shape), np.float32))
            some = block[: self._room]
            self._pieces[-1][-self._room :][: len(some)] = some
            self._room -= len(some)
            block = block[len(some) :]

    def _begin_file(self) -> Path:
        folder().mkdir(parents=True, exist_ok=True)
        # The name of an unfinished write, which `cache.prune` deletes if a process was killed.
        handle, name = tempfile.mkstemp(prefix=".rows.", suffix=".partial", dir=folder())
        os.close(handle)
        self._deletion = weakref.finalize(self, _unlink, path := Path(name))
        for piece in self._filled():
            _write(path, piece)
        self._pieces.clear()
        return path

    def _filled(self) -> list[np.ndarray]:
        """Return the pieces, the last one without its free rows."""
        whole, last = self._pieces[:-1], self._pieces[-1:]
        return [*whole, *(piece[: len(piece) - self._room] for piece in last)]

    def array(self) -> np.ndarray:
        """Return all rows; those in a file are mapped, read-only."""
        if self._path is None:
            return np.concatenate(self._filled())
        mapped = np.memmap(self._path, np.float32, "r", shape=(self._n_rows, *self._shape))
        self._deletion.detach()
        weakref.finalize(mapped, _unlink, self._path)
        return mapped


def _write(path: Path, block: np.ndarray) -> None:
    with naming(path), path.open("ab", buffering=0) as file:
        np.ascontiguousarray(block, dtype=np.float32).tofile(file)


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
