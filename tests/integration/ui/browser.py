"""A headless Chromium driven over its own protocol: what a person sees and does, and screenshots of it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from websockets.sync.client import ClientConnection, connect

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
]

# Finds the innermost visible element of a CSS selector that shows, or is labelled with, a text.
FIND = """
(function (selector, text) {
  const words = (e) => [e.innerText, e.getAttribute("aria-label"), e.getAttribute("title"), e.placeholder, e.value];
  const shows = (e) => words(e).some((w) => w && String(w).trim() === text);
  const visible = (e) => { const b = e.getBoundingClientRect(); return b.width > 0 && b.height > 0; };
  const found = [...document.querySelectorAll(selector)].filter((e) => visible(e) && (text === null || shows(e)));
  return found.find((e) => !found.some((other) => other !== e && e.contains(other))) || null;
})
"""


class Browser:
    """A browser with one page, as a context manager."""

    def __init__(self, executable: str, folder: Path, screenshots: Path) -> None:
        self.executable = executable
        self.folder = folder
        self.screenshots = screenshots
        self._sent = 0
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        command = [self.executable, *FLAGS, f"--user-data-dir={self.folder}", "about:blank"]
        self._log = (self.folder / "chromium.log").open("wb")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, start_new_session=True)
        try:
            self._connection = self._connect()
        except BaseException:
            self._end()
            raise
        for domain in ("Page", "Runtime"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=1500, height=900, deviceScaleFactor=1, mobile=False)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # it may have crashed; then there is nothing to close
            self.send("Browser.close")
            self._opened.close()
        self._end()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the protocol and return its result."""
        self._sent += 1
        self._connection.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=60))
            if answer.get("id") == self._sent:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def open(self, url: str) -> None:
        """Go to an address and wait until its document is loaded."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'", 60)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def _holds(self, expression: str) -> bool:
        """Say whether an expression is true; a page that is just being left has no answer."""
        try:
            return bool(self.evaluate(f"Boolean({expression})"))
        except AssertionError:
            return False

    def until(self, expression: str, seconds: float = 30) -> None:
        """Wait until a JavaScript expression is true; on failure there is a screenshot of what was there instead."""
        end = time.monotonic() + seconds
        while not self._holds(expression):
            if time.monotonic() > end:
                picture = self.screenshot("failed")
                message = f"not within {seconds:.0f} s on {self.address}: {expression[-200:]}; see {picture}"
                raise TimeoutError(message)
            time.sleep(0.1)

    def until_text(self, text: str, seconds: float = 30) -> None:
        """Wait until the page shows a text."""
        self.until(f"document.body.innerText.includes({json.dumps(text)})", seconds)

    def click(self, selector: str, text: str | None = None, seconds: float = 30) -> None:
        """Click with the mouse on the element that shows, or is labelled with, just this text."""
        self.until(_find(selector, text), seconds)
        x, y = self._middle(selector, text)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def fill(self, selector: str, value: str, seconds: float = 30) -> None:
        """Replace what an input holds, with the keyboard."""
        self.until(_find(selector, None), seconds)
        self.evaluate(f"(e => {{ e.focus(); e.select && e.select(); }})({_find(selector, None)})")
        self.send("Input.insertText", text=value)
        self.until(f"{_find(selector, None)}.value === {json.dumps(value)}", 10)
        self.evaluate(f"{_find(selector, None)}.blur()")

    def screenshot(self, name: str) -> Path:
        """Write ``<name>.png`` into the folder of screenshots."""
        path = self.screenshots / f"{name}.png"
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        return path

    @property
    def address(self) -> str:
        """The address of the page."""
        return str(self.evaluate("location.href"))

    @property
    def text(self) -> str:
        """All text that the page shows."""
        return str(self.evaluate("document.body.innerText"))

    def _middle(self, selector: str, text: str | None) -> tuple[float, float]:
        self.evaluate(f"{_find(selector, text)}.scrollIntoView({{block: 'center', inline: 'center'}})")
        box = self.evaluate(
            f"(e => {{ const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }})"
            f"({_find(selector, text)})"
        )
        return box[0] + box[2] / 2, box[1] + box[3] / 2

    def _connect(self) -> ClientConnection:
        port_file = self.folder / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert self._process.poll() is None, f"chromium ended; see {self.folder / 'chromium.log'}"
            assert time.monotonic() < end, "chromium did not start within 60 seconds"
            time.sleep(0.05)
        port = port_file.read_text().splitlines()[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            page = next(target for target in json.load(answer) if target["type"] == "page")
        return self._opened.enter_context(connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None))

    def _end(self) -> None:
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait(10)
        self._log.close()


def executable() -> str:
    """Return the path of a Chromium."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))


def _find(selector: str, text: str | None) -> str:
    return f"{FIND.strip()}({json.dumps(selector)}, {json.dumps(text)})"
