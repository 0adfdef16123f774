"""How chunks are encoded, and the pipeline that decodes them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline
from zarr.storage import LocalStore, StorePath

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
def codec_pipeline(store: Store) -> Iterator[None]:
    """Arrays of `store` made or opened inside never read damage as values, and are fast where ``zarrs`` is installed.

    A chunk that is missing, which Zarr would read as its fill value, or does not agree with its checksum raises
    `CorruptionError`. The setting is undone at the end, so it does not reach the caller's other arrays.
    """
    fast = isinstance(store, LocalStore) and find_spec("zarrs")
    name = "zarrs_pipeline.CheckedZarrsPipeline" if fast else "pipeline.CheckedPipeline"
    import_module(f"ipstore.{name.partition('.')[0]}")
    with zarr.config.set({"array.write_empty_chunks": True, "codec_pipeline.path": f"ipstore.{name}"}):
        yield


class CheckedPipeline(BatchedCodecPipeline):
    """zarr-python's own pipeline, but that a chunk which is not there is an error."""

    async def read(self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()) -> None:
        """Read a batch of chunks into `out`, all of them there."""
        batch = list(batch_info)
        with explained(batch):
            sure = [(_Present(source) if isinstance(source, StorePath) else source, *how) for source, *how in batch]
            await super().read(sure, out, drop_axes)


class _Present:
    """Where a chunk lies, which must be there."""

    def __init__(self, source: StorePath) -> None:
        self._source = source

    async def get(self, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer:
        found = await self._source.get(prototype, byte_range)
        if found is None or not len(found):
            raise CorruptionError(f"{self._source} is missing or empty: `ipstore verify` names all that is damaged")
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
        raise CorruptionError(
            f"{where} is damaged ({what}): `ipstore verify` names the layer, epochs and seeds"
        ) from error


register_pipeline(CheckedPipeline)
