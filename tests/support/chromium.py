"""Drives Debian's headless chromium over its DevTools pipe, and collects what its console reports.

Source: https://chromedevtools.github.io/devtools-protocol/ (messages), and chromium's
``--remote-debugging-pipe``: it reads commands from descriptor 3 and writes to descriptor 4, each
message followed by a NUL.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
_TIMEOUT = 60.0


@dataclass
class BrowserPage:
    """A page in a browser. ``problems`` are errors and warnings of its console and its scripts."""

    commands: int
    messages: int
    problems: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    _session: str = ""
    _last: int = 0
    _read: bytes = b""
    _events: list[str] = field(default_factory=list)

    def attach(self) -> None:
        """Attach to a new page, and listen to its console and network."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, page: Path) -> None:
        """Open a file and wait until it is loaded."""
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        self._wait(lambda: "Page.loadEventFired" in self._events)

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression, after its promise if it is one."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int = 0) -> None:
        """Press a key, by its name and its virtual key code."""
        about = {"key": key, "windowsVirtualKeyCode": code}
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def emulate(self, width: int, height: int, scheme: str = "light", media: str = "") -> None:
        """Set the size of the view, and whether the user prefers light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def screenshot(self, file: Path) -> None:
        """Write what is in view as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(data))

    def print_pdf(self) -> bytes:
        """Return the page as it is printed."""
        data = self.call("Page.printToPDF", printBackground=True)["data"]
        return base64.b64decode(data)

    def call(self, method: str, **params: object) -> Mapping[str, Any]:
        """Send a command and return its result."""
        self._last += 1
        message: dict[str, object] = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self.commands, left) :]
        answer: dict[str, Any] = {}

        def is_answered() -> bool:
            return bool(answer)

        self._wait(is_answered, answer)
        assert "error" not in answer, (method, answer["error"])
        result = answer["result"]
        assert isinstance(result, dict)
        return result

    def _wait(self, is_done: Any, answer: dict[str, Any] | None = None) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while not is_done():
            ready, _, _ = select.select([self.messages], [], [], deadline - time.monotonic())
            assert ready, "chromium does not answer"
            data = os.read(self.messages, 1 << 20)
            assert data, "chromium has ended"
            *whole, self._read = (self._read + data).split(b"\0")
            for each in map(json.loads, whole):
                if answer is not None and each.get("id") == self._last:
                    answer.update(each)
                elif "method" in each:
                    self._note(each["method"], each["params"])

    def _note(self, method: str, params: Mapping[str, Any]) -> None:
        self._events.append(method)
        match method:
            case "Runtime.exceptionThrown":
                self.problems.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.loaded.append(params["request"]["url"])


@contextmanager
def browser_page(folder: Path) -> Iterator[BrowserPage]:
    """Start chromium with an empty profile in the folder, and end it afterwards."""
    assert CHROMIUM, "chromium is not installed"
    to_browser, commands = os.pipe()
    messages, from_browser = os.pipe()
    process = subprocess.Popen(
        [
            "bash",  # dash has no descriptors above 9
            *("-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash"),
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={folder}"),
        ],
        pass_fds=(to_browser, from_browser),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    os.close(to_browser)
    os.close(from_browser)
    page = BrowserPage(commands, messages)
    try:
        page.attach()
        yield page
        page._session = ""
        page.call("Browser.close")
        process.wait(_TIMEOUT)
    finally:
        os.close(commands)
        os.close(messages)
        if process.poll() is None:
            process.kill()
            process.wait()
