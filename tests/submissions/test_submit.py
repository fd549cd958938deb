"""The commands about submissions that were written: diff, submit, lb and ledger."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from commands import run_hbcomp

from hbcomp.scoring.metrics import ABS_SUM
from hbcomp.submissions import FOLDER, ledger
from hbcomp.submissions import ledger_tables as tables
from hbcomp.submissions.files import Provenance, write_submission
from hbcomp.submissions.ledger import BY_HAND, Entry, changed, read_ledger
from hbcomp.submissions.submit import (
    ROUNDING,
    check_score,
    check_try,
    references,
    resolve_file,
    with_score,
)
from hbcomp.system.errors import InputError

IDS = np.array(["a", "b", "c", "d"])
METRIC = replace(ABS_SUM, scale=20_000.0)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def write(name, labels, expected=0.0):
    scores = (expected + 100, 50.0, 400, expected, expected - 98, expected + 98)
    metric = ("abs-sum", "lower")
    recipe = f"cv of 2 nets for {name}"
    provenance = Provenance(name, recipe, "half", *metric, *(scores if expected else ()))
    write_submission(FOLDER / f"{name}.csv", IDS, np.eye(2)[labels], provenance)


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    """A working directory with three submissions that were written by runs."""
    monkeypatch.chdir(tmp_path)
    write("one", [0, 0, 1, 1], expected=4000.0)
    write("two", [0, 1, 1, 0], expected=8000.0)
    write("three", [1, 0, 1, 1])
    return tmp_path


def last_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def refusal(done):
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    return done.stderr.splitlines()[-1]


def entry_of(name):
    return next(entry for entry in read_ledger(FOLDER) if entry.source == name)


def edit(name="one"):
    """Change an answer by hand, and return the hashes before and after."""
    path = FOLDER / f"{name}.csv"
    before = ledger.sha256_of(path)
    path.write_text(path.read_text().replace("b,1,0", "b,0.5,0.5"))
    return before, ledger.sha256_of(path)


def make_entry(number, **values):
    entry = Entry(sha256=f"{number:064x}", file=f"{number}.csv", written=NOON, source="run")
    return changed(entry, n_rows=20_000, **values)


# --- diff -------------------------------------------------------------------------------------


def test_diff_counts_rows_and_changes_of_the_predicted_class(cwd):
    numbers = last_json(run_hbcomp(["diff", "submissions/one.csv", "submissions/two.csv"], cwd))
    assert (numbers["n_rows"], numbers["n_changed"], numbers["n_class_changes"]) == (4, 2, 2)
    assert numbers["max_difference"] == 20_000.0
    assert numbers["first_changed_ids"] == ["b", "d"]
    assert numbers["class_changes"] == [
        {"from": 0, "to": 1, "n_rows": 1},
        {"from": 1, "to": 0, "n_rows": 1},
    ]


def test_diff_matches_rows_by_id_and_says_so(cwd):
    header, *rows = (FOLDER / "one.csv").read_text().splitlines()
    (cwd / "back.csv").write_text("\n".join([header, *rows[::-1]]))
    done = run_hbcomp(["diff", "submissions/one.csv", "back.csv"], cwd)
    assert last_json(done)["n_changed"] == 0
    assert "back.csv has the ids of submissions/one.csv in another order" in done.stderr


def test_diff_of_more_files_is_a_matrix_of_all_pairs(cwd):
    files = [f"submissions/{name}.csv" for name in ("one", "two", "three")]
    done = run_hbcomp(["diff", *files], cwd)
    pairs = last_json(done)["pairs"]
    assert [pair["n_changed"] for pair in pairs] == [2, 1, 3]
    assert [pair["first"] for pair in pairs] == [files[0], files[0], files[1]]
    rows = [line.split()[-3:] for line in done.stderr.splitlines() if "submissions/" in line]
    assert rows == [["-", "2", "1"], ["2", "-", "3"], ["1", "3", "-"]]


def test_diff_needs_two_files_with_the_same_ids(cwd):
    (cwd / "other.csv").write_text("id,label_0,label_1\na,1,0\n")
    one = "submissions/one.csv"
    assert "two files or more are compared" in refusal(run_hbcomp(["diff", one], cwd))
    assert "other.csv: no row for 3 ids: b, c, d" in refusal(
        run_hbcomp(["diff", one, "other.csv"], cwd)
    )


# --- lb ---------------------------------------------------------------------------------------


def test_lb_shows_the_score_beside_the_expected_one(cwd):
    words = ["lb", "submissions/one.csv", "5000", "--date", "2026-11-20"]
    numbers = last_json(run_hbcomp(words, cwd))
    assert (numbers["leaderboard"], numbers["gap"]) == (5000.0, 1000.0)
    assert (numbers["low"], numbers["high"], numbers["is_inside"]) == (3902.0, 4098.0, False)
    assert numbers["out_of_fold"] == 4100.0
    entry = entry_of("one")
    assert (entry.leaderboard, entry.received) == (5000.0, datetime(2026, 11, 20, tzinfo=UTC))


def test_lb_takes_the_beginning_of_a_hash_even_after_the_file_is_gone(cwd):
    (FOLDER / "one.csv").unlink()
    last_json(run_hbcomp(["lb", entry_of("one").sha256[:10], "1.0"], cwd))
    assert entry_of("one").leaderboard == 1.0


def test_lb_refuses_another_score_unless_it_is_a_correction(cwd):
    words = ["lb", "submissions/one.csv"]
    last_json(run_hbcomp([*words, "1.0"], cwd))
    assert "score 1.0 was recorded on" in refusal(run_hbcomp([*words, "2.0"], cwd))
    last_json(run_hbcomp([*words, "2.0", "--correct"], cwd))
    assert entry_of("one").leaderboard == 2.0


def test_the_same_score_again_keeps_its_date():
    entry = make_entry(1, leaderboard=5.0, received=NOON)
    later = NOON + timedelta(days=1)
    assert with_score(entry, 5.0, later, is_correction=False) == entry
    corrected = with_score(entry, 6.0, later, is_correction=True)
    assert (corrected.leaderboard, corrected.received) == (6.0, later)


@pytest.mark.parametrize(
    "words",
    [
        ["lb", "submissions/one.csv", "9999"],
        ["submit", "submissions/one.csv", "--test", "test.csv"],
    ],
)
def test_a_file_edited_by_hand_is_refused_with_both_hashes(cwd, words):
    before, after = edit()
    write_test(cwd, IDS)
    line = refusal(run_hbcomp(words, cwd))
    assert "submissions/one.csv was edited by hand" in line
    assert before[:12] in line
    assert after[:12] in line
    done = run_hbcomp([*words, "--by-hand"], cwd)
    assert last_json(done)["sha256"] == after
    assert f"one.csv is recorded as made by hand, edited from {before[:8]} (one)" in done.stderr
    assert entry_of(BY_HAND).times_sent


def test_a_file_made_by_hand_is_recorded_only_if_asked_for_and_well_formed(cwd):
    (FOLDER / "mine.csv").write_text("id,label_0,label_1\na,1,0\n")
    (FOLDER / "bad.csv").write_text("id,label_0,label_1\na,1,x\n")
    before = read_ledger(FOLDER)
    assert "so it was not written by hbcomp" in refusal(
        run_hbcomp(["lb", "submissions/mine.csv", "2"], cwd)
    )
    assert "must be a finite number" in refusal(
        run_hbcomp(["lb", "submissions/bad.csv", "2", "--by-hand"], cwd)
    )
    assert read_ledger(FOLDER) == before
    done = run_hbcomp(["lb", "submissions/mine.csv", "2", "--by-hand"], cwd)
    assert last_json(done)["gap"] is None
    assert "its expected score is not known" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lb", "one.csv", "1"], "submissions/ledger.csv knows this name as "),
        (["lb", "absent.csv", "1"], "absent.csv: neither a file nor a hash of submissions/ledger"),
        (["lb", "00000000", "1"], "00000000: neither a file nor a hash"),
        (["lb", "elsewhere.csv", "1", "--by-hand"], "copy the file into submissions"),
        (["lb", "submissions/one.csv", "nan"], "must be a finite number, but got"),
        (["lb", "submissions/one.csv", "inf"], "must be a finite number, but got"),
        (["submit", "absent.csv"], "absent.csv: neither a file nor a hash"),
        (["submit", "submissions/one.csv", "--test", "no.csv"], "no.csv: No such file"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(cwd, words, message):
    (cwd / "elsewhere.csv").write_text("id,label_0,label_1\na,1,0\n")
    before = (FOLDER / ledger.NAME).read_bytes()
    assert message in refusal(run_hbcomp(words, cwd))
    assert (FOLDER / ledger.NAME).read_bytes() == before


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("99999", "must be in [0, 40000.0] for these answers, but got 99999.0"),
        ("40001", "must be in [0, 40000.0]"),
        ("0.9874", "0.9874 looks like an accuracy or a mean per row"),
    ],
)
def test_a_score_that_the_file_cannot_have_is_recorded_only_with_force(cwd, score, message):
    before = (FOLDER / ledger.NAME).read_bytes()
    words = ["lb", "submissions/one.csv", score]
    assert message in refusal(run_hbcomp(words, cwd))
    assert (FOLDER / ledger.NAME).read_bytes() == before
    assert last_json(run_hbcomp([*words, "--force"], cwd))["leaderboard"] == float(score)


def test_the_bounds_of_a_score_are_those_of_every_possible_truth(cwd):
    answers = np.array([[0.2, 0.3], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    costs = [np.abs(answers - np.eye(2)[label]).sum(axis=1) for label in (0, 1)]
    low, high = 20_000 * np.min(costs, axis=0).mean(), 20_000 * np.max(costs, axis=0).mean()
    provenance = Provenance("soft", *["x"] * 3, "lower", *[None] * 3)
    write_submission(FOLDER / "soft.csv", IDS, answers, provenance)
    named = resolve_file("submissions/soft.csv", FOLDER, lambda _: None, is_by_hand=False)
    for score in (low, high, low - ROUNDING + 1e-9, high + ROUNDING - 1e-9):
        check_score(score, METRIC, named, None)
    for score in (low - ROUNDING - 0.01, high + ROUNDING + 0.01):
        with pytest.raises(InputError, match="must be in"):
            check_score(score, METRIC, named, None)


def test_the_ledgers_table_shows_the_metric_and_its_direction(cwd):
    last_json(run_hbcomp(["lb", "submissions/one.csv", "10000"], cwd))
    (entry, *_) = read_ledger(FOLDER)
    table = tables.entry_table([entry], ["ok"])
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert (row["rows"], row["leaderboard"]) == ("4", "10000.0")
    assert row["metric"] == "abs-sum (lower)"
    assert row["out of fold"] == "4100.0 ± 50.0"
    assert row["expected"] == "4000.0 (3902.0 to 4098.0)"
    assert row["gap"] == "+6000.0 (outside)"


def test_the_beginning_of_two_hashes_is_refused_with_both(cwd):
    # Two hashes that begin alike cannot be found by writing files.
    entries = tuple(make_entry(number) for number in (1, 2))
    ledger.write_ledger(FOLDER, entries)
    line = refusal(run_hbcomp(["lb", "0000000", "1"], cwd))
    assert "0000000 is the beginning of 2 hashes" in line
    assert all(f"{entry.sha256} ({entry.file})" in line for entry in entries)


def test_without_a_folder_of_submissions_none_is_made(tmp_path):
    assert "submissions: no such folder" in refusal(run_hbcomp(["lb", "a.csv", "1"], tmp_path))
    assert not (tmp_path / "submissions").exists()


# --- submit -----------------------------------------------------------------------------------


def write_test(cwd, ids):
    (cwd / "test.csv").write_text(
        "id,heartbeat_signals\n" + "".join(f'{beat_id},"0.5,1.0"\n' for beat_id in ids)
    )


def test_submit_checks_marks_and_compares_with_what_was_sent(cwd):
    write_test(cwd, IDS)
    words = ["--test", "test.csv", "--per-day", "3"]
    first = last_json(run_hbcomp(["submit", "submissions/one.csv", *words], cwd))
    assert (first["n_sent_today"], first["against"]) == (1, {})
    last_json(run_hbcomp(["lb", "submissions/one.csv", "1.0"], cwd))
    last_json(run_hbcomp(["submit", "submissions/two.csv", *words], cwd))
    done = run_hbcomp(["submit", "submissions/three.csv", *words], cwd)
    against = last_json(done)["against"]
    assert (against["last sent"]["file"], against["last sent"]["n_changed"]) == (
        "submissions/two.csv",
        3,
    )
    assert (against["best"]["file"], against["best"]["n_changed"]) == ("submissions/one.csv", 1)
    assert "upload submissions/three.csv now" in done.stderr
    assert [len(entry.sent) for entry in read_ledger(FOLDER)] == [1, 1, 1]


def test_the_competition_says_how_many_are_sent_a_day(cwd):
    write_test(cwd, IDS)
    for name in ("one", "two"):
        words = ["submit", f"submissions/{name}.csv", "--test", "test.csv"]
        assert last_json(run_hbcomp(words, cwd))["per_day"] == 2
    words = ["submit", "submissions/three.csv", "--test", "test.csv"]
    assert "2 of 2 submissions of " in refusal(run_hbcomp(words, cwd))
    assert last_json(run_hbcomp([*words, "--per-day", "3"], cwd))["n_sent_today"] == 3


def test_submit_refuses_ids_that_are_not_the_test_files(cwd):
    write_test(cwd, IDS[::-1])
    done = run_hbcomp(["submit", "submissions/one.csv", "--test", "test.csv"], cwd)
    assert "the ids must be in the test file's order" in refusal(done)
    assert entry_of("one").sent == ()


def test_submit_refuses_a_content_that_was_sent_whatever_it_is_called(cwd):
    last_json(run_hbcomp(["submit", "submissions/one.csv"], cwd))
    (cwd / "copy.csv").write_bytes((FOLDER / "one.csv").read_bytes())
    assert "this content was already sent at" in refusal(run_hbcomp(["submit", "copy.csv"], cwd))
    done = run_hbcomp(["submit", "copy.csv", "--again"], cwd)
    assert last_json(done)["n_rows"] == 4
    assert "written as one.csv by one: cv of 2 nets for one" in done.stderr
    assert len(entry_of("one").sent) == 2


def test_submit_sends_no_more_than_the_days_number(cwd, monkeypatch):
    # Sent on this day and on the next: so the test holds at midnight.
    now = ledger.now()
    sent = changed(entry_of("two"), sent=(now, now + timedelta(days=1)))
    ledger.write_ledger(FOLDER, ledger.replaced(read_ledger(FOLDER), sent))
    line = refusal(run_hbcomp(["submit", "submissions/one.csv", "--per-day", "1"], cwd))
    assert "1 of 1 submissions of" in line
    monkeypatch.setenv("HBCOMP_SUBMISSIONS_PER_DAY", "1")
    assert "1 of 1 submissions of" in refusal(run_hbcomp(["submit", "submissions/one.csv"], cwd))
    assert entry_of("one").sent == ()
    monkeypatch.setenv("HBCOMP_SUBMISSIONS_PER_DAY", "2")
    assert last_json(run_hbcomp(["submit", "submissions/one.csv"], cwd))["per_day"] == 2


def test_submit_compares_as_far_as_files_are_there(cwd):
    for name in ("one", "two"):
        last_json(run_hbcomp(["submit", f"submissions/{name}.csv"], cwd))
    last_json(run_hbcomp(["lb", "submissions/one.csv", "1.0"], cwd))
    (FOLDER / "one.csv").unlink()
    (FOLDER / "two.csv").rename(FOLDER / "renamed.csv")
    done = run_hbcomp(["submit", "submissions/three.csv"], cwd)
    against = last_json(done)["against"]
    assert against["best"] is None
    assert "one.csv does not exist any more with the content that was sent" in done.stderr
    assert against["last sent"]["file"] == "submissions/renamed.csv"


def test_submit_says_why_files_of_other_rows_are_not_compared(cwd):
    last_json(run_hbcomp(["submit", "submissions/one.csv"], cwd))
    (FOLDER / "mine.csv").write_text("id,label_0,label_1\nz,1,0\n")
    write_test(cwd, ["z"])
    words = ["submit", "submissions/mine.csv", "--by-hand", "--test", "test.csv"]
    done = run_hbcomp(words, cwd)
    assert last_json(done)["against"] == {"last sent": None}
    assert "submissions/one.csv cannot be compared: " in done.stderr


def test_submit_needs_the_file_itself(cwd):
    (FOLDER / "one.csv").unlink()
    done = run_hbcomp(["submit", entry_of("one").sha256[:8]], cwd)
    assert "one.csv: no file in submissions has this content any more" in refusal(done)


@pytest.mark.parametrize(
    ("hour", "n_sent", "left"),
    [(0, 2, "24:00:00|1 day, 0:00:00"), (23, 2, "1:00:00"), (12, 2, "12:00:00")],
)
def test_the_next_try_is_free_at_midnight_utc(hour, n_sent, left):
    midnight = NOON.replace(hour=0)
    times = (midnight - timedelta(seconds=1), midnight, midnight + timedelta(hours=23))
    entries = (make_entry(1, sent=times), make_entry(2))
    now = NOON.replace(hour=hour)
    assert check_try(entries, entries[1], 3, now, is_again=False) == n_sent
    message = rf"free at 2026-11-23 00:00 UTC, in ({left})$"
    with pytest.raises(InputError, match=message):
        check_try(entries, entries[1], 2, now, is_again=False)


def test_a_score_without_a_known_sending_counts_as_a_try():
    entry = make_entry(1, leaderboard=5.0, received=NOON)
    assert check_try((entry,), make_entry(2), 2, NOON, is_again=False) == 1
    with pytest.raises(InputError, match=r"sent at 2026-11-22 12:00 UTC and scored 5\.0"):
        check_try((entry,), entry, None, NOON, is_again=False)


def test_the_rivals_are_the_last_sent_and_the_best_of_the_others():
    later = NOON + timedelta(hours=1)
    first = make_entry(1, leaderboard=5.0, received=NOON)
    second = make_entry(2, leaderboard=9.0, received=later)
    entries = (second, first, make_entry(3))
    assert references(entries, make_entry(4)) == {"last sent": second, "best": first}
    assert references(entries, second) == {"last sent": first, "best": first}
    assert references(entries[2:], second) == {}


# --- ledger -----------------------------------------------------------------------------------


def test_the_ledger_shows_gaps_inversions_states_and_strangers(cwd):
    last_json(run_hbcomp(["lb", "submissions/one.csv", "20000"], cwd))
    last_json(run_hbcomp(["lb", "submissions/two.csv", "10000"], cwd))
    edit("one")
    (FOLDER / "three.csv").unlink()
    done = run_hbcomp(["ledger"], cwd)
    assert last_json(done) == {
        "n_entries": 3,
        "n_sent": 2,
        "n_scored": 2,
        "mean_gap": 9000.0,
        "n_inside": 0,
        "n_inversions": 1,
        "n_inversions_beyond_noise": 1,
        "states": {"edited by hand": 1, "ok": 1, "missing": 1},
        "unknown_files": ["one.csv"],
    }
    assert "+16000.0 (outside)" in done.stderr
    assert "submissions/one.csv is not in the ledger; was it made or edited by hand?" in done.stderr


def test_an_empty_ledger_is_shown_too(tmp_path):
    numbers = last_json(run_hbcomp(["ledger"], tmp_path))
    assert (numbers["n_entries"], numbers["mean_gap"]) == (0, None)


def test_the_help_of_the_ledger_shows_an_example(tmp_path):
    done = run_hbcomp(["ledger", "--help"], tmp_path)
    assert "Example: hbcomp ledger" in done.stdout
