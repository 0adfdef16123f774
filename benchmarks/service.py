"""The page of a store in a real browser: its first plot, its slider, and what each page takes of the server's memory.

Run: ``python -m benchmarks.service STORE``, with a store in which a run of 20 seeds and 2000 epochs has an estimate
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import psutil

from tests.service.browser import launched, serving

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
    parser.add_argument("store", type=Path)
    for row in rows(parser.parse_args().store):
        print("  ".join(row))
