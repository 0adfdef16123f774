"""``analyze`` on a Dask cluster: two workers against one, and one worker against one thread of this process.

Runs at ``full`` of 20 networks, 10.2 MB an epoch, so many epochs that each worker reads hundreds of chunks. All
computes everything anew, in turn, under `binned`; workers are processes of one thread each on this machine, which they
share with the scheduler and with this process, that makes the graphs and stores the results.

The floor is the work of the workers, divided by two. The scheduler and the client take their part beside it; on two
cores, which they share with the workers, what they take is missing there.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.cluster [--repeats 5]``
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask

from benchmarks.stored import real_block, write_run
from benchmarks.timing import typical_seconds
from ipstore.analysis import analyze

KEPT = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**25}
"""Bytes that a worker keeps for its next task; as Dask sets it, it gives back nearly all after each (docs/scale.md)."""


@contextmanager
def workers(count: int) -> Iterator[Any]:
    """So many worker processes, and their client, which is not yet the one that Dask takes."""
    from distributed import Client, LocalCluster

    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    kept = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in KEPT.items()}
    with (
        dask.config.set(kept),
        LocalCluster(n_workers=count, threads_per_worker=1, processes=True, **here) as processes,
        Client(processes, set_as_default=False) as client,
    ):
        yield client


def measure(repeats: int = 5, folder: str | None = None, shards: int = 16) -> dict[str, Any]:
    """Seconds of all, and their ratios, for a run of so many shards of 24 epochs."""
    plan, block = real_block()
    with tempfile.TemporaryDirectory(dir=folder) as store:
        write_run(Path(store), "run", plan, block, shards)
        stored = sum(file.stat().st_size for file in Path(store).rglob("c.*"))

        def by(client: Any) -> None:
            with client.as_current():
                analyze(store, "run", again=True)

        def by_thread() -> None:
            with dask.config.set(scheduler="threads", num_workers=1):
                analyze(store, "run", again=True)

        with workers(1) as one, workers(2) as two:
            cases: dict[str, Callable[[], object]] = {
                "one thread": by_thread,
                "one worker": lambda: by(one),
                "two workers": lambda: by(two),
            }
            typical = typical_seconds(cases, repeats)
    return {
        "stored_bytes": stored,
        "seconds": typical,
        "two workers over one": typical["one worker"] / typical["two workers"],
        "overhead over one thread": typical["one worker"] / typical["one thread"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(given.repeats, given.folder, given.shards), indent=2))


if __name__ == "__main__":
    main()
