"""After a submission is written: the user sends it, and the leaderboard scores it."""

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

from hbcomp.competitions.submission_form import SubmissionForm
from hbcomp.scoring.disagreement import changes
from hbcomp.scoring.metrics import Metric, describe_metric, score_bounds
from hbcomp.scoring.paired import as_text
from hbcomp.submissions import kaggle, ledger
from hbcomp.submissions.differences import describe
from hbcomp.submissions.files import Submission, align, by_hand, check_submission, read_submission
from hbcomp.submissions.ledger import Entries, Entry
from hbcomp.system.errors import InputError, did_you_mean, similar_names

ROUNDING = 0.5  # of a leaderboard that shows whole numbers
HASH = re.compile(r"[0-9a-f]{6,64}")
Numbers = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ExpectedIds:
    """The ids that a submission must have, in their order, and its form as far as it is known."""

    ids: Shaped[np.ndarray, " n"]
    id_column: str
    source: str
    form: SubmissionForm | None = None  # None: that of the heartbeats, with any classes
    per_day: int | None = None  # how many the competition takes


# From a submission and the ledger to the ids that it must have; None where they are not known.
FindIds = Callable[[Path, Entries], ExpectedIds | None]
FindMetric = Callable[[Entry], Metric]
FindForm = Callable[[Entry], SubmissionForm | None]
Upload = Callable[[Path, Entry], str]  # returns what the leaderboard says


@dataclass(frozen=True)
class ResolvedFile:
    """The content that a user named by a file or a hash, its entry, and all entries."""

    entries: Entries
    entry: Entry
    path: Path | None


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; no submission was ever written here")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    _check_folder(folder)
    with ledger.locked(folder):
        yield


def resolve_file(text: str, folder: Path, find_form: FindForm, *, is_by_hand: bool) -> ResolvedFile:
    """Return the content of the file `text`, or that whose sha256 begins with `text`.

    A content that the ledger does not know is an InputError, which says whether it was edited;
    with `is_by_hand` it gets an entry, which is not written yet.
    """
    entries = ledger.read_ledger(folder)
    path = Path(text)
    if not path.is_file():
        entry = _find_by_hash(text, entries, folder)
        return ResolvedFile(entries, entry, ledger.locate(entry, folder))
    sha256 = ledger.sha256_of(path)
    known = ledger.find(entries, sha256)
    if known is None:
        _check_by_hand(path, sha256, entries, folder, is_by_hand=is_by_hand)
        known = by_hand(path, entries)
        read_submission(path, find_form(known))
        entries = ledger.added(entries, known)
    return ResolvedFile(entries, known, path)


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


# --- the leaderboard's score ------------------------------------------------------------------


def ask(
    text: str, competition: str, find_form: FindForm, folder: Path, *, is_by_hand: bool
) -> tuple[float, datetime]:
    """Return the score that Kaggle has for a content, and when it was sent."""
    entry = resolve_file(text, folder, find_form, is_by_hand=is_by_hand).entry
    return kaggle.score_of(kaggle.connect(), competition, entry)


def record(
    text: str,
    score: float,
    received: datetime,
    find_metric: FindMetric,
    find_form: FindForm,
    folder: Path,
    console: Console,
    *,
    is_correction: bool,
    is_by_hand: bool,
    force: bool,
) -> Numbers:
    """Record the leaderboard's score of a content; print and return it beside the expected one."""
    if not np.isfinite(score):
        raise InputError(f"a score must be a finite number, but got {score}")
    with _locked(folder):
        resolved = resolve_file(text, folder, find_form, is_by_hand=is_by_hand)
        if not force:
            form = find_form(resolved.entry)
            check_score(score, find_metric(resolved.entry), resolved, form)
        entry = with_score(resolved.entry, score, received, is_correction=is_correction)
        ledger.write_ledger(folder, ledger.replaced(resolved.entries, entry))
    _say_if_by_hand(entry, console)
    console.print(score_in_words(entry))
    return score_numbers(entry)


def check_score(
    score: float, metric: Metric, resolved: ResolvedFile, form: SubmissionForm | None
) -> None:
    """Refuse a score that the answers of a content cannot have, whatever the labels are."""
    low, high = metric.bounds
    if resolved.path is not None:
        low, high = score_bounds(metric, read_submission(resolved.path, form).answers)
    slack = ROUNDING if high - low > 100 else ROUNDING / 100
    file, what = resolved.entry.file, describe_metric(metric)
    if metric.bounds[1] == 1 < score <= 100:
        raise InputError(
            f"{file}: a score by {what} is at most 1, but got {score}; is it in percent? Then it "
            f"is {score / 100:.10g}; --force records it all the same"
        )
    if not low - slack <= score <= high + slack:
        raise InputError(
            f"{file}: a score by {what} must be in [{as_text(low)}, {as_text(high)}] for these "
            f"answers, but got {score}; is it another file's, another metric's, or of a part of "
            "the rows? --force records it all the same"
        )
    if high > 100 and 0 < score < 1:
        raise InputError(
            f"{file}: {score} looks like an accuracy or a mean per row, not like a score by "
            f"{what}; --force records it all the same"
        )


def with_score(entry: Entry, score: float, received: datetime, *, is_correction: bool) -> Entry:
    """Return the entry with the leaderboard's score.

    The same score again changes nothing; another one is an InputError unless it is a correction.
    """
    if entry.leaderboard == score:
        return entry
    if entry.leaderboard is not None and not is_correction:
        raise InputError(
            f"{entry.file}: the leaderboard's score {entry.leaderboard} was recorded on "
            f"{entry.received:%Y-%m-%d}, but now got {score}; --correct replaces it"
        )
    return ledger.changed(entry, leaderboard=score, received=received)


def score_numbers(entry: Entry) -> Numbers:
    """Return the two scores and their gap as plain JSON values; an unknown value is null."""
    return {
        "file": entry.file,
        "sha256": entry.sha256,
        "leaderboard": entry.leaderboard,
        "metric": entry.metric,
        "expected": entry.expected,
        "low": entry.low,
        "high": entry.high,
        "out_of_fold": entry.out_of_fold,
        "gap": entry.gap,
        "is_inside": entry.is_inside,
    }


def score_in_words(entry: Entry) -> str:
    """Return the two scores and their gap as a sentence."""
    scored = f"{entry.file}: the leaderboard's score is {entry.leaderboard}"
    if entry.gap is None or entry.expected is None:
        return f"{scored}; its expected score is not known ({entry.source})"
    return (
        f"{scored}; {expected_in_words(entry)}; the gap is {as_text(entry.gap, '+')}, "
        f"{'inside' if entry.is_inside else 'outside'} the interval"
    )


def expected_in_words(entry: Entry) -> str:
    """Return the expected score with its interval, where it is known."""
    assert entry.expected is not None
    assert entry.low is not None
    assert entry.high is not None
    return (
        f"expected {as_text(entry.expected)}, with 95 % between {as_text(entry.low)} and "
        f"{as_text(entry.high)}, by {entry.metric} ({entry.better} is better)"
    )


# --- sending ----------------------------------------------------------------------------------


def submit(
    text: str,
    find_ids: FindIds,
    per_day: int | None,
    find_metric: FindMetric,
    find_form: FindForm,
    folder: Path,
    console: Console,
    *,
    is_again: bool,
    is_by_hand: bool,
    upload: Upload | None = None,
) -> Numbers:
    """Check a content for the last time, compare it with earlier ones, and mark it as sent.

    The ids must be those that `find_ids` finds. Where it finds none, a file that was made by
    hand is refused. `upload` sends the file; where it fails, nothing is marked.
    """
    _check_folder(folder)
    resolved = resolve_file(text, folder, find_form, is_by_hand=is_by_hand)
    expected = _expected_ids(resolved, find_ids)  # reads the test file: seconds
    if per_day is None and expected is not None:
        per_day = expected.per_day
    with _locked(folder):
        resolved = resolve_file(text, folder, find_form, is_by_hand=is_by_hand)
        if resolved.path is None:
            raise InputError(
                f"{resolved.entry.file}: no file in {folder} has this content any more"
            )
        submission = check_content(resolved.path, expected, find_form(resolved.entry))
        now = ledger.now()
        n_today = check_try(resolved.entries, resolved.entry, per_day, now, is_again=is_again)
        metric = find_metric(resolved.entry)
        compared = {
            name: difference(
                metric, resolved.path, submission, reference, find_form(reference), folder
            )
            for name, reference in references(resolved.entries, resolved.entry).items()
        }
        said = upload(resolved.path, resolved.entry) if upload else None
        # With all times: a score without a recorded time counts as sent, and must stay counted.
        entry = ledger.changed(resolved.entry, sent=(*resolved.entry.times_sent, now))
        ledger.write_ledger(folder, ledger.replaced(resolved.entries, entry))
    _say_if_by_hand(resolved.entry, console)
    for name, (words, _) in compared.items():
        console.print(f"against the {name}, {words}")
    _announce(resolved, submission, expected, console)
    console.print(
        f"marked as sent: upload {resolved.path} now"
        if said is None
        else f"uploaded and marked as sent. {said}".rstrip()
    )
    return {
        "file": str(resolved.path),
        "sha256": resolved.entry.sha256,
        "n_rows": len(submission.ids),
        "expected": resolved.entry.expected,
        "standard_error": resolved.entry.standard_error,
        "sent": now.isoformat(),
        "n_sent_today": n_today + 1,
        "per_day": per_day,
        "against": {name: numbers for name, (_, numbers) in compared.items()},
    }


def _expected_ids(resolved: ResolvedFile, find_ids: FindIds) -> ExpectedIds | None:
    if resolved.path is None:
        return None
    expected = find_ids(resolved.path, resolved.entries)
    if expected is None and resolved.entry.source == ledger.BY_HAND:
        raise InputError(
            f"{resolved.path}: it was made by hand, and no experiment here wrote a file of that "
            "name, so its ids cannot be checked; name the test file with --test"
        )
    return expected


def _announce(
    resolved: ResolvedFile, submission: Submission, expected: ExpectedIds | None, console: Console
) -> None:
    entry, (n_rows, n_classes) = resolved.entry, submission.answers.shape
    ids = (
        f"the ids of {expected.source} in their order"
        if expected
        else "the ids that hbcomp wrote (not checked again, because its experiment is not here)"
    )
    console.print(f"{resolved.path}: {n_rows:,} rows, {n_classes} classes, {ids}")
    console.print(f"written as {entry.file} by {entry.source}: {entry.recipe}")
    if entry.expected is not None:
        console.print(f"{expected_in_words(entry)}, rule {entry.rule}")
    if entry.out_of_fold is not None and entry.standard_error is not None:
        console.print(
            f"out of fold {as_text(entry.out_of_fold)} ± {as_text(entry.standard_error)} "
            f"(cross-fitted, {entry.n_scored:,} rows)"
        )


def check_content(
    path: Path, expected: ExpectedIds | None, form: SubmissionForm | None
) -> Submission:
    """Return the submission; without expected ids, only its form and unique ids are checked."""
    if expected is not None:
        return check_submission(path, expected.ids, expected.form, expected.id_column)
    submission = read_submission(path, form)
    align([path], [submission])  # each id once
    return submission


def check_try(
    entries: Entries, entry: Entry, per_day: int | None, now: datetime, *, is_again: bool
) -> int:
    """Return how many were sent on this day in UTC; a repetition or one too many is refused."""
    if entry.times_sent and not is_again:
        said = "" if entry.leaderboard is None else f" and scored {entry.leaderboard}"
        raise InputError(
            f"{entry.file}: this content was already sent at "
            f"{entry.times_sent[-1]:%Y-%m-%d %H:%M} UTC{said}; --again sends it once more"
        )
    times = [time for each in entries for time in each.times_sent]
    n_today = sum(time.date() == now.date() for time in times)
    if per_day is not None and n_today >= per_day:
        tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        raise InputError(
            f"{n_today} of {per_day} submissions of {now:%Y-%m-%d} (UTC) are sent; the next is "
            f"free at {tomorrow:%Y-%m-%d %H:%M} UTC, in {tomorrow - now}"
        )
    return n_today


def references(entries: Sequence[Entry], entry: Entry) -> dict[str, Entry]:
    """Return the entry that was sent last and the one that scored best, except `entry` itself."""
    others = [each for each in entries if each.sha256 != entry.sha256]
    # Backwards: of those sent in the same second, the one that was written later.
    tried = [each for each in reversed(others) if each.times_sent]
    sent = max(tried, key=lambda each: each.times_sent[-1], default=None)
    best = ledger.best(others, entry.metric)
    return {name: each for name, each in (("last sent", sent), ("best", best)) if each}


def difference(
    metric: Metric,
    path: Path,
    submission: Submission,
    reference: Entry,
    form: SubmissionForm | None,
    folder: Path,
) -> tuple[str, Numbers | None]:
    """Return in words and numbers how a submission differs from a reference's file.

    Where they cannot be compared, the words say why and the numbers are None.
    """
    there = ledger.locate(reference, folder)
    if there is None:
        return f"{reference.file} does not exist any more with the content that was sent", None
    try:
        answers = align([path, there], [submission, read_submission(there, form)])
    except InputError as error:
        return f"{there} cannot be compared: {error}", None
    of_pair = changes(metric, answers[0], answers[1])
    return f"{there}: {describe(of_pair)}", {"file": str(there), **of_pair.to_json()}
