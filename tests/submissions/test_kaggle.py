"""Submissions to Kaggle through a client that is handed in: no network, no account."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hbcomp import lb
from hbcomp.scoring.metrics import ACCURACY
from hbcomp.submissions import FOLDER, kaggle, ledger
from hbcomp.submissions.files import Provenance, write_submission
from hbcomp.submissions.submit import ask, record, submit
from hbcomp.system.errors import InputError

NOON = datetime(2026, 11, 28, 12, 30, 15, 999)  # as the client has it, in UTC without saying so


@dataclass
class Sent:
    description: str
    public_score: str = ""
    status: str = "SubmissionStatus.PENDING"
    date: datetime = NOON
    error_description: str = ""


class FakeClient:
    COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE = "Upload failed"

    def __init__(self, says: Any = "Successfully submitted") -> None:
        self.says = says
        self.uploads: list[tuple[str, ...]] = []
        self.sent: list[Sent] = []

    def competition_submit(self, file_name, message, competition, quiet=False):
        if isinstance(self.says, BaseException):
            raise self.says
        self.uploads.append((file_name, message, competition))
        self.sent.insert(0, Sent(message))
        return type("Response", (), {"message": self.says})()

    def competition_submissions(self, competition):
        if isinstance(self.says, BaseException):
            raise self.says
        return self.sent


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    provenance = Provenance(
        "mine", "a run", "argmax", "accuracy", "higher", 0.9, 0.01, 100, 0.91, 0.8, 1.0
    )
    write_submission(FOLDER / "mine.csv", np.array(["a", "b"]), np.eye(2), provenance)
    return "submissions/mine.csv"


def send(client, file):
    console = Console(stderr=True, width=160)
    upload = partial(kaggle.upload, client, "titanic")
    find = (lambda *_: None, None, lambda _: ACCURACY, lambda _: None)
    return submit(file, *find, FOLDER, console, is_again=False, is_by_hand=False, upload=upload)


def entry():
    (found,) = ledger.read_ledger(FOLDER)
    return found


def test_a_submission_is_uploaded_with_a_message_by_which_its_score_is_found(written, capsys):
    client = FakeClient()
    send(client, written)
    sha256 = entry().sha256
    assert client.uploads == [(written, f"{sha256[:12]} mine, expected 0.91", "titanic")]
    assert "uploaded and marked as sent. Successfully submitted" in capsys.readouterr().err
    assert len(entry().times_sent) == 1
    with pytest.raises(InputError, match="already sent"):
        send(client, written)
    assert len(client.uploads) == 1


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("Upload failed", "Upload failed"),
        (RuntimeError("403 Forbidden"), "403 Forbidden"),
        (SystemExit(1), "1"),
    ],
)
def test_what_kaggle_does_not_take_is_not_marked_as_sent(written, says, words):
    with pytest.raises(InputError, match=f"Kaggle did not take it: {words}"):
        send(FakeClient(says), written)
    assert entry().times_sent == ()


def test_the_newest_score_is_recorded_in_the_ledger(written, monkeypatch):
    client = FakeClient()
    monkeypatch.setattr(kaggle, "connect", lambda: client)
    question = partial(ask, written, "titanic", lambda _: None, FOLDER, is_by_hand=False)
    with pytest.raises(InputError, match=r"none of the last 0 submissions begins its description"):
        question()
    send(client, written)
    with pytest.raises(InputError, match=r"no score for it yet \(submissionstatus.pending\)"):
        question()
    client.sent[0].public_score = "0.75"
    client.sent.append(Sent("somebody else's", "0.1"))
    assert question() == (0.75, NOON.replace(microsecond=0, tzinfo=UTC))
    find = (lambda _: ACCURACY, lambda _: None)
    options = {"is_correction": False, "is_by_hand": False, "force": True}
    record(written, *question(), *find, FOLDER, Console(stderr=True), **options)
    assert entry().leaderboard == 0.75
    client.says = RuntimeError("no network")
    with pytest.raises(InputError, match="titanic: Kaggle did not answer: no network"):
        question()


def test_a_score_is_given_or_asked_for():
    for words in ({}, {"score": 0.5, "kaggle": "titanic"}):
        with pytest.raises(InputError, match=r"give the SCORE .* or ask with --kaggle NAME"):
            lb.lb("mine.csv", **words)


def test_a_client_that_is_not_there_or_cannot_log_in_is_one_line(monkeypatch):
    import sys

    class Locked:
        def authenticate(self):
            raise SystemExit("no account")

    monkeypatch.setitem(sys.modules, "kaggle", None)
    with pytest.raises(InputError, match=r'not installed: pip install "hbcomp\[kaggle\]"'):
        kaggle.connect()
    monkeypatch.setitem(sys.modules, "kaggle", type("Package", (), {"KaggleApi": Locked}))
    with pytest.raises(InputError, match="Kaggle's client cannot log in: no account"):
        kaggle.connect()
