"""Information of the binned layer: every unit's activation is put into a bin, and the rows of bins are counted."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import H_T, I_TY, I_XT, N_CELLS, Estimator
from ipstore.analysis.estimators.parameters import Choice, Integer, Interval, Number
from ipstore.analysis.probe import entropy
from ipstore.binning import MISSING, Binning, encode_equal, thresholds
from ipstore.errors import ParameterError

__all__ = ["binned", "kernel"]

_BATCH = 2**18
"""Activations that are binned at a time: their codes stay in the second-level cache until they are counted."""


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    bins: int | None = None,
    range: tuple[float, float] | Literal["layer", "unit"] | None = None,
    width: float | None = None,
    rule: Literal["equal", "idnns", "quantile"] = "equal",
) -> dict[str, NDArray[np.float64]]:
    """Compute the exact information of the binned layer T, by counting.

    I(T;Y) = H(T) + H(Y) - H(T,Y) with p(t, y) the sum of p(x) p(y|x) over the samples in t, and
    I(X;T) = H(T) - H(T|X), which is H(T) unless inputs are repeated. With every input of a finite space among the
    samples there is nothing to correct: both are values, not estimates.

    Rows of codes that fit 64 bits are compared as they are (12 units at 30 bins). Wider layers are compared by a
    64-bit hash: the probability that any two of n distinct rows are taken for one is below n^2 / 2^65, which is
    5e-13 for the 4096 patterns of the rule task.

    Parameters
    ----------
    t : (..., sample, unit) float32, float64 or float16
        Activations; or unsigned integers, codes of bins (of uint8, 255 means missing).
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Equal entries are equal inputs. By default all inputs differ.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    bins : int
        Number of bins (under "idnns" of edges); 30 unless `width` is given.
    range : (float, float), "layer" or "unit"
        Where the bins lie: between two numbers, or for each cell from the smallest to the largest activation of
        the layer or of each unit. Values outside fall into the outermost bins. By default (-1, 1), for "quantile"
        "unit".
    width : float
        Instead of `bins` and `range`: the unbounded bins [k width, (k + 1) width).
    rule : {"equal", "idnns", "quantile"}
        "equal": edges ``numpy.linspace(low, high, bins + 1)``. "idnns": as the code does that the authors of [1]_
        released; edges ``numpy.linspace(low, high, bins)`` in float32, so one bin fewer, and one more for high
        and above, into which NaN and what is below low fall too. "quantile": edges are the quantiles of the
        values under p(x), so that bins are about equally full.

    Returns
    -------
    dict of str to float64 array
        ``I_XT``, ``I_TY``, ``H_T`` in bits and ``n_cells``, the number of distinct T that occur; over the leading
        dimensions. NaN for a cell with activations that are NaN or infinite ("idnns" takes those), missing, or
        beyond 2^31 bins of `width`.

    Raises
    ------
    ParameterError
        If parameters contradict one another, or codes exceed `bins`.

    References
    ----------
    .. [1] Shwartz-Ziv & Tishby, "Opening the Black Box of Deep Neural Networks via Information", 2017,
       arXiv:1703.00810, section 3.
    """
    params = _settle({"bins": bins, "range": range, "width": width, "rule": rule})
    *leading, samples, units = t.shape
    cells = t.reshape(-1, samples, units)
    keep = None
    if p_x is not None and not np.all(p_x > 0):
        keep = np.flatnonzero(p_x > 0)
        p_y_given_x, p_x = p_y_given_x[keep], p_x[keep]
        x_id = None if x_id is None else x_id[keep]
    arguments = _probe_arguments(p_y_given_x, x_id, p_x)
    out = np.empty((4, len(cells)))
    for batch in _batches(len(cells), samples * units):
        block = cells[batch] if keep is None else cells[batch][:, keep]
        codes, refused = _encode(block, params, p_x)
        from ipstore.analysis.estimators import binned_kernels

        binned_kernels.information(codes, *arguments, out[:, batch])
        out[:, batch][:, refused] = np.nan
    return {q.name: value.reshape(leading) for q, value in zip(binned.quantities, out, strict=True)}
