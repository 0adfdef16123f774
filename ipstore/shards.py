"""Chunks and shards, put together in memory of their own and stored from there.

A shard holds one seed's chunks of a few epochs each. What streaming costs is the processor as much as the disk:
Zarr's writers gather each chunk, encode it and gather it again in fresh memory, and the page cache takes fresh memory
for every byte once more. Here a shard is put together in memory that is used again and again, and goes to the disk
from there, past the cache; it must be durable soon anyway, and nobody is waiting to read it.
"""

import mmap
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from math import prod
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from ipstore.chunk_files import ABSENT, CRC_BYTES
from ipstore.places import Place

__all__ = ["Geometry", "ShardWriter"]

_MUCH = 8


@dataclass(frozen=True)
class Geometry:
    """How the epochs of an array lie in its objects.

    Parameters
    ----------
    epochs : int
        In an object.
    chunk : int or None
        In each of the chunks that an object, a shard, is made of; None if the object is one chunk.
    fill : number
        What fills a last chunk that is not full.
    compressor : numcodecs.Blosc or None
        None stores values as they are.
    """

    epochs: int
    chunk: int | None
    fill: float | int
    compressor: Blosc | None


class ShardWriter:
    """Writes the objects of growing arrays, in threads of its own.

    Parameters
    ----------
    place : Place
        Of the group.
    check : callable
        Called right before an object is put; raises if that must not be.

    Attributes
    ----------
    files, stored_bytes : int
        Objects and bytes that were written.
    """

    def __init__(self, place: Place, check: Callable[[], None] = lambda: None) -> None:
        self._place = place
        self._check = check
        self._pool = ThreadPoolExecutor(place.writers, thread_name_prefix="ipstore-shards")
        self._free: list[_Bench] = []
        self._lock = threading.Lock()
        self._pending: list[Future[int]] = []
        self.files = self.stored_bytes = 0

    def write(self, key: str, values: NDArray[Any], geometry: Geometry, *, over: bool) -> None:
        """Begin to write an object.

        Parameters
        ----------
        key : str
            In the group.
        values : (epoch, ...) array
            At most an object's epochs; not to be touched before `flush`.
        geometry : Geometry
        over : bool
            Whether there is one already, which must stay whole till it is replaced.
        """
        self._pending.append(self._pool.submit(self._work, key, values, geometry, over))
        self.files += not over

    def flush(self) -> None:
        """Wait until all that was begun is written; raise the first error met."""
        pending, self._pending = self._pending, []
        wait(pending)
        self.stored_bytes += sum(done.result() for done in pending)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _work(self, key: str, values: NDArray[Any], geometry: Geometry, over: bool) -> int:
        bench = self._bench(values.nbytes)
        try:
            content = bench.put_together(values, geometry)
            before = (self._place.size(key) or 0) if over else 0
            self._check()
            self._place.put_chunk(key, content, over=over)
            return len(content) - before
        finally:
            with self._lock:
                self._free.append(bench)

    def _bench(self, size: int) -> "_Bench":
        """Take a free bench, though none for objects much larger: one of these would need another then."""
        with self._lock:
            fitting = [bench for bench in self._free if bench.size <= _MUCH * max(size, mmap.PAGESIZE)]
            if not fitting:
                return _Bench()
            bench = max(fitting, key=lambda bench: bench.size)
            self._free.remove(bench)
            return bench


class _Bench:
    """Memory in which one shard at a time is put together."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._used = 0

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return len(self._memory)

    def put_together(self, values: NDArray[Any], geometry: Geometry) -> memoryview:
        """Encode values as Zarr does; what is returned is overwritten by the next."""
        self._used = 0
        if geometry.chunk is None:
            self._append_chunk(values, geometry.epochs, geometry)
            return memoryview(self._memory)[: self._used]
        index = np.full((geometry.epochs // geometry.chunk, 2), ABSENT, "<u8")
        for place, start in enumerate(range(0, len(values), geometry.chunk)):
            begin = self._used
            self._append_chunk(values[start : start + geometry.chunk], geometry.chunk, geometry)
            index[place] = begin, self._used - begin
        # Direct writes take whole pages, and cutting a file to size afterwards waits for the disk: so what fills up the
        # last page goes before the index, where no reader looks.
        self._room(-(self._used + index.nbytes + CRC_BYTES) % mmap.PAGESIZE)[:] = 0
        begin = self._used
        self._append(index.reshape(-1).view(np.uint8))
        self._seal(begin)
        return memoryview(self._memory)[: self._used]

    def _append_chunk(self, values: NDArray[Any], epochs: int, geometry: Geometry) -> None:
        begin = self._used
        little, whole = values.dtype.newbyteorder("<"), (epochs, *values.shape[1:])
        raw = geometry.compressor is None
        room = self._room(prod(whole) * little.itemsize) if raw else np.empty(whole, little)
        room = room.view(little).reshape(whole)
        room[: len(values)] = values
        room[len(values) :] = geometry.fill
        if geometry.compressor is not None:
            self._append(np.frombuffer(geometry.compressor.encode(room), np.uint8))
        self._seal(begin)

    def _room(self, size: int) -> NDArray[np.uint8]:
        """Extend what is in use by `size` bytes; the memory grows where it must, and is kept."""
        begin, self._used = self._used, self._used + size
        if self._used > len(self._memory):
            grown = mmap.mmap(-1, -(-2 * self._used // mmap.PAGESIZE) * mmap.PAGESIZE)
            grown[:begin] = self._memory[:begin]
            self._memory = grown
        return np.frombuffer(self._memory, np.uint8, size, begin)

    def _append(self, content: NDArray[np.uint8]) -> None:
        self._room(content.size)[:] = content

    def _seal(self, begin: int) -> None:
        """Follow what was added since `begin` by its checksum."""
        crc = google_crc32c.value(np.frombuffer(self._memory, np.uint8, self._used - begin, begin))
        self._append(np.frombuffer(int(crc).to_bytes(CRC_BYTES, "little"), np.uint8))
