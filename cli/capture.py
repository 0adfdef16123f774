"""``ipstore capture``: train networks, and stream them into a store."""

import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ipstore.cli import specs
from ipstore.cli.config_file import read_config
from ipstore.cli.output import Json, print_facts, print_json, progress, ranges, say, size
from ipstore.cli.reporting import Failure
from ipstore.errors import ParameterError
from ipstore.trainers.config import ActivationName, InitName, OptimizerName, TrainConfig

if TYPE_CHECKING:
    import xarray as xr

    from ipstore.binning import Binning
    from ipstore.places import Place
    from ipstore.trainers.streaming import Progress
    from ipstore.trainers.tasks import Task

    Work = Callable[..., xr.DataTree]

__all__ = ["capture"]

_BESIDE_RESUME = {"task", "store", "run", "part", "epochs", "processes", "device", "resume", "json"}
"""What may be said of a run that is continued; the rest is decided by the run."""


def _option(flag: str, help: str, metavar: str) -> Any:
    """Make an option that the environment and the file of ``--config`` can set too."""
    envvar = f"IPSTORE_CAPTURE_{flag.removeprefix('--').replace('-', '_').upper()}"
    return typer.Option(flag, help=help, metavar=metavar, envvar=envvar, show_envvar=False)


def _words(literal: Any) -> str:
    return ", ".join(get_args(literal))


def capture(
    ctx: typer.Context,
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="NAME[:parameter=value,...], such as rule:information=0.99.")
    ],
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="A folder or a URL (s3://bucket/path); made if there is none.")
    ],
    run: Annotated[str | None, _option("--run", "Name of the run; by default TASK-ACTIVATION.", "NAME")] = None,
    hidden: Annotated[str, _option("--hidden", "Widths of the hidden layers, or none.", "N-N-...")] = "-".join(
        map(str, TrainConfig.hidden)
    ),
    activation: Annotated[
        str, _option("--activation", f"Of the hidden layers: {_words(ActivationName)}.", "NAME")
    ] = TrainConfig.activation,
    optimizer: Annotated[
        str, _option("--optimizer", f"One of {_words(OptimizerName)}.", "NAME")
    ] = TrainConfig.optimizer,
    learning_rate: Annotated[float, _option("--learning-rate", "Positive.", "NUMBER")] = TrainConfig.learning_rate,
    batch_size: Annotated[str, _option("--batch-size", "Samples per step; full takes all.", "N|full")] = str(
        TrainConfig.batch_size
    ),
    train_fraction: Annotated[
        float, _option("--train-fraction", "Share of the samples to train on, in (0, 1].", "NUMBER")
    ] = TrainConfig.train_fraction,
    init: Annotated[str, _option("--init", f"Initial weights: {_words(InitName)}.", "NAME")] = TrainConfig.init,
    epochs: Annotated[int, _option("--epochs", "Epochs to train in all.", "N")] = TrainConfig.epochs,
    seeds: Annotated[str, _option("--seeds", "One network each: how many, or which (0-9,15).", "N|LIST")] = "20",
    part: Annotated[
        str | None,
        _option("--part", "Write these seeds as a part of the run, RUN+NAME; others come from elsewhere.", "NAME"),
    ] = None,
    level: Annotated[
        str, _option("--level", "What is kept of the activations: full, half, codes, weights.", "NAME")
    ] = "full",
    bins: Annotated[int | None, _option("--bins", "Number of bins at level codes; by default 30.", "N")] = None,
    range: Annotated[
        str | None, _option("--range", "Where the bins lie; by default the activation's range.", "LOW..HIGH")
    ] = None,
    every: Annotated[int, _option("--every", "Capture every so many epochs.", "N")] = 1,
    log_spaced: Annotated[
        int | None,
        _option("--log-spaced", "Capture about so many epochs, evenly spaced on a logarithmic scale.", "N"),
    ] = None,
    processes: Annotated[
        int | None, _option("--processes", "Processes to train in; by default one per core; 0 trains in this one.", "N")
    ] = None,
    device: Annotated[str, _option("--device", "cpu or cuda.", "NAME")] = "cpu",
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=read_config,
            is_eager=True,
            help="TOML file of the options above: learning_rate = 0.1",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run of that name.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run from its last commit.")] = False,
    json: Json = False,
) -> None:
    """Train networks, every epoch into a store.

    One network per seed is trained on TASK, and its activations are streamed into STORE. Ctrl-C commits what
    is whole, and --resume continues it bit for bit.

    The options from --run to --device can be set in a file (--config) and in the environment, too
    (IPSTORE_CAPTURE_LEARNING_RATE=0.1). Flags come before the environment, and that before the file.
    """
    name, params = specs.task(task)
    from ipstore.parts import part_name

    joint = run or f"{name.rpartition(':')[2]}-{activation}"
    run = joint if part is None else part_name(joint, part)
    place = specs.store_place(store)
    if find_spec("torch") is None:
        raise Failure("missing-package", "capture needs PyTorch: pip install 'ipstore[train]'")
    from ipstore.trainers import streaming as library
    from ipstore.trainers import tasks

    work: Work
    if resume:
        _refuse_beside_resume(ctx)
        wanted = epochs if _is_flag(ctx, "epochs") else None
        if _is_complete(place, run, specs.task_text(name, params), wanted):
            _report(place, run, None, json)
            return
        work = partial(library.resume, place, run, epochs=wanted)
    else:
        loaded = tasks.load(name, **params)
        settings = TrainConfig(
            hidden=specs.widths(hidden),
            activation=activation,  # type: ignore[arg-type]  # TrainConfig refuses words that are none
            optimizer=optimizer,  # type: ignore[arg-type]
            learning_rate=learning_rate,
            batch_size=specs.batch_size(batch_size),
            train_fraction=train_fraction,
            init=init,  # type: ignore[arg-type]
            epochs=epochs,
        )
        work = partial(
            library.capture,
            loaded,
            place,
            joint,
            settings,
            seeds=specs.seeds(seeds),
            part=part,
            level=level,
            binning=_binning(loaded, settings, level, bins, range),
            every=every,
            log_spaced=log_spaced,
            overwrite=overwrite,
        )
    begun = time.monotonic()
    last: Progress | None = None
    try:
        with progress(run, "epochs") as show:

            def on_progress(reached: "Progress") -> None:
                nonlocal last
                last = reached
                show(reached.captured, reached.total)

            work(processes=processes, device=device, on_progress=on_progress)
    except KeyboardInterrupt:
        if last is None:
            raise
        again = ["ipstore", "capture", task, store, "--run", run, "--resume"]
        raise _interrupted(place, run, shlex.join(again)) from None
    _report(place, run, time.monotonic() - begun, json)


def _is_flag(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_beside_resume(ctx: typer.Context) -> None:
    for option in ctx.command.params:
        if option.name not in _BESIDE_RESUME and _is_flag(ctx, str(option.name)):
            raise ParameterError(
                f"{option.opts[0]} does not go with --resume: a run is continued with the configuration that it "
                "was begun with, and only --epochs, --processes and --device may be given anew"
            )


def _is_complete(store: "Place", run: str, task: str, epochs: int | None) -> bool:
    """Whether nothing is left to do of a run that is on this task."""
    from ipstore.reader import run_info

    specs.choose_runs(store, run)
    info = run_info(store / run)
    captured_on = specs.task_text(info.attrs["task"], info.attrs["task_params"])
    if captured_on != task:
        raise ParameterError(
            f"run {run!r} was captured on {captured_on}, but got {task}: give that task, or name another --run"
        )
    return info.status == "finished" and epochs in (None, info.attrs["config"]["epochs"])


def _binning(task: "Task", config: TrainConfig, level: str, bins: int | None, range: str | None) -> "Binning | None":
    """Give the bins that were asked for; None leaves them to the library."""
    if bins is None and range is None:
        return None
    if level != "codes":
        raise ParameterError(f"--bins and --range go with --level codes, but the level is {level!r}")
    from ipstore.binning import Binning
    from ipstore.trainers.streaming import plan_run

    usual = plan_run(task, config, [0]).binning
    if range is None and usual is None:
        raise ParameterError(f"{config.activation} activations have no bound, so --bins needs a --range")
    binning = Binning(range=specs.interval(range)) if range is not None else usual
    assert binning is not None
    return binning if bins is None else replace(binning, bins=bins)


def _interrupted(store: "Place", run: str, command: str) -> Failure:
    """Say where a run stands, and how it goes on."""
    from ipstore.reader import open_run

    tree = open_run(store / run)
    reached, total = tree.dataset["epoch"].values, tree.attrs["config"]["epochs"]
    stands = f"is committed to epoch {reached[-1]} of {total}" if reached.size else "has no commit yet"
    return Failure(
        "interrupted",
        f"interrupted: run {run!r} {stands}. Continue it with\n  {command}",
        130,
        run=run,
        epoch=int(reached[-1]) if reached.size else None,
        resume=command,
    )


def _report(store: "Place", run: str, seconds: float | None, as_json: bool) -> None:
    """Sum up a finished run; `seconds` is None where nothing was left to do."""
    import numpy as np

    from ipstore.reader import open_run, run_info

    info, tree = run_info(store / run), open_run(store / run)
    accuracy = tree["training"].dataset["accuracy"].sel(split="test").isel(epoch=-1).values
    accuracy = accuracy[np.isfinite(accuracy)]
    facts = {
        "store": str(store),
        "run": run,
        "task": specs.task_text(info.attrs["task"], info.attrs["task_params"]),
        "labels": info.attrs["labels"],
        "level": info.attrs["level"],
        "epochs": int(tree.dataset["epoch"][-1]),
        "captured_epochs": tree.sizes["epoch"],
        "seeds": info.attrs["seeds"],
        "diverged": sorted(map(int, info.attrs["diverged"])),
        "stored_bytes": info.stored_bytes,
        "test_accuracy": float(accuracy.mean()) if accuracy.size else None,
        "seconds": seconds,
    }
    if as_json:
        print_json(facts)
        return
    if seconds is None:
        say(f"run {run!r} is complete already, to epoch {facts['epochs']}; more --epochs would extend it")
    tested = f"{accuracy.mean():.4f} (mean over seeds)" if accuracy.size else "-"
    print_facts(
        {
            "run": f"{run} in {store}",
            "task": f"{facts['task']} ({facts['labels']} labels)",
            "level": str(facts["level"]),
            "epochs": f"{facts['epochs']} ({facts['captured_epochs']} captured)",
            "seeds": f"{len(info.attrs['seeds'])} ({ranges(sorted(info.attrs['seeds']))})",
            "on disk": f"{size(info.stored_bytes)} in {info.files} files",
            "test accuracy": tested,
            **({} if seconds is None else {"time": f"{seconds:.1f} s"}),
        }
    )
