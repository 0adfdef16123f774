"""Holding a run's stored bytes against the checksums and digests that were taken when they were made."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ipstore.block import digest
from ipstore.errors import CorruptionError
from ipstore.format import check_version
from ipstore.group import read_document
from ipstore.pipeline import codec_pipeline
from ipstore.places import Location, Place, locate
from ipstore.state import read_state

__all__ = ["Damage", "verify"]

_Region = tuple[slice, ...]


@dataclass(frozen=True)
class Damage:
    """Stored values that are missing, or are not what was written.

    Attributes
    ----------
    run : str
    array : str
        Path in the run, such as ``"activations/layer1"``.
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
        group, _, name = self.array.rpartition("/")
        return name if group in ("activations", "weights") else None


def verify(run: Location, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Damage]:
    """Read every published byte of a run and of its results, and compare.

    Every chunk file must be there (a missing one would read as NaN), agree with its crc32c, and hold
    activations whose digests are those taken at capture.

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
    attrs = read_document(place)["attributes"]
    check_version(attrs, place)
    sizes = place.sizes()
    groups = {"": place, **{f"results/{name}/": place / "results" / name for name in (place / "results").groups()}}
    arrays = [(below, path, array) for below, group in groups.items() for path, array in _arrays(group)]
    files = [(below, path, array, index) for below, path, array in arrays for index in _grid(array)]
    digests = _Digests(place, attrs["layers"])
    damages = []
    for done, (below, path, array, index) in enumerate(files, 1):
        region = _region(array, index)
        if not sizes.get(f"{below}{path}/{'.'.join(['c', *map(str, index)])}"):  # Zarr would read fill values
            found = [(region, "the chunk file is missing or empty")]
        else:
            found = list(_compare(array, region, None if below else digests.of(path)))
        labelled = [(*_labels(groups[below], array, part), reason) for part, reason in found]
        damages += [Damage(place.name, below + path, *label) for label in labelled]
        progress(done, len(files))
    return [*_joined(damages), *_check_state(place, attrs)]


def _joined(damages: Sequence[Damage]) -> list[Damage]:
    """One entry for what differs in the epoch alone."""
    epochs: dict[Damage, tuple[int, ...]] = {}
    for damage in damages:
        key = replace(damage, epochs=())
        epochs[key] = epochs.get(key, ()) + damage.epochs
    return [replace(key, epochs=joined) for key, joined in epochs.items()]


def _arrays(group: Place) -> list[tuple[str, "zarr.Array[Any]"]]:
    store = group.zarr()
    with codec_pipeline(store):
        opened = zarr.open_group(store, mode="r", use_consolidated=True)
        return [(path, node) for path, node in opened.members(max_depth=None) if isinstance(node, zarr.Array)]


def _grid(array: "zarr.Array[Any]") -> Iterator[tuple[int, ...]]:
    steps = array.shards or array.chunks
    counts = (-(-length // step) for length, step in zip(array.shape, steps, strict=True))
    return itertools.product(*map(range, counts))


def _region(array: "zarr.Array[Any]", index: tuple[int, ...]) -> _Region:
    steps = array.shards or array.chunks
    return tuple(
        slice(place * step, min((place + 1) * step, length))
        for place, step, length in zip(index, steps, array.shape, strict=True)
    )


def _compare(array: "zarr.Array[Any]", region: _Region, expected: NDArray[Any] | None) -> Iterator[tuple[_Region, str]]:
    """Name the parts of a shard that cannot be read, or whose digests differ."""
    try:
        values = np.asarray(array[region])
    except (RuntimeError, ValueError, OSError) as error:
        step = array.chunks[0]
        if region[0].stop - region[0].start <= step:
            yield region, "the checksum does not match" if "checksum" in str(error) else f"cannot be decoded: {error}"
            return
        for start in range(region[0].start, region[0].stop, step):
            part = slice(start, min(start + step, region[0].stop))
            yield from _compare(array, (part, *region[1:]), expected)
        return
    if expected is None:
        return
    for epoch, seed in itertools.product(*(range(part.start, part.stop) for part in region[:2])):
        if digest(values[epoch - region[0].start, seed - region[1].start]) != expected[epoch, seed]:
            cell = (slice(epoch, epoch + 1), slice(seed, seed + 1), *region[2:])
            yield cell, "the activations differ from their digest"


class _Digests:
    """The digests of each layer's activations, (epoch, seed); none where they cannot be read."""

    def __init__(self, place: Place, layers: list[str]) -> None:
        self._layers = layers
        self._values: NDArray[Any] | None = None
        try:
            self._values = np.asarray(dict(_arrays(place))["digest/crc32c"])
        except (RuntimeError, ValueError, OSError):
            return  # reported as damage of its own

    def of(self, path: str) -> NDArray[Any] | None:
        group, _, layer = path.rpartition("/")
        if self._values is None or group != "activations":
            return None
        return self._values[:, :, self._layers.index(layer)]


def _labels(group: Place, array: "zarr.Array[Any]", region: _Region) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Epochs and seeds of a region, by their coordinates; by their places where a coordinate itself is damaged."""
    coordinates = dict(_arrays(group))
    labels: list[tuple[int, ...]] = []
    names = getattr(array.metadata, "dimension_names", None) or ()
    for dimension in ("epoch", "seed"):
        if dimension not in names:
            labels.append(())
            continue
        part = region[names.index(dimension)]
        try:
            labels.append(tuple(int(value) for value in np.asarray(coordinates[dimension][part])))
        except (RuntimeError, ValueError, OSError):
            labels.append(tuple(range(part.start, part.stop)))
    return labels[0], labels[1]


def _check_state(place: Place, attrs: dict[str, Any]) -> list[Damage]:
    commit = attrs["commit"]
    if "state" not in commit:
        return []
    try:
        read_state(place, commit["state"], commit["state_crc32c"])
    except CorruptionError as error:
        return [Damage(place.name, commit["state"], (), (), str(error))]
    return []
