"""Information of the binned layer: activations fall into bins, and the rows of bins are counted."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import Estimator
from ipstore.analysis.estimators.corrections import CORRECTION, UNBOUNDED, Correction, choose
from ipstore.analysis.estimators.counting import QUANTITIES, TRUTHS, count
from ipstore.analysis.estimators.encoding import activations, each_by_its_own, equal_edges
from ipstore.analysis.estimators.parameters import Choice, Integer, Interval, Number
from ipstore.analysis.probe import Probe
from ipstore.binning import MISSING, Binning, encode_equal, thresholds
from ipstore.errors import ParameterError

__all__ = ["binned", "kernel"]

_OWN_EDGES = {"quantile": "unit", "entropy": "layer"}
"""Rules that take their edges from the values themselves, and the range that each has by default."""


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    bins: int | None = None,
    range: tuple[float, float] | Literal["layer", "unit"] | None = None,
    width: float | None = None,
    rule: Literal["equal", "idnns", "quantile", "entropy"] = "equal",
    correction: Correction | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Compute the information of the binned layer T by counting; see `ipstore.analysis.estimators.counting.count`.

    Parameters
    ----------
    t : (..., sample, unit) float32, float64 or float16
        Activations; or unsigned integers, codes of bins (of uint8, 255 means missing).
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Number of the distinct input, 0 to n - 1. By default all inputs differ.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    bins : int
        Number of bins (under "idnns" of edges); 30 unless `width` is given.
    range : (float, float), "layer" or "unit"
        Where the bins lie: between two numbers, or for each cell from the smallest to the largest activation
        of the layer or of each unit. Values outside fall into the outermost bins. By default (-1, 1), for
        "quantile" "unit" and for "entropy" "layer".
    width : float
        Instead of `bins` and `range`: the unbounded bins [k width, (k + 1) width).
    rule : {"equal", "idnns", "quantile", "entropy"}
        "equal": edges ``numpy.linspace(low, high, bins + 1)``. "idnns": as the code does that the authors of
        [1]_ released; edges ``numpy.linspace(low, high, bins)`` in float32, so one bin fewer, and one more
        for high and above, into which NaN and what is below low fall too. "quantile": edges are the
        quantiles of the values under p(x), so that bins are about equally full. "entropy": the entropy-based
        adaptive bins of [2]_, which hold equally many of the distinct values that occur, whatever their
        weights: of m distinct values in the layer (or unit), in one cell, that of rank r from 0 falls into bin
        floor(r bins / m). With `bins` or fewer distinct values each has a bin of its own.
    correction : {"plugin", "miller-madow", "grassberger", "chao-shen", "jackknife", "nsb"}, optional
        Of the bias of each entropy; see `ipstore.analysis.estimators.corrections.entropies`. "nsb" takes
        bins ** units values to be possible, at most 2^64, and 2^64 for bins of a `width`. By default "plugin".

    Returns
    -------
    dict of str to float64 array
        ``I_XT``, ``I_TY``, ``H_T`` in bits; ``n_cells``, the number of distinct T that occur; ``coverage``; and
        the standard errors ``I_XT_se`` and ``I_TY_se`` in bits; over the leading dimensions. NaN for a cell with
        activations that are NaN or infinite ("idnns" takes those), missing, or beyond 2^30 bins of `width`.

    Raises
    ------
    ParameterError
        If parameters contradict one another, codes exceed `bins`, or `correction` has nothing to count.

    References
    ----------
    .. [1] Shwartz-Ziv & Tishby, "Opening the Black Box of Deep Neural Networks via Information", 2017,
       arXiv:1703.00810, section 3.
    .. [2] Chelombiev, Houghton & O'Donnell, "Adaptive Estimators Show Information Compression in Deep Neural
       Networks", ICLR 2019, arXiv:1902.09037.
    """
    params = _settle_bins({"bins": bins, "range": range, "width": width, "rule": rule})
    possible = UNBOUNDED if params["bins"] is None else min(float(params["bins"]) ** min(t.shape[-1], 64), UNBOUNDED)
    return count(t, p_y_given_x, x_id, p_x, encode=_encode, params=params, correction=correction, alphabet=possible)


def _encode(
    t: NDArray[Any], p_x: NDArray[np.float64] | None, params: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Give codes that are 0 or more, (cell, sample, unit), and which cells are refused."""
    from ipstore.analysis.estimators import binned_kernels

    if t.dtype.kind == "u":
        return _check_codes(t, params)
    x = activations(t)
    bins, span, width = params["bins"], params["range"], params["width"]
    if width is not None:
        codes = np.empty(x.shape, np.int32)
        refused = np.empty(len(x), np.bool_)
        binned_kernels.encode_width(x.reshape(len(x), -1), width, codes.reshape(len(x), -1), refused)
        return codes, refused
    dtype = np.uint8 if bins <= MISSING else np.int32
    if span in ("layer", "unit"):
        rules = {"equal": _write_equal, "quantile": _write_quantiles, "entropy": _write_distinct}
        weights = p_x if p_x is None or span == "unit" else np.repeat(p_x, x.shape[-1])
        return each_by_its_own(x, span, dtype, partial(rules[params["rule"]], bins=bins, weights=weights))
    codes = np.empty(x.shape, dtype)
    rows, row_codes = x.reshape(len(x), -1), codes.reshape(len(x), -1)
    low, high = span
    if params["rule"] == "idnns":
        edges = np.linspace(low, high, bins).astype(np.float32).astype(np.float64)
        frame = (high - low) / (bins - 1)
        encode_equal(rows, np.concatenate([[edges[0] - frame], edges, [edges[-1] + frame]])[None], row_codes, 0)
        codes[codes == bins] = 0
        return codes, np.zeros(len(x), np.bool_)
    return codes, encode_equal(rows, np.linspace(low, high, bins + 1)[None], row_codes) > 0


def _check_codes(t: NDArray[Any], params: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    if params["rule"] != "equal" or params["width"] is not None or isinstance(params["range"], str):
        raise ParameterError(
            f"t holds codes of bins ({t.dtype}), which cannot be binned again by {params}; leave out rule, "
            "width and a range of 'layer' or 'unit', or give the activations themselves"
        )
    codes = np.ascontiguousarray(t)
    most = codes.reshape(len(codes), -1).max(axis=1)
    missing = most == MISSING if t.dtype == np.uint8 else np.zeros(len(t), np.bool_)
    largest = most[~missing].max(initial=0)
    if largest >= params["bins"]:
        raise ParameterError(
            f"t holds codes up to {largest} but bins is {params['bins']}, so codes must lie below; give bins="
            f"{int(largest) + 1} or more"
        )
    return codes if t.dtype == np.uint8 else codes.astype(np.int32), missing


def _write_equal(rows: NDArray[Any], codes: NDArray[Any], *, bins: int, weights: NDArray[np.float64] | None) -> None:
    encode_equal(rows, equal_edges(rows, bins), codes)


def _write_quantiles(
    rows: NDArray[Any], codes: NDArray[Any], *, bins: int, weights: NDArray[np.float64] | None
) -> None:
    """Write the codes of bins that are open below and closed above at the quantiles of each row."""
    from ipstore.analysis.estimators import binned_kernels

    edges = np.empty((len(rows), bins + 1), rows.dtype)
    inner = np.quantile(rows, np.arange(1, bins) / bins, axis=1, weights=weights, method="inverted_cdf")
    edges[:, 1:-1] = np.nextafter(inner.T, np.inf, dtype=rows.dtype)
    edges[:, 0], edges[:, -1] = -np.inf, np.inf
    binned_kernels.encode_search(rows, edges, codes)


def _write_distinct(rows: NDArray[Any], codes: NDArray[Any], *, bins: int, weights: NDArray[np.float64] | None) -> None:
    """Write the codes of bins that hold equally many distinct values of each row."""
    from ipstore.analysis.estimators import binned_kernels

    edges = np.empty((len(rows), bins + 1), rows.dtype)
    binned_kernels.distinct_thresholds(np.sort(rows, axis=1), edges)
    binned_kernels.encode_search(rows, edges, codes)


def _settle_bins(params: dict[str, Any]) -> dict[str, Any]:
    """Refuse parameters that contradict one another, and fill in the defaults that depend on the rule."""
    bins, span, width, rule = (params[name] for name in ("bins", "range", "width", "rule"))
    if width is not None:
        if rule != "equal" or bins is not None or span is not None:
            raise ParameterError(
                f"width={width} says by itself where the bins lie and goes with neither bins ({bins}), nor "
                f"range ({span}), nor rule {rule!r}; give width alone, or leave it out"
            )
        return params
    if rule in _OWN_EDGES and not (span is None or isinstance(span, str)):
        raise ParameterError(f"rule {rule!r} finds its own edges, so range must be 'layer' or 'unit' but got {span}")
    if rule == "idnns" and (isinstance(span, str) or bins == 1):
        raise ParameterError(
            f"rule 'idnns' needs two edges or more between two numbers but got bins={bins}, range={span}; "
            "rule 'equal' takes a range of 'layer' or 'unit'"
        )
    default = _OWN_EDGES.get(rule, (-1.0, 1.0))
    return params | {"bins": 30 if bins is None else bins, "range": default if span is None else span}


def _settle(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    return choose(_settle_bins(params), probe)


def _read_codes(stored: Binning, given: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
    """Answer from stored codes, where merging whole bins gives the bins that are asked for.

    Edges are compared as float32 activations, which is what a run captures, see them.
    """
    wanted = {"bins": None, "range": None, "width": None, "rule": "equal"} | given
    wanted["bins"] = stored.bins if wanted["bins"] is None else wanted["bins"]
    wanted["range"] = stored.range if wanted["range"] is None else wanted["range"]
    have = thresholds(stored.edges, np.float32)
    if wanted["rule"] == "equal" and wanted["width"] is None and not isinstance(wanted["range"], str):
        low, high = wanted["range"]
        inner = thresholds(np.linspace(low, high, wanted["bins"] + 1), np.float32)[1:-1]
        if np.isin(inner, have).all():
            table = np.full(256, MISSING, np.uint8)
            table[: stored.bins] = np.searchsorted(inner, have[:-1], side="right")
            return wanted, None if wanted["bins"] == stored.bins else table
    asked = ", ".join(f"{name}={value!r}" for name, value in given.items())
    divisors = ", ".join(str(number) for number in range(1, stored.bins + 1) if stored.bins % number == 0)
    raise ParameterError(
        f"the run stores codes of {stored.bins} equal bins on {stored.range}, which cannot answer {asked}: "
        f"every edge asked for must be one that was stored, as with bins={divisors}. "
        "Capture at level full or half for any other"
    )


binned = Estimator(
    name="binned",
    version=1,
    kind="exact",
    summary="information of the binned layer, by counting: exact on a population",
    reference="Shwartz-Ziv & Tishby 2017, arXiv:1703.00810, section 3",
    kernel=kernel,
    quantities=QUANTITIES,
    parameters=(
        Integer("bins", "number of bins; 30 unless width is given", low=1, high=65535, optional=True),
        Interval(
            "range",
            "where the bins lie; (-1, 1), or unit for rule quantile and layer for rule entropy",
            words=("layer", "unit"),
            optional=True,
        ),
        Number("width", "width of unbounded bins, in place of bins and range", low=0.0, optional=True),
        Choice("rule", "how the edges are placed", words=("equal", "idnns", "quantile", "entropy")),
        CORRECTION,
    ),
    settle=_settle,
    truths=TRUTHS,
    marks_nonfinite=True,
    read_codes=_read_codes,
    encode=_encode,
)
