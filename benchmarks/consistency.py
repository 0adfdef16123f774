"""Speed of beta*, the inverse temperature at which a layer's encoder is nearest to self-consistent, against NumPy.

The work: one hard T of the 4096 patterns of the rule (I(X;Y) = 0.99 bits): their number of ones (13 values), and two
layers of a random network in 30 bins (some hundred and some thousand values). Ours starts from codes, counts them, and
gives beta*, the residual and three informations: of 40 cells at a time, as an analysis of a run asks, so that what is
the same for all (0.5 ms to check p(y|x) and to find its states) is shared; a call for one cell stands beside. Both
baselines start from the number of T of each pattern, and hold the divergences of 4096 inputs from all values of T in a
table. "grid" evaluates the residual at 100 values of beta and solves for the root of its slope between the neighbours
of the least (Brent); "brentq" solves for it alone, between the ends of that grid. All on one core; interleaved repeats,
the median of each.

The floor: an exponential for each state and decoder that differ, 1 ns, at about five values of beta; a few hundred
thousand for the widest layer here.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.consistency [--repeats 3]``
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import rel_entr

from benchmarks.timing import typical_seconds
from ipstore.analysis.estimators import get
from ipstore.analysis.ib.consistency import self_consistent
from ipstore.binning import Binning
from ipstore.trainers.tasks import load

CELLS = 40
GRID = np.geomspace(0.1, 1000, 100)


class Table:
    """The residual in nats, and its slope, over (input, value of T)."""

    def __init__(self, t: NDArray[np.int64], p_y_given_x: NDArray[np.float64]) -> None:
        rows = np.arange(len(t))
        self.p_t = np.bincount(t) / len(t)
        decoder = np.stack([np.bincount(t, column) for column in p_y_given_x.T], axis=1) / np.bincount(t)[:, None]
        divergence: NDArray[np.float64] = sum(
            rel_entr(ours[:, None], theirs) for ours, theirs in zip(p_y_given_x.T, decoder.T, strict=True)
        )
        self.excess = divergence - divergence.min(axis=1, keepdims=True)
        self.mean = self.excess[rows, t].mean()
        self.I_XT = -np.sum(self.p_t * np.log(self.p_t))

    def residual(self, beta: float) -> float:
        weights = np.exp(-beta * self.excess)
        return float(self.I_XT + beta * self.mean + np.log(weights @ self.p_t).mean())

    def slope(self, beta: float) -> float:
        weights = self.p_t * np.exp(-beta * self.excess)
        return float(self.mean - (np.einsum("xt,xt->x", weights, self.excess) / weights.sum(axis=1)).mean())


def beta_star(cells: NDArray[np.uint8], p_y_given_x: NDArray[np.float64]) -> float:
    """Ours, without the curves; of the first of cells (cell, sample, unit)."""
    return float(self_consistent(get("discrete"))(cells, p_y_given_x, tol=None)["beta"][0])


def by_grid(t: NDArray[np.int64], p_y_given_x: NDArray[np.float64]) -> float:
    table = Table(t, p_y_given_x)
    least = int(np.argmin([table.residual(beta) for beta in GRID]))
    return float(brentq(table.slope, GRID[least - 1], GRID[least + 1], rtol=1e-9))


def by_root(t: NDArray[np.int64], p_y_given_x: NDArray[np.float64]) -> float:
    return float(brentq(Table(t, p_y_given_x).slope, GRID[0], GRID[-1], rtol=1e-9))


def layers() -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.float64]]:
    """Codes (sample, unit) of each T, and p(y|x)."""
    task = load("rule", information=0.99, signed=True)
    patterns = np.asarray(task.x, np.float64)
    rng = np.random.default_rng(0)
    found = {"ones": (patterns > 0).sum(axis=1, keepdims=True).astype(np.uint8)}
    for units in (2, 4):
        hidden = np.tanh(patterns @ rng.normal(0, 0.3, (12, units)) + 0.2 * patterns.sum(axis=1, keepdims=True))
        found[f"{units} units"] = Binning().encode(hidden.astype(np.float32))
    return found, np.asarray(task.p_y_given_x)


def measure(repeats: int = 3) -> dict[str, Any]:
    """Give, for each T, milliseconds of each way, the ratio of each baseline to ours, and how far beta* differs."""
    codes, p_y_given_x = layers()
    results: dict[str, Any] = {}
    for name, layer in codes.items():
        t = np.unique(layer, axis=0, return_inverse=True)[1].reshape(-1)
        cells = np.repeat(layer[None], CELLS, axis=0)
        cases: dict[str, Callable[[], Any]] = {
            "ours": partial(beta_star, cells, p_y_given_x),
            "ours, one call": partial(beta_star, layer[None], p_y_given_x),
            "grid": partial(by_grid, t, p_y_given_x),
            "brentq": partial(by_root, t, p_y_given_x),
        }
        found = {case: float(run()) for case, run in cases.items()}
        typical = typical_seconds(cases, repeats)
        typical["ours"] /= CELLS
        results[name] = {
            "values of T": int(t.max()) + 1,
            "beta": found,
            "relative deviation from the grid": abs(found["ours"] / found["grid"] - 1),
            "milliseconds": {case: 1e3 * value for case, value in typical.items()},
            "ratio": {case: typical[case] / typical["ours"] for case in ("grid", "brentq")},
            "ratio of the grid to one call": typical["grid"] / typical["ours, one call"],
        }
    return {"baselines": "NumPy over 4096 inputs x values of T", "grid": len(GRID), "layers": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    print(json.dumps(measure(parser.parse_args().repeats), indent=2))


if __name__ == "__main__":
    main()
