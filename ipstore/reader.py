"""Reading: a store or a run as a lazy `xarray.DataTree`."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from ipstore.chunking import TASK_BYTES, task_cells
from ipstore.errors import ListingError
from ipstore.format import check_store, find_run, split_run
from ipstore.group import read_document
from ipstore.parts import holders, join, named_runs
from ipstore.pipeline import codec_pipeline
from ipstore.places import Location, Place, locate
from ipstore.representations import facts_html, glance, table_html, table_text
from ipstore.virtual import with_activations
from ipstore.wording import size

__all__ = ["RunInfo", "RunList", "in_tasks", "open", "open_published", "open_run", "open_stored", "run_info", "runs"]

_open_tree: Any = xr.open_datatree  # takes Zarr stores, though its types do not say so


def open(store: Location, run: str | None = None) -> xr.DataTree:
    """Open a store, or one run of it, lazily.

    Parameters
    ----------
    store : path or URL
        A store, such as ``"runs.zarr"`` or ``"s3://bucket/runs.zarr"``; ``"<store>/<run>"`` opens one run, as ``run=``
        does. See `ipstore.places.locate`.
    run : str, optional
        Name of a run, or of one whose parts are stored (see `ipstore.merge`): they are presented as one along
        ``seed``, at the epochs that all of them have.

    Returns
    -------
    xarray.DataTree
        One run: groups ``probe``, ``activations``, ``training``, ``weights``, ``digest`` and, where an analysis
        wrote some, ``results/<name>``, at one committed epoch. A store: a child of that kind per run.
        Arrays are Dask arrays; nothing but coordinates is read. All of a run stand on its epochs: where a result has
        none of them, as when the run has grown since or only some were asked for, it is NaN.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, UnknownNameError
    ParameterError
        If parts do not fit together; the message names what differs, and in which.
    """
    place, run = split_run(store) if run is None else (locate(store), run)
    check_store(place)
    if run is not None:
        return _open_held(place, run, holders(place, run) or [find_run(place, run).name])
    children = {name: _open_held(place, name, held) for name, held in named_runs(place).items()}
    return xr.DataTree(children=children, name=place.name)


def _open_held(store: Place, run: str, held: Sequence[str]) -> xr.DataTree:
    """Open what is known as `run`: a run, or several that hold parts of it."""
    if held == [run]:
        return open_run(store / run)
    return join(run, {name: open_run(store / name) for name in held})


def open_run(run: Location) -> xr.DataTree:
    """Open a run, joined with its results.

    Parameters
    ----------
    run : path or URL
        ``"<store>/<run>"``.

    Returns
    -------
    xarray.DataTree
    """
    place = locate(run)
    tree = open_published(place)
    epochs = tree["epoch"].to_numpy()
    results = {}
    for name in _result_names(place):
        result = open_published(place / "results" / name).to_dataset()
        stands_there = np.array_equal(result["epoch"], epochs)
        results[name] = xr.DataTree(result if stands_there else result.reindex(epoch=epochs))
    if results:
        tree["results"] = xr.DataTree(children=results)
    return tree


def _result_names(run: Place) -> list[str]:
    try:
        return (run / "results").groups()
    except ListingError as error:
        warnings.warn(f"the results of {run.name!r} are left out: {error}", stacklevel=4)
        return []


def open_published(group: Location) -> xr.DataTree:
    """Open one published group, a run without its results or a result, as Dask arrays; see `open_stored`."""
    return in_tasks(open_stored(group))


def open_stored(group: Location) -> xr.DataTree:
    """Open one published group, a run without its results or a result, as arrays that are read when they are used.

    Parameters
    ----------
    group : path or URL

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    place = locate(group)
    read_document(place)  # refuses what xarray would trip over, or take for data
    store = place.zarr()
    with codec_pipeline():
        tree: xr.DataTree = _open_tree(store, engine="zarr", chunks=None, consolidated=True, zarr_format=3, cache=False)
    tree.name = place.name
    return tree


def in_tasks(tree: xr.DataTree) -> xr.DataTree:
    """Turn what `open_stored` gives, or a part of it, into Dask arrays, of whole shards where it holds them.

    Of a run that stored weights alone, activations are added; see `with_activations`.
    """
    chunked: xr.DataTree = with_activations(tree.copy()).map_over_datasets(
        lambda node: node.assign(
            {
                name: array.variable.chunk(_task_chunks(array))  # without its coordinates, which stay in memory
                for name, array in node.data_vars.items()
                if array.chunks is None
            }
        )
    )
    return chunked


def _task_chunks(array: xr.DataArray) -> dict[str, int]:
    """Choose what one Dask task reads: whole shards, enough cells to be worth a task, few enough bytes to fit."""
    if array.dims[:1] != ("epoch",):
        return dict(zip(map(str, array.dims), array.shape, strict=True))
    shard = (array.encoding.get("shards") or array.encoding["chunks"])[0]
    if not array.encoding.get("shards"):
        fitting = TASK_BYTES // max(1, prod(array.shape[1:]) * array.dtype.itemsize)
        return {"epoch": max(1, fitting // shard) * shard}
    epochs, seeds = task_cells(shard, array.encoding["chunks"][0], prod(array.shape[2:]) * array.dtype.itemsize)
    return {"epoch": epochs, "seed": seeds}


@dataclass(frozen=True, repr=False)
class RunInfo:
    """A run at a glance, from its commit record alone.

    Attributes
    ----------
    name : str
    status : str
        "live" while a process writes it, then "finished", "interrupted", or "stopped" where its writer ended
        without a word.
    attrs : dict
        The run's attributes: task, model, config, level, seeds, commit, ...
    results : tuple of str
        Names of its results.
    stored_bytes : int
        Bytes of its files, results included.
    files : int
        Their number, but for the documents that publish the run and its results.
    """

    name: str
    status: str
    attrs: dict[str, Any]
    results: tuple[str, ...]
    stored_bytes: int
    files: int

    def glance(self) -> dict[str, str]:
        """Say in a few words each what a list of runs says of this one: status, task, level, epochs, seeds, size."""
        commit = self.attrs["commit"]
        told = glance(self.attrs, epochs=commit["epochs"], last_epoch=commit.get("last_epoch"))
        results = {"results": str(len(self.results))} if self.results else {}
        return {"run": self.name, "status": self.status, **told, **results, "on disk": size(self.stored_bytes)}

    def __repr__(self) -> str:
        told = self.glance()
        return f"<run {told.pop('run')!r}: {', '.join(f'{name} {text}' for name, text in told.items())}>"

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())

    def _facts(self) -> tuple[str, dict[str, str]]:
        facts = self.glance()
        facts |= {"layers": ", ".join(self.attrs["layers"])}
        if self.results:
            facts["results"] = ", ".join(self.results)
        return f"run {facts.pop('run')!r}", facts


class RunList(list[RunInfo]):
    """Runs, as a list that is shown as a table."""

    def __repr__(self) -> str:
        return table_text(*self._rows())

    def _repr_html_(self) -> str:
        return table_html(*self._rows())

    def _rows(self) -> tuple[str, list[dict[str, str]]]:
        return f"{len(self)} run{'' if len(self) == 1 else 's'}", [info.glance() for info in self]


def run_info(run: Location) -> RunInfo:
    """Describe a run.

    Parameters
    ----------
    run : path or URL
        ``"<store>/<run>"``.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    place = locate(run)
    attrs = read_document(place, "run")["attributes"]
    status = attrs["status"]
    if place.is_leased():
        status = "live"
    elif status == "running":
        status = "stopped"
    results = _result_names(place)
    commits = [
        attrs["commit"],
        *(read_document(place / "results" / name, "result")["attributes"]["commit"] for name in results),
    ]
    if all({"bytes", "files"} <= commit.keys() for commit in commits):
        stored, files = (sum(commit[name] for commit in commits) for name in ("bytes", "files"))
    else:  # written by ipstore 0.1, which did not count
        sizes = place.sizes().values()
        stored, files = sum(sizes), len(sizes)
    return RunInfo(place.name, status, attrs, tuple(results), stored, files)


def runs(store: Location) -> RunList:
    """Describe every run of a store.

    Returns
    -------
    list of RunInfo
        A notebook shows it as a table.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    place = locate(store)
    check_store(place)
    with ThreadPoolExecutor(place.writers) as pool:
        return RunList(pool.map(lambda name: run_info(place / name), place.groups()))
