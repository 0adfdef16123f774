"""What a large store costs to open, to list, to read from and to commit to.

Opening reads one document and all epochs, whatever the number of chunks; listing reads one document a run and one a
result. Neither opens a chunk. Reading is held against ``np.fromfile`` of the files that hold the same bytes: the floor
of one layer of one seed is one pass over its shards, with a checksum (20 GB/s) and one copy; one epoch of all layers
lies in a chunk of four epochs for each layer and seed, so that four times its bytes are read. A commit writes 13 small
files and the document, and syncs twice; against it stands one file of 4 KiB that is written, synced and renamed.

Run: ``python -m benchmarks.scale``
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import xarray as xr

import ipstore
from benchmarks.stored import real_block, write_run
from benchmarks.timing import typical_seconds
from ipstore.block import Block
from ipstore.durable import replace_file
from ipstore.places import locate
from ipstore.results import ResultWriter
from ipstore.trainers import TrainConfig, tasks
from ipstore.trainers.streaming import plan_run
from ipstore.writer import RunWriter

EPOCHS, SEEDS, RUNS = 10_000, 50, 200


def measure(repeats: int = 5, folder: str | None = None) -> dict[str, Any]:
    """Seconds of opening and listing, gigabytes per second of reading, milliseconds of a commit."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        return {
            "opening": opening(Path(work), repeats),
            "reading": reading(Path(work), repeats),
            "commit": commit(Path(work), 20 * repeats),
        }


def opening(work: Path, repeats: int) -> dict[str, Any]:
    """A run of 10,000 epochs and 50 seeds, and a store with 200 such runs, each with two results."""
    found: dict[str, Any] = {}
    for level in ("full", "codes", "weights"):
        store = work / level
        plan = plan_run(tasks.load("rule"), TrainConfig(epochs=EPOCHS), range(SEEDS), level)
        writer = RunWriter.create(store, "run", plan, 1)
        epochs = np.arange(EPOCHS + 1)
        # What opening does not touch is left out: chunks of anything but the epochs.
        writer._group.write("epoch", 0, epochs)
        writer.attrs["status"] = "finished"
        writer._group.publish(len(epochs), {"last_epoch": EPOCHS})
        writer.close()
        shards = -(-len(epochs) // plan.shard_epochs)
        times = typical_seconds({"open": lambda store=store: ipstore.open(store, run="run")}, repeats)  # type: ignore[misc]
        found[level] = {
            "seconds": times["open"],
            "files": sum(shards * (SEEDS if array.per_seed else 1) for array in plan.arrays if array.path != "epoch"),
            "files read": len([key for key in locate(store / "run").sizes("epoch") if "/c." in key]) + 1,
        }
    many = work / "many"
    many.mkdir()
    shutil.copy(work / "full" / "zarr.json", many)
    shutil.copytree(work / "full" / "run", many / "run000")
    for name in ("one", "two"):
        _write_result(many / "run000", name)
    for number in range(1, RUNS):
        shutil.copytree(many / "run000", many / f"run{number:03}")
    found["list"] = typical_seconds({"list": lambda: ipstore.runs(many)}, repeats)["list"]
    shutil.rmtree(many)
    return found


def _write_result(run: Path, name: str) -> None:
    layers, seeds = list(ipstore.open(run)["training/layer"].values), range(SEEDS)
    provenance = {"estimator": "binned", "parameters": {}, "labels": "hard", "layers": layers}
    writer = ResultWriter(locate(run), name, {"I_XT": {"units": "bits"}}, seeds, layers, provenance, (), static={})
    values = np.zeros((EPOCHS, SEEDS, len(layers)))
    dims = ("epoch", "seed", "layer")
    writer.append(xr.Dataset({"I_XT": (dims, values)}, {"epoch": np.arange(EPOCHS), "seed": seeds, "layer": layers}))
    writer.close()


def reading(work: Path, repeats: int) -> dict[str, Any]:
    """One layer of one seed over all epochs, and one epoch of all layers and seeds."""
    plan, block = real_block()
    write_run(work / "real", "run", plan, block, 8)
    run, layers = ipstore.open(work / "real", run="run"), list(plan.layers)
    files = sorted((work / "real" / "run" / "activations" / layers[0]).glob("c.*.2.0.0"))
    last = max(run.sizes["epoch"] // plan.shard_epochs - 1, 0)
    beside = [
        (work / "real" / "run" / "activations" / name / f"c.{last}.{seed}.0.0", 4 * 4096 * units * 4)
        for name, units in plan.layers.items()
        for seed in range(len(plan.seeds))
    ]
    layer, epoch = run[f"activations/{layers[0]}"].isel(seed=2), run["activations"].to_dataset().isel(epoch=-1)
    times = typical_seconds(
        {
            "layer": lambda: layer.compute(),
            "layer, fromfile": lambda: [np.fromfile(file, np.float32) for file in files],
            "epoch": lambda: epoch.compute(),
            "epoch, fromfile": lambda: [np.fromfile(file, np.uint8, count // 4) for file, count in beside],
        },
        repeats,
    )
    volumes = {"layer": layer.nbytes, "epoch": epoch.nbytes}
    shutil.rmtree(work / "real")
    return {
        what: {
            "megabytes": volume / 1e6,
            "GB_per_s": volume / times[what] / 1e9,
            "fromfile_GB_per_s": volume / times[f"{what}, fromfile"] / 1e9,
            "ratio": times[f"{what}, fromfile"] / times[what],
        }
        for what, volume in volumes.items()
    }


def commit(work: Path, times: int) -> dict[str, float]:
    """Milliseconds of a commit of a run that stores no activations, and of one small durable file."""
    plan = plan_run(tasks.load("rule"), TrainConfig(), range(20), "weights", shard_epochs=4)
    writer = RunWriter.create(work / "commits", "run", plan, 4 * times)
    took: dict[str, list[float]] = {"commit": [], "file": []}
    for number in range(times):
        block = Block.allocate(plan.arrays, 4, slice(0, 20))
        block.start, block.epochs = 4 * number, list(range(4 * number, 4 * number + 4))
        began = time.perf_counter()
        writer.write(block)
        took["commit"].append(time.perf_counter() - began)
        began = time.perf_counter()
        replace_file(work / "file", os.urandom(4096))
        took["file"].append(time.perf_counter() - began)
    writer.finish("finished")
    writer.close()
    return {name: 1e3 * median(each) for name, each in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(given.repeats, given.folder), indent=1))


if __name__ == "__main__":
    main()
