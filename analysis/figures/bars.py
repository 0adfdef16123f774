"""Error bars of a mean over seeds."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.figures.wording import count
from ipstore.analysis.intervals import seed_interval

__all__ = ["bar_words", "error_bar"]

_FEWEST = 5
"""Seeds of which `seed_interval` gives an interval."""


def error_bar(values: xr.DataArray) -> NDArray[np.float64]:
    """Give the ends of an error bar: the 95% interval of the mean, or the range of seeds too few for one.

    Parameters
    ----------
    values : DataArray (seed,)
        Without NaN.

    Returns
    -------
    (2,) float64
    """
    ends: NDArray[np.float64] = seed_interval(values).values
    if np.isnan(ends).any():
        ends = np.array([values.min(), values.max()])
    return ends


def bar_words(seeds: int) -> str:
    """Say what the error bars of so many seeds are."""
    return "95% BCa bootstrap interval of the mean" if seeds >= _FEWEST else f"range of the {count(seeds, 'seed')}"
