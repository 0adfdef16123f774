"""The resume blob: what a trainer needs to continue bit for bit, in safetensors (never pickle)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ipstore.block import digest
from ipstore.errors import CorruptionError
from ipstore.places import Place

__all__ = ["read_state", "write_state"]


def write_state(place: Place, key: str, state: Mapping[str, NDArray[Any]]) -> int:
    """Store arrays under a key, whole or not at all.

    Returns
    -------
    int
        crc32c of the file.
    """
    content = save({name: np.ascontiguousarray(values) for name, values in state.items()})
    place.put(key, content)
    return digest(np.frombuffer(content, np.uint8))


def read_state(place: Place, key: str, crc32c: int) -> dict[str, NDArray[Any]]:
    """Read the arrays back.

    Raises
    ------
    CorruptionError
        If the file is missing, or not what was written.
    """
    try:
        content = place.read(key)
        if digest(np.frombuffer(content, np.uint8)) == crc32c:
            return dict(load(content))
    except (FileNotFoundError, SafetensorError) as error:
        raise CorruptionError(
            f"{str(place / key)!r}, from which the run would continue, cannot be read: {error}"
        ) from error
    raise CorruptionError(
        f"{str(place / key)!r}, from which the run would continue, is not what was written (crc32c differs)"
    )
