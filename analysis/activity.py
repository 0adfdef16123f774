"""What the units of a layer do over the epochs: how their activations are distributed, saturate, and fill the bins."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.estimators.encoding import activations
from ipstore.analysis.estimators.registry import available, get
from ipstore.analysis.labelled import Subject, Task, plan
from ipstore.analysis.plane import View
from ipstore.analysis.probe import Probe
from ipstore.analysis.questions import Question
from ipstore.analysis.spacing import log_spaced
from ipstore.binning import MISSING, Binning, thresholds
from ipstore.errors import ParameterError
from ipstore.virtual import with_activations

__all__ = ["ActivationFunction", "layer_activity"]

ActivationFunction = Literal["tanh", "hard_tanh", "sigmoid", "softmax", "relu", "linear"]
"""What gives the activations of a layer, as far as it matters for where they saturate."""

_RANGES: dict[str, tuple[float, float]] = {
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
}
_MODULES = {"Tanh": "tanh", "Hardtanh": "hard_tanh", "Sigmoid": "sigmoid", "Softmax": "softmax", "ReLU": "relu"}
"""Of `torch.nn`, as a Recorder names them."""

_SATURATED = 0.95
"""Of the way from the middle of a function's range to either end."""

_EPOCHS, _BINS = 60, 30
_TASK_BYTES = 2**24
"""Of activations in one Dask task: some workers hold so much each, with their codes, whatever the run's length."""

_BATCH_BYTES = 2**22
_OUTSIDE = ("below", "above", "missing")


def layer_activity(
    run: xr.DataTree,
    layer: str,
    estimator: str = "binned",
    *,
    epochs: int | Sequence[int] = _EPOCHS,
    seeds: Sequence[int] | None = None,
    histogram_bins: int | None = None,
    histogram_range: tuple[float, float] | None = None,
    function: ActivationFunction | None = None,
    **params: Any,
) -> xr.Dataset:
    """Histogram of every unit of a layer over the epochs, with saturation and the use of an estimator's bins.

    Of a run only the blocks are read that hold a chosen epoch, and of a block with one no more than that epoch; at
    level ``weights`` only chosen epochs are computed again. Memory grows with what a Dask task holds, never with the
    run.

    Parameters
    ----------
    run : xarray.DataTree
        As ``ipstore.open(store, run=name)`` gives it.
    layer : str
    estimator : str
        By whose rule activations become codes: one whose T has discrete values, such as "binned".
    epochs : int or sequence of int
        At most so many, evenly spaced in log(1 + epoch), with the first and the last; or these.
    seeds : sequence of int, optional
        Which seeds; all by default.
    histogram_bins : int, optional
        30 by default. Of a run that stores codes the histogram is that of the codes, and neither its bins nor their
        range can be chosen.
    histogram_range : (float, float), optional
        Where the bins of a histogram lie, closed at both ends. By default the range of the activation function; where
        it has no bounds, from the smallest to the largest activation at these epochs and seeds, for which the
        activations are read once before this returns.
    function : {"tanh", "hard_tanh", "sigmoid", "softmax", "relu", "linear"}, optional
        What gave the activations, where the run does not say, as of a network of somebody's own.
    **params
        Parameters of the estimator, such as ``bins``; a single value each. On a run that stores codes they default to
        the bins that were stored.

    Returns
    -------
    xarray.Dataset
        Lazy; every sample of positive weight counts once.

        - ``counts`` (epoch, unit, bin) int64: of the samples and seeds. ``bin`` is the middle of a bin, ``left`` and
          ``right`` are its edges; a bin holds its left edge, and the last one its right edge too;
        - ``below``, ``above`` and ``missing`` (epoch, seed) int64: activations outside the bins, and NaN;
        - ``saturation`` (epoch, seed, unit): share of the samples that lie more than 95% of the way from the middle of
          the function's range to an end; of "relu", that are exactly 0, so that a unit at 1 is dead. Of codes the
          limits are the edges of stored bins that come nearest. ``attrs["saturated"]`` says what counts; it is not
          there where that cannot be told, and ``attrs["no_saturation"]`` says why;
        - ``bins_used`` (epoch, seed, unit) and ``n_cells`` (epoch, seed): distinct codes of a unit, and of the whole
          layer, which is the ``n_cells`` of the estimator; NaN where it cannot take the activations.

        The attributes say what run, layer, function and estimator, its parameters, how many ``samples``, and
        ``bins_possible``, if the estimator has a number of bins.

    Raises
    ------
    UnknownNameError
        If there is no such layer or estimator.
    ParameterError
        If an epoch or seed is not stored, a parameter is not allowed, the estimator's T has no discrete values, or
        `run` is not a run.
    ActivationError
        If the run stores no activations, or codes that the estimator cannot read.
    """
    if function is not None and function not in get_args(ActivationFunction):
        raise ParameterError(
            f"function must be one of {', '.join(map(repr, get_args(ActivationFunction)))} but got {function!r}"
        )
    subject = View([layer]).subject(run)
    cells = _cells(run, layer, epochs, seeds)
    unit = next(str(dim) for dim in cells.dims if str(dim).endswith("unit"))
    probe = subject.probe
    if probe.p_x is not None and not np.all(probe.p_x > 0):
        keep = np.flatnonzero(probe.p_x > 0)
        cells = cells.isel(sample=keep)
        probe = Probe(probe.p_y_given_x[keep], None, probe.p_x[keep], probe.population)
    task = _task(Question(estimator, params), layer, Subject({layer: cells}, probe))
    function = function or _function(run, layer)
    stored = Binning.from_attrs(cells.attrs["binning"]) if cells.dtype.kind == "u" else None
    edges = _edges(cells, stored, function, histogram_bins, histogram_range)
    limits = _limits(function, stored)
    measured = xr.apply_ufunc(
        partial(_measure, edges=edges, codes=stored is not None, limits=limits, task=task, p_x=probe.p_x),
        _chunked(cells, unit),
        input_core_dims=[["sample", unit]],
        output_core_dims=[["unit", "bin"], ["place"], ["unit"], ["unit"], []],
        dask="parallelized",
        output_dtypes=[np.int64, np.int64, np.float64, np.float64, np.float64],
        dask_gufunc_kwargs={"output_sizes": {"unit": cells.sizes[unit], "bin": len(edges) - 1, "place": 3}},
    )
    counts, outside, saturation, bins_used, n_cells = measured
    found = xr.Dataset(
        {
            "counts": counts.sum("seed"),
            **{name: outside.isel(place=place) for place, name in enumerate(_OUTSIDE)},
            **({"saturation": saturation} if isinstance(limits, _Limits) else {}),
            "bins_used": bins_used,
            "n_cells": n_cells,
        }
    ).assign_coords(
        unit=np.arange(cells.sizes[unit]),
        bin=(edges[:-1] + edges[1:]) / 2,
        left=("bin", edges[:-1]),
        right=("bin", edges[1:]),
    )
    return _described(found, run, layer, cells, function, limits, task)


class _Limits(NamedTuple):
    """Where a layer is saturated: beyond either limit, of activations or of codes; at 0, if there is no higher one."""

    low: float
    high: float | None
    words: str


def _cells(run: xr.DataTree, layer: str, epochs: int | Sequence[int], seeds: Sequence[int] | None) -> xr.DataArray:
    """Take the chosen epochs and seeds of a layer, lazily, so that few others are read, and none is rebuilt."""
    known = run["epoch"].to_numpy()
    if isinstance(epochs, int | np.integer):
        if isinstance(epochs, bool) or epochs < 1:
            raise ParameterError(f"epochs must be how many, 1 or more, or which ones, but got {epochs}")
        places = log_spaced(known, int(epochs))
    else:
        places = _places("epoch", epochs, known)
    if run["activations"].attrs.get("rebuilt_from") == "weights":
        bare = xr.DataTree.from_dict(
            {name: run[name].dataset for name in ("probe", "training", "weights", "digest")} | {"/": run.dataset},
            name=run.name,
        )
        stored = with_activations(bare.isel(epoch=places))["activations"].dataset[layer]
    else:
        stored = _at(run["activations"].dataset[layer], places)
    if seeds is not None:
        stored = stored.isel(seed=_places("seed", seeds, stored["seed"].to_numpy()))
    return stored


def _places(name: str, wanted: Sequence[int], known: NDArray[Any]) -> NDArray[np.int64]:
    """Find where some of the stored epochs or seeds stand, in ascending order."""
    absent = [str(value) for value in wanted if value not in known]
    if absent or len(wanted) == 0:
        raise ParameterError(
            f"{name}s must be of those that are stored, {known[0]} to {known[-1]} ({len(known)} of them), but got "
            f"{', '.join(absent) or 'none'}"
        )
    return np.flatnonzero(np.isin(known, wanted))


def _at(array: xr.DataArray, places: NDArray[np.int64]) -> xr.DataArray:
    """Take some epochs as slices: Dask reads of a block what its one slice needs, but of a list the whole block."""
    ends = np.flatnonzero(np.diff(places) > 1) + 1
    pieces = [array.isel(epoch=slice(piece[0], piece[-1] + 1)) for piece in np.split(places, ends)]
    return pieces[0] if len(pieces) == 1 else xr.concat(pieces, "epoch", combine_attrs="override")


def _chunked(cells: xr.DataArray, unit: str) -> xr.DataArray:
    """Give each Dask task whole cells, of a few megabytes."""
    cell = cells.sizes["sample"] * cells.sizes[unit] * cells.dtype.itemsize
    seeds = max(cells.chunksizes["seed"]) if "seed" in cells.chunksizes else 1
    fitting = max(1, _TASK_BYTES // max(1, cell * seeds))
    return cells.chunk({"sample": -1, unit: -1, "epoch": min(fitting, cells.sizes["epoch"])})


def _task(question: Question, layer: str, subject: Subject) -> Task:
    if get(question.name).encode is None:
        able = [name for name in available() if get(name).encode is not None]
        raise ParameterError(
            f"estimator {question.name!r} does not say which bins are used; take one whose T has discrete values: "
            f"{', '.join(able)}"
        )
    return plan(question, layer, subject)


def _function(run: xr.DataTree, layer: str) -> ActivationFunction | None:
    """Read what gave the activations of a layer, if the run says; a mean or a projection of them is something else."""
    model: Mapping[str, Any] = run.attrs.get("model", {})
    name: Any = None
    if model.get("kind") == "mlp":
        name = model["output" if layer == run.attrs["layers"][-1] else "activation"]
    elif layer in model.get("layers", {}):
        recorded = model["layers"][layer]
        whole = recorded["reduce"] == "flatten" or (recorded["reduce"] == "mean" and len(recorded["shape"]) == 1)
        name = _MODULES.get(recorded["class"].rpartition(".")[2]) if whole else None
    return name if name in get_args(ActivationFunction) else None


def _edges(
    cells: xr.DataArray,
    stored: Binning | None,
    function: str | None,
    bins: int | None,
    span: tuple[float, float] | None,
) -> NDArray[np.float64]:
    """Give the edges of the histograms, (bins + 1,)."""
    if stored is not None:
        if bins is not None or span is not None:
            raise ParameterError(
                f"the run stores codes of {stored.bins} bins on {stored.range}, of which the histogram is, so neither "
                f"histogram_bins ({bins}) nor histogram_range ({span}) can be chosen; leave them out"
            )
        return stored.edges
    if bins is not None and (isinstance(bins, bool) or not 1 <= bins <= 1000):
        raise ParameterError(f"histogram_bins must lie in [1, 1000] but got {bins}")
    if span is None:
        span = _RANGES[function] if function in _RANGES else _span(cells)
    if len(span) != 2 or not (span[0] < span[1] and np.isfinite(span[1] - span[0])):
        raise ParameterError(f"histogram_range must be two finite numbers, low < high, but got {span}")
    low, high = map(float, span)
    return np.linspace(low, high, (_BINS if bins is None else bins) + 1)


def _span(cells: xr.DataArray) -> tuple[float, float]:
    """Read the smallest and the largest finite activation."""
    finite = cells.where(abs(cells) < np.inf)
    low, high = (float(end) for end in xr.Dataset({"low": finite.min(), "high": finite.max()}).compute().values())
    if not low <= high:
        return 0.0, 1.0  # nothing is finite
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _limits(function: str | None, stored: Binning | None) -> _Limits | str:
    """Say where a layer is saturated, or why that cannot be told."""
    if function is None:
        return "the run does not say which activation function the layer has; give it as function="
    if function == "linear":
        return "a linear layer does not saturate"
    if function == "relu":
        if stored is not None:
            return "codes of bins do not tell a ReLU's zero from small activations"
        return _Limits(0.0, None, "exactly 0")
    low, high = _RANGES[function]
    room = (1 - _SATURATED) * (high - low) / 2
    ends = low + room, high - room
    if stored is None:
        return _Limits(*ends, f"|T| > {ends[1]:g}" if low == -high else f"T < {ends[0]:g} or T > {ends[1]:g}")
    first, last = (int(np.abs(stored.edges - end).argmin()) for end in ends)
    if not 0 < first < last < stored.bins:
        first, last = 1, stored.bins - 1
    if not first < last:
        return f"codes of {stored.bins} bins are too coarse for it"
    below, above = (f"{stored.edges[end]:.4g}" for end in (first, last))
    words = f"|T| beyond {above} (bins)" if below == f"-{above}" else f"T beyond {below}, {above} (bins)"
    return _Limits(first, last - 1, words)


def _measure(
    t: NDArray[Any],
    *,
    edges: NDArray[np.float64],
    codes: bool,
    limits: _Limits | str,
    task: Task,
    p_x: NDArray[np.float64] | None,
) -> tuple[NDArray[Any], ...]:
    """Work on one block (..., sample, unit); see `layer_activity` for what is given of each cell."""
    *leading, samples, units = t.shape
    cells = t.reshape(prod(leading), samples, units)
    counts = np.zeros((len(cells), units, len(edges) - 1), np.int64)
    outside = np.zeros((len(cells), len(_OUTSIDE)), np.int64)
    saturation, bins_used = np.full((2, len(cells), units), np.nan)
    n_cells = np.full(len(cells), np.nan)
    step = max(1, _BATCH_BYTES // (samples * units * 8))
    for start in np.arange(0, len(cells), step):
        batch = slice(start, start + step)
        _count(cells[batch], edges, codes, counts[batch], outside[batch])
        if isinstance(limits, _Limits):
            saturation[batch] = _share(cells[batch], limits, codes)
        bins_used[batch], n_cells[batch] = _occupancy(cells[batch], task, p_x)
    return (
        counts.reshape(*leading, units, -1),
        outside.reshape(*leading, -1),
        saturation.reshape(*leading, units),
        bins_used.reshape(*leading, units),
        n_cells.reshape(leading),
    )


def _count(
    cells: NDArray[Any], edges: NDArray[np.float64], codes: bool, counts: NDArray[Any], outside: NDArray[Any]
) -> None:
    from ipstore.analysis import activity_kernels

    if codes:
        activity_kernels.code_counts(np.ascontiguousarray(cells), MISSING, counts, outside)
    else:
        x = activations(cells)
        activity_kernels.histograms(x, _closed(edges, x.dtype), counts, outside)


def _closed(edges: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round edges up to a dtype, the last beyond itself, so that it lies in the last bin.

    For every x of that dtype ``x >= rounded`` if and only if, in exact arithmetic, ``x >= edge``; ``x > edge`` at the
    last.
    """
    framed = thresholds(np.concatenate([[-np.inf], edges[:-1], [np.nextafter(edges[-1], np.inf), np.inf]]), dtype)
    return framed[1:-1]


def _share(cells: NDArray[Any], limits: _Limits, codes: bool) -> NDArray[np.float64]:
    """Give the share of each unit's samples that is saturated, of those that are not missing, (cell, unit)."""
    there = cells != MISSING if codes else ~np.isnan(cells)
    beyond = cells == 0 if limits.high is None else (cells < limits.low) | (cells > limits.high)
    with np.errstate(invalid="ignore"):  # no sample is there: NaN
        return np.asarray(np.count_nonzero(beyond & there, axis=1) / np.count_nonzero(there, axis=1))


def _occupancy(
    cells: NDArray[Any], task: Task, p_x: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count the distinct codes of each unit, (cell, unit), and of each layer, (cell,)."""
    from ipstore.analysis import activity_kernels
    from ipstore.analysis.estimators import counting_kernels

    assert task.estimator.encode is not None
    given = cells if task.table is None else task.table[cells]
    codes, refused = task.estimator.encode(given, p_x, task.params)
    keys = np.empty(codes.shape[:2], np.uint64)
    counting_kernels.row_keys(codes, keys)
    if codes.shape[-1] == 2 * cells.shape[-1]:  # `encoding.symbols` takes 64 bits in two parts
        codes = codes.view(np.uint64)
    of_units, of_layer = np.empty((len(cells), codes.shape[-1]), np.int64), np.empty((len(cells), 1), np.int64)
    activity_kernels.distinct(codes, of_units)
    activity_kernels.distinct(keys[..., None], of_layer)
    return np.where(refused[:, None], np.nan, of_units), np.where(refused, np.nan, of_layer[:, 0])


def _described(
    found: xr.Dataset,
    run: xr.DataTree,
    layer: str,
    cells: xr.DataArray,
    function: str | None,
    limits: _Limits | str,
    task: Task,
) -> xr.Dataset:
    words = {
        "counts": ("samples in the bin", "1"),
        "below": ("activations below the bins", "1"),
        "above": ("activations above the bins", "1"),
        "missing": ("activations that are NaN", "1"),
        "saturation": ("share of the samples that is saturated", "1"),
        "bins_used": ("distinct codes of the unit", "1"),
        "n_cells": ("distinct codes of the layer", "1"),
    }
    for name, array in found.data_vars.items():
        array.attrs = dict(zip(("long_name", "units"), words[str(name)], strict=True))
    params = task.params
    possible = params["bins"] if params.get("bins") is not None else 2 ** params["bits"] if "bits" in params else None
    attrs = {
        "source_run": run.name or "",
        "layer": layer,
        "samples": cells.sizes["sample"],
        "epochs_of_run": run.sizes["epoch"],
        "estimator": task.name,
        "estimator_version": task.estimator.version,
        "parameters": {key: list(value) if isinstance(value, tuple) else value for key, value in params.items()},
    }
    if cells.dtype.kind == "u":
        attrs["activations"] = "codes of bins"
    elif "rebuilt_from" in run["activations"].attrs:
        attrs["activations"] = f"rebuilt from {run['activations'].attrs['rebuilt_from']}"
    if function is not None:
        attrs["function"] = function
    attrs |= {"saturated": limits.words} if isinstance(limits, _Limits) else {"no_saturation": limits}
    return found.assign_attrs(attrs if possible is None else attrs | {"bins_possible": possible})
