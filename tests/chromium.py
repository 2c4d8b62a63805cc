"""A real browser for tests, driven through chromedriver's W3C protocol over loopback.

A pytest plugin, named in `conftest.py`.
"""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
]
ESCAPE, RIGHT, SHIFT = "\ue00c", "\ue014", "\ue008"


class Browser:
    """A session of chromedriver; only what these tests need."""

    def __init__(self, address: str, profile: Path) -> None:
        self.address = address
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{session['sessionId']}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.address + path, data=data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def open(self, page: Path) -> None:
        self._call("POST", f"{self.session}/url", {"url": page.as_uri()})

    def js(self, script: str, *arguments: Any) -> Any:
        return self._call("POST", f"{self.session}/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any) -> Any:
        """Run `script` until it answers something true; the last answer."""
        for _ in range(50):
            if answer := self.js(script, *arguments):
                return answer
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}")

    def download_to(self, folder: Path) -> None:
        settings = {"behavior": "allow", "downloadPath": str(folder)}
        command = {"cmd": "Browser.setDownloadBehavior", "params": settings}
        self._call("POST", f"{self.session}/goog/cdp/execute", command)

    def press_with_shift(self, *keys: str) -> None:
        self._keys(
            [("keyDown", SHIFT), *((kind, key) for key in keys for kind in ("keyDown", "keyUp")), ("keyUp", SHIFT)]
        )

    def press(self, *keys: str) -> None:
        self._keys([(kind, key) for key in keys for kind in ("keyDown", "keyUp")])

    def _keys(self, strokes: list[tuple[str, str]]) -> None:
        actions = [{"type": kind, "value": key} for kind, key in strokes]
        sequence = [{"type": "key", "id": "keyboard", "actions": actions}]
        self._call("POST", f"{self.session}/actions", {"actions": sequence})

    def hover(self, selector: str) -> None:
        element = self._call("POST", f"{self.session}/element", {"using": "css selector", "value": selector})
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        # Two frames: the page is laid out and its scroll events have been told before the pointer moves.
        self.js("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        moves = [
            {"type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0} for origin in ("viewport", element)
        ]
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": moves}
        self._call("POST", f"{self.session}/actions", {"actions": [pointer]})

    def console(self) -> list[str]:
        entries = self._call("POST", f"{self.session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def set_value(self, selector: str, value: str | float, event: str = "input") -> None:
        self.js(
            "const node = document.querySelector(arguments[0]); node.value = arguments[1];"
            "node.dispatchEvent(new Event(arguments[2], {bubbles: true}))",
            selector,
            value,
            event,
        )

    def close(self) -> None:
        self._call("DELETE", self.session)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM or not CHROMEDRIVER:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    driver = subprocess.Popen([CHROMEDRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert driver.stdout is not None
        port = next((m[1] for line in driver.stdout if (m := re.search(r"successfully on port (\d+)", line))), None)
        assert port, "chromedriver did not start"
        session = Browser(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("profile"))
        try:
            yield session
        finally:
            session.close()
    finally:
        driver.terminate()
        driver.wait(10)


def role_counts(page: Browser) -> dict[str, int]:
    counts = page.js(
        "return Object.fromEntries([...document.querySelectorAll('#legend tbody tr')]"
        ".map(row => [row.dataset.role, row.cells[1].textContent]))"
    )
    return {role: int(count.replace(",", "")) for role, count in counts.items()}
