"""Storing the activations of a run that kept its weights alone."""

from collections.abc import Callable
from typing import Any

import dask

from ipstore.errors import IpstoreError, ParameterError, SpaceError, StoreWriteError
from ipstore.format import check_version
from ipstore.group import GrowingGroup, read_document
from ipstore.places import Location, locate
from ipstore.reader import open_published
from ipstore.schema import GrowingArray, shard_epochs

__all__ = ["materialise"]

_dask: Any = dask  # its functions carry no types


def materialise(run: Location, *, on_progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Store the activations of a run that was captured at level ``weights``, which is then at level ``full``.

    They are computed from the weights, held against the digests, and come into sight all at once when they are all
    there; until then the run is what it was. Results stay. A run whose capture was interrupted is continued at level
    ``full``.

    Parameters
    ----------
    run : path or URL
        ``"<store>/<run>"``.
    on_progress : callable
        Called with the number of epochs that are stored, and of all.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, RunLockedError
    ParameterError
        If the run stores its activations already, or they cannot be rebuilt from its weights; then it says why.
    CorruptionError
        If weights are damaged.
    SpaceError, StoreWriteError
        If there is no room, or writing failed; the run is what it was.
    """
    place = locate(run)
    check_version(read_document(place)["attributes"], place)
    group = GrowingGroup.resume(place)
    try:
        _materialise(group, on_progress)
    except OSError as error:
        if isinstance(error, IpstoreError):
            raise
        raise StoreWriteError(
            f"storing the activations of run {place.name!r} failed: {error}; the run is as it was"
        ) from error
    finally:
        group.close()


def _materialise(group: GrowingGroup, on_progress: Callable[[int, int], None]) -> None:
    place, tree = group.place, open_published(group.place)
    if tree.attrs["level"] != "weights":
        raise ParameterError(f"run {place.name!r} stores its activations already, at level {tree.attrs['level']!r}")
    if "not_rebuilt" in tree.attrs:
        raise ParameterError(f"run {place.name!r} cannot be rebuilt from its weights: {tree.attrs['not_rebuilt']}")
    layers = tree["activations"].dataset.data_vars
    growing = [
        GrowingArray(f"activations/{name}", tuple(map(str, array.dims[1:])), array.shape[1:], "float32", per_seed=True)
        for name, array in layers.items()
    ]
    shard, total = shard_epochs(growing), group.epochs
    needed, free = sum(array.epoch_bytes for array in growing) * total, place.free_bytes()
    if free is not None and needed > free:
        raise SpaceError(
            f"the activations of run {place.name!r} take {needed / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free"
        )
    group.add(growing, shard, {"activations": {"layers": tree.attrs["layers"]}})
    try:
        first_layer = next(iter(layers.values()))
        task_epochs, task_seeds = (sizes[0] for sizes in (first_layer.chunks or ())[:2])
        step, some = max(1, task_epochs // shard) * shard, task_seeds * place.writers
        for start in range(0, total, step):
            on_progress(start, total)
            epochs = slice(start, min(start + step, total))
            for first in range(0, tree.sizes["seed"], some):
                seeds = slice(first, min(first + some, tree.sizes["seed"]))
                computed = _dask.compute(*(array.isel(epoch=epochs, seed=seeds).data for array in layers.values()))
                for name, values in zip(layers, computed, strict=True):
                    group.write(f"activations/{name}", start, values, seeds)
                group.flush()
        commit = {key: value for key, value in group.attrs["commit"].items() if key.startswith(("last_epoch", "state"))}
        group.attrs["level"] = "full"
        group.publish(total, commit)
    except BaseException:
        group.discard(growing)
        raise
    on_progress(total, total)
