"""Estimates of the paper's figure 2, end to end, against the way of the code that its authors published.

The work: I(X;T) and I(T;Y) of six layers of 50 networks at 400 epochs, 30 edges from -1 to 1, hard labels. The
authors' way takes one cell (epoch, network) after the other, in `joblib` processes, one per core: it digitises a layer,
finds its distinct rows with ``numpy.unique`` over bytes, then again those of each input by itself, for H(T|X), and of
each label, for H(T|Y). That every input is there but once, so that H(T|X) is 0, is not made use of; "lean" is the same
without that loop, as a careful script would have it. Both have the activations in memory. `ipstore analyze` is given
a store of weights and nothing else: it rebuilds the activations, checks them against their digests, estimates under
the same rule (``rule=idnns``), and commits the result. All agree to 1e-6 bits, or this fails.

Measured on a slice, seconds per cell, and scaled to 20,000 cells. The floor of the estimates alone is that of `binned`.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.figure2 [--repeats 3]``
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

import ipstore
from ipstore.analysis import analyze
from ipstore.trainers import TrainConfig, capture, tasks

CELLS = 50 * 400
SEEDS, EPOCHS, CAPTURED = 20, 400, 150

Floats = NDArray[np.float64]


def distinct(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Count the distinct rows, compared as bytes."""
    packed = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    counts: NDArray[np.int64] = np.unique(packed, return_counts=True)[1]
    return counts


def entropy(rows: NDArray[np.float32]) -> float:
    """Entropy of the rows in bits."""
    p = distinct(rows) / len(rows)
    return float(-(p * np.log2(p)).sum())


def one_cell(layers: list[NDArray[np.float32]], y: NDArray[np.int64], inputs: NDArray[np.int64], lean: bool) -> Floats:
    """Give I(X;T) and I(T;Y) of every layer (sample, unit) of one network at one epoch: (layer, 2)."""
    edges = np.linspace(-1, 1, 30, dtype=np.float32)
    found = []
    for t in layers:
        binned = edges[np.digitize(t.ravel(), edges) - 1].reshape(len(t), -1)
        h = entropy(binned)
        given_x = 0.0 if lean else sum(entropy(binned[inputs == x]) for x in range(len(inputs))) / len(inputs)
        given_y = sum((y == label).mean() * entropy(binned[y == label]) for label in np.unique(y))
        found.append((h - given_x, h - given_y))
    return np.array(found)


def measure(repeats: int = 3, folder: str | None = None) -> dict[str, float]:
    """Time a slice of each, in turn; seconds per cell, and the ratios."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        store = Path(work) / "store.zarr"
        config = TrainConfig(optimizer="adam", learning_rate=4e-4, epochs=EPOCHS)
        capture(tasks.load("rule"), store, "a", config, seeds=range(SEEDS), level="weights", log_spaced=CAPTURED)
        run = ipstore.open(store, run="a")
        names = run["activations"].attrs["layers"]
        y, inputs = run["probe/y"].to_numpy(), run["probe/x_id"].to_numpy()
        cells = run.sizes["epoch"] * SEEDS
        some = [(-1, 0), (run.sizes["epoch"] // 2, 1)]  # of the baseline a few cells are long enough
        activations = run["activations"].to_dataset()
        layers = [[activations[name][at].to_numpy() for name in names] for at in some]
        many = [layers[i % 2] for i in range(16)]
        cores = os.cpu_count() or 1

        def baseline(lean: bool, given: list[list[NDArray[np.float32]]]) -> list[Floats]:
            found: list[Floats] = Parallel(n_jobs=cores)(delayed(one_cell)(each, y, inputs, lean) for each in given)
            return found

        def ours() -> None:
            analyze(store, "a", "binned", rule="idnns", again=True)

        given = {"authors": layers, "lean": many}
        times: dict[str, list[float]] = {"authors": [], "lean": [], "analyze": []}
        for turn in range(repeats + 1):  # the first starts processes and compiles
            for name in times:
                begun = time.perf_counter()
                if name == "analyze":
                    ours()
                else:
                    baseline(name == "lean", given[name])
                number = cells if name == "analyze" else len(given[name])
                if turn:
                    times[name].append((time.perf_counter() - begun) / number)
        plane = analyze(store, "a", "binned", rule="idnns")
        for at, one in zip(some, baseline(False, layers), strict=True):
            there = plane[["I_XT", "I_TY"]].isel(epoch=at[0], seed=at[1]).to_dataarray().transpose("layer", "variable")
            np.testing.assert_allclose(one, there, atol=1e-6)
    seconds = {name: median(values) for name, values in times.items()}
    return {
        **{f"{name}, seconds per cell": value for name, value in seconds.items()},
        **{f"{name}, seconds for figure 2": value * CELLS for name, value in seconds.items()},
        "ratio to authors": seconds["authors"] / seconds["analyze"],
        "ratio to lean": seconds["lean"] / seconds["analyze"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    print(json.dumps(measure(parser.parse_args().repeats), indent=2))
