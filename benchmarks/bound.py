"""A run held against the information bottleneck, beside its information plane.

20 networks of the paper's shape over 200 epochs of their training, all six layers in 30 bins (24,000 cells), stored at
``codes``; labels with I(X;Y) = 0.99 bits. `analyze_bound` counts what `analyze` of `binned` counts under the same
labels, and solves for beta* of each cell; it computes both curves once. Both compute everything anew, in turn. Before
that one process of its own does the first alone: its memory, the kernel's high-water mark (Linux), is stated.

The floor: reading and counting, which is what `analyze` does, and an exponential for each state and decoder that
differ, 1 ns, at about five values of beta: 0.2 ms a cell, on each core.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.bound [--repeats 3]``
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import typical_seconds
from ipstore.analysis import analyze, analyze_bound
from ipstore.trainers import TrainConfig, capture
from ipstore.trainers.tasks import load

EPOCHS, INFORMATION = 200, 0.99

_CHILD = f"""
import sys
from ipstore.analysis import analyze_bound
from ipstore.trainers.tasks import load
analyze_bound(sys.argv[1], "run", labels=load("rule", information={INFORMATION}).p_y_given_x, again=True)
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024)
"""


def measure(repeats: int = 3, folder: str | None = None) -> dict[str, Any]:
    """Give the seconds of both, their ratio, and the peak memory of the bound."""
    labels = load("rule", information=INFORMATION).p_y_given_x
    with tempfile.TemporaryDirectory(dir=folder) as store:
        capture(load("rule", signed=True), store, "run", TrainConfig(epochs=EPOCHS - 1), level="codes")
        stored = sum(file.stat().st_size for file in Path(store).rglob("c.*"))
        done = subprocess.run([sys.executable, "-c", _CHILD, store], capture_output=True, text=True, check=True)
        found = analyze_bound(store, "run", labels=labels)
        cases: dict[str, Callable[[], object]] = {
            "bound": lambda: analyze_bound(store, "run", labels=labels, again=True),
            "plane": lambda: analyze(store, "run", labels=labels, again=True),
        }
        typical = typical_seconds(cases, repeats)
        return {
            "cells": found["beta"].size,
            "points of the curve": found.sizes["point"],
            "seconds": typical,
            "ratio": typical["bound"] / typical["plane"],
            "stored_bytes": stored,
            "peak_bytes": int(done.stdout),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(given.repeats, given.folder), indent=2))


if __name__ == "__main__":
    main()
