"""``ipstore capture``: train, and stream every epoch into a store."""

import shlex
import time
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ipstore.cli import specs
from ipstore.cli.output import Json, print_facts, print_json, progress, say, size
from ipstore.cli.reporting import Failure
from ipstore.trainers.config import ActivationName, InitName, OptimizerName, TrainConfig

if TYPE_CHECKING:
    import xarray as xr

    from ipstore.trainers.capture import Progress

__all__ = ["capture"]

_WITH_RESUME = ("epochs", "processes", "device", "run")
"""Options that may be changed when a run is continued, and the name that says which."""


def _option(flag: str, help: str, *, metavar: str | None = None) -> Any:
    """Make an option that the environment and a TOML file can give, too."""
    envvar = f"IPSTORE_CAPTURE_{flag.removeprefix('--').replace('-', '_').upper()}"
    return typer.Option(flag, help=help, metavar=metavar, envvar=envvar, show_envvar=False)


def _words(literal: Any) -> str:
    return "|".join(get_args(literal))


def _read_config(ctx: typer.Context, file: Path | None) -> Path | None:
    """Let the keys of a TOML file stand where neither the environment nor a flag says otherwise."""
    if file is None:
        return None
    try:
        values = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{str(file)!r} is not TOML: {error}", param_hint="--config") from None
    except OSError as error:
        raise typer.BadParameter(f"cannot read {str(file)!r}: {error.strerror}", param_hint="--config") from None
    known = sorted(str(param.name) for param in ctx.command.params if param.envvar)
    if unknown := sorted(set(values) - set(known)):
        raise typer.BadParameter(
            f"{str(file)!r} has the unknown {', '.join(map(repr, unknown))}; known are {', '.join(known)}",
            param_hint="--config",
        )
    ctx.default_map = {key: _as_flag(file, key, value) for key, value in values.items()}
    return file


def _as_flag(file: Path, key: str, value: Any) -> str:
    """Write a TOML value as the flag would be written."""
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        match key:
            case "hidden":
                return "-".join(map(str, value)) or "none"
            case "seeds":
                return ",".join(map(str, value)) + ","
            case "range":
                return "..".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise typer.BadParameter(f"{key} in {str(file)!r} cannot be {value!r}", param_hint="--config")
    return str(value)


def capture(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="NAME[:parameter=value,...], such as rule:information=0.99.")],
    store: Annotated[str, typer.Argument(help="The store; made if there is none.")],
    run: Annotated[
        str | None, _option("--run", "Name of the run.  [default: TASK-ACTIVATION]", metavar="NAME")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of options, keys as the flags with _ for -.",
            metavar="FILE",
            callback=_read_config,
            is_eager=True,
        ),
    ] = None,
    hidden: Annotated[str, _option("--hidden", "Widths of the hidden layers.", metavar="N-N-...")] = "-".join(
        map(str, TrainConfig.hidden)
    ),
    activation: Annotated[
        str, _option("--activation", "Of the hidden layers.", metavar=_words(ActivationName))
    ] = TrainConfig.activation,
    optimizer: Annotated[
        str, _option("--optimizer", "How the weights are updated.", metavar=_words(OptimizerName))
    ] = TrainConfig.optimizer,
    learning_rate: Annotated[
        float, _option("--learning-rate", "Positive.", metavar="RATE")
    ] = TrainConfig.learning_rate,
    batch_size: Annotated[
        str, _option("--batch-size", "Samples per step, or full for all at once.", metavar="N|full")
    ] = str(TrainConfig.batch_size),
    train_fraction: Annotated[
        float, _option("--train-fraction", "Share of the samples to train on, in (0, 1].", metavar="SHARE")
    ] = TrainConfig.train_fraction,
    init: Annotated[str, _option("--init", "Of the weights.", metavar=_words(InitName))] = TrainConfig.init,
    epochs: Annotated[int, _option("--epochs", "Epochs to train in all.", metavar="N")] = TrainConfig.epochs,
    seeds: Annotated[
        str, _option("--seeds", "One network each: how many, or which (0-9,15).", metavar="N|LIST")
    ] = "20",
    level: Annotated[
        str, _option("--level", "What is kept of the activations.", metavar="full|half|codes|weights")
    ] = "full",
    bins: Annotated[int, _option("--bins", "Bins of the codes.", metavar="N")] = 30,
    range: Annotated[
        str | None,
        _option("--range", "Range of the codes.  [default: the activation's]", metavar="LOW..HIGH"),
    ] = None,
    every: Annotated[int, _option("--every", "Capture every so many epochs.", metavar="N")] = 1,
    log_spaced: Annotated[
        int | None,
        _option("--log-spaced", "Capture about so many epochs, evenly on a log scale.", metavar="N"),
    ] = None,
    processes: Annotated[
        int | None,
        _option("--processes", "Processes to share the seeds out over.  [default: the cores]", metavar="N"),
    ] = None,
    device: Annotated[str, _option("--device", "Where to train.", metavar="cpu|cuda")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run of that name.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run from its last commit.")] = False,
    json: Json = False,
) -> None:
    """Train one network per seed on TASK, and stream its activations into STORE, epoch by epoch.

    Ctrl-C commits what is whole; --resume continues it bit for bit. Every option from --run to --device can also be
    set in the environment (IPSTORE_CAPTURE_LEARNING_RATE=0.1) or in the file of --config: flags come before the
    environment, and that before the file.
    """
    name, params = specs.task(task)
    run = run or f"{name.rpartition(':')[2]}-{activation}"
    _refuse_run_as_store(store)
    if find_spec("torch") is None:
        raise Failure("missing-package", "capture needs PyTorch: pip install 'ipstore[train]'")
    if resume:
        _refuse_training_options(ctx)
        _check_task(store, run, name, params)
        named = {option: ctx.get_parameter_source(option).name for option in _WITH_RESUME}  # type: ignore[union-attr]
        wanted = epochs if named["epochs"] == "COMMANDLINE" else None
        if _is_complete(store, run, wanted):
            _conclude(store, run, json, note="the run is complete already; --epochs extends it")
            return

        def work(on_progress: "Callable[[Progress], None]") -> "xr.DataTree":
            from ipstore.trainers.capture import resume

            return resume(
                store, str(run), epochs=wanted, processes=processes, device=device, on_progress=on_progress
            )
    else:
        _check_task
