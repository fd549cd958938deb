"""A headless Chromium that opens a page and is clicked and typed into, over DevTools' pipe."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import BinaryIO

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --remote-debugging-pipe"
)
# DevTools' pipe is file descriptors 3 and 4 of the browser.
LAUNCH = """
import fcntl, os, sys
pipe = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(pipe[0], 3), os.dup2(pipe[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """An open page: real mouse and keyboard events, and questions to its document."""

    def __init__(self, to_browser: int, from_browser: BinaryIO) -> None:
        self._to, self._from = to_browser, from_browser
        self._numbers, self._session = count(1), None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._ask("Page.enable")

    def _ask(self, method: str, **params: object) -> dict:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._next(lambda answer: answer.get("id") == number)["result"]

    def _next(self, is_wanted) -> dict:
        while True:
            answer = json.loads(self._message())
            if is_wanted(answer):
                return answer

    def _message(self) -> bytes:
        # One byte at a time from a buffered pipe: messages end with a zero byte.
        return b"".join(iter(lambda: self._from.read(1), b"\0"))

    def open(self, url: str, width: int = 1300) -> None:
        """Open a page of that width, and wait until it is loaded."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        self._ask("Page.navigate", url="about:blank")
        self._next(lambda answer: answer.get("method") == "Page.loadEventFired")
        self._ask("Page.navigate", url=url)
        self._next(lambda answer: answer.get("method") == "Page.loadEventFired")

    def value(self, expression: str) -> object:
        """Return the value of a JavaScript expression."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, element: str) -> None:
        """Click on the middle of the element that a JavaScript expression gives."""
        box = self.value(
            f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}}); "
            "const r = e.getBoundingClientRect(); "
            "return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self._ask("Input.dispatchMouseEvent", type=kind, **where)

    def type(self, text: str) -> None:
        """Type text into what has the focus."""
        self._ask("Input.insertText", text=text)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._ask("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **about)


@contextmanager
def chromium(profile) -> Iterator[Page]:
    """Yield a page of a browser whose profile lies in the folder `profile`."""
    read_by_it, to_browser = os.pipe()
    from_browser, written_by_it = os.pipe()
    words = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(read_by_it), str(written_by_it), *words],
        pass_fds=(read_by_it, written_by_it),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_by_it)
    os.close(written_by_it)
    try:
        with os.fdopen(from_browser, "rb") as answers:
            yield Page(to_browser, answers)
    finally:
        process.terminate()
        process.wait()
        os.close(to_browser)
