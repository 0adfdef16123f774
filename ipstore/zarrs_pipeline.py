"""The ``zarrs`` codec pipeline where it is safe, zarr-python's own elsewhere.

zarrs (0.2) verifies the crc32c of a chunk only where it decodes the whole of it. Where a selection takes part of a
chunk or of a shard, it decodes just that part and skips the checksum: of 60 flipped bits, 59 came back as values.
And it never writes a chunk of nothing but the fill value, whatever ``array.write_empty_chunks`` says, so that a
chunk that was lost could not be told from one that was never there.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from zarr.abc.codec import CodecPipeline
from zarr.registry import register_pipeline
from zarr.storage import LocalStore, StorePath
from zarrs import ZarrsCodecPipeline

from ipstore.errors import CorruptionError
from ipstore.pipeline import explained

__all__ = ["CheckedZarrsPipeline"]


class CheckedZarrsPipeline(ZarrsCodecPipeline):
    """zarrs for whole chunks of data, zarr-python for all else."""

    async def read(self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()) -> None:
        """Read a batch of chunks into `out`, all of them there and every byte checked."""
        batch = list(batch_info)
        _require_files(batch)
        whole = [chunk for chunk in batch if _is_whole(chunk)]
        with explained(batch):
            if whole:
                await super().read(whole, out, drop_axes)
            if len(whole) < len(batch):
                await self._checked.read([chunk for chunk in batch if not _is_whole(chunk)], out, drop_axes)

    async def write(self, batch_info: Iterable[Any], value: Any, drop_axes: tuple[int, ...] = ()) -> None:
        """Write a batch of chunks, also those of nothing but the fill value."""
        batch = list(batch_info)
        values = value.as_ndarray_like()
        empty = [_begins_as_fill(chunk, values) for chunk in batch]
        if not all(empty):
            filled = [chunk for chunk, is_empty in zip(batch, empty, strict=True) if not is_empty]
            await super().write(filled, value, drop_axes)
        if any(empty):
            emptied = [chunk for chunk, is_empty in zip(batch, empty, strict=True) if is_empty]
            await self._checked.write(emptied, value, drop_axes)

    @property
    def _checked(self) -> CodecPipeline:
        assert self.python_impl is not None  # unless codec_pipeline.strict is set, which forbids it
        return self.python_impl


def _require_files(batch: Sequence[Any]) -> None:
    """Refuse a batch of chunks to be read if the file of one is missing or empty, which zarrs takes for fill values."""
    for place in [source for source, *_ in batch if isinstance(source, StorePath)]:
        assert isinstance(place.store, LocalStore)  # this pipeline is chosen for no other
        file = os.path.join(place.store.root, place.path)
        if not os.path.exists(file) or not os.path.getsize(file):
            raise CorruptionError(f"{file!r} is missing or empty: `ipstore verify` names all that is damaged")


def _is_whole(chunk: Any) -> bool:
    _, spec, selection, _, _ = chunk
    return len(selection) == len(spec.shape) and all(
        isinstance(part, slice) and part.indices(length) == (0, length, 1)
        for part, length in zip(selection, spec.shape, strict=True)
    )


def _begins_as_fill(chunk: Any, values: Any) -> bool:
    """Whether the chunk's first value is the fill value: the cheap half of asking whether all are."""
    _, spec, _, selection, _ = chunk
    first = np.asarray(values[selection] if values.shape else values).flat[0]
    return bool(first == spec.fill_value or (first != first and spec.fill_value != spec.fill_value))


register_pipeline(CheckedZarrsPipeline)
