"""What happens to a submission after it is written: sent by hand, and scored by the leaderboard."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from rich.console import Console

from hbcomp.scoring.disagreement import changes
from hbcomp.scoring.metrics import Metric, describe_metric, score_bounds
from hbcomp.scoring.paired import as_text
from hbcomp.submissions import ledger
from hbcomp.submissions.differences import in_words
from hbcomp.submissions.files import Submission, align, by_hand, check_submission, read_submission
from hbcomp.submissions.ledger import Entries, Entry
from hbcomp.system.errors import InputError, did_you_mean, similar_names

ROUNDING = 0.5  # of a leaderboard that shows whole numbers
HASH = re.compile(r"[0-9a-f]{6,64}")
Numbers = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Answered:
    """The ids that a submission must have, in their order, and the name of their column."""

    ids: Shaped[np.ndarray, " n"]
    id_column: str
    source: str


# From a submission and the ledger to the rows that it answers; None where nobody knows them.
FindAnswered = Callable[[Path, Entries], Answered | None]
FindMetric = Callable[[Entry], Metric]


@dataclass(frozen=True)
class Named:
    """The content that a user named, with the ledger's entries, in which it is one."""

    entries: Entries
    entry: Entry
    path: Path | None


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; nothing was ever submitted from here")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    _check_folder(folder)
    with ledger.locked(folder):
        yield


def find_named(text: str, folder: Path, *, is_by_hand: bool) -> Named:
    """Return the content of the file `text`, or that whose sha256 begins with `text`.

    A content that the ledger does not know is an InputError, which says whether it was edited;
    with `is_by_hand` it gets an entry, which is not written yet.
    """
    entries = ledger.read_ledger(folder)
    path = Path(text)
    if not path.is_file():
        entry = _find_by_hash(text, entries, folder)
        return Named(entries, entry, ledger.locate(entry, folder))
    sha256 = ledger.sha256_of(path)
    known = ledger.find(entries, sha256)
    if known is None:
        _check_by_hand(path, sha256, entries, folder, is_by_hand=is_by_hand)
        known = by_hand(path, entries)
        entries = ledger.added(entries, known)
    return Named(entries, known, path)


def _find_by_hash(text: str, entries: Entries, folder: Path) -> Entry:
    found = [entry for entry in entries if HASH.fullmatch(text) and entry.sha256.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{entry.sha256} ({entry.file})" for entry in found)
        raise InputError(f"{text} is the beginning of {len(found)} hashes: {names}")
    lost = [entry.sha256[:12] for entry in entries if entry.file == Path(text).name]
    hint = did_you_mean(similar_names(Path(text)))
    if lost:
        hint = f"; {folder / ledger.NAME} knows this name as {', '.join(lost)}"
    raise InputError(f"{text}: neither a file nor a hash of {folder / ledger.NAME}{hint}")


def _check_by_hand(
    path: Path, sha256: str, entries: Entries, folder: Path, *, is_by_hand: bool
) -> None:
    if path.parent.resolve() != folder.resolve():
        raise InputError(
            f"{path}: sha256 {sha256[:12]} is not in {folder / ledger.NAME}; copy the file into "
            f"{folder}, so that it is kept beside its record"
        )
    if is_by_hand:
        read_submission(path)
        return
    written = [entry.sha256[:12] for entry in entries if entry.file == path.name]
    if written:
        raise InputError(
            f"{path} was edited by hand: it was written with sha256 {', '.join(written)} and has "
            f"{sha256[:12]} now; --by-hand takes it as it is now, and a hash in place of the file "
            "takes what was written"
        )
    raise InputError(
        f"{path}: sha256 {sha256[:12]} is not in {folder / ledger.NAME}, so it was not written by "
        "hbcomp; --by-hand records it as made by hand"
    )


def _say_if_by_hand(entry: Entry, console: Console) -> None:
    if entry.source == ledger.BY_HAND:
        how = f", {entry.recipe}" if entry.recipe else ""
        console.print(f"{entry.file} is recorded as made by hand{how}")


# --- what the leaderboard said ----------------------------------------------------------------


def record(
    text: str,
    score: float,
    received: datetime,
    find_metric: FindMetric,
    folder: Path,
    console: Console,
    *,
    is_correction: bool,
    is_by_hand: bool,
    force: bool,
) -> Numbers:
    """Write down what the leaderboard said of a content; print and return expected against real."""
    if not np.isfinite(score):
        raise InputError(f"a score must be a finite number, but got {score}")
    with _locked(folder):
        named = find_named(text, folder, is_by_hand=is_by_hand)
        if not force:
            check_score(score, find_metric(named.entry), named)
        entry = with_score(named.entry, score, received, is_correction=is_correction)
        ledger.write_ledger(folder, ledger.replaced(named.entries, entry))
    _say_if_by_hand(entry, console)
    console.print(score_in_words(entry))
    return score_numbers(entry)


def check_score(score: float, metric: Metric, named: Named) -> None:
    """Refuse a score that the answers of a content cannot have, whatever the labels are."""
    low, high = metric.bounds
    if named.path is not None:
        low, high = score_bounds(metric, read_submission(named.path).answers)
    slack = ROUNDING if high - low > 100 else ROUNDING / 100
    what = describe_metric(metric)
    if not low - slack <= score <= high + slack:
        raise InputError(
            f"{named.entry.file}: a score by {what} must be in [{as_text(low)}, {as_text(high)}] "
            f"for these answers, but got {score}; is it another file's, another metric's, or of a "
            "part of the rows? --force records it all the same"
        )
    if high > 100 and 0 < score < 1:
        raise InputError(
            f"{named.entry.file}: {score} looks like an accuracy or a mean per row, not like a "
            f"score by {what}; --force records it all the same"
        )


def with_score(entry: Entry, score: float, received: datetime, *, is_correction: bool) -> Entry:
    """Return the entry with the leaderboard's score.

    The same score again changes nothing; another one is an InputError unless it is a correction.
    """
    if entry.leaderboard == score:
        return entry
    if entry.leaderboard is not None and not is_correction:
        raise InputError(
            f"{entry.file}: the leaderboard said {entry.leaderboard} on {entry.received:%Y-%m-%d}, "
            f"and cannot have said {score}; --correct replaces what is recorded"
        )
    return ledger.changed(entry, leaderboard=score, received=received)


def score_numbers(entry: Entry) -> Numbers:
    """Return expected against real as plain JSON values; what is not known is null."""
    gap, error = ledger.gap(entry), ledger.gap_error(entry)
    return {
        "file": entry.file,
        "sha256": entry.sha256,
        "leaderboard": entry.leaderboard,
        "metric": entry.metric,
        "expected": entry.expected,
        "standard_error": entry.standard_error,
        "gap": gap,
        "gap_standard_error": error,
        "gap_in_standard_errors": gap / error if gap is not None and error else None,
    }


def score_in_words(entry: Entry) -> str:
    """Return expected against real as a sentence."""
    real = f"{entry.file}: the leaderboard says {entry.leaderboard}"
    gap, error = ledger.gap(entry), ledger.gap_error(entry)
    if gap is None or entry.expected is None or entry.standard_error is None:
        return f"{real}; no score was expected of it ({entry.source})"
    in_errors = f", which is {gap / error:+.1f} standard errors" if error else ""
    of_gap = "" if error is None else f" ± {as_text(error)} by the noise of both samples of rows"
    return (
        f"{real}; expected {as_text(entry.expected)} ± {as_text(entry.standard_error)} "
        f"({entry.metric}, {entry.better} is better); gap {as_text(gap, '+')}{of_gap}{in_errors}"
    )


# --- sending ----------------------------------------------------------------------------------


def submit(
    text: str,
    find_answered: FindAnswered,
    per_day: int | None,
    find_metric: FindMetric,
    folder: Path,
    console: Console,
    *,
    is_again: bool,
    is_by_hand: bool,
) -> Numbers:
    """Check a content for the last time, compare it with what was sent, and mark it as sent.

    The ids must be those that `find_answered` finds. Where it finds none, a file that was made by
    hand is refused.
    """
    _check_folder(folder)
    named = find_named(text, folder, is_by_hand=is_by_hand)
    answered = _answered(named, find_answered)  # reads the test file: seconds
    with _locked(folder):
        named = find_named(text, folder, is_by_hand=is_by_hand)
        if named.path is None:
            raise InputError(f"{named.entry.file}: no file in {folder} has this content any more")
        submission = check_content(named.path, answered)
        now = ledger.now()
        n_today = check_try(named.entries, named.entry, per_day, now, is_again=is_again)
        metric = find_metric(named.entry)
        compared = {
            name: against(metric, named.path, submission, rival, folder)
            for name, rival in rivals(named.entries, named.entry).items()
        }
        # With all tries: a score without a known sending was one, and must stay counted.
        entry = ledger.changed(named.entry, sent=(*named.entry.tries, now))
        ledger.write_ledger(folder, ledger.replaced(named.entries, entry))
    _say_if_by_hand(named.entry, console)
    for name, (words, _) in compared.items():
        console.print(f"against the {name}, {words}")
    _announce(named, submission, answered, console)
    return {
        "file": str(named.path),
        "sha256": named.entry.sha256,
        "n_rows": len(submission.ids),
        "expected": named.entry.expected,
        "standard_error": named.entry.standard_error,
        "sent": now.isoformat(),
        "n_sent_today": n_today + 1,
        "per_day": per_day,
        "against": {name: numbers for name, (_, numbers) in compared.items()},
    }


def _answered(named: Named, find_answered: FindAnswered) -> Answered | None:
    if named.path is None:
        return None
    answered = find_answered(named.path, named.entries)
    if answered is None and named.entry.source == ledger.BY_HAND:
        raise InputError(
            f"{named.path}: it was made by hand, and no experiment here wrote a file of that name, "
            "so its ids cannot be checked; name the test file with --test"
        )
    return answered


def _announce(
    named: Named, submission: Submission, answered: Answered | None, console: Console
) -> None:
    entry, (n_rows, n_classes) = named.entry, submission.answers.shape
    ids = (
        f"the ids of {answered.source} in their order"
        if answered
        else "the ids that hbcomp wrote (its experiment is not here to check them again)"
    )
    console.print(f"{named.path}: {n_rows:,} rows, {n_classes} classes, {ids}")
    console.print(f"written as {entry.file} by {entry.source}: {entry.recipe}")
    if entry.expected is not None and entry.standard_error is not None:
        console.print(
            f"expected {as_text(entry.expected)} ± {as_text(entry.standard_error)} by "
            f"{entry.metric}, {entry.better} is better (out-of-fold, cross-fitted on "
            f"{entry.n_scored:,} rows, rule {entry.rule})"
        )
    console.print(f"marked as sent: upload {named.path} now")


def check_content(path: Path, answered: Answered | None) -> Submission:
    """Return a submission that would be accepted, as far as can be told without the test ids."""
    if answered is not None:
        return check_submission(path, answered.ids, id_column=answered.id_column)
    submission = read_submission(path)
    align([path], [submission])  # each id once
    return submission


def check_try(
    entries: Entries, entry: Entry, per_day: int | None, now: datetime, *, is_again: bool
) -> int:
    """Return how many were sent on this day, in UTC; a wasted try or one too many is refused."""
    if entry.tries and not is_again:
        said = "" if entry.leaderboard is None else f" and scored {entry.leaderboard}"
        raise InputError(
            f"{entry.file}: this very content was sent at {entry.tries[-1]:%Y-%m-%d %H:%M} UTC"
            f"{said}; --again sends it once more"
        )
    times = [time for each in entries for time in each.tries]
    n_today = sum(time.date() == now.date() for time in times)
    if per_day is not None and n_today >= per_day:
        tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        raise InputError(
            f"{n_today} of {per_day} submissions of {now:%Y-%m-%d} (UTC) are sent; the next is "
            f"free at {tomorrow:%Y-%m-%d %H:%M} UTC, in {tomorrow - now}"
        )
    return n_today


def rivals(entries: Sequence[Entry], entry: Entry) -> dict[str, Entry]:
    """Return the entry that was sent last and the one that did best, other than `entry` itself."""
    others = [each for each in entries if each.sha256 != entry.sha256]
    # Backwards: of those sent in the same second, the one that was written later.
    tried = [each for each in reversed(others) if each.tries]
    sent = max(tried, key=lambda each: each.tries[-1], default=None)
    best = ledger.best(others, entry.metric)
    return {name: each for name, each in (("last sent", sent), ("best", best)) if each}


def against(
    metric: Metric, path: Path, submission: Submission, rival: Entry, folder: Path
) -> tuple[str, Numbers | None]:
    """Return in words and numbers how far a submission is from a rival's file.

    Where that cannot be told, the words say why and there are no numbers.
    """
    there = ledger.locate(rival, folder)
    if there is None:
        return f"{rival.file} is not there any more in the form it was sent", None
    try:
        answers = align([path, there], [submission, read_submission(there)])
    except InputError as error:
        return f"{there} cannot be compared: {error}", None
    of_pair = changes(metric, answers[0], answers[1])
    return f"{there}: {in_words(of_pair)}", {"file": str(there), **of_pair.to_json()}
