"""How chunks are encoded, and the pipeline that decodes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec

__all__ = ["codec_pipeline", "codecs", "compressor"]


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
    """Arrays made or opened inside keep the ``zarrs`` codec pipeline, where that is installed.

    It decodes several times faster than zarr-python's own. The setting is undone at the end, so it does not reach
    the caller's other arrays.
    """
    settings: dict[str, object] = {"array.write_empty_chunks": True}
    if find_spec("zarrs"):
        pipeline = import_module("ipstore.zarrs_pipeline").CheckedZarrsPipeline
        settings["codec_pipeline.path"] = f"{pipeline.__module__}.{pipeline.__qualname__}"
    with zarr.config.set(settings):
        yield
