"""Planes and training records made of curves that are known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

DENSE = np.arange(1001)
THINNED = np.unique(np.concatenate([[0], np.logspace(0, 3, 400).astype(int), [100, 120, 300, 480, 1000]]))
"""Log-spaced epochs, with those at which the planted curves have their corners."""


def over_layers(
    curves: Sequence[Sequence[ArrayLike]] | NDArray[np.float64], name: str, epochs: ArrayLike
) -> xr.Dataset:
    """One variable (epoch, seed, layer) of curves given as [seed][layer]."""
    values = np.moveaxis(np.asarray(curves, np.float64), -1, 0)
    coords: dict[str, Any] = {"epoch": np.asarray(epochs), "seed": np.arange(values.shape[1]) * 3 + 1}
    coords["layer"] = [f"layer{number}" for number in range(1, values.shape[2] + 1)]
    return xr.Dataset({name: (("epoch", "seed", "layer"), values)}, coords)


def over_splits(train: Sequence[ArrayLike], name: str, epochs: ArrayLike, test: Sequence[ArrayLike] = ()) -> xr.Dataset:
    """One variable (epoch, seed, split) of curves given as [seed]; those of the test split are the same by default."""
    values = np.stack([np.asarray(train, np.float64), np.asarray(test or train, np.float64)], axis=-1)
    coords = {"epoch": np.asarray(epochs), "seed": np.arange(len(values)) * 3 + 1, "split": ["train", "test"]}
    return xr.Dataset({name: (("epoch", "seed", "split"), np.moveaxis(values, 1, 0))}, coords)


def through(epochs: ArrayLike, *corners: tuple[float, float]) -> NDArray[np.float64]:
    """Straight lines through corners (epoch, value)."""
    places, values = np.array(corners, np.float64).T
    return np.asarray(np.interp(np.asarray(epochs, np.float64), places, values), np.float64)


def numbers(array: xr.DataArray) -> list[Any]:
    """Values of an array as a nested list."""
    return list(array.values.tolist())
