"""Chunk files of this machine, read as directly as the disk allows.

The floor is one pass over the stored bytes. Where values are stored as they are, a chunk goes into the array that is
asked for in one system call, and is held against its checksum there; a compressed one passes through memory that is
used for the next one too. A file is opened once and its index read from it, so one that a writer replaces meanwhile is
read as it was, whole.
"""

import os
import sys
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.abc.codec import Codec
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec

from ipstore.errors import CorruptionError

__all__ = ["ABSENT", "CRC_BYTES", "Layout", "Part", "damaged", "layout", "missing", "parts_of", "read_file"]

CRC_BYTES, _ENTRY_BYTES = 4, 16
"""Of the checksum that ends each chunk and the index, and of what the index says of a chunk."""

ABSENT = 2**64 - 1
"""What the index says of a chunk that is not there."""

_MOST_BUFFERS = 1024
"""What one system call may fill, by POSIX."""

Part = slice | NDArray[np.intp]
"""Places along an axis: a slice with a step above 0, or whatever places."""


class Layout(NamedTuple):
    """How values lie in a file.

    Attributes
    ----------
    chunk : tuple of int or None
        Shape of the chunks of which the file is made, if it is a shard; None if it is one chunk.
    compressed : bool
    """

    chunk: tuple[int, ...] | None
    compressed: bool


def layout(codecs: Sequence[Codec], shape: Sequence[int]) -> Layout | None:
    """Tell how values of this shape lie in a file encoded so; None if that is not how ipstore stores numbers."""
    match codecs:
        case [ShardingCodec() as shard] if shard.index_location.value == "end":
            within = layout(shard.codecs, shard.chunk_shape)
            if within is None or within.chunk or shard.chunk_shape[1:] != tuple(shape[1:]):
                return None
            return Layout(shard.chunk_shape, within.compressed)
        case [BytesCodec() as code, Crc32cCodec()] if _is_native(code):
            return Layout(None, compressed=False)
        case [BytesCodec() as code, BloscCodec(), Crc32cCodec()] if _is_native(code):
            return Layout(None, compressed=True)
    return None


def _is_native(code: BytesCodec) -> bool:
    return code.endian is None or code.endian.value == sys.byteorder


def parts_of(selection: Any, shape: Sequence[int]) -> list[Part] | None:
    """Take apart what Zarr selects of a file, axis by axis; None if more than one axis has places in no order.

    Parameters
    ----------
    selection : tuple
        For each axis an int, a slice or an array of ints, all of the last as `numpy.ix_` makes them.
    shape : sequence of int
        Of the values in the file.
    """
    if not isinstance(selection, tuple) or len(selection) != len(shape) or not shape:
        return None
    parts = [_part(*each) for each in zip(selection, shape, strict=True)]
    known = [part for part in parts if part is not None]
    unordered = sum(not isinstance(part, slice) for part in known)
    return known if len(known) == len(parts) and unordered < 2 else None


def _part(part: Any, length: int) -> Part | None:
    if isinstance(part, slice):
        start, stop, step = part.indices(length)
        return slice(start, max(start, stop), step) if step > 0 else None
    places = np.asarray(part).reshape(-1)
    if places.dtype.kind not in "iu":
        return None
    steps = np.diff(places)
    if places.size == 1 or (places.size and steps[0] > 0 and (steps == steps[0]).all()):
        return slice(int(places[0]), int(places[-1]) + 1, int(steps[0]) if steps.size else 1)
    return places.astype(np.intp)


def read_file(file: str, how: Layout, shape: Sequence[int], parts: Sequence[Part], out: NDArray[Any]) -> None:
    """Read some of the values of a chunk file.

    Parameters
    ----------
    file : str
    how : Layout
        Chunks in a file lie one after the other along the first axis.
    shape : sequence of int
        Of all values of the file.
    parts : sequence of Part
        What is wanted along each axis.
    out : array
        Where it goes: as many axes, as long as the parts.

    Raises
    ------
    CorruptionError
        If the file is missing or empty, or a chunk is not there, cannot be decoded or differs from its checksum.
    OSError
        If the disk fails.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place is not waited for
    except FileNotFoundError:
        raise missing(file) from None
    try:
        source = _File(file, descriptor, how.compressed)
        if how.chunk is None:
            source.read_chunk((0, source.size), tuple(shape), parts, out, slice(0, len(out)))
            return
        step = how.chunk[0]
        index = source.index(shape[0] // step)
        for number, entry in enumerate(index):
            there, within = _overlap(parts[0], number * step, number * step + step)
            if there.start < there.stop if isinstance(there, slice) else there.size:
                source.read_chunk(entry, how.chunk, [within, *parts[1:]], out, there)
    finally:
        os.close(descriptor)


def _overlap(part: Part, low: int, high: int) -> tuple[Part, Part]:
    """Give what of a part lies from `low` to `high`: its places in the result, and in a chunk that begins at `low`."""
    if isinstance(part, slice):
        start, step = part.start, part.step
        first = max(0, -(-(low - start) // step))
        end = max(first, -(-(min(high, part.stop) - start) // step))
        return slice(first, end), slice(start + first * step - low, start + (end - 1) * step + 1 - low, step)
    there = np.flatnonzero((part >= low) & (part < high))
    return there, part[there] - low


class _File:
    """An open chunk file."""

    def __init__(self, file: str, descriptor: int, compressed: bool) -> None:
        self._file, self._descriptor, self._compressed = file, descriptor, compressed
        self._scratch = np.empty(0, np.uint8)
        self.size = os.fstat(descriptor).st_size
        if not self.size:
            raise missing(file)

    def index(self, chunks: int) -> list[tuple[int, int]]:
        """Read where each of the chunks of a shard begins, and its length."""
        length = chunks * _ENTRY_BYTES + CRC_BYTES
        if self.size < length:
            raise self._damaged(f"it has {self.size} bytes where its index alone has {length}")
        stored = np.empty(length, np.uint8)
        self._fill([stored.data], self.size - length)
        self._check([stored[:-CRC_BYTES].data], stored[-CRC_BYTES:].data)
        pairs: list[list[int]] = stored[:-CRC_BYTES].view("<u8").reshape(chunks, 2).tolist()
        return [(begin, length) for begin, length in pairs]

    def read_chunk(
        self, entry: tuple[int, int], shape: tuple[int, ...], parts: Sequence[Part], out: NDArray[Any], there: Part
    ) -> None:
        """Read some values of a chunk of this shape into places along the first axis of `out`."""
        begin, length = entry
        if entry == (ABSENT, ABSENT):
            raise self._damaged("a chunk of it was never written")
        whole = prod(shape) * out.itemsize
        if length <= CRC_BYTES or begin + length > self.size:
            raise self._damaged(f"a chunk of {length} bytes at {begin} cannot be in its {self.size} bytes")
        if not self._compressed and length != whole + CRC_BYTES:
            raise self._damaged(f"a chunk has {length} bytes where its values and checksum take {whole + CRC_BYTES}")
        crc = memoryview(bytearray(CRC_BYTES))
        rows = None if self._compressed else _rows(shape, parts, out, there)
        if rows is not None:
            self._fill([*rows, crc], begin)
            self._check(rows, crc)
            return
        stored = self._room(length - CRC_BYTES)
        self._fill([stored.data, crc], begin)
        self._check([stored.data], crc)
        values = self._decode(stored, whole) if self._compressed else stored
        out[there] = values.view(out.dtype).reshape(shape)[tuple(parts)]

    def _room(self, size: int) -> NDArray[np.uint8]:
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size]

    def _decode(self, stored: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        told = int.from_bytes(stored[4:8].tobytes(), "little")  # by the header that Blosc begins with
        if told != size:
            raise self._damaged(f"a chunk holds {told} bytes of values where {size} should be")
        values = np.empty(size, np.uint8)
        try:
            blosc.decompress(stored, values)
        except (RuntimeError, ValueError) as error:
            raise self._damaged(str(error)) from error
        return values

    def _fill(self, buffers: Sequence[memoryview], begin: int) -> None:
        """Read bytes into one buffer after the other."""
        for start in range(0, len(buffers), _MOST_BUFFERS):
            some = buffers[start : start + _MOST_BUFFERS]
            wanted = sum(buffer.nbytes for buffer in some)
            got = os.preadv(self._descriptor, some, begin)
            begin += got
            for buffer in some if got < wanted else ():  # it was interrupted, or the file is shorter than it was
                done = min(got, buffer.nbytes)
                got -= done
                while done < buffer.nbytes:
                    if not (more := os.preadv(self._descriptor, [buffer[done:]], begin)):
                        raise self._damaged(f"it ends at {begin}, in the middle of a chunk")
                    done, begin = done + more, begin + more

    def _check(self, content: Sequence[memoryview], crc: memoryview) -> None:
        found = 0
        for each in content:
            found = google_crc32c.extend(found, np.asarray(each))
        if found != int.from_bytes(crc.tobytes(), "little"):
            raise self._damaged("its checksum does not match")

    def _damaged(self, what: str) -> CorruptionError:
        return damaged(self._file, what)


def damaged(where: object, what: str) -> CorruptionError:
    """Say what is wrong with a chunk file, or with one of several."""
    return CorruptionError(f"{where} is damaged ({what}): `ipstore verify` names the layer, epochs and seeds")


def missing(where: object) -> CorruptionError:
    """Say that there is no chunk file, or nothing in it."""
    return CorruptionError(f"{where} is missing or empty: `ipstore verify` names all that is damaged")


def _rows(shape: tuple[int, ...], parts: Sequence[Part], out: NDArray[Any], there: Part) -> list[memoryview] | None:
    """Give memory for the bytes of each row of a chunk, of `out` for those that are wanted; None if they do not fit."""
    within, *rest = parts
    everything = [slice(0, length, 1) for length in shape[1:]]
    if not isinstance(within, slice) or not isinstance(there, slice) or any(map(_differ, rest, everything)):
        return None
    target = out[there]
    if not target[0].flags.c_contiguous:
        return None
    wanted = dict(zip(range(*within.indices(shape[0])), target, strict=True))
    if len(wanted) == shape[0] and target.flags.c_contiguous:
        return [_bytes(target)]
    size = prod(shape[1:]) * out.itemsize
    return [_bytes(wanted[row]) if row in wanted else memoryview(bytearray(size)) for row in range(shape[0])]


def _differ(part: Part, whole: slice) -> bool:
    return not isinstance(part, slice) or part != whole


def _bytes(values: NDArray[Any]) -> memoryview:
    return values.reshape(-1).view(np.uint8).data
