"""Writing files so that one that exists is complete."""

import csv
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hbcomp.system.errors import InputError

# What a file system that keeps no locks says: some network and container mounts.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` that takes its name when the block succeeds.

    The bytes are synced before the rename and the folder after it, so a crash at any moment
    leaves either the old file or the whole new one; on an exception nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        with naming(path):
            yield partial
            partial.chmod(0o644)  # mkstemp makes it private; a result is meant to be read
            sync(partial)
            partial.replace(path)
            sync(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            partial.unlink()
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError of the block name `path` if it names no file, as one of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # one without a number shows nothing but its own text
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
    """Return the lock of a file, held, or None where another process holds it for so long.

    The operating system drops it with the process, so a killed one leaves none behind. A file
    system that keeps no locks is refused.
    """
    # Its substitute for locks is a file that a killed process would leave behind.
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
            f"{path}: its file system keeps no locks, without which two commands could write the "
            "same files; work in a folder on another disk"
        ) from error
    return lock


class _Lines(list[str]):
    """What a CSV writer writes, line by line."""

    def write(self, line: str) -> None:
        """Take a line."""
        self.append(line)


def csv_bytes(
    header: Iterable[object], rows: Iterable[Iterable[object]], line_end: str = "\n"
) -> bytes:
    """Return a CSV file; a cell is quoted where a reader could take it apart, also at a lone CR."""
    # Python below 3.13 quotes only the characters of the line end, so lines are given both.
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return "".join(f"{line[:-2]}{line_end}" for line in lines).encode()


def sweep(folder: Path) -> None:
    """Delete what killed processes left half-written below a folder; nobody else may write there.

    Folders that appear whole, such as folds, are swept by who makes them.
    """
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
    """Return a file's name without any of its endings: `train` for `data/train.csv.gz`."""
    return path.name.split(".")[0]
