"""How things are written on the command line, and what they mean."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ipstore.errors import ParameterError, StoreNotFoundError
from ipstore.wording import task_text

if TYPE_CHECKING:
    from ipstore.places import Location, Place

_T = TypeVar("_T")

__all__ = [
    "batch_size",
    "choose_runs",
    "interval",
    "labels",
    "number",
    "seeds",
    "several",
    "store_place",
    "stored_runs",
    "task",
    "widths",
]


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
            raise ParameterError(f"task parameters are written {name}:parameter=value,... each once, but got {text!r}")
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return name, params


def widths(text: str) -> tuple[int, ...]:
    """Read the widths of hidden layers, ``10-7-5``, or ``none``."""
    try:
        return () if text == "none" else tuple(int(width) for width in text.split("-"))
    except ValueError:
        raise ParameterError(f"--hidden is written 10-7-5-4-3, or none for no hidden layer, but got {text!r}") from None


def batch_size(text: str) -> int | None:
    """Read a batch size; ``full`` is None."""
    try:
        return None if text == "full" else int(text)
    except ValueError:
        raise ParameterError(f"--batch-size is a number of samples, or full, but got {text!r}") from None


def number(option: str, text: str) -> float:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        raise ParameterError(f"{option} is a number, such as 0.2, but got {text!r}") from None


def several(option: str, text: str, read: Callable[[str], _T]) -> list[_T]:
    """Read a value, or those of a sweep with commas between them.

    Parameters
    ----------
    option : str
        For the message.
    text : str
    read : callable
        Reads one.
    """
    parts = [part.strip() for part in text.split(",")]
    if "" in parts and len(parts) > 1:
        raise ParameterError(f"{option} has one value, or several with a comma between them, but got {text!r}")
    return [read(part) for part in parts]


def seeds(text: str) -> list[int]:
    """Read seeds: ``20`` is 0 to 19; ``0-9,15`` lists them, and ``7,`` is seed 7 alone."""
    try:
        if text.isdecimal():
            return list(range(int(text)))
        found: list[int] = []
        for part in text.removesuffix(",").split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last if dash else first) + 1)
    except ValueError:
        raise ParameterError(f"--seeds is their number (20), or lists them (0-9,15 or 7,), but got {text!r}") from None
    return found


def interval(text: str) -> tuple[float, float]:
    """Read two numbers, ``low..high``."""
    low, _, high = text.partition("..")
    try:
        return float(low), float(high)
    except ValueError:
        raise ParameterError(f"--range is written low..high, such as -1..1, but got {text!r}") from None


def store_place(store: str) -> "Place":
    """Read the path of a store that may be new; a run inside one is none."""
    from ipstore.format import split_run

    place, inside = split_run(store)
    if inside:
        raise ParameterError(f"{store!r} is a run; give its store, {str(place)!r}")
    return place


def choose_runs(store: "Location", run: str | None) -> tuple["Place", list[str]]:
    """Find what ``STORE``, ``STORE/RUN`` or ``STORE --run RUN`` names: one run, or all of the store.

    Returns
    -------
    (Place, list of str)
        The store, and names under which `ipstore.open` opens its runs; that of runs in parts is their joint name.
    """
    from ipstore.format import check_store, find_run, split_run
    from ipstore.parts import holders, named_runs

    place, inside = split_run(store)
    if run and inside:
        raise ParameterError(f"{store!r} names a run, and --run {run} another; give one of them")
    wanted = run or inside
    check_store(place)
    if wanted is None:
        names = list(named_runs(place))
        if not names:
            raise StoreNotFoundError(f"the store {str(place)!r} holds no run yet: make one with `ipstore capture`")
        return place, names
    return place, [wanted if holders(place, wanted) else find_run(place, wanted).name]


def stored_runs(store: "Location", run: str | None) -> tuple["Place", list[str]]:
    """Find the same, but name each part of a run in parts.

    Returns
    -------
    (Place, list of str)
        The store, and names of its runs as they are stored.
    """
    from ipstore.parts import holders

    place, names = choose_runs(store, run)
    return place, [held for name in names for held in holders(place, name)]


def labels(store: "Place", run: str, kind: str | None, information: float | None) -> dict[str, Any]:
    """Read ``--labels`` and ``--information``: to which p(y|x) the analyses of a run refer.

    Parameters
    ----------
    store : Place
    run : str
    kind : {"soft", "hard"}, optional
        By default as captured.
    information : float, optional
        I(X;Y) in bits of the soft labels, for a run on a task that takes it.

    Returns
    -------
    dict
        The option ``labels`` of `ipstore.analysis.analyze`, or nothing where the labels are those that were captured.

    Raises
    ------
    ParameterError
        If the two contradict each other, or the run cannot give such labels; then it says what to do.
    """
    if kind not in (None, "soft", "hard"):
        raise ParameterError(f"--labels must be soft or hard but got {kind!r}")
    if kind == "hard":
        if information is not None:
            raise ParameterError(f"--information {information} is that of soft labels, but --labels is hard; give one")
        return {"labels": "hard"}
    if kind is None and information is None:
        return {}
    import numpy as np
    import xarray as xr

    import ipstore
    from ipstore.analysis.plane import View
    from ipstore.trainers import tasks

    tree = ipstore.open(store, run=run)
    if information is None:
        if View().probe(tree).labels == "hard":
            raise ParameterError(
                f"run {run!r} was captured with hard labels, so soft ones need their I(X;Y) too: --information 0.99"
            )
        return {}
    name, params = tree.attrs["task"], tree.attrs.get("task_params", {})
    if name not in tasks.available():  # a store may come from anyone: what it names is not imported
        raise ParameterError(
            f"--information takes labels of the tasks that come with ipstore ({', '.join(tasks.available())}), but run "
            f"{run!r} was captured on {name!r}; give p(y|x) in Python: ipstore.analysis.analyze(..., labels=p)"
        )
    if params.get("information") == information:
        return {}
    params = {**params, "information": information}
    built = tasks.load(name, **params)
    if not np.array_equal(built.x, tree["probe/x"]):
        raise ParameterError(
            f"run {run!r} holds other inputs than {task_text(name, params)}, so its labels do not fit them; "
            "give p(y|x) in Python: ipstore.analysis.analyze(..., labels=p)"
        )
    return {"labels": xr.DataArray(built.p_y_given_x, dims=("sample", "class"), name=task_text(name, params))}
