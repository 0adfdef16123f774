"""What is measured of every seed, over seeds."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.intervals import seed_interval
from ipstore.errors import ParameterError

__all__ = ["over_seeds"]

_STATISTICS = ("mean", "median", "low", "high", "seeds")


def over_seeds(measures: xr.Dataset, *, level: float = 0.95) -> xr.Dataset:
    """Sum up measures over the seeds of which there are any.

    An event that does not happen in a seed, as a crossing, is NaN there, and that seed does not count, nor does one
    whose value is infinite, as a ratio can be: a mean is then that of the seeds in which it does, and ``seeds`` says
    how many these are. It says nothing of when it would have happened in the others, had they been trained for longer.

    Parameters
    ----------
    measures : Dataset
        Over (..., seed), as the functions of this package give them; variables without ``seed`` are left out.
    level : float
        Confidence of the interval, in (0, 1).

    Returns
    -------
    Dataset
        Each variable over (statistic, ...), in memory. ``statistic`` is "mean", "median", "low" and "high", the ends of
        the interval of the mean (`ipstore.analysis.seed_interval`, BCa; NaN for fewer than five seeds), and
        "seeds", how many seeds count, whatever the units of the variable are.

    Raises
    ------
    ParameterError
        If no variable is over seeds, or `level` lies outside (0, 1).
    """
    chosen = {str(name): array for name, array in measures.data_vars.items() if "seed" in array.dims}
    if not chosen:
        raise ParameterError(f"a summary over seeds needs a variable over seed but got {dict(measures.sizes)}")
    return xr.Dataset(
        {name: _summed_up(array.compute(), level) for name, array in chosen.items()}, attrs=measures.attrs
    )


def _summed_up(array: xr.DataArray, level: float) -> xr.DataArray:
    values = array.astype(np.float64)
    values = values.where(np.isfinite(values))
    number = values.notnull().sum("seed").astype(np.float64)
    some = values.where(number > 0, 0.0)  # so that a cell without seeds, which gets NaN below, takes no mean of nothing
    parts = [some.mean("seed"), some.median("seed")]
    interval = _interval(values, level)
    parts = [part.where(number > 0) for part in (*parts, interval.sel(bound="low"), interval.sel(bound="high"))]
    whole = xr.concat(
        [part.drop_vars("bound", errors="ignore") for part in (*parts, number)],
        dim=xr.Variable("statistic", list(_STATISTICS)),
        join="exact",
        combine_attrs="drop",
    )
    return whole.assign_attrs({**array.attrs, "interval": interval.attrs["interval"]})


def _interval(values: xr.DataArray, level: float) -> xr.DataArray:
    """Interval of the mean of the seeds that count, which differ from cell to cell: as many calls as ways to count."""
    interval = seed_interval(values, level)
    ordered = values.transpose(..., "seed")
    counts = ordered.notnull().values.reshape(-1, values.sizes["seed"])
    cells: NDArray[np.float64] = ordered.values.reshape(counts.shape)
    ends = interval.transpose(..., "bound").values.reshape(-1, 2).copy()
    ways, of = np.unique(counts, axis=0, return_inverse=True)
    for number, way in enumerate(ways):
        if way.any() and not way.all():
            some = np.flatnonzero(of.ravel() == number)
            part = xr.DataArray(cells[np.ix_(some, np.flatnonzero(way))], dims=("cell", "seed"))
            ends[some] = seed_interval(part, level).values
    return interval.transpose(..., "bound").copy(data=ends.reshape(*ordered.shape[:-1], 2))
