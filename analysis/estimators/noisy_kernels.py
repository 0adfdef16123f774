"""Compiled loops of `noisy`: densities of mixtures of Gaussians at points drawn from them.

They compile on first use, stay compiled on disk, and do not hold the GIL.
"""

from typing import Any

import numpy as np
from numba import njit

from ipstore.analysis.estimators.kde_kernels import CUTOFF, LANES, TILE, boxes, far, kernels, squared_distances

__all__ = ["densities", "densities_given_input"]

_ZERO = np.float32(0.0)


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _weighted_sum(values: Any, weights: Any, size: int) -> Any:
    total = _ZERO
    for j in range(size):
        total += weights[j] * values[j]
    return total


@njit(nogil=True, cache=True)
def _shift(point: Any, row: Any, scale: Any) -> Any:
    """Give what makes the kernel of a point about the row that it was drawn from one."""
    total = _ZERO
    for unit in range(row.size):
        difference = np.float32(point[unit] - row[unit])
        total += difference * difference
    return total * scale


@njit(nogil=True, cache=True)
def densities(x: Any, weights: Any, starts: Any, group: Any, scale: float, points: Any, out: Any) -> None:
    """Densities at points drawn about each row, in units of the density of that row's own component.

    So none underflows, however many units there are.

    Parameters
    ----------
    x : (unit, sample) float32 or float64
        Rows in the order of `kde_kernels.order`; an even number of units, if need be with one of zeros.
    weights : (class, sample) float32
        At most one.
    starts, group
        As `kde_kernels.order` gives them.
    scale : float
        ``log2(e) / 2v`` for noise of variance v.
    points : (draw, sample, unit), dtype of `x`
        Row plus noise; of as many units as `x`.
    out : (2, class, draw, sample) float64
        Added to: of the rows of the same group and of other groups, for each class the sum of weight times
        kernel.
    """
    classes = len(weights)
    draws, samples = points.shape[:2]
    lower, upper = boxes(x, starts)
    rows = np.ascontiguousarray(x.T)
    scale_32 = np.float32(scale)
    shifts = np.empty((draws, samples), np.float32)
    for draw in range(draws):
        for i in range(samples):
            shifts[draw, i] = _shift(points[draw, i], rows[i], scale_32)
    block = np.zeros((len(x), TILE), x.dtype)
    block_weights = np.zeros((classes, TILE), np.float32)
    near = np.empty(TILE, np.float32)
    for there in range(group.size):
        first = starts[there]
        size = starts[there + 1] - first
        block[:, :size] = x[:, first : first + size]
        block_weights[:, :size] = weights[:, first : first + size]
        block_weights[:, size:] = _ZERO
        padded = (size + LANES - 1) // LANES * LANES
        for here in range(group.size):
            other = np.int64(group[here] != group[there])
            for draw in range(draws):
                for i in range(starts[here], starts[here + 1]):
                    point, shift = points[draw, i], shifts[draw, i]
                    if far(point, point, lower[there], upper[there], (CUTOFF + shift) / scale_32):
                        continue
                    squared_distances(point, block, padded, near)
                    kernels(near, padded, scale_32, shift)
                    for label in range(classes):
                        out[other, label, draw, i] += _weighted_sum(near, block_weights[label], padded)


@njit(nogil=True, cache=True)
def densities_given_input(x: Any, weights: Any, inputs: Any, bounds: Any, scale: float, points: Any, out: Any) -> None:
    """Do what `densities` does, from the rows of the same input alone.

    Parameters
    ----------
    inputs, bounds : int64 arrays
        Input g has the rows ``inputs[bounds[g]:bounds[g + 1]]``.
    weights : (sample,) float64
    x, scale, points
        As for `densities`.
    out : (draw, sample) float64
        Added to.
    """
    rows = np.ascontiguousarray(x.T)
    scale_32 = np.float32(scale)
    for g in range(bounds.size - 1):
        members = inputs[bounds[g] : bounds[g + 1]]
        for draw in range(points.shape[0]):
            for i in members:
                shift = _shift(points[draw, i], rows[i], scale_32)
                for j in members:
                    out[draw, i] += weights[j] * 2.0 ** np.float64(shift - _shift(points[draw, i], rows[j], scale_32))
