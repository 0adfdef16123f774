"""A Zarr group that grows along ``epoch`` and is published whole: the one way ipstore writes.

The group's ``zarr.json`` carries, as consolidated metadata, the shape of every array together with the commit
record. Chunks are written beyond the published shape, made durable, and come into sight when that one file is
replaced. So a reader sees every array at the same epoch, a kill tears nothing, and what was acknowledged stays.
`docs/format.md` states the protocol.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.chunk_key_encodings import ChunkKeyEncodingParams
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.storage import LocalStore, StorePath

from ipstore.durable import Lease, replace_json, sync_directory, sync_filesystem
from ipstore.errors import CorruptionError, NotAStoreError, RunExistsError, StoreNotFoundError
from ipstore.pipeline import codec_pipeline, codecs, compressor
from ipstore.schema import GrowingArray, StaticArray
from ipstore.shards import ShardWriter

__all__ = ["GrowingGroup", "read_document", "remove_group", "utc_now"]

_UNBOUNDED = 2**40  # epochs an array has room for while it is being written; only the published shape counts
_STAGING = ".staging"
_CREATING, _REMOVED = ".creating", ".removed"
_FLAT_KEYS: ChunkKeyEncodingParams = {"name": "default", "separator": "."}  # a folder per array, without more inside


def utc_now() -> str:
    """Time in UTC, as ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_document(folder: Path) -> dict[str, Any]:
    """Read a published group's ``zarr.json``.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict

    Raises
    ------
    StoreNotFoundError
        If there is none.
    NotAStoreError
        If it is not the metadata of a published group.
    """
    try:
        document = json.loads((folder / "zarr.json").read_bytes())
    except FileNotFoundError:
        raise StoreNotFoundError(f"{str(folder)!r} holds no Zarr group (there is no zarr.json)") from None
    except (ValueError, NotADirectoryError, IsADirectoryError) as error:
        raise NotAStoreError(f"{str(folder / 'zarr.json')!r} is not the metadata of a Zarr group: {error}") from error
    try:
        published = document["attributes"]["commit"]["epochs"] >= 0
        arrays = document["consolidated_metadata"]["metadata"].items()
    except (TypeError, KeyError, AttributeError):
        published, arrays = False, ()
    if not published or not all(isinstance(array, dict) for _, array in arrays):
        raise NotAStoreError(f"{str(folder)!r} is a Zarr group, but not one that ipstore published")
    return dict(document)


class GrowingGroup:
    """A group open for writing, under its lease.

    Use `create` or `resume`; then `write` and `publish` by turns; then `close`.

    Attributes
    ----------
    folder : Path
    epochs : int
        Published length along ``epoch``.
    attrs : dict
        The group's attributes; those in force at the next `publish` become visible with it.
    """

    def __init__(self, folder: Path, document: dict[str, Any], lease: Lease) -> None:
        self.folder = folder
        self._document = document
        self._lease = lease
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self.attrs: dict[str, Any] = document["attributes"]
        self.epochs = int(self.attrs["commit"]["epochs"])
        for path, metadata in self._growing().items():
            roomy = deepcopy(metadata)
            roomy["shape"][0] = _UNBOUNDED
            self._arrays[path] = _open_array(folder / path, roomy)
        self._shards = ShardWriter()
        self._compressors = {path: compressor(array.dtype) for path, array in self._arrays.items()}

    @classmethod
    def create(
        cls,
        folder: Path,
        growing: Sequence[GrowingArray],
        static: Sequence[StaticArray],
        attrs: Mapping[str, Any],
        *,
        shard_epochs: int,
        group_attrs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> "GrowingGroup":
        """Create the group, published with no epoch, and take its lease.

        It is built beside its place and moved there in one step, so that a half-made group is never seen.

        Parameters
        ----------
        folder : Path
            Where it will stand; its parent exists.
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
            If something stands there already.
        """
        for left in folder.parent.glob(f".{folder.name}.*.*"):  # by a process that was killed amid this
            if left.suffix in (_CREATING, _REMOVED) and not Lease.is_held(left):
                shutil.rmtree(left)
        building = folder.with_name(f".{folder.name}.{os.getpid()}{_CREATING}")
        building.mkdir()
        lease = Lease(building)
        try:
            with codec_pipeline():
                consolidated = _create_nodes(building, growing, static, shard_epochs, group_attrs or {})
            document: dict[str, Any] = {
                "zarr_format": 3,
                "node_type": "group",
                "attributes": {**attrs, "commit": _commit_record(0, 0)},
                "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": consolidated},
            }
            replace_json(building / "zarr.json", document)
            sync_filesystem(building)
            if folder.exists():
                raise RunExistsError(f"{str(folder)!r} exists already")
            os.rename(building, folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            lease.release()
            raise
        sync_directory(folder.parent)
        return cls(folder, document, lease)

    @classmethod
    def resume(cls, folder: Path) -> "GrowingGroup":
        """Open a published group to write on from its last commit, and sweep what lies beyond it.

        Parameters
        ----------
        folder : Path

        Raises
        ------
        RunLockedError
            If another process writes it.
        StoreNotFoundError, NotAStoreError
            If there is no published group.
        """
        read_document(folder)
        lease = Lease(folder)
        try:
            group = cls(folder, read_document(folder), lease)  # again: now nobody else changes it
            group._sweep()
        except BaseException:
            lease.release()
            raise
        return group

    def write(self, path: str, start: int, values: NDArray[Any], seeds: slice = slice(None)) -> None:
        """Begin to write epochs of one array beyond the published ones; they are not visible yet.

        A chunk that holds published epochs is rewritten aside and moved into place, so that those epochs stay
        readable whatever happens.

        Parameters
        ----------
        path : str
            Path of the array.
        start : int
            Index along ``epoch`` of the first value; at or after `epochs`.
        values : (epoch, ...) array
            Within one shard: from `start` to at most the next multiple of the shard's epochs. Not to be changed
            before `flush`.
        seeds : slice
            Which seeds the values are of, for an array with one seed per chunk.
        """
        array, shard = self._arrays[path], self.shard_epochs(path)
        first, aside = start // shard * shard, self.folder / _STAGING
        begins_shard = start == first
        if not begins_shard:
            before = np.asarray(array[(slice(first, start), seeds)[: array.ndim]])
            values = np.concatenate([before, values])
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
        folder = self.folder / path if begins_shard else aside
        if self.is_per_seed(path):
            geometry = (shard, array.chunks[0], array.fill_value, self._compressors[path])
            for place, seed in enumerate(range(*seeds.indices(array.shape[1]))):
                key = ".".join(map(str, ["c", first // shard, seed, *[0] * (array.ndim - 2)]))
                self._shards.write(folder / key, values[:, place], *geometry)
        else:
            target = array if begins_shard else _open_array(aside, array.metadata.to_dict())
            target[(slice(first, first + len(values)), seeds)[: array.ndim]] = values
        if not begins_shard:
            self.flush()
            _move_durably(aside, self.folder / path)

    def flush(self) -> None:
        """Wait until what was written is with the file system; until then it must not change."""
        self._shards.flush()

    def publish(self, epochs: int, commit: Mapping[str, Any] | None = None) -> None:
        """Bring everything written up to `epochs` into sight, durably.

        Parameters
        ----------
        epochs : int
            New length along ``epoch``.
        commit : mapping, optional
            What else the commit record says.
        """
        sequence = int(self.attrs["commit"]["sequence"]) + 1
        self.flush()
        sync_filesystem(self.folder)
        growing = self._growing()
        before = self.attrs["commit"]
        self._set_commit({**_commit_record(sequence, epochs), **(commit or {})})
        try:
            replace_json(self.folder / "zarr.json", self._document)
        except BaseException:
            self._set_commit(before)
            raise
        self.epochs = epochs
        for path, metadata in growing.items():
            # A mirror for readers that ignore consolidated metadata; it may lag, so it need not be durable.
            replace_json(self.folder / path / "zarr.json", metadata, durable=False)

    def shard_epochs(self, path: str) -> int:
        """Epochs per shard of an array, or per chunk where it is not sharded."""
        array = self._arrays[path]
        return int((array.shards or array.chunks)[0])

    def is_per_seed(self, path: str) -> bool:
        """Whether each seed of an array lies in chunks of its own."""
        return self._arrays[path].shards is not None

    def close(self) -> None:
        """Give the lease back."""
        self._shards.close()
        self._lease.release()

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

    def _sweep(self) -> None:
        """Remove chunks that no published epoch lies in, and what was being staged."""
        shutil.rmtree(self.folder / _STAGING, ignore_errors=True)
        for path in self._growing():
            published = -(-self.epochs // self.shard_epochs(path))
            for chunk in (self.folder / path).glob("c.*"):
                if int(chunk.name.split(".")[1]) >= published:
                    chunk.unlink()


def remove_group(folder: Path) -> None:
    """Remove a group that nobody writes: first out of sight, in one step.

    Raises
    ------
    RunLockedError
    StoreNotFoundError, NotAStoreError
        If something else is there; it stays.
    """
    read_document(folder)
    lease = Lease(folder)
    doomed = folder.with_name(f".{folder.name}.{os.getpid()}{_REMOVED}")
    os.rename(folder, doomed)
    shutil.rmtree(doomed)
    lease.release()


def _commit_record(sequence: int, epochs: int) -> dict[str, Any]:
    return {"sequence": sequence, "epochs": epochs, "time": utc_now()}


def _open_array(folder: Path, metadata: Mapping[str, Any]) -> "zarr.Array[Any]":
    with codec_pipeline():
        store_path = StorePath(LocalStore(folder))
        return zarr.Array(zarr.AsyncArray(ArrayV3Metadata.from_dict(dict(metadata)), store_path))


def _move_durably(aside: Path, folder: Path) -> None:
    """Move chunk files into place, each over the one it replaces, once they are on the disk."""
    for chunk in aside.glob("c.*"):
        with open(chunk, "rb") as file:
            os.fsync(file.fileno())
        os.replace(chunk, folder / chunk.name)
    shutil.rmtree(aside)


def _create_nodes(
    folder: Path,
    growing: Sequence[GrowingArray],
    static: Sequence[StaticArray],
    shard_epochs: int,
    group_attrs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Write the arrays and groups below `folder`; return their metadata by path."""
    root = zarr.create_group(str(folder))
    consolidated = {}
    paths = [*(array.path for array in growing), *(array.path for array in static)]
    for group in dict.fromkeys(path.rpartition("/")[0] for path in paths if "/" in path):
        root.create_group(group, attributes=dict(group_attrs.get(group, {})))
        consolidated[group] = _read_json(folder / group / "zarr.json")
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
    consolidated.update({path: _read_json(folder / path / "zarr.json") for path in together})
    return consolidated


def _read_json(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes())
    if not isinstance(document, dict):
        raise CorruptionError(f"{str(path)!r} is not a JSON object")
    return document
