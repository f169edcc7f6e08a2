"""A real, headless Chromium that stays open: pages over HTTP that change while they are looked at, by the DevTools protocol."""

import json
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from tests.browser import CHROMIUM

_OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--hide-scrollbars", "--remote-debugging-port=0"),
]
START_S, WAIT_S = 60.0, 30.0


@dataclass(slots=True)
class Tab:
    """One page of the browser. ``console``: errors it wrote, and requests that its policy refused."""

    connection: ClientConnection
    number: int = 0
    console: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: object) -> dict[str, object]:
        """The answer of a DevTools method; what the page says meanwhile is listened to."""
        self.number += 1
        self.connection.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.connection.recv(timeout=WAIT_S))
            if message.get("id") == self.number:
                assert "error" not in message, message
                result: dict[str, object] = message["result"]
                return result
            self._listen(message)

    def _listen(self, message: dict[str, dict[str, object]]) -> None:
        if message["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.console.append(json.dumps(message["params"])[:600])

    def open(self, url: str, width: int, height: int = 900, *, is_phone: bool = False, is_dark: bool = False) -> None:
        """Go to a page in a window of this size."""
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.call("Page.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=is_phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)

    def ask(self, expression: str) -> object:
        """What a JavaScript expression is in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        result = answer["result"]
        assert isinstance(result, dict)
        return result.get("value")

    def wait_for(self, expression: str) -> None:
        """Until an expression is true in the page."""
        deadline = time.monotonic() + WAIT_S
        while not self.ask(f"document.readyState !== 'loading' && Boolean({expression})"):
            seen = self.ask("document.body ? document.body.innerText.slice(0, 600) : ''")
            assert time.monotonic() < deadline, f"{expression} never became true; the page shows: {seen}; {self.console}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """The text that is seen of an element."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """The window, or the whole page, as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(b64decode(str(answer["data"])))


@contextmanager
def open_browser(profile: Path) -> Iterator[Tab]:
    """A browser with one tab; it ends with the block."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with connect(_tab_address(profile), max_size=None) as connection:
                yield Tab(connection)
        finally:
            process.terminate()


def _tab_address(profile: Path) -> str:
    """Where the first tab is spoken to, once the browser has said on which port it listens."""
    from httpx import get

    file, deadline = profile / "DevToolsActivePort", time.monotonic() + START_S
    while not file.exists() or not file.read_text(encoding="utf-8").strip():
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.05)
    port = file.read_text(encoding="utf-8").split()[0]
    while True:
        tabs = [tab for tab in get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json() if tab["type"] == "page"]
        if tabs:
            return str(tabs[0]["webSocketDebuggerUrl"])
        assert time.monotonic() < deadline, "the browser has no page"
        time.sleep(0.05)
