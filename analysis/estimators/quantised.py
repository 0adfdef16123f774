"""Information of the layer at k bits: activations are rounded to evenly spaced levels, and the rows are counted."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import Estimator
from ipstore.analysis.estimators.corrections import CORRECTION, UNBOUNDED, Correction, choose
from ipstore.analysis.estimators.counting import QUANTITIES, TRUTHS, count
from ipstore.analysis.estimators.encoding import activations, each_by_its_own, equal_edges, symbols
from ipstore.analysis.estimators.parameters import Integer, Interval
from ipstore.analysis.probe import Probe
from ipstore.binning import encode_equal
from ipstore.errors import ParameterError

__all__ = ["kernel", "quantised"]


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    bits: int | None = 8,
    range: tuple[float, float] | Literal["layer", "unit"] | None = None,
    correction: Correction | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Compute the information of T at k bits by counting; see `ipstore.analysis.estimators.counting.count`.

    What a network computes in finite precision is discrete, and of a discrete T information is exact where it is
    counted: there is no binning to argue about where the bits are those that the network itself works with [1]_.
    Of the paper's networks that holds by construction, as they were trained quantised; a network trained in floats
    and rounded here is another network.

    Parameters
    ----------
    t : (..., sample, unit) float16, float32 or float64
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Number of the distinct input, 0 to n - 1. By default all inputs differ.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    bits : int, optional
        k: activations are rounded to the nearest of the 2^k levels ``numpy.linspace(low, high, 2**k)``, upwards
        from halfway. Both ends are levels, as those of an affine quantiser are, so this is not `binned` with 2^k
        bins; zero need not be one. None takes the stored floats as they are: 0.0 and -0.0 are one value.
    range : (float, float), "layer" or "unit"
        low and high: two numbers, beyond which values saturate, or for each cell the smallest and the largest
        activation of the layer or of each unit. By default "layer".
    correction : {"plugin", "miller-madow", "grassberger", "chao-shen", "jackknife", "nsb"}, optional
        Of the bias of each entropy; see `ipstore.analysis.estimators.corrections.entropies`. "nsb" takes
        2 ** (bits * units) values to be possible, at most 2^64, and 2^64 for floats. By default "plugin".

    Returns
    -------
    dict of str to float64 array
        ``I_XT``, ``I_TY``, ``H_T`` in bits; ``n_cells``, the number of distinct T that occur; ``coverage``; and
        the standard errors ``I_XT_se`` and ``I_TY_se`` in bits; over the leading dimensions. NaN for a cell with
        activations that are NaN or infinite.

    Raises
    ------
    ParameterError
        If a range is given for floats as they are, or `correction` has nothing to count.

    References
    ----------
    .. [1] Lorenzen, Igel & Nielsen, "Information Bottleneck: Exact Analysis of (Quantized) Neural Networks", ICLR
       2022, arXiv:2106.12912.
    """
    params = _settle_levels({"bits": bits, "range": range})
    possible = UNBOUNDED if bits is None else 2.0 ** min(bits * t.shape[-1], 64)
    return count(t, p_y_given_x, x_id, p_x, encode=_encode, params=params, correction=correction, alphabet=possible)


def _encode(
    t: NDArray[Any], p_x: NDArray[np.float64] | None, params: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Give the number of each level from 0, (cell, sample, unit), and which cells are refused."""
    bits: int | None = params["bits"]
    range: tuple[float, float] | Literal["layer", "unit"] = params["range"]
    if bits is None:
        return symbols(t)
    x = activations(t)
    levels = 2**bits
    dtype = np.uint8 if bits <= 8 else np.int32
    # To round to the nearest level is to have a bin around each.
    if isinstance(range, str):
        return each_by_its_own(
            x, range, dtype, lambda rows, codes: encode_equal(rows, equal_edges(rows, levels, 0.5), codes)
        )
    low, high = range
    half = (high - low) / (levels - 1) / 2
    codes = np.empty(x.shape, dtype)
    edges = np.linspace(low - half, high + half, levels + 1)[None]
    return codes, encode_equal(x.reshape(len(x), -1), edges, codes.reshape(len(x), -1)) > 0


def _settle_levels(params: dict[str, Any]) -> dict[str, Any]:
    if params["bits"] is None and params["range"] is not None:
        raise ParameterError(
            f"bits=None takes the stored floats as they are, so there is no range to round over, but got range="
            f"{params['range']}; give bits, or leave out range"
        )
    return params if params["bits"] is None or params["range"] is not None else params | {"range": "layer"}


def _settle(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    return choose(_settle_levels(params), probe)


quantised = Estimator(
    name="quantised",
    version=1,
    kind="exact",
    summary="information of the layer rounded to k bits, by counting: exact on a population",
    reference="Lorenzen, Igel & Nielsen 2022, arXiv:2106.12912, section 3",
    kernel=kernel,
    quantities=QUANTITIES,
    parameters=(
        Integer("bits", "levels are 2^bits; none for the stored floats as they are", low=1, high=16, optional=True),
        Interval(
            "range",
            "the lowest and the highest level, by default those of the layer's own activations",
            words=("layer", "unit"),
            optional=True,
        ),
        CORRECTION,
    ),
    settle=_settle,
    truths=TRUTHS,
    marks_nonfinite=True,
    encode=_encode,
)
