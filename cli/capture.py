"""``ipstore capture``: train networks, and stream them into a store."""

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ipstore.cli import specs
from ipstore.cli.config_file import read_config
from ipstore.cli.output import Json, print_facts, print_json, progress, say
from ipstore.cli.reporting import Failure
from ipstore.cli.sweeps import at_each, check_task, drive_sweep, read_settings, run_facts, standing
from ipstore.errors import ParameterError, RunExistsError
from ipstore.places import DOCUMENT
from ipstore.trainers.config import ActivationName, InitName, OptimizerName, TrainConfig
from ipstore.wording import ranges, size, task_text

if TYPE_CHECKING:
    from ipstore.binning import Binning
    from ipstore.places import Place
    from ipstore.reader import RunInfo
    from ipstore.trainers.streaming import Progress
    from ipstore.trainers.tasks import Task

    Work = Callable[..., Any]

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
    run: Annotated[
        str | None, _option("--run", "Name of the run, or of the sweep; by default TASK-ACTIVATION.", "NAME")
    ] = None,
    hidden: Annotated[str, _option("--hidden", "Widths of the hidden layers, or none.", "N-N-...")] = "-".join(
        map(str, TrainConfig.hidden)
    ),
    activation: Annotated[
        str, _option("--activation", f"Of the hidden layers: {_words(ActivationName)}.", "NAME")
    ] = TrainConfig.activation,
    optimizer: Annotated[
        str, _option("--optimizer", f"One of {_words(OptimizerName)}.", "NAME")
    ] = TrainConfig.optimizer,
    learning_rate: Annotated[str, _option("--learning-rate", "Positive.", "NUMBER")] = str(TrainConfig.learning_rate),
    batch_size: Annotated[str, _option("--batch-size", "Samples per step; full takes all.", "N|full")] = str(
        TrainConfig.batch_size
    ),
    train_fraction: Annotated[
        str, _option("--train-fraction", "Share of the samples to train on, in (0, 1].", "NUMBER")
    ] = str(TrainConfig.train_fraction),
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run, or sweep, of that name.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run, or a sweep, from its last commit.")] = False,
    json: Json = False,
) -> None:
    """Train networks, every epoch into a store.

    One network per seed is trained on TASK, and its activations are streamed into STORE. Ctrl-C commits what
    is whole, and --resume continues it bit for bit.

    The options from --hidden to --init take several values with commas between them
    (--train-fraction 0.05,0.45,0.85 --activation tanh,relu): a sweep, with a run RUN-train_fraction=0.05-... for each
    combination. --resume --run RUN continues all of it.

    The options from --run to --device can be set in a file (--config) and in the environment, too
    (IPSTORE_CAPTURE_LEARNING_RATE=0.1). Flags come before the environment, and that before the file.
    """
    name, params = specs.task(task)
    from ipstore.parts import part_name

    joint = run or (f"{name.rpartition(':')[2]}-{activation}" if "," not in activation else name.rpartition(":")[2])
    run = joint if part is None else part_name(joint, part)
    place = specs.store_place(store)
    if find_spec("torch") is None:
        raise Failure("missing-package", "capture needs PyTorch: pip install 'ipstore[train]'")
    from ipstore.trainers import streaming as library
    from ipstore.trainers import sweeps, tasks

    again = ["ipstore", "capture", task, store, "--run", run, "--resume"]
    running: dict[str, Any] = {"processes": processes, "device": device}
    work: Work
    if resume:
        _refuse_beside_resume(ctx)
        wanted = epochs if _is_flag(ctx, "epochs") else None
        if infos := _begun_sweep(place, run):
            check_task(f"sweep {run!r}", infos[0], task_text(name, params))
            again += [] if wanted is None else ["--epochs", str(wanted)]
            work = partial(sweeps.resume_sweep, place, run, epochs=wanted, **running)
            drive_sweep(place, run, work, again, wanted, json)
            return
        if _is_complete(place, run, task_text(name, params), wanted):
            _report(place, run, None, json)
            return
        work = partial(library.resume, place, run, epochs=wanted, **running)
    else:
        loaded = tasks.load(name, **params)
        settings, axes = read_settings(
            epochs,
            hidden=specs.several("--hidden", hidden, specs.widths),
            activation=specs.several("--activation", activation, str),
            optimizer=specs.several("--optimizer", optimizer, str),
            learning_rate=specs.several("--learning-rate", learning_rate, partial(specs.number, "--learning-rate")),
            batch_size=specs.several("--batch-size", batch_size, specs.batch_size),
            train_fraction=specs.several("--train-fraction", train_fraction, partial(specs.number, "--train-fraction")),
            init=specs.several("--init", init, str),
        )
        options: dict[str, Any] = {
            "seeds": specs.seeds(seeds),
            "level": level,
            "binning": _binning(loaded, at_each(settings, axes, "activation"), level, bins, range),
            "every": every,
            "log_spaced": log_spaced,
            "overwrite": overwrite,
            **running,
        }
        if axes:
            if part is not None:
                raise ParameterError(
                    f"--part goes with one run, but --{next(iter(axes)).replace('_', '-')} has several values: capture "
                    "each combination by itself, or all seeds of the sweep in one place"
                )
            work = partial(sweeps.capture_sweep, loaded, place, joint, axes, settings, **options)
            drive_sweep(place, joint, work, again, None, json)
            return
        if place.is_taken() and _begun_sweep(place, joint):
            raise RunExistsError(f"a sweep {joint!r} exists already in {store!r}: choose another name for the run")
        work = partial(library.capture, loaded, place, joint, settings, part=part, **options)
    begun = time.monotonic()
    last: Progress | None = None
    try:
        with progress(run, "epochs") as show:

            def on_progress(reached: "Progress") -> None:
                nonlocal last
                last = reached
                show(reached.captured, reached.total)

            work(on_progress=on_progress)
    except KeyboardInterrupt:
        if last is None:
            raise
        raise _interrupted(place, run, shlex.join(again)) from None
    _report(place, run, time.monotonic() - begun, json)


def _begun_sweep(store: "Place", name: str) -> "list[RunInfo]":
    """Describe the runs of a sweep, where no run has its name."""
    from ipstore.schema import check_name
    from ipstore.trainers.sweeps import sweep_runs

    return [] if (store / check_name("run", name)).exists(DOCUMENT) else list(sweep_runs(store, name).values())


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
    check_task(f"run {run!r}", info, task)
    planned = info.attrs.get("config", {}).get("epochs")  # of a run that was recorded, nobody knows
    return info.status == "finished" and planned is not None and epochs in (None, planned)


def _binning(
    task: "Task", configs: Sequence[TrainConfig], level: str, bins: int | None, range: str | None
) -> "Binning | None":
    """Give the bins that were asked for; None leaves them to the library."""
    if bins is None and range is None:
        return None
    if level != "codes":
        raise ParameterError(f"--bins and --range go with --level codes, but the level is {level!r}")
    from ipstore.binning import Binning
    from ipstore.trainers.streaming import plan_run

    if range is not None:
        binning = Binning(range=specs.interval(range))
        return binning if bins is None else replace(binning, bins=bins)
    usual = {config.activation: plan_run(task, config, [0]).binning for config in configs}
    for activation, found in usual.items():
        if found is None:
            raise ParameterError(f"{activation} activations have no bound, so --bins needs a --range")
    if len(set(usual.values())) > 1:
        raise ParameterError(f"the ranges of {', '.join(usual)} activations differ, so --bins needs a --range for all")
    given = next(iter(usual.values()))
    assert given is not None
    return given if bins is None else replace(given, bins=bins)


def _interrupted(store: "Place", run: str, command: str) -> Failure:
    """Say where a run stands, and how it goes on."""
    reached, stands = standing(store, run)
    return Failure(
        "interrupted",
        f"interrupted: run {run!r} {stands}. Continue it with\n  {command}",
        130,
        run=run,
        epoch=reached,
        resume=command,
    )


def _report(store: "Place", run: str, seconds: float | None, as_json: bool) -> None:
    """Sum up a finished run; `seconds` is None where nothing was left to do."""
    from ipstore.reader import run_info

    facts = run_facts(store, run)
    if as_json:
        print_json({**facts, "seconds": seconds})
        return
    if seconds is None:
        say(f"run {run!r} is complete already, to epoch {facts['epochs']}; more --epochs would extend it")
    accuracy = facts["test_accuracy"]
    print_facts(
        {
            "run": f"{run} in {store}",
            "task": f"{facts['task']} ({facts['labels']} labels)",
            "level": facts["level"],
            "epochs": f"{facts['epochs']} ({facts['captured_epochs']} captured)",
            "seeds": f"{len(facts['seeds'])} ({ranges(sorted(facts['seeds']))})",
            "on disk": f"{size(facts['stored_bytes'])} in {run_info(store / run).files} files",
            "test accuracy": "-" if accuracy is None else f"{accuracy:.4f} (mean over seeds)",
            **({} if seconds is None else {"time": f"{seconds:.1f} s"}),
        }
    )
