import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbcomp.competitions.submission_form import plain_form
from hbcomp.submissions import FOLDER, ledger
from hbcomp.submissions.files import (
    Provenance,
    Submission,
    align,
    check_submission,
    read_submission,
    submission_bytes,
    write_submission,
)
from hbcomp.submissions.ledger import BY_HAND, read_ledger, sha256_of, states, unknown_files
from hbcomp.system.errors import InputError

IDS = np.array(["100", "007", "x-1"])
ANSWERS = np.array([[1.0, 0.0], [0.1, 0.9], [1 / 3, 1e-17]])
TWO = plain_form(2)
PROVENANCE = Provenance(
    "run", "cv of 2 nets, on test.csv", "half", "abs-sum", "lower", 1300.0, 90.5, 4000
)
GOOD = "id,label_0,label_1\n100,1,0\n007,0.1,0.9\nx-1,0.3333333333333333,0.00000000000000001\n"


def test_a_submission_is_the_header_and_one_row_per_id():
    assert submission_bytes(IDS, ANSWERS, TWO).decode() == GOOD


def test_a_submission_reads_back_as_the_bits_that_were_written(tmp_path):
    rng = np.random.default_rng(0)
    ids, answers = np.arange(500).astype(str), rng.random((500, 4)) ** 9
    write_submission(tmp_path / "s.csv", ids, answers, PROVENANCE)
    again = check_submission(tmp_path / "s.csv", ids, plain_form(4))
    assert np.array_equal(again.answers, answers)
    assert again.ids.tolist() == ids.tolist()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2))
@settings(max_examples=200, deadline=None)
def test_answers_are_written_as_digits_and_a_point_that_read_back_as_themselves(row):
    line = submission_bytes(np.array(["a"]), np.array([row]), TWO).decode().splitlines()[1]
    assert set(line) <= set("a,.0123456789")
    assert [float(cell) for cell in line.split(",")[1:]] == row


def test_writing_the_same_again_changes_nothing(tmp_path):
    path = tmp_path / "s.csv"
    assert write_submission(path, IDS, ANSWERS, PROVENANCE) is None
    assert write_submission(path, IDS, ANSWERS, PROVENANCE) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.csv"]


def test_another_file_of_the_name_is_kept_under_its_hash(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("edited by hand")
    aside = write_submission(path, IDS, ANSWERS, PROVENANCE)
    assert aside is not None
    assert aside.read_text() == "edited by hand"
    assert path.read_text() == GOOD


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_answers_that_no_leaderboard_takes_are_not_written(tmp_path, value):
    wrong = ANSWERS.copy()
    wrong[1, 1] = value
    with pytest.raises(InputError, match=r"row 2 \(id 007\): label_1 must be"):
        write_submission(tmp_path / "s.csv", IDS, wrong, PROVENANCE)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_rows_is_neither_written_nor_read(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(InputError, match="there are no test rows"):
        write_submission(path, np.array([], dtype=str), np.zeros((0, 3)), PROVENANCE)
    assert list(tmp_path.iterdir()) == []
    path.write_text("id,label_0,label_1\n")
    with pytest.raises(InputError, match="there are no rows"):
        read_submission(path)


def test_spreadsheet_line_ends_and_a_missing_last_newline_are_accepted(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(GOOD.rstrip("\n").replace("\n", "\r\n").encode())
    assert check_submission(path, IDS).answers.shape == (3, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the header must be id,label_0,label_1, but is missing"),
        (
            GOOD.replace("label_1", "label_2"),
            "must be id,label_0,label_1, but is id,label_0,label_2",
        ),
        (GOOD.replace("id,label_0", "label_0,id"), "the header must be"),
        (
            GOOD.replace("0.9", "nan"),
            "row 2 (id 007): label_1 must be a finite number, but is 'nan'",
        ),
        (GOOD.replace("0.9", ""), "row 2 (id 007): label_1 must be a finite number, but is ''"),
        (GOOD.replace("0.9", "1_0"), "label_1 must be a finite number, but is '1_0'"),
        (GOOD.replace("0.9", "1.5"), "row 2 (id 007): label_1 must be in [0, 1], but is 1.5"),
        (GOOD.replace("0.9", "1e999"), "label_1 must be in [0, 1], but is 1e999"),
        (GOOD.replace("0.9", "-0.5"), "label_1 must be in [0, 1], but is -0.5"),
        (GOOD.replace(",0.9", ""), "row 2 (id 007): 2 cells, but the header has 3"),
        (
            GOOD.replace("007", "7"),
            "no row for id 007 of the test file; not in the test",
        ),
        (GOOD.replace("007", "100"), "unique, but repeated: id 100; no row for id 007"),
        (GOOD.replace("0.9", "\uff11"), "label_1 must be a finite number, but is '\uff11'"),
        (GOOD.replace("0.9", "\u0661"), "label_1 must be a finite number, but is '\u0661'"),
        ("\ufeff" + GOOD, "begins with a byte order mark"),
        (
            GOOD.replace("x-1,0.3333333333333333,0.00000000000000001\n", ""),
            "2 rows, but the test file has 3",
        ),
        ("id,label_0,label_1\n007,1,0\n100,0,1\nx-1,0,1\n", "row 1 is id 007 instead of 100"),
        (GOOD.replace("007", '"007'), "not valid CSV"),
    ],
)
def test_a_wrong_file_is_refused_with_row_and_reason(tmp_path, text, message):
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        check_submission(path, IDS)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_several_problems_are_named_at_once(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(GOOD.replace("0.9", "nan").replace("x-1", "y"))
    with pytest.raises(InputError, match=r"label_1 must be .*; no row for id x-1 of .*; not in"):
        check_submission(path, IDS)


def test_another_number_of_classes_than_asked_for_is_refused(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(GOOD)
    with pytest.raises(InputError, match="the header must be id,label_0,label_1,label_2,label_3"):
        check_submission(path, IDS, plain_form(4))


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_what_is_no_text_file_is_refused(tmp_path, kind):
    path = tmp_path / "s.csv"
    if kind == "folder":
        path.mkdir()
    if kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"s\.csv: "):
        read_submission(path)


# --- the ledger beside the files --------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of submissions, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return FOLDER


def answers_of(number):
    return np.array([[1.0, 0.0], [0.1, 0.9], [number / 1000, 0.5]])


def write(name="s.csv", number=0, provenance=PROVENANCE):
    return write_submission(FOLDER / name, IDS, answers_of(number), provenance)


def by_name(folder):
    return {entry.file: entry for entry in read_ledger(folder)}


def test_a_submission_is_recorded_with_where_it_comes_from(folder):
    write()
    (entry,) = read_ledger(folder)
    assert (entry.file, entry.sha256, entry.n_rows) == ("s.csv", sha256_of(folder / "s.csv"), 3)
    known = {name: getattr(entry, name) for name in vars(PROVENANCE)}
    assert known == vars(PROVENANCE)
    assert (entry.sent, entry.leaderboard) == ((), None)


def test_a_file_in_another_folder_is_not_recorded(folder, tmp_path):
    write_submission(tmp_path / "elsewhere.csv", IDS, ANSWERS, PROVENANCE)
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere.csv"]


def test_the_folder_is_known_by_its_place_not_by_its_spelling(folder):
    write_submission(folder.resolve() / "s.csv", IDS, ANSWERS, PROVENANCE)
    assert [entry.file for entry in read_ledger(folder)] == ["s.csv"]


def test_a_repeated_run_changes_no_byte_of_the_ledger(folder):
    write()
    before = (folder / ledger.NAME).read_bytes()
    write()
    assert (folder / ledger.NAME).read_bytes() == before


def test_a_file_that_is_set_aside_takes_its_entry_along(folder):
    write(number=1)
    first = by_name(folder)["s.csv"]
    aside = write(number=2)
    entries = by_name(folder)
    assert entries[aside.name] == ledger.changed(first, file=aside.name)
    assert entries["s.csv"].sha256 != first.sha256
    assert states(read_ledger(folder), folder) == ("ok", "ok")


def test_a_file_edited_by_hand_is_set_aside_recorded_and_said(folder, capsys):
    write(number=1)
    (written,) = read_ledger(folder)
    (folder / "s.csv").write_text(GOOD)
    aside = write(number=2)
    by_hand = by_name(folder)[aside.name]
    assert (by_hand.source, by_hand.n_rows) == (BY_HAND, 3)
    assert by_hand.recipe == f"edited from {written.sha256[:8]} (run)"
    assert (
        "s.csv was not in the ledger: edited by hand? It is recorded as s."
        in capsys.readouterr().err
    )
    assert states(read_ledger(folder), folder) == ("missing", "ok", "ok")


def test_an_edited_file_that_was_set_aside_is_not_overwritten(folder):
    write(number=1)
    aside = write(number=2)
    aside.write_text("edited")
    write(number=1)
    write(number=3)  # sets number 1 aside, whose name is taken
    contents = [path.read_bytes() for path in folder.glob("*.csv")]
    assert b"edited" in contents
    assert submission_bytes(IDS, answers_of(1), TWO) in contents


def test_no_submission_takes_the_name_of_the_ledger(folder):
    with pytest.raises(InputError, match=r"this is the ledger's name"):
        write("ledger.csv")


def test_with_an_unreadable_ledger_nothing_is_written(folder):
    write(number=1)
    (folder / ledger.NAME).write_text("mine")
    with pytest.raises(InputError, match="the header must be"):
        write(number=2)
    assert (folder / "s.csv").read_bytes() == submission_bytes(IDS, answers_of(1), TWO)


@pytest.mark.parametrize("is_edited", [False, True])
@pytest.mark.parametrize("n_renames", range(4))
def test_killed_between_two_renames_the_same_call_repeated_leaves_nothing_wrong(
    folder, monkeypatch, n_renames, is_edited
):
    class Killed(BaseException):
        pass

    def replace_and_die(*paths):
        nonlocal n_renames
        if n_renames == 0:
            raise Killed
        n_renames -= 1
        replace(*paths)

    replace = os.replace
    write(number=1)
    if is_edited:
        (folder / "s.csv").write_text("edited")
    before = (folder / "s.csv").read_bytes()
    monkeypatch.setattr(os, "replace", replace_and_die)
    with pytest.raises(Killed):
        write(number=2)
    monkeypatch.setattr(os, "replace", replace)
    assert before in [path.read_bytes() for path in folder.glob("*.csv")]
    (state, *_) = states(read_ledger(folder), folder)
    assert state in ({"edited by hand", "missing"} if is_edited else {"ok", "renamed"})
    write(number=2)
    entries = by_name(folder)
    aside = folder / f"s.{hashlib.sha256(before).hexdigest()[:8]}.csv"
    assert aside.read_bytes() == before
    assert entries[aside.name].source == (BY_HAND if is_edited else "run")
    assert sha256_of(folder / "s.csv") in {entry.sha256 for entry in entries.values()}
    assert unknown_files(tuple(entries.values()), folder) == ()


WRITE_MANY = """
import sys
import numpy as np
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission

print("ready", flush=True)
sys.stdin.readline()
for number in range(12):
    answers = np.array([[number / 100, float(sys.argv[1] == "a")]])
    provenance = Provenance(sys.argv[1], "", "half", "abs-sum", "lower", None, None, None)
    write_submission(FOLDER / f"{sys.argv[1]}{number}.csv", np.array(["1"]), answers, provenance)
"""


def test_two_processes_at_once_lose_no_entry(folder, tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITE_MANY, name], cwd=tmp_path, **pipes)
        for name in "ab"
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert set(by_name(folder)) == {f"{name}{number}.csv" for name in "ab" for number in range(12)}


steps = st.tuples(
    st.sampled_from(["write", "write", "edit", "edit aside", "rename"]), st.integers(0, 3)
)


@settings(max_examples=40)
@given(st.lists(steps, max_size=8))
def test_whatever_is_done_no_content_that_was_found_or_written_is_lost(steps):
    with tempfile.TemporaryDirectory() as cwd, contextlib.chdir(cwd):
        path, kept = FOLDER / "s.csv", set()
        for place, (step, number) in enumerate(steps):
            asides = sorted(FOLDER.glob("s.*.csv"))
            if step == "write":
                kept |= {path.read_bytes()} if path.exists() else set()
                write(number=number)
                kept.add(path.read_bytes())
            elif step == "edit aside" and asides:
                kept.discard(asides[0].read_bytes())
                asides[0].write_text(f"aside {number}")
            elif step == "edit" and path.exists():
                kept.discard(path.read_bytes())
                path.write_text(f"edited {number}")
            elif step == "rename" and path.exists():
                path.rename(FOLDER / f"renamed{place}.csv")
        there = {file.read_bytes() for file in FOLDER.glob("*")}
        assert kept <= there
        known = {entry.sha256 for entry in read_ledger(FOLDER)}
        assert {hashlib.sha256(content).hexdigest() for content in kept} <= known


# --- several files ----------------------------------------------------------------------------


def test_rows_are_aligned_by_id():
    paths = [Path("a.csv"), Path("b.csv")]
    back = Submission(IDS[::-1], ANSWERS[::-1])
    first, second = align(paths, [Submission(IDS, ANSWERS), back])
    assert np.array_equal(first, ANSWERS)
    assert np.array_equal(second, ANSWERS)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Submission(IDS[:2], ANSWERS[:2]), "b.csv: no row for id x-1 of a.csv"),
        (
            Submission(IDS[[0, 1, 1]], ANSWERS),
            "repeated: id 007; b.csv: no row for id x-1",
        ),
        (Submission(np.array(["100", "007", "y"]), ANSWERS), "b.csv: not in a.csv: id y"),
        (Submission(IDS, np.zeros((3, 3))), "b.csv: 3 classes, but a.csv has 2"),
    ],
)
def test_files_with_other_rows_are_not_aligned(other, message):
    with pytest.raises(InputError) as error:
        align([Path("a.csv"), Path("b.csv")], [Submission(IDS, ANSWERS), other])
    assert message in str(error.value)


def test_doubled_ids_are_refused_even_against_themselves():
    doubled = Submission(IDS[[0, 0, 1]], ANSWERS)
    with pytest.raises(InputError, match=r"a\.csv: ids must be unique, but repeated: id 100"):
        align([Path("a.csv")], [doubled])
