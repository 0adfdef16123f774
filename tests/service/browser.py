"""A real browser, and a real server beside it: what the tests of the page drive."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

__all__ = ["Seen", "chromium", "expect", "launched", "serving"]

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECONDS = 60
"""That anything may take: machines of a test farm are slow, and no verdict is about time."""


def chromium() -> str | None:
    """Give the path of the browser, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def launched() -> Iterator[Browser]:
    """Start the browser."""
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        yield browser
        browser.close()


@contextmanager
def serving(store: Path | str, *options: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run ``ipstore serve``, and give its address and its process."""
    command = [sys.executable, "-m", "ipstore", "serve", str(store), "--port", "0", *options]
    with (
        tempfile.NamedTemporaryFile("w+") as said,
        subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment
        ) as server,
    ):
        try:
            deadline = time.monotonic() + SECONDS
            while not (found := re.search(r" is at (http://\S+?);", Path(said.name).read_text())):
                assert server.poll() is None, Path(said.name).read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield found[1], server
        finally:
            server.terminate()
            server.wait(SECONDS)


@dataclass
class Seen:
    """A page in the browser, with all that it asked for and complained of."""

    page: Page
    asked: list[str]
    errors: list[str]

    @classmethod
    def of(cls, browser: Browser, url: str, **choice: str | int) -> "Seen":
        """Open a page, and wait until it is there."""
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(SECONDS * 1000)
        seen = cls(page, [], [])
        page.on("request", seen._request)
        page.on("console", seen._console)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        query = "&".join(f"{name}={quote(str(value))}" for name, value in choice.items())
        page.goto(f"{url}?{query}" if query else url)
        expect(page.locator("#sidebar")).to_be_visible()
        return seen

    def tab(self, name: str) -> None:
        """Turn to a tab."""
        self.page.locator(".bk-tab", has_text=re.compile(f"^{name}$")).click()

    def figures(self, number: int) -> None:
        """Wait until so many figures are drawn."""
        expect(self.page.locator(".bk-Figure:visible")).to_have_count(number)

    def shot(self, folder: Path, name: str) -> None:
        """Keep a picture."""
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(folder / f"{name}.png"))

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)
