"""Several questions in one analysis against one analysis after the other, in the same run.

A run at ``full`` of 20 networks and 120 epochs, 1.2 GB; `binned` with 10, 30 and 100 bins, each computed anew. One call
reads every chunk once where three calls read it three times; what is saved is reading, decoding and Dask's work, what
remains is the kernel.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.together [--repeats 5]``
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.stored import real_block, write_run
from benchmarks.timing import typical_seconds
from ipstore.analysis import analyze, analyze_all

BINS = (10, 30, 100)


def measure(repeats: int = 5, folder: str | None = None) -> dict[str, Any]:
    """Give the seconds of both ways, and their ratio."""
    plan, block = real_block()
    with tempfile.TemporaryDirectory(dir=folder) as store:
        write_run(Path(store), "run", plan, block, 5)
        asks = [f"binned:bins={bins}" for bins in BINS]
        cases: dict[str, Callable[[], object]] = {
            "together": lambda: analyze_all(store, "run", asks, again=True),
            "one by one": lambda: [analyze(store, "run", bins=bins, again=True) for bins in BINS],
        }
        typical = typical_seconds(cases, repeats)
    return {"seconds": typical, "ratio": typical["one by one"] / typical["together"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(given.repeats, given.folder), indent=2))


if __name__ == "__main__":
    main()
