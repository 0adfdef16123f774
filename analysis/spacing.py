"""A few of many epochs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["log_spaced"]


def log_spaced(epochs: NDArray[Any], number: int) -> NDArray[np.int64]:
    """Choose at most `number` of `epochs` (ascending), even in log(1 + epoch), with the first and the last.

    Returns
    -------
    (at most number,) int64
        Positions in `epochs`, ascending.
    """
    if len(epochs) <= number:
        return np.arange(len(epochs))
    position = np.log1p(np.asarray(epochs, np.float64))
    targets = np.linspace(position[0], position[-1], number)
    right = np.clip(np.searchsorted(position, targets), 1, len(epochs) - 1)
    nearest = right - (targets - position[right - 1] < position[right] - targets)
    return np.unique(nearest)
