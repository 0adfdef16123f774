"""Compiled loops of `binned`: bins of any edges, unbounded bins, and bins of equally many distinct values.

They compile on first use, stay compiled on disk, and do not hold the GIL.
"""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["distinct_thresholds", "encode_search", "encode_width"]

_PIECE = 1024
_MOST = 2.0**30


@njit(nogil=True, cache=True)
def encode_search(x: Any, thresholds: Any, out: Any) -> None:
    """Codes of `x` between any edges, by bisection.

    Parameters
    ----------
    x : (row, value) float32 or float64, without NaN
    thresholds : (row, bins + 1), dtype of `x`
        As `ipstore.binning.thresholds` gives them.
    out : (row, value) integer
    """
    for row in range(x.shape[0]):
        edges = thresholds[row]
        for i in range(x.shape[1]):
            below, above = 0, edges.size - 1
            while above - below > 1:
                middle = (below + above) // 2
                if x[row, i] >= edges[middle]:
                    below = middle
                else:
                    above = middle
            out[row, i] = below


@njit(nogil=True, cache=True)
def encode_width(x: Any, width: float, out: Any, refused: Any) -> None:
    """Codes of the unbounded bins [k width, (k + 1) width): k, less the smallest k of the row.

    Parameters
    ----------
    x : (row, value) float32 or float64
    width : float
    out : (row, value) int32
    refused : (row,) bool
        Whether a value is NaN, infinite, or 2^30 bins or more from 0.
    """
    for row in range(x.shape[0]):
        refused[row] = False
        smallest = np.int32(2**30)
        for start in range(0, x.shape[1], _PIECE):
            values = x[row, start : start + _PIECE]
            codes = out[row, start : start + _PIECE]
            unsure = False
            # As in ipstore.binning_kernels.encode_equal: vector code here, exact code for what lies at an
            # edge.
            for i in range(values.size):
                position = values[i] / width
                floor = np.floor(position)
                codes[i] = np.int32(min(max(floor, -_MOST), _MOST))
                slack = abs(position) * 4e-16
                within = position - floor
                edge = (within <= slack) | (within >= 1.0 - slack)
                unsure |= (edge & (values[i] != 0)) | (not abs(position) < _MOST)
            if unsure:
                for i in range(values.size):
                    value = np.float64(values[i])
                    if not abs(value / width) < _MOST:
                        refused[row] = True
                        codes[i] = 0
                        continue
                    rest = np.fmod(value, width)  # exact, and so is what follows
                    codes[i] = np.int32(np.rint((value - rest) / width)) - np.int32(rest < 0)
            for i in range(values.size):
                smallest = min(smallest, codes[i])
        for i in range(x.shape[1]):
            out[row, i] -= smallest


@njit(nogil=True, cache=True)
def distinct_thresholds(ordered: Any, out: Any) -> None:
    """Bins of each row that hold equally many of its distinct values, as nearly as can be.

    The value of rank r among m distinct ones, r from 0, falls into bin floor(r bins / m).

    Parameters
    ----------
    ordered : (row, value) float32 or float64
        Each row ascending, without NaN.
    out : (row, bins + 1), dtype of `ordered`
        As `encode_search` takes them; for each bin but the first the first value in it.
    """
    bins = out.shape[1] - 1
    for row in range(ordered.shape[0]):
        values = ordered[row]
        distinct = 1
        for i in range(1, values.size):
            distinct += values[i] != values[i - 1]
        out[row] = np.inf
        out[row, 0] = -np.inf
        rank, edge = 0, 1
        for i in range(values.size):
            rank += i > 0 and values[i] != values[i - 1]
            while edge < bins and rank * bins >= edge * distinct:
                out[row, edge] = values[i]
                edge += 1
