"""Speed of the `binned` estimator against NumPy, in the same run.

The work: tanh activations (cell, 4096, units) float32 of random networks on the 4096 patterns of 12 binary
inputs, 30 bins, equal weights, hard labels of two classes; I(X;T) and I(T;Y) of every cell. The baseline does
for each cell what a paper's script does: ``numpy.digitize``, the codes of a row packed into one integer,
``numpy.unique`` with counts of those, and of those with the label. Both on one core; interleaved repeats, the
median of each.

The floor: an activation is read once (0.2 ns from memory) and encoded (0.2-0.3 ns); a row is packed,
looked up in a table and counted twice, 10-13 ns: narrow layers cost more per activation than wide ones.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.binned [--repeats 9]``
"""

import argparse
import json
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import typical_seconds
from ipstore.analysis.estimators import get
from ipstore.binning import Binning

CELLS = 40
WIDTHS = (10, 7, 5, 4, 3, 2)
SEEDS, SNAPSHOTS = 50, 400
NETWORKS = SEEDS * SNAPSHOTS


def network(cells: int) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
    """Activations of every layer of random networks of growing gain, and labels."""
    rng = np.random.default_rng(0)
    patterns = np.array(list(product((-1.0, 1.0), repeat=12)))
    h = np.broadcast_to(patterns, (cells, *patterns.shape))
    gains = np.geomspace(0.5, 8, cells)[:, None, None]
    layers = []
    for fan_in, units in zip((12, *WIDTHS), WIDTHS, strict=False):
        h = np.tanh(h @ (gains * rng.normal(0, fan_in**-0.5, (cells, fan_in, units))))
        layers.append(h.astype(np.float32))
    return layers, (patterns.sum(axis=1) + rng.normal(0, 1, len(patterns)) > 0).astype(np.int64)


def digitise_pack_unique(t: NDArray[Any], y: NDArray[np.int64], bins: int = 30) -> list[tuple[float, float]]:
    """The baseline; `t` holds activations, or codes of bins."""
    edges = np.linspace(-1, 1, bins + 1)
    powers = bins ** np.arange(t.shape[-1], dtype=np.int64)

    def entropy(keys: NDArray[np.int64]) -> float:
        counts = np.unique(keys, return_counts=True)[1]
        return float(np.log2(len(keys)) - np.sum(counts * np.log2(counts)) / len(keys))

    h_y = entropy(y)
    results = []
    for cell in t:
        codes = cell if cell.dtype == np.uint8 else np.digitize(cell, edges[1:-1])
        packed = codes @ powers
        h_t = entropy(packed)
        results.append((h_t, h_t + h_y - entropy(2 * packed + y)))
    return results


def measure(repeats: int = 9) -> dict[str, Any]:
    """Give ratios, nanoseconds per activation, and the time of a whole run, scaled from a slice."""
    layers, y = network(CELLS)
    labels = np.eye(2)[y]
    soft = np.clip(labels, 0.05, 0.95)
    binned = get("binned")
    first = layers[0]
    codes = Binning().encode(first)

    expected = np.array(digitise_pack_unique(first, y)).T
    found = binned(first, labels)
    np.testing.assert_allclose([found["I_XT"], found["I_TY"]], expected, rtol=0, atol=1e-9)

    cases: dict[str, Callable[[], object]] = {
        "numpy, activations": lambda: digitise_pack_unique(first, y),
        "numpy, codes": lambda: digitise_pack_unique(codes, y),
        "binned, activations": lambda: binned(first, labels),
        "binned, activations, soft labels": lambda: binned(first, soft),
        "binned, codes": lambda: binned(codes, labels),
        "binned, range=layer": lambda: binned(first, labels, range="layer"),
        "binned, range=unit": lambda: binned(first, labels, range="unit"),
        "binned, all six layers": lambda: [binned(t, labels) for t in layers],
    }
    typical = typical_seconds(cases, repeats)
    per_network = typical["binned, all six layers"] / CELLS
    return {
        "baseline": "numpy digitise + pack + unique, per cell",
        "shape": list(first.shape),
        "ratio, activations": typical["numpy, activations"] / typical["binned, activations"],
        "ratio, codes": typical["numpy, codes"] / typical["binned, codes"],
        "nanoseconds per activation": {
            name: value / (sum(t.size for t in layers) if "six" in name else first.size) * 1e9
            for name, value in typical.items()
        },
        f"seconds for {SEEDS} seeds x {SNAPSHOTS} snapshots x {len(WIDTHS)} layers": per_network * SEEDS * SNAPSHOTS,
        "scaled from": f"{CELLS} networks x {len(WIDTHS)} layers",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    print(json.dumps(measure(parser.parse_args().repeats), indent=2))


if __name__ == "__main__":
    main()
