"""Durable writing at ``full`` against a plain write and fsync of the same activations.

One contestant writes 14 shards of 24 epochs of 20 networks (3.4 GB) as a run: checksums, digests, weights and metrics,
and a commit that is durable after each shard. The other writes the same blocks of activations, one after the other,
to a single file and calls fsync once at its end.

The floor is the disk: each byte of activations once. What a run adds to it are a hundredth more bytes, 120 files a
commit, and two passes of crc32c at 20 GB/s.

Run: ``python -m benchmarks.writing``
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.stored import real_block, write_run
from ipstore.block import Block


def raw(path: Path, block: Block, times: int) -> float:
    """Seconds of the plain write."""
    arrays = [array for name, array in block.arrays.items() if name.startswith("activations/")]
    began = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for _ in range(times):
            for array in arrays:
                file.write(array.reshape(-1).view("u1").data)
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    path.unlink()
    return took


def measure(times: int = 14, repeats: int = 5, folder: str | None = None) -> dict[str, float]:
    """Gigabytes of activations per second of both, and the ratio, as medians over interleaved repeats."""
    plan, block = real_block()
    volume = times * sum(array.nbytes for name, array in block.arrays.items() if name.startswith("activations/")) / 1e9
    pairs = []
    with tempfile.TemporaryDirectory(dir=folder) as store:
        for _ in range(repeats):
            began = time.perf_counter()
            write_run(Path(store) / "runs.zarr", "run", plan, block, times)
            pairs.append((time.perf_counter() - began, raw(Path(store) / "raw", block, times)))
    return {
        "gigabytes": volume,
        "run_GB_per_s": volume / median(run for run, _ in pairs),
        "raw_GB_per_s": volume / median(plain for _, plain in pairs),
        "ratio": median(plain / run for run, plain in pairs),
        "ratio_min": min(plain / run for run, plain in pairs),
        "ratio_max": max(plain / run for run, plain in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=14, help="shards of 24 epochs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(given.times, given.repeats, given.folder), indent=1))


if __name__ == "__main__":
    main()
