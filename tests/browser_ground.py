"""A headless Chromium, steered over the protocol of its driver (W3C WebDriver, plain HTTP)."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import gevent
from gevent import subprocess
from network_ground import PATIENCE

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_WORDS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1100,900",
)  # fmt: skip


class Browser:
    """One window of it. What the page does of its own accord is waited for.

    Args:
        driver: The path of chromedriver.
        scripts: Whether pages may run JavaScript.
    """

    def __init__(self, driver: str, *, scripts: bool = True) -> None:
        # It makes a Unix socket there, whose path must be short.
        self._folder = tempfile.TemporaryDirectory(prefix="ed-browser-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        self._log = (folder / "driver.log").open("w+")
        self._process = subprocess.Popen(
            [driver, "--port=0"],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
            start_new_session=True,
        )
        self._session = ""
        try:
            self._base = f"http://127.0.0.1:{self._port()}"
            options: dict[str, Any] = {"args": [*_WORDS, f"--user-data-dir={folder}/profile"]}
            if not scripts:
                content = {"profile.managed_default_content_settings.javascript": 2}
                options["prefs"] = content
            wanted = {"browserName": "chrome", "goog:chromeOptions": options}
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser and its driver."""
        try:
            if self._session:
                self._call("DELETE", self._session)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._log.close()
            self._folder.cleanup()

    def _port(self) -> int:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            self._log.seek(0)
            if found := re.search(r"started successfully on port (\d+)", self._log.read()):
                return int(found[1])
            _pause()
        self._log.seek(0)
        raise AssertionError(f"the driver has not started: {self._log.read()}")

    def _call(self, method: str, path: str, fields: Any = None) -> Any:
        data = None if method == "GET" else json.dumps(fields or {}).encode()
        request = urllib.request.Request(self._base + path, data, method=method)
        request.add_header("Content-Type", "application/json")

        def ask() -> tuple[bool, Any]:
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                    return True, json.load(answer)["value"]
            except urllib.error.HTTPError as error:
                with error:
                    return False, json.load(error)["value"]["message"]

        # In a thread: the page is served by this very process.
        is_done, value = gevent.get_hub().threadpool.apply(ask)
        assert is_done, value
        return value

    # --- what a person does -----------------------------------------------------------------------

    def open(self, address: str) -> None:
        """Goes to a page, and waits until it is there."""
        self._call("POST", f"{self._session}/url", {"url": address})

    def find(self, css: str) -> str:
        """Gives the number of an element, which must be there."""
        fields = {"using": "css selector", "value": css}
        found: str = self._call("POST", f"{self._session}/element", fields)[_ELEMENT]
        return found

    def text(self, css: str) -> str:
        """Gives the text of an element, as it is seen."""
        found: str = self._call("GET", f"{self._session}/element/{self.find(css)}/text")
        return found

    def click(self, css: str) -> None:
        """Clicks."""
        self._call("POST", f"{self._session}/element/{self.find(css)}/click")

    def write(self, css: str, text: str) -> None:
        """Writes into a field, in place of what is there."""
        element = f"{self._session}/element/{self.find(css)}"
        self._call("POST", f"{element}/clear")
        self._call("POST", f"{element}/value", {"text": text})

    def read(self, expression: str) -> Any:
        """Gives the value of an expression of JavaScript."""
        fields = {"script": f"return {expression}", "args": []}
        return self._call("POST", f"{self._session}/execute/sync", fields)

    def wait(self, css: str, text: str) -> None:
        """Waits until the element has this text in it."""
        end = time.monotonic() + PATIENCE
        seen = ""
        while time.monotonic() < end:
            try:
                seen = self.text(css)
            except AssertionError as error:  # it is exchanged for another one just now
                seen = str(error)
            if text in seen:
                return
            _pause()
        raise AssertionError(f"{css}: {text!r} was expected, not {seen!r}")

    def screenshot(self, path: Path) -> None:
        """Writes what is seen as a PNG file."""
        data = self._call("GET", f"{self._session}/screenshot")
        path.write_bytes(base64.b64decode(data))


def _pause() -> None:
    # Between two looks at another program, which tells of nothing by itself.
    gevent.sleep(0.02)
