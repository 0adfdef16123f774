"""The straight line with one bend that is nearest to a curve, exactly."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bend", "bend", "spacing"]

_LEAST_VARIATION = 1e-12
"""Of a curve by its size: below it is rounding."""

_LEAST_SLOPE = 1e-9
"""Of a curve of unit size over a unit of epochs: below it is rounding, and no fall."""


class Bend(NamedTuple):
    """A bent line.

    Attributes
    ----------
    place, value : float
        Where it bends; NaN if no line that falls and then falls less, or rises, is nearer than a straight one.
    explained : float
        Share of the squared distance of the best straight line that the bend takes away.
    """

    place: float
    value: float
    explained: float


_NONE = Bend(np.nan, np.nan, np.nan)


def spacing(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the stretch of x that each point stands for, (point,): sums so weighted approach integrals (trapezoids)."""
    half = np.diff(x) / 2
    return np.concatenate([half[:1], half[:-1] + half[1:], half[-1:]])


def bend(x: NDArray[np.float64], y: NDArray[np.float64]) -> Bend:
    """Fit a continuous line of two straight parts by least squares, of which the first falls and the second falls less.

    Parameters
    ----------
    x, y : (point,)
        Four points or more, x ascending. Each counts by its `spacing`.

    Returns
    -------
    Bend
        The best of all: between two points the bend is where the two straight lines fitted to either side meet, if they
        meet there; otherwise it is at a point.

    References
    ----------
    Hudson, "Fitting segmented curves whose join points have to be estimated", JASA 61 (1966).
    """
    weights = spacing(x)
    weights = weights / weights.sum()
    middle = weights @ y
    size = np.sqrt(weights @ (y - middle) ** 2)
    if not size > _LEAST_VARIATION * abs(y).max():
        return _NONE
    u, v = (x - x[0]) / (x[-1] - x[0]), (y - middle) / size  # rounding is relative to these
    left = np.cumsum([weights, weights * u, weights * v, weights * u * u, weights * u * v, weights * v * v], axis=1)
    moments = np.stack([weights, weights * u, weights * v, weights * u * u, weights * u * v, weights * v * v])
    right = np.cumsum(moments[:, ::-1], axis=1)[:, ::-1]
    candidates = np.concatenate([_between(u, left, right), _at_points(u, left, right)], axis=1)
    _, _, before, after, _ = candidates
    place, value, _, _, misfit = candidates[:, (before < -_LEAST_SLOPE) & (after > before + _LEAST_SLOPE)]
    straight = _misfit(left[:, -1:])[0]
    if not len(misfit) or not (best := misfit.min()) < straight:
        return _NONE
    at = misfit.argmin()
    explained = 1 - max(best, 0.0) / straight
    return Bend(float(x[0] + place[at] * (x[-1] - x[0])), float(middle + size * value[at]), float(explained))


def _lines(moments: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intercept and slope of the straight lines with these weighted sums of 1, u, v, uu, uv, vv, (6, line)."""
    w, wu, wv, wuu, wuv, _ = moments
    slope = (w * wuv - wu * wv) / (w * wuu - wu**2)
    return (wv - slope * wu) / w, slope


def _misfit(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    intercept, slope = _lines(moments)
    _, _, wv, _, wuv, wvv = moments
    rest: NDArray[np.float64] = wvv - intercept * wv - slope * wuv
    return rest


def _between(u: NDArray[np.float64], left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bends strictly between two points: place, value, both slopes and misfit (5, bend)."""
    before, after = left[:, 1:-2], right[:, 2:-1]  # two points on either side make a line
    (a, b), (c, d) = _lines(before), _lines(after)
    parallel = b == d
    place = np.where(parallel, np.nan, (a - c) / np.where(parallel, 1.0, d - b))
    found = np.stack([place, a + b * place, b, d, _misfit(before) + _misfit(after)])
    return found[:, (place >= u[1:-2]) & (place <= u[2:-1])]


def _at_points(u: NDArray[np.float64], left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bends at points, but the first and the last: place, value, both slopes and misfit (5, bend)."""
    at = u[1:-1]
    w, wu, wv, wuu, wuv, _ = left[:, 1:-1]
    p, pp, pv = wu - at * w, wuu - 2 * at * wu + at**2 * w, wuv - at * wv  # sums with u - at, which is at most 0 here
    w, wu, wv, wuu, wuv, _ = right[:, 1:-1]
    q, qq, qv = wu - at * w, wuu - 2 * at * wu + at**2 * w, wuv - at * wv
    one, v, vv = left[0, -1], left[2, -1], left[5, -1]
    zero = np.zeros_like(at)
    normal = np.stack([np.stack([zero + one, p, q]), np.stack([p, pp, zero]), np.stack([q, zero, qq])])
    sides = np.stack([zero + v, pv, qv])
    value, before, after = np.linalg.solve(normal.transpose(2, 0, 1), sides.T[:, :, None])[:, :, 0].T
    return np.stack([at, value, before, after, vv - value * v - before * pv - after * qv])
