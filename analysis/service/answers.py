"""What a store holds, as documents for programs that read JSON; see `ipstore.describing`."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from ipstore.describing import described, listed
from ipstore.errors import ParameterError, UnknownNameError
from ipstore.format import check_store, find_run
from ipstore.parts import holders
from ipstore.places import Place
from ipstore.reader import open as open_store
from ipstore.reader import open_published, run_info
from ipstore.reader import runs as list_runs
from ipstore.schema import is_name

__all__ = ["Query", "result", "run", "runs"]

Query = Mapping[str, Sequence[str]]
"""What stands after the ``?`` of a URL."""

_MOST_VALUES = 1_000_000
"""In one answer: some 20 MB of JSON, which take a second to write."""


def runs(store: Place, query: Query) -> dict[str, Any]:
    """List the runs of a store, as ``ipstore runs --json`` does."""
    _take_nothing(query)
    return {"store": store.name, "runs": [listed(info) for info in list_runs(store)]}


def run(store: Place, run: str, query: Query) -> dict[str, Any]:
    """Tell all about a run, as ``ipstore info --json`` does; of one in parts, list these.

    Raises
    ------
    UnknownNameError
    """
    _take_nothing(query)
    infos = [run_info(store / name) for name in _held(store, run)]
    if len(infos) > 1:
        return {"store": store.name, "runs": [listed(info) for info in infos]}
    return {"store": store.name, **described(store / infos[0].name, infos[0])}


def result(store: Place, run: str, result: str, query: Query) -> dict[str, Any]:
    """Give a result: attributes, dimensions, coordinates and values, as `xarray.Dataset.from_dict` takes them.

    Parameters
    ----------
    store : Place
    run, result : str
    query : mapping of str to sequence of str
        For a dimension, what is wanted of it: a label, several with commas between them, or ``first..last``.

    Raises
    ------
    UnknownNameError
        If there is no such run, result, dimension or label.
    ParameterError
        If that is more than is sent as JSON.
    """
    held = _held(store, run)
    if len(held) > 1:
        tree = open_store(store, run=run)
        known = list(tree["results"].children) if "results" in tree.children else []
    else:
        known = list(run_info(store / held[0]).results)
    if result not in known:
        raise UnknownNameError("result", result, known, f"run {run!r} has none of that name")
    node: Any = tree["results"][result] if len(held) > 1 else open_published(store / held[0] / "results" / result)
    chosen = _select(node.to_dataset(), query)
    count = sum(prod(array.shape) for array in chosen.variables.values())
    if count > _MOST_VALUES:
        sizes = ", ".join(f"{name} {length}" for name, length in chosen.sizes.items())
        raise ParameterError(
            f"the result has {count:,} values ({sizes}), and at most {_MOST_VALUES:,} are sent as JSON: choose some, "
            f"as in ?epoch=0..100&seed=0,1, or read it as Zarr, from /store/{held[0]}/results/{result}"
        )
    return {"store": store.name, "run": run, "result": result, **chosen.to_dict(data="list")}


def _take_nothing(query: Query) -> None:
    if query:
        raise ParameterError(f"of a result epochs, seeds and layers can be chosen, but here got ?{'&'.join(query)}")


def _held(store: Place, run: str) -> list[str]:
    """Name the runs that hold what is opened as `run`."""
    check_store(store)
    if not is_name(run):
        raise UnknownNameError("run", run, store.groups())
    return holders(store, run) or [find_run(store, run).name]


def _select(data: xr.Dataset, query: Query) -> xr.Dataset:
    for name, wanted in query.items():
        if name not in data.indexes:
            raise UnknownNameError("dimension with labels", name, map(str, data.indexes))
        labels = data.indexes[name]
        places: list[int] = []
        for text in ",".join(wanted).split(","):
            first, dots, last = (part.strip() for part in text.partition(".."))
            if dots:
                low, high = _place(name, first, labels), _place(name, last, labels)
                if low > high:
                    raise ParameterError(f"{name} is written first..last, but {first} comes after {last}")
                places += range(low, high + 1)
            else:
                places.append(_place(name, first, labels))
        data = data.isel({name: places})
    return data


def _place(name: str, text: str, labels: Any) -> int:
    """Find a label, written as text."""
    written = list(map(str, labels.tolist()))
    if text in written:
        return written.index(text)
    if labels.to_numpy().dtype.kind in "iuf":
        try:
            number = float(text)
        except ValueError:
            raise ParameterError(f"{name} is a number, several with commas, or first..last, but got {text!r}") from None
        found = np.flatnonzero(labels.to_numpy() == number)
        if len(found):
            return int(found[0])
        first, last = (written[0], written[-1]) if written else ("none", "none")
        raise ParameterError(f"there is no {name} {text} in this result: they go from {first} to {last}")
    raise UnknownNameError(name, text, written)
