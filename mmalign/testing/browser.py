"""Headless Chromium for tests, over DevTools messages on a pipe: no port, no driver, no package."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path
from select import select
from typing import Any

__all__ = ["Page", "find_browser", "open_page"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_TIME_LIMIT_S = 60.0
_KEY_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "ArrowRight": 39}


def find_browser() -> str | None:
    """Path of Chromium, where it is installed."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """An open tab."""

    to_browser: int
    from_browser: int
    session: str = ""
    errors: list[str] = field(default_factory=list)
    """Uncaught exceptions and error messages of the console so far."""
    requests: list[str] = field(default_factory=list)
    """Addresses that the page asked for, data: URIs left out."""
    _buffer: bytes = b""
    _loaded: set[str] = field(default_factory=set)
    _number: int = 0

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a DevTools method and wait for its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Load an address at a window size and wait until it is loaded."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        document = self.send("Page.navigate", url=url)["loaderId"]
        while document not in self._loaded:
            self._receive()

    def run(self, expression: str) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        result = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def wait_for(self, expression: str, *, limit_s: float = 20.0) -> Any:
        """Value of a JavaScript expression as soon as it is true, on whatever page is then open.

        Raises:
            TimeoutError: It stays false; says what the page has complained about.
        """
        deadline = time.monotonic() + limit_s
        while True:
            try:
                value = self.run(expression)
            except RuntimeError as error:  # a page that is just being replaced
                value = None
                problem = str(error)
            else:
                problem = f"is {value!r}"
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression}: {problem}; errors: {self.errors}")
            time.sleep(0.03)

    def click(self, selector: str) -> None:
        """Press the left button in the middle of an element, scrolled into view first."""
        x, y = self.run(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            "element.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const box = element.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, *, ctrl: bool = False) -> None:
        """Press and release a key, named as `KeyboardEvent.key` is."""
        event: dict[str, Any] = {"key": key, "modifiers": 2 if ctrl else 0}
        if code := _KEY_CODES.get(key):
            event["windowsVirtualKeyCode"] = code
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        if text and not ctrl:
            event["text"] = text
        self.send("Input.dispatchKeyEvent", type="keyDown", **event)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def write(self, text: str) -> None:
        """Put a text where the caret is."""
        self.send("Input.insertText", text=text)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the whole page or of the window."""
        result = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(result["data"]))

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + _TIME_LIMIT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select([self.from_browser], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self.from_browser, 1 << 20) if ready else b""
            if not piece:
                raise TimeoutError(f"Chromium said nothing for {_TIME_LIMIT_S:.0f} s or is gone")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith("data:"):
                self.requests.append(url)


@contextmanager
def open_page() -> Iterator[Page]:
    """A tab of a fresh Chromium, which ends with the block.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    browser = find_browser()
    if browser is None:
        raise FileNotFoundError(f"none of {', '.join(_NAMES)} is installed")
    browser_reads, to_browser = _high_pipe()
    from_browser, browser_writes = _high_pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = " ".join([*_FLAGS, f"--user-data-dir={profile}", "about:blank"])
        process = subprocess.Popen(  # noqa: S603  # the browser that was found, with our flags
            # Chromium reads from descriptor 3 and writes to 4; sh knows no descriptors above 9
            ["/bin/bash", "-c", f'exec "{browser}" {flags} 3<&{browser_reads} 4>&{browser_writes}'],
            pass_fds=(browser_reads, browser_writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(browser_reads)
        os.close(browser_writes)
        page = Page(to_browser, from_browser)
        try:
            target = page.send("Target.createTarget", url="about:blank")["targetId"]
            page.session = page.send("Target.attachToTarget", targetId=target, flatten=True)[
                "sessionId"
            ]
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.send(f"{domain}.enable")
            page.send("Page.setLifecycleEventsEnabled", enabled=True)
            yield page
        finally:
            process.terminate()
            process.wait(timeout=20)
            os.close(to_browser)
            os.close(from_browser)


def _high_pipe() -> tuple[int, int]:
    """A pipe's two ends, numbered so that they are not in the way of 3 and 4."""
    ends = os.pipe()
    reads, writes = (fcntl(end, F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return reads, writes
