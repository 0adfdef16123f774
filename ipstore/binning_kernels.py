"""Compiled loop of `ipstore.binning`; apart from it because importing numba costs half a second.

It compiles on first use, stays compiled on disk, and does not hold the GIL.
"""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["encode_equal"]

# The fast loop is abandoned for the exact one in pieces of this many values, which stay in the first-level
# cache.
_PIECE = 1024


@njit(nogil=True, cache=True)
def encode_equal(x: Any, thresholds: Any, grid: Any, missing: Any, out: Any, nonfinite: Any) -> None:
    """Codes of `x` on grids of equal bins, one grid for all rows or one each.

    Parameters
    ----------
    x : (row, value) float32 or float64
    thresholds : (1 or row, bins + 1), dtype of `x`
        As `ipstore.binning.thresholds` gives them.
    grid : (1 or row, 6), dtype of `x`
        low, scale, slack, 1 - slack, 0.5, bins - 0.5: ``(x - low) * scale`` is the position in units of bins,
        wrong by less than `slack`.
    missing : int
        The code of NaN.
    out : (row, value) integer
    nonfinite : (row,) int64
        How many values are NaN or infinite.
    """
    for row in range(x.shape[0]):
        edges = thresholds[min(row, thresholds.shape[0] - 1)]
        low, scale, slack, high, first, last = grid[min(row, grid.shape[0] - 1)]
        nonfinite[row] = 0
        for start in range(0, x.shape[1], _PIECE):
            values = x[row, start : start + _PIECE]
            codes = out[row, start : start + _PIECE]
            unsure = False
            # No branch and no table here, so that the compiler makes vector code: 0.2-0.3 ns per value.
            for i in range(values.size):
                value = values[i]
                position = (value - low) * scale
                position = position if position > first else first
                position = position if position < last else last
                floor = np.floor(position)
                codes[i] = np.int32(floor)
                within = position - floor
                zero = value - value
                unsure |= (within < slack) | (within > high) | (zero != zero)
            if not unsure:
                continue
            for i in range(values.size):
                value = values[i]
                if not np.isfinite(value):
                    nonfinite[row] += 1
                    codes[i] = missing if np.isnan(value) else (edges.size - 2 if value > 0 else 0)
                    continue
                code = np.int64(codes[i])
                while value >= edges[code + 1]:
                    code += 1
                while value < edges[code]:
                    code -= 1
                codes[i] = code
