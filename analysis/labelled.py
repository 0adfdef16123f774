"""Estimators over labelled, lazy arrays of activations: every question of a call is answered from one read."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from math import prod
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import I_TY, I_TY_SE, Estimator, Quantity
from ipstore.analysis.estimators.registry import require
from ipstore.analysis.probe import Probe
from ipstore.analysis.questions import Question
from ipstore.binning import Binning
from ipstore.chunking import TASK_BYTES, TASK_CELLS
from ipstore.errors import ActivationError, EstimatorError, ParameterError

__all__ = ["Inquiry", "Subject", "Task", "information", "plan"]

_blockwise: Any = da.blockwise  # these carry no types
_delayed: Any = delayed

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
    held : Dask object, optional
        ``probe.arguments``, where a cluster holds them already.
    """

    activations: Mapping[str, xr.DataArray]
    probe: Probe
    chosen: xr.DataArray | None = None
    predicted: xr.DataArray | None = None
    held: Any = None

    @cached_property
    def arguments(self) -> Any:
        """What a kernel is called with beside the activations, as one Dask object that all tasks share."""
        return _delayed(self.probe.arguments, pure=True, traverse=False) if self.held is None else self.held

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


@dataclass(frozen=True, eq=False)
class Inquiry:
    """Questions about the layers of a subject, ready to be answered together; made by `Inquiry.of`.

    Attributes
    ----------
    subject : Subject
    tasks : sequence of sequence of Task
        For each question one for each layer.
    """

    subject: Subject
    tasks: Sequence[Sequence[Task]]

    @classmethod
    def of(cls, subject: Subject, questions: Sequence[Question], quantities: Sequence[str] | None = None) -> "Inquiry":
        """Settle how some questions will be answered; see `information`."""
        for question in questions:
            require(question.name, quantities or ())
        layers = subject.activations
        return cls(subject, [[plan(question, name, subject, quantities) for name in layers] for question in questions])

    def part(self, subject: Subject, numbers: Sequence[int]) -> "Inquiry":
        """Take some of the questions, about the same layers at other epochs."""
        return Inquiry(subject, [self.tasks[number] for number in numbers])

    @property
    def names(self) -> list[list[str]]:
        """For each question the quantities that answer it."""
        beside = [H_Y.name] if self.subject.predicted is not None else []
        return [[*(quantity.name for quantity in of_layers[0].given), *beside] for of_layers in self.tasks]

    def answers(self) -> xr.Dataset:
        """Answer, lazily: a variable for each layer, over (..., sample of size 1, answer).

        A Dask task reads a block and answers all about it: to send one to another process takes a millisecond, so there
        are no more of them than blocks. What is left to do, `planes` does, in no time when the answers are in memory.
        """
        of_layer = zip(self.subject.activations.items(), zip(*self.tasks, strict=True), strict=True)
        return xr.Dataset(
            {name: _of_layer(name, array, self.subject, tasks, self.names) for (name, array), tasks in of_layer}
        )

    def planes(self, answers: xr.Dataset) -> list[xr.Dataset]:
        """Sort what `answers` gives, lazy or in memory, into the quantities (..., layer) of each question."""
        layer = xr.Variable("layer", list(self.subject.activations))
        whole = xr.concat([answers[name] for name in layer.values], dim=layer, join="exact", combine_attrs="override")
        whole = whole.isel(sample=0).transpose(..., "layer", "answer")
        place = count()
        return [
            _with_attributes(xr.Dataset({name: whole.isel(answer=next(place)) for name in names}), self.subject, tasks)
            for names, tasks in zip(self.names, self.tasks, strict=True)
        ]


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
    inquiry = Inquiry.of(subject, questions, quantities)
    return inquiry.planes(inquiry.answers())


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


def _of_layer(
    name: str, array: xr.DataArray, subject: Subject, tasks: Sequence[Task], names: Sequence[Sequence[str]]
) -> xr.DataArray:
    units = [dim for dim in array.dims if str(dim).endswith("unit")]
    probe = subject.probe
    if "sample" not in array.dims or len(units) != 1:
        raise ParameterError(f"layer {name!r} must have dimensions (..., sample, <layer>_unit) but has {array.dims}")
    if array.sizes["sample"] != len(probe.p_y_given_x):
        raise ParameterError(
            f"layer {name!r} has {array.sizes['sample']} samples but the probe has {len(probe.p_y_given_x)}"
        )
    leading = [dim for dim in array.dims if dim not in ("sample", units[0])]
    chunks = _task_chunks(array, units[0])
    cells = array.transpose(*leading, "sample", units[0])
    if {dim: max(sizes) for dim, sizes in cells.chunksizes.items()} != chunks:
        cells = cells.chunk(chunks)
    beside: list[Any] = []
    for given in (subject.chosen, subject.predicted):
        if given is None:
            beside += [None, None]
        else:
            aligned = given.expand_dims([dim for dim in leading if dim not in given.dims])
            aligned = aligned.transpose(*leading, "sample").chunk({dim: chunks[dim] for dim in given.dims})
            beside += [aligned.data, aligned.dims]
    answers = _blockwise(
        partial(_answer, tasks=tuple(tasks), names=names, where=f"layer {name!r}"),
        cells.dims,  # not `leading` and one for the answers: Dask would make reading and answering two tasks
        *(cells.data, cells.dims),
        *(subject.arguments, None),
        *beside,
        adjust_chunks={"sample": 1, units[0]: sum(map(len, names))},
        dtype=np.float64,
        meta=np.empty((0,) * cells.ndim),
    )
    coords = {key: each for key, each in array.coords.items() if set(each.dims) <= set(leading)}
    return xr.DataArray(answers, coords, (*leading, "sample", "answer"))


def _answer(
    t: NDArray[Any],
    probe: Mapping[str, NDArray[Any]],
    chosen: NDArray[np.bool_] | None,
    predicted: NDArray[np.integer[Any]] | None,
    *,
    tasks: Sequence[Task],
    names: Sequence[Sequence[str]],
    where: str,
) -> NDArray[np.float64]:
    """Work on one block: every quantity of every task, (..., 1, answer)."""
    given = {key: array.view() for key, array in probe.items()}
    *leading, samples, units = t.shape
    parts = {
        key: np.broadcast_to(each, (*leading, samples)).reshape(-1, samples)
        for key, each in (("chosen", chosen), ("predicted", predicted))
        if each is not None
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
    return np.stack([values.reshape(*leading, 1) for each in out for values in each.values()], axis=-1)


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
