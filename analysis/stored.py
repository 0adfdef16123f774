"""Estimates of a run that are kept in it: computed once, continued as the run grows."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from ipstore.analysis.plane import information_plane
from ipstore.format import find_run, local_path
from ipstore.reader import open_published
from ipstore.results import ResultWriter, open_result
from ipstore.version import __version__

__all__ = ["analyze"]

_IDENTITY = ("estimator", "estimator_version", "parameters", "layers")


def _ignore(done: int, total: int) -> None:
    pass


def analyze(
    store: str | os.PathLike[str],
    run: str,
    estimator: str = "binned",
    *,
    layers: Sequence[str] | None = None,
    name: str | None = None,
    again: bool = False,
    on_progress: Callable[[int, int], None] = _ignore,
    **params: Any,
) -> xr.Dataset:
    """Estimate the information plane of a run, and keep it in the run.

    What is stored under the same estimator, version, parameters and layers is not computed again; of a run that
    has grown, only the new epochs are. They are computed and stored a shard of epochs at a time, so memory does
    not grow with the run, and an analysis that is broken off goes on where it was.

    Parameters
    ----------
    store : path
    run : str
    estimator : str
        See `ipstore.analysis.estimators.available`.
    layers : sequence of str, optional
        By default all.
    name : str, optional
        Of the result; by default the estimator's with a short digest of all that the result depends on.
    again : bool
        Compute everything anew; what is stored stands until that is done.
    on_progress : callable
        Called with the number of epochs that are stored, and of all.
    **params
        Parameters of the estimator.

    Returns
    -------
    xarray.Dataset
        Quantities (epoch, seed, layer), lazily read from the run, with their provenance as attributes: estimator,
        version, parameters, units, run and time.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, UnknownNameError, ParameterError, ActivationError
    RunLockedError
        If another process is computing the same result.
    """
    folder = find_run(local_path(store), run)
    tree = open_published(folder)
    plane = information_plane(tree, estimator, layers=layers, **params)
    provenance = {
        **plane.attrs,
        "layers": [str(layer) for layer in plane["layer"].values],
        "ipstore_version": __version__,
        "run_created_at": tree.attrs["created_at"],
    }
    name = name or _result_name(provenance)
    provenance["name"] = name

    def part(epochs: slice) -> xr.Dataset:
        # A plane of just these epochs: Dask's work on a graph grows with the graph, and the whole run's is large.
        return information_plane(_between(tree, epochs), estimator, layers=layers, **params).compute()

    _compute(folder, plane, part, provenance, again, on_progress)
    return open_result(folder, name)


def _compute(
    folder: Path,
    plane: xr.Dataset,
    part: Callable[[slice], xr.Dataset],
    provenance: Mapping[str, Any],
    anew: bool,
    on_progress: Callable[[int, int], None],
) -> None:
    total = plane.sizes["epoch"]
    writer = ResultWriter(
        folder,
        provenance["name"],
        {str(quantity): array.attrs for quantity, array in plane.data_vars.items()},
        [int(seed) for seed in plane["seed"].values],
        provenance["layers"],
        provenance,
        anew=anew,
    )
    try:
        on_progress(writer.epochs, total)
        step = max(plane.chunksizes["epoch"])
        while writer.epochs < total:
            stop = min(total, writer.epochs // step * step + step)
            writer.append(part(slice(writer.epochs, stop)))
            on_progress(stop, total)
        writer.finish()
    finally:
        writer.close()


def _between(run: xr.DataTree, epochs: slice) -> xr.DataTree:
    """Take the parts of a run that a plane needs, at some of its epochs."""
    groups = {"/": run, "/activations": run.children["activations"]}
    kept = {path: node.to_dataset(inherit=False).isel(epoch=epochs) for path, node in groups.items()}
    return xr.DataTree.from_dict({**kept, "/probe": run.children["probe"].to_dataset(inherit=False)}, name=run.name)


def _result_name(provenance: Mapping[str, Any]) -> str:
    identity = json.dumps([provenance[key] for key in _IDENTITY], sort_keys=True)
    return f"{provenance['estimator']}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
