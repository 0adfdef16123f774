"""The information plane of a run: an estimator over labelled, lazy arrays of activations."""

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import Estimator
from ipstore.analysis.estimators.registry import get
from ipstore.analysis.probe import Probe
from ipstore.binning import Binning
from ipstore.errors import ActivationError, ParameterError, UnknownNameError

__all__ = ["information", "information_plane"]

_TASK_CELLS = 40
"""Cells of one Dask task, at least, where the bytes allow: fewer cost more in scheduling than in work."""

_TASK_BYTES = 2**26
"""Bytes of activations of one Dask task, at most, unless a single cell has more."""


def information_plane(
    run: xr.DataTree, estimator: str = "binned", *, layers: Sequence[str] | None = None, **params: Any
) -> xr.Dataset:
    """Information of every layer on input and label, for every epoch and seed of a run.

    Nothing but the probe is read before the result is computed, and then only what one Dask task needs at a
    time: memory grows with the chunk, never with the run.

    Parameters
    ----------
    run : xarray.DataTree
        As ``ipstore.open(store, run=name)`` gives it.
    estimator : str
        One of ``ipstore.analysis.estimators.available()``, or ``module:object``.
    layers : sequence of str, optional
        By default all, in the order of the network.
    **params
        Parameters of the estimator. On a run that stores codes of bins they default to the bins that were
        stored.

    Returns
    -------
    xarray.Dataset
        ``I_XT`` and ``I_TY`` (epoch, seed, layer) in bits, and the other quantities of the estimator; lazy.
        A cell with activations that the estimator cannot take, as those of a seed that diverged, is NaN. The
        attributes say where it comes from: estimator, its version and parameters, labels "hard" or "soft",
        ``I_XY``, ``H_X`` and ``H_Y`` in bits, and the run.

    Raises
    ------
    UnknownNameError
        If there is no such estimator or layer.
    ParameterError
        If `run` is not a run or has no epoch yet, or a parameter is not allowed or cannot be answered from the
        codes that are stored.
    ActivationError
        If the run stores no activations, or codes where the estimator needs activations.
    """
    if "probe" not in run.children:
        raise ParameterError(
            f"information_plane needs one run but got a tree with {', '.join(run.children) or 'no groups'}; "
            "give one run: ipstore.open(store, run=name), or tree[name]"
        )
    if not run["epoch"].size:
        raise ParameterError(f"the run {run.name!r} has no committed epoch yet; try again after its first commit")
    stored = run["activations"].dataset if "activations" in run.children else xr.Dataset()
    if not stored.data_vars:
        raise ActivationError(
            f"the run {run.name!r} holds no activations (capture level {run.attrs.get('level')!r}); "
            "capture it at level full, half or codes to estimate information"
        )
    names = _in_order(stored, layers)
    arrays = run["probe"].dataset
    given = {name: arrays[name].values for name in ("p_y_given_x", "x_id", "p_x") if name in arrays}
    plane = information({name: stored[name] for name in names}, Probe.of(**given), estimator, params)
    return plane.assign_attrs(source_run=run.name or "")


def _in_order(stored: xr.Dataset, layers: Sequence[str] | None) -> list[str]:
    known = [str(name) for name in stored.attrs.get("layers", stored.data_vars)]
    if layers is None:
        return known
    chosen = [layers] if isinstance(layers, str) else list(layers)
    for name in chosen:
        if name not in known:
            raise UnknownNameError("layer", name, known)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ParameterError(f"layers must name one layer or more, each once, but got {chosen}")
    return [name for name in known if name in chosen]


def information(
    activations: Mapping[str, xr.DataArray], probe: Probe, estimator: str, params: Mapping[str, Any]
) -> xr.Dataset:
    """Estimate the information of some layers.

    Parameters
    ----------
    activations : mapping of str to DataArray (..., sample, <layer>_unit)
        Activations of each layer, or codes with their bins in ``attrs["binning"]``.
    probe : Probe
        Of the same samples.
    estimator : str
    params : mapping
        Parameters of the estimator that were given.

    Returns
    -------
    xarray.Dataset
        Each quantity of the estimator (..., layer), lazy; see `information_plane`.

    Raises
    ------
    UnknownNameError, ParameterError, ActivationError
    """
    found = get(estimator)
    used: dict[str, dict[str, Any]] = {}
    planes = []
    for name, array in activations.items():
        used[name], table = _reconcile(found, name, array, params, probe)
        planes.append(_of_layer(found, name, array, probe, used[name], table))
    first, *others = used.values()
    if any(other != first for other in others):
        raise ParameterError(f"the layers were stored with different bins: {used}; ask for those alike at a time")
    plane = xr.concat(planes, dim=xr.Variable("layer", list(activations)), join="exact", combine_attrs="override")
    for quantity in found.quantities:
        plane[quantity.name] = plane[quantity.name].transpose(..., "layer")
        plane[quantity.name].attrs = {"long_name": quantity.long_name, "units": quantity.units}
    return plane.assign_attrs(
        estimator=estimator,
        estimator_version=found.version,
        estimator_kind=found.kind,
        parameters={key: list(value) if isinstance(value, tuple) else value for key, value in first.items()},
        units="bits",
        labels=probe.labels,
        I_XY=probe.I_XY,
        H_X=probe.H_X,
        H_Y=probe.H_Y,
    )


def _reconcile(
    estimator: Estimator, name: str, array: xr.DataArray, params: Mapping[str, Any], probe: Probe
) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
    """Give the parameters to use on one layer, and a table that merges stored codes where that is needed."""
    if array.dtype.kind != "u":
        return estimator.resolve(params, probe), None
    if estimator.read_codes is None:
        raise ActivationError(
            f"estimator {estimator.name!r} needs activations but layer {name!r} stores codes of bins; "
            "capture at level full or half, or use an estimator that reads codes, such as 'binned'"
        )
    if "binning" not in array.attrs:
        raise ParameterError(f"layer {name!r} stores integers ({array.dtype}) but does not say of which bins")
    wanted, table = estimator.read_codes(Binning.from_attrs(array.attrs["binning"]), estimator.check(params))
    return estimator.resolve(wanted, probe), table


def _of_layer(
    estimator: Estimator,
    name: str,
    array: xr.DataArray,
    probe: Probe,
    params: Mapping[str, Any],
    table: NDArray[np.uint8] | None,
) -> xr.Dataset:
    units = [dim for dim in array.dims if str(dim).endswith("unit")]
    if "sample" not in array.dims or len(units) != 1:
        raise ParameterError(f"layer {name!r} must have dimensions (..., sample, <layer>_unit) but has {array.dims}")
    if array.sizes["sample"] != len(probe.p_y_given_x):
        raise ParameterError(
            f"layer {name!r} has {array.sizes['sample']} samples but the probe has {len(probe.p_y_given_x)}"
        )
    dims = {"p_y_given_x": ["sample", "class"], "x_id": ["sample"], "p_x": ["sample"]}
    given = {key: xr.Variable(dims[key], values).chunk() for key, values in probe.arguments.items()}
    names = [quantity.name for quantity in estimator.quantities]
    values = xr.apply_ufunc(
        partial(_estimate, estimator=estimator, params=dict(params), table=table, given=tuple(given)),
        array.chunk(_task_chunks(array, units[0])),
        *given.values(),
        input_core_dims=[["sample", units[0]], *(dims[key] for key in given)],
        output_core_dims=[[] for _ in names],
        output_dtypes=[np.float64 for _ in names],
        dask="parallelized",
    )
    return xr.Dataset(dict(zip(names, values if len(names) > 1 else (values,), strict=True)))


def _estimate(
    t: NDArray[Any],
    *probe: NDArray[Any],
    estimator: Estimator,
    params: Mapping[str, Any],
    table: NDArray[np.uint8] | None,
    given: tuple[str, ...],
) -> tuple[NDArray[np.float64], ...] | NDArray[np.float64]:
    """Work on one block; a tuple of the estimator's quantities, or the one it has."""
    t = t if table is None else table[t]
    values = estimator.apply(t, dict(zip(given, probe, strict=True)), params)
    results = tuple(values[quantity.name] for quantity in estimator.quantities)
    return results if len(results) > 1 else results[0]


def _task_chunks(array: xr.DataArray, unit: Hashable) -> dict[Hashable, int]:
    """Whole cells per task, and whole stored chunks where they are small enough."""
    chunks = {dim: max(sizes) for dim, sizes in array.chunksizes.items()}
    whole: dict[Hashable, int] = {"sample": array.sizes["sample"], unit: array.sizes[unit]}
    most = max(1, _TASK_BYTES // max(1, prod(whole.values()) * array.dtype.itemsize))
    wanted = {dim: chunks.get(dim, 1) for dim in array.dims if dim not in whole}
    for dim in wanted:  # first dimension first: epochs of one seed lie together
        if prod(wanted.values()) > most:
            wanted[dim] = max(1, wanted[dim] * most // prod(wanted.values()))
        elif prod(wanted.values()) < _TASK_CELLS:
            factor = min(-(-_TASK_CELLS // prod(wanted.values())), most // prod(wanted.values()))
            wanted[dim] = max(1, min(array.sizes[dim], wanted[dim] * factor))
    return wanted | whole
