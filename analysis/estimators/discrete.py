"""Information of a layer whose values are discrete already: codes, or activations that recur."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import Estimator
from ipstore.analysis.estimators.corrections import CORRECTION, UNBOUNDED, Correction, choose
from ipstore.analysis.estimators.counting import QUANTITIES, TRUTHS, count
from ipstore.analysis.estimators.encoding import symbols
from ipstore.binning import Binning

__all__ = ["discrete", "kernel"]


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    correction: Correction | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Compute the information of T as it is by counting; see `ipstore.analysis.estimators.counting.count`.

    Each distinct row is one value of T. Activations of a continuous layer all differ, so that I(X;T) is H(X) and
    I(T;Y) is I(X;Y), and n_cells says so: that holds of the network, and is no estimate of anything coarser.

    Parameters
    ----------
    t : (..., sample, unit) unsigned, float16, float32 or float64
        Codes (of uint8, 255 means missing), or values: 0.0 and -0.0 are one.
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Number of the distinct input, 0 to n - 1. By default all inputs differ.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    correction : {"plugin", "miller-madow", "grassberger", "chao-shen", "jackknife", "nsb"}, optional
        Of the bias of each entropy; see `ipstore.analysis.estimators.corrections.entropies`. "nsb" takes 2^64
        values to be possible. By default "plugin".

    Returns
    -------
    dict of str to float64 array
        ``I_XT``, ``I_TY``, ``H_T`` in bits; ``n_cells``, the number of distinct T that occur; ``coverage``; and
        the standard errors ``I_XT_se`` and ``I_TY_se`` in bits; over the leading dimensions. NaN for a cell with
        activations that are NaN or infinite, or with missing codes.

    Raises
    ------
    ParameterError
        If `correction` has nothing to count.
    """
    return count(t, p_y_given_x, x_id, p_x, encode=_encode, params={}, correction=correction, alphabet=UNBOUNDED)


def _encode(
    t: NDArray[Any], p_x: NDArray[np.float64] | None, params: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    return symbols(t)


def _read_codes(stored: Binning, given: dict[str, Any]) -> tuple[dict[str, Any], None]:
    """Take any codes, as they were stored."""
    return given, None


discrete = Estimator(
    name="discrete",
    version=1,
    kind="exact",
    summary="information of a layer of codes or of values that recur, by counting: exact on a population",
    reference="Cover & Thomas 2006, Elements of Information Theory, section 2.3",
    kernel=kernel,
    quantities=QUANTITIES,
    parameters=(CORRECTION,),
    settle=choose,
    truths=TRUTHS,
    marks_nonfinite=True,
    read_codes=_read_codes,
    encode=_encode,
)
