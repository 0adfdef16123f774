"""Options of a command from a TOML file: where neither the environment nor a flag says otherwise."""

import tomllib
from pathlib import Path
from typing import Any

import typer

from ipstore.errors import ParameterError

__all__ = ["read_config"]

_LISTS = {"hidden": "-", "seeds": ",", "range": ".."}
"""Options that a file may give as a list, and what stands between the items on the command line."""

_SWEPT = ("hidden", "activation", "optimizer", "learning_rate", "batch_size", "train_fraction", "init")
"""Options of which a file may list several values: those of a sweep."""


def read_config(ctx: typer.Context, file: Path | None) -> Path | None:
    """Take the values of a file as the command's defaults; the callback of ``--config``.

    Its keys are the options that the environment can set too.
    """
    if file is None:
        return None
    try:
        values = tomllib.loads(file.read_text())
    except OSError as error:
        raise ParameterError(f"cannot read {str(file)!r}: {error.strerror}") from None
    except ValueError as error:  # of the syntax, or not UTF-8
        raise ParameterError(f"{str(file)!r} is not TOML: {error}") from None
    known = [str(option.name) for option in ctx.command.params if option.envvar]
    if unknown := [key for key in values if key not in known]:
        raise ParameterError(f"{str(file)!r} sets {', '.join(unknown)}, but can only set {', '.join(known)}")
    ctx.default_map = {key: _as_flag(file, key, value) for key, value in values.items()}
    return file


def _as_flag(file: Path, key: str, value: Any) -> str:
    """Write a value as the flag would be written."""
    if isinstance(value, list) and key in _SWEPT and (key != "hidden" or any(isinstance(item, list) for item in value)):
        return ",".join(_as_flag(file, key, item) for item in value)
    if isinstance(value, list) and key in _LISTS and all(isinstance(item, int | float) for item in value):
        text = _LISTS[key].join(map(str, value))
        return f"{text}," if key == "seeds" else text or "none"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ParameterError(f"{key} in {str(file)!r} cannot be {value!r}")
    return str(value)
