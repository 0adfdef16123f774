"""The resume blob: what a trainer needs to continue bit for bit, in safetensors (never pickle)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ipstore.block import digest
from ipstore.durable import replace_file
from ipstore.errors import CorruptionError

__all__ = ["read_state", "write_state"]


def write_state(path: Path, state: Mapping[str, NDArray[Any]]) -> int:
    """Write arrays to `path`, whole or not at all.

    Returns
    -------
    int
        crc32c of the file.
    """
    content = save({name: np.ascontiguousarray(values) for name, values in state.items()})
    replace_file(path, content)
    return digest(np.frombuffer(content, np.uint8))


def read_state(path: Path, crc32c: int) -> dict[str, NDArray[Any]]:
    """Read the arrays back.

    Raises
    ------
    CorruptionError
        If the file is missing, or not what was written.
    """
    try:
        content = path.read_bytes()
        if digest(np.frombuffer(content, np.uint8)) == crc32c:
            return dict(load(content))
    except (FileNotFoundError, SafetensorError) as error:
        raise CorruptionError(f"{str(path)!r}, from which the run would continue, cannot be read: {error}") from error
    raise CorruptionError(f"{str(path)!r}, from which the run would continue, is not what was written (crc32c differs)")
