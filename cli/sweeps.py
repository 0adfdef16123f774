"""``ipstore capture`` of a sweep: its runs under one progress display, and what is said of them."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipstore.cli.output import print_facts, print_json, print_table, progress, say
from ipstore.cli.reporting import Failure
from ipstore.errors import ParameterError
from ipstore.trainers.config import TrainConfig
from ipstore.wording import ranges, size, task_text

if TYPE_CHECKING:
    from ipstore.places import Place
    from ipstore.reader import RunInfo
    from ipstore.trainers.sweeps import SweepProgress

__all__ = ["at_each", "check_task", "drive_sweep", "read_settings", "run_facts", "standing"]


def read_settings(epochs: int, **given: list[Any]) -> tuple[TrainConfig, dict[str, list[Any]]]:
    """Give the settings, each at the first of its values, and the values of those that have several.

    Raises
    ------
    ParameterError, UnknownNameError
        If a value is not allowed.
    """
    settings = TrainConfig(**{name: values[0] for name, values in given.items()}, epochs=epochs)
    axes = {name: values for name, values in given.items() if len(values) > 1}
    for name in axes:
        at_each(settings, axes, name)
    return settings, axes


def at_each(settings: TrainConfig, axes: Mapping[str, Sequence[Any]], axis: str) -> list[TrainConfig]:
    """Give the settings at each value of an axis; as they are, if it is none."""
    changes: list[dict[str, Any]] = [{axis: value} for value in axes.get(axis, [getattr(settings, axis)])]
    return [replace(settings, **change) for change in changes]


def check_task(what: str, info: "RunInfo", task: str) -> None:
    """Refuse to continue a run, or the sweep of which it is, on another task.

    Parameters
    ----------
    what : str
        "run 'a'", for the message.
    info : RunInfo
    task : str
        As `ipstore.wording.task_text` writes it.
    """
    captured_on = task_text(info.attrs["task"], info.attrs["task_params"])
    if captured_on != task:
        raise ParameterError(
            f"{what} was captured on {captured_on}, but got {task}: give that task, or name another --run"
        )


def drive_sweep(
    store: "Place", name: str, work: Callable[..., list[str]], words: list[str], epochs: int | None, as_json: bool
) -> None:
    """Capture or continue a sweep, and report it.

    Parameters
    ----------
    store : Place
    name : str
    work : callable
        `ipstore.trainers.capture_sweep` or `resume_sweep`, with all but ``on_progress``.
    words : list of str
        The command that continues the sweep.
    epochs : int or None
        How many are wanted, if other than what its runs say.
    as_json : bool
    """
    from ipstore.sweeps import as_text

    begun = time.monotonic()
    told = False
    try:
        with progress(name, "epochs") as show:

            def on_progress(reached: "SweepProgress") -> None:
                nonlocal told
                told = True
                where = ", ".join(map(as_text, reached.at.values()))
                show(reached.captured, reached.total, f"{name} {reached.number}/{reached.runs}: {where}")

            runs = work(on_progress=on_progress)
    except KeyboardInterrupt:
        if (failure := _interrupted(store, name, shlex.join(words), epochs)) is None:
            raise
        raise failure from None
    _report(store, name, runs, time.monotonic() - begun if told else None, as_json)


def _interrupted(store: "Place", name: str, command: str, epochs: int | None) -> Failure | None:
    """Say where a sweep stands, and how it goes on; None if it was not begun."""
    from ipstore.sweeps import sweep_of
    from ipstore.trainers.sweeps import sweep_runs

    infos = sweep_runs(store, name)
    if not infos:
        return None
    target = epochs or max(info.attrs["config"]["epochs"] for info in infos.values())
    complete = [
        run for run, info in infos.items() if info.status == "finished" and info.attrs["config"]["epochs"] == target
    ]
    of = sweep_of(*next((run, info.attrs) for run, info in infos.items()))
    assert of is not None
    order = list(of[0].runs())
    stopped = next((run for run in order if run in infos and run not in complete), None)
    reached, stands = (None, "") if stopped is None else standing(store, stopped)
    return Failure(
        "interrupted",
        f"interrupted: {len(complete)} of {len(order)} runs of sweep {name!r} are complete"
        + (f", and run {stopped!r} {stands}" if stopped else "")
        + f". Continue it with\n  {command}",
        130,
        sweep=name,
        complete=[run for run in order if run in complete],
        run=stopped,
        epoch=reached,
        resume=command,
    )


def standing(store: "Place", run: str) -> tuple[int | None, str]:
    """Say to which epoch a run is committed: the last one, and in words."""
    from ipstore.reader import open_run

    tree = open_run(store / run)
    reached, total = tree.dataset["epoch"].values, tree.attrs["config"]["epochs"]
    if not reached.size:
        return None, "has no commit yet"
    return int(reached[-1]), f"is committed to epoch {reached[-1]} of {total}"


def run_facts(store: "Place", run: str) -> dict[str, Any]:
    """Sum up a finished run."""
    import numpy as np

    from ipstore.reader import open_run, run_info

    info, tree = run_info(store / run), open_run(store / run)
    accuracy = tree["training"].dataset["accuracy"].sel(split="test").isel(epoch=-1).values
    accuracy = accuracy[np.isfinite(accuracy)]
    return {
        "store": str(store),
        "run": run,
        "task": task_text(info.attrs["task"], info.attrs["task_params"]),
        "labels": info.attrs["labels"],
        "level": info.attrs["level"],
        "epochs": int(tree.dataset["epoch"][-1]),
        "captured_epochs": tree.sizes["epoch"],
        "seeds": info.attrs["seeds"],
        "diverged": sorted(map(int, info.attrs["diverged"])),
        "stored_bytes": info.stored_bytes,
        "test_accuracy": float(accuracy.mean()) if accuracy.size else None,
    }


def _report(store: "Place", name: str, runs: list[str], seconds: float | None, as_json: bool) -> None:
    """Sum up a finished sweep; `seconds` is None where nothing was left to do."""
    from ipstore.reader import run_info
    from ipstore.sweeps import as_text, sweep_of

    of = sweep_of(runs[0], run_info(store / runs[0]).attrs)
    assert of is not None
    sweep, _ = of
    axes, stands = sweep.to_attrs(of[1])["axes"], sweep.runs()
    facts = [run_facts(store, run) | {"at": sweep.to_attrs(stands[run])["at"]} for run in runs]
    if as_json:
        print_json({"store": str(store), "sweep": name, "axes": axes, "seconds": seconds, "runs": facts})
        return
    first = facts[0]
    if seconds is None:
        say(f"sweep {name!r} is complete already, to epoch {first['epochs']}; more --epochs would extend it")
    print_facts(
        {
            "sweep": f"{name} in {store}, {len(runs)} runs",
            **{axis: ", ".join(map(as_text, values)) for axis, values in sweep.axes.items()},
            "task": f"{first['task']} ({first['labels']} labels)",
            "level": first["level"],
            "epochs": f"{first['epochs']} ({first['captured_epochs']} captured)",
            "seeds": f"{len(first['seeds'])} ({ranges(sorted(first['seeds']))})",
            "on disk": size(sum(each["stored_bytes"] for each in facts)),
            **({} if seconds is None else {"time": f"{seconds:.1f} s"}),
        }
    )
    say("")
    diverged = any(each["diverged"] for each in facts)
    columns = ("run", "on disk", "test accuracy", *(["diverged seeds"] if diverged else []))
    rows = [
        [
            each["run"],
            size(each["stored_bytes"]),
            "-" if each["test_accuracy"] is None else f"{each['test_accuracy']:.4f}",
            *([ranges(each["diverged"])] if diverged else []),
        ]
        for each in facts
    ]
    print_table(columns, rows, numbers=("on disk", "test accuracy"))
