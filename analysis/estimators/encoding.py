"""Codes of activations, as far as several estimators share them: rows with edges of their own, and values as given."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.binning import MISSING

__all__ = ["activations", "each_by_its_own", "equal_edges", "symbols"]


def activations(t: NDArray[Any]) -> NDArray[Any]:
    """Give activations as the kernels take them, C-contiguous float32 or float64."""
    return np.ascontiguousarray(t, np.float32 if t.dtype == np.float16 else t.dtype)


def each_by_its_own(
    x: NDArray[Any],
    by: Literal["layer", "unit"],
    dtype: type[np.unsignedinteger[Any] | np.signedinteger[Any]],
    encode: Callable[[NDArray[Any], NDArray[Any]], object],
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Encode each layer, or each unit, by edges that its own activations set.

    Parameters
    ----------
    x : (cell, sample, unit) float32 or float64, C-contiguous
    by : {"layer", "unit"}
    dtype : type
        Of the codes.
    encode : callable
        ``encode(rows, codes)`` writes the codes of rows (row, value) to an array of their shape. One row holds
        all activations of a layer, sample by sample, or those of one unit.

    Returns
    -------
    codes : (cell, sample, unit) array of `dtype`
    refused : (cell,) bool
        Cells whose activations are not finite, or so large that their range is not; their codes mean nothing.
    """
    finite = (abs(x.reshape(len(x), -1)) < np.finfo(x.dtype).max / 4).all(axis=1)
    x = x if finite.all() else np.where(finite[:, None, None], x, 0)
    if by == "layer":
        codes = np.empty(x.shape, dtype)
        encode(x.reshape(len(x), -1), codes.reshape(len(x), -1))
        return codes, ~finite
    x = np.ascontiguousarray(x.transpose(0, 2, 1))
    codes = np.empty(x.shape, dtype)
    encode(x.reshape(-1, x.shape[-1]), codes.reshape(-1, x.shape[-1]))
    return np.ascontiguousarray(codes.transpose(0, 2, 1)), ~finite


def equal_edges(rows: NDArray[Any], bins: int, beyond: float = 0.0) -> NDArray[np.float64]:
    """Edges of equal bins that span each row, (row, bins + 1).

    Parameters
    ----------
    rows : (row, value) float32 or float64
        Finite.
    bins : int
    beyond : float
        By how many bins' widths they reach below the smallest and above the largest value.
    """
    low, high = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
    width = (high - low) / (bins - 2 * beyond)
    # Where all values are one, any edges will do; a step of 0 would have linspace round all rows another way.
    constant = width == 0
    if beyond:
        low, high = low - beyond * width, high + beyond * width
    return np.linspace(np.where(constant, 0, low), np.where(constant, 1, high), bins + 1, axis=-1)


def symbols(t: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Give codes that are equal where values are: codes as they are, or the bits of the activations.

    Parameters
    ----------
    t : (cell, sample, unit) float16, float32, float64 or unsigned
        0.0 and -0.0 are one value. Of uint8, 255 means missing.

    Returns
    -------
    codes : (cell, sample, part of unit) unsigned array
        64-bit values are taken in two parts.
    refused : (cell,) bool
        Cells with activations that are not finite, or with missing codes.
    """
    if t.dtype.kind == "u":
        codes = np.ascontiguousarray(t)
        refused = (codes == MISSING).any(axis=(1, 2)) if t.dtype == np.uint8 else np.zeros(len(t), np.bool_)
    else:
        refused = ~np.isfinite(t).all(axis=(1, 2))
        values = np.add(t, 0, order="C")  # turns -0.0 into 0.0
        codes = values.view({2: np.uint16, 4: np.uint32, 8: np.uint64}[t.dtype.itemsize])
    return (codes.view(np.uint32) if codes.dtype.itemsize == 8 else codes), refused
