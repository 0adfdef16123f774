"""Compiled loops of `certificates`. They compile on first use, stay compiled on disk, and do not hold the GIL."""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["largest_height"]


@njit(nogil=True, cache=True)
def _softplus(u: float) -> Any:
    return max(u, 0.0) + np.log1p(np.exp(-abs(u)))


@njit(nogil=True, cache=True)
def _height(log_mass: Any, q: Any, beta: float, u: float) -> Any:
    """Give log c at the decoder of log odds u."""
    for_0, for_1 = beta * _softplus(u), beta * _softplus(-u)
    top = -np.inf
    for x in range(log_mass.size):
        top = max(top, log_mass[x] - q[x, 0] * for_0 - q[x, 1] * for_1)
    total = 0.0
    for x in range(log_mass.size):
        behind = log_mass[x] - q[x, 0] * for_0 - q[x, 1] * for_1 - top
        if behind > -45:
            total += np.exp(behind)
    # What is left out is e^-45 of the largest for each state, far below the allowance for rounding.
    return top + np.log(total)


@njit(nogil=True, cache=True)
def _bend(middle: float, end: float) -> Any:
    """How far softplus at `end` lies above its tangent at `middle`."""
    slope = 1 / (1 + np.exp(-middle)) if middle > 0 else 1 - 1 / (1 + np.exp(middle))
    return max(0.0, _softplus(end) - _softplus(middle) - slope * (end - middle))


@njit(nogil=True, cache=True)
def largest_height(log_mass: Any, q: Any, beta: float, places: Any, tolerance: float, most: int) -> Any:
    """Bound log c between the first and the last of `places`; see `certificates.find_excess`.

    Parameters
    ----------
    log_mass : (state,) float64
        log p(x) - log Z_x - beta sum_y q log q.
    q : (state, 2) float64
    beta : float
    places : (place,) float64
        Log odds, ascending: the cells to begin with.
    tolerance : float
        How far the bound may lie above the largest log c that was met, or above 0.
    most : int
        Evaluations of c at most; then cells stay as they are.

    Returns
    -------
    bound : float
    met, where : float
        The largest log c that was met if that is above 0, and its place.
    evaluations : int
    """
    size = places.size
    heights = np.empty(size)
    met, where = 0.0, places[0]
    for i in range(size):
        heights[i] = _height(log_mass, q, beta, places[i])
        if heights[i] > met:
            met, where = heights[i], places[i]
    evaluations = size
    bound = 0.0
    stack = np.empty((128, 4))
    for i in range(size - 1):
        stack[0] = places[i], places[i + 1], heights[i], heights[i + 1]
        depth = 1
        while depth:
            depth -= 1
            low, high, at_low, at_high = stack[depth]
            # Halving the angle 2 atan(exp(u / 2)) rather than u: there the bend of beta softplus is even.
            middle = 2 * np.log(np.tan((np.arctan(np.exp(low / 2)) + np.arctan(np.exp(high / 2))) / 2))
            if not low < middle < high:
                middle = (low + high) / 2
            above = max(at_low + beta * _bend(middle, low), at_high + beta * _bend(middle, high))
            if above <= met + tolerance or evaluations >= most or depth > 125 or not low < middle < high:
                bound = max(bound, above)
                continue
            at_middle = _height(log_mass, q, beta, middle)
            evaluations += 1
            if at_middle > met:
                met, where = at_middle, middle
            stack[depth] = low, middle, at_low, at_middle
            stack[depth + 1] = middle, high, at_middle, at_high
            depth += 2
    return bound, met, where, evaluations
