"""The information plane of a run in a few numbers per layer."""

import xarray as xr

from ipstore.errors import ParameterError

__all__ = ["summary"]


def summary(plane: xr.Dataset) -> xr.Dataset:
    """Sum up where every layer goes in the information plane: its peak, its end, and the drop between them.

    Only seeds without a NaN count, as after divergence: a mean over changing seeds would jump where one drops
    out. If no seed is left, every number is NaN.

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY (epoch, seed, layer) in bits, epochs ascending; may be lazy.

    Returns
    -------
    Dataset
        Over ``layer``, in memory, in bits save the epoch. Of the curve of I(X;T) that is the mean over seeds:
        ``peak_I_XT``, ``peak_epoch`` (the first, if there are several) and ``drop``, the peak minus the end.
        At the last epoch, the mean over seeds and the standard deviation (n - 1; NaN for a single seed):
        ``end_I_XT``, ``end_I_XT_sd``, ``end_I_TY`` and ``end_I_TY_sd``. The attribute ``seeds`` says how many
        seeds count.

    Raises
    ------
    ParameterError
        If `plane` lacks a variable or a dimension, or has no epochs.
    """
    wanted = {"epoch", "seed", "layer"}
    if not {"I_XT", "I_TY"} <= set(plane) or set(plane["I_XT"].dims) != wanted or not plane.sizes["epoch"]:
        raise ParameterError(
            f"a summary needs I_XT and I_TY over epoch, seed and layer, at one epoch or more, but got "
            f"{', '.join(map(str, plane.data_vars)) or 'no variables'} over {dict(plane.sizes)}"
        )
    values = plane[["I_XT", "I_TY"]].load()
    whole = (values["I_XT"] + values["I_TY"]).notnull().all(["epoch", "layer"])
    values = values.where(whole)
    curve = values["I_XT"].mean("seed")
    end = values.isel(epoch=-1, drop=True)
    mean, sd = end.mean("seed"), end.std("seed", ddof=1)
    made = xr.Dataset(
        {
            "peak_I_XT": curve.max("epoch"),
            "peak_epoch": curve.idxmax("epoch"),
            "end_I_XT": mean["I_XT"],
            "end_I_XT_sd": sd["I_XT"],
            "drop": curve.max("epoch") - mean["I_XT"],
            "end_I_TY": mean["I_TY"],
            "end_I_TY_sd": sd["I_TY"],
        },
        attrs={"seeds": int(whole.sum())},
    )
    for name, array in made.data_vars.items():
        array.attrs["units"] = "1" if name == "peak_epoch" else "bits"
    return made
