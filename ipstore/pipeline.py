"""How chunks are encoded, and the pipeline that decodes them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline
from zarr.storage import LocalStore, StorePath

from ipstore.errors import CorruptionError

__all__ = ["CheckedPipeline", "codec_pipeline", "codecs", "compressor", "explained", "require_files"]


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
    """Arrays made or opened inside never read damage as values, and are fast where ``zarrs`` is installed.

    A chunk that is missing, which Zarr would read as its fill value, or does not agree with its checksum raises
    `CorruptionError`. The setting is undone at the end, so it does not reach the caller's other arrays.
    """
    name = "zarrs_pipeline.CheckedZarrsPipeline" if find_spec("zarrs") else "pipeline.CheckedPipeline"
    import_module(f"ipstore.{name.partition('.')[0]}")
    with zarr.config.set({"array.write_empty_chunks": True, "codec_pipeline.path": f"ipstore.{name}"}):
        yield


class CheckedPipeline(BatchedCodecPipeline):
    """zarr-python's own pipeline, but that a chunk which is not there is an error."""

    async def read(self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()) -> None:
        """Read a batch of chunks into `out`, all of them there."""
        batch = list(batch_info)
        require_files(batch)
        with explained(batch):
            await super().read(batch, out, drop_axes)


def require_files(batch: Sequence[Any]) -> None:
    """Refuse a batch of chunks to be read if the file of one is missing or empty.

    Raises
    ------
    CorruptionError
    """
    for file in _files(batch):
        if not os.path.exists(file) or not os.path.getsize(file):
            raise CorruptionError(f"{file!r} is missing or empty: `ipstore verify` names all that is damaged")


@contextmanager
def explained(batch: Sequence[Any]) -> Iterator[None]:
    """Turn what decoding a batch of chunks raises into `CorruptionError`, naming the file if there is one alone."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        files = _files(batch)
        if not files:  # chunks inside a shard; the shard's own batch explains
            raise
        where = repr(files[0]) if len(files) == 1 else f"one of {len(files)} files beside {files[0]!r}"
        what = "its checksum does not match" if "checksum" in str(error) else str(error)
        raise CorruptionError(
            f"{where} is damaged ({what}): `ipstore verify` names the layer, epochs and seeds"
        ) from error


def _files(batch: Sequence[Any]) -> list[str]:
    places = [source for source, *_ in batch if isinstance(source, StorePath)]
    return [os.path.join(place.store.root, place.path) for place in places if isinstance(place.store, LocalStore)]


register_pipeline(CheckedPipeline)
