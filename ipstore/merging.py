"""Making one run of its parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ipstore.block import digest
from ipstore.errors import (
    CorruptionError,
    IpstoreError,
    ParameterError,
    RunExistsError,
    SpaceError,
    StoreWriteError,
    UnknownNameError,
)
from ipstore.format import check_store
from ipstore.group import GrowingGroup, read_document, remove_group
from ipstore.parts import check_fit, check_probes, joint_attrs, joint_result, named_runs, stored_parts
from ipstore.pipeline import codec_pipeline
from ipstore.places import DOCUMENT, Location, Place, locate
from ipstore.reader import open_published
from ipstore.schema import EPOCHS, GrowingArray, StaticArray, check_name, shard_epochs
from ipstore.state import read_state, write_state

__all__ = ["merge"]


def merge(
    store: Location,
    run: str,
    *,
    remove_parts: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Make one run of the parts that were captured on several machines.

    It holds what one capture of all seeds would have written, bit for bit, and is continued in the same way. It is put
    together aside, a shard of epochs at a time, and takes its place when it is whole; a merge that is broken off goes
    on where it was. Every block of activations is held against its digest on the way. Results that all parts have are
    joined too.

    Parameters
    ----------
    store : path or URL
    run : str
        The joint name, ``big`` of parts such as ``big+a``.
    remove_parts : bool
        Whether to remove the parts once the run is whole. Otherwise they stay; the joint name then opens the run.
    on_progress : callable
        Called with the number of epochs that are merged, and of all.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    UnknownNameError
        If the store holds no part of such a run.
    RunExistsError
        If a run of that name is there that is not of these parts.
    RunLockedError
        If a part is being written.
    ParameterError
        If the parts do not fit together, or are not equally far.
    CorruptionError
        If a part is damaged.
    SpaceError, StoreWriteError
        If there is no room, or writing failed; the parts stand, and the same call goes on.
    """
    place = locate(store)
    check_store(place)
    names = stored_parts(place, check_name("run", run))
    if not names:
        joint = [name for name, held in named_runs(place).items() if held != [name]]
        raise UnknownNameError("run in parts", run, joint)
    with ExitStack() as held:
        for name in names:
            held.callback((place / name).lease().release)
        parts = {name: read_document(place / name, "run")["attributes"] for name in names}
        attrs = joint_attrs(run, parts)
        if (place / run).exists(DOCUMENT):
            if read_document(place / run)["attributes"].get("parts") != attrs["parts"]:
                raise RunExistsError(
                    f"run {run!r} exists already in {str(place)!r}, and is not what its parts would make now: open the "
                    "parts by their own names, or remove that run"
                )
        else:
            _check_equally_far(place, run, parts)
            try:
                _merge(place, run, parts, attrs, on_progress)
            except OSError as error:
                if isinstance(error, IpstoreError):
                    raise
                raise StoreWriteError(
                    f"merging run {run!r} in {str(place)!r} failed: {error}; its parts stand, and the same call goes on"
                ) from error
    if remove_parts:
        for name in names:
            remove_group(place / name)


def _check_equally_far(store: Place, run: str, parts: Mapping[str, Mapping[str, Any]]) -> None:
    check_fit(run, parts)
    trees = {name: open_published(store / name) for name in parts}
    check_probes(run, {name: tree["probe"].to_dataset() for name, tree in trees.items()})
    epochs = {name: tree["epoch"].to_numpy() for name, tree in trees.items()}
    first = next(iter(epochs))
    for name, theirs in epochs.items():
        if not np.array_equal(theirs, epochs[first]):
            far = {each: f"{len(those)} captured, to epoch {those.max(initial=0)}" for each, those in epochs.items()}
            raise ParameterError(
                f"the parts of run {run!r} are not equally far: {first!r} has {far[first]}, {name!r} has {far[name]}; "
                "continue what is behind with `ipstore capture ... --resume`, or open the parts together as they are"
            )


def _merge(
    store: Place,
    run: str,
    parts: Mapping[str, Mapping[str, Any]],
    attrs: Mapping[str, Any],
    on_progress: Callable[[int, int], None],
) -> None:
    aside = store / f".{run}.merging"
    if aside.exists(DOCUMENT) and read_document(aside)["attributes"].get("parts") != attrs["parts"]:
        remove_group(aside)  # of parts that have grown since
    places = [store / name for name in parts]
    free = store.free_bytes()
    needed = sum(sum(place.sizes().values()) for place in places) - sum(aside.sizes().values())
    if free is not None and needed > free:
        raise SpaceError(
            f"merging run {run!r} takes about {needed / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free; make room, or "
            "copy the parts elsewhere first"
        )

    joint = _Joint(places)
    group = joint.begin(aside, attrs)

    def record(stop: int, last_epoch: int) -> dict[str, Any]:
        """Say in a commit what a run's says; what a continuation needs goes with the last."""
        told: dict[str, Any] = {"last_epoch": last_epoch}
        commits = [each["commit"] for each in parts.values()]
        if stop == commits[0]["epochs"] and all("state" in commit for commit in commits):
            states = [read_state(part, c["state"], c["state_crc32c"]) for part, c in zip(places, commits, strict=True)]
            state = {name: np.concatenate([each[name] for each in states])[joint.order] for name in states[0]}
            key = f"state/{group.attrs['commit']['sequence'] + 1}.safetensors"
            told |= {"state": key, "state_crc32c": write_state(aside, key, state)}
        return told

    try:
        joint.fill(group, record, on_progress)
        for name, told in _joint_results(run, places):
            result = _Joint([place / "results" / name for place in places])
            filled = result.begin(aside / "results" / name, told)
            try:
                result.fill(filled)
            finally:
                filled.close()
        group.move(store / run)
    finally:
        group.close()


def _joint_results(run: str, parts: Sequence[Place]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the results that all parts have the same of, with what they will say of themselves."""
    names = set[str].intersection(*(set((part / "results").groups()) for part in parts))
    for name in sorted(names):
        trees = [open_published(part / "results" / name).to_dataset() for part in parts]
        attrs = joint_result(run, [tree.attrs for tree in trees], [tree.sizes["seed"] for tree in trees])
        standing = [tree.drop_dims(["epoch", "seed"]) for tree in trees]
        shortest = min((tree["epoch"].to_numpy() for tree in trees), key=len)
        together = all(np.array_equal(tree["epoch"][: len(shortest)], shortest) for tree in trees)
        if attrs and together and all(each.equals(standing[0]) for each in standing):
            yield name, attrs


class _Joint:
    """Groups of the same arrays, as one along ``seed``.

    Parameters
    ----------
    parts : sequence of Place

    Attributes
    ----------
    order : (seed) array
        Where the seeds that come with one part after the other belong, ascending.
    """

    def __init__(self, parts: Sequence[Place]) -> None:
        self._parts = parts
        self._layers = read_document(parts[0])["attributes"]["layers"]
        self._arrays = [_open(part) for part in parts]
        self._growing = [path for path, array in self._arrays[0].items() if _dims(array)[:2] == ("epoch", "seed")]
        seeds = [np.asarray(arrays["seed"]) for arrays in self._arrays]
        self.order = np.argsort(np.concatenate(seeds))
        self._owners = [(part, at) for part, own in enumerate(seeds) for at in range(len(own))]

    def begin(self, place: Place, attrs: Mapping[str, Any]) -> GrowingGroup:
        """Create the group that will hold all, or open it where a merge was broken off."""
        if place.exists(DOCUMENT):
            return GrowingGroup.resume(place)
        first = self._arrays[0]
        growing = [EPOCHS]
        growing += [
            GrowingArray(
                path,
                _dims(first[path])[1:],
                (len(self.order), *first[path].shape[2:]),
                str(first[path].dtype),
                per_seed=first[path].shards is not None,
                attrs=dict(first[path].attrs),
            )
            for path in self._growing
        ]
        static = [
            StaticArray(path, _dims(array), self._whole(path), dict(array.attrs))
            for path, array in first.items()
            if path not in self._growing and path != "epoch"
        ]
        nodes = read_document(self._parts[0])["consolidated_metadata"]["metadata"]
        groups = {path: node["attributes"] for path, node in nodes.items() if node["node_type"] == "group"}
        shared = [arrays[path] for arrays in self._arrays for path in self._growing]
        lengths = [(array.shards or array.chunks)[0] for array in shared]
        shard = min(shard_epochs(growing), *lengths)
        return GrowingGroup.create(place, growing, static, attrs, shard_epochs=shard, group_attrs=groups)

    def fill(
        self,
        group: GrowingGroup,
        record: Callable[[int, int], Mapping[str, Any]] = lambda stop, last_epoch: {},
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Write what is not there yet, and commit it, a shard of epochs at a time.

        Parameters
        ----------
        group : GrowingGroup
        record : callable
            Given the number of epochs of a commit and the last of them, says what else its record holds.
        on_progress : callable
        """
        total = min(arrays["epoch"].shape[0] for arrays in self._arrays)
        epochs = np.asarray(self._arrays[0]["epoch"][:total])
        step = group.shard_epochs(self._growing[0])
        on_progress(group.epochs, total)
        while (start := group.epochs) < total:
            some = slice(start, min(start + step, total))
            group.write("epoch", start, epochs[some])
            for path in self._growing:
                if group.is_per_seed(path):
                    self._write_seeds(group, path, some)
                else:
                    values = np.concatenate([np.asarray(arrays[path][some]) for arrays in self._arrays], axis=1)
                    group.write(path, start, values[:, self.order])
            group.publish(some.stop, record(some.stop, int(epochs[some.stop - 1])))
            on_progress(some.stop, total)

    def _write_seeds(self, group: GrowingGroup, path: str, epochs: slice) -> None:
        """Write one seed after the other: no more of them is in memory than are being written."""
        kind, _, layer = path.rpartition("/")
        for at, (part, seed) in enumerate(self._owners[place] for place in self.order):
            arrays = self._arrays[part]
            values = np.asarray(arrays[path][epochs, seed : seed + 1])
            if kind == "activations":
                digests = np.asarray(arrays["digest/crc32c"][epochs, seed, self._layers.index(layer)])
                if any(digest(cell[0]) != kept for cell, kept in zip(values, digests, strict=True)):
                    raise CorruptionError(
                        f"{path} of seed {np.asarray(arrays['seed'])[seed]} in {self._parts[part]} differs from its "
                        "digest: `ipstore verify` names all that is damaged"
                    )
            group.write(path, epochs.start, values, slice(at, at + 1))
            if at % group.place.writers == group.place.writers - 1:
                group.flush()

    def _whole(self, path: str) -> NDArray[Any]:
        dims, arrays = _dims(self._arrays[0][path]), [np.asarray(each[path][...]) for each in self._arrays]
        if "seed" not in dims:
            return arrays[0]
        axis = dims.index("seed")
        return np.concatenate(arrays, axis).take(self.order, axis)


def _open(group: Place) -> dict[str, "zarr.Array[Any]"]:
    store = group.zarr()
    with codec_pipeline():
        opened = zarr.open_group(store, mode="r", use_consolidated=True)
        return {path: node for path, node in opened.members(max_depth=None) if isinstance(node, zarr.Array)}


def _dims(array: "zarr.Array[Any]") -> tuple[str, ...]:
    return tuple(map(str, getattr(array.metadata, "dimension_names", None) or ()))
