"""Moving runs between places: object by object, each checked, and the document that publishes them last."""

import hashlib
import itertools
import json
import mmap
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from math import prod
from typing import Any

import google_crc32c
import numpy as np

from ipstore.block import digest
from ipstore.errors import (
    CorruptionError,
    IpstoreError,
    ListingError,
    NotAStoreError,
    ParameterError,
    RunExistsError,
    SpaceError,
    StoreWriteError,
    UnknownNameError,
)
from ipstore.format import check_store, make_store, split_run
from ipstore.group import encoded, read_document
from ipstore.parts import holders
from ipstore.places import DOCUMENT, LEASE, Lease, Location, Place, locate
from ipstore.reader import open_published

__all__ = ["Copied", "copy"]

_UNDER_WAY = ".copying"
"""At the destination until it is published: which group is being copied there, and how many epochs of it."""

_BATCH = 1000
"""Objects in the hands of the threads at a time, at most, so that a break is felt soon."""

_ABSENT = 2**64 - 1
_CRC_BYTES = 4

_CHANGING = ("commit", "status", "diverged")
"""Attributes that change as a run grows; of ``config`` the number of epochs does."""


@dataclass(frozen=True)
class Copied:
    """What became of a run that was copied.

    Attributes
    ----------
    run : str
    epochs : int
        Captured epochs at the commit that was copied.
    objects : int
        Chunks of the run and its results, and the resume state.
    sent : int
        How many of them; the others were there already.
    sent_bytes : int
    results : tuple of str
        Results that are at the destination as they are at the source.
    kept : tuple of str
        Results of these names are there that are not those of the source, or are ahead of them; they stay as they are.
    """

    run: str
    epochs: int
    objects: int = 0
    sent: int = 0
    sent_bytes: int = 0
    results: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def copy(
    source: Location,
    destination: Location,
    *,
    run: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Copied]:
    """Copy runs, with their results, to another store.

    Every chunk is read once at the source, where the checksums that it was stored with are held against it, is written
    once, and is read back and compared before the copy is published: one reading more than a plain copy, for one that
    is known to be whole. A run that is being written is copied at its last commit. A copy that was broken off goes on
    where it was (what it has sent is read where it lies, not sent again), and a run that has grown since is continued.

    Parameters
    ----------
    source : path or URL
        A store, or ``"<store>/<run>"``.
    destination : path or URL
        A store; made if there is none. Runs keep their names.
    run : str, optional
        One run, or one in parts, of the source; by default all.
    on_progress : callable
        Called with how many objects of the run at hand are there, and of all.

    Returns
    -------
    list of Copied

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, UnknownNameError
    ParameterError
        If source and destination are one store.
    RunExistsError
        If the destination has a run of that name that is another, or is ahead of the source.
    RunLockedError
        If the destination is being written.
    CorruptionError
        If the source is damaged; nothing of a damaged run is published.
    SpaceError, StoreWriteError, UnreachableError
        If there is no room, or writing failed; the same call goes on from there.
    """
    store, inside = split_run(source) if run is None else (locate(source), run)
    target, other = split_run(destination)
    check_store(store)
    if other:
        raise ParameterError(f"{str(destination)!r} is a run; give its store, {str(target)!r}: a copy keeps its name")
    if str(store) == str(target):
        raise ParameterError(f"source and destination are the one store {str(store)!r}; give another destination")
    names = store.groups() if inside is None else holders(store, inside)
    if inside is not None and not names:
        raise UnknownNameError("run", inside, store.groups())
    make_store(target)
    return [_copy_run(store / name, target / name, on_progress) for name in names]


def _copy_run(source: Place, target: Place, on_progress: Callable[[int, int], None]) -> Copied:
    """Copy a run, then its results: a result without its run would be nothing."""
    done = _Sending(source, target)
    done.send(on_progress)
    sendings, results, kept = [done], [], []
    for name in _result_names(source):
        result = _Sending(source / "results" / name, target / "results" / name)
        try:
            result.send(lambda done, total: None)
        except RunExistsError:
            kept.append(name)
        else:
            sendings.append(result)
            results.append(name)
    return Copied(
        source.name,
        done.epochs,
        sum(each.objects for each in sendings),
        sum(each.sent for each in sendings),
        sum(each.sent_bytes for each in sendings),
        tuple(results),
        tuple(kept),
    )


@dataclass(frozen=True)
class _Object:
    """A chunk or shard.

    Parameters
    ----------
    key : str
    array : mapping
        Metadata of the array that it belongs to.
    start, stop : int
        Its epochs; none where the array does not grow, so that it never changes.
    """

    key: str
    array: Mapping[str, Any] = field(repr=False)
    start: int
    stop: int


class _Sending:
    """A published group on its way from one place to another.

    Attributes
    ----------
    epochs, objects, sent, sent_bytes : int
    """

    def __init__(self, source: Place, target: Place) -> None:
        self._source, self._target = source, target
        self._document, self._state = _snapshot(source)
        self._commit = self._document["attributes"]["commit"]
        self._nodes: dict[str, Any] = self._document["consolidated_metadata"]["metadata"]
        self._of = _identity(self._document)
        self.epochs = int(self._commit["epochs"])
        self._chunks = list(_chunks(self._nodes))
        self.objects = len(self._chunks) + (self._state is not None)
        self.sent = self.sent_bytes = 0

    def send(self, on_progress: Callable[[int, int], None]) -> None:
        """Bring the target to the commit of the source."""
        there = self._target.sizes()
        if there and not {DOCUMENT, LEASE, _UNDER_WAY} & there.keys():
            raise NotAStoreError(
                f"{str(self._target)!r} holds {len(there)} files of something else (such as {min(there)!r}); choose "
                "another store, or move them away"
            )
        self._target.begin()
        lease = self._target.lease()
        try:
            self._send(lease, on_progress)
        except OSError as error:
            if isinstance(error, IpstoreError):
                raise
            raise StoreWriteError(
                f"copying {self._source} to {self._target} failed: {error}; the same command goes on from there"
            ) from error
        finally:
            lease.release()

    def _send(self, lease: Lease, on_progress: Callable[[int, int], None]) -> None:
        there = self._target.sizes()
        version, published = None, -1
        if DOCUMENT in there:
            version = self._target.read_version(DOCUMENT)[1]
            before = read_document(self._target)
            self._refuse_another(before)
            published = self.epochs if before["attributes"]["commit"] == self._commit else _epochs(before)
            if before == self._document:
                on_progress(self.objects, self.objects)
                return
        lacking, doubtful = self._lacking(there, published)
        self._require_space(there)
        self._put_documents([path for path in self._nodes if f"{path}/{DOCUMENT}" not in there])
        if self._state is not None:
            lease.check()
            self._target.put(self._commit["state"], self._state)
            self._count(len(self._state))
        done = self.objects - len(lacking)
        on_progress(done, self.objects)
        pool = ThreadPoolExecutor(max(self._source.writers, self._target.writers), "ipstore-copy")
        try:
            for first in range(0, len(lacking), _BATCH):
                batch = lacking[first : first + _BATCH]
                for sent in pool.map(lambda each: self._bring(each, lease, each.key in doubtful), batch):
                    self._count(sent)
                    done += 1
                    on_progress(done, self.objects)
        finally:
            pool.shutdown(cancel_futures=True)
        if _identity(read_document(self._source)) != self._of:
            raise StoreWriteError(f"{self._source} was replaced by another while it was being copied: copy it again")
        lease.check()
        self._target.publish(encoded(self._document), version)
        self._put_documents([path for path, node in self._nodes.items() if _grows(node)])
        states = {key for key in there if key.startswith("state/")} - {self._commit.get("state")}
        halves = {key for key in there if key.endswith(".tmp") and not key.startswith("results/")}
        self._target.delete([_UNDER_WAY, *states, *halves])

    def _lacking(self, there: Mapping[str, int], published: int) -> tuple[list[_Object], set[str]]:
        """Find the chunks that must be brought, and which of them a copy that was broken off may have brought.

        What lies wholly within published epochs was compared before it was published. What else is there is of use if
        it was sent of this group as it is to be sent now: a shard that was full then, or the same epochs.
        """
        begun = self._under_way()
        if published < 0 and begun < 0:
            self._target.delete(key for key in there if key != LEASE)
            there = {}
        lacking = [
            chunk for chunk in self._chunks if published < 0 or (published < chunk.stop and published < self.epochs)
        ]
        doubtful, stale = set(), []
        for chunk in lacking:
            if chunk.key not in there or chunk.start < published:
                continue  # a shard of which some epochs are published stands until it is replaced
            if begun >= 0 and (chunk.stop <= begun or begun == self.epochs):
                doubtful.add(chunk.key)
            else:
                stale.append(chunk.key)
        self._target.delete(stale)  # before it could be taken for what is sent from now on
        self._target.put(_UNDER_WAY, json.dumps({"of": self._of, "epochs": self.epochs}).encode())
        return lacking, doubtful

    def _bring(self, chunk: _Object, lease: Lease, doubtful: bool) -> int:
        """Bring one chunk, unless it is there; give the number of bytes sent."""
        if doubtful and _is_whole(self._target.read(chunk.key), chunk.array):
            return 0
        try:
            content = self._source.read(chunk.key)
        except FileNotFoundError:
            content = b""
        if not _is_whole(content, chunk.array):
            raise CorruptionError(
                f"{self._source / chunk.key} is missing or damaged, so {self._source.name!r} is not copied: `ipstore "
                "verify` names all that is damaged"
            )
        lease.check()
        with closing(mmap.mmap(-1, len(content))) as memory:  # begins at a page, as writing past the cache asks
            memory[:] = content
            with memoryview(memory) as aligned:
                self._target.put_chunk(chunk.key, aligned, over=True)
        if self._target.read(chunk.key) != content:
            raise StoreWriteError(
                f"{self._target / chunk.key} comes back other than it was written: check its disk, and copy again"
            )
        return len(content)

    def _count(self, size: int) -> None:
        self.sent += size > 0
        self.sent_bytes += size

    def _put_documents(self, paths: list[str]) -> None:
        for path in paths:
            self._target.put(f"{path}/{DOCUMENT}", encoded(self._nodes[path]), durable=False)

    def _refuse_another(self, before: dict[str, Any]) -> None:
        """Refuse to write over what is not an earlier state of the source."""
        what = f"{str(self._target)!r} exists already, and is "
        if _identity(before) != self._of:
            raise RunExistsError(f"{what}another than {str(self._source)!r}: copy to another store, or remove it first")
        commit = before["attributes"]["commit"]
        if (_epochs(before), commit["sequence"]) > (self.epochs, self._commit["sequence"]):
            raise RunExistsError(
                f"{what}ahead of {str(self._source)!r} ({_epochs(before)} captured epochs, here {self.epochs}): copy "
                "the other way"
            )
        if commit == self._commit:
            return
        ours, theirs = (
            tree.isel(epoch=slice(_epochs(before)))
            for tree in (open_published(self._source), open_published(self._target))
        )
        paths = ["epoch", *(path for path in ("digest/crc32c",) if path in self._nodes)]
        if not all(np.array_equal(ours[path], theirs[path]) for path in paths):
            raise RunExistsError(
                f"{what}continued in another way than {str(self._source)!r} (their digests differ): copy elsewhere"
            )

    def _under_way(self) -> int:
        """Give how many epochs of this group a copy that was broken off was to bring; -1 if there was none."""
        try:
            begun = json.loads(self._target.read(_UNDER_WAY))
            return int(begun["epochs"]) if begun["of"] == self._of else -1
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return -1

    def _require_space(self, there: Mapping[str, int]) -> None:
        needed, free = self._commit.get("bytes", 0) - sum(there.values()), self._target.free_bytes()
        if free is not None and needed > free:
            raise SpaceError(
                f"{self._source} takes {needed / 1e9:,.2f} GB more at {self._target.parent}, where "
                f"{free / 1e9:,.2f} GB are free; make room, or copy elsewhere"
            )


def _result_names(run: Place) -> list[str]:
    try:
        return (run / "results").groups()
    except ListingError as error:
        warnings.warn(f"the results of {run.name!r} are not copied: {error}", stacklevel=4)
        return []


def _snapshot(place: Place) -> tuple[dict[str, Any], bytes | None]:
    """Read a group's document, and the resume state that it names: a writer deletes that after its next commit."""
    while True:
        document = read_document(place)
        commit = document["attributes"]["commit"]
        if "state" not in commit:
            return document, None
        try:
            state = place.read(commit["state"])
        except FileNotFoundError:
            if read_document(place)["attributes"]["commit"] != commit:
                continue
            state = b""
        if digest(np.frombuffer(state, np.uint8)) != commit["state_crc32c"]:
            raise CorruptionError(
                f"{str(place / commit['state'])!r}, from which the run would continue, is missing or damaged"
            )
        return document, state


def _identity(document: Mapping[str, Any]) -> str:
    """Digest all that stays the same of a group as it grows."""
    attrs = {key: value for key, value in document["attributes"].items() if key not in _CHANGING}
    if isinstance(attrs.get("config"), dict):
        attrs["config"] = {key: value for key, value in attrs["config"].items() if key != "epochs"}
    nodes = {
        path: node | {"shape": node["shape"][1:]} if _grows(node) else node
        for path, node in document["consolidated_metadata"]["metadata"].items()
    }
    return hashlib.sha256(json.dumps([attrs, nodes], sort_keys=True).encode()).hexdigest()


def _epochs(document: Mapping[str, Any]) -> int:
    return int(document["attributes"]["commit"]["epochs"])


def _grows(node: Mapping[str, Any]) -> bool:
    return node["node_type"] == "array" and list(node["dimension_names"])[:1] == ["epoch"]


def _chunks(nodes: Mapping[str, Any]) -> Iterator[_Object]:
    """Give every chunk that a document refers to."""
    for path, node in nodes.items():
        if node["node_type"] != "array":
            continue
        steps = node["chunk_grid"]["configuration"]["chunk_shape"]
        counts = (-(-length // step) for length, step in zip(node["shape"], steps, strict=True))
        for index in itertools.product(*map(range, counts)):
            start, stop = (index[0] * steps[0], (index[0] + 1) * steps[0]) if _grows(node) else (0, 0)
            yield _Object(f"{path}/{'.'.join(map(str, ('c', *index)))}", node, start, stop)


def _is_whole(content: bytes, array: Mapping[str, Any]) -> bool:
    """Whether a chunk, or a shard's index and each chunk in it, agrees with its crc32c."""
    codec = array["codecs"][0]
    if codec["name"] != "sharding_indexed":
        return _is_sealed(content)
    shape, inner = array["chunk_grid"]["configuration"]["chunk_shape"], codec["configuration"]["chunk_shape"]
    count = prod(outer // part for outer, part in zip(shape, inner, strict=True))
    index = content[-(16 * count + _CRC_BYTES) :]
    if len(index) < 16 * count + _CRC_BYTES or not _is_sealed(index):
        return False
    places = struct.iter_unpack("<QQ", index[:-_CRC_BYTES])
    view = memoryview(content)
    return all(_is_sealed(view[offset : offset + length]) for offset, length in places if offset != _ABSENT)


def _is_sealed(content: bytes | memoryview) -> bool:
    crc = int.from_bytes(content[-_CRC_BYTES:], "little")
    return len(content) > _CRC_BYTES and google_crc32c.value(np.frombuffer(content[:-_CRC_BYTES], np.uint8)) == crc
