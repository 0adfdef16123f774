"""Memory and time of ``analyze`` as a run grows, each length in a process of its own.

Runs at ``full`` of 20 networks, 10.2 MB an epoch: the longest holds ten times a gigabyte. The baseline of each ratio
is the shortest run; time per epoch should stay what it is there, and memory too. Times do not count the start of the
process and the compilation of the kernel, which an analysis of a few epochs pays before.

Memory is the kernel's high-water mark of the process (Linux); ``getrusage`` would begin with that of its parent.
The floor of memory is two Dask tasks of at most 64 MB, read and decoded; that of time is the kernel, some 2 ns for
each of the 2.5 million activations of an epoch.

Run: ``python -m benchmarks.analysis``
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.stored import real_block, write_run

_CHILD = """
import json, sys, time
from ipstore.analysis import analyze, estimators
import numpy as np
estimators.estimate("binned", np.zeros((1, 4, 1), np.float32), np.eye(2)[[0, 1, 0, 1]])
began = time.perf_counter()
plane = analyze(sys.argv[1], sys.argv[2], again=True)
took = time.perf_counter() - began
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(json.dumps({"epochs": plane.sizes["epoch"], "seconds": took, "peak_bytes": peak}))
"""


def measure(shards: tuple[int, ...] = (5, 10, 20, 42), folder: str | None = None) -> dict[str, Any]:
    """Seconds and peak memory for runs of so many shards of 24 epochs."""
    plan, block = real_block()
    rows = []
    with tempfile.TemporaryDirectory(dir=folder) as store:
        for count in shards:
            write_run(Path(store), "run", plan, block, count)
            size = sum(file.stat().st_size for file in Path(store).rglob("c.*"))
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, store, "run"], capture_output=True, text=True, check=True
            )
            rows.append({"stored_bytes": size, **json.loads(done.stdout)})
    per_epoch = [row["seconds"] / row["epochs"] for row in rows]
    return {
        "rows": rows,
        "peak_over_store": rows[-1]["peak_bytes"] / rows[-1]["stored_bytes"],
        "seconds_per_epoch_over_shortest": [each / per_epoch[0] for each in per_epoch],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="+", default=[5, 10, 20, 42])
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(tuple(given.shards), given.folder), indent=1))


if __name__ == "__main__":
    main()
