"""Estimates of a run that are kept in it: computed once, continued as the run grows."""

import hashlib
import json
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ipstore.analysis.estimators.registry import get
from ipstore.analysis.labelled import Inquiry
from ipstore.analysis.plane import Labels, Split, Target, View
from ipstore.analysis.questions import About, Ask, Question, expand, read, stack
from ipstore.analysis.scheduling import Cluster, absolute, current_cluster
from ipstore.chunking import TASK_BYTES, TASK_CELLS
from ipstore.errors import EstimatorError, IpstoreError, ParameterError
from ipstore.format import find_run
from ipstore.parts import holders, join_results
from ipstore.places import Location, Place, locate
from ipstore.reader import in_tasks, open_stored
from ipstore.reader import open as open_store
from ipstore.results import ResultWriter, open_result
from ipstore.version import __version__

__all__ = ["NonFiniteWarning", "Outcome", "analyze", "analyze_all", "analyze_view", "ignore", "refused"]

_OFTEN = 5.0
"""Seconds of work between commits, about, where a slab would take longer."""

_IDENTITY = (
    "estimator",
    "estimator_version",
    "parameters",
    "layers",
    "every",
    "split",
    "target",
    "labels_from",
    "about",
)
"""What tells results apart; `labels_from` is absent where the labels are those that were captured, `about` where
information is asked for."""


class NonFiniteWarning(UserWarning):
    """Some activations are NaN or infinite, so that their cells have no estimate."""


class Outcome(NamedTuple):
    """What became of one of the things that were asked.

    Attributes
    ----------
    estimator : str
    result : Dataset or None
        As `analyze` gives it.
    error : IpstoreError or None
        Why there is none.
    """

    estimator: str
    result: xr.Dataset | None
    error: IpstoreError | None

    def get(self) -> xr.Dataset:
        """Give the result, or raise why there is none."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


def ignore(done: int, total: int) -> None:
    """Take no notice of how far an analysis is."""


def analyze(
    store: Location,
    run: str,
    estimator: str = "binned",
    *,
    layers: Sequence[str] | None = None,
    every: int = 1,
    split: Split = "all",
    target: Target = "labels",
    labels: Labels | ArrayLike = "stored",
    name: str | None = None,
    again: bool = False,
    on_progress: Callable[[int, int], None] = ignore,
    **params: Any,
) -> xr.Dataset:
    """Estimate the information plane of a run, and keep it in the run.

    What is stored under the same estimator, version, parameters, layers, epochs, samples and labels is not computed
    again; of a run that has grown, only the new epochs are. They are computed and stored a shard of epochs at a time,
    so memory does not grow with the run, and an analysis that is broken off goes on where it was.

    Parameters
    ----------
    store : path or URL
    run : str
    estimator : str
        See `ipstore.analysis.estimators.available`.
    layers, every, split, target, labels
        See `ipstore.analysis.information_plane`.
    name : str, optional
        Of the result; by default the estimator's with a short digest of all that the result depends on.
    again : bool
        Compute everything anew; what is stored stands until that is done.
    on_progress : callable
        Called with the number of epochs that are stored, and of all.
    **params
        Parameters of the estimator. A list is a grid; each point of it is a result of its own, and what is
        returned has the grid as leading dimensions.

    Returns
    -------
    xarray.Dataset
        Quantities (epoch, seed, layer), lazily read from the run, with their provenance as attributes: estimator,
        version, parameters, units, run and time. Cells whose activations are NaN or infinite are NaN, and a
        `NonFiniteWarning` names them.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, UnknownNameError, ParameterError, ActivationError
    EstimatorError
        If the estimator fails at its work; what was stored until then is kept.
    RunLockedError
        If another process is computing the same result.
    """
    view = View(layers, every, split, target, labels)
    return analyze_view(store, run, [(estimator, params)], view, name, again, on_progress)[0].get()


def analyze_all(
    store: Location,
    run: str,
    asks: Sequence[Ask],
    *,
    layers: Sequence[str] | None = None,
    every: int = 1,
    split: Split = "all",
    target: Target = "labels",
    labels: Labels | ArrayLike = "stored",
    again: bool = False,
    on_progress: Callable[[int, int], None] = ignore,
) -> list[Outcome]:
    """Analyse a run under several estimators, reading its activations once for all of them.

    An estimator that fails does not keep the others from going on; what it had computed is kept too.

    Parameters
    ----------
    store : path or URL
    run : str
    asks : sequence of str or (str, mapping)
        ``"binned:bins=10,30"``, as the command line writes it, or name and parameters.
    layers, every, split, target, labels, again, on_progress
        See `analyze`; progress is that of whatever is least far.

    Returns
    -------
    list of Outcome
        One for each of `asks`.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, CorruptionError
        Of the store and the run.
    UnknownNameError, ParameterError
        If one of `asks` names no estimator, or parameters that it cannot have.
    """
    return analyze_view(store, run, asks, View(layers, every, split, target, labels), None, again, on_progress)


@dataclass(eq=False)
class _Job:
    """A question that is being answered into a result of the run."""

    question: Question
    writer: ResultWriter
    asked: int
    """Epochs that are stored, or on their way."""
    error: IpstoreError | None = None


def analyze_view(
    store: Location,
    run: str,
    asks: Sequence[Ask],
    view: View,
    name: str | None,
    again: bool,
    on_progress: Callable[[int, int], None],
    about: About = "information",
) -> list[Outcome]:
    """Analyse what is looked at of a run; see `analyze_all`."""
    parts = holders(locate(store), run)
    if parts not in ([], [run]):
        return _analyze_parts(store, run, parts, asks, view, name, again, on_progress, about)
    cluster = current_cluster()
    place = find_run(store, run) if cluster is None else absolute(find_run(store, run))
    tree = open_stored(place)
    places = view.epochs(tree)
    first = _first(tree, places)
    view.planes(first, [])  # refuses what no estimator could do anything about
    grids = [(named, *expand(named, params, about)) for named, params in map(read, asks)]
    if name is not None and any(grid for _, grid, _ in grids):
        raise ParameterError(f"a grid is stored as several results, so it cannot have the one name {name!r}")
    jobs: dict[str, _Job] = {}
    found: list[list[str | IpstoreError]] = []  # for each question its result, or why there is none
    with ExitStack() as stacked:
        for _, _, questions in grids:
            found.append([])
            for question in questions:
                try:
                    plane, provenance = _provenance(first, view, question, name)
                    if provenance["name"] not in jobs:
                        writer = _writer(place, tree, plane, provenance, again)
                        stacked.callback(writer.close)
                        jobs[provenance["name"]] = _Job(question, writer, writer.epochs)
                    found[-1].append(provenance["name"])
                except IpstoreError as error:
                    found[-1].append(error)
        if cluster is not None and any(job.asked < len(places) for job in jobs.values()):
            cluster.check(place)
            stacked.callback(cluster.close)
        inquiry = view.inquiry(first, [job.question for job in jobs.values()])
        _compute(tree, places, view, inquiry, list(jobs.values()), cluster, on_progress)
    outcomes = []
    for (named, grid, _), results in zip(grids, found, strict=True):
        errors = [each if isinstance(each, IpstoreError) else jobs[each].error for each in results]
        failure = next((each for each in errors if each is not None), None)
        result = None
        if failure is None:
            result = stack(grid, [open_result(place, each) for each in results if isinstance(each, str)])
            if lost := refused(result):
                warnings.warn(f"run {run!r}: {lost}", NonFiniteWarning, stacklevel=3)
        outcomes.append(Outcome(named, result, failure))
    return outcomes


def _analyze_parts(
    store: Location,
    run: str,
    parts: Sequence[str],
    asks: Sequence[Ask],
    view: View,
    name: str | None,
    again: bool,
    on_progress: Callable[[int, int], None],
    about: About,
) -> list[Outcome]:
    """Analyse each part of a run in parts, into results of its own, and give these as one along ``seed``."""
    open_store(store, run)  # refuses parts that do not fit together, before anything is computed
    found = []
    for place, part in enumerate(parts):

        def tell(done: int, total: int, place: int = place) -> None:
            on_progress(place * total + done, len(parts) * total)

        found.append(analyze_view(store, part, asks, view, name, again, tell, about))
    outcomes = []
    for each in zip(*found, strict=True):
        failure = next((outcome.error for outcome in each if outcome.error is not None), None)
        result = None if failure else join_results(run, [outcome.get() for outcome in each])
        if failure is None and result is None:
            failure = ParameterError(f"the results of {', '.join(parts)} are not of the same: compute them `again`")
        outcomes.append(Outcome(each[0].estimator, result, failure))
    return outcomes


def _provenance(
    tree: xr.DataTree, view: View, question: Question, name: str | None
) -> tuple[xr.Dataset, dict[str, Any]]:
    """Give the answer, lazily, and what it will say of itself."""
    try:
        (plane,) = view.planes(tree, [question])
    except IpstoreError:
        raise
    except Exception as error:
        raise EstimatorError(question.name, 0, "its parameters", f"{type(error).__name__}: {error}") from error
    provenance = {
        **plane.attrs,
        "layers": [str(layer) for layer in plane["layer"].values],
        "ipstore_version": __version__,
        "run_created_at": tree.attrs["created_at"],
    }
    provenance["name"] = name or _result_name(provenance)
    return plane, provenance


def _writer(
    place: Place,
    tree: xr.DataTree,
    plane: xr.Dataset,
    provenance: Mapping[str, Any],
    anew: bool,
) -> ResultWriter:
    growing = {str(name): array.attrs for name, array in plane.data_vars.items() if "epoch" in array.dims}
    static = {str(name): array for name, array in plane.data_vars.items() if "epoch" not in array.dims}
    seeds = [int(seed) for seed in tree["seed"].to_numpy()]
    identity = (*_IDENTITY, "run_created_at")
    layers = provenance["layers"]
    name = provenance["name"]
    return ResultWriter(place, name, growing, seeds, layers, provenance, identity, static=static, anew=anew)


def _compute(
    tree: xr.DataTree,
    places: Sequence[int],
    view: View,
    inquiry: Inquiry,
    jobs: Sequence[_Job],
    cluster: Cluster | None,
    on_progress: Callable[[int, int], None],
) -> None:
    """Bring every job to the end of the run, a slab of epochs at a time, those that are equally far together.

    In this process one slab is computed at a time, of a shard at most; a cluster is given larger ones, and the next
    while this one is under way, so that its workers need not wait until it is stored.
    """
    like, cells = inquiry.subject, TASK_CELLS
    if cluster is not None:
        like, cells = replace(like, held=cluster.hold(like.arguments)), cluster.task_cells
    total, step = len(places), _slab(tree)
    most = step if cluster is None else step * cluster.threads
    few = 1  # an estimator that takes long is stored often, so that little is lost when it is broken off
    under_way: deque[_Slab] = deque()
    began = time.monotonic()
    while alive := [number for number, job in enumerate(jobs) if job.error is None]:
        done = min(jobs[number].writer.epochs for number in alive)
        on_progress(done, total)
        if done >= total:
            break
        while (start := min(jobs[number].asked for number in alive)) < total and (
            not under_way
            or (cluster is not None and cluster.has_room(sum(slab.tasks for slab in islice(under_way, 1, None))))
        ):
            ahead = [jobs[number].asked for number in alive if jobs[number].asked > start]
            stop = min([total, _aligned(start, start + few, step), *ahead])
            together = [number for number in alive if jobs[number].asked == start]
            # A graph of just these epochs: Dask's work on it grows with it, and the whole run's is large.
            part = inquiry.part(view.subject(_at(tree, places[start:stop], cells), like), together)
            answers = part.answers()
            tasks = sum(array.data.npartitions for array in answers.data_vars.values())
            result = answers.compute if cluster is None else cluster.start(answers)
            under_way.append(_Slab([jobs[number] for number in together], stop - start, part, tasks, result))
            for number in together:
                jobs[number].asked = stop
        slab = under_way.popleft()
        try:
            planes = slab.inquiry.planes(slab.result())
        except EstimatorError as error:
            slab.jobs[error.question].error = error
            under_way.clear()
            if cluster is not None:
                cluster.drop()
            for job in jobs:
                job.asked = job.writer.epochs
            continue
        for job, plane in zip(slab.jobs, planes, strict=True):
            job.writer.append(plane)
        took = time.monotonic() - began
        began += took
        few = max(1, min(most, 8 * slab.epochs, int(slab.epochs * _OFTEN / max(took, 1e-3))))
    for job in jobs:
        if job.error is None:
            try:
                job.writer.finish()
            except IpstoreError as error:
                job.error = error


def _aligned(start: int, stop: int, step: int) -> int:
    """Stop at the last boundary of a shard before, if there is one, so that no shard is read twice."""
    return max(stop // step * step, min(stop, start // step * step + step))


class _Slab(NamedTuple):
    """Some epochs of a run, being answered.

    Attributes
    ----------
    jobs : list of _Job
        Those that have been answered up to there.
    epochs : int
        How many.
    inquiry : Inquiry
        Of their questions.
    tasks : int
        Into how many Dask tasks it is divided.
    result : callable
        Waits for the answers.
    """

    jobs: list[_Job]
    epochs: int
    inquiry: Inquiry
    tasks: int
    result: Callable[[], xr.Dataset]


def _slab(tree: xr.DataTree) -> int:
    """Epochs that are computed at a time."""
    sizes = [array.chunksizes.get("epoch", (1,)) for array in in_tasks(tree)["activations"].data_vars.values()]
    return max(max(each) for each in sizes)


def _first(run: xr.DataTree, places: Sequence[int]) -> xr.DataTree:
    """Take the first epoch that is looked at, with the probe in memory but for inputs, which no estimator takes."""
    if not places:
        return in_tasks(run)
    first = _at(run, places[:1])
    probe = run.children["probe"].to_dataset(inherit=False).drop_vars("x", errors="ignore")
    first["probe"] = xr.DataTree(probe.load(scheduler="threads"))
    return first


def _at(run: xr.DataTree, places: Sequence[int], cells: int = TASK_CELLS) -> xr.DataTree:
    """Take the activations of a run at some of its epochs, as Dask arrays of so many (epoch, seed) cells a task.

    They are cut before they become Dask arrays, of which a slice would have a task of its own. Their names are new each
    time: a cluster may still hold what became of others of the same name, before a run was mended.
    """
    rebuilt = "activations" not in run.children  # from all the rest
    groups = {f"/{name}": node for name, node in run.children.items() if rebuilt or name == "activations"}
    gapless = places[-1] - places[0] == len(places) - 1
    some = slice(places[0], places[-1] + 1) if gapless else list(places)
    slab = {}
    for path, node in {"/": run, **groups}.items():
        kept = node.to_dataset(inherit=False)
        slab[path] = kept.isel(epoch=some) if "epoch" in kept.dims else kept
    if "/activations" in slab:
        slab["/activations"] = slab["/activations"].map(lambda array: _in_tasks(array, cells), keep_attrs=True)
    return in_tasks(xr.DataTree.from_dict(slab, name=run.name))


def _in_tasks(array: xr.DataArray, cells: int) -> xr.DataArray:
    if array.chunks is not None:
        return array
    epochs = array.sizes["epoch"]
    fitting = TASK_BYTES // (array.dtype.itemsize * array.size // array.sizes["seed"])
    seeds = max(1, min(-(-cells // epochs), fitting))
    made = array.variable.chunk({"epoch": epochs, "seed": seeds}, name=f"{array.name}-{uuid4().hex}")
    return array.copy(data=made.data)


def _result_name(provenance: Mapping[str, Any]) -> str:
    identity = json.dumps([provenance[key] for key in _IDENTITY if key in provenance], sort_keys=True)
    about = f"{provenance['about']}-" if "about" in provenance else ""
    return f"{about}{provenance['estimator'].replace(':', '.')}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def refused(plane: xr.Dataset) -> str | None:
    """Say which cells of a plane the estimator refused, because their activations are NaN or infinite.

    Parameters
    ----------
    plane : Dataset
        Quantities (..., epoch, seed, layer); may be lazy.

    Returns
    -------
    str or None
        Names layer, epoch and seed of the first of each layer, and how many more there are; None if there are none.
    """
    mark = next(each.name for each in get(plane.attrs["estimator"]).quantities if each.name in plane)
    lost = plane[mark].isnull()
    lost = lost.any([dim for dim in lost.dims if dim not in ("epoch", "seed", "layer")]).compute(scheduler="threads")
    told = []
    for layer in lost["layer"].values:
        cells = np.argwhere(lost.sel(layer=layer).transpose("epoch", "seed").values)
        if len(cells):
            epoch, seed = lost["epoch"].values[cells[0][0]], lost["seed"].values[cells[0][1]]
            more = f" (and {len(cells) - 1} more)" if len(cells) > 1 else ""
            told.append(f"layer {str(layer)!r} at epoch {epoch}, seed {seed}{more}")
    if not told:
        return None
    return (
        f"NaN or infinite activations in {'; '.join(told)}: {plane.attrs['estimator']} has no estimate there; all "
        "other cells are stored"
    )
