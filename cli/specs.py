"""How things are written on the command line, and what they mean."""

import json
from typing import TYPE_CHECKING, Any

import typer

from ipstore.errors import StoreNotFoundError, UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["batch_size", "choose_runs", "interval", "seeds", "store_folder", "task", "task_text", "widths"]


def task(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``NAME`` or ``NAME:parameter=value,...``; a value is JSON, or else a word.

    Returns
    -------
    (str, dict)
        Name and parameters.
    """
    head, _, tail = text.rpartition(":")
    name, pairs = (head, tail.split(",")) if head and "=" in tail else (text, [])
    params: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (key and equals and value) or key in params:
            raise typer.BadParameter(
                f"parameters are written {name}:parameter=value,... each once, but got {text!r}",
                param_hint="TASK",
            )
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return name, params


def task_text(name: str, params: dict[str, Any]) -> str:
    """Write a task so that `task` reads it."""
    pairs = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in params.items()
    ]
    return f"{name}:{','.join(pairs)}" if pairs else name


def widths(text: str) -> tuple[int, ...]:
    """Read the widths of hidden layers, ``10-7-5``, or ``none``."""
    if text in ("none", ""):
        return ()
    try:
        return tuple(int(width) for width in text.split("-"))
    except ValueError:
        raise typer.BadParameter(
            f"widths are written 10-7-5-4-3, or none for no hidden layer, but got {text!r}",
            param_hint="--hidden",
        ) from None


def batch_size(text: str) -> int | None:
    """Read a batch size; ``full`` is None."""
    if text == "full":
        return None
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(
            f"a batch size is a number of samples or full, but got {text!r}", param_hint="--batch-size"
        ) from None


def seeds(text: str) -> list[int]:
    """Read seeds: ``20`` is 0 to 19; ``0-9,15`` lists them, and ``7,`` is seed 7 alone."""
    try:
        if text.isdecimal():
            return list(range(int(text)))
        found: list[int] = []
        for part in text.removesuffix(",").split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        raise typer.BadParameter(
            f"seeds are written as their number (20), or as a list (0-9,15 or 7,), but got {text!r}",
            param_hint="--seeds",
        ) from None
    return found


def interval(text: str) -> tuple[float, float]:
    """Read two numbers, ``low..high``."""
    low, _, high = text.partition("..")
    try:
        return float(low), float(high)
    except ValueError:
        raise typer.BadParameter(
            f"a range is written low..high, such as -1..1, but got {text!r}", param_hint="--range"
        ) from None


def store_folder(store: str) -> "Path":
    """Read the path of a store that may be new; a run inside one is none."""
    from ipstore.reader import split_run

    path, inside = split_run(store)
    if inside:
        raise typer.BadParameter(
            f"{store!r} is a run of the store {str(path)!r}; write that and --run {inside}",
            param_hint="STORE",
        )
    return path


def choose_runs(store: str, run: str | None) -> tuple["Path", list[str]]:
    """Find what ``STORE``, ``STORE/RUN`` or ``STORE --run RUN`` names: one run, or all of the store.

    Returns
    -------
    (Path, list of str)
        The store, and names of its runs.
    """
    from ipstore.format import check_store, run_names
    from ipstore.reader import split_run

    path, inside = split_run(store)
    if run and inside:
        raise typer.BadParameter(
            f"{store!r} names a run already; leave out one of the two", param_hint="--run"
        )
    check_store(path)
    names = run_names(path)
    wanted = run or inside
    if wanted is None:
        if not names:
            raise StoreNotFoundError(
                f"the store {str(path)!r} holds no run yet: make one with `ipstore capture`"
            )
        return path, names
    if wanted not in names:
        raise UnknownNameError(f"run in {str(path)!r}", wanted, names)
    return path, [wanted]
