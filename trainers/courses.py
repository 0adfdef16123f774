"""The runs of a sweep, captured one after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ipstore.places import Place
from ipstore.plan import RunPlan
from ipstore.reader import RunInfo
from ipstore.sweeps import Sweep, Value
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.streaming import Progress, begin, drive, planned_epochs, resume
from ipstore.trainers.tasks.base import Task

__all__ = ["Course", "SweepProgress"]


@dataclass(frozen=True)
class SweepProgress:
    """How far the capture of a sweep is.

    Attributes
    ----------
    run : str
        The run that is being captured.
    at : mapping of str to value
        Where on the axes of the sweep it stands.
    number : int
        Which of the runs it is, from 1.
    captured, total : int
        Epochs captured by the slowest seed, and to be captured, summed over the runs.
    complete, runs : int
        How many runs are complete, and of how many.
    """

    run: str
    at: Mapping[str, Value]
    number: int
    captured: int
    total: int
    complete: int
    runs: int


class Course:
    """The runs of a sweep, one after the other.

    Parameters
    ----------
    store : Place
    plans : mapping of str to RunPlan
        By run, in the order in which they are captured.
    begun : mapping of str to RunInfo
        Those that are in the store.
    processes, device
        See `ipstore.trainers.capture`.
    on_progress : callable
        Told a `SweepProgress` as the capture goes on.
    """

    def __init__(
        self,
        store: Place,
        plans: Mapping[str, RunPlan],
        begun: Mapping[str, RunInfo],
        processes: int | None,
        device: str,
        on_progress: Callable[[SweepProgress], None],
    ) -> None:
        self._store, self._plans, self._begun = store, plans, begun
        self._processes, self._device = processes, device
        self._on_progress = on_progress
        self._captured = {run: begun[run].attrs["commit"]["epochs"] if run in begun else 0 for run in plans}
        self._totals = {run: len(planned_epochs(plan)) for run, plan in plans.items()}
        self._complete = 0

    def go(self, task: Task) -> None:
        """Capture or continue each run that is not complete."""
        runs = list(self._plans)
        complete = [run for run in runs if self._is_complete(run)]
        self._complete = len(complete)
        for run in complete:
            self._totals[run] = self._captured[run]
        for run in runs:
            if run in complete:
                continue
            plan = self._plans[run]

            def tell(progress: Progress, run: str = run) -> None:
                self._captured[run], self._totals[run] = progress.captured, progress.total
                self._tell(run)

            settings = {key: value for key, value in plan.attrs["config"].items() if key not in ("every", "log_spaced")}
            config = TrainConfig.from_dict(settings)
            if run in self._begun:
                options: dict[str, Any] = {"processes": self._processes, "device": self._device, "on_progress": tell}
                resume(self._store, run, epochs=config.epochs, **options)
            else:
                drive(*begin(task, self._store, run, config, plan, self._processes, self._device), tell)
            self._captured[run] = self._totals[run]
            self._complete += 1
            self._tell(run)

    def _is_complete(self, run: str) -> bool:
        if run not in self._begun:
            return False
        info, epochs = self._begun[run], self._plans[run].attrs["config"]["epochs"]
        return info.status == "finished" and info.attrs["config"]["epochs"] == epochs

    def _tell(self, run: str) -> None:
        done, total = sum(self._captured.values()), sum(self._totals.values())
        _, at = Sweep.from_attrs(self._plans[run].attrs["sweep"])
        number = list(self._plans).index(run) + 1
        self._on_progress(SweepProgress(run, at, number, done, total, self._complete, len(self._plans)))
