import ast
import csv
import errno
import io
import os
from pathlib import Path

import pytest
from filelock import FileLock

import hbcomp
from hbcomp.system.errors import InputError
from hbcomp.system.files import atomic_path, csv_bytes, take_lock, write_text


def test_a_file_appears_under_its_name_only_when_complete(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with atomic_path(path) as partial:
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt):
        _stop_while_writing(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


def test_a_written_file_is_readable_by_others(tmp_path):
    write_text(tmp_path / "file.txt", "text")
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o644


def _stop_while_writing(path):
    with atomic_path(path) as partial:
        partial.write_text("new")
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)),
        OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)),
        OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)),
        NotImplementedError("FileSystem does not appear to support flock"),  # filelock 3.16
    ],
)
def test_a_file_system_without_locks_is_said_to_be_one(tmp_path, monkeypatch, error):
    def refuse(_):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(InputError, match=r"run\.lock: its file system has no locks, .* another"):
        take_lock(tmp_path / "run.lock", 0.0)


def test_a_lock_is_held_once_and_free_after_its_release(tmp_path):
    first = take_lock(tmp_path / "run.lock", 0.0)
    assert first is not None
    assert take_lock(tmp_path / "run.lock", 0.0) is None
    first.release()
    again = take_lock(tmp_path / "run.lock", 0.0)
    assert again is not None
    again.release()


def test_a_lock_that_cannot_be_made_names_its_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((FileExistsError, NotADirectoryError)) as error:
        take_lock(tmp_path / "file" / "run.lock", 0.0)
    assert str(tmp_path / "file") in str(error.value.filename)


CELLS = ["a", "a\rb", "a\nb", "a\r\nb", 'a"b', "a,b", " a ", "\r", "ü", "=1+1", "\u2028"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_cell_that_is_written_to_a_csv_file_is_read_back(line_end):
    content = csv_bytes(["id", "p"], [(cell, 0.1) for cell in CELLS], line_end)
    text = content.decode()
    assert list(csv.reader(io.StringIO(text, newline=""), strict=True)) == [
        ["id", "p"],
        *([cell, "0.1"] for cell in CELLS),
    ]
    assert text.startswith(f"id,p{line_end}a,0.1{line_end}")


def test_no_other_function_writes_csv_files():
    package = Path(hbcomp.__file__).parent
    writers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and (node.attr == "to_csv" or ast.unparse(node) in ("csv.writer", "csv.DictWriter"))
    }
    assert writers == {"system/files.py"}
