"""A sweep as one: its runs, or what is asked of each, put together along the settings that vary."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import product
from typing import Any, TypeVar, overload

import numpy as np
import xarray as xr

from ipstore.analysis.joining import Joint, join_each, join_runs
from ipstore.errors import ParameterError, StoreNotFoundError, UnknownNameError
from ipstore.sweeps import Sweep, Value, as_text, sweep_of

__all__ = ["sweep"]

_Labelled = TypeVar("_Labelled", xr.Dataset, xr.DataArray)

_MOST_NAMED = 4


@overload
def sweep(store: xr.DataTree, *axes: str, of: None = None, name: str | None = None, **at: Any) -> xr.DataTree: ...
@overload
def sweep(
    store: xr.DataTree, *axes: str, of: Callable[[xr.DataTree], _Labelled], name: str | None = None, **at: Any
) -> _Labelled: ...
@overload
def sweep(
    store: xr.DataTree, *axes: str, of: Callable[[xr.DataTree], Any], name: str | None = None, **at: Any
) -> Any: ...
def sweep(
    store: xr.DataTree,
    *axes: str,
    of: Callable[[xr.DataTree], Any] | None = None,
    name: str | None = None,
    **at: Any,
) -> Any:
    """Put the runs of a sweep together, lazily, along new dimensions named after its axes.

    Parameters
    ----------
    store : xarray.DataTree
        As ``ipstore.open(store)`` gives it.
    *axes : str
        Which axes become dimensions, in this order; by default all that `at` does not fix.
    of : callable, optional
        Asked of each run, such as ``lambda run: run.ip.information_plane("binned")``; gives a Dataset or DataArray. By
        default the runs themselves are put together.
    name : str, optional
        Of the sweep; by default the one that varies what is named here, and nothing else.
    **at
        A value of every other axis: ``activation="tanh"``, ``hidden="10-7-5"`` (or the tuple).

    Returns
    -------
    xarray.Dataset or DataArray
        What `of` gave, with the axes as first dimensions. Their coordinates are numbers, or else texts as the names of
        the runs have them (``"10-7-5-4-3"``, ``"relu"``, ``"full"`` for a batch of all samples); axes that were fixed
        are scalar coordinates. Along ``epoch`` are those that all have; along ``layer`` those that any has, in the
        order of the network, with NaN where a run has no such layer. Attributes are those that are equal in all, and
        ``sweep`` and ``source_run``, the sweep's name; ``epochs`` is there, and says so, where epochs were left out.
    xarray.DataTree
        Without `of`: ``training`` in this way; ``probe``, of which only ``train`` has the new dimensions; and
        ``activations``, where all runs have layers of the same units. What could not be put together is named in the
        attribute ``left_out``, with the reason. Analyses take the tree as they take a run.

    Raises
    ------
    UnknownNameError
        If there is no such sweep or axis.
    ParameterError
        If several sweeps fit, an axis is neither a dimension nor fixed, a value is none of the sweep's, the runs have
        no epoch in common, or `of` gives something that cannot be put together.
    StoreNotFoundError
        If runs of the sweep have not been captured yet; it names them.
    """
    found = _find(store, name, [*axes, *at])
    fixed = {axis: _value(found, axis, value) for axis, value in at.items()}
    dims = axes or tuple(axis for axis in found.axes if axis not in fixed)
    _check_axes(found, dims, fixed)
    scalars = {axis: _labels(found, axis)[found.axes[axis].index(value)] for axis, value in fixed.items()}
    joint = Joint(found.name, {axis: _labels(found, axis) for axis in dims}, scalars)
    runs = _runs(store, found, dims, fixed)
    return join_runs(joint, runs) if of is None else join_each(joint, {run: of(tree) for run, tree in runs.items()})


def _find(store: xr.DataTree, name: str | None, axes: Sequence[str]) -> Sweep:
    """Find the sweep of a name, or the one that has these axes."""
    sweeps: dict[str, Sweep] = {}
    for run, tree in store.children.items():
        of = sweep_of(run, tree.attrs)
        if of is not None and sweeps.setdefault(of[0].name, of[0]) != of[0]:
            raise ParameterError(
                f"the runs of sweep {of[0].name!r} do not agree on its axes: open each by its own name"
            )
    if not sweeps:
        if "probe" in store.children:
            raise ParameterError(f"a sweep lies in a store, but {store.name!r} is a run: give ipstore.open(store)")
        raise ParameterError(
            f"the store {store.name!r} holds no sweep: capture one, such as ipstore capture TASK STORE "
            "--train-fraction 0.05,0.45,0.85"
        )
    if name is not None:
        if name not in sweeps:
            raise UnknownNameError("sweep", name, sweeps)
        sweeps = {name: sweeps[name]}
    if len(sweeps) == 1:
        (only,) = sweeps.values()
        for axis in axes:
            if axis not in only.axes:
                raise UnknownNameError(f"axis of sweep {only.name!r}", axis, only.axes)
        return only
    exact = [each for each in sweeps.values() if set(axes) == each.axes.keys()]
    fitting = exact or [each for each in sweeps.values() if set(axes) <= each.axes.keys()]
    if len(fitting) != 1:
        named = " and ".join(map(repr, axes))
        told = "; ".join(f"{each.name!r} varies {', '.join(each.axes)}" for each in fitting or sweeps.values())
        if not fitting:
            raise ParameterError(f"no sweep in the store varies {named}: {told}")
        over = f" over {named}" if named else ""
        raise ParameterError(f"the store has {len(fitting)} sweeps{over}, so name one (name=...): {told}")
    return fitting[0]


def _value(found: Sweep, axis: str, given: Any) -> Value:
    """Find a value on an axis, given as it is or as it is written."""
    plain = given.item() if isinstance(given, np.generic) else tuple(given) if isinstance(given, list) else given
    for value in found.axes[axis]:
        if plain == value or plain == as_text(value):
            return value
    raise ParameterError(
        f"{axis} is one of {', '.join(map(as_text, found.axes[axis]))} in sweep {found.name!r}, but got {given!r}"
    )


def _check_axes(found: Sweep, dims: Sequence[str], fixed: Mapping[str, Value]) -> None:
    if not dims:
        raise ParameterError(
            f"every axis of sweep {found.name!r} is fixed, which leaves one run: ipstore.open(store, "
            f"run={found.run(fixed)!r})"
        )
    if len(set(dims)) < len(dims) or (both := fixed.keys() & set(dims)):
        twice = next((axis for axis in dims if dims.count(axis) > 1), None) or min(both)
        raise ParameterError(f"axis {twice!r} was given twice; it is a dimension once, or fixed at a value")
    left = [axis for axis in found.axes if axis not in dims and axis not in fixed]
    if left:
        advice = ", ".join(f"{axis}={_written(found.axes[axis][0])}" for axis in left)
        raise ParameterError(
            f"sweep {found.name!r} varies {', '.join(left)} too: make it a dimension, or fix it, such as {advice}"
        )


def _written(value: Value) -> str:
    return repr(as_text(value)) if isinstance(value, str | tuple | None) else str(value)


def _labels(found: Sweep, axis: str) -> Any:
    """Give the coordinate of an axis: numbers, or texts."""
    values = found.axes[axis]
    numbers = all(isinstance(value, int | float) for value in values)
    return np.array(values if numbers else list(map(as_text, values)))


def _runs(store: xr.DataTree, found: Sweep, dims: Sequence[str], fixed: Mapping[str, Value]) -> dict[str, xr.DataTree]:
    """Give the runs of every combination, the last dimension changing fastest; refuse if any is missing."""
    names = [
        found.run({**fixed, **dict(zip(dims, values, strict=True))})
        for values in product(*(found.axes[axis] for axis in dims))
    ]
    missing = [name for name in names if name not in store.children or not store.children[name].sizes.get("epoch")]
    if missing:
        raise StoreNotFoundError(
            f"{len(missing)} of {len(names)} runs of sweep {found.name!r} have not been captured yet: "
            f"{_listed(missing)}. Go on with `ipstore capture TASK STORE --run {found.name} --resume`"
        )
    return {name: store.children[name] for name in names}


def _listed(names: Collection[str]) -> str:
    first = ", ".join(list(names)[:_MOST_NAMED])
    return first if len(names) <= _MOST_NAMED else f"{first} and {len(names) - _MOST_NAMED} more"
