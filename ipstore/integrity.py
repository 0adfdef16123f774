"""Holding a run's stored bytes against the checksums and digests that were taken when they were made."""

import itertools
import json
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import StorePath

from ipstore.block import digest
from ipstore.errors import CorruptionError, NotAStoreError, UnknownNameError, UnreachableError
from ipstore.format import check_store
from ipstore.group import open_array, read_document
from ipstore.places import DOCUMENT, Location, Place, locate
from ipstore.plan import SPLITS
from ipstore.reader import open_stored
from ipstore.state import read_state
from ipstore.virtual import not_as_captured

__all__ = ["Damage", "Finding", "Holdings", "Region", "examine", "joined", "verify"]

Region = tuple[slice, ...]
"""Where values lie in an array."""

_Digests = Callable[[slice], NDArray[Any] | None]

_UNREADABLE = (RuntimeError, ValueError, OSError)
"""What says that stored bytes are damaged; an `UnreachableError` does not."""
_MOST_MISSING = 2**16
"""Chunk files that are missing of one array are named one by one up to so many; beyond, their number is."""

_CODE_RATIO, _OVERHEAD = 256, 2**16
"""lz4 makes 255 bytes of one, at most. A chunk file beyond either limit is not decoded, however much memory it asks."""


@dataclass(frozen=True)
class Damage:
    """Stored values that are missing, or are not what was written.

    Attributes
    ----------
    run : str
    array : str
        Path in the run, such as ``"activations/layer1"``; that of the file for what is no array's values.
    epochs : tuple of int
        Completed epochs that are hit; empty for an array without epochs.
    seeds : tuple of int
    reason : str
    """

    run: str
    array: str
    epochs: tuple[int, ...]
    seeds: tuple[int, ...]
    reason: str

    @property
    def layer(self) -> str | None:
        """The layer, where the array is one of a layer's."""
        group, _, name = self.array.removesuffix(f"/{DOCUMENT}").rpartition("/")
        return name if group in ("activations", "weights") else None


def verify(run: Location, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Damage]:
    """Read every published byte of a run and of its results, and compare.

    Every chunk file must be there (a missing one would read as NaN), agree with its crc32c, and hold
    activations whose digests are those taken at capture; those of a run that stored weights alone are computed for
    that, if ipstore can build its model. Labels must be those of the attributes, and the metadata
    that each array has of itself must be that of the group's document. A run may be verified while it is written.

    Parameters
    ----------
    run : path or URL
        ``"<store>/<run>"``.
    progress : callable
        Called with the number of chunk files read, and of all.

    Returns
    -------
    list of Damage
        Empty if the run is whole.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    place = locate(run)
    return joined([finding.damage(place) for finding in examine(place, progress)])


def joined(damages: Sequence[Damage]) -> list[Damage]:
    """One entry for what differs in the epoch alone."""
    epochs: dict[Damage, list[int]] = {}
    for damage in damages:
        epochs.setdefault(replace(damage, epochs=()), []).extend(damage.epochs)
    return [replace(key, epochs=tuple(together)) for key, together in epochs.items()]


class Holdings:
    """What a published group holds, by the document that was read of it.

    Parameters
    ----------
    place : Place
    kind : {"run", "result"}

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, CorruptionError
    """

    def __init__(self, place: Place, kind: Literal["run", "result"]) -> None:
        document = read_document(place, kind)
        self.place = place
        self.attrs: dict[str, Any] = document["attributes"]
        self.nodes: dict[str, dict[str, Any]] = document["consolidated_metadata"]["metadata"]
        store = place.zarr()
        self.arrays: dict[str, zarr.Array[Any]] = {
            path: open_array(StorePath(store, path), node)
            for path, node in self.nodes.items()
            if node["node_type"] == "array"
        }
        self._digests: tuple[slice, NDArray[Any] | None] = slice(0), None

    @cached_property
    def labels(self) -> dict[str, NDArray[Any]]:
        """Epochs and seeds; their places where the coordinate itself is damaged."""
        found = {}
        for name in ("epoch", "seed"):
            try:
                found[name] = np.asarray(self.arrays[name][...])
            except UnreachableError:
                raise
            except _UNREADABLE:
                found[name] = np.arange(self.arrays[name].shape[0])
        return found

    def digests(self, path: str, epochs: slice) -> NDArray[Any] | None:
        """Give the digests of an activations array, (epoch, seed); None where there are none that can be read.

        What is asked for twice in a row is read once.
        """
        group, _, layer = path.partition("/")
        if group != "activations" or "digest/crc32c" not in self.arrays:
            return None
        if self._digests[0] != epochs:
            try:
                self._digests = epochs, np.asarray(self.arrays["digest/crc32c"][epochs])
            except UnreachableError:
                raise
            except _UNREADABLE:
                self._digests = epochs, None  # reported as damage of its own
        found = self._digests[1]
        return None if found is None else found[:, :, self.attrs["layers"].index(layer)]


@dataclass(frozen=True)
class Finding:
    """A part of a group that is damaged.

    Attributes
    ----------
    path : str
        In the group.
    reason : str
    region : tuple of slice, optional
        Of the array's values; None for what is no array's values, or all of them.
    group : Holdings, optional
        None if it cannot be read.
    below : str
        Path of the group in the run, with a slash; empty for the run itself.
    """

    path: str
    reason: str
    region: Region | None = None
    group: Holdings | None = None
    below: str = ""

    def damage(self, run: Place) -> Damage:
        """Name it by its epochs and seeds."""
        labels = {"epoch": (), "seed": ()}
        if self.group is not None and self.region is not None:
            dims = self.group.nodes[self.path]["dimension_names"]
            for dim in labels.keys() & set(dims):
                labels[dim] = tuple(self.group.labels[dim][self.region[dims.index(dim)]].tolist())
        return Damage(run.name, self.below + self.path, labels["epoch"], labels["seed"], self.reason)


def examine(place: Place, progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[Finding]:
    """Find what of a run is damaged; see `verify`."""
    groups: dict[str, Holdings] = {}
    names = (place / "results").groups()
    for below in ("", *(f"results/{name}/" for name in names)):
        try:
            groups[below] = Holdings(place / below.rstrip("/") if below else place, "result" if below else "run")
        except (NotAStoreError, CorruptionError) as error:
            if not below:
                check_store(place.parent)  # in a store it is damaged; elsewhere it is something else
            yield Finding(DOCUMENT, str(error), below=below)
    if "" in groups:
        yield from _state(groups[""])
    sizes = place.sizes()
    total = sum(min(prod(_counts(array)), 2**63) for group in groups.values() for array in group.arrays.values())
    done = 0
    for below, group in groups.items():
        for path, node in group.nodes.items():
            for reason in _mirror(group, path, node):
                yield Finding(f"{path}/{DOCUMENT}", reason, group=group, below=below)
        for path, array in group.arrays.items():
            for region, reason, files in _array(array, f"{below}{path}", sizes, partial(group.digests, path)):
                done += files
                if reason:
                    yield Finding(path, reason, region, group, below)
                if files:
                    progress(done, total)
            for region, reason in _coordinate(group, path):
                yield Finding(path, reason, region, group, below)
    if "" in groups:
        yield from _rebuilt(groups[""])


def _array(
    array: "zarr.Array[Any]", path: str, sizes: Mapping[str, int], digests: _Digests
) -> Iterator[tuple[Region | None, str, int]]:
    """Yield each part with what is wrong with it, or nothing, and how many chunk files have been seen to."""
    files, there = prod(_counts(array)), sum(bool(sizes[key]) for key in sizes if key.startswith(f"{path}/c"))
    if files - there > _MOST_MISSING:
        yield None, f"of {files} chunk files {there} are there", files
        return
    for index in itertools.product(*map(range, _counts(array))):
        region = _region(array, index)
        size = sizes.get(f"{path}/{'.'.join(['c', *map(str, index)])}", 0)
        for part, reason in _file(array, region, size, digests):
            yield part, reason, 0
        yield None, "", 1


def _file(array: "zarr.Array[Any]", region: Region, size: int, digests: _Digests) -> Iterator[tuple[Region, str]]:
    """Name what is wrong with a chunk file of so many bytes."""
    if not size:  # Zarr would read fill values
        yield region, "the chunk file is missing or empty"
        return
    holds = prod(part.stop - part.start for part in region) * array.dtype.itemsize
    whole = prod(array.shards or array.chunks) * array.dtype.itemsize
    texts = array.dtype.kind not in "biuf"
    if not texts and not holds / _CODE_RATIO <= size <= 2 * whole + _OVERHEAD:
        yield region, f"the chunk file has {size} bytes, which cannot be what {holds} bytes of values take"
        return
    found = list(_compare(array, region, digests))
    # A shard that a writer replaces between two reads looks damaged once.
    yield from _compare(array, region, digests) if found else ()


def _compare(array: "zarr.Array[Any]", region: Region, digests: _Digests) -> Iterator[tuple[Region, str]]:
    """Name the parts of a shard that cannot be read, or whose digests differ."""
    try:
        values = np.asarray(array[region])
    except UnreachableError:
        raise
    except _UNREADABLE as error:
        step = array.chunks[0] if region else 0
        if not region or region[0].stop - region[0].start <= step:
            yield region, "the checksum does not match" if "checksum" in str(error) else f"cannot be decoded: {error}"
            return
        for start in range(region[0].start, region[0].stop, step):
            part = slice(start, min(start + step, region[0].stop))
            yield from _compare(array, (part, *region[1:]), digests)
        return
    expected = digests(region[0]) if region else None
    if expected is None:
        return
    for epoch, seed in itertools.product(*(range(part.start, part.stop) for part in region[:2])):
        if digest(values[epoch - region[0].start, seed - region[1].start]) != expected[epoch - region[0].start, seed]:
            cell = (slice(epoch, epoch + 1), slice(seed, seed + 1), *region[2:])
            yield cell, "the activations differ from their digest"


def _coordinate(group: Holdings, path: str) -> Iterator[tuple[Region, str]]:
    """Hold the labels of a run against its attributes: a whole chunk in the wrong place has a right checksum."""
    name = path.rpartition("/")[2]
    known = {"seed": group.attrs.get("seeds"), "layer": group.attrs["layers"], "split": list(SPLITS)}.get(name)
    if group.nodes[path]["dimension_names"] != [name] or (known is None and path != "epoch"):
        return
    try:
        values = np.asarray(group.arrays[path][...]).tolist()
    except UnreachableError:
        raise
    except _UNREADABLE:
        return  # reported as damage of its own
    everywhere = (slice(0, len(values)),)
    if known is not None and values != known:
        yield everywhere, f"the labels are not {reprlib.repr(known)}"
    if path == "epoch":
        last = group.attrs["commit"].get("last_epoch", values[-1] if values else None)
        if any(later <= epoch for epoch, later in itertools.pairwise(values)) or (values and values[-1] != last):
            yield everywhere, "the epochs do not ascend to that of the last commit"


def _mirror(group: Holdings, path: str, node: Mapping[str, Any]) -> Iterator[str]:
    """Hold the metadata that an array or a sub-group has of itself against the group's document."""
    try:
        found = json.loads(group.place.read(f"{path}/{DOCUMENT}"))
        ahead = found["shape"][0] if node.get("dimension_names", ())[:1] == ["epoch"] else None
    except FileNotFoundError:
        yield "the metadata are missing"
        return
    except (ValueError, RecursionError, KeyError, TypeError, IndexError):
        yield "the metadata cannot be read"
        return
    if ahead is not None:
        if type(ahead) is int and ahead > node["shape"][0]:  # unless the run has grown since
            node = read_document(group.place)["consolidated_metadata"]["metadata"].get(path, node)
        if type(ahead) is int and 0 <= ahead <= node["shape"][0]:
            node = {**node, "shape": [ahead, *node["shape"][1:]]}
    if found != node:
        yield "the metadata are not those of the run's own"


def _rebuilt(group: Holdings) -> Iterator[Finding]:
    """Hold the activations of a run that stored weights alone against their digests: whole chunks may be exchanged."""
    if group.attrs["level"] != "weights" or not group.attrs["commit"]["epochs"]:
        return
    try:
        tree = open_stored(group.place).isel(epoch=slice(group.attrs["commit"]["epochs"]))  # it may have grown since
        for layer, epoch, seed in not_as_captured(tree):
            yield Finding(f"weights/{layer}", "the activations differ from their digest", (epoch, seed), group)
    except UnknownNameError:
        return  # no model of ours: what it stored is all there is to be held against anything
    except (CorruptionError, NotAStoreError):
        return  # reported as damage of its own


def _state(group: Holdings) -> Iterator[Finding]:
    """Read the resume state; that of a later commit, if there was one meanwhile."""
    commit = group.attrs["commit"]
    while "state" in commit:
        try:
            read_state(group.place, commit["state"], commit["state_crc32c"])
            return
        except CorruptionError as error:
            before, commit = commit, read_document(group.place, "run")["attributes"]["commit"]
            if commit["sequence"] == before["sequence"]:
                yield Finding(commit["state"], str(error))
                return


def _counts(array: "zarr.Array[Any]") -> list[int]:
    return [-(-length // step) for length, step in zip(array.shape, array.shards or array.chunks, strict=True)]


def _region(array: "zarr.Array[Any]", index: tuple[int, ...]) -> Region:
    steps = array.shards or array.chunks
    return tuple(
        slice(place * step, min((place + 1) * step, length))
        for place, step, length in zip(index, steps, array.shape, strict=True)
    )
