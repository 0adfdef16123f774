"""The information plane of a run in a few numbers per layer."""

import numpy as np
import xarray as xr

from ipstore.analysis.intervals import seed_interval
from ipstore.errors import ParameterError

__all__ = ["summary"]

_NUMBERS = ("coverage", "beta", "beta_capped", "at_bound")
_ENDS = (
    *("coverage", "H_Y", "beta", "beta_capped", "residual", "at_bound"),
    *("IB_distance_I_XT", "IB_distance_I_TY", "deterministic_distance_H_T", "deterministic_distance_I_TY"),
)


def summary(plane: xr.Dataset) -> xr.Dataset:
    """Sum up where every layer goes in the information plane: its peak, its end, and the drop between them.

    Only seeds without a NaN count, as after divergence: a mean over changing seeds would jump where one drops
    out. If no seed is left, every number is NaN.

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY, or the one that its estimator gives, (..., epoch, seed, layer) in bits, epochs ascending; may
        be lazy. Further dimensions are those of a grid of parameters.

    Returns
    -------
    Dataset
        Over the grid, if any, and ``layer``; in memory, in bits save the epoch. Of the curve of I(X;T) that is the
        mean over seeds: ``peak_I_XT``, ``peak_epoch`` (the first, if there are several) and ``drop``, the peak
        minus the end. At the last epoch, the mean over seeds, the standard deviation over them (n - 1; NaN for
        one), and the 95% interval of the mean (`seed_interval`; NaN for fewer than five): ``end_I_XT``,
        ``end_I_XT_sd``, ``end_I_XT_low`` and ``end_I_XT_high``, and the same of ``end_I_TY``. Of a sampled probe
        also the mean ``end_coverage``; of a plane about the network's own answer ``end_H_Y``, the mean entropy of
        that answer; and of what `ipstore.analysis.self_consistency` gives the mean of the residual, of every distance
        and of both flags, which is the share of seeds, and the median ``end_beta``, the lower of two. The attribute
        ``seeds`` says how many seeds count.

    Raises
    ------
    ParameterError
        If `plane` lacks a variable or a dimension, or has no epochs.
    """
    given = [name for name in ("I_XT", "I_TY") if name in plane]
    if not given or not {"epoch", "seed", "layer"} <= set(plane[given[0]].dims) or not plane.sizes["epoch"]:
        raise ParameterError(
            f"a summary needs I_XT or I_TY over epoch, seed and layer, at one epoch or more, but got "
            f"{', '.join(map(str, plane.data_vars)) or 'no variables'} over {dict(plane.sizes)}"
        )
    values = plane[given].load()
    whole = values.to_dataarray().notnull().all([dim for dim in values.dims if dim != "seed"] + ["variable"])
    values = values.where(whole)
    made = xr.Dataset(attrs={"seeds": int(whole.sum())})
    if "I_XT" in values:
        curve = values["I_XT"].mean("seed")
        made["peak_I_XT"] = curve.max("epoch")
        made["peak_epoch"] = curve.idxmax("epoch")
        made["drop"] = made["peak_I_XT"] - curve.isel(epoch=-1, drop=True)
    for quantity in given:
        end = values[quantity].isel(epoch=-1, drop=True)
        interval = seed_interval(end.isel(seed=np.flatnonzero(whole)))
        made[f"end_{quantity}"] = end.mean("seed")
        made[f"end_{quantity}_sd"] = end.std("seed", ddof=1)
        made[f"end_{quantity}_low"] = interval.sel(bound="low", drop=True)
        made[f"end_{quantity}_high"] = interval.sel(bound="high", drop=True)
    for extra in (name for name in _ENDS if name in plane):
        end = plane[extra].isel(epoch=-1, drop=True).load().where(whole)
        made[f"end_{extra}"] = end.mean("seed")
        if extra == "beta":  # between a beta* and the cap nothing makes sense: the median is a value, the lower of two
            ordered = end.copy(data=np.sort(end.values, axis=end.get_axis_num("seed")))  # NaN last
            made["end_beta"] = ordered.isel(seed=(made.attrs["seeds"] - 1) // 2, drop=True)
    for name, array in made.data_vars.items():
        array.attrs["units"] = "1" if name == "peak_epoch" or str(name).removeprefix("end_") in _NUMBERS else "bits"
    return made
