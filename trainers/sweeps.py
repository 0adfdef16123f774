"""Sweeps: a task captured at every combination of some settings, each as a run of one store, resumable as a whole."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ipstore.binning import Binning
from ipstore.errors import ParameterError, ResumeError, RunExistsError, RunLockedError, SpaceError, UnknownNameError
from ipstore.format import check_store, make_store
from ipstore.group import remove_group
from ipstore.levels import LEVELS, check_level
from ipstore.places import DOCUMENT, Location, Place, locate
from ipstore.plan import RunPlan
from ipstore.reader import RunInfo, open_published, run_info
from ipstore.sweeps import Sweep, Value, sweep_of
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.courses import Course, SweepProgress
from ipstore.trainers.streaming import (
    plan_run,
    planned_epochs,
    stored_config,
    stored_task,
    worker_count,
)
from ipstore.trainers.tasks.base import Task

__all__ = ["AXES", "SweepProgress", "capture_sweep", "plan_sweep", "resume_sweep", "sweep_runs"]

AXES = tuple(field.name for field in fields(TrainConfig) if field.name != "epochs")
"""Settings that a sweep can vary, in the order in which they stand in the names of its runs."""


def _ignore(progress: SweepProgress) -> None:
    pass


def plan_sweep(
    task: Task,
    name: str,
    axes: Mapping[str, Sequence[Any]],
    config: TrainConfig | None = None,
    *,
    seeds: Sequence[int] = range(20),
    level: str = "full",
    binning: Binning | None = None,
    every: int = 1,
    log_spaced: int | None = None,
    shard_epochs: int | None = None,
) -> dict[str, RunPlan]:
    """Say what a sweep will write, before anything is written; its parameters are those of `capture_sweep`.

    Returns
    -------
    dict of str to RunPlan
        The plan of each run, by its name, in the order in which they are captured.
    """
    base = config or TrainConfig()
    for axis, values in axes.items():
        if axis not in AXES:
            raise UnknownNameError("axis of a sweep", axis, AXES)
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ParameterError(f"axis {axis!r} lists its values, such as {axis}=[...], but got {values!r}")
    sweep = Sweep(
        name,
        {
            axis: tuple(getattr(replace(base, **{axis: value}), axis) for value in axes[axis])
            for axis in AXES
            if axis in axes
        },
        binning,
        shard_epochs,
    )
    schedule = {"every": every, "log_spaced": log_spaced}
    return _plans(task, sweep, base, seeds, level, schedule)


def _plans(
    task: Task, sweep: Sweep, base: TrainConfig, seeds: Sequence[int], level: str, schedule: Mapping[str, Any]
) -> dict[str, RunPlan]:
    plans = {}
    for run, at in sweep.runs().items():
        plan = plan_run(
            task,
            _config(base, at),
            seeds,
            check_level(level),
            binning=sweep.binning,
            shard_epochs=sweep.shard_epochs,
            **schedule,
        )
        plans[run] = replace(plan, attrs={**plan.attrs, "sweep": sweep.to_attrs(at)})
    return plans


def _config(base: TrainConfig, at: Mapping[str, Value], epochs: int | None = None) -> TrainConfig:
    settings: dict[str, Any] = {**at, "epochs": base.epochs if epochs is None else epochs}
    return replace(base, **settings)


def capture_sweep(
    task: Task,
    store: Location,
    name: str,
    axes: Mapping[str, Sequence[Any]],
    config: TrainConfig | None = None,
    *,
    seeds: Sequence[int] = range(20),
    level: str = "full",
    binning: Binning | None = None,
    every: int = 1,
    log_spaced: int | None = None,
    processes: int | None = None,
    device: str = "cpu",
    shard_epochs: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[SweepProgress], None] = _ignore,
) -> list[str]:
    """Capture a task at every combination of some settings, each as a run of its own.

    A run is named ``<name>-<axis>=<value>-...`` and is bit for bit the run that `ipstore.trainers.capture` would make
    with these settings. What stops a sweep costs at most what was not committed of one run: `resume_sweep` goes on.

    Parameters
    ----------
    task : Task
    store : path or URL
    name : str
        Of the sweep.
    axes : mapping of str to sequence
        The values of each setting that varies: any parameter of `TrainConfig` but ``epochs``, one or more.
    config : TrainConfig, optional
        All other settings.
    seeds, level, binning, every, log_spaced, processes, device, shard_epochs
        Of every run; see `ipstore.trainers.capture`.
    overwrite : bool
        Replace the sweep of that name: all its runs are removed before the first one is trained.
    on_progress : callable
        Told a `SweepProgress` as the capture goes on.

    Returns
    -------
    list of str
        Names of the runs, in the order in which they were captured: the last axis changes fastest.

    Raises
    ------
    ParameterError, UnknownNameError, RunExistsError, RunLockedError, SpaceError, NotAStoreError, FormatVersionError
        Before anything is trained.
    StoreWriteError, WorkerError, KeyboardInterrupt
        While training, as in `ipstore.trainers.capture`; `resume_sweep` continues.
    """
    config = config or TrainConfig()
    plans = plan_sweep(
        task,
        name,
        axes,
        config,
        seeds=seeds,
        level=level,
        binning=binning,
        every=every,
        log_spaced=log_spaced,
        shard_epochs=shard_epochs,
    )
    worker_count(processes, len(seeds), device)
    place = locate(store)
    make_store(place)
    replaced = _standing(place, name, plans)
    if replaced and not overwrite:
        raise RunExistsError(
            f"{len(replaced)} runs of sweep {name!r} exist already in {str(store)!r} (such as {replaced[0]!r}): "
            "continue it with --resume, replace it with --overwrite, or choose another name"
        )
    freed = {run: sum((place / run).sizes().values()) for run in replaced}
    _require_space(place, plans, {}, sum(freed.values()))
    for run in replaced:
        if (place / run).is_leased():
            raise RunLockedError(f"run {run!r} of sweep {name!r} is being written by another process; wait for its end")
    for run in replaced:
        remove_group(place / run)
    Course(place, plans, {}, processes, device, on_progress).go(task)
    return list(plans)


def _standing(store: Place, name: str, runs: Iterable[str]) -> list[str]:
    """Name what a sweep would replace; refuse a name that a run has."""
    if (store / name).exists(DOCUMENT):
        raise RunExistsError(f"a run {name!r} exists already in {str(store)!r}: choose another name for the sweep")
    groups = set(store.groups())
    return sorted({*(run for run in runs if run in groups), *sweep_runs(store, name)})


def sweep_runs(store: Location, name: str) -> dict[str, RunInfo]:
    """Describe the runs of a sweep that have been begun.

    Parameters
    ----------
    store : path or URL
    name : str
        Of the sweep.

    Returns
    -------
    dict of str to RunInfo
        By name; empty if there is no such sweep.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    place = locate(store)
    check_store(place)
    infos = [run_info(place / run) for run in place.groups() if run.startswith(f"{name}-")]
    found = {info.name: sweep_of(info.name, info.attrs) for info in infos}
    return {info.name: info for info in infos if (of := found[info.name]) and of[0].name == name}


def resume_sweep(
    store: Location,
    name: str,
    *,
    epochs: int | None = None,
    processes: int | None = None,
    device: str = "cpu",
    on_progress: Callable[[SweepProgress], None] = _ignore,
) -> list[str]:
    """Continue a sweep: the runs that were broken off from their last commit, and those not begun from the start.

    All that decides the result is read from the runs that are there; nothing that is named there is imported.

    Parameters
    ----------
    store : path or URL
    name : str
        Of the sweep.
    epochs : int, optional
        Epochs to train in all, of every run; by default as many as the furthest of them is to reach. More extends the
        runs that are complete.
    processes, device, on_progress
        See `capture_sweep`.

    Returns
    -------
    list of str
        Names of all runs of the sweep.

    Raises
    ------
    UnknownNameError
        If the store has no run of such a sweep.
    ResumeError
        If runs of the sweep do not belong together, or one is stored to more epochs than are asked for.
    StoreNotFoundError, NotAStoreError, FormatVersionError, RunLockedError, CorruptionError, SpaceError
        Before anything is trained.
    StoreWriteError, WorkerError, KeyboardInterrupt
        See `capture_sweep`.
    """
    place = locate(store)
    begun = sweep_runs(place, name)
    if not begun:
        named = [sweep_of(run, run_info(place / run).attrs) for run in place.groups()]
        raise UnknownNameError("sweep", name, {of[0].name for of in named if of})
    first = open_published(place / next(iter(begun)))
    sweep, base, schedule = _read(place, name, begun)
    base = replace(base, epochs=epochs) if epochs is not None else base
    for run, info in begun.items():
        if (reached := info.attrs["commit"].get("last_epoch", 0)) > base.epochs:
            raise ResumeError(
                f"run {run!r} is stored to epoch {reached}, so sweep {name!r} cannot end at {base.epochs}: ask for "
                f"{reached} epochs or more"
            )
    task = stored_task(first)
    plans = _plans(task, sweep, base, first.attrs["seeds"], first.attrs["level"], schedule)
    worker_count(processes, len(first.attrs["seeds"]), device)
    _require_space(place, plans, {run: info.stored_bytes for run, info in begun.items()}, 0)
    Course(place, plans, begun, processes, device, on_progress).go(task)
    return list(plans)


def _read(store: Place, name: str, begun: Mapping[str, RunInfo]) -> tuple[Sweep, TrainConfig, dict[str, Any]]:
    """Read what the runs of a sweep have in common: the sweep, its settings but those that vary, and its schedule.

    The epochs are those that the furthest of them is to reach.
    """
    common: dict[str, Any] = {}
    read = []
    for run, info in begun.items():
        of = sweep_of(run, info.attrs)
        assert of is not None
        sweep, at = of
        if unknown := sweep.axes.keys() - set(AXES):
            raise ResumeError(f"sweep {name!r} varies {', '.join(sorted(unknown))}, which this version cannot capture")
        config, schedule = stored_config(store / run, info.attrs.get("config", {}))
        if config != _config(config, at):
            raise ResumeError(f"run {run!r} of sweep {name!r} was trained with other settings than its name says")
        read.append((sweep, config, schedule))
        settings = {key: value for key, value in config.to_dict().items() if key not in (*sweep.axes, "epochs")}
        told = {
            "sweep": {key: value for key, value in sweep.to_attrs(at).items() if key != "at"},
            **{key: info.attrs.get(key) for key in ("task", "task_params", "probe", "level", "seeds")},
            **settings,
            **schedule,
        }
        for key, value in told.items():
            if common.setdefault(key, (run, value))[1] != value:
                other, theirs = common[key]
                raise ResumeError(
                    f"the runs of sweep {name!r} do not belong together: {key} is {theirs!r} in {other!r} and "
                    f"{value!r} in {run!r}. Continue each by its own name, or replace the sweep with --overwrite"
                )
    sweep, config, schedule = read[0]
    return sweep, replace(config, epochs=max(config.epochs for _, config, _ in read)), schedule


def _require_space(store: Place, plans: Mapping[str, RunPlan], held: Mapping[str, int], freed: int) -> None:
    """Refuse a sweep that would not fit.

    Parameters
    ----------
    store : Place
    plans : mapping of str to RunPlan
    held : mapping of str to int
        Bytes that runs take already.
    freed : int
        Bytes of what will be replaced.
    """
    room = store.free_bytes()
    if room is None:
        return
    free = room + freed

    def needed(level: Any = None) -> int:
        sized = {run: plan if level is None else replace(plan, level=level) for run, plan in plans.items()}
        sizes = {run: plan.stored_bytes(len(planned_epochs(plan))) for run, plan in sized.items()}
        return sum(max(0, size - held.get(run, 0)) for run, size in sizes.items())

    if (takes := needed()) <= free:
        return
    level = next(iter(plans.values())).level
    usable = [each for each in LEVELS if each != "codes" or all(plan.binning for plan in plans.values())]
    fitting = None if held else next((each for each in usable if needed(each) <= free), None)
    if fitting:
        advice = f"level {fitting!r} would take {needed(fitting) / 1e9:,.2f} GB"
    else:
        advice = "make room, then go on" if held else "no level would fit: capture fewer epochs, seeds or combinations"
    raise SpaceError(
        f"{len(plans)} runs at level {level!r} take about {takes / 1e9:,.2f} GB{' more' if held else ''}, and "
        f"{free / 1e9:,.2f} GB are free; {advice}"
    )
