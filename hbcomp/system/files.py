"""Atomic writes: a file that exists is complete."""

import csv
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hbcomp.system.errors import InputError

# The errors of file systems without locks, such as some network and container mounts.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` when the block succeeds.

    The bytes are synced before the rename and the folder after it, so a crash at any moment leaves
    either the old file or the complete new one. An exception leaves no file behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        with naming(path):
            yield partial
            partial.chmod(0o644)  # mkstemp makes it private
            sync(partial)
            partial.replace(path)
            sync(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            partial.unlink()
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an OSError of the block that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # otherwise the file name would not be shown
            error.filename = error.filename or str(path)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8 with the line ends it has."""
    write_bytes(path, content.encode())


def take_lock(path: Path, seconds: float) -> FileLock | None:
    """Return the acquired lock of a file, or None if another process holds it for `seconds`.

    The operating system releases it when the process ends, even if it is killed. A file system
    without locks is refused, because a lock file would outlive a killed process.
    """
    lock = FileLock(path, timeout=seconds, fallback_to_soft=False)
    try:
        with naming(path):
            lock.acquire()
    except Timeout:
        return None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        raise InputError(
            f"{path}: its file system has no locks, so two commands could write the same files; "
            "work in a folder on another disk"
        ) from error
    return lock


class _Lines(list[str]):
    """The lines that a CSV writer writes."""

    write = list[str].append


def csv_bytes(
    header: Iterable[object], rows: Iterable[Iterable[object]], line_end: str = "\n"
) -> bytes:
    """Return a CSV file, in which cells with a comma, a quote, LF or CR are quoted."""
    # Python below 3.13 quotes only characters of its line end, which therefore has both.
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return "".join(f"{line[:-2]}{line_end}" for line in lines).encode()


def sweep(folder: Path) -> None:
    """Delete the partial files of killed processes below a folder that no other process writes."""
    for leftover in folder.rglob(".*.partial"):
        if leftover.is_file():
            leftover.unlink()


def sync(path: Path) -> None:
    """Force a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stem(path: Path) -> str:
    """Return a file's name without its suffixes, such as `train` for `data/train.csv.gz`."""
    return path.name.split(".")[0]
