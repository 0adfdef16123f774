"""Estimators over labelled, lazy arrays of activations: every question of a call is answered from one read."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import I_TY, I_TY_SE, Estimator, Quantity
from ipstore.analysis.estimators.registry import require
from ipstore.analysis.probe import Probe
from ipstore.analysis.questions import Question
from ipstore.binning import Binning
from ipstore.chunking import TASK_BYTES, TASK_CELLS
from ipstore.errors import ActivationError, EstimatorError, ParameterError

__all__ = ["Subject", "Task", "information", "plan"]

_DIMS = {"p_y_given_x": ["sample", "class"], "x_id": ["sample"], "p_x": ["sample"]}

H_Y = Quantity("H_Y", "entropy of the network's answer", kind="exact")


@dataclass(frozen=True, eq=False)
class Subject:
    """What the questions are about.

    Parameters
    ----------
    activations : mapping of str to DataArray (..., sample, <layer>_unit)
        Activations of each layer, or codes with their bins in ``attrs["binning"]``.
    probe : Probe
        Of the same samples.
    chosen : DataArray (..., sample) bool, optional
        Only these samples count, as those on which each seed was trained; by default all.
    predicted : DataArray (..., sample) integer, optional
        The class that the network itself gives, which then stands in the place of Y; its dimensions are those of
        the activations.
    """

    activations: Mapping[str, xr.DataArray]
    probe: Probe
    chosen: xr.DataArray | None = None
    predicted: xr.DataArray | None = None

    @cached_property
    def probes(self) -> list[Probe]:
        """The probe, or under a choice of samples that of each choice."""
        if self.chosen is None:
            return [self.probe]
        masks = self.chosen.transpose(..., "sample").values.reshape(-1, self.chosen.sizes["sample"])
        return [_part(self.probe, mask) for mask in masks]


@dataclass(frozen=True, eq=False)
class Task:
    """A question about one layer, ready to be answered.

    Parameters
    ----------
    name : str
        As the estimator was asked for.
    estimator : Estimator
    params : mapping
        All of them, settled.
    table : (256,) uint8, optional
        From stored code to the code to use.
    given : tuple of Quantity
        What is kept of its quantities.
    """

    name: str
    estimator: Estimator
    params: Mapping[str, Any]
    table: NDArray[np.uint8] | None
    given: tuple[Quantity, ...]

    @property
    def identity(self) -> Hashable:
        """Equal for tasks whose kernels would compute the same."""
        table = None if self.table is None else self.table.tobytes()
        return self.estimator.kernel, self.estimator.marks_nonfinite, repr(sorted(self.params.items())), table

    def compute(self, t: NDArray[Any], probe: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """Answer for cells (..., sample, unit), under the kernel's own names."""
        return self.estimator.compute(t if self.table is None else self.table[t], probe, self.params)


def information(
    subject: Subject, questions: Sequence[Question], quantities: Sequence[str] | None = None
) -> list[xr.Dataset]:
    """Answer some questions about some layers, lazily; when computed, activations are read once for all of them.

    Parameters
    ----------
    subject : Subject
    questions : sequence of Question
    quantities : sequence of str, optional
        By default all that the estimators give.

    Returns
    -------
    list of Dataset
        For each question the quantities of its estimator (..., layer); see `ipstore.analysis.information_plane`.
        Computing raises EstimatorError if an estimator fails.

    Raises
    ------
    UnknownNameError, ParameterError, ActivationError
    """
    for question in questions:
        require(question.name, quantities or ())
    planned = [[plan(question, name, subject, quantities) for question in questions] for name in subject.activations]
    by_layer = [
        _of_layer(name, array, subject, tasks)
        for (name, array), tasks in zip(subject.activations.items(), planned, strict=True)
    ]
    return [
        _with_attributes(_over_layers(subject, [planes[place] for planes in by_layer]), subject, tasks)
        for place, tasks in enumerate(zip(*planned, strict=True))
    ]


def plan(question: Question, layer: str, subject: Subject, quantities: Sequence[str] | None = None) -> Task:
    """Settle how a question about one layer will be answered; see `information` for what it raises."""
    estimator, array, probe = question.estimator, subject.activations[layer], subject.probe
    if subject.predicted is not None:  # an answer is a hard label, whatever those of the task are
        probe = _part(probe, np.ones(len(probe.p_y_given_x), np.bool_), probe.p_y_given_x.argmax(axis=1))
    if array.dtype.kind != "u":
        params, table = estimator.resolve(question.params, probe), None
    elif estimator.read_codes is None:
        raise ActivationError(
            f"estimator {question.name!r} needs activations but layer {layer!r} stores codes of bins; "
            "capture at level full or half, or use an estimator that reads codes, such as 'binned'"
        )
    elif "binning" not in array.attrs:
        raise ParameterError(f"layer {layer!r} stores integers ({array.dtype}) but does not say of which bins")
    else:
        binning = Binning.from_attrs(array.attrs["binning"])
        wanted, table = estimator.read_codes(binning, estimator.check(question.params))
        params = estimator.resolve(wanted, probe)
    if subject.chosen is not None and subject.predicted is None:
        for part in subject.probes:  # what could not be answered of a part is refused before anything is computed
            estimator.resolve(question.params if array.dtype.kind != "u" else params, part)
    given = tuple(each for each in estimator.quantities if quantities is None or each.name in quantities)
    if subject.predicted is not None:
        given = tuple(each for each in given if each.name in (I_TY.name, I_TY_SE.name))
        if not given:
            raise ParameterError(f"estimator {question.name!r} does not give I_TY, which target 'output' asks for")
    elif probe.population:
        given = tuple(each for each in given if not each.of_samples)
    return Task(question.name, estimator, params, table, given)


def _over_layers(subject: Subject, planes: Sequence[xr.Dataset]) -> xr.Dataset:
    layer = xr.Variable("layer", list(subject.activations))
    plane = xr.concat(planes, dim=layer, join="exact", combine_attrs="override")
    return plane.map(lambda array: array.transpose(..., "layer"))


def _with_attributes(plane: xr.Dataset, subject: Subject, tasks: Sequence[Task]) -> xr.Dataset:
    task, probe = tasks[0], subject.probe
    if any(other.params != task.params for other in tasks):
        used = {layer: dict(each.params) for layer, each in zip(subject.activations, tasks, strict=True)}
        raise ParameterError(f"the layers were stored with different bins: {used}; ask for those alike at a time")
    known = {quantity.name: quantity for quantity in (*task.given, H_Y)}
    for name, array in plane.data_vars.items():
        quantity = known[str(name)]
        array.attrs = {"long_name": quantity.long_name, "units": quantity.units}
        if quantity.units == "bits":
            array.attrs["kind"] = task.estimator.kind_of(quantity, task.params)
    attrs = {
        "estimator": task.name,
        "estimator_version": task.estimator.version,
        "estimator_kind": task.estimator.kind,
        "parameters": {key: list(value) if isinstance(value, tuple) else value for key, value in task.params.items()},
        "units": "bits",
        "probe": "population" if probe.population else "sample",
        "labels": probe.labels,
    }
    if subject.predicted is not None:
        return plane.assign_attrs({**attrs, "labels": "output"})
    means = {key: float(np.mean([getattr(each, key) for each in subject.probes])) for key in ("I_XY", "H_X", "H_Y")}
    return plane.assign_attrs({**attrs, **means})


def _of_layer(name: str, array: xr.DataArray, subject: Subject, tasks: Sequence[Task]) -> list[xr.Dataset]:
    units = [dim for dim in array.dims if str(dim).endswith("unit")]
    probe = subject.probe
    if "sample" not in array.dims or len(units) != 1:
        raise ParameterError(f"layer {name!r} must have dimensions (..., sample, <layer>_unit) but has {array.dims}")
    if array.sizes["sample"] != len(probe.p_y_given_x):
        raise ParameterError(
            f"layer {name!r} has {array.sizes['sample']} samples but the probe has {len(probe.p_y_given_x)}"
        )
    chunks = _task_chunks(array, units[0])
    beside: dict[str, tuple[Any, list[str]]] = {
        key: (xr.Variable(_DIMS[key], values).chunk(), _DIMS[key]) for key, values in probe.arguments.items()
    }
    for key, given in (("chosen", subject.chosen), ("predicted", subject.predicted)):
        if given is not None:
            aligned = given.chunk({dim: size for dim, size in chunks.items() if dim in given.dims})
            beside[key] = (aligned, ["sample"])
    names = [[quantity.name for quantity in task.given] for task in tasks]
    if subject.predicted is not None:
        names = [[*each, H_Y.name] for each in names]
    flat = [quantity for each in names for quantity in each]
    values = xr.apply_ufunc(
        partial(_answer, tasks=tuple(tasks), names=names, where=f"layer {name!r}", beside=tuple(beside)),
        array.chunk(chunks),
        *(given for given, _ in beside.values()),
        input_core_dims=[["sample", units[0]], *(dims for _, dims in beside.values())],
        output_core_dims=[[] for _ in flat],
        output_dtypes=[np.float64 for _ in flat],
        dask="parallelized",
    )
    arrays = iter(values if len(flat) > 1 else (values,))
    return [xr.Dataset({quantity: next(arrays) for quantity in each}) for each in names]


def _answer(
    t: NDArray[Any],
    *others: NDArray[Any],
    tasks: Sequence[Task],
    names: Sequence[Sequence[str]],
    where: str,
    beside: Sequence[str],
) -> tuple[NDArray[np.float64], ...] | NDArray[np.float64]:
    """Work on one block: every quantity of every task over the leading dimensions, flat, or the only one."""
    given = {key: array.view() for key, array in zip(beside, others, strict=True)}
    *leading, samples, units = t.shape
    parts = {
        key: np.broadcast_to(given.pop(key), (*leading, samples)).reshape(-1, samples)
        for key in ("chosen", "predicted")
        if key in given
    }
    cells = t.reshape(prod(leading), samples, units)
    for array in (cells, *given.values()):  # the estimators share them: one that writes to them is the one to fail
        array.flags.writeable = False
    out = [{name: np.full(len(cells), np.nan) for name in each} for each in names]
    for place, some, probe in _parts(cells, given, **parts):
        done: dict[Hashable, dict[str, NDArray[np.float64]]] = {}
        for number, task in enumerate(tasks):
            if H_Y.name in out[number]:
                finite = np.isfinite(some).all()
                out[number][H_Y.name][place] = (answers := _probe_of(probe)).H_Y if finite else np.nan
                if not finite:
                    continue
                if np.count_nonzero(answers.p_y) < 2:  # it always answers the same: no T can tell anything of it
                    for quantity in task.given:
                        out[number][quantity.name][place] = 0.0
                    continue
            try:
                if task.identity not in done:
                    done[task.identity] = task.compute(some, probe)
                found = task.estimator.pick(done[task.identity])
                for quantity in task.given:
                    out[number][quantity.name][place] = found[quantity.name]
            except Exception as error:
                raise EstimatorError(task.name, number, where, f"{type(error).__name__}: {error}") from error
    flat = tuple(values.reshape(leading) for each in out for values in each.values())
    return flat if len(flat) > 1 else flat[0]


def _probe_of(arguments: Mapping[str, Any]) -> Probe:
    """Make a probe of arguments that are checked already."""
    return Probe(arguments["p_y_given_x"], arguments.get("x_id"), arguments.get("p_x"))


def _parts(
    cells: NDArray[Any],
    probe: Mapping[str, NDArray[Any]],
    chosen: NDArray[np.bool_] | None = None,
    predicted: NDArray[np.integer[Any]] | None = None,
) -> Iterator[tuple[Any, NDArray[Any], Mapping[str, NDArray[Any]]]]:
    """Give places of cells that share a probe, the activations that count, and that probe's arguments."""
    if chosen is None and predicted is None:
        yield slice(None), cells, probe
        return
    whole = _probe_of(probe)
    keep = np.ones(cells.shape[:2], np.bool_) if chosen is None else chosen
    alike: dict[bytes, list[int]] = {}
    for place in range(len(cells)):
        key = keep[place].tobytes() + (b"" if predicted is None else predicted[place].tobytes())
        alike.setdefault(key, []).append(place)
    for places in alike.values():
        mask = keep[places[0]]
        answers = None if predicted is None else predicted[places[0]]
        yield places, cells[places][:, mask], _part(whole, mask, answers).arguments


def _part(probe: Probe, keep: NDArray[np.bool_], answers: NDArray[np.integer[Any]] | None = None) -> Probe:
    """Take some of the samples, with the network's answers in the place of their labels if those are given."""
    weights = probe.weights[keep]
    if not weights.sum() > 0:
        raise ParameterError("the part of the probe that was asked for is empty: no sample of it has any weight")
    return Probe.of(
        probe.p_y_given_x[keep] if answers is None else np.eye(int(answers.max()) + 1)[answers[keep]],
        None if probe.x_id is None else probe.x_id[keep],
        weights / weights.sum(),
        population=probe.population,
        least_classes=2 if answers is None else 1,
    )


def _task_chunks(array: xr.DataArray, unit: Hashable) -> dict[Hashable, int]:
    """Whole cells per task, and whole stored chunks where they are small enough."""
    chunks = {dim: max(sizes) for dim, sizes in array.chunksizes.items()}
    whole: dict[Hashable, int] = {"sample": array.sizes["sample"], unit: array.sizes[unit]}
    most = max(1, TASK_BYTES // max(1, prod(whole.values()) * array.dtype.itemsize))
    wanted = {dim: chunks.get(dim, 1) for dim in array.dims if dim not in whole}
    for dim in wanted:  # first dimension first: epochs of one seed lie together
        if prod(wanted.values()) > most:
            wanted[dim] = max(1, wanted[dim] * most // prod(wanted.values()))
        elif prod(wanted.values()) < TASK_CELLS:
            factor = min(-(-TASK_CELLS // prod(wanted.values())), most // prod(wanted.values()))
            wanted[dim] = max(1, min(array.sizes[dim], wanted[dim] * factor))
    return wanted | whole
