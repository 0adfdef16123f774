"""Capture levels: how much of the activations a run keeps."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ipstore.binning import Binning
from ipstore.errors import UnknownNameError

__all__ = ["EXPECTED_RATIO", "LEVELS", "Level", "check_level", "encode", "stored_dtype"]

Level = Literal["full", "half", "codes", "weights"]
"""``full``: float32. ``half``: float16. ``codes``: the bin of each value, uint8. ``weights``: parameters only."""

LEVELS: tuple[Level, ...] = get_args(Level)
"""All levels, from the largest to the smallest."""

EXPECTED_RATIO: dict[Level, float] = {"full": 1.0, "half": 1.0, "codes": 0.25, "weights": 0.0}
"""Stored bytes per raw byte assumed when a run's size is estimated before it starts.

Floats are stored as they are. Codes of the paper's network took 0.17 of their bytes over 2000 epochs of SGD, and up to
0.35 over the first hundred.
"""

_DTYPES: dict[Level, str] = {"full": "float32", "half": "float16", "codes": "uint8"}


def check_level(level: str) -> Level:
    """Refuse a level that is none.

    Raises
    ------
    UnknownNameError
    """
    for known in LEVELS:
        if level == known:
            return known
    raise UnknownNameError("capture level", level, LEVELS)


def stored_dtype(level: Level) -> str:
    """Type of the activations at a level that stores them."""
    return _DTYPES[level]


def encode(activations: NDArray[np.float32], out: NDArray[Any], binning: Binning | None) -> None:
    """Write activations into `out` as the level of its type keeps them.

    Parameters
    ----------
    activations : float32 array, any shape
    out : float32, float16 or uint8 array of the same shape
    binning : Binning or None
        The rule of the codes; needed where `out` is uint8.
    """
    if out.dtype == np.uint8:
        assert binning is not None
        binning.encode(activations, out)
    else:
        out[...] = activations
