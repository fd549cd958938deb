import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hbcomp.competitions.competition import load_competition
from hbcomp.data import cache, reader, signal_blocks
from hbcomp.data.dataset import Dataset
from hbcomp.data.layout import DataLayout
from hbcomp.data.reader import read_dataset
from hbcomp.data.signal_blocks import SignalBlocks, folder
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.system import memory
from hbcomp.system.errors import InputError
from hbcomp.system.memory import mapped

CONFIG = load_competition().file.data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "beats.csv"
    write_competition_csv(path, make_rows())
    return path


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of files that were parsed instead of found."""
    found: list[Path] = []
    parse = reader._parse_csv

    def noted(path: Path, layout: DataLayout, *, labelled: bool) -> Dataset:
        found.append(path)
        return parse(path, layout, labelled=labelled)

    monkeypatch.setattr(reader, "_parse_csv", noted)
    return found


def read(path: Path) -> Dataset:
    return read_dataset(path, CONFIG, labelled=True)


def the_entry(folder: Path) -> Path:
    (entry,) = folder.glob("*.npys")
    return entry


def test_the_second_read_gives_equal_data_without_parsing(path: Path, parsed: list[Path]) -> None:
    first, second = read(path), read(path)
    assert parsed == [path]
    assert first.fingerprint == second.fingerprint
    assert first.source == second.source == str(path)
    assert not second.signals.flags.writeable


def test_unlabelled_and_grouped_data_survive_the_cache(path: Path, parsed: list[Path]) -> None:
    config = CONFIG.model_copy(update={"group": "label", "label": "other"})
    beats = [read_dataset(path, config, labelled=False) for _ in range(2)]
    assert beats[1].labels is None
    assert beats[0].fingerprint == beats[1].fingerprint
    assert len(parsed) == 1
    path.write_text("id,s0,label,g\na,1,0,x\nb,2,1,y\n")
    config = CONFIG.model_copy(update={"group": "g"})
    grouped = [read_dataset(path, config, labelled=True) for _ in range(2)]
    assert grouped[1].groups is not None
    assert grouped[1].groups.tolist() == ["x", "y"]
    assert len(parsed) == 2


def test_a_changed_file_of_the_same_size_and_time_is_read_anew(path: Path) -> None:
    before, status = read(path), path.stat()
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b",0.0\n", b",9.0\n")
        .replace(b",1.0\n", b",0.0\n")
        .replace(b",9.0\n", b",1.0\n")
    )
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert before.labels is not None
    after = read(path)
    assert after.labels is not None
    assert not np.array_equal(before.labels, after.labels)


def test_a_copy_of_the_file_is_found_under_its_own_name(path: Path, parsed: list[Path]) -> None:
    read(path)
    copy = path.with_name("copy.csv")
    copy.write_bytes(path.read_bytes())
    assert read(copy).source == str(copy)
    assert parsed == [path]


def test_other_reading_options_are_another_entry(path: Path, parsed: list[Path]) -> None:
    read(path)
    assert read_dataset(path, CONFIG, labelled=False).labels is None
    with pytest.raises(InputError, match="no column 'class'"):
        read_dataset(path, CONFIG.model_copy(update={"label": "class"}), labelled=True)
    assert len(parsed) == 3


def test_another_format_version_is_another_entry(
    path: Path, parsed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(path)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    read(path)
    assert len(parsed) == 2


def cut(content: bytes) -> bytes:
    return content[:-100]


def flip_a_bit(content: bytes) -> bytes:
    return content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]


def lengthen(content: bytes) -> bytes:
    return content + b"\0"


@pytest.mark.parametrize("damage", [cut, flip_a_bit, lengthen, lambda _: b"", lambda _: b"x" * 9])
def test_a_torn_or_damaged_entry_is_noticed_and_rebuilt(
    damage: object, path: Path, parsed: list[Path], cache_folder: Path
) -> None:
    expected = read(path).fingerprint
    entry = the_entry(cache_folder)
    whole = entry.read_bytes()
    assert callable(damage)
    entry.write_bytes(damage(whole))
    assert read(path).fingerprint == expected
    assert len(parsed) == 2
    assert the_entry(cache_folder).read_bytes() == whole


def test_another_order_of_the_classes_is_another_entry(path: Path) -> None:
    for classes in (("0", "1", "2", "3"), ("3", "2", "1", "0")):
        config = DataLayout(id="id", signal="heartbeat_signals", classes=classes)
        assert read_dataset(path, config, labelled=True).classes == classes


def test_a_file_that_changes_while_it_is_parsed_is_not_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch, cache_folder: Path
) -> None:
    parse = reader._parse_csv

    def parse_and_change(path: Path, layout: DataLayout, *, labelled: bool) -> Dataset:
        beats = parse(path, layout, labelled=labelled)
        path.write_bytes(path.read_bytes() + b"\n")
        return beats

    monkeypatch.setattr(reader, "_parse_csv", parse_and_change)
    read(path)
    assert not list(cache_folder.iterdir())


def test_an_unwritable_cache_costs_a_warning_not_the_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HBCOMP_CACHE", str(path / "below a file"))
    assert read(path).n_rows == 64
    assert "warning: parsed rows are not cached" in capsys.readouterr().err


def test_writers_at_once_leave_one_whole_entry(path: Path, cache_folder: Path) -> None:
    beats = make_rows(n=500)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cache.save("key", beats), range(12)))
    entry = cache.load("key", "anywhere")
    assert entry is not None
    assert entry.fingerprint == beats.fingerprint
    assert [each.name for each in cache_folder.iterdir()] == ["key.npys"]


def test_a_refused_file_leaves_nothing_in_the_cache(tmp_path: Path, cache_folder: Path) -> None:
    path = tmp_path / "beats.csv"
    path.write_text('id,heartbeat_signals,label\n0,"x",0\n')
    with pytest.raises(InputError):
        read(path)
    assert not list(cache_folder.iterdir())


def test_entries_used_longest_ago_go_first_when_there_are_too_many(cache_folder: Path) -> None:
    for number, name in enumerate(("first", "second", "third")):
        cache.save(name, make_rows())
        os.utime(cache_folder / f"{name}.npys", (number, number))
    n_bytes = (cache_folder / "first.npys").stat().st_size
    assert cache.load("first", "data") is not None  # so it is used again
    cache.prune(2 * n_bytes)
    assert {each.stem for each in cache_folder.iterdir()} == {"first", "third"}


def test_without_a_named_folder_the_users_own_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HBCOMP_CACHE")
    assert folder().name == "hbcomp"


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so little memory be free that any rows are too many."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    monkeypatch.setattr(signal_blocks, "available_bytes", lambda: 1000)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("is_regular", [True, False])
def test_rows_too_large_for_memory_are_mapped_from_the_entry(
    path: Path, cache_folder: Path, is_regular: bool
) -> None:
    if not is_regular:  # a blank line, which the fast reader leaves to the slow one
        path.write_text(path.read_text() + "\n")
    rows = read(path)
    place = mapped(rows.signals)
    assert place is not None
    assert place.path == str(the_entry(cache_folder))
    assert [each.name for each in cache_folder.iterdir()] == [the_entry(cache_folder).name]
    assert rows.fingerprint == make_rows().fingerprint
    again = pickle.loads(pickle.dumps(rows))
    assert mapped(again.signals) == place
    assert again.fingerprint == rows.fingerprint
    assert not again.signals.flags.writeable


@pytest.mark.usefixtures("little_memory")
def test_rows_that_are_not_cached_are_mapped_from_a_file_that_ends_with_them(
    cache_folder: Path,
) -> None:
    blocks = SignalBlocks()
    parts = np.split(make_rows().signals, 8)
    for part in parts:
        blocks.append(part)
    array = blocks.array()
    assert np.array_equal(array, np.concatenate(parts))
    assert mapped(array) is not None
    del blocks
    assert len(list(cache_folder.iterdir())) == 1
    del array
    assert not list(cache_folder.iterdir())


@pytest.mark.usefixtures("little_memory")
def test_rows_that_nobody_asked_for_leave_no_file(cache_folder: Path) -> None:
    blocks = SignalBlocks()
    blocks.append(make_rows().signals)
    del blocks
    assert not list(cache_folder.iterdir())


def test_an_entry_larger_than_the_cache_may_be_stays_for_the_next_reader(
    cache_folder: Path,
) -> None:
    cache.save("large", make_rows())
    cache.prune(0)
    assert cache.load("large", "data") is not None
    os.utime(cache_folder / "large.npys", (0, 0))
    cache.prune(0)
    assert cache.load("large", "data") is None
