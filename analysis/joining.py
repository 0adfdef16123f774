"""Labelled arrays of several runs, put together along new dimensions, lazily."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.errors import ParameterError

__all__ = ["Joint", "join_each", "join_runs"]

_OWN = ("commit", "sweep", "created_at", "part_of", "parts")
"""Attributes of a run that say nothing of several."""

_VALUE = "value of each run"


@dataclass(frozen=True, eq=False)
class Joint:
    """What runs are put together as.

    Parameters
    ----------
    name : str
    dims : mapping of str to array
        The new dimensions, in their order, with their coordinates.
    scalars : mapping of str to scalar
        Further coordinates.
    """

    name: str
    dims: Mapping[str, NDArray[Any]]
    scalars: Mapping[str, Any]

    def along(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        """Put datasets of the same variables and coordinates together, the last dimension changing fastest."""
        for dim in reversed(list(self.dims)):
            labels = self.dims[dim]
            index = xr.DataArray(labels, dims=dim, name=dim)
            parts = [_concat(parts[start : start + len(labels)], index) for start in range(0, len(parts), len(labels))]
        (joined,) = parts
        return joined.assign_coords(self.scalars)


def join_each(joint: Joint, given: Mapping[str, Any]) -> Any:
    """Put together what was asked of each run.

    Parameters
    ----------
    joint : Joint
    given : mapping of str to Dataset or DataArray
        By name of the run, the last dimension changing fastest.

    Returns
    -------
    xarray.Dataset or DataArray
        See `ipstore.analysis.sweep`.

    Raises
    ------
    ParameterError
    """
    kinds = {type(each) for each in given.values()}
    if kinds not in ({xr.Dataset}, {xr.DataArray}):
        named = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ParameterError(f"of gives a Dataset, or a DataArray, for every run, but gave {named}")
    if kinds == {xr.Dataset}:
        return _labelled(joint, given)
    joined = _labelled(joint, {run: array.to_dataset(name=_VALUE) for run, array in given.items()})
    array = joined[_VALUE].assign_attrs(joined.attrs)
    names = {each.name for each in given.values()}
    return array.rename(names.pop() if len(names) == 1 else None)


def join_runs(joint: Joint, runs: Mapping[str, xr.DataTree]) -> xr.DataTree:
    """Put runs together; see `ipstore.analysis.sweep`.

    Parameters
    ----------
    joint : Joint
    runs : mapping of str to DataTree
        By name, the last dimension changing fastest.

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    ParameterError
    """
    nodes: dict[str, xr.Dataset] = {}
    left_out: dict[str, str] = {}
    training = _labelled(joint, {run: tree["training"].to_dataset() for run, tree in runs.items()})
    told = {key: training.attrs.pop(key) for key in ("sweep", "source_run", "epochs") if key in training.attrs}
    nodes["training"] = training
    probes = {run: tree["probe"].to_dataset() for run, tree in runs.items()}
    if reason := _differing_probe(probes):
        left_out["probe"] = reason
    else:
        nodes["probe"] = _probe(joint, probes)
    held = {run: tree["activations"].to_dataset() for run, tree in runs.items() if "activations" in tree.children}
    if reason := _differing_activations(list(runs), held):
        left_out["activations"] = reason
    else:
        nodes["activations"] = _bare(_labelled(joint, held))
    root = xr.Dataset(coords={name: training[name] for name in (*joint.dims, *joint.scalars, "epoch", "seed")})
    root.attrs = {
        **{key: value for key, value in _equal([tree.attrs for tree in runs.values()]).items() if key not in _OWN},
        **told,
        **({"left_out": left_out} if left_out else {}),
    }
    return xr.DataTree.from_dict({"/": root, **nodes}, name=joint.name)


def _bare(joined: xr.Dataset) -> xr.Dataset:
    """Leave to the root of a tree what it says of all."""
    joined.attrs = {key: value for key, value in joined.attrs.items() if key not in ("sweep", "source_run", "epochs")}
    return joined


def _probe(joint: Joint, probes: Mapping[str, xr.Dataset]) -> xr.Dataset:
    first = next(iter(probes.values()))
    own = [name for name, array in first.data_vars.items() if "seed" in array.dims]
    if not own:
        return first
    return first.drop_vars(own).merge(_bare(_labelled(joint, {run: probe[own] for run, probe in probes.items()})))


def _differing_probe(probes: Mapping[str, xr.Dataset]) -> str | None:
    """Say which inputs differ; which of them each seed was trained on may."""
    (first, shared), *others = probes.items()
    common = [name for name, array in shared.data_vars.items() if "seed" not in array.dims]
    shared = shared[common].load()
    for run, probe in others:
        for name in common:
            if name not in probe or not np.array_equal(shared[name], probe[name]):
                return f"probe/{name} of {run!r} is not that of {first!r}"
    return None


def _differing_activations(runs: Sequence[str], held: Mapping[str, xr.Dataset]) -> str | None:
    """Say which layers differ in their units, or in how they are stored."""
    for run in runs:
        if run not in held or not held[run].data_vars:
            return f"run {run!r} holds no activations"
    first = runs[0]
    known = {name: _form(array) for name, array in held[first].data_vars.items()}
    for run in runs[1:]:
        found = {name: _form(array) for name, array in held[run].data_vars.items()}
        for name in {**known, **found}:
            if known.get(name) != found.get(name):
                one, two = (form.get(name, "absent") for form in (known, found))
                return f"layer {name!r} is {one} in {first!r} and {two} in {run!r}"
    return None


def _form(array: xr.DataArray) -> str:
    samples, units = (array.sizes[dim] for dim in array.dims if dim not in ("epoch", "seed"))
    bins = f" in {array.attrs['binning']}" if "binning" in array.attrs else ""
    return f"{units} units of {array.dtype} on {samples} samples{bins}"


def _labelled(joint: Joint, given: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Put datasets together that may have other epochs and layers."""
    first, *_ = given
    for run, each in given.items():
        for name in (*joint.dims, *joint.scalars):
            if name in each.variables or name in each.dims:
                raise ParameterError(f"what was asked of {run!r} has a {name!r} already, like an axis of the sweep")
        if set(each.data_vars) != set(given[first].data_vars):
            raise ParameterError(
                f"what was asked of {run!r} has the variables {_names(each.data_vars)}, and of {first!r} "
                f"{_names(given[first].data_vars)}: they must be the same"
            )
    parts, told = _common_epochs(list(given.values()))
    parts = _all_layers(parts)
    for run, part in zip(given, parts, strict=True):
        for dim in {**parts[0].sizes, **part.sizes}:
            if not _same(parts[0], part, dim):
                raise ParameterError(
                    f"what was asked of {run!r} differs from that of {first!r} along {str(dim)!r}: "
                    f"{_about(part, dim)}, and {_about(parts[0], dim)}"
                )
    joined = joint.along(parts)
    joined.attrs |= {"sweep": joint.name, "source_run": joint.name, **told}
    return joined


def _common_epochs(parts: Sequence[xr.Dataset]) -> tuple[list[xr.Dataset], dict[str, str]]:
    """Take the epochs that all have; say so if these are not all."""
    epochs = [part["epoch"].to_numpy() for part in parts if "epoch" in part.dims and "epoch" in part.coords]
    if len(epochs) < len(parts):
        return list(parts), {}
    common = reduce(np.intersect1d, epochs)
    if not len(common):
        raise ParameterError(
            "the runs of the sweep have no epoch in common; ask for the last one of each (isel(epoch=-1))"
        )
    if all(len(each) == len(common) for each in epochs):
        return list(parts), {}
    return [_at(part, common) for part in parts], {
        "epochs": f"the {len(common)} that all runs have, of up to {max(map(len, epochs))}"
    }


def _at(part: xr.Dataset, epochs: NDArray[np.int64]) -> xr.Dataset:
    places = np.flatnonzero(np.isin(part["epoch"], epochs))
    gapless = places[-1] - places[0] == len(places) - 1
    some: xr.Dataset = part.isel(epoch=slice(places[0], places[-1] + 1) if gapless else places)
    return some


def _all_layers(parts: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Give all the layers that any has, in the order of the network: those of the deepest, whose output is the last."""
    layers = [[str(name) for name in part["layer"].values] for part in parts if "layer" in part.coords]
    if len(layers) < len(parts) or all(each == layers[0] for each in layers):
        return list(parts)
    deepest = sorted(layers, key=len, reverse=True)
    every = [*dict.fromkeys(name for each in deepest for name in each)]
    ends = {each[-1] for each in layers}
    every = [*(name for name in every if name not in ends), *(name for name in every if name in ends)]
    named = [part.assign_coords(layer=each) for part, each in zip(parts, layers, strict=True)]
    return [part.reindex(layer=every) for part in named]


def _same(one: xr.Dataset, two: xr.Dataset, dim: Hashable) -> bool:
    if one.sizes.get(dim) != two.sizes.get(dim) or (dim in one.coords) != (dim in two.coords):
        return False
    return dim not in one.coords or one.indexes[dim].equals(two.indexes[dim])


def _about(part: xr.Dataset, dim: Hashable) -> str:
    if dim not in part.sizes:
        return "it has no such dimension"
    labels = f" ({', '.join(map(str, part[dim].values[:5]))}...)" if dim in part.coords else ""
    return f"{part.sizes[dim]} long{labels}"


def _concat(parts: Sequence[xr.Dataset], index: xr.DataArray) -> xr.Dataset:
    joined: xr.Dataset = xr.concat(
        parts,
        index,
        data_vars="all",
        coords="different",
        compat="equals",
        join="exact",
        combine_attrs=lambda attrs, context: _equal(attrs),
    )
    return joined


def _equal(attrs: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Give the attributes that all have alike."""
    first, *others = attrs
    return {
        key: value
        for key, value in first.items()
        if all(key in other and _alike(other[key], value) for other in others)
    }


def _alike(one: Any, two: Any) -> bool:
    arrays = isinstance(one, np.ndarray) or isinstance(two, np.ndarray)
    return np.array_equal(one, two) if arrays else bool(one == two)


def _names(names: Iterable[Hashable]) -> str:
    return ", ".join(sorted(map(str, names))) or "none"
