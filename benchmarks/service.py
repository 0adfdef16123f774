"""The page of a store in a real browser: its first plot, its slider, and what each page takes of the server's memory.

Run: ``python -m benchmarks.service [--live] [STORE]``, with a store of 20 seeds and 2000 epochs that has an estimate
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from ipstore.analysis import analyze
from ipstore.trainers import TrainConfig, capture, tasks
from tests.service.browser import Seen, launched, serving

CLIENTS = 20
MOVES = 30


def first_plot(browser: Any, url: str) -> float:
    """Seconds from asking for the page until a figure is in it."""
    page = browser.new_page()
    begun = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(".bk-Figure canvas", state="attached")
    seconds = time.perf_counter() - begun
    page.close()
    return seconds


_COUNTED = """
() => {
  window.drawn = 0
  for (const document of Bokeh.documents)
    for (const model of document._all_models.values())
      if (model.type === "ColumnDataSource" && model.data.seed !== undefined)
        model.properties.data.change.connect(() => { window.drawn += 1 })
}
"""

_MOVED = """
async (keys) => {
  const slider = () => {
    const walk = (root) => {
      for (const element of root.querySelectorAll("*")) {
        if (element.matches('input[type="range"]')) return element
        const found = element.shadowRoot && walk(element.shadowRoot)
        if (found) return found
      }
    }
    return walk(document)
  }
  const sources = []
  for (const document of Bokeh.documents)
    for (const model of document._all_models.values())
      if (model.type === "ColumnDataSource" && model.data.seed !== undefined) sources.push(model)
  const range = slider(), taken = []
  for (let move = 0; move < keys; move++) {
    const begun = performance.now()
    const drawn = new Promise((done) => {
      const heard = () => { sources[0].properties.data.change.disconnect(heard); requestAnimationFrame(() => done()) }
      sources[0].properties.data.change.connect(heard)
    })
    range.value = String(Number(range.value) - 1)
    range.dispatchEvent(new Event("change"))
    await drawn
    taken.push(performance.now() - begun)
  }
  return taken
}
"""


def redraws(page: Any, moves: int = MOVES) -> list[float]:
    """Milliseconds from a move of the slider until the points that it moves are drawn."""
    taken: list[float] = page.evaluate(_MOVED, moves)
    return taken


def opened(browser: Any, url: str) -> Any:
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector(".bk-Figure canvas", state="attached")
    return page


def live(folder: Path) -> list[tuple[str, str, str, str]]:
    """What twenty browsers at once see of a run that is being captured."""
    store = folder / "live.zarr"
    # It gives way to all else, as if it were trained elsewhere: browsers, server and training share two processors.
    command = ["nice", "-n", "19", sys.executable, "-m", "ipstore", "capture", "rule:signed=true,information=0.99"]
    command += [str(store), "--run", "live", "--epochs", "100000", "--seeds", "20", "--level", "codes"]
    with subprocess.Popen([*command, "--processes", "0"], stderr=subprocess.DEVNULL) as training:
        try:
            while not (store / "live" / "zarr.json").exists():
                assert training.poll() is None
                time.sleep(0.1)
            with launched() as browser, serving(store) as (url, server):
                first = browser.new_page()
                first.goto(url)
                first.get_by_role("button", name="Estimate with binned").click()
                first.wait_for_selector(".bk-Figure canvas", state="attached")
                pages = [Seen.of(browser, url) for _ in range(CLIENTS)]
                for seen in pages:
                    seen.page.wait_for_selector(".bk-Figure canvas", state="attached")
                process = psutil.Process(server.pid)
                before = process.memory_info().rss
                for seen in pages:
                    seen.page.evaluate(_COUNTED)
                begun = [last_epoch(seen.page) for seen in pages]
                for seen in pages:  # all at once: each goes on by itself
                    seen.page.evaluate(f"() => {{ window.moves = ({_MOVED})({MOVES}) }}")
                moves = [taken for seen in pages for taken in seen.page.evaluate("() => window.moves")]
                time.sleep(60)
                grown = [last_epoch(seen.page) - epoch for seen, epoch in zip(pages, begun, strict=True)]
                drawn = [seen.page.evaluate("() => window.drawn") for seen in pages]
                memory = (process.memory_info().rss - before) / 2**20
                errors = [error for seen in pages for error in seen.errors]
        finally:
            training.kill()
    what = f"{CLIENTS} browsers, a run that is being captured beside them"
    return [
        ("slider to redraw, median, all moving theirs", what, "<= 1 s", f"{statistics.median(moves):.0f} ms"),
        ("slider to redraw, slowest", what, "", f"{max(moves):.0f} ms"),
        ("epochs that came to the last of them in a minute", what, "> 0", f"{min(grown)}"),
        ("times that it was drawn anew in that minute, fewest", what, "", f"{min(drawn)}"),
        ("errors in the browsers", what, "0", f"{len(errors)}"),
        ("memory of the server in that minute", what, "", f"{memory:+.1f} MiB"),
    ]


def last_epoch(page: Any) -> int:
    """The last epoch that the page knows of."""
    found = re.search(r"of ([\d,]+)", page.get_by_text(re.compile(r"^epoch [\d,]+ of")).inner_text())
    assert found is not None
    return int(found[1].replace(",", ""))


def made(folder: Path) -> Path:
    """Make a store with a run of 20 seeds and 2000 epochs, and an estimate of it."""
    store = folder / "runs.zarr"
    task = tasks.load("rule", signed=True, information=0.99)
    config = TrainConfig(hidden=(10, 7, 5, 4, 3), epochs=2000)
    capture(task, store, "tanh", config, seeds=range(20), level="codes")
    analyze(store, "tanh", "binned", bins=30)
    return store


def rows(store: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, of how much, the target and the figure."""
    with launched() as browser, serving(store) as (url, server):
        process = psutil.Process(server.pid)
        cold = first_plot(browser, url)
        new = statistics.median(first_plot(browser, url) for _ in range(5))
        known = browser.new_context()  # which keeps what it has fetched
        first_plot(known, url)
        again = statistics.median(first_plot(known, url) for _ in range(5))
        page = opened(browser, url)
        page.wait_for_timeout(1000)
        one = redraws(page)
        before = process.memory_info().rss
        pages = [opened(known, url) for _ in range(CLIENTS)]
        grown = (process.memory_info().rss - before) / CLIENTS / 2**20
        for each in pages:
            each.close()
    return [
        ("first plot, the server's first browser", "20 seeds x 2000 epochs", "<= 3 s", f"{cold:.2f} s"),
        ("first plot, another that has fetched nothing yet", "the same", "<= 3 s", f"{new:.2f} s"),
        ("first plot, one that was there before", "the same", "<= 3 s", f"{again:.2f} s"),
        ("slider to redraw, median", f"{MOVES} moves", "<= 200 ms", f"{statistics.median(one):.0f} ms"),
        ("slider to redraw, slowest", f"{MOVES} moves", "", f"{max(one):.0f} ms"),
        ("memory of the server for each page", f"{CLIENTS} pages", "stated", f"{grown:.1f} MiB"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, nargs="?", help="made anew if it is not given")
    parser.add_argument("--live", action="store_true", help="twenty browsers on a run that is being captured, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = rows(given.store or made(Path(folder)))
        if given.live:
            found += live(Path(folder))
    for row in found:
        print("  ".join(row))
