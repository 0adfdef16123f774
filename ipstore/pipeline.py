"""How chunks are encoded, and the pipeline that decodes them."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import ByteRequest
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline
from zarr.storage import LocalStore, StorePath

from ipstore.chunk_files import Layout, Part, damaged, layout, missing, parts_of, read_file
from ipstore.errors import CorruptionError, UnreachableError

__all__ = ["CheckedPipeline", "codec_pipeline", "codecs", "compressor", "explained"]


def compressor(dtype: np.dtype[Any]) -> Blosc | None:
    """Choose what compresses a chunk: lz4 for codes and other integers, nothing for floats.

    Codes shrink to a quarter, at level 9 as fast as at level 5. Floats would shrink by a sixth, and compressing
    them took longer than training the networks they come from.
    """
    return None if dtype.kind == "f" else Blosc(cname="lz4", clevel=9, shuffle=Blosc.BITSHUFFLE)


def codecs(dtype: np.dtype[Any]) -> list[BytesBytesCodec]:
    """Give the same as Zarr codecs, with the checksum that ends every chunk: without it a flipped bit goes unseen."""
    blosc = BloscCodec(cname="lz4", clevel=9, shuffle="bitshuffle")
    return [Crc32cCodec()] if compressor(dtype) is None else [blosc, Crc32cCodec()]


@contextmanager
def codec_pipeline() -> Iterator[None]:
    """Arrays that are made or opened inside never read damage as values.

    A chunk that is missing, which Zarr would read as its fill value, or does not agree with its checksum raises
    `CorruptionError`. The setting is undone at the end, so it does not reach the caller's other arrays.
    """
    with zarr.config.set({"array.write_empty_chunks": True, "codec_pipeline.path": "ipstore.pipeline.CheckedPipeline"}):
        yield


class CheckedPipeline(BatchedCodecPipeline):
    """zarr-python's own pipeline, but that a chunk which is not there is an error, and files are read directly."""

    async def read(self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()) -> None:
        """Read a batch of chunks into `out`, all of them there."""
        batch = list(batch_info)
        if (reads := self._direct(batch, out, drop_axes)) is not None:
            await asyncio.to_thread(_each, reads)
            return
        with explained(batch):
            sure = [(_Present(source) if isinstance(source, StorePath) else source, *how) for source, *how in batch]
            await super().read(sure, out, drop_axes)

    def _direct(self, batch: Sequence[Any], out: Any, drop_axes: tuple[int, ...]) -> list[partial[None]] | None:
        """Give what reads each chunk as a file of this machine; None if one of them is not."""
        values, codecs = out.as_ndarray_like(), list(self)
        if not isinstance(values, np.ndarray):
            return None
        reads = []
        for source, spec, selection, place, _ in batch:
            how = layout(codecs, spec.shape)
            parts = parts_of(selection, spec.shape)
            if (
                how is None
                or parts is None
                or not isinstance(source, StorePath)
                or not isinstance(source.store, LocalStore)
            ):
                return None
            ints = [axis for axis, part in enumerate(selection) if isinstance(part, int | np.integer)]
            file = str(source.store.root / source.path)
            reads.append(partial(_read, file, how, spec.shape, parts, values, place, drop_axes or tuple(ints)))
        return reads


def _each(reads: Sequence[partial[None]]) -> None:
    for read in reads:
        read()


def _read(
    file: str,
    how: Layout,
    shape: Sequence[int],
    parts: Sequence[Part],
    values: NDArray[Any],
    place: Any,
    dropped: tuple[int, ...],
) -> None:
    """Read some of a file into a place of `values`, which lack the dropped axes."""
    target = np.expand_dims(values[place], dropped)
    read_file(file, how, shape, parts, target)
    if not np.shares_memory(target, values):  # the places were picked one by one
        values[place] = target.squeeze(dropped)


class _Present:
    """Where a chunk lies, which must be there."""

    def __init__(self, source: StorePath) -> None:
        self._source = source

    async def get(self, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer:
        found = await self._source.get(prototype, byte_range)
        if found is None or not len(found):
            raise missing(self._source)
        return found


@contextmanager
def explained(batch: Sequence[Any]) -> Iterator[None]:
    """Turn what decoding a batch of chunks raises into `CorruptionError`, naming the chunk if there is one alone."""
    try:
        yield
    except (CorruptionError, UnreachableError):
        raise
    except (RuntimeError, ValueError) as error:
        places = [source for source, *_ in batch if isinstance(source, StorePath)]
        if not places:  # chunks inside a shard; the shard's own batch explains
            raise
        where = f"{places[0]}" if len(places) == 1 else f"one of {len(places)} chunks beside {places[0]}"
        what = "its checksum does not match" if "checksum" in str(error) else str(error)
        raise damaged(where, what) from error


register_pipeline(CheckedPipeline)
