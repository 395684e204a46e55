"""A headless Chromium, driven by its DevTools protocol through a pipe: no package, no port, no download.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """The program, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A browser without a window. Close it."""

    def __init__(self, *flags: str) -> None:
        program = chromium()
        assert program
        self._profile = tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True)
        their_input, self._to = os.pipe()
        self._from, their_output = os.pipe()
        # Chromium reads commands from file descriptor 3 and writes to 4.
        place = f'exec "$@" 3<&{their_input} 4>&{their_output}'
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                place,
                "bash",
                program,
                *FLAGS,
                *flags,
                f"--user-data-dir={self._profile.name}",
                "about:blank",
            ],
            pass_fds=(their_input, their_output),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_input)
        os.close(their_output)
        self._messages: queue.Queue[Mapping[str, Any]] = queue.Queue()
        self._number = 0
        self.events: list[Mapping[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def call(self, method: str, session: str | None = None, timeout: float = 60, **parameters: Any) -> Any:
        """A command of the protocol; its result. ``AssertionError`` with what the browser says is wrong."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + timeout
        while True:
            try:
                found = self._messages.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"{method}: no answer in {timeout} s") from None
            if found.get("id") == self._number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]
            self.events.append(found)

    @contextlib.contextmanager
    def page(self, before: str = "", **size: Any) -> Iterator[Page]:
        """A new tab with cookies of its own; ``before`` runs before any script of a page that it opens."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable", session)
        if before:
            self.call("Page.addScriptToEvaluateOnNewDocument", session, source=before)
        if size:
            metrics = {"width": 1000, "height": 1400, "deviceScaleFactor": 1, "mobile": False, **size}
            self.call("Emulation.setDeviceMetricsOverride", session, **metrics)
        try:
            yield Page(self, session, context)
        finally:
            self.call("Target.closeTarget", targetId=target)
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def close(self) -> None:
        """Ends it, and what it started."""
        with contextlib.suppress(OSError, TimeoutError, AssertionError):
            self.call("Browser.close", timeout=10)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        self._profile.cleanup()

    def _read(self) -> None:
        with os.fdopen(self._from, "rb") as source:
            rest = b""
            while chunk := source.read1(1 << 16):
                *whole, rest = (rest + chunk).split(b"\0")
                for message in whole:
                    self._messages.put(json.loads(message))


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self.browser, self.session, self.context = browser, session, context

    def call(self, method: str, **parameters: Any) -> Any:
        return self.browser.call(method, self.session, **parameters)

    def open(self, address: str, ready: str, timeout: float = 60) -> None:
        """Go there, and wait until an expression is true."""
        self.call("Page.navigate", url=address)
        self.wait(ready, timeout)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, timeout: float = 60) -> None:
        end = time.monotonic() + timeout
        while not self.value(expression):
            assert time.monotonic() < end, f"not in {timeout} s: {expression}; the page: {self.text()[:2000]}"
            time.sleep(0.05)

    def text(self) -> str:
        return self.value("document.body.innerText")

    def give(self, selector: str, *files: Path) -> None:
        """Choose files for an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def requests(self) -> list[str]:
        """Every address that was asked for, those of its workers included."""
        self.value("1")  # all events before this answer are here
        told = [one for one in self.browser.events if one.get("method") == "Network.requestWillBeSent"]
        return [one["params"]["request"]["url"] for one in told if one["sessionId"] == self.session]

    def complaints(self) -> list[str]:
        """What the console says of errors."""
        self.value("1")
        found = []
        for one in self.browser.events:
            if one.get("sessionId") != self.session:
                continue
            if one["method"] == "Runtime.exceptionThrown":
                found.append(str(one["params"]["exceptionDetails"]))
            if one["method"] == "Log.entryAdded" and one["params"]["entry"]["level"] == "error":
                found.append(one["params"]["entry"]["text"])
        return found

    def cookies(self) -> list[Any]:
        return self.browser.call("Storage.getCookies", browserContextId=self.context)["cookies"]

    def picture(self, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of all of it."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])
