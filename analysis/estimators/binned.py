"""Information of the binned layer: activations fall into bins, and the rows of bins are counted."""

from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import H_T, I_TY, I_XT, N_CELLS, Estimator
from ipstore.analysis.estimators.parameters import Choice, Integer, Interval, Number
from ipstore.analysis.probe import Probe, entropy
from ipstore.binning import MISSING, Binning, encode_equal, thresholds
from ipstore.errors import ParameterError

__all__ = ["binned", "kernel"]

_BATCH = 2**20
"""Bytes of codes, or of keys, at a time: they are still in the cache when they are counted."""


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
    I(X;T) = H(T) - H(T|X), which is H(T) unless inputs are repeated. With every input of a finite space among
    the samples there is nothing to correct: both are values, not estimates.

    Rows of codes that fit 64 bits are compared as they are (12 units at 30 bins). Wider layers are compared
    by a 64-bit hash: the probability that any two of n distinct rows are taken for one is about n^2 / 2^65,
    which is 5e-13 for the 4096 patterns of the rule task.

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
        "quantile" "unit".
    width : float
        Instead of `bins` and `range`: the unbounded bins [k width, (k + 1) width).
    rule : {"equal", "idnns", "quantile"}
        "equal": edges ``numpy.linspace(low, high, bins + 1)``. "idnns": as the code does that the authors of
        [1]_ released; edges ``numpy.linspace(low, high, bins)`` in float32, so one bin fewer, and one more
        for high and above, into which NaN and what is below low fall too. "quantile": edges are the
        quantiles of the values under p(x), so that bins are about equally full.

    Returns
    -------
    dict of str to float64 array
        ``I_XT``, ``I_TY``, ``H_T`` in bits and ``n_cells``, the number of distinct T that occur; over the
        leading dimensions. NaN for a cell with activations that are NaN or infinite ("idnns" takes those),
        missing, or beyond 2^30 bins of `width`.

    Raises
    ------
    ParameterError
        If parameters contradict one another, or codes exceed `bins`.

    References
    ----------
    .. [1] Shwartz-Ziv & Tishby, "Opening the Black Box of Deep Neural Networks via Information", 2017,
       arXiv:1703.00810, section 3.
    """
    from ipstore.analysis.estimators import binned_kernels

    params = _settle({"bins": bins, "range": range, "width": width, "rule": rule})
    if p_x is not None and not np.all(p_x > 0):
        keep = np.flatnonzero(p_x > 0)
        t, p_y_given_x, p_x = t[..., keep, :], p_y_given_x[keep], p_x[keep]
        x_id = None if x_id is None else x_id[keep]
    *leading, samples, units = t.shape
    cells = t.reshape(prod(leading), samples, units)
    probe = _probe_arguments(p_y_given_x, x_id, p_x)
    out = np.empty((4, len(cells)))
    step = max(1, _BATCH // (samples * max(units, 8)))
    for start in np.arange(0, len(cells), step):
        batch = slice(start, start + step)
        codes, refused = _encode(cells[batch], params, p_x)
        keys = np.empty(codes.shape[:2], np.uint64)
        binned_kernels.row_keys(codes, keys)
        binned_kernels.information(keys, out[:, batch], *probe)
        out[:, batch][:, refused] = np.nan
    return {q.name: values.reshape(leading) for q, values in zip(binned.quantities, out, strict=True)}


def _probe_arguments(
    p_y_given_x: NDArray[np.float64], x_id: NDArray[np.int64] | None, p_x: NDArray[np.float64] | None
) -> tuple[Any, ...]:
    """Prepare what `binned_kernels.information` takes beside the codes, in its order."""
    samples, classes = p_y_given_x.shape
    weights = np.full(samples, 1 / samples) if p_x is None else p_x
    counts = np.arange(samples + 1)
    growth = np.diff(counts * np.log2(np.maximum(counts, 1)))
    H_X = 0.0 if x_id is None else entropy(np.bincount(x_id, weights))
    H_Y = entropy(weights @ p_y_given_x)
    hard = np.isin(p_y_given_x, (0.0, 1.0)).all()
    nothing = np.empty(0, np.int64), np.empty(0, np.int64)
    joint = np.empty((0, classes)) if hard else weights[:, None] * p_y_given_x
    return (
        np.empty(0) if p_x is None else p_x,
        growth,
        _groups(np.zeros(samples, np.int64)),
        nothing if x_id is None else _groups(x_id),
        _groups(p_y_given_x.argmax(axis=1)) if hard else nothing,
        joint,
        np.sum(joint * np.log2(np.where(joint > 0, joint, 1.0)), axis=1),
        H_X,
        H_Y,
    )


def _groups(of: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the samples in the order of their group, and the bounds of the groups in that order."""
    order = np.argsort(of, kind="stable")
    return order, np.searchsorted(of[order], np.arange(of.max() + 2))


def _encode(
    t: NDArray[Any], params: dict[str, Any], p_x: NDArray[np.float64] | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Give codes that are 0 or more, (cell, sample, unit), and which cells are refused."""
    from ipstore.analysis.estimators import binned_kernels

    if t.dtype.kind == "u":
        return _check_codes(t, params)
    x = np.ascontiguousarray(t, np.float32 if t.dtype == np.float16 else t.dtype)
    bins, span, width = params["bins"], params["range"], params["width"]
    if width is not None:
        codes = np.empty(x.shape, np.int32)
        refused = np.empty(len(x), np.bool_)
        binned_kernels.encode_width(x.reshape(len(x), -1), width, codes.reshape(len(x), -1), refused)
        return codes, refused
    codes = np.empty(x.shape, np.uint8 if bins <= MISSING else np.int32)
    rows, row_codes = x.reshape(len(x), -1), codes.reshape(len(x), -1)
    if params["rule"] == "idnns":
        low, high = span
        edges = np.linspace(low, high, bins).astype(np.float32).astype(np.float64)
        frame = (high - low) / (bins - 1)
        encode_equal(rows, np.concatenate([[edges[0] - frame], edges, [edges[-1] + frame]])[None], row_codes, 0)
        codes[codes == bins] = 0
        return codes, np.zeros(len(x), np.bool_)
    if not isinstance(span, str):
        low, high = span
        return codes, encode_equal(rows, np.linspace(low, high, bins + 1)[None], row_codes) > 0
    finite = (abs(rows) < np.finfo(x.dtype).max / 4).all(axis=1)  # a wider range would overflow
    x = x if finite.all() else np.where(finite[:, None, None], x, 0)
    if span == "unit":
        x = np.ascontiguousarray(x.transpose(0, 2, 1))
        rows, row_codes = x.reshape(-1, x.shape[-1]), np.empty(x.shape, codes.dtype).reshape(-1, x.shape[-1])
    else:
        rows = x.reshape(rows.shape)
    if params["rule"] == "quantile":
        weights = p_x if p_x is None or span == "unit" else np.repeat(p_x, x.shape[-1])
        binned_kernels.encode_search(rows, _quantile_thresholds(rows, bins, weights), row_codes)
    else:
        encode_equal(rows, _spanning_edges(rows, bins), row_codes)
    if span == "unit":
        codes = np.ascontiguousarray(row_codes.reshape(x.shape).transpose(0, 2, 1))
    return codes, ~finite


def _check_codes(t: NDArray[Any], params: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
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


def _spanning_edges(rows: NDArray[Any], bins: int) -> NDArray[np.float64]:
    """Equal bins from the smallest to the largest value of each row, (row, bins + 1)."""
    low, high = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
    # Where all values are one, any edges will do; a step of 0 would have linspace round all rows another way.
    constant = (high - low) / bins == 0
    return np.linspace(np.where(constant, 0, low), np.where(constant, 1, high), bins + 1, axis=-1)


def _quantile_thresholds(rows: NDArray[Any], bins: int, weights: NDArray[np.float64] | None) -> NDArray[Any]:
    """Bins of each row that are open below and closed above at its quantiles, (row, bins + 1)."""
    edges = np.empty((len(rows), bins + 1), rows.dtype)
    inner = np.quantile(rows, np.arange(1, bins) / bins, axis=1, weights=weights, method="inverted_cdf")
    edges[:, 1:-1] = np.nextafter(inner.T, np.inf, dtype=rows.dtype)
    edges[:, 0], edges[:, -1] = -np.inf, np.inf
    return edges


def _settle(params: dict[str, Any], probe: Probe | None = None) -> dict[str, Any]:
    """Refuse parameters that contradict one another, and fill in the defaults that depend on the rule."""
    bins, span, width, rule = (params[name] for name in ("bins", "range", "width", "rule"))
    if width is not None:
        if rule != "equal" or bins is not None or span is not None:
            raise ParameterError(
                f"width={width} says by itself where the bins lie and goes with neither bins ({bins}), nor "
                f"range ({span}), nor rule {rule!r}; give width alone, or leave it out"
            )
        return params
    if rule == "quantile" and not (span is None or isinstance(span, str)):
        raise ParameterError(f"rule 'quantile' finds its own edges, so range must be 'layer' or 'unit' but got {span}")
    if rule == "idnns" and (isinstance(span, str) or bins == 1):
        raise ParameterError(
            f"rule 'idnns' needs two edges or more between two numbers but got bins={bins}, range={span}; "
            "rule 'equal' takes a range of 'layer' or 'unit'"
        )
    default = "unit" if rule == "quantile" else (-1.0, 1.0)
    return params | {"bins": 30 if bins is None else bins, "range": default if span is None else span}


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
    raise ParameterError(
        f"the run stores codes of {stored.bins} equal bins on {stored.range}, which cannot answer {asked}: "
        "every edge asked for must be one that was stored, as with a number of bins that divides the stored. "
        "Capture at level full or half for any other"
    )


binned = Estimator(
    name="binned",
    version=1,
    kind="exact",
    summary="exact information of the binned layer, by counting",
    reference="Shwartz-Ziv & Tishby 2017, arXiv:1703.00810, section 3",
    kernel=kernel,
    quantities=(I_XT, I_TY, H_T, N_CELLS),
    parameters=(
        Integer("bins", "number of bins; 30 unless width is given", low=1, high=65535, optional=True),
        Interval(
            "range",
            "where the bins lie; (-1, 1), or for quantile bins of each unit",
            words=("layer", "unit"),
            optional=True,
        ),
        Number("width", "width of unbounded bins, in place of bins and range", low=0.0, optional=True),
        Choice("rule", "how the edges are placed", words=("equal", "idnns", "quantile")),
    ),
    settle=_settle,
    marks_nonfinite=True,
    read_codes=_read_codes,
)
