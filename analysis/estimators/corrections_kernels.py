"""Compiled sums of `corrections` over tallies; one set of samples at a time, so each result stands for itself."""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["chao_shen", "tabulated"]


@njit(nogil=True, cache=True)
def tabulated(tallies: Any, table: Any, out: Any) -> None:
    """Sum of `table` over the counts of each tally.

    Parameters
    ----------
    tallies : (set, n + 1) integer
        See `ipstore.analysis.estimators.corrections.entropies`.
    table : (n + 1,) float64
    out : (set,) float64
    """
    for row in range(tallies.shape[0]):
        total = 0.0
        for count in range(1, tallies.shape[1]):
            if tallies[row, count]:
                total += tallies[row, count] * table[count]
        out[row] = total


@njit(nogil=True, cache=True)
def chao_shen(tallies: Any, out: Any) -> None:
    """Entropy by Chao & Shen of each tally, (set, n + 1) integer, in bits."""
    n = tallies.shape[1] - 1
    for row in range(tallies.shape[0]):
        covered = 1 - min(tallies[row, 1], n - 1) / n if n > 1 else 1.0
        total = 0.0
        for count in range(1, n + 1):
            if tallies[row, count]:
                p = covered * count / n
                total -= tallies[row, count] * p * np.log2(p) / -np.expm1(n * np.log1p(-p))
        out[row] = total
