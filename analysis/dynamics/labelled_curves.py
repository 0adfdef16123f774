"""Measures of curves over epochs as labelled arrays: one number for each curve, with what it means."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.errors import ParameterError

__all__ = ["Meaning", "Measured", "check_share", "described", "epochs_of", "measured", "variable"]

Measured = dict[str, NDArray[np.float64]]
"""What a kernel gives: of each measure one number for each curve, (curve,)."""


class Meaning(NamedTuple):
    """What a measure is."""

    long_name: str
    units: str
    definition: str


def variable(dataset: xr.Dataset, name: str, *dims: str, epochs: int = 1) -> xr.DataArray:
    """Take a variable, in memory, that must have some dimensions.

    Raises
    ------
    ParameterError
        If it is not there, lacks a dimension, or has fewer than `epochs` epochs, or they are not ascending.
    """
    if name not in dataset:
        raise ParameterError(
            f"dynamics needs the variable {name!r} but got {', '.join(map(repr, dataset.data_vars)) or 'none'}"
        )
    array = dataset[name]
    if missing := [dim for dim in dims if dim not in array.dims]:
        raise ParameterError(f"{name} must have the dimensions {', '.join(dims)} but lacks {', '.join(missing)}")
    if array.sizes["epoch"] < epochs:
        raise ParameterError(
            f"{name} must be given at {epochs} epochs or more, to tell a trend from noise, but has "
            f"{array.sizes['epoch']}"
        )
    if "epoch" not in array.coords or not (np.diff(array["epoch"].values) > 0).all():
        raise ParameterError(f"{name} must have a coordinate epoch in ascending order; sort it by epoch")
    return array.compute()


def epochs_of(array: xr.DataArray) -> NDArray[np.float64]:
    """Epochs as numbers, (epoch,)."""
    return np.asarray(array["epoch"].values, np.float64)


def measured(
    array: xr.DataArray,
    kernel: Callable[..., Measured],
    meanings: Mapping[str, Meaning],
    *,
    complete: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Measure every curve of an array.

    Parameters
    ----------
    array : DataArray (..., epoch, ...)
        In memory.
    kernel : callable
        From curves (curve, epoch), epochs (epoch,) and `options` to `Measured`.
    meanings : mapping
        Of every measure that it gives.
    complete : bool
        Curves with a value that is not finite are measured as NaN; otherwise the kernel takes them, too.

    Returns
    -------
    Dataset
        Each measure over the dimensions of `array` without ``epoch``.
    """
    epochs = epochs_of(array)

    def rows(values: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
        curves = np.asarray(values, np.float64).reshape(-1, len(epochs))
        taken = np.isfinite(curves).all(axis=1) if complete else np.ones(len(curves), np.bool_)
        found = kernel(curves[taken], epochs, **options)
        whole = np.full((len(meanings), len(curves)), np.nan)
        for row, name in zip(whole, meanings, strict=True):
            row[taken] = found[name]
        return tuple(whole.reshape(len(meanings), *values.shape[:-1]))

    parts: Sequence[xr.DataArray] = xr.apply_ufunc(
        rows, array, input_core_dims=[["epoch"]], output_core_dims=[[]] * len(meanings)
    )
    return xr.Dataset({name: described(part, meanings[name]) for name, part in zip(meanings, parts, strict=True)})


def described(array: xr.DataArray, meaning: Meaning) -> xr.DataArray:
    """Say what an array is, in its attributes."""
    return array.assign_attrs(meaning._asdict())


def check_share(name: str, value: float, *, most: float = 1.0) -> None:
    """Raise ParameterError unless a share lies in (0, most)."""
    if not 0 < value < most:
        raise ParameterError(f"{name} must lie in (0, {most:g}) but got {value!r}")
