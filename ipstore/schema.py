"""What a group in the store holds: arrays that grow along ``epoch``, and arrays that stand from the start.

The geometry follows from how the data are asked for. Mutual information needs all samples and all units of one
(epoch, seed, layer), so a chunk never splits those; one seed is one chunk, so that seeds are written and read
apart; a few epochs share a chunk and many chunks share a shard, so that files stay few and large.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.errors import ParameterError

__all__ = ["EPOCHS", "GrowingArray", "StaticArray", "check_name", "is_name", "shard_epochs"]

_CHUNK_BYTES_PER_VALUE = 16  # inner chunks are 4 epochs of float32, 8 of float16, 16 of codes, which repeat the most
_MIN_SHARD_EPOCHS, _MAX_SHARD_EPOCHS = 4, 64
_MAX_SHARD_BYTES = 256_000_000
_MAX_CHUNK_BYTES = 2**31 - 2**16  # blosc counts bytes in a signed 32-bit integer

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,127}")


def check_name(what: str, name: str) -> str:
    """Refuse a name that could leave its folder or be mistaken for part of the format.

    Parameters
    ----------
    what : str
        "run", "layer", "result": for the message.
    name : str

    Returns
    -------
    str
        The name.

    Raises
    ------
    ParameterError
        If the name is more than letters, digits and ``_ . + = -``, begins with other than a letter, a digit or
        ``_``, is longer than 128 characters, or is one that Zarr keeps for itself.
    """
    if not is_name(name):
        raise ParameterError(
            f"{what} names are 1 to 128 letters, digits and _ . + = -, beginning with a letter, digit or _, "
            f"save 'c' and 'zarr.json', which Zarr keeps for itself, but got {name!r}"
        )
    return name


def is_name(name: str) -> bool:
    """Whether `check_name` lets a name pass."""
    return bool(_NAME.fullmatch(name)) and name.lower() not in {"zarr.json", "c"}


@dataclass(frozen=True)
class GrowingArray:
    """An array whose first dimension is ``epoch`` and grows.

    Parameters
    ----------
    path : str
        Place in the group, such as ``"activations/layer1"``.
    dims : sequence of str
        Dimension names after ``epoch``.
    shape : sequence of int
        Their lengths.
    dtype : str
        As NumPy writes it: ``"float32"``.
    per_seed : bool
        Store each seed in chunks of its own, in shards along ``epoch``. The first of `dims` is then ``seed``.
    attrs : mapping
        JSON attributes.
    chunk_epochs : int, optional
        Epochs in a chunk, if not those of a shard.
    """

    path: str
    dims: Sequence[str]
    shape: Sequence[int]
    dtype: str
    per_seed: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict)
    chunk_epochs: int | None = None

    @property
    def fill_value(self) -> float | int:
        """What a chunk that is missing reads as: NaN, or the largest integer of the type."""
        dtype = np.dtype(self.dtype)
        return float("nan") if dtype.kind == "f" else int(np.iinfo(dtype).max)

    @property
    def epoch_bytes(self) -> int:
        """Bytes of one epoch, all seeds, uncompressed."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def chunks(self, shard: int) -> tuple[int, ...]:
        """Shape of the smallest piece that can be read, for a shard of that many epochs."""
        if not self.per_seed:
            return (self.chunk_epochs or shard, *self.shape)
        epochs = gcd(_chunk_epochs(self.dtype), shard)
        chunk = (epochs, 1, *self.shape[1:])
        if prod(chunk) * np.dtype(self.dtype).itemsize > _MAX_CHUNK_BYTES:
            cell = prod(self.shape[1:]) * np.dtype(self.dtype).itemsize
            raise ParameterError(
                f"one epoch of one seed of {self.path!r} is {cell / 1e6:,.0f} MB; at most "
                f"{_MAX_CHUNK_BYTES / epochs / 1e6:,.0f} MB fit. Capture fewer samples or a smaller level"
            )
        return chunk


EPOCHS = GrowingArray("epoch", (), (), "int64", attrs={"long_name": "completed epochs"}, chunk_epochs=2**14)
"""Completed epochs at each entry. Whoever opens a group reads all of them, so they lie in few chunks."""


@dataclass(frozen=True)
class StaticArray:
    """An array that is whole when the group is created.

    Parameters
    ----------
    path : str
    dims : sequence of str
    values : array
    attrs : mapping
    """

    path: str
    dims: Sequence[str]
    values: NDArray[Any]
    attrs: Mapping[str, Any] = field(default_factory=dict)


def shard_epochs(arrays: Sequence[GrowingArray]) -> int:
    """Epochs per shard: as many as 256 MB of all arrays hold, in whole chunks where those fit; 4 to 64.

    Parameters
    ----------
    arrays : sequence of GrowingArray

    Returns
    -------
    int
    """
    fitting = _MAX_SHARD_BYTES // max(1, sum(array.epoch_bytes for array in arrays))
    chunk = max((_chunk_epochs(array.dtype) for array in arrays if array.per_seed), default=_MIN_SHARD_EPOCHS)
    step = chunk if fitting >= chunk else _MIN_SHARD_EPOCHS
    return max(step, min(_MAX_SHARD_EPOCHS, fitting // step * step))


def _chunk_epochs(dtype: str) -> int:
    return _CHUNK_BYTES_PER_VALUE // np.dtype(dtype).itemsize
