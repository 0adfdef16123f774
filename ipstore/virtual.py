"""Activations of a run that stored its weights alone: the same arrays, computed when they are read.

Every cell that is computed is held against the digest that was taken when it was captured. Where they differ, as on
another processor, the weights are judged by the norms and losses stored beside them: activations that are off by no
more than float32 rounds are given, others are an error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise, product
from typing import Any, Self

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.block import digest
from ipstore.chunking import task_cells
from ipstore.errors import CorruptionError, UnknownNameError
from ipstore.rebuild import Rebuilder, rebuilder

__all__ = ["not_as_captured", "rebuilt_within", "with_activations"]

_blockwise: Any = da.blockwise  # it carries no types

_RECORDS = {
    "probe/x": ("sample", "feature"),
    "probe/y": ("sample",),
    "probe/train": ("seed", "sample"),
    "training/loss": ("epoch", "seed", "split"),
    "training/weight_norm": ("epoch", "seed", "layer"),
    "digest/crc32c": ("epoch", "seed", "layer"),
}
"""What the rebuilding needs beside the weights."""


def with_activations(tree: xr.DataTree) -> xr.DataTree:
    """Add the group ``activations`` to a run that stored weights alone, if its model can be rebuilt.

    Parameters
    ----------
    tree : DataTree
        A run as it is stored, not yet chunked; any other group is given back as it is.

    Returns
    -------
    DataTree
        With ``activations/<layer>`` (epoch, seed, sample, <layer>_unit) float32, lazy, and the group's attribute
        ``rebuilt_from`` = ``weights``. Where nothing can be rebuilt, the attribute ``not_rebuilt`` says why.
    """
    if tree.attrs.get("level") != "weights":
        return tree
    try:
        model = rebuilder(tree.attrs)
        arrays = _arrays(tree, model)
    except (UnknownNameError, CorruptionError) as error:  # all else of the run can be read
        tree.attrs["not_rebuilt"] = str(error)
        return tree
    units = [layer.units for layer in model.layers]
    epochs, seeds = _cells(arrays, model)
    pairs: list[Any] = []
    for array in arrays.values():
        wanted = {"epoch": epochs, "seed": seeds}
        chunks = {dim: wanted.get(str(dim), length) for dim, length in array.sizes.items()}
        pairs += [array.chunk(chunks).data, tuple(map(str, array.dims))]
    packed = _blockwise(
        partial(_compute, model, tree.name or "", list(arrays)),
        ("epoch", "seed", "sample", "unit"),
        *pairs,
        new_axes={"unit": sum(units)},
        concatenate=True,
        dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), np.float32),
    )
    made = {}
    for layer, (start, stop) in zip(model.layers, pairwise([0, *accumulate(units)]), strict=True):
        values = packed.map_blocks(
            _take, start, stop, dtype=np.float32, chunks=(*packed.chunks[:-1], (stop - start,)), meta=packed._meta
        )
        made[layer.name] = (("epoch", "seed", "sample", f"{layer.name}_unit"), values)
    attrs = {"layers": [layer.name for layer in model.layers], "rebuilt_from": "weights"}
    tree["activations"] = xr.DataTree(xr.Dataset(made, attrs=attrs))
    return tree


def rebuilt_within(tree: xr.DataTree) -> float:
    """Say how exactly activations are rebuilt on this machine, by the last epoch of the first seed.

    Parameters
    ----------
    tree : DataTree
        A run that stored weights alone, with an epoch or more, whose model can be rebuilt.

    Returns
    -------
    float
        0 if they are, bit for bit, what was captured; otherwise how far off they may be, at most.

    Raises
    ------
    CorruptionError
        If what is stored is damaged.
    """
    model = rebuilder(tree.attrs)
    arrays = _arrays(tree.isel(epoch=slice(-1, None), seed=slice(1)), model)
    blocks = {path: array.to_numpy() for path, array in arrays.items()}
    return _rebuild(model, blocks).checked(tree.name or "").tolerance


def not_as_captured(tree: xr.DataTree) -> Iterator[tuple[str, slice, slice]]:
    """Rebuild every network of a run, a few at a time, and name those that do not give what was captured.

    Parameters
    ----------
    tree : DataTree
        A run that stored weights alone, as it is stored, not yet chunked.

    Yields
    ------
    (str, slice, slice)
        The first layer of a network whose activations are not those of the digests, by more than rounding, and the
        place of the network along ``epoch`` and ``seed``. Networks of which something cannot be read are passed over.

    Raises
    ------
    UnknownNameError, CorruptionError
        If ipstore cannot build the model, or the run lacks what that takes.
    """
    model = rebuilder(tree.attrs)
    arrays = _arrays(tree, model)
    step = dict(zip(("epoch", "seed"), _cells(arrays, model), strict=True))
    starts = (range(0, tree.sizes[dim], each) for dim, each in step.items())
    for corner in product(*starts):
        block = {dim: slice(at, at + step[dim]) for dim, at in zip(step, corner, strict=True)}
        try:
            blocks = {path: array.isel(block, missing_dims="ignore").to_numpy() for path, array in arrays.items()}
        except CorruptionError:
            continue
        rebuilt = _rebuild(model, blocks)
        for cell in np.argwhere(rebuilt.wrong).tolist():
            at = [slice(begin + place, begin + place + 1) for begin, place in zip(corner, cell, strict=True)]
            yield model.layers[rebuilt.first[tuple(cell)]].name, at[0], at[1]


def _cells(arrays: Mapping[str, xr.DataArray], model: Rebuilder) -> tuple[int, int]:
    """Choose how many epochs and seeds are rebuilt at a time."""
    first = arrays[f"weights/{model.layers[0].name}"].encoding
    shard = (first.get("shards") or first["chunks"])[0]
    units = sum(layer.units for layer in model.layers)
    return task_cells(shard, 1, arrays["probe/x"].sizes["sample"] * units * 4)


def _arrays(tree: xr.DataTree, model: Rebuilder) -> dict[str, xr.DataArray]:
    arrays: dict[str, Any] = {}
    for path, dims in _RECORDS.items():
        if path.partition("/")[0] not in tree.children or path.partition("/")[2] not in tree[path.partition("/")[0]]:
            raise CorruptionError(f"the run {tree.name!r} has no {path}, without which nothing can be rebuilt")
        arrays[path] = tree[path]
        if arrays[path].dims != dims:
            raise CorruptionError(
                f"{path} of the run {tree.name!r} must be over {dims} but is over {arrays[path].dims}"
            )
    for layer in model.layers:
        path = f"weights/{layer.name}"
        arrays[path] = tree[path]
    return arrays


def _compute(model: Rebuilder, run: str, paths: list[str], *blocks: NDArray[Any]) -> NDArray[np.float32]:
    activations = _rebuild(model, dict(zip(paths, blocks, strict=True))).checked(run).activations
    return np.concatenate([activations[layer.name] for layer in model.layers], axis=-1)


def _take(packed: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
    return packed[..., start:stop]


@dataclass(frozen=True)
class _Rebuilt:
    """Activations (epoch, seed, sample, unit) of every layer, and what is to be thought of them.

    Attributes
    ----------
    activations : dict of str to array
    first : (epoch, seed) array of int
        Number of the first layer whose activations do not have the digest of the run; that of layers if all have.
    wrong : (epoch, seed) array of bool
        Networks that differ by more than rounding.
    tolerance : float
        How far off the others may be.
    """

    activations: dict[str, NDArray[np.float32]]
    first: NDArray[np.intp]
    wrong: NDArray[np.bool_]
    tolerance: float

    def checked(self, run: str) -> Self:
        """Refuse what is wrong."""
        if self.wrong.any():
            raise CorruptionError(
                f"{self.wrong.sum()} of {self.wrong.size} networks of the run {run!r} do not give the activations that "
                "were captured, by more than rounding: their weights are damaged, and `ipstore verify` names which"
            )
        return self


def _rebuild(model: Rebuilder, arrays: Mapping[str, NDArray[Any]]) -> _Rebuilt:
    x, digests = arrays["probe/x"], arrays["digest/crc32c"]
    weights = {layer.name: arrays[f"weights/{layer.name}"] for layer in model.layers}
    activations = model.activations(weights, x)
    first = np.full(digests.shape[:2], len(model.layers))
    for place, layer in reversed(list(enumerate(model.layers))):
        for cell in np.ndindex(first.shape):
            if digest(activations[layer.name][cell]) != digests[(*cell, place)]:
                first[cell] = place
    differ = first < len(model.layers)
    if not differ.any():
        return _Rebuilt(activations, first, differ, 0.0)
    y, train, loss, norm = (arrays[path] for path in list(_RECORDS)[1:5])
    rounding = model.rounding(weights, x, y, train, loss, norm)
    tolerance = max(tolerance[differ].max() for tolerance in rounding.tolerance.values())
    return _Rebuilt(activations, first, differ & ~rounding.vouched, float(tolerance))
