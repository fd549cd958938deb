import pytest

from hbcomp.files import atomic_path, write_text


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
