"""What can be read off a curve over epochs: its end, its noise, and when it passes a level. Plain arrays in and out.

Every function takes curves (curve, epoch), all finite, and the epochs (epoch,), ascending and not necessarily evenly
spaced: places are epochs, never positions.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["NOISE_GATE", "NOISE_TOLERANCE", "end_value", "last_at_least", "noise_scale", "passing", "stays_within"]

Curves = NDArray[np.float64]

NOISE_GATE = 6.0
"""A fall of less than so many times the noise is none.

The highest of n normal values lies sqrt(2 ln n) standard deviations up, 4.3 for 10,000, and above 5.5 once in 5000 such
curves. What is left is for the end, which is uncertain as well.
"""

NOISE_TOLERANCE = 3.0
"""What is nearer than so many times the noise is not told apart. Half the gate, so that a fall has a top and a foot."""

_MAD_OF_NORMAL = 0.6744897501960817
"""Median of the absolute value of a standard normal variable."""


def end_value(curves: Curves, epochs: NDArray[np.float64], stretch: float) -> Curves:
    """Median over the last `stretch` of all epochs, (curve,)."""
    first, last = epochs[0], epochs[-1]
    return np.median(curves[:, epochs >= last - stretch * (last - first)], axis=1)


def noise_scale(curves: Curves, epochs: NDArray[np.float64]) -> Curves:
    """Estimate the standard deviation of what differs from epoch to epoch without a trend, (curve,).

    Each value is compared with the straight line between its neighbours, so that a steady fall is no noise. The median
    of these differences counts, so that bends are none either.

    References
    ----------
    Gasser, Sroka & Jennen-Steinmetz, "Residual variance and residual pattern in nonlinear regression", Biometrika 73
    (1986), eq. 2.1, with the median absolute deviation in the place of the mean square.
    """
    left = (epochs[2:] - epochs[1:-1]) / (epochs[2:] - epochs[:-2])
    residuals = left * curves[:, :-2] + (1 - left) * curves[:, 2:] - curves[:, 1:-1]
    scaled = abs(residuals) / np.sqrt(left**2 + (1 - left) ** 2 + 1)
    noise: Curves = np.median(scaled, axis=1) / _MAD_OF_NORMAL
    return noise


def last_at_least(curves: Curves, level: Curves) -> NDArray[np.int64]:
    """Position of the last value that is `level` (curve,) or more; -1 if there is none."""
    reached = curves >= level[:, None]
    last = curves.shape[1] - 1 - reached[:, ::-1].argmax(axis=1)
    return np.where(reached.any(axis=1), last, -1)


def stays_within(curves: Curves, level: Curves, tolerance: Curves) -> NDArray[np.int64]:
    """Position from which no value is further than `tolerance` from `level`, both (curve,).

    The last position at the latest: there the curve is at its end, whether it has settled or not.
    """
    outside = abs(curves - level[:, None]) > tolerance[:, None]
    after = curves.shape[1] - outside[:, ::-1].argmax(axis=1)
    return np.where(outside.any(axis=1), np.minimum(after, curves.shape[1] - 1), 0)


def passing(curves: Curves, epochs: NDArray[np.float64], level: Curves) -> Curves:
    """Epoch at which each curve falls below `level` (curve,) for good, on the straight lines between the epochs.

    NaN where it ends at the level or above, or is never there.
    """
    before = last_at_least(curves, level)
    found = (before >= 0) & (before < curves.shape[1] - 1)
    row, left = np.flatnonzero(found), before[found]
    high, low = curves[row, left], curves[row, left + 1]
    passed = np.full(len(curves), np.nan)
    passed[found] = epochs[left] + (high - level[found]) / (high - low) * (epochs[left + 1] - epochs[left])
    return passed
