"""What every figure asks of its data: checked planes in memory, their seeds, quantities and limits."""

from collections.abc import Sequence
from typing import Any

import dask.base
import numpy as np
import xarray as xr

from ipstore.analysis.figures.wording import count, parameters
from ipstore.errors import ParameterError, UnknownNameError

__all__ = [
    "QUANTITIES",
    "SATURATION",
    "finite",
    "grid_of",
    "limits",
    "load",
    "prepare",
    "saturated",
    "split",
    "without_nan",
]

QUANTITIES = ("I_XT", "I_TY")

SATURATION = 0.05
"""Bits below H(X) within which a layer counts as saturated."""

_DIMS = ("epoch", "seed", "layer")
_ATTRS = ("estimator", "parameters", "labels", "source_run")
_ENTROPIES = ("I_XY", "H_X")


def prepare(
    plane: xr.Dataset, layers: Sequence[str] | None = None, *, needs: Sequence[str] = QUANTITIES, grid: str = ""
) -> xr.Dataset:
    """Check that `plane` is an information plane, choose its layers and load it.

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY (epoch, seed, layer), in bits; may be lazy.
    layers : sequence of str, optional
        Which layers, in this order; all by default.
    needs : sequence of str
        The quantities that it must have; if none, either will do.
    grid : str
        The dimension that it has beside those, if it has one.

    Returns
    -------
    Dataset
        I_XT and I_TY as far as they are there, in memory, ordered (grid, epoch, seed, layer), epochs ascending;
        the numbers of a cell are all finite or all NaN.

    Raises
    ------
    ParameterError
        Variables, dimensions or attributes are missing, or no cell is a number.
    UnknownNameError
        A layer that the plane does not have.
    """
    if not isinstance(plane, xr.Dataset):
        raise ParameterError(f"a figure draws what `information_plane` returned, but got a {type(plane).__name__}")
    dims = (grid, *_DIMS) if grid else _DIMS
    names = _quantities(plane, needs)
    for name in names:
        _check_dims(plane[name], dims)
    if missing := [name for name in dims if name not in plane.coords]:
        raise ParameterError(f"the plane lacks coordinates for {', '.join(missing)}; assign them (assign_coords)")
    # The network's own answers have another entropy in every cell.
    wanted = _ATTRS if plane.attrs.get("target") == "output" else (*_ATTRS, *_ENTROPIES)
    if missing := [name for name in wanted if name not in plane.attrs]:
        raise ParameterError(
            f"the plane lacks the attributes {', '.join(missing)}, which the figure must state. "
            f"Keep the attrs (xarray.set_options(keep_attrs=True)) when you compute on a plane"
        )
    if (units := plane.attrs.get("units", "bits")) != "bits":
        raise ParameterError(f"the plane must be in bits but its units are {units!r}; convert it")
    if layers is not None:
        known = [str(name) for name in plane["layer"].values]
        for name in layers:
            if name not in known:
                raise UnknownNameError("layer", name, known)
        plane = plane.sel(layer=list(layers))
    plane = plane[names].transpose(*dims).sortby("epoch").compute()
    plane = plane.where(finite(plane))
    if empty := [str(name) for name in plane["layer"].values if not finite(plane.sel(layer=name)).any()]:
        raise ParameterError(
            f"layer {', '.join(empty)} has no finite value at any epoch and seed. If every seed diverged, "
            f"look at the training loss; else choose the other layers with `layers`"
        )
    if 0 in plane.sizes.values():
        raise ParameterError(f"the plane is empty: {dict(plane.sizes)}. Select at least one epoch, seed and layer")
    return plane


def _quantities(plane: xr.Dataset, needs: Sequence[str]) -> list[str]:
    """Give those that the plane has, or say what is missing and why."""
    names = [name for name in QUANTITIES if name in plane]
    for name in needs if names else QUANTITIES:
        if name in names:
            continue
        there = ", ".join(map(str, plane.data_vars)) or "none"
        estimator = plane.attrs.get("estimator")
        if names and plane.attrs.get("target") == "output":
            hint = "With target='output' there is I_TY alone; `sensitivity` and `bounds` take it"
        elif names and estimator is not None:
            hint = (
                f"The estimator {estimator!r} gives {names[0]} only: use one that gives both, or the figures "
                "`sensitivity` and `bounds`, which take either"
            )
        else:
            hint = "Give what `information_plane` returned"
        raise ParameterError(
            f"an information plane has I_XT and I_TY, but {name} is not among the variables given: {there}. {hint}"
        )
    return names


def _check_dims(array: xr.DataArray, dims: Sequence[str]) -> None:
    if set(array.dims) == set(dims):
        return
    more = [str(name) for name in array.dims if name not in dims]
    hint = ""
    if set(dims) < set(array.dims) and more[0] in array.coords:
        chosen = ", ".join(f"{name}={array[name].values[0].item()!r}" for name in more)
        hint = (
            f". Choose one value of {' and '.join(more)}, as with plane.sel({chosen}), or draw `sensitivity`, which "
            "takes one grid"
        )
    raise ParameterError(f"{array.name} must have dims ({', '.join(dims)}) but has {array.dims}{hint}")


def finite(plane: xr.Dataset) -> xr.DataArray:
    """Tell which cells are numbers in every quantity: bool, over all dimensions."""
    each: xr.DataArray = xr.apply_ufunc(np.isfinite, plane.to_dataarray("quantity"))
    return each.all("quantity")


def without_nan(plane: xr.Dataset) -> tuple[xr.Dataset, str, list[str]]:
    """Keep the seeds that are numbers throughout: else the mean would jump where a seed drops out.

    Parameters
    ----------
    plane : Dataset
        As `prepare` gives it.

    Returns
    -------
    plane : Dataset
        Those seeds; all, if none is a number throughout.
    seeds : str
        "6 seeds", "5 of 6 seeds".
    notes : list of str
        What was left out.
    """
    there = finite(plane)
    # Where nothing is a number, no seed is to blame.
    complete = (there | ~there.any(["epoch", "seed"])).all([dim for dim in there.dims if dim != "seed"])
    every, kept = plane.sizes["seed"], int(complete.sum())
    cells = f"NaN in {int((~there).sum()):,} of {there.size:,} cells"
    if there.all():
        return plane, count(every, "seed"), []
    if kept == every:
        return plane, count(every, "seed"), [f"Left out: {cells}."]
    if kept == 0:
        note = f"Every seed has NaN cells ({cells}): each mean is over the seeds that are numbers at that epoch."
        return plane, count(every, "seed"), [note]
    names = ", ".join(str(seed) for seed in plane["seed"].values[~complete.values])
    note = f"Left out: {count(every - kept, 'seed')} with NaN, as after divergence ({names}); {cells}."
    return plane.isel(seed=complete.values), f"{kept} of {count(every, 'seed')}", [note]


def saturated(plane: xr.Dataset, tolerance: float) -> xr.DataArray:
    """Tell where the mean I(X;T) over seeds lies within `tolerance` bits of H(X): bool, over the other dimensions."""
    if not tolerance >= 0:
        raise ParameterError(f"saturation must be a number of bits, 0 or more, but got {tolerance}")
    full: xr.DataArray = plane["I_XT"].mean("seed") >= plane.attrs["H_X"] - tolerance
    return full


def limits(*planes: xr.Dataset) -> tuple[tuple[float, float], tuple[float, float]]:
    """Give the limits of both axes: zero, the reference lines and every value of `planes` lie inside.

    Estimates other than the plug-in can fall below zero or above the entropies.
    """
    ends = []
    for name, bound in (("I_XT", "H_X"), ("I_TY", "I_XY")):
        low = min(0.0, *(float(plane[name].min()) for plane in planes))
        high = max(0.0, *(max(float(plane.attrs[bound]), float(plane[name].max())) for plane in planes))
        ends.append((low - 0.03 * (high - low), high + 0.11 * (high - low)))
    return ends[0], ends[1]


def grid_of(plane: xr.Dataset) -> list[str]:
    """Name the dimensions of the quantities that are parameters: those beside epoch, seed and layer."""
    dims = [str(dim) for name in QUANTITIES if name in plane for dim in plane[name].dims]
    return [dim for dim in dict.fromkeys(dims) if dim not in _DIMS]


def load(*planes: Any) -> tuple[Any, ...]:
    """Compute the quantities of some planes together: what they have in common is read and worked out once."""
    wanted = []
    for plane in planes:
        names = [name for name in QUANTITIES if isinstance(plane, xr.Dataset) and name in plane]
        wanted.append(plane[names] if names else plane)
    computed: tuple[Any, ...] = dask.base.compute(*wanted, traverse=False)  # type: ignore[no-untyped-call]
    return computed


def split(plane: Any) -> list[Any]:
    """Take a grid of parameters apart, into one plane for each of its points; their parameters say which."""
    if not isinstance(plane, xr.Dataset):
        return [plane]
    planes = [plane]
    for dim in grid_of(plane):
        planes = [one.isel({dim: i}) for one in planes for i in range(one.sizes[dim])]
    return [one.assign_attrs(parameters=parameters(one)) if one is not plane else one for one in planes]
