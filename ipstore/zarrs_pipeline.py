"""The ``zarrs`` codec pipeline, kept from returning bytes that it did not check.

zarrs (0.2) verifies the crc32c of a chunk only where it decodes the whole of it. Where a selection takes part of a
chunk or of a shard, it decodes just that part and skips the checksum: of 60 flipped bits, 59 came back as values.
Such selections go through zarr-python's own pipeline instead, which reads no more of a shard than it needs and
checks all it reads.
"""

from collections.abc import Iterable
from typing import Any

from zarr.registry import register_pipeline
from zarrs import ZarrsCodecPipeline

__all__ = ["CheckedZarrsPipeline"]


class CheckedZarrsPipeline(ZarrsCodecPipeline):
    """zarrs for whole chunks, zarr-python for parts of them."""

    async def read(self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()) -> None:
        """Read a batch of chunks into `out`, every byte of them checked."""
        batch = list(batch_info)
        whole = [chunk for chunk in batch if _is_whole(chunk)]
        if whole:
            await super().read(whole, out, drop_axes)
        if len(whole) < len(batch):
            assert self.python_impl is not None
            await self.python_impl.read([chunk for chunk in batch if not _is_whole(chunk)], out, drop_axes)


def _is_whole(chunk: Any) -> bool:
    _, spec, selection, _, _ = chunk
    return len(selection) == len(spec.shape) and all(
        isinstance(part, slice) and part.indices(length) == (0, length, 1)
        for part, length in zip(selection, spec.shape, strict=True)
    )


register_pipeline(CheckedZarrsPipeline)
