"""The page in a real browser, over a real server, beside a real capture.

Pictures of every view are kept: in the folder that the environment names as IPSTORE_SHOTS, or in that of the test.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipstore.analysis import analyze, analyze_bound
from ipstore.trainers import TrainConfig, capture, tasks
from tests.service.browser import SECONDS, Seen, chromium, expect, launched, serving
from tests.service.waiting import eventually

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(chromium() is None, reason="needs the browser chromium"),
]

if chromium() is not None:
    from playwright.sync_api import Browser, Locator, Page, WebSocketRoute


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of the paper with two estimates and their bound, and another run."""
    store = tmp_path_factory.mktemp("browser") / "runs.zarr"
    task = tasks.load("rule", signed=True, information=0.99)
    config = TrainConfig(hidden=(10, 7, 5, 4, 3), epochs=60, learning_rate=0.2, batch_size=512)
    capture(task, store, "tanh", config, seeds=(0, 1, 2, 3), level="codes", processes=0)
    capture(task, store, "small", TrainConfig(hidden=(4, 3), epochs=10), seeds=(0, 1), processes=0)
    analyze(store, "tanh", "binned", bins=30)
    analyze(store, "tanh", "binned", bins=10)
    analyze_bound(store, "tanh", "binned", every=60)
    return store


@pytest.fixture(scope="module")
def url(made: Path) -> Iterator[str]:
    with serving(made) as (url, _):
        yield url


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    return Path(os.environ.get("IPSTORE_SHOTS", tmp_path))


def epoch(seen: Seen) -> int:
    found = re.search(r"epoch ([\d,]+) of", seen.page.get_by_text(re.compile(r"^epoch [\d,]+ of")).inner_text())
    assert found, "the page says which epoch it shows"
    return int(found[1].replace(",", ""))


def slider(seen: Seen) -> "Locator":
    return seen.page.locator('input[type="range"]')


def expect_words(seen: Seen, words: str) -> None:
    expect(seen.page.locator("#main")).to_contain_text(words)


def test_every_view_and_no_foreign_host(browser: "Browser", url: str, shots: Path) -> None:
    seen = Seen.of(browser, url, run="tanh")
    seen.figures(1)
    seen.shot(shots, "plane")
    seen.tab("Dynamics")
    seen.figures(6)
    seen.shot(shots, "dynamics")
    seen.tab("Bound")
    expect(seen.page.locator(".bk-Figure:visible").first).to_be_visible()
    seen.shot(shots, "bound")
    seen.tab("Activations")
    expect(seen.page.locator(".bk-Figure:visible").first).to_be_visible()
    seen.shot(shots, "activations")
    seen.tab("Analyse")
    expect_words(seen, "Analyses")
    seen.shot(shots, "analyse")
    seen.tab("Runs")
    expect(seen.page.locator(".tabulator-row")).to_have_count(2)
    seen.shot(shots, "runs")
    foreign = [each for each in seen.asked if not each.startswith((url, url.replace("http", "ws"), "data:", "blob:"))]
    assert foreign == []
    assert seen.errors == []


def test_the_slider_by_keyboard_and_layers_by_mouse(browser: "Browser", url: str) -> None:
    seen = Seen.of(browser, url, run="tanh")
    seen.figures(1)
    expect_words(seen, "epoch 60 of 60")
    slider(seen).focus()
    seen.page.keyboard.press("ArrowLeft")
    expect_words(seen, "epoch 59 of 60")
    seen.page.keyboard.press("Home")
    expect_words(seen, "epoch 0 of 60")
    seen.page.get_by_label("layer3").uncheck()
    expect(seen.page.get_by_label("layer3")).not_to_be_checked()
    assert epoch(seen) == 0
    assert seen.errors == []


def test_a_run_is_chosen_in_the_table(browser: "Browser", url: str) -> None:
    seen = Seen.of(browser, url, run="tanh", tab="Runs")
    seen.page.locator('.tabulator-row:has-text("small") input[type="checkbox"]').check()
    expect(seen.page.locator("#sidebar")).to_contain_text("small: finished, epoch 10, 2 seeds")


def test_what_an_address_gets_wrong_is_said(browser: "Browser", url: str) -> None:
    seen = Seen.of(browser, url, run="<img src=x>", epoch="no")
    expect_words(seen, "There is no run '<img src=x>' in this store. epoch must be a whole number")
    seen.figures(1)


def test_an_analysis_appears_in_every_browser(browser: "Browser", made: Path, tmp_path: Path, shots: Path) -> None:
    with serving(shutil.copytree(made, tmp_path / "runs.zarr")) as (url, _):
        one, other = (Seen.of(browser, url, run="small", tab="Analyse") for _ in range(2))
        expect_words(one, "No estimate of small is stored yet")
        one.page.get_by_label("bins", exact=True).fill("-3")
        one.page.get_by_role("button", name="Analyse", exact=True).click()
        expect_words(one, "bins must be")
        one.page.get_by_label("bins", exact=True).fill("7")
        one.page.get_by_role("button", name="Analyse", exact=True).click()
        for seen in (one, other):
            expect_words(seen, "small · binned:bins=7: finished · stored as binned-")
        one.shot(shots, "analysed")
        other.tab("Plane")
        other.figures(1)
        expect(other.page.locator("#sidebar")).to_contain_text("binned (bins=7")


def test_nothing_is_lost_that_changes_while_a_browser_fetches_the_page(
    browser: "Browser", made: Path, tmp_path: Path
) -> None:
    with serving(shutil.copytree(made, tmp_path / "runs.zarr")) as (url, _):
        held = Held(browser.new_page())
        held.page.goto(f"{url}?run=small&tab=Analyse")
        eventually(held.has_fetched, SECONDS)
        quick = Seen.of(browser, url, run="small")
        quick.page.get_by_role("button", name="Estimate with binned").click()
        quick.figures(1)
        held.release()
        expect(held.page.locator("#main")).to_contain_text("small · binned: finished · stored as binned-")


class Held:
    """A page whose browser has fetched the document, and does not say so to the server until it is released."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.kept: list[str | bytes] = []
        self._passed = 0
        self._is_held = True
        page.route_web_socket(re.compile(".*"), self._connect)

    def has_fetched(self) -> bool:
        self.page.wait_for_timeout(50)  # in which what the page asked for is heard of
        return bool(self.kept)

    def release(self) -> None:
        self._is_held = False
        for message in self.kept:
            self._server.send(message)

    def _connect(self, socket: "WebSocketRoute") -> None:
        self._server = socket.connect_to_server()
        socket.on_message(self._pass)

    def _pass(self, message: str | bytes) -> None:
        """Let the request for the document pass, which has three parts, and nothing after it."""
        self._passed += 1
        if self._passed <= 3 or not self._is_held:
            self._server.send(message)
        else:
            self.kept.append(message)


def test_a_live_capture_is_followed_and_its_death_is_survived(browser: "Browser", tmp_path: Path, shots: Path) -> None:
    store = tmp_path / "runs.zarr"
    command = [sys.executable, "-m", "ipstore", "capture", "rule:signed=true", str(store), "--run", "live"]
    command += ["--epochs", "100000", "--seeds", "2", "--level", "codes", "--hidden", "4-3", "--processes", "0"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as training:
        try:
            with serving(_when_there(store, training)) as (url, _):
                seen = Seen.of(browser, url)
                expect(seen.page.locator("#sidebar")).to_contain_text("live: ● live")
                seen.page.get_by_role("button", name="Estimate with binned").click()
                seen.figures(1)
                before = epoch(seen)
                expect(seen.page.locator("#main")).not_to_contain_text(f"epoch {before:,} of {before:,}")
                seen.shot(shots, "live")
                training.send_signal(signal.SIGKILL)
                training.wait(SECONDS)
                expect(seen.page.locator("#sidebar")).to_contain_text("live: stopped without a word")
                shutil.rmtree(store / "live")
                expect(seen.page.locator("#sidebar")).to_contain_text("gone from the store")
                seen.figures(1)
                assert seen.errors == []
        finally:
            training.kill()


def _when_there(store: Path, training: "subprocess.Popen[bytes]") -> Path:
    """Wait until a capture has made its run."""

    def is_there() -> bool:
        assert training.poll() is None
        return (store / "live" / "zarr.json").exists()

    eventually(is_there, SECONDS)
    return store
