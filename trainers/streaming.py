"""Train an ensemble and stream it into a store: the whole of a capture."""

import os
import queue
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from ipstore.binning import Binning
from ipstore.block import Block, block_bytes
from ipstore.errors import (
    CorruptionError,
    ParameterError,
    ResumeError,
    RunExistsError,
    StoreWriteError,
    UnknownNameError,
)
from ipstore.levels import Level, check_level
from ipstore.parts import part_name
from ipstore.places import DOCUMENT, Location, Place, locate
from ipstore.plan import RunPlan
from ipstore.reader import open_published, open_run
from ipstore.schema import StaticArray, check_name
from ipstore.trainers.backend import Backend
from ipstore.trainers.blocks import captured_epochs
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.interrupts import Interrupts
from ipstore.trainers.processes import Job, share_out, worker_blocks
from ipstore.trainers.provenance import probe_arrays, task_attrs
from ipstore.trainers.tasks.base import Task
from ipstore.writer import BackgroundWriter, RunWriter

__all__ = [
    "DivergedWarning",
    "Progress",
    "begin",
    "capture",
    "drive",
    "plan_run",
    "planned_epochs",
    "resume",
    "stored_config",
    "stored_task",
    "worker_count",
]

_MOST_CAPTURED = 2**24
_BOUNDED = {"tanh": (-1.0, 1.0), "hard_tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
"""Ranges of activations; the softmax output lies in [0, 1] and shares the bins of the others, as in the paper."""


class DivergedWarning(UserWarning):
    """Seeds whose loss became infinite or NaN; they are kept, and named in the run's attribute ``diverged``."""


@dataclass(frozen=True)
class Progress:
    """How far a capture is.

    Attributes
    ----------
    captured, total : int
        Epochs captured by the slowest seed, and to be captured.
    committed : int
        Epochs committed.
    """

    captured: int
    total: int
    committed: int


def _ignore(progress: Progress) -> None:
    pass


def plan_run(
    task: Task,
    config: TrainConfig,
    seeds: Sequence[int],
    level: Level = "full",
    *,
    binning: Binning | None = None,
    every: int = 1,
    log_spaced: int | None = None,
    shard_epochs: int | None = None,
) -> RunPlan:
    """Say what a capture will write, before anything is written; its parameters are those of `capture`.

    Returns
    -------
    RunPlan
    """
    if binning is None and config.activation in _BOUNDED:
        binning = Binning(range=_BOUNDED[config.activation])
    if level == "codes" and binning is None:
        raise ParameterError(
            f"{config.activation} activations have no bound, so level 'codes' needs a binning: give bins and a range, "
            "or capture at level 'full', 'half' or 'weights'"
        )
    widths = [task.x.shape[1], *config.hidden, task.p_y_given_x.shape[1]]
    names = [*(f"layer{place}" for place in range(1, len(widths) - 1)), "output"]
    schedule = {"every": every, "log_spaced": log_spaced}
    attrs = {
        **task_attrs(task),
        "model": {"kind": "mlp", "widths": widths, "activation": config.activation, "output": "softmax"},
        "config": {**config.to_dict(), **schedule},
    }
    masks = [task.split(int(seed), config.train_fraction) for seed in seeds]
    train = np.array(masks, np.bool_).reshape(len(seeds), len(task.x))
    return RunPlan(
        layers=dict(zip(names, widths[1:], strict=True)),
        parameters={name: (i + 1) * o for name, i, o in zip(names, widths[:-1], widths[1:], strict=True)},
        seeds=[int(seed) for seed in seeds],
        probe=[*probe_arrays(task), StaticArray("probe/train", ("seed", "sample"), train)],
        attrs=attrs,
        level=level,
        binning=binning,
        shard=shard_epochs,
    )


def capture(
    task: Task,
    store: Location,
    run: str,
    config: TrainConfig | None = None,
    *,
    seeds: Sequence[int] = range(20),
    part: str | None = None,
    level: str = "full",
    binning: Binning | None = None,
    every: int = 1,
    log_spaced: int | None = None,
    processes: int | None = None,
    device: str = "cpu",
    shard_epochs: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = _ignore,
) -> xr.DataTree:
    """Train one network per seed and stream its activations into a store, epoch by epoch.

    Parameters
    ----------
    task : Task
        As `ipstore.trainers.tasks.load` gives it.
    store : path or URL
        Made if there is none; see `ipstore.places.locate`.
    run : str
        Name of the run.
    config : TrainConfig, optional
    seeds : sequence of int
        One network each; a seed decides initialisation, train subset and batch order, whatever the other seeds.
    part : str, optional
        Write part ``a`` of the run ``big``, whose other seeds are trained elsewhere, as the run ``big+a``.
        ``ipstore.open(store, run="big")`` presents all parts in a store as one, `ipstore.merge` makes them one.
    level : {"full", "half", "codes", "weights"}
        How much of the activations is kept: float32, float16, the bin of each value, or parameters only.
    binning : Binning, optional
        The rule of the codes; by default 30 equal bins over the activation's range, where it has one.
    every : int
        Capture every so many epochs. Epoch 0 (before training) and the last are always captured.
    log_spaced : int, optional
        Capture about so many epochs, evenly spaced on a logarithmic scale, instead.
    processes : int, optional
        Processes to share the seeds out over, while this one writes; by default the cores. 0 trains here, beside a
        thread that writes: the way on a GPU, simpler, and slower for networks this small. The results are the same.
    device : str
        "cpu" or "cuda".
    shard_epochs : int, optional
        Captured epochs in one file, and so between two commits; by default as many as 256 MB hold, at most 64.
    overwrite : bool
        Replace a run of that name.
    on_progress : callable
        Told a `Progress` as the capture goes on.

    Returns
    -------
    xarray.DataTree
        The run, as `ipstore.open` gives it.

    Raises
    ------
    ParameterError, UnknownNameError, RunExistsError, RunLockedError, SpaceError, NotAStoreError, FormatVersionError
        Before anything is trained.
    StoreWriteError, WorkerError
        While training; the run stands at its last commit and can be continued with `resume`.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, when every seed has reached the same epoch and that is committed.
    """
    config = config or TrainConfig()
    plan = plan_run(
        task,
        config,
        seeds,
        check_level(level),
        binning=binning,
        every=every,
        log_spaced=log_spaced,
        shard_epochs=shard_epochs,
    )
    if part is not None:
        if (locate(store) / check_name("run", run)).exists(DOCUMENT):
            raise RunExistsError(f"run {run!r} exists already in {str(store)!r}, whole: give its parts another name")
        plan, run = replace(plan, attrs={**plan.attrs, "part_of": run}), part_name(run, part)
    writer, job, count = begin(task, store, run, config, plan, processes, device, overwrite=overwrite)
    return drive(writer, job, count, on_progress)


def begin(
    task: Task,
    store: Location,
    run: str,
    config: TrainConfig,
    plan: RunPlan,
    processes: int | None,
    device: str,
    *,
    overwrite: bool = False,
) -> tuple[RunWriter, Job, int]:
    """Create the run of a plan that `plan_run` made of this task and configuration; see `capture`.

    Returns
    -------
    (RunWriter, Job, int)
        What `drive` takes; the last is the number of processes.
    """
    count = worker_count(processes, len(plan.seeds), device)
    epochs = planned_epochs(plan)
    writer = RunWriter.create(store, run, plan, len(epochs), overwrite=overwrite)
    return writer, _job(task, config, plan, epochs, 0, {}, device), count


def planned_epochs(plan: RunPlan) -> list[int]:
    """Give the epochs at which a run of this plan is captured."""
    config = plan.attrs["config"]
    return captured_epochs(config["epochs"], config["every"], config["log_spaced"])


def resume(
    store: Location,
    run: str,
    *,
    epochs: int | None = None,
    processes: int | None = None,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] = _ignore,
) -> xr.DataTree:
    """Continue a run from its last commit, bit for bit as if it had never stopped.

    All that decides the result is read from the run; nothing that is named there is imported.

    Parameters
    ----------
    store : path or URL
    run : str
        A part is named as it is stored, ``"big+a"``.
    epochs : int, optional
        Epochs to train in all; by default what the run was to reach. More extends a finished run.
    processes, device, on_progress
        See `capture`.

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, RunLockedError, CorruptionError
        If there is no such run, it is being written, or its resume state is damaged.
    ResumeError
        If fewer epochs are asked for than are stored.
    StoreWriteError, WorkerError, KeyboardInterrupt
        See `capture`.
    """
    writer = RunWriter.resume(store, run)
    try:
        job = _stored_job(writer, epochs, device)
        count = worker_count(processes, len(job.seeds), device)
    except BaseException:
        writer.close()
        raise
    return drive(writer, job, count, on_progress)


def _stored_job(writer: RunWriter, epochs: int | None, device: str) -> Job:
    """Make the job that continues a stored run."""
    attrs = writer.attrs
    if attrs.get("model", {}).get("kind") == "module":
        raise ResumeError(
            f"run {writer.place.name!r} was recorded in a training of somebody's own, which alone can go on: there, "
            "Recorder(..., resume=True)"
        )
    stored = open_published(writer.place)
    config, schedule = stored_config(writer.place, attrs.get("config", {}))
    if epochs is not None:
        config = replace(config, epochs=epochs)
    before = [int(epoch) for epoch in stored["epoch"]] if writer.epochs else []
    if before and config.epochs < before[-1]:
        raise ResumeError(
            f"run {writer.place.name!r} is stored to epoch {before[-1]}, so it cannot end at {config.epochs}: ask for "
            f"{before[-1]} epochs or more"
        )
    attrs["config"] = {**config.to_dict(), **schedule}
    attrs["status"] = "running"
    task = stored_task(stored)
    binning = attrs.get("binning")
    plan = plan_run(
        task,
        config,
        attrs["seeds"],
        attrs["level"],
        binning=Binning.from_attrs(binning) if binning else None,
        shard_epochs=writer.shard_epochs,
        **schedule,
    )
    _require_same(writer.place, plan, stored)
    after = [epoch for epoch in captured_epochs(config.epochs, **schedule) if not before or epoch > before[-1]]
    state = writer.state()
    if before and not state:
        raise ResumeError(f"run {writer.place.name!r} kept no state to continue from")
    return _job(task, config, plan, before + after, len(before), state, device)


def stored_task(run: xr.DataTree) -> Task:
    """Make the task of a stored run of its probe, importing nothing.

    Raises
    ------
    CorruptionError
    """
    probe = {str(name): array.to_numpy() for name, array in run["probe"].data_vars.items()}
    try:
        return Task(
            probe["x"],
            probe["p_x"],
            probe["p_y_given_x"],
            probe["x_id"],
            population=run.attrs.get("probe") == "population",
            name=run.attrs["task"],
            params=run.attrs.get("task_params", {}),
        )
    except (KeyError, ParameterError) as error:
        raise CorruptionError(f"the probe of run {run.name!r} is no task to train on: {error}") from error


def stored_config(run: Place, stored: Mapping[str, Any]) -> tuple[TrainConfig, dict[str, Any]]:
    """Read how a run is trained, and at which epochs it is captured: ``every`` and ``log_spaced``.

    Raises
    ------
    CorruptionError
        If the attribute describes no training.
    """
    settings = dict(stored)
    every, log_spaced = settings.pop("every", 1), settings.pop("log_spaced", None)
    try:
        config = TrainConfig.from_dict(settings)
        if type(every) is not int or not (log_spaced is None or type(log_spaced) is int):
            raise ParameterError(f"every and log_spaced must be integers but are {every!r} and {log_spaced!r}")
        if max(config.epochs // max(1, every), log_spaced or 0) > _MOST_CAPTURED:
            raise ParameterError(f"it would be captured more than {_MOST_CAPTURED} times")
        captured_epochs(config.epochs, every, log_spaced)
    except (ParameterError, UnknownNameError) as error:
        raise CorruptionError(f"the attribute 'config' of run {run.name!r} describes no training: {error}") from error
    return config, {"every": every, "log_spaced": log_spaced}


def _require_same(run: Place, plan: RunPlan, stored: xr.DataTree) -> None:
    """Refuse to write arrays of other shapes or types than are stored."""
    for array in plan.arrays:
        group, _, name = array.path.rpartition("/")
        held = stored[group or "/"].dataset.get(name) if not group or group in stored.children else None
        given = None if held is None else (held.shape[1:], held.dtype)
        if given != (tuple(array.shape), np.dtype(array.dtype)):
            raise CorruptionError(
                f"the attributes of run {run.name!r} describe other arrays than it holds: {array.path!r} would be "
                f"{array.dtype} of {tuple(array.shape)} an epoch, but it is {given}"
            )


def _job(
    task: Task,
    config: TrainConfig,
    plan: RunPlan,
    epochs: Sequence[int],
    start: int,
    state: Mapping[str, Any],
    device: str,
) -> Job:
    return Job(
        task=task,
        config=config,
        seeds=plan.seeds,
        places=slice(0, len(plan.seeds)),
        state=state,
        epochs=epochs,
        start=start,
        arrays=plan.arrays,
        shard_epochs=plan.shard_epochs,
        level=plan.level,
        binning=plan.binning,
        device=device,
    )


def worker_count(processes: int | None, seeds: int, device: str) -> int:
    """Give the number of processes that so many seeds are shared out over; see `capture`."""
    Backend(device, "float32")  # refuses a device that is not there, before anything is written
    if processes is not None and processes < 0:
        raise ParameterError(f"processes must be 0 (train in this process) or more but got {processes}")
    if device != "cpu":
        if processes:
            raise ParameterError(f"on {device!r} all seeds train in this process, but got processes={processes}")
        return 0
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(seeds, processes)


def drive(writer: RunWriter, job: Job, processes: int, on_progress: Callable[[Progress], None]) -> xr.DataTree:
    """Train, write and commit; whatever happens, leave the run at a commit and give its lease back."""
    captured = job.start

    def tell(reached: int | None = None) -> None:
        nonlocal captured
        captured = captured if reached is None else reached
        on_progress(Progress(captured, len(job.epochs), writer.epochs))

    background = BackgroundWriter(writer, tell)
    try:
        with Interrupts() as interrupts:
            try:
                if processes:
                    blocks = worker_blocks(share_out(job, processes), interrupts, tell)
                else:
                    blocks = _own_blocks(job, interrupts, tell)
                for block in blocks:
                    background.put(block)
            finally:
                background.close()
            writer.finish("interrupted" if interrupts.requested else "finished")
            if interrupts.requested:
                raise KeyboardInterrupt
    except StoreWriteError:
        raise  # nothing can be written: the run stands at its last commit
    except Exception:
        writer.finish("interrupted")
        raise
    finally:
        writer.close()
    if diverged := writer.attrs["diverged"]:
        named = ", ".join(f"{seed} (from epoch {epoch})" for seed, epoch in diverged.items())
        warnings.warn(
            f"run {writer.place.name!r}: the loss of {len(diverged)} of {len(job.seeds)} seeds is not finite: "
            f"{named}. They are kept, and marked in the attribute 'diverged'",
            DivergedWarning,
            stacklevel=3,
        )
    return open_run(writer.place)


def _own_blocks(job: Job, interrupts: Interrupts, tell: Callable[[int], None]) -> Iterator[Block]:
    """Train in this process, into two blocks by turns."""
    free: queue.SimpleQueue[Block] = queue.SimpleQueue()
    for _ in range(2):
        block = Block.allocate(job.arrays, job.shard_epochs, job.places, _memory(job))
        block.release = partial(free.put, block)
        free.put(block)

    def stop_at(index: int) -> int:
        tell(index)
        return index if interrupts.requested else sys.maxsize

    yield from job.blocks(free.get, stop_at)


def _memory(job: Job) -> memoryview | None:
    """Give memory that a GPU can copy to while it computes; on the CPU any will do."""
    if job.device == "cpu":
        return None
    import torch

    size = block_bytes(job.arrays, job.shard_epochs, len(job.seeds))
    return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy().data
