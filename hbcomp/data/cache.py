"""A cache of parsed CSV files, by a hash of their bytes, so that no entry is stale.

An entry that cannot be read or is damaged counts as missing.
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from hbcomp.data.dataset import Dataset
from hbcomp.data.signal_blocks import folder
from hbcomp.system.files import atomic_path
from hbcomp.system.memory import fits

# Part of every key; increase it when the reader's values or the layout of an entry change.
VERSION = 3
MAX_BYTES = 4 << 30  # assumed: about fifty files of 100,000 rows
CHUNK_BYTES = 1 << 20
SECONDS_UNTIL_ABANDONED = 24 * 3600
SECONDS_IN_USE = 3600  # for which an entry above the limit stays, for the next reader
DIGEST_BYTES = 16
NAMES = ("ids", "signals", "labels", "groups", "classes")


def key_of(path: Path, options: Mapping[str, Any]) -> str:
    """Return the key of the file's present bytes, read with these options."""
    start = xxhash.xxh3_128(json.dumps([VERSION, dict(options)], sort_keys=True).encode())
    with path.open("rb", buffering=0) as file:
        return _hash_rest(file, path.stat().st_size, start).hexdigest()


def _hash_rest(file: FileIO, n_bytes: int, digest: xxhash.xxh3_128) -> xxhash.xxh3_128:
    """Return the digest updated with the next `n_bytes` of the file, or all if there are fewer."""
    # Mapping the file is no faster, and would count its pages as memory of this process.
    view = memoryview(bytearray(CHUNK_BYTES))
    while n_bytes > 0 and (n_read := file.readinto(view[:n_bytes])):
        digest.update(view[:n_read])
        n_bytes -= n_read
    return digest


def load(key: str, source: str) -> Dataset | None:
    """Return the entry as a data set of that source, or None if there is no complete one.

    Signals that would not fit into memory stay in the entry, which is mapped.
    """
    path = _entry(key)
    try:
        with path.open("rb", buffering=0) as file:
            arrays = _arrays(file)
    except OSError:
        return None
    if arrays is None:
        return None  # damaged: the file is read again and this overwritten
    with suppress(OSError):
        os.utime(path)  # the time of the last use, for `prune`
    return Dataset(**arrays, source=source)


def _arrays(file: FileIO) -> dict[str, Any] | None:
    """Return the arrays of an entry, or None if its checksum, the last bytes, does not fit."""
    n_bytes = os.fstat(file.fileno()).st_size - DIGEST_BYTES
    digest = _hash_rest(file, n_bytes, xxhash.xxh3_128())
    if n_bytes <= 0 or digest.digest() != file.read(DIGEST_BYTES):
        return None
    file.seek(0)
    is_mapped = not fits(n_bytes)
    arrays = {
        name: _map(file) if is_mapped and name == "signals" else np.load(file, allow_pickle=False)
        for name in NAMES
    }
    found: dict[str, Any] = {name: array if array.size else None for name, array in arrays.items()}
    classes = found["classes"]
    return found | {"classes": () if classes is None else tuple(classes.tolist())}


def _map(file: FileIO) -> np.ndarray:
    """Return the next array of an entry, mapped, and go to the one after it."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    array = np.memmap(file.name, dtype, "r", file.tell(), shape)
    file.seek(array.nbytes, os.SEEK_CUR)
    return array


def save(key: str, dataset: Dataset) -> None:
    """Write the data set as an entry, then delete the oldest ones above the limit."""
    with atomic_path(_entry(key)) as partial, partial.open("w+b", buffering=0) as file:
        for name in NAMES:
            array = getattr(dataset, name)
            # A data set has no empty arrays, so an empty one can stand for None.
            empty = array is None or not len(array)
            np.save(file, np.empty(0) if empty else np.asarray(array), allow_pickle=False)
        n_bytes = file.tell()
        file.seek(0)
        file.write(_hash_rest(file, n_bytes, xxhash.xxh3_128()).digest())
    prune(MAX_BYTES)


def prune(max_bytes: int) -> None:
    """Delete the least recently used entries until the rest fit into `max_bytes`.

    Those of the last hour stay: an entry that is larger than all others may be is in use.
    """
    for path in folder().glob(".*.partial"):  # of a process killed while writing
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > SECONDS_UNTIL_ABANDONED:
                path.unlink()
    entries = []
    for path in folder().glob("*.npys"):
        with suppress(FileNotFoundError):  # another process prunes, too
            status = path.stat()
            entries.append((status.st_mtime_ns, status.st_size, path))
    n_bytes = sum(size for _, size, _ in entries)
    newest = time.time_ns() - SECONDS_IN_USE * 10**9
    for used, size, path in sorted(entries):
        if n_bytes <= max_bytes or used > newest:
            return
        path.unlink(missing_ok=True)
        n_bytes -= size


def _entry(key: str) -> Path:
    return folder() / f"{key}.npys"  # several .npy in a row, then their checksum
