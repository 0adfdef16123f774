"""Reading: a store or a run as a lazy `xarray.DataTree`."""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ipstore.durable import Lease
from ipstore.format import check_store, check_version, find_run, local_path, run_names
from ipstore.group import read_document
from ipstore.pipeline import codec_pipeline

__all__ = ["RunInfo", "open", "open_published", "open_run", "run_info", "runs", "split_run"]

_TASK_BYTES = 2**26
"""Bytes of one Dask task, at most, where one chunk is smaller."""

_TASK_CELLS = 40
"""(epoch, seed) cells of one Dask task, at least, where the bytes allow: fewer cost more in scheduling than in work."""


def open(store: str | os.PathLike[str], run: str | None = None) -> xr.DataTree:
    """Open a store, or one run of it, lazily.

    Parameters
    ----------
    store : path
        A store; ``"<store>/<run>"`` opens one run, as ``run=`` does.
    run : str, optional
        Name of a run.

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
    """
    path, run = split_run(store) if run is None else (local_path(store), run)
    if run is not None:
        return open_run(find_run(path, run))
    check_store(path)
    return xr.DataTree(children={name: open_run(path / name) for name in run_names(path)}, name=path.name)


def open_run(folder: Path) -> xr.DataTree:
    """Open the run in a folder, joined with its results.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    xarray.DataTree
    """
    tree = open_published(folder)
    epochs = tree["epoch"].to_numpy()
    results = {}
    for path in _published(folder / "results"):
        result = open_published(path).to_dataset()
        stands_there = np.array_equal(result["epoch"], epochs)
        results[path.name] = xr.DataTree(result if stands_there else result.reindex(epoch=epochs))
    if results:
        tree["results"] = xr.DataTree(children=results)
    return tree


def open_published(folder: Path) -> xr.DataTree:
    """Open one published group, a run without its results or a result, lazily.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    check_version(read_document(folder)["attributes"], folder)
    with codec_pipeline():
        tree = xr.open_datatree(folder, engine="zarr", chunks=None, consolidated=True, cache=False)
    chunked: xr.DataTree = tree.map_over_datasets(
        lambda node: node.assign({name: array.chunk(_task_chunks(array)) for name, array in node.data_vars.items()})
    )
    chunked.name = folder.name
    return chunked


def _published(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("[!.]*/zarr.json"))


def _task_chunks(array: xr.DataArray) -> dict[str, int]:
    """Choose what one Dask task reads: whole shards, enough cells to be worth a task, few enough bytes to fit."""
    if array.dims[:1] != ("epoch",):
        return dict(zip(map(str, array.dims), array.shape, strict=True))
    shard = (array.encoding.get("shards") or array.encoding["chunks"])[0]
    if not array.encoding.get("shards"):
        fitting = _TASK_BYTES // max(1, prod(array.shape[1:]) * array.dtype.itemsize)
        return {"epoch": max(1, fitting // shard) * shard}
    fitting = max(1, _TASK_BYTES // max(1, prod(array.shape[2:]) * array.dtype.itemsize))
    chunk = array.encoding["chunks"][0]
    epochs = shard if fitting >= shard else max(1, fitting // chunk * chunk)
    return {"epoch": epochs, "seed": max(1, min(-(-_TASK_CELLS // epochs), fitting // epochs))}


@dataclass(frozen=True)
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
        Size on the disk.
    files : int
        Number of files.
    """

    name: str
    status: str
    attrs: dict[str, Any]
    results: tuple[str, ...]
    stored_bytes: int
    files: int


def run_info(folder: Path) -> RunInfo:
    """Describe the run in a folder.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    attrs = read_document(folder)["attributes"]
    check_version(attrs, folder)
    status = attrs["status"]
    if Lease.is_held(folder):
        status = "live"
    elif status == "running":
        status = "stopped"
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    results = tuple(path.name for path in _published(folder / "results"))
    return RunInfo(folder.name, status, attrs, results, sum(sizes), len(sizes))


def runs(store: str | os.PathLike[str]) -> list[RunInfo]:
    """Describe every run of a store.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    path = local_path(store)
    check_store(path)
    return [run_info(path / name) for name in run_names(path)]


def split_run(store: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Take ``STORE`` or ``STORE/RUN`` apart.

    Returns
    -------
    (Path, str or None)
        The store, and the run where the path names one.
    """
    path = local_path(store)
    if path.name and (path.parent / "zarr.json").is_file() and not (path.parent.parent / "zarr.json").is_file():
        return path.parent, path.name
    return path, None
