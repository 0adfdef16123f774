"""Experiments carried out in a store: what is missing of them, what that will cost, and its capture."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ipstore.errors import ParameterError
from ipstore.levels import Level
from ipstore.places import DOCUMENT, Location, Place, locate
from ipstore.reader import RunInfo, run_info
from ipstore.trainers import tasks
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.experiments import Experiment

__all__ = ["Cost", "carry_out", "cost", "missing"]

LEVEL: Level = "weights"
"""Activations are rebuilt from weights, bit for bit on the same machine: a run is a few MB, and any estimator can be
asked."""

_START = 3.0
"""Seconds, about, until the processes of a run have imported PyTorch and trained their first epoch."""

_SLICE = 0.2
"""Seconds for which the training of each run is timed."""


def missing(store: Location, experiment: Experiment) -> list[str]:
    """Name the runs of an experiment that are not complete in a store; PyTorch is not needed.

    Raises
    ------
    ParameterError
        If the store holds a run of that name that was captured otherwise.
    """
    return _missing(experiment, _begun(locate(store), experiment))


def _missing(experiment: Experiment, begun: Mapping[str, RunInfo]) -> list[str]:
    return [run for run in experiment.runs if run not in begun or begun[run].status != "finished"]


def _begun(store: Place, experiment: Experiment) -> dict[str, RunInfo]:
    infos = {run: run_info(store / run) for run in experiment.runs if (store / run).exists(DOCUMENT)}
    for run, info in infos.items():
        expected = _described(experiment, experiment.runs[run])
        stored = {name: info.attrs["config"].get(name) for name in expected if name in info.attrs["config"]}
        stored |= {name: info.attrs.get(name) for name in ("task", "task_params", "level")}
        stored["seeds"] = len(info.attrs["seeds"])
        if differing := [name for name in expected if stored.get(name) != expected[name]]:
            raise ParameterError(
                f"the run {run!r} in {str(store)!r} was captured otherwise: "
                + "; ".join(f"{name} is {stored.get(name)!r} where {expected[name]!r} is wanted" for name in differing)
                + ". Name another store for this form of the reproduction, or remove that run"
            )
    return infos


def _described(experiment: Experiment, config: TrainConfig) -> dict[str, Any]:
    name, params = experiment.task
    return {
        **config.to_dict(),
        "log_spaced": experiment.captured,
        "task": name,
        "task_params": dict(params),
        "level": LEVEL,
        "seeds": experiment.seeds,
    }


@dataclass(frozen=True)
class Cost:
    """What is left to capture.

    Attributes
    ----------
    runs, networks : int
    epochs : int
        Summed over networks.
    cells : int
        Epochs that will be captured, summed over networks.
    seconds : float
        About, on this machine, by training each network for a moment.
    stored_bytes : int
        On the disk, about.
    """

    runs: int
    networks: int
    epochs: int
    cells: int
    seconds: float
    stored_bytes: int


def cost(store: Location, wanted: Iterable[Experiment], processes: int | None = None) -> Cost:
    """Say what the capture of some experiments will cost; a moment of each training is timed.

    Parameters
    ----------
    store : path or URL
    wanted : iterable of Experiment
    processes : int, optional
        See `ipstore.trainers.capture`.

    Returns
    -------
    Cost
    """
    from ipstore.trainers.streaming import plan_run, planned_epochs, worker_count

    place = locate(store)
    runs = networks = epochs = cells = stored = 0
    seconds = 0.0
    for experiment in wanted:
        begun = _begun(place, experiment)
        left = _missing(experiment, begun)
        if not left:
            continue
        task = tasks.load(experiment.task[0], **experiment.task[1])
        workers = max(1, worker_count(processes, experiment.seeds, "cpu"))
        share = math.ceil(experiment.seeds / workers)
        for run in left:
            config = experiment.runs[run]
            done = begun[run].attrs["commit"].get("last_epoch", 0) if run in begun else 0
            plan = plan_run(task, config, range(experiment.seeds), LEVEL, log_spaced=experiment.captured)
            seconds += _START + (config.epochs - done) * _epoch_seconds(task, config, share)
            captured = len(planned_epochs(plan))
            stored += plan.stored_bytes(captured)
            cells += captured * experiment.seeds
            epochs += (config.epochs - done) * experiment.seeds
            networks += experiment.seeds
            runs += 1
    return Cost(runs, networks, epochs, cells, seconds, stored)


def _epoch_seconds(task: tasks.Task, config: TrainConfig, seeds: int) -> float:
    """Time an epoch of so many networks together."""
    from ipstore.trainers.ensemble import Ensemble

    ensemble = Ensemble(task, config, range(seeds))
    ensemble.train_epoch()
    begun, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < _SLICE:
        ensemble.train_epoch()
        count += 1
    return passed / count


def carry_out(
    store: Location,
    experiment: Experiment,
    *,
    processes: int | None = None,
    device: str = "cpu",
    on_progress: Callable[[str, int, int], None],
) -> None:
    """Capture what is missing of an experiment; nothing, if it is complete.

    Parameters
    ----------
    store : path or URL
        Made if there is none.
    experiment : Experiment
    processes, device
        See `ipstore.trainers.capture`.
    on_progress : callable
        Told which run is captured, and how many of how many epochs are.

    Raises
    ------
    ParameterError
        If the store holds a run of that name that was captured otherwise.
    KeyboardInterrupt
        After Ctrl-C, when what is whole is committed; calling it again continues.
    """
    from ipstore.trainers.streaming import Progress, capture, resume
    from ipstore.trainers.sweeps import SweepProgress, capture_sweep, resume_sweep

    place = locate(store)
    begun = _begun(place, experiment)
    if not _missing(experiment, begun):
        return

    def tell(progress: Progress | SweepProgress) -> None:
        run = progress.run if isinstance(progress, SweepProgress) else experiment.name
        on_progress(run, progress.captured, progress.total)

    how: dict[str, Any] = {"processes": processes, "device": device, "on_progress": tell}
    if begun:
        (resume_sweep if experiment.axes else resume)(place, experiment.name, **how)
        return
    name, params = experiment.task
    task = tasks.load(name, **params)
    how |= {"seeds": range(experiment.seeds), "level": LEVEL, "log_spaced": experiment.captured}
    if experiment.axes:
        capture_sweep(task, place, experiment.name, experiment.axes, experiment.config, **how)
    else:
        capture(task, place, experiment.name, experiment.config, **how)
