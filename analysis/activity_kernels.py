"""Compiled loops of `activity`: histograms of units, and how many codes a unit uses.

They compile on first use, stay compiled on disk, and do not hold the GIL.
"""

from typing import Any

import numpy as np
from numba import njit

from ipstore.analysis.estimators.counting_kernels import identify

__all__ = ["code_counts", "distinct", "histograms"]

_FEW = np.uint64(2**16)
"""Codes below this are marked in a table; others are hashed, which takes five times as long."""


@njit(nogil=True, cache=True)
def histograms(x: Any, edges: Any, counts: Any, outside: Any) -> None:
    """Count the activations of each unit between edges.

    Parameters
    ----------
    x : (cell, sample, unit) float32 or float64
    edges : (bins + 1,) dtype of `x`
        Evenly spaced but for rounding, increasing. Bin k holds edges[k] <= x < edges[k + 1].
    counts : (cell, unit, bins) int64, zeros
    outside : (cell, 3) int64, zeros
        How many activations lie below, how many above, and how many are NaN; infinities lie below or above.
    """
    cells, samples, units = x.shape
    bins = edges.size - 1
    low, high = edges[0], edges[bins]
    scale = bins / (np.float64(high) - np.float64(low))
    for cell in range(cells):
        for sample in range(samples):
            for unit in range(units):
                value = x[cell, sample, unit]
                if value < low:
                    outside[cell, 0] += 1
                elif value >= high:
                    outside[cell, 1] += 1
                elif value != value:
                    outside[cell, 2] += 1
                else:
                    k = min(np.int64((np.float64(value) - low) * scale), bins - 1)
                    while value < edges[k]:  # rounding can put it a bin too far, never more
                        k -= 1
                    while value >= edges[k + 1]:
                        k += 1
                    counts[cell, unit, k] += 1


@njit(nogil=True, cache=True)
def code_counts(codes: Any, missing: int, counts: Any, outside: Any) -> None:
    """Count the codes of each unit.

    Parameters
    ----------
    codes : (cell, sample, unit) unsigned
    missing : int
        The code of NaN.
    counts : (cell, unit, bins) int64, zeros
    outside : (cell, 3) int64, zeros
        See `histograms`; codes beyond the bins count as above.
    """
    cells, samples, units = codes.shape
    bins = counts.shape[2]
    for cell in range(cells):
        for sample in range(samples):
            for unit in range(units):
                code = np.int64(codes[cell, sample, unit])
                if code == missing:
                    outside[cell, 2] += 1
                elif code >= bins:
                    outside[cell, 1] += 1
                else:
                    counts[cell, unit, code] += 1


@njit(nogil=True, cache=True)
def distinct(codes: Any, out: Any) -> None:
    """Count the distinct codes of each unit.

    Parameters
    ----------
    codes : (cell, sample, unit) integer, not negative
    out : (cell, unit) int64
    """
    cells, samples, units = codes.shape
    size = 2
    while size < 2 * samples:
        size *= 2
    table_key, table_id = np.empty(size, np.uint64), np.full(size, -1, np.int64)
    column, ids = np.empty(samples, np.uint64), np.empty(samples, np.int32)
    seen = np.full(_FEW, -1, np.int64)
    for cell in range(cells):
        for unit in range(units):
            turn = cell * units + unit
            found, few = 0, True
            for sample in range(samples):
                code = np.uint64(codes[cell, sample, unit])
                column[sample] = code
                if code >= _FEW:
                    few = False
                elif seen[np.int64(code)] != turn:
                    seen[np.int64(code)] = turn
                    found += 1
            out[cell, unit] = found if few else identify(column, table_key, table_id, turn * samples, ids)
