"""The information plane of a run, lazily: which layers, epochs and samples, and what stands for Y."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.ib.standing import with_curves
from ipstore.analysis.labelled import Inquiry, Subject
from ipstore.analysis.probe import Probe
from ipstore.analysis.questions import Ask, Question, expand, read, stack
from ipstore.errors import ActivationError, ParameterError, UnknownNameError

__all__ = ["Labels", "Split", "Target", "View", "information_plane", "information_planes"]

Split = Literal["all", "train", "test"]
"""Which samples of the probe: all, those on which each network was trained, or the others."""

Target = Literal["labels", "output"]
"""What Y is: the labels of the task, or the class that the network itself gives."""

Labels = Literal["stored", "hard"]
"""Which p(y|x) of the task: as it was captured, or with the class on which each input was trained for certain."""


@dataclass(frozen=True, eq=False)
class View:
    """What of a run is looked at.

    Parameters
    ----------
    layers : sequence of str, optional
        By default all, in the order of the network.
    every : int
        Only epochs that are multiples of this.
    split : {"all", "train", "test"}
    target : {"labels", "output"}
    labels : {"stored", "hard"} or (sample, class)
        See `information_plane`.
    quantities : sequence of str, optional
        By default all that an estimator gives.

    Raises
    ------
    ParameterError
        If a value is not allowed, or `labels` are chosen though `target` is not "labels".
    """

    layers: Sequence[str] | None = None
    every: int = 1
    split: Split = "all"
    target: Target = "labels"
    labels: Labels | ArrayLike = "stored"
    quantities: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name, words in (("split", get_args(Split)), ("target", get_args(Target))):
            if (given := getattr(self, name)) not in words:
                raise ParameterError(f"{name} must be one of {', '.join(map(repr, words))} but got {given!r}")
        if isinstance(self.quantities, str):
            object.__setattr__(self, "quantities", [self.quantities])
        if self.quantities is not None and not self.quantities:
            raise ParameterError("quantities must name one quantity or more, or be None for all, but is empty")
        if isinstance(self.every, bool) or not isinstance(self.every, int | np.integer) or self.every < 1:
            raise ParameterError(f"every must be a number of epochs, 1 or more, but got {self.every!r}")
        if isinstance(self.labels, str) and self.labels not in get_args(Labels):
            raise ParameterError(
                f"labels must be one of {', '.join(map(repr, get_args(Labels)))}, or an array p(y|x) (sample, class), "
                f"but got {self.labels!r}"
            )
        if self.target == "output" and not self._as_stored:
            raise ParameterError(
                "labels say what Y is when target is 'labels', but it is 'output', the network's own answer; give one"
            )

    @property
    def _as_stored(self) -> bool:
        return isinstance(self.labels, str) and self.labels == "stored"

    def epochs(self, run: xr.DataTree) -> list[int]:
        """Places along ``epoch`` that are looked at."""
        return np.flatnonzero(run["epoch"].to_numpy() % self.every == 0).tolist()

    def planes(self, run: xr.DataTree, questions: Sequence[Question]) -> list[xr.Dataset]:
        """Answer some questions, lazily; see `information_plane`."""
        inquiry = self.inquiry(run, questions)
        subject = inquiry.subject
        planes = inquiry.planes(inquiry.answers()) if questions else []
        where = {"source_run": run.name or "", "every": int(self.every), "split": self.split, "target": self.target}
        where |= self.labels_from(run)
        if "rebuilt_from" in run["activations"].attrs:
            where["activations"] = f"rebuilt from {run['activations'].attrs['rebuilt_from']}"
        planes = [plane.assign_attrs(where) for plane in planes]
        return [
            with_curves(plane.assign_attrs(about="bound"), subject.probe) if question.about == "bound" else plane
            for question, plane in zip(questions, planes, strict=True)
        ]

    def inquiry(self, run: xr.DataTree, questions: Sequence[Question]) -> Inquiry:
        """Settle how some questions will be answered; see `information_plane` for what it raises."""
        return Inquiry.of(self.subject(run), questions, self.quantities)

    def probe(self, run: xr.DataTree) -> Probe:
        """Give the inputs of a run with the p(y|x) that is looked at; all samples, whatever the split.

        Raises
        ------
        ParameterError
            If `run` is not a run, or the labels do not fit its inputs.
        """
        _require_joined(run, "probe")
        if "probe" not in run.children:
            raise ParameterError(
                f"an analysis needs one run but got a tree with {', '.join(run.children) or 'no groups'}; "
                "give one run: ipstore.open(store, run=name), or tree[name]"
            )
        arrays = run["probe"].dataset
        inputs, weights = (arrays[name].values if name in arrays else None for name in ("x_id", "p_x"))
        population = run.attrs.get("probe") == "population"
        return Probe.of(self._p_y_given_x(arrays), inputs, weights, population=population)

    def labels_from(self, run: xr.DataTree) -> dict[str, str]:
        """Attributes that say what stands in the place of the labels that were captured; none if these do.

        Returns
        -------
        dict
            ``labels_from``: "hard", or the SHA-256 of another p(y|x): float64, little-endian, (sample, class) in C
            order. ``labels_name``: what that p(y|x) is called, if it is a DataArray with a name.
        """
        if self._as_stored:
            return {}
        rows = self.probe(run).p_y_given_x
        if np.array_equal(rows, replace(self, labels="stored").probe(run).p_y_given_x):
            return {}
        if isinstance(self.labels, str):
            return {"labels_from": self.labels}
        name = getattr(self.labels, "name", None)
        named = {} if name is None else {"labels_name": str(name)}
        return {"labels_from": hashlib.sha256(rows.astype("<f8").tobytes()).hexdigest(), **named}

    def _p_y_given_x(self, arrays: xr.Dataset) -> NDArray[np.float64]:
        stored: NDArray[np.float64] = arrays["p_y_given_x"].to_numpy()
        samples, classes = stored.shape
        if isinstance(self.labels, str):
            if self.labels == "stored":
                return stored
            if "y" not in arrays:
                raise ParameterError("labels 'hard' are those of probe/y, which the run lacks; give p(y|x) itself")
            y: NDArray[np.int64] = arrays["y"].to_numpy()
            return np.eye(classes)[y]
        try:
            given = np.asarray(self.labels, np.float64)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"labels must be an array p(y|x) (sample, class) of numbers: {error}") from error
        if given.ndim == 2 and len(given) != samples:
            raise ParameterError(
                f"labels hold p(y|x) of {len(given)} samples but the run has {samples}; give one row for each, in the "
                "order of probe/x"
            )
        return given

    def subject(self, run: xr.DataTree, like: Subject | None = None) -> Subject:
        """Give the activations that are looked at, with their probe; see `information_plane` for what it raises.

        Parameters
        ----------
        run : DataTree
        like : Subject, optional
            Of the same run at other epochs, whose probe is taken: it is read and checked once.
        """
        probe = self.probe(run) if like is None else like.probe
        if not run["epoch"].size:
            raise ParameterError(f"the run {run.name!r} has no committed epoch yet; try again after its first commit")
        _require_joined(run, "activations")
        stored = run["activations"].dataset if "activations" in run.children else xr.Dataset()
        if not stored.data_vars:
            why = f": {run.attrs['not_rebuilt']}" if "not_rebuilt" in run.attrs else ""
            raise ActivationError(
                f"the run {run.name!r} holds no activations (capture level {run.attrs.get('level')!r}), and they "
                f"cannot be rebuilt from its weights{why}; capture it at level full, half or codes"
            )
        places = self.epochs(run)
        if not places:
            raise ParameterError(
                f"no stored epoch of the run {run.name!r} is a multiple of every={self.every}; "
                f"the last one is {run['epoch'].to_numpy()[-1]}"
            )
        some = stored if len(places) == run.sizes["epoch"] else stored.isel(epoch=places)
        return Subject(
            {name: some[name] for name in self._names(stored)},
            probe,
            like.chosen if like is not None else None if self.split == "all" else self._chosen(run),
            None if self.target == "labels" else self._predicted(some),
            None if like is None else like.held,
        )

    def _names(self, stored: xr.Dataset) -> list[str]:
        known = [str(name) for name in stored.attrs.get("layers", stored.data_vars)]
        if self.layers is None:
            return known
        chosen = [self.layers] if isinstance(self.layers, str) else list(self.layers)
        for name in chosen:
            if name not in known:
                raise UnknownNameError("layer", name, known)
        if not chosen or len(set(chosen)) < len(chosen):
            raise ParameterError(f"layers must name one layer or more, each once, but got {chosen}")
        return [name for name in known if name in chosen]

    def _chosen(self, run: xr.DataTree) -> xr.DataArray:
        masks = run["probe"].dataset
        if "train" not in masks:
            raise ParameterError(
                f"the run {run.name!r} does not say on which samples its networks were trained, so split must be "
                f"'all' but got {self.split!r}"
            )
        train = masks["train"].load()
        chosen: xr.DataArray = train if self.split == "train" else ~train
        if not chosen.any("sample").all():
            raise ParameterError(f"the run {run.name!r} has no samples of split {self.split!r}: it trained on all")
        return chosen

    def _predicted(self, stored: xr.Dataset) -> xr.DataArray:
        name = [str(name) for name in stored.attrs.get("layers", stored.data_vars)][-1]
        output = stored[name]
        if output.dtype.kind == "u":
            raise ActivationError(
                "the run stores codes of bins, of which several classes can share the highest, so target 'output' "
                "cannot be told; capture at level full or half"
            )
        if output.sizes[f"{name}_unit"] < 2:
            raise ParameterError(f"target 'output' is the largest of several outputs, but layer {name!r} has one unit")
        # Of NaN it says something too; the estimate of such a cell is NaN all the same.
        predicted: xr.DataArray = output.argmax(f"{name}_unit", skipna=False)
        return predicted


def _require_joined(run: xr.DataTree, group: str) -> None:
    """Refuse a sweep whose runs differ in what is to be analysed."""
    if group in (left_out := run.attrs.get("left_out", {})):
        raise ParameterError(
            f"the runs of sweep {run.name!r} cannot be analysed as one: {left_out[group]}. Ask each of them: "
            "store.ip.sweep(..., of=lambda run: run.ip.information_plane(...))"
        )


def information_plane(
    run: xr.DataTree,
    estimator: str = "binned",
    *,
    layers: Sequence[str] | None = None,
    every: int = 1,
    split: Split = "all",
    target: Target = "labels",
    labels: Labels | ArrayLike = "stored",
    quantities: Sequence[str] | None = None,
    **params: Any,
) -> xr.Dataset:
    """Information of every layer on input and label, for every epoch and seed of a run.

    Nothing but the probe is read before the result is computed, and then only what one Dask task needs at a
    time: memory grows with the chunk, never with the run.

    Parameters
    ----------
    run : xarray.DataTree
        As ``ipstore.open(store, run=name)`` gives it.
    estimator : str
        One of ``ipstore.analysis.estimators.available()``, or ``module:object``.
    layers : sequence of str, optional
        By default all, in the order of the network.
    every : int
        Only epochs that are multiples of this, for estimators that take long.
    split : {"all", "train", "test"}
        Which samples of the probe count, with their weights scaled to sum to one: all; those on which the
        network of each seed was trained; or the others.
    target : {"labels", "output"}
        What Y is. With "output" it is the class that the network itself gives (the largest output): the result
        is I(T;Y) of that and ``H_Y``, its entropy (epoch, seed, layer). The network computes that class from T, so
        what of ``H_Y`` is missing from ``I_TY`` is what an estimator (a binning, say) lost.
    labels : {"stored", "hard"} or (sample, class)
        The p(y|x) to which the result refers: as captured; "hard", where the class on which each input was trained
        (``probe/y``) is certain; or another of the same inputs, row by row. The attributes say then ``labels_from``:
        "hard", or a digest of the array, and ``labels_name`` if it is a DataArray with a name.
    quantities : sequence of str, optional
        Only these, such as ``["I_XT"]``; by default all that the estimator gives.
    **params
        Parameters of the estimator. A list is a grid, ``bins=[10, 30, 100]``, and makes a leading dimension of
        that name. On a run that stores codes of bins they default to the bins that were stored.

    Returns
    -------
    xarray.Dataset
        ``I_XT`` and ``I_TY`` (epoch, seed, layer) in bits, and the other quantities of the estimator, or those of
        them that it gives; lazy. Each says in ``attrs["kind"]`` whether it is exact, a lower or an upper bound, or
        an estimate. A cell with activations that the estimator cannot take, as those of a seed that diverged, is
        NaN. The attributes say where it comes from: estimator, its version and parameters, ``probe``
        "population" or "sample", labels "hard", "soft" or "output", ``I_XY``, ``H_X`` and ``H_Y`` in bits
        (under a split, the mean over seeds), and the run. Computing raises EstimatorError if the estimator
        fails.

    Raises
    ------
    UnknownNameError
        If there is no such estimator or layer.
    ParameterError
        If `run` is not a run or has no epoch yet, a parameter is not allowed or cannot be answered from the codes
        that are stored, or the estimator does not give a quantity; then it says why, and which ones do.
    ActivationError
        If the run stores no activations, or codes where the estimator needs activations.
    """
    chosen: dict[str, Any] = {"layers": layers, "every": every, "split": split, "target": target, "labels": labels}
    return information_planes(run, [(estimator, params)], quantities=quantities, **chosen)[0]


def information_planes(
    run: xr.DataTree,
    asks: Sequence[Ask],
    *,
    layers: Sequence[str] | None = None,
    every: int = 1,
    split: Split = "all",
    target: Target = "labels",
    labels: Labels | ArrayLike = "stored",
    quantities: Sequence[str] | None = None,
) -> list[xr.Dataset]:
    """Information planes under several estimators; computed together, they read the activations once.

    Parameters
    ----------
    run : xarray.DataTree
    asks : sequence of str or (str, mapping)
        ``"binned:bins=10,30"``, as the command line writes it, or name and parameters.
    layers, every, split, target, labels, quantities
        See `information_plane`.

    Returns
    -------
    list of Dataset
        One for each, as `information_plane` gives it. ``dask.compute(*planes)`` computes them together.

    Raises
    ------
    UnknownNameError, ParameterError, ActivationError
    """
    view = View(layers, every, split, target, labels, quantities)
    grids = [expand(*read(ask)) for ask in asks]
    planes = iter(view.planes(run, [question for _, questions in grids for question in questions]))
    return [stack(grid, [next(planes) for _ in questions]) for grid, questions in grids]
