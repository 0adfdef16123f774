"""Compiled loops of `kde` and `noisy`: Gaussian kernels between rows, tile by tile and never all at once.

They compile on first use, stay compiled on disk, and do not hold the GIL. Rows stand as the columns of a
(unit, sample) array, so that inner loops run over samples that lie together and become vector code.
"""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["CUTOFF", "LANES", "TILE", "boxes", "far", "kernels", "order", "pair_sums", "squared_distances"]

TILE = 256
"""Rows of a tile, at most: all that one row does with a tile stays in the L1 cache."""

CUTOFF = 44.0
"""Kernels below 2^-CUTOFF may be left out: of 10^6 rows together they come to less than 10^-7 of the row itself."""

LANES = 16
"""Rows of a tile are met in multiples of this, so that all of the loop is vector code; those beyond weigh nothing."""

_MOST = np.float32(60.0)
_LEAST = np.float32(2.0**-62)  # its square is no denormal number, with which all would be slow
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)

# 2^-f = 1 + f (c1 + f (c2 + ...)) for f in [-1/2, 1/2]: the polynomial of smallest relative error, 9.2e-8, among
# those that are 1 at 0; found by iterated weighted least squares (Lawson).
_C1 = np.float32(-0.693147)
_C2 = np.float32(0.24022242)
_C3 = np.float32(-0.055507336)
_C4 = np.float32(0.009671513)
_C5 = np.float32(-0.0013264727)

# What vector code needs: sums in any order and fused products. Infinities keep their meaning.
_FAST = {"contract", "reassoc", "nsz", "arcp"}


@njit(nogil=True, cache=True)
def order(t: Any, index: Any, bounds: Any) -> Any:
    """Put near rows together: halve the rows at a quantile of their widest unit until a tile holds them.

    Parameters
    ----------
    t : (sample, unit) float32 or float64
    index : (sample,) int64
        Which rows, group by group; reordered within each group.
    bounds : (group + 1,) int64
        Group g is ``index[bounds[g]:bounds[g + 1]]``.

    Returns
    -------
    starts : (tile + 1,) int64
        Bounds of the tiles in `index`, each of rows of one group.
    group : (tile,) int64
    """
    most = index.size // (TILE // 2) + bounds.size
    starts = np.zeros(most + 1, np.int64)
    group = np.empty(most, np.int64)
    tiles = 0
    todo = np.empty((64, 2), np.int64)
    for g in range(bounds.size - 1):
        if bounds[g] == bounds[g + 1]:
            continue
        todo[0] = bounds[g], bounds[g + 1]
        waiting = 1
        while waiting:
            waiting -= 1
            low, high = todo[waiting]
            if high - low <= TILE:
                group[tiles] = g
                tiles += 1
                starts[tiles] = high
                continue
            widest, width = 0, -1.0
            for unit in range(t.shape[1]):
                smallest = largest = t[index[low], unit]
                for i in range(low, high):
                    value = t[index[i], unit]
                    smallest = min(smallest, value)
                    largest = max(largest, value)
                if largest / 2 - smallest / 2 > width:  # halves cannot overflow
                    widest, width = unit, largest / 2 - smallest / 2
            # A whole number of full tiles on the left.
            middle = low + ((high - low) // 2 + TILE - 1) // TILE * TILE
            _select(t[:, widest], index, low, high - 1, middle)
            todo[waiting] = middle, high
            todo[waiting + 1] = low, middle
            waiting += 2
    return starts[: tiles + 1], group[:tiles]


@njit(nogil=True, cache=True)
def _select(values: Any, index: Any, low: int, high: int, nth: int) -> None:
    """Reorder ``index[low:high + 1]`` so that before `nth` no value is larger, and after none smaller (Hoare)."""
    while low < high:
        pivot = values[index[(low + high) // 2]]
        i, j = low, high
        while i <= j:
            while values[index[i]] < pivot:
                i += 1
            while values[index[j]] > pivot:
                j -= 1
            if i <= j:
                index[i], index[j] = index[j], index[i]
                i += 1
                j -= 1
        if nth <= j:
            high = j
        elif nth >= i:
            low = i
        else:
            return


@njit(nogil=True, cache=True)
def boxes(x: Any, starts: Any) -> Any:
    """Smallest and largest value of each unit in each tile, each (tile, unit) of the dtype of `x`."""
    lower = np.empty((starts.size - 1, x.shape[0]), x.dtype)
    upper = np.empty_like(lower)
    for tile in range(starts.size - 1):
        for unit in range(x.shape[0]):
            values = x[unit, starts[tile] : starts[tile + 1]]
            lower[tile, unit] = values.min()
            upper[tile, unit] = values.max()
    return lower, upper


@njit(nogil=True, cache=True, fastmath=_FAST)
def far(lower: Any, upper: Any, other_lower: Any, other_upper: Any, limit: float) -> bool:
    """Whether all of one box, or point, (unit,) lies further than sqrt(limit) from all of another."""
    total = 0.0
    for unit in range(lower.size):
        gap = max(max(lower[unit] - other_upper[unit], other_lower[unit] - upper[unit]), 0)
        total += np.float64(gap) * np.float64(gap)
    return total > limit


@njit(nogil=True, cache=True, fastmath=_FAST)
def squared_distances(row: Any, block: Any, size: int, out: Any) -> None:
    """Squared distances of one row from the first rows of a tile.

    Differences are taken in the dtype of the activations and what follows in float32: so the relative error is
    some 1e-7 however small the distance is, which a product of matrices, |a|^2 + |b|^2 - 2ab, could not keep.

    Parameters
    ----------
    row : (unit,) float32 or float64
        An even number of units.
    block : (unit, TILE), dtype of `row`
    size : int
    out : (TILE,) float32
    """
    units = row.size
    if units >= 8:
        a0, a1, a2, a3, a4, a5, a6, a7 = row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]
        x0, x1, x2, x3, x4, x5, x6, x7 = (
            block[0],
            block[1],
            block[2],
            block[3],
            block[4],
            block[5],
            block[6],
            block[7],
        )
        for j in range(size):
            d0, d1 = np.float32(a0 - x0[j]), np.float32(a1 - x1[j])
            d2, d3 = np.float32(a2 - x2[j]), np.float32(a3 - x3[j])
            d4, d5 = np.float32(a4 - x4[j]), np.float32(a5 - x5[j])
            d6, d7 = np.float32(a6 - x6[j]), np.float32(a7 - x7[j])
            out[j] = ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)) + ((d4 * d4 + d5 * d5) + (d6 * d6 + d7 * d7))
        done = 8
    else:
        a0, a1 = row[0], row[1]
        x0, x1 = block[0], block[1]
        for j in range(size):
            d0, d1 = np.float32(a0 - x0[j]), np.float32(a1 - x1[j])
            out[j] = d0 * d0 + d1 * d1
        done = 2
    while done + 4 <= units:
        a0, a1, a2, a3 = row[done], row[done + 1], row[done + 2], row[done + 3]
        x0, x1, x2, x3 = block[done], block[done + 1], block[done + 2], block[done + 3]
        for j in range(size):
            d0, d1 = np.float32(a0 - x0[j]), np.float32(a1 - x1[j])
            d2, d3 = np.float32(a2 - x2[j]), np.float32(a3 - x3[j])
            out[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
        done += 4
    if done < units:
        a0, a1 = row[done], row[done + 1]
        x0, x1 = block[done], block[done + 1]
        for j in range(size):
            d0, d1 = np.float32(a0 - x0[j]), np.float32(a1 - x1[j])
            out[j] += d0 * d0 + d1 * d1


@njit(nogil=True, cache=True, fastmath=_FAST)
def kernels(squares: Any, size: int, scale: Any, shift: Any) -> None:
    """Replace squared distances d by ``2^(shift - scale d)``, in place; none becomes smaller than 2^-60.

    Parameters
    ----------
    squares : (TILE,) float32
    size : int
        How many.
    scale, shift : float32
        Of a result of 2^120 or more nothing is left.
    """
    for j in range(size):
        x = min(squares[j] * scale - shift, _MOST)
        n = np.int32(np.floor(x + _HALF))
        f = x - np.float32(n)
        p = _ONE + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * _C5))))
        squares[j] = p * np.int32((np.int32(127) - n) << np.int32(23)).view(np.float32)  # p times 2^-n


@njit(nogil=True, cache=True, fastmath=_FAST)
def _add(near: Any, size: int, weights: Any, own: Any, sums: Any, sums_of_powers: Any) -> Any:
    """Add one row's kernels, and their fourth powers, to the sums of the columns, and give the row's own sums."""
    total, total_of_powers = _ZERO, _ZERO
    for j in range(size):
        square = max(near[j] * near[j], _LEAST)
        power = square * square
        total += weights[j] * near[j]
        total_of_powers += weights[j] * power
        sums[j] += own * near[j]
        sums_of_powers[j] += own * power
    return total, total_of_powers


@njit(nogil=True, cache=True)
def pair_sums(x: Any, weights: Any, starts: Any, group: Any, scale: float, between: bool, out: Any) -> None:
    """Sum exp(-d/8v) and exp(-d/2v) over all pairs of different rows, at squared distance d.

    The second is the fourth power of the first, so one exponential serves both; each pair is met once.

    Parameters
    ----------
    x : (unit, sample) float32 or float64
        Rows in the order of `order`; an even number of units, if need be with one of zeros.
    weights : (class, sample) float32
        At most one.
    starts, group
        As `order` gives them.
    scale : float
        ``log2(e) / 8v``.
    between : bool
        Whether rows of different groups are paired too.
    out : (2, 2, class, sample) float64
        Added to: of rows of the same group and of other groups; of the first kernel and of the second; for each
        class the sum of weight times kernel over the other rows.
    """
    classes = len(weights)
    lower, upper = boxes(x, starts)
    limit = CUTOFF / scale
    scale_32 = np.float32(scale)
    rows = np.ascontiguousarray(x.T)
    block = np.zeros((len(x), TILE), x.dtype)
    block_weights = np.zeros((classes, TILE), np.float32)
    near = np.empty(TILE, np.float32)
    columns = np.zeros((2, classes, TILE), np.float32)
    for there in range(group.size):
        first = starts[there]
        size = starts[there + 1] - first
        block[:, :size] = x[:, first : first + size]
        block_weights[:, :size] = weights[:, first : first + size]
        block_weights[:, size:] = _ZERO
        padded = (size + LANES - 1) // LANES * LANES
        for here in range(there, -1, -1):
            other = np.int64(group[here] != group[there])
            if other and not between:
                break
            if far(lower[here], upper[here], lower[there], upper[there], limit):
                continue
            for i in range(starts[here], starts[here + 1]):
                if here != there and far(rows[i], rows[i], lower[there], upper[there], limit):
                    continue
                squared_distances(rows[i], block, padded, near)
                kernels(near, padded, scale_32, _ZERO)
                if here == there:
                    near[: i - first + 1] = _ZERO  # pairs that were met before
                for label in range(classes):
                    total, total_of_powers = _add(
                        near, padded, block_weights[label], weights[label, i], columns[0, label], columns[1, label]
                    )
                    out[other, 0, label, i] += total
                    out[other, 1, label, i] += total_of_powers
            for which in range(2):
                for label in range(classes):
                    for j in range(size):
                        out[other, which, label, first + j] += columns[which, label, j]
                    columns[which, label] = _ZERO
