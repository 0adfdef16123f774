"""Compiled loops of `knn`: for each sample its nearest neighbours of the same class, and all that are as near.

They compile on first use, stay compiled on disk, and do not hold the GIL.
"""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["local_terms"]

_WINDOW = 64
"""Samples on either side, in the order of the first unit, from which a first bound of the distance is taken."""


@njit(nogil=True, cache=True)
def _measure(x: Any, i: int, start: int, stop: int, row: Any) -> None:
    """Write the largest difference over the units between sample i and samples `start` to `stop` to `row`."""
    units = x.shape[0]
    here, first = row[start:stop], x[0, start:stop]
    value = x[0, i]
    for j in range(here.size):
        here[j] = abs(first[j] - value)
    unit = 1
    while unit + 1 < units:  # two at a time: half as many passes over the row
        one, two = x[unit, start:stop], x[unit + 1, start:stop]
        value_1, value_2 = x[unit, i], x[unit + 1, i]
        for j in range(here.size):
            here[j] = max(here[j], max(abs(one[j] - value_1), abs(two[j] - value_2)))
        unit += 2
    if unit < units:
        one = x[unit, start:stop]
        value = x[unit, i]
        for j in range(here.size):
            here[j] = max(here[j], abs(one[j] - value))


@njit(nogil=True, cache=True)
def _keep_nearest(row: Any, start: int, stop: int, nearest: Any) -> None:
    """Insert the distances `start` to `stop` into `nearest`, the smallest so far in ascending order."""
    last = nearest.size - 1
    bound = nearest[last]
    for j in range(start, stop):
        if row[j] < bound:
            distance = row[j]
            place = last
            while place > 0 and nearest[place - 1] > distance:
                nearest[place] = nearest[place - 1]
                place -= 1
            nearest[place] = distance
            bound = nearest[last]


@njit(nogil=True, cache=True)
def _reach(pivot: Any, value: Any, distance: Any, low: int, high: int) -> Any:
    """Give the range within [low, high) where `pivot`, which ascends there, lies no farther than `distance`.

    It compares the difference as `_measure` rounds it, so that none is lost.
    """
    start, stop = low, high
    while start < stop:
        middle = (start + stop) // 2
        if value - pivot[middle] > distance:
            start = middle + 1
        else:
            stop = middle
    first, stop = start, high
    while start < stop:
        middle = (start + stop) // 2
        if pivot[middle] - value > distance:
            stop = middle
        else:
            start = middle + 1
    return first, start


@njit(nogil=True, cache=True)
def _within(row: Any, start: int, stop: int, near: Any, far: Any) -> Any:
    """Count the distances up to `near` and up to `far`."""
    here = row[start:stop]
    nearer, farther = np.int32(0), np.int32(0)
    for j in range(here.size):
        nearer += np.int32(here[j] <= near)
        farther += np.int32(here[j] <= far)
    return nearer, farther


@njit(nogil=True, cache=True)
def local_terms(x: Any, bounds: Any, k: int, digamma: Any, counts_itself: bool, term: Any, change: Any) -> None:
    """Write psi(k_i) - psi(m_i) of each sample, and what leaving out each sample would change in those of others.

    r_i is the distance in the maximum norm to the k-th nearest other sample of the same class (the farthest, if
    there are fewer); k_i and m_i are the numbers of other samples of that class and of all that lie no farther
    than r_i.

    Parameters
    ----------
    x : (unit, sample) float64
        Samples in the order of their class, within a class in that of the first unit.
    bounds : (class + 1,) int64
        Where classes begin; each holds two samples or more.
    k : int
    digamma : (sample + 2,) float64
        Digamma function of 0 (not read), 1, 2, ...
    counts_itself : bool
        Where r_i is 0, k_i and m_i count the sample itself too.
    term : (sample,) float64
        psi(k_i) - psi(m_i).
    change : (sample,) float64
        What the sum of all other terms gains when this sample is left out, the classes' own sizes aside. In classes
        of k + 1 samples or fewer the distance is taken to stay as it is.
    """
    samples = x.shape[1]
    pivot = x[0]
    row = np.empty(samples, x.dtype)
    nearest = np.empty(k + 1, x.dtype)
    starts = np.empty(bounds.size - 1, np.int64)
    stops = np.empty(bounds.size - 1, np.int64)
    change[:] = 0.0
    for own in range(bounds.size - 1):
        low, high = bounds[own], bounds[own + 1]
        others = high - low - 1
        for i in range(low, high):
            # A bound from the neighbours in one unit, then from all that it cannot exclude in that unit.
            nearest[:] = np.inf
            start, stop = max(low, i - _WINDOW), min(high, i + _WINDOW + 1)
            _measure(x, i, start, stop, row)
            row[i] = np.inf
            _keep_nearest(row, start, stop, nearest)
            first, end = _reach(pivot, pivot[i], nearest[k], low, high)
            _measure(x, i, first, start, row)
            _keep_nearest(row, first, start, nearest)
            _measure(x, i, stop, end, row)
            _keep_nearest(row, stop, end, nearest)
            radius, next_radius = nearest[min(k, others) - 1], nearest[k]
            if others <= k:
                next_radius = radius

            starts[own], stops[own] = min(first, start), max(end, stop)
            same, next_same = _within(row, starts[own], stops[own], radius, next_radius)
            near, next_near = same, next_same
            for group in range(bounds.size - 1):
                if group != own:
                    first, end = _reach(pivot, pivot[i], next_radius, bounds[group], bounds[group + 1])
                    starts[group], stops[group] = first, end
                    _measure(x, i, first, end, row)
                    nearer, farther = _within(row, first, end, radius, next_radius)
                    near += nearer
                    next_near += farther

            itself = 1 if counts_itself and radius == 0 else 0
            term[i] = digamma[same + itself] - digamma[near + itself]
            # Without a neighbour of another class there is one less; without one of its own the radius may grow.
            gain_other = digamma[same + itself] - digamma[near + itself - 1] - term[i] if near > same else 0.0
            if same > k or others <= k:
                left, left_near = same - 1 + itself, near - 1 + itself
            else:
                itself = 1 if counts_itself and next_radius == 0 else 0
                left, left_near = next_same - 1 + itself, next_near - 1 + itself
            gain_same = digamma[left] - digamma[left_near] - term[i] if left > 0 else 0.0
            for group in range(bounds.size - 1):
                gain = gain_same if group == own else gain_other
                if gain != 0.0:
                    here, into = row[starts[group] : stops[group]], change[starts[group] : stops[group]]
                    for j in range(here.size):
                        into[j] += gain if here[j] <= radius else 0.0
