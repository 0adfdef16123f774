"""Shard files, made in memory of their own and written past the page cache.

A shard holds one seed's chunks of a few epochs each. What streaming costs is the processor as much as the disk:
Zarr's writers gather each chunk, encode it and gather it again in fresh memory, and the page cache takes fresh memory
for every byte once more. Here a shard is put together in memory that is used again and again, and goes to the disk
from there (``O_DIRECT``); it must be durable soon anyway, and nobody is waiting to read it.
"""

import fcntl
import mmap
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

__all__ = ["ShardWriter"]

_ABSENT = 2**64 - 1
_CRC_BYTES = 4
_DIRECT = getattr(os, "O_DIRECT", 0)
_THREADS = 2  # one puts a shard together while the other waits for the disk


class ShardWriter:
    """Writes shards in threads of its own, some at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="ipstore-shards")
        self._benches = threading.local()
        self._pending: list[Future[None]] = []

    def write(
        self,
        path: Path,
        values: NDArray[Any],
        epochs: int,
        chunk: int,
        fill: float | int,
        compressor: Blosc | None,
    ) -> None:
        """Begin to write a Zarr shard whose chunks lie along the first axis, with the index at the end.

        Parameters
        ----------
        path : Path
        values : (epoch, ...) array
            At most a shard of epochs; not to be touched before `flush`.
        epochs, chunk : int
            Epochs in a shard and in a chunk.
        fill : number
            Fills a last chunk that is not full.
        compressor : numcodecs.Blosc or None
            None stores chunks as they are.
        """
        self._pending.append(self._pool.submit(self._work, path, values, epochs, chunk, fill, compressor))

    def flush(self) -> None:
        """Wait until all that was begun is written; raise the first error met."""
        pending, self._pending = self._pending, []
        wait(pending)
        for done in pending:
            done.result()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _work(self, path: Path, *shard: Any) -> None:
        if not hasattr(self._benches, "own"):
            self._benches.own = _Bench()
        self._benches.own.put_together(*shard)
        self._benches.own.write(path)


class _Bench:
    """Memory in which one shard at a time is put together."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._used = 0

    def put_together(
        self, values: NDArray[Any], epochs: int, chunk: int, fill: float | int, compressor: Blosc | None
    ) -> None:
        self._used = 0
        little = values.dtype.newbyteorder("<")
        whole = (chunk, *values.shape[1:])
        index = np.full((epochs // chunk, 2), _ABSENT, "<u8")
        for place, start in enumerate(range(0, len(values), chunk)):
            begin, part = self._used, values[start : start + chunk]
            room = self._room(prod(whole) * little.itemsize) if compressor is None else np.empty(whole, little)
            room = room.view(little).reshape(whole)
            room[: len(part)] = part
            room[len(part) :] = fill
            if compressor is not None:
                self._append(np.frombuffer(compressor.encode(room), np.uint8))
            self._seal(begin)
            index[place] = begin, self._used - begin
        # Direct writes take whole pages, and cutting a file to size afterwards waits for the disk: so what fills up the
        # last page goes before the index, where no reader looks.
        self._room(-(self._used + index.nbytes + _CRC_BYTES) % mmap.PAGESIZE)[:] = 0
        begin = self._used
        self._append(index.reshape(-1).view(np.uint8))
        self._seal(begin)

    def write(self, path: Path) -> None:
        descriptor = _create(path)
        try:
            rest = memoryview(self._memory)[: self._used]
            while rest:
                rest = rest[os.write(descriptor, rest) :]
                if rest:  # the disk is nearly full, and what is left may begin amid a page
                    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~_DIRECT)
        finally:
            os.close(descriptor)

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
        self._append(np.frombuffer(int(crc).to_bytes(_CRC_BYTES, "little"), np.uint8))


def _create(path: Path) -> int:
    """Open a file to write past the page cache, or through it on file systems that know no other way."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags | _DIRECT, 0o666)
    except OSError:
        return os.open(path, flags, 0o666)
