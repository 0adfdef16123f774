"""What passes from a trainer to the writer: some epochs of some seeds, as they will be stored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ipstore.schema import GrowingArray

__all__ = ["Block", "block_bytes", "digest"]

_ALIGNMENT = 64  # a cache line


def digest(cell: NDArray[Any]) -> int:
    """crc32c of one (sample, unit) array as little-endian bytes in C order."""
    return int(google_crc32c.value(np.ascontiguousarray(cell)))


def _nothing() -> None:
    pass


def block_bytes(arrays: Sequence[GrowingArray], epochs: int, seeds: int) -> int:
    """Bytes of memory that a block of so many epochs and seeds takes."""
    return sum(_aligned(_shape(array, epochs, seeds), array.dtype) for array in arrays)


@dataclass
class Block:
    """Consecutive epochs of consecutive seeds, in memory that its maker owns until it is written.

    Parameters
    ----------
    arrays : mapping of str to array
        By path in the run, each (epoch, seed, ...), with room for a shard of epochs.
    seeds : slice
        Where the block lies along ``seed``.
    start : int
        Index along ``epoch`` of its first epoch.
    epochs : list of int
        Completed epochs at each filled entry.
    state : mapping of str to array
        What a continuation from the block's last epoch needs, each (seed, ...).
    failed : (epoch, seed) array of bool, optional
        Whether a network has come to nothing; by default where its training loss is not finite.
    release : callable
        Called once, when the writer needs the memory no longer.
    """

    arrays: Mapping[str, NDArray[Any]]
    seeds: slice
    start: int = 0
    epochs: list[int] = field(default_factory=list)
    state: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    failed: NDArray[np.bool_] | None = None
    release: Callable[[], None] = _nothing

    @classmethod
    def allocate(
        cls, arrays: Sequence[GrowingArray], epochs: int, seeds: slice, memory: memoryview | None = None
    ) -> "Block":
        """Make room for `epochs` epochs of some seeds.

        Parameters
        ----------
        arrays : sequence of GrowingArray
            The run's arrays; those without a seed dimension are left out.
        epochs : int
        seeds : slice
        memory : memoryview, optional
            Where to lie, `block_bytes` long, such as shared memory; otherwise memory of its own.
        """
        count = seeds.stop - seeds.start
        buffer = memory if memory is not None else memoryview(bytearray(block_bytes(arrays, epochs, count)))
        views, offset = {}, 0
        for array in arrays:
            shape = _shape(array, epochs, count)
            if shape is not None:
                views[array.path] = np.frombuffer(buffer, array.dtype, prod(shape), offset).reshape(shape)
            offset += _aligned(shape, array.dtype)
        return cls(views, seeds)

    def take_digests(self, layers: Sequence[str]) -> None:
        """Fill in the digest of every (epoch, seed, layer) from the activations in the block, where it has some."""
        for place, layer in enumerate(layers):
            cells = self.arrays.get(f"activations/{layer}")
            if cells is None:
                continue
            for epoch, seed in np.ndindex(len(self.epochs), cells.shape[1]):
                self.arrays["digest/crc32c"][epoch, seed, place] = digest(cells[epoch, seed])


def _shape(array: GrowingArray, epochs: int, seeds: int) -> tuple[int, ...] | None:
    if array.dims[:1] != ("seed",):
        return None
    return (epochs, seeds, *array.shape[1:])


def _aligned(shape: tuple[int, ...] | None, dtype: str) -> int:
    if shape is None:
        return 0
    return -(-prod(shape) * np.dtype(dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
