import hashlib
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.submissions.ledger import (
    BY_HAND,
    COLUMNS,
    NAME,
    Entry,
    added,
    best,
    changed,
    inversions,
    locate,
    locked,
    read_ledger,
    sha256_of,
    states,
    unknown_files,
    write_ledger,
)
from hbcomp.system.errors import InputError

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HEADER = ",".join(COLUMNS)


def make_entry(content="a", **values):
    entry = Entry(
        sha256=hashlib.sha256(content.encode()).hexdigest(),
        file=f"{content}.csv",
        written=NOON,
        source="run",
        n_rows=1000,
    )
    return changed(entry, **values)


def scored(content, expected, leaderboard, error=1.0):
    """Return an entry whose score is expected with this standard error."""
    return make_entry(
        content,
        metric="abs-sum",
        expected=float(expected),
        low=expected - 2 * error,
        high=expected + 2 * error,
        leaderboard=float(leaderboard),
        received=NOON,
    )


times = st.datetimes(timezones=st.just(UTC)).map(lambda time: time.replace(microsecond=0))
scores = st.floats(min_value=0, max_value=1e12)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@st.composite
def entries_of_anything(draw):
    values = {
        "file": draw(texts.filter(lambda text: text and not set(text) & set("/\\"))),
        "written": draw(times),
        "source": draw(texts.filter(bool)),
        "recipe": draw(texts),
        "rule": draw(texts),
        "n_rows": draw(st.none() | st.integers(1, 10**9)),
        "sent": tuple(draw(st.lists(times, max_size=3))),
    }
    if draw(st.booleans()):
        values |= {"out_of_fold": draw(scores), "standard_error": draw(scores), "n_scored": 9}
    if draw(st.booleans()):
        values |= {"expected": draw(scores), "low": draw(scores), "high": draw(scores)}
    if draw(st.booleans()):
        values |= {"leaderboard": draw(scores), "received": draw(times)}
    return make_entry(str(draw(st.integers())), **values)


@given(st.lists(entries_of_anything(), unique_by=lambda entry: entry.sha256, max_size=3))
def test_what_was_written_is_read_back(tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("ledger")
    write_ledger(folder, tuple(entries))
    assert read_ledger(folder) == tuple(entries)


def test_a_folder_without_a_ledger_has_no_entries(tmp_path):
    assert read_ledger(tmp_path) == ()


def test_what_a_spreadsheet_saves_is_read(tmp_path):
    write_ledger(tmp_path, (make_entry("a"), make_entry("b")))
    text = (tmp_path / NAME).read_bytes().decode().replace("\r\n", "\r\n\r\n")
    (tmp_path / NAME).write_bytes(text.encode("utf-8-sig"))
    assert [entry.file for entry in read_ledger(tmp_path)] == ["a.csv", "b.csv"]


def test_times_of_other_zones_are_the_same_moments_in_utc(tmp_path):
    entry = make_entry(written=NOON.astimezone(timezone(timedelta(hours=8))))
    assert entry == make_entry()
    write_ledger(tmp_path, (entry,))
    assert b"2026-11-22T12:00:00Z" in (tmp_path / NAME).read_bytes()


HASH = "a" * 64
GOOD = f"{HASH},x.csv,2026-11-22T12:00:00Z,run,,,,,,,,,,,,,,"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,b"], "line 2: 2 cells, but the header has 18"),
        ([GOOD, GOOD], f"line 3: sha256 {HASH} is there twice"),
        ([GOOD.replace(HASH, "A" * 64)], "line 2: sha256: must be 64 hexadecimal digits in lower"),
        ([GOOD.replace(HASH, "")], "line 2: sha256: Field required"),
        (
            [GOOD.replace("x.csv", "../x.csv")],
            "line 2: file: must be the name of a file, without its",
        ),
        ([GOOD.replace("12:00:00Z", "12:00:00")], "line 2: written: Input should have timezone"),
        ([GOOD.replace("2026-11-22T12:00:00Z", "soon")], "written: Input should be a valid date"),
        ([GOOD.replace("run,,,", "run,,,many")], "line 2: n_rows: Input should be a valid integer"),
        ([GOOD.replace("run,,,", "run,,,0")], "n_rows: Input should be greater than or equal to 1"),
        ([GOOD[:-1] + "nan,"], "line 2: leaderboard: Input should be a finite number, but got 'n"),
        ([GOOD[:-1] + "1.5,"], "line 2: leaderboard, received must be given together"),
        ([GOOD.replace("run,,,,,,", "run,,,,,,5")], "out_of_fold, standard_error, n_scored must"),
        ([GOOD.replace("run,,,,,,,,,", "run,,,,,,,,,5")], "expected, low, high must be given"),
        ([GOOD[:-2] + "yesterday,,"], "line 2: sent: Invalid isoformat string: 'yesterday'"),
        (['"a\nb",c', "d"], "line 2: 2 cells, but the header has 18; line 4: 1 cells"),
        (['"a'], "line 2: not valid CSV"),
    ],
)
def test_a_wrong_ledger_is_refused_with_its_line(tmp_path, rows, message):
    (tmp_path / NAME).write_text("\n".join([HEADER, *rows]))
    with pytest.raises(InputError) as error:
        read_ledger(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / NAME}: ")
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"", b"sha256,file\n", b"\xff\xfe"])
def test_what_is_no_ledger_is_refused(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(InputError, match=r"the header must be sha256,|must be UTF-8 text"):
        read_ledger(tmp_path)


def test_a_ledger_that_is_held_too_long_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr("hbcomp.submissions.ledger.LOCK_SECONDS", 0.0)
    with locked(tmp_path), pytest.raises(InputError, match="another process has held it"):
        locked(tmp_path).__enter__()


# --- what entries say -------------------------------------------------------------------------


def test_a_content_that_is_written_again_keeps_its_first_entry():
    first = scored("a", expected=100, leaderboard=120)
    again = make_entry("a", written=NOON + timedelta(days=1), file="b.csv", source="other")
    assert added((first,), again) == (first,)


def test_a_content_taken_for_made_by_hand_learns_its_source_and_keeps_its_score():
    by_hand = make_entry("a", source=BY_HAND, n_rows=None, leaderboard=5.0, received=NOON)
    entry = make_entry("a", recipe="cv of 2 nets", written=NOON + timedelta(days=1))
    (known,) = added((by_hand,), entry)
    assert known == changed(entry, written=NOON, leaderboard=5.0, received=NOON)


def test_the_gap_is_leaderboard_minus_expected():
    assert scored("a", expected=200, leaderboard=240).gap == 40.0


def test_the_best_entry_is_that_of_the_metrics_direction():
    entries = [scored("a", 1, 0.8), scored("b", 1, 0.9), scored("c", 1, 0.7)]
    assert best(entries, "abs-sum") == entries[2]
    accuracies = [changed(entry, metric="accuracy", better="higher") for entry in entries]
    assert best([*entries, *accuracies], "accuracy") == accuracies[1]
    assert best(entries, "accuracy") is None


def test_an_inversion_needs_the_same_metric_and_knows_its_direction():
    first, second = scored("a", 0.9, 0.8), scored("b", 0.8, 0.9)
    (found,) = inversions((first, second))
    assert found.expected_better == second
    higher = [changed(each, metric="accuracy", better="higher") for each in (first, second)]
    (found,) = inversions(higher)
    assert found.expected_better == higher[0]
    assert inversions((first, higher[1])) == ()


NO_EXPECTATION = {"expected": None, "low": None, "high": None}


@pytest.mark.parametrize("missing", [NO_EXPECTATION, {"leaderboard": None, "received": None}])
def test_where_a_number_is_missing_there_is_no_gap(missing):
    entry = changed(scored("a", 1, 1), **missing)
    assert entry.gap is None
    assert inversions((entry, scored("b", 0, 9))) == ()


@pytest.mark.parametrize(("leaderboard", "is_inside"), [(80, True), (79.9, False), (121, False)])
def test_a_score_is_inside_the_interval_or_outside(leaderboard, is_inside):
    entry = changed(scored("a", 100, leaderboard), low=80.0, high=120.0)
    assert entry.is_inside is is_inside
    assert entry.gap_error == pytest.approx(20 / 2)
    assert changed(entry, leaderboard=None, received=None).is_inside is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6))
def test_inversions_are_the_discordant_pairs(pairs):
    entries = [scored(str(place), *pair) for place, pair in enumerate(pairs)]
    discordant = [(a, b) for a, b in combinations(pairs, 2) if (a[0] - b[0]) * (a[1] - b[1]) < 0]
    found = inversions(entries)
    assert len(found) == len(discordant)
    for each in found:
        assert each.expected_better.expected < each.did_better.expected
        assert each.expected_better.leaderboard > each.did_better.leaderboard
        assert min(each.expected_difference, each.leaderboard_difference) > 0


PAIR = [("a", 0), ("b", 20)]


@pytest.mark.parametrize(("error", "is_beyond"), [(14.1, True), (14.2, False)])
def test_an_inversion_is_beyond_noise_from_two_errors_of_the_gaps_on(error, is_beyond):
    # Of two gaps the error is error * sqrt(2), and they must part by twice that.
    first, second = (scored(content, expected, 0, error) for content, expected in PAIR)
    (found,) = inversions((changed(first, leaderboard=20.0), second))
    assert (found.expected_difference, found.leaderboard_difference) == (20.0, 20.0)
    assert found.is_beyond_noise is is_beyond


@pytest.mark.parametrize(
    ("contents", "state"),
    [
        ({"a.csv": "a"}, "ok"),
        ({"a.csv": "a", "copy.csv": "a"}, "ok"),
        ({"copy.csv": "a"}, "renamed"),
        ({"a.csv": "edited", "copy.csv": "a"}, "renamed"),
        ({"a.csv": "edited"}, "edited by hand"),
        ({"a.csv": "b"}, "missing"),  # another known content has taken the name
        ({}, "missing"),
    ],
)
def test_the_state_of_an_entry_follows_its_content(tmp_path, contents, state):
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    entries = (make_entry("a"), make_entry("b"))
    assert states(entries, tmp_path)[0] == state
    place = locate(entries[0], tmp_path)
    assert (place is not None) == (state in ("ok", "renamed"))
    assert place is None or sha256_of(place) == entries[0].sha256


def test_files_without_an_entry_are_found_and_the_ledger_is_none_of_them(tmp_path):
    write_ledger(tmp_path, (make_entry("a"),))
    for name in ("a.csv", "stranger.csv", "notes.txt", ".hidden.csv"):
        (tmp_path / name).write_text(name.removesuffix(".csv"))
    (tmp_path / "folder.csv").mkdir()
    assert unknown_files(read_ledger(tmp_path), tmp_path) == ("stranger.csv",)


def test_a_submission_is_found_whatever_its_name_ends_in(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    entry = make_entry("a", file="a.txt")
    assert states((entry,), tmp_path) == ("ok",)
    assert locate(entry, tmp_path) == tmp_path / "a.txt"
