"""A run whose every value follows from its place, so that what was stored can be told from what was not."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.binning import Binning
from ipstore.block import Block, digest
from ipstore.levels import Level
from ipstore.plan import RunPlan
from ipstore.schema import GrowingArray, StaticArray
from ipstore.writer import RunWriter

SAMPLES = 32
LAYERS = {"layer1": 5, "output": 2}
PARAMETERS = {"layer1": 20, "output": 12}


def make_plan(level: Level = "full", seeds: int = 3, shard: int = 4, **changes: Any) -> RunPlan:
    probe = [
        StaticArray("probe/x", ("sample", "feature"), np.arange(SAMPLES * 3, dtype=np.float32).reshape(SAMPLES, 3)),
        StaticArray("probe/y", ("sample",), np.zeros(SAMPLES, np.int64)),
        StaticArray("probe/p_x", ("sample",), np.full(SAMPLES, 1 / SAMPLES)),
        StaticArray("probe/p_y_given_x", ("sample", "class"), np.full((SAMPLES, 2), 0.5)),
    ]
    settings = {
        "layers": LAYERS,
        "parameters": PARAMETERS,
        "seeds": [10 * seed for seed in range(seeds)],
        "probe": probe,
        "attrs": {"task": "synthetic"},
        "level": level,
        "binning": Binning(),
        "shard": shard,
    }
    return RunPlan(**{**settings, **changes})


def values(array: GrowingArray, epoch: int, seed: int) -> NDArray[Any]:
    """What `array` holds at an epoch, for the seed at a place."""
    rng = np.random.default_rng([zlib.crc32(array.path.encode()), epoch, seed])
    if array.dtype == "uint8":
        return rng.integers(0, 30, array.shape[1:], np.uint8)
    return rng.standard_normal(array.shape[1:]).astype(array.dtype)


def make_block(plan: RunPlan, start: int, count: int, seeds: slice | None = None, first_epoch: int = 0) -> Block:
    """Epochs `start` to `start + count`, as a trainer would hand them over."""
    seeds = seeds or slice(0, len(plan.seeds))
    block = Block.allocate(plan.arrays, plan.shard_epochs, seeds)
    block.start = start
    places = range(seeds.start, seeds.stop)
    for entry in range(count):
        epoch = first_epoch + start + entry
        block.epochs.append(epoch)
        for array in plan.arrays:
            if array.path in block.arrays and array.path != "digest/crc32c":
                block.arrays[array.path][entry] = [values(array, epoch, seed) for seed in places]
    block.state = {"parameters": np.array([[seed, start + count] for seed in places], np.float32)}
    return block


def write_run(store: Path, plan: RunPlan, epochs: int, run: str = "run", status: str = "finished") -> Path:
    """Write a whole run of so many epochs."""
    writer = RunWriter.create(store, run, plan, epochs)
    write_epochs(writer, plan, epochs)
    writer.finish(status)  # type: ignore[arg-type]
    writer.close()
    return store / run


def write_epochs(writer: RunWriter, plan: RunPlan, stop: int) -> None:
    """Continue a run from where it is committed up to `stop` epochs."""
    start = writer.epochs
    while start < stop:
        count = min(plan.shard_epochs - start % plan.shard_epochs, stop - start)
        writer.write(make_block(plan, start, count))
        start += count


def array(tree: xr.DataTree, path: str) -> xr.DataArray:
    """One array of a tree."""
    found = tree[path]
    assert isinstance(found, xr.DataArray)
    return found


def assert_holds(tree: xr.DataTree, plan: RunPlan, epochs: int) -> None:
    """Every array of the run has exactly so many epochs, and in each the values that belong there."""
    assert array(tree, "epoch").values.tolist() == list(range(epochs))
    for planned in plan.arrays:
        if planned.path == "epoch":
            continue
        found = array(tree, planned.path).values
        assert len(found) == epochs, planned.path
        for epoch, seed in np.ndindex(epochs, len(plan.seeds)):
            digests = planned.path == "digest/crc32c"
            expected = _digests(plan, epoch, seed) if digests else values(planned, epoch, seed)
            np.testing.assert_array_equal(found[epoch, seed], expected, err_msg=f"{planned.path} at {epoch}, {seed}")


def _digests(plan: RunPlan, epoch: int, seed: int) -> Sequence[int]:
    layers = [array for array in plan.arrays if array.path.startswith("activations/")]
    return [digest(values(array, epoch, seed)) for array in layers]
