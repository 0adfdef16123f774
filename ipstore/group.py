"""A Zarr group that grows along ``epoch`` and is published whole: the one way ipstore writes.

The group's ``zarr.json`` carries, as consolidated metadata, the shape of every array together with the commit
record. Chunks are written beyond the published shape, made durable, and come into sight when that one file is
replaced. So a reader sees every array at the same epoch, a kill tears nothing, and what was acknowledged stays.
`docs/format.md` states the protocol.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.chunk_key_encodings import ChunkKeyEncodingParams
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.storage import MemoryStore, StorePath

from ipstore.documents import Kind, check_document, decode
from ipstore.errors import NotAStoreError, ParameterError, RunExistsError, StoreNotFoundError
from ipstore.format import check_version
from ipstore.pipeline import codec_pipeline, codecs, compressor
from ipstore.places import DOCUMENT, LEASE, Lease, Place, Version
from ipstore.schema import GrowingArray, StaticArray
from ipstore.shards import Geometry, ShardWriter

__all__ = ["GrowingGroup", "encoded", "open_array", "read_document", "remove_group", "utc_now"]

_UNBOUNDED = 2**40  # epochs an array has room for while it is being written; only the published shape counts
_MIRROR_SECONDS = 10.0  # to replace twenty files takes longer than all the rest of a commit
_FLAT_KEYS: ChunkKeyEncodingParams = {"name": "default", "separator": "."}  # a folder per array, without more inside


def utc_now() -> str:
    """Time in UTC, as ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_document(place: Place, kind: Kind | None = None) -> dict[str, Any]:
    """Read a published group's ``zarr.json``, and hold it against the format.

    Parameters
    ----------
    place : Place
    kind : {"run", "result"}, optional
        What it must be.

    Returns
    -------
    dict

    Raises
    ------
    StoreNotFoundError
        If there is none.
    NotAStoreError
        If it is not the metadata of a published group.
    FormatVersionError
        If a newer ipstore wrote it.
    CorruptionError
        If it says what no ipstore writes.
    """
    return _read_version(place, kind)[0]


def _read_version(place: Place, kind: Kind | None = None) -> tuple[dict[str, Any], Version]:
    try:
        content, version = place.read_version(DOCUMENT)
        document = decode(content)
    except FileNotFoundError:
        raise StoreNotFoundError(f"{str(place)!r} holds no Zarr group (there is no zarr.json)") from None
    except (ValueError, NotADirectoryError, IsADirectoryError) as error:
        raise NotAStoreError(f"{str(place / DOCUMENT)!r} is not the metadata of a Zarr group: {error}") from error
    check_version(document.get("attributes"), place)
    check_document(document, place / DOCUMENT, kind)
    return document, version


class GrowingGroup:
    """A group open for writing, under its lease.

    Use `create` or `resume`; then `write` and `publish` by turns; then `close`.

    Attributes
    ----------
    place : Place
    epochs : int
        Published length along ``epoch``.
    attrs : dict
        The group's attributes; those in force at the next `publish` become visible with it.
    """

    def __init__(self, place: Place, document: dict[str, Any], version: Version, lease: Lease) -> None:
        self.place = place
        self._document = document
        self._version = version
        self._lease = lease
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._geometry: dict[str, Geometry] = {}
        self._tails: dict[str, tuple[int, NDArray[Any]]] = {}  # what the last chunk of each small array holds
        self.attrs: dict[str, Any] = document["attributes"]
        self.epochs = int(self.attrs["commit"]["epochs"])
        self._mirrored, self._is_mirrored = -inf, True
        self._shards = ShardWriter(place, lease.check)
        self._open_arrays()

    @classmethod
    def create(
        cls,
        place: Place,
        growing: Sequence[GrowingArray],
        static: Sequence[StaticArray],
        attrs: Mapping[str, Any],
        *,
        shard_epochs: int,
        group_attrs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> "GrowingGroup":
        """Create the group, published with no epoch, and take its lease.

        Its document is put last, so a half-made group is never seen; what a creator that was killed has left is swept.

        Parameters
        ----------
        place : Place
            Where it will stand.
        growing, static : sequences of GrowingArray and StaticArray
        attrs : mapping
            JSON attributes of the group.
        shard_epochs : int
            Epochs per shard, or per chunk of arrays that are not sharded.
        group_attrs : mapping of str to mapping, optional
            Attributes of sub-groups, by path.

        Raises
        ------
        RunExistsError
            If a group stands there already.
        RunLockedError
            If another process is creating it.
        NotAStoreError
            If something else is there; it stays.
        """
        place.begin()
        left = place.sizes()
        if left and DOCUMENT not in left and LEASE not in left:
            raise NotAStoreError(
                f"{str(place)!r} holds {len(left)} files of something else (such as {min(left)!r}); choose another "
                "name, or move them away"
            )
        lease = place.lease()
        try:
            if place.exists(DOCUMENT):
                raise RunExistsError(f"{str(place)!r} exists already")
            place.delete(key for key in place.sizes() if key != LEASE)
            nodes = _nodes(growing, static, shard_epochs, group_attrs or {})
            for key, content in nodes.items():
                place.put(key, content, durable=False)
            document: dict[str, Any] = {
                "zarr_format": 3,
                "node_type": "group",
                "attributes": {**attrs, "commit": _commit_record(0, 0) | _stored(nodes)},
                "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": _consolidated(nodes)},
            }
            content = encoded(document)
            try:
                check_document(decode(content), place)
            except ValueError as error:
                raise ParameterError(f"nothing could read what would be written: {error}") from error
            version = place.publish(content, None)
        except RunExistsError:
            lease.release()
            raise
        except BaseException:
            try:
                place.remove()
            finally:
                lease.release()
            raise
        return cls(place, document, version, lease)

    @classmethod
    def resume(cls, place: Place) -> "GrowingGroup":
        """Open a published group to write on from its last commit, and sweep what lies beyond it.

        Parameters
        ----------
        place : Place

        Raises
        ------
        RunLockedError
            If another process writes it.
        StoreNotFoundError, NotAStoreError
            If there is no published group.
        """
        read_document(place)
        lease = place.lease()
        try:
            document, version = _read_version(place)  # again: now nobody else changes it
            group = cls(place, document, version, lease)
            if version is not None:
                group._fence_off()
            group.sweep()
        except BaseException:
            lease.release()
            raise
        return group

    def add(self, growing: Sequence[GrowingArray], shard_epochs: int, attrs: Mapping[str, Mapping[str, Any]]) -> None:
        """Add arrays to the group; they come into sight with the next `publish`, by when all its epochs are written.

        Parameters
        ----------
        growing : sequence of GrowingArray
            In sub-groups that the group does not have.
        shard_epochs : int
        attrs : mapping of str to mapping
            Attributes of the sub-groups, by path.
        """
        nodes = _nodes(growing, [], shard_epochs, attrs)
        for key, content in nodes.items():
            self.place.put(key, content, durable=False)
        self._document["consolidated_metadata"]["metadata"] |= _consolidated(nodes)
        self._open_arrays()

    def discard(self, growing: Sequence[GrowingArray]) -> None:
        """Take back what `add` added, and delete what was written of it."""
        with suppress(OSError):  # what kept it from being written is what the caller hears of
            self.flush()
        metadata = self._document["consolidated_metadata"]["metadata"]
        for path in (array.path for array in growing):
            metadata.pop(path.rpartition("/")[0], None)
            del metadata[path], self._arrays[path], self._geometry[path]
        self.sweep()

    def write(self, path: str, start: int, values: NDArray[Any], seeds: slice = slice(None)) -> None:
        """Begin to write epochs of one array beyond the published ones; they are not visible yet.

        A chunk that holds published epochs is replaced in one step, so that those epochs stay readable whatever
        happens.

        Parameters
        ----------
        path : str
            Path of the array.
        start : int
            Index along ``epoch`` of the first value; at or after `epochs`, unless all that a chunk holds is replaced.
        values : (epoch, ...) array
            Of an array with one seed per chunk: within one shard. Not to be changed before `flush`.
        seeds : slice
            Which seeds the values are of, for an array with one seed per chunk.

        Raises
        ------
        RunLockedError
            If the lease was lost.
        """
        self._lease.check()
        array, geometry = self._arrays[path], self._geometry[path]
        while len(values):
            number, inside = divmod(start, geometry.epochs)
            part, values = np.split(values, [geometry.epochs - inside])
            if inside:
                part = np.concatenate([self._before(path, start - inside, start, seeds), part])
            start = (number + 1) * geometry.epochs
            over = bool(inside) or number * geometry.epochs < self.epochs
            if geometry.chunk is None:
                self._tails[path] = number * geometry.epochs, part
                key = ".".join(map(str, ["c", number, *[0] * (array.ndim - 1)]))
                self._shards.write(f"{path}/{key}", part, geometry, over=over)
                continue
            for place, seed in enumerate(range(*seeds.indices(array.shape[1]))):
                key = ".".join(map(str, ["c", number, seed, *[0] * (array.ndim - 2)]))
                self._shards.write(f"{path}/{key}", part[:, place], geometry, over=over)

    def flush(self) -> None:
        """Wait until what was written is with the file system or the object store; until then it must not change."""
        self._shards.flush()

    def publish(self, epochs: int, commit: Mapping[str, Any] | None = None) -> None:
        """Bring everything written up to `epochs` into sight, durably.

        Parameters
        ----------
        epochs : int
            New length along ``epoch``.
        commit : mapping, optional
            What else the commit record says.

        Raises
        ------
        RunLockedError
            If the lease was lost, or another writer has published.
        """
        self.flush()
        self._lease.check()
        before = self.attrs["commit"]
        stored = {
            name: before[name] + more
            for name, more in (("files", self._shards.files), ("bytes", self._shards.stored_bytes))
            if name in before
        }
        self._set_commit({**_commit_record(int(before["sequence"]) + 1, epochs), **stored, **(commit or {})})
        try:
            self._put_document()
        except BaseException:
            self._set_commit(before)
            raise
        self._shards.files = self._shards.stored_bytes = 0
        self.epochs = epochs
        self._is_mirrored = False
        if monotonic() > self._mirrored + _MIRROR_SECONDS:
            with suppress(OSError):  # the commit stands; what is not mirrored now is at the next commit, or at the end
                self._mirror()

    def read(self, path: str) -> NDArray[Any]:
        """Read all that is published of an array."""
        return np.asarray(self._arrays[path][: self.epochs])

    def take_back(self, epochs: int, commit: Mapping[str, Any]) -> None:
        """Publish fewer epochs than there are, and delete what lies beyond; see `publish`."""
        before = self.place.sizes()
        self.publish(epochs, commit)
        gone = [before[key] for key in self.sweep() if key.rpartition("/")[0] in self._geometry and key in before]
        stored = self.attrs["commit"]
        if "files" in stored:
            commit = {**commit, "files": stored["files"] - len(gone), "bytes": stored["bytes"] - sum(gone)}
        self.publish(epochs, commit)

    def shard_epochs(self, path: str) -> int:
        """Epochs per shard of an array, or per chunk where it is not sharded."""
        return self._geometry[path].epochs

    def is_per_seed(self, path: str) -> bool:
        """Whether each seed of an array lies in chunks of its own."""
        return self._geometry[path].chunk is not None

    def move(self, place: Place) -> None:
        """Put the group in the place of another, or where none is; nothing can be written to it any more."""
        if place.exists(DOCUMENT):
            remove_group(place)
        self.place.move(place)
        self.place = place

    def sweep(self) -> list[str]:
        """Delete what was left by writers that were killed: what no published epoch lies in, and temporary files.

        Returns
        -------
        list of str
            Keys that were deleted.
        """
        state = self.attrs["commit"].get("state")
        doomed = [key for key in self.place.sizes() if self._is_left_over(key, state)]
        self.place.delete(doomed)
        return doomed

    def close(self) -> None:
        """Give the lease back."""
        self._shards.close()
        if not self._is_mirrored:
            with suppress(OSError):  # what keeps a mirror from being written has been heard of, or will be
                self._lease.check()
                self._mirror()
        self._lease.release()

    def _open_arrays(self) -> None:
        """Open the growing arrays that are not open yet, with room beyond what is published."""
        stored = self.place.zarr()
        for path, metadata in self._growing().items():
            if path in self._arrays:
                continue
            roomy = deepcopy(metadata)
            roomy["shape"][0] = _UNBOUNDED
            array = self._arrays[path] = open_array(StorePath(stored, path), roomy)
            self._geometry[path] = Geometry(
                (array.shards or array.chunks)[0],
                array.chunks[0] if array.shards else None,
                array.fill_value,
                compressor(array.dtype),
            )

    def _is_left_over(self, key: str, state: str | None) -> bool:
        path, _, name = key.rpartition("/")
        if path.startswith("results"):  # groups of their own
            return False
        if name.startswith("."):
            return name != LEASE
        if path == "state":
            return key != state
        if path and path not in self._document["consolidated_metadata"]["metadata"]:
            return True
        if path not in self._geometry or not name.startswith("c."):
            return False
        return int(name.split(".")[1]) >= -(-self.epochs // self._geometry[path].epochs)

    def _before(self, path: str, first: int, stop: int, seeds: slice) -> NDArray[Any]:
        """Give what is stored of a chunk that is being filled up."""
        known, tail = self._tails.get(path, (-1, None))
        if tail is not None and known == first and len(tail) == stop - first:
            return tail
        array = self._arrays[path]
        return np.asarray(array[(slice(first, stop), seeds)[: array.ndim]])

    def _mirror(self) -> None:
        """Tell each array its shape, for readers that ignore consolidated metadata; it may lag."""
        for path, metadata in self._growing().items():
            self.place.put(f"{path}/{DOCUMENT}", encoded(metadata), durable=False)
        self._mirrored, self._is_mirrored = monotonic(), True

    def _fence_off(self) -> None:
        """Publish the last commit anew, so that a writer that slept until its lease ended can publish no more.

        The version of an object may be no more than a digest of it, so that its content must change.
        """
        commit = self.attrs["commit"]
        self._set_commit({**commit, "sequence": int(commit["sequence"]) + 1})
        self._put_document()

    def _put_document(self) -> None:
        self._version = self.place.publish(encoded(self._document), self._version)

    def _set_commit(self, record: dict[str, Any]) -> None:
        self.attrs["commit"] = record
        for metadata in self._growing().values():
            metadata["shape"][0] = record["epochs"]

    def _growing(self) -> dict[str, dict[str, Any]]:
        return {
            path: metadata
            for path, metadata in self._document["consolidated_metadata"]["metadata"].items()
            if metadata["node_type"] == "array" and metadata["dimension_names"][:1] == ["epoch"]
        }


def remove_group(place: Place) -> None:
    """Remove a group that nobody writes: first out of sight, in one step.

    Raises
    ------
    RunLockedError
    StoreNotFoundError, NotAStoreError
        If something else is there; it stays.
    """
    read_document(place)
    lease = place.lease()
    try:
        place.remove()
    finally:
        lease.release()


def _commit_record(sequence: int, epochs: int) -> dict[str, Any]:
    return {"sequence": sequence, "epochs": epochs, "time": utc_now()}


def _consolidated(nodes: Mapping[str, bytes]) -> dict[str, Any]:
    ending = f"/{DOCUMENT}"
    return {key.removesuffix(ending): json.loads(content) for key, content in nodes.items() if key.endswith(ending)}


def _stored(nodes: Mapping[str, bytes]) -> dict[str, int]:
    """Count what is stored, the document of the group itself left out."""
    return {"files": len(nodes), "bytes": sum(map(len, nodes.values()))}


def encoded(document: Mapping[str, Any]) -> bytes:
    """Write a document as it is stored."""
    return json.dumps(document, allow_nan=False).encode()


def open_array(where: StorePath, metadata: Mapping[str, Any]) -> "zarr.Array[Any]":
    """Open an array with the metadata that its group's document has of it."""
    with codec_pipeline():
        return zarr.Array(zarr.AsyncArray(ArrayV3Metadata.from_dict(dict(metadata)), where))


def _nodes(
    growing: Sequence[GrowingArray],
    static: Sequence[StaticArray],
    shard_epochs: int,
    group_attrs: Mapping[str, Mapping[str, Any]],
) -> dict[str, bytes]:
    """Make the arrays and sub-groups of a group; give all they consist of, by key."""
    made: dict[str, Any] = {}
    memory = MemoryStore(made)
    root = zarr.create_group(memory)
    paths = [*(array.path for array in growing), *(array.path for array in static)]
    groups = dict.fromkeys(path.rpartition("/")[0] for path in paths if "/" in path)
    for group in groups:
        root.create_group(group, attributes=dict(group_attrs.get(group, {})))
    for grown in growing:
        chunks = grown.chunks(shard_epochs)
        root.create_array(
            grown.path,
            shape=(0, *grown.shape),
            dtype=grown.dtype,
            chunks=chunks,
            shards=(shard_epochs, *chunks[1:]) if grown.per_seed else None,
            compressors=codecs(np.dtype(grown.dtype)),
            fill_value=grown.fill_value,
            dimension_names=("epoch", *grown.dims),
            attributes=dict(grown.attrs),
            chunk_key_encoding=_FLAT_KEYS,
        )
    for whole in static:
        array = root.create_array(
            whole.path,
            shape=whole.values.shape,
            dtype=whole.values.dtype,
            chunks=whole.values.shape,
            compressors=codecs(whole.values.dtype),
            dimension_names=tuple(whole.dims),
            attributes=dict(whole.attrs),
            chunk_key_encoding=_FLAT_KEYS,
            config={"write_empty_chunks": True},
        )
        array[...] = whole.values
    # zarr-python loses arrays of a group whose entries do not stand together.
    together = sorted(paths, key=lambda path: (path.count("/"), path.rpartition("/")[0]))
    documents = [f"{path}/{DOCUMENT}" for path in (*groups, *together)]
    chunks_of = [key for key in made if key not in documents and key != DOCUMENT]
    return {key: made[key].to_bytes() for key in (*documents, *chunks_of)}
