"""Kaggle's leaderboard, through its own client, which knows the user's account."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from hbcomp.submissions.ledger import Entry
from hbcomp.system.errors import InputError

N_HASH: Final = 12  # digits of a file's sha256 in the message by which its score is found again
FAILED: Final = "COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE"  # the client's name of what it returns


@runtime_checkable  # the tests check types as they run
class Client(Protocol):
    """What is needed of `kaggle.KaggleApi`, once it is authenticated."""

    def competition_submit(
        self, file_name: str, message: str, competition: str, quiet: bool = False
    ) -> Any:
        """Upload a file; the response has a `message`."""

    def competition_submissions(self, competition: str) -> Sequence[Any] | None:
        """Return the user's submissions, newest first."""


def connect() -> Client:
    """Return the client of the installed package, authenticated as its documentation says."""
    try:
        from kaggle import KaggleApi

        client: Client = KaggleApi()
        client.authenticate()  # type: ignore[attr-defined]
    except ImportError as error:
        raise InputError(
            'Kaggle\'s client is not installed: pip install "hbcomp[kaggle]"'
        ) from error
    except (Exception, SystemExit) as error:  # it exits where there is no account
        raise InputError(f"Kaggle's client cannot log in: {error}") from error
    return client


def message_of(entry: Entry) -> str:
    """Return the description of a submission: the start of its hash, its source and its promise."""
    promise = "" if entry.expected is None else f", expected {entry.expected:.6g}"
    return f"{entry.sha256[:N_HASH]} {entry.source}{promise}"


def upload(client: Client, competition: str, path: Path, entry: Entry) -> str:
    """Upload a file and return what Kaggle says; a failure is an InputError."""
    try:
        response = client.competition_submit(str(path), message_of(entry), competition, quiet=True)
    except (Exception, SystemExit) as error:  # of the network, of the account, of the competition
        raise InputError(f"{path}: Kaggle did not take it: {error}") from error
    said = str(getattr(response, "message", "") or "")
    if said and said == getattr(client, FAILED, None):
        raise InputError(f"{path}: Kaggle did not take it: {said}")
    return said


def score_of(client: Client, competition: str, entry: Entry) -> tuple[float, datetime]:
    """Return the public score of a content and when it was sent; it is found by its message."""
    try:
        found = client.competition_submissions(competition) or ()
    except (Exception, SystemExit) as error:
        raise InputError(f"{competition}: Kaggle did not answer: {error}") from error
    sent = [each for each in found if str(each.description).startswith(entry.sha256[:N_HASH])]
    if not sent:
        raise InputError(
            f"{competition}: none of the last {len(found)} submissions begins its description with "
            f"{entry.sha256[:N_HASH]}; `hbcomp submit FILE --kaggle {competition}` sends it"
        )
    newest = sent[0]
    try:
        score = float(newest.public_score)
    except (TypeError, ValueError):
        status = str(getattr(newest.status, "name", newest.status)).lower()
        why = f": {newest.error_description}" if getattr(newest, "error_description", "") else ""
        raise InputError(f"{entry.file}: Kaggle has no score for it yet ({status}{why})") from None
    return score, newest.date.replace(tzinfo=newest.date.tzinfo or UTC, microsecond=0)
