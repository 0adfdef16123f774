"""Compiled loops of `partitions`: contiguous partitions by dynamic programming, and moves of one state at a time.

A partition of the states into clusters t is worth the sum over t of sum_y f(M_ty) - (1 - price) f(P_t) nats, where
f(x) = x log x, M_ty is the mass of (t, y) and P_t that of t: that is I(T;Y) - price H(T), less H(Y).
"""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["best_intervals", "improve", "k_best_intervals"]


@njit(nogil=True, cache=True)
def _f(x: Any) -> Any:
    return x * np.log(x) if x > 0 else 0.0


@njit(nogil=True, cache=True)
def _value(sums: Any, i: Any, j: Any) -> Any:
    """Give sum_y f(M_y) - f(P), and f(P), of the cluster of the states from `i` to before `j`."""
    classes, mass = 0.0, 0.0
    for y in range(sums.shape[1]):
        m = sums[j, y] - sums[i, y]
        classes += _f(m)
        mass += m
    whole = _f(mass)
    return classes - whole, whole


@njit(nogil=True, cache=True)
def _cumulative(mass: Any) -> Any:
    sums = np.zeros((mass.shape[0] + 1, mass.shape[1]))
    for x in range(mass.shape[0]):
        sums[x + 1] = sums[x] + mass[x]
    return sums


@njit(nogil=True, cache=True)
def best_intervals(mass: Any, prices: Any) -> Any:
    """Cut the states, in the order given, into the intervals of the greatest I(T;Y) - price H(T).

    The best value up to j is the maximum over i of the best up to i and the interval (i, j). An i need not be tried
    again once cutting at j is at least as good whatever comes later: sum_y f(M_y) - f(P) never falls by a cut, and
    f(P) falls the most where the interval ends at the last state. This is the pruning of PELT (Killick, Fearnhead &
    Eckley, JASA 107, 2012, theorem 3.1) with a constant that depends on i and j. Logarithms take most of the time,
    and all prices share them.

    Parameters
    ----------
    mass : (state, class) float64
        p(x, y), no row of zeros.
    prices : (price,) float64
        In [0, 1].

    Returns
    -------
    (price, state) int64
        Number of the interval.
    """
    states = mass.shape[0]
    sums = _cumulative(mass)
    best = np.zeros((states + 1, prices.size))
    start = np.zeros((states + 1, prices.size), np.int64)
    rest = np.array([_value(sums, i, states)[1] for i in range(states + 1)])
    alive = np.empty(states, np.int64)
    bound = np.empty((states, prices.size))
    count = 0
    for j in range(1, states + 1):
        alive[count] = j - 1
        count += 1
        best[j] = -np.inf
        for n in range(count):
            i = alive[n]
            classes, whole = _value(sums, i, j)
            later = rest[i] - whole - rest[j]
            for c in range(prices.size):
                value = best[i, c] + classes + prices[c] * whole
                bound[n, c] = value + prices[c] * later
                better = value > best[j, c]
                best[j, c] = value if better else best[j, c]
                start[j, c] = i if better else start[j, c]
        kept = 0
        for n in range(count):
            for c in range(prices.size):
                if bound[n, c] > best[j, c]:
                    alive[kept] = alive[n]
                    kept += 1
                    break
        count = kept
    cluster = np.empty((prices.size, states), np.int64)
    for c in range(prices.size):
        number, end = 0, states
        while end > 0:
            cluster[c, start[end, c] : end] = number
            number += 1
            end = start[end, c]
    return cluster


@njit(nogil=True, cache=True)
def k_best_intervals(mass: Any, k: int) -> Any:
    """Cut the states, in the order given, into the `k` intervals of the greatest I(T;Y).

    With binary Y and states in the order of p(y|x) the beginning of the last interval never moves back as its end
    moves on, as the values are Monge (Iwata & Ozawa, ISIT 2014, who use SMAWK), so that each is sought only between
    those of its neighbours, in halves: O(k K log K).

    Parameters
    ----------
    mass : (state, class) float64
        p(x, y), no row of zeros.
    k : int
        1 to the number of states.

    Returns
    -------
    (state,) int64
        Number of the interval.
    """
    states = mass.shape[0]
    sums = _cumulative(mass)
    best = np.array([_value(sums, 0, j)[0] for j in range(states + 1)])
    start = np.zeros((k, states + 1), np.int32)
    top = 1
    while top <= states:
        top *= 2
    for layer in range(1, k):
        before, first = best, start[layer]
        best = np.full(states + 1, -np.inf)
        step = top
        while step >= 1:
            for j in range(step, states + 1, 2 * step):
                if j <= layer:
                    continue
                low = layer if j - step <= layer else first[j - step]
                high = j - 1 if j + step > states else min(j - 1, first[j + step])
                for i in range(low, high + 1):
                    value = before[i] + _value(sums, i, j)[0]
                    if value > best[j]:
                        best[j] = value
                        first[j] = i
            step //= 2
    cluster = np.empty(states, np.int64)
    end = states
    for layer in range(k - 1, -1, -1):
        cluster[start[layer, end] : end] = layer
        end = start[layer, end]
    return cluster


@njit(nogil=True, cache=True)
def improve(mass: Any, cluster: Any, price: float, fewest: int, most: int) -> None:
    """Move one state at a time to the cluster where I(T;Y) - price H(T) gains most, until none gains.

    Parameters
    ----------
    mass : (state, class) float64
        p(x, y), no row of zeros.
    cluster : (state,) int64
        Numbers 0 to n - 1, each of them used; overwritten.
    price : float
        In [0, 1].
    fewest, most : int
        How many clusters there may be. A state may leave for a cluster of its own, or leave none behind.
    """
    states, classes = mass.shape
    used = cluster.max() + 1
    sums = np.zeros((states + 1, classes))
    size = np.zeros(states + 1, np.int64)
    for x in range(states):
        sums[cluster[x]] += mass[x]
        size[cluster[x]] += 1
    value = np.empty(states + 1)
    slope = np.empty((states + 1, classes))
    bend = np.empty((states + 1, classes))
    for t in range(states + 1):
        _settle(t, sums, price, value, slope, bend)
    still, x = 0, -1
    while still < states:
        x = (x + 1) % states
        still += 1
        own = cluster[x]
        alone = size[own] == 1
        if alone and used == fewest:
            continue
        lost = value[own] if alone else value[own] - _worth(sums[own], mass[x], -1.0, price)
        gain, to = 1e-13, own
        for t in range(used if alone or used == most else used + 1):
            at_most = -lost
            for y in range(classes):
                if mass[x, y] > 0:
                    at_most += mass[x, y] * (slope[t, y] + mass[x, y] * bend[t, y])
            if t != own and at_most > gain:
                gained = _worth(sums[t], mass[x], 1.0, price) - value[t] - lost
                if gained > gain:
                    gain, to = gained, t
        if to == own:
            continue
        still = 0
        cluster[x] = to
        size[to] += 1
        size[own] -= 1
        used += to == used
        if alone:  # the last number takes the place of the one that is left empty
            used -= 1
            cluster[cluster == used] = own
            size[own], size[used] = size[used], 0
        for t in (own, to, used):  # summed again: differences would leave a rounding where there is nothing
            sums[t] = 0.0
            for z in np.flatnonzero(cluster == t):
                sums[t] += mass[z]
            _settle(t, sums, price, value, slope, bend)


@njit(nogil=True, cache=True)
def _settle(t: Any, sums: Any, price: float, value: Any, slope: Any, bend: Any) -> None:
    """Write the value of a cluster, and `slope` and `bend`, which bound what it gains by m.

    That is sum_y f(M_y + m_y) - f(M_y) less (1 - price) times the same of P. As f is convex and
    log(1 + u) <= u, it is at most sum_y m_y (slope_y + m_y bend_y).
    """
    value[t] = _worth(sums[t], sums[t], 0.0, price)
    whole = sums[t].sum()
    for y in range(sums.shape[1]):
        if sums[t, y] > 0:
            slope[t, y] = 1 + np.log(sums[t, y]) - (1 - price) * (1 + np.log(whole))
            bend[t, y] = 1 / sums[t, y]
        else:
            slope[t, y], bend[t, y] = 0.0, np.inf


@njit(nogil=True, cache=True)
def _worth(masses: Any, more: Any, sign: float, price: float) -> Any:
    """Give what a cluster of the masses `masses` + `sign` `more`, (class,), adds to the value of a partition."""
    classes, mass = 0.0, 0.0
    for y in range(masses.size):
        m = masses[y] + sign * more[y]
        classes += _f(m)
        mass += m
    return classes - (1 - price) * _f(mass)
