"""What an analysis wrote: a published group of its own below the run, growing with the run's epochs."""

import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ipstore.errors import ParameterError, RunExistsError
from ipstore.format import FORMAT, FORMAT_VERSION, check_version
from ipstore.group import GrowingGroup, read_document, remove_group, utc_now
from ipstore.reader import open_published
from ipstore.schema import GrowingArray, StaticArray, check_name

__all__ = ["ResultWriter", "open_result"]

_CHUNK_EPOCHS = 64


class ResultWriter:
    """Appends the epochs that a result lacks.

    Parameters
    ----------
    run : Path
        Folder of the run.
    name : str
        Name of the result.
    quantities : mapping of str to mapping
        Variables over (epoch, seed, layer), with their attributes.
    seeds : sequence of int
    layers : sequence of str
    provenance : mapping
        JSON attributes that say where the result comes from.
    identity : sequence of str
        Those of them that say what it is; a result that is stored must have the same, or lack the same.
    static : mapping of str to DataArray
        What stands beside the quantities and does not grow, in memory.
    anew : bool
        Begin aside with nothing, and take the place of what is stored at `finish`.

    Raises
    ------
    ParameterError
        If a result of that name says something else of itself.
    RunLockedError
        If another process writes it.
    """

    def __init__(
        self,
        run: Path,
        name: str,
        quantities: Mapping[str, Mapping[str, Any]],
        seeds: Sequence[int],
        layers: Sequence[str],
        provenance: Mapping[str, Any],
        identity: Sequence[str],
        *,
        static: Mapping[str, xr.DataArray],
        anew: bool = False,
    ) -> None:
        folder = self._place = run / "results" / check_name("result", name)
        folder.parent.mkdir(exist_ok=True)
        if anew:
            folder = folder.with_name(f".{name}.anew")
            if folder.exists():
                remove_group(folder)
        if not folder.exists():
            shape = (len(seeds), len(layers))
            growing = [GrowingArray("epoch", (), (), "int64", attrs={"long_name": "completed epochs"})]
            growing += [
                GrowingArray(quantity, ("seed", "layer"), shape, "float64", attrs=attrs)
                for quantity, attrs in quantities.items()
            ]
            standing = [
                *(StaticArray(key, tuple(map(str, a.dims)), a.to_numpy(), a.attrs) for key, a in static.items()),
                StaticArray("seed", ("seed",), np.array(seeds, np.int64)),
                StaticArray("layer", ("layer",), np.array(layers, np.dtypes.StringDType())),
            ]
            attrs = {"format": FORMAT, "format_version": FORMAT_VERSION, "created_at": utc_now(), **provenance}
            try:
                self._group = GrowingGroup.create(folder, growing, standing, attrs, shard_epochs=_CHUNK_EPOCHS)
            except RunExistsError:  # another process was quicker; if it is still at it, the lease says so
                self._group = GrowingGroup.resume(folder)
        else:
            _check_same(folder, provenance, identity)
            self._group = GrowingGroup.resume(folder)

    @property
    def epochs(self) -> int:
        """Number of epochs that are stored."""
        return self._group.epochs

    def append(self, values: xr.Dataset) -> None:
        """Store further epochs, durably.

        Parameters
        ----------
        values : Dataset over (epoch, seed, layer)
            In memory, following those stored. What has no epoch is left out.
        """
        start, stop = self.epochs, self.epochs + values.sizes["epoch"]
        inner = range(start - start % _CHUNK_EPOCHS + _CHUNK_EPOCHS, stop, _CHUNK_EPOCHS)
        for first, last in pairwise([start, *inner, stop]):
            piece = values.isel(epoch=slice(first - start, last - start))
            for name, array in {"epoch": piece["epoch"], **piece.data_vars}.items():
                if "epoch" in array.dims:
                    self._group.write(str(name), first, array.to_numpy())
        self._group.publish(stop)

    def finish(self) -> None:
        """Put a result that was begun aside in its place."""
        if self._group.folder != self._place:
            if self._place.exists():
                remove_group(self._place)
            os.rename(self._group.folder, self._place)

    def close(self) -> None:
        """Let others write the result; one of which nothing is stored yet is taken away."""
        if not self._group.epochs and self._group.folder.exists():
            shutil.rmtree(self._group.folder)
        self._group.close()


def open_result(run: Path, name: str) -> xr.Dataset:
    """Open a result of a run, lazily.

    Parameters
    ----------
    run : Path
        Folder of the run.
    name : str

    Returns
    -------
    xarray.Dataset
        Its quantities (epoch, seed, layer), with the provenance as attributes.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    return open_published(run / "results" / check_name("result", name)).to_dataset()


def _check_same(folder: Path, provenance: Mapping[str, Any], identity: Sequence[str]) -> None:
    attrs = read_document(folder)["attributes"]
    check_version(attrs, folder)
    different = {key: attrs.get(key) for key in identity if attrs.get(key) != provenance.get(key)}
    if different:
        raise ParameterError(
            f"result {folder.name!r} is of something else ({different}, not "
            f"{ {key: provenance.get(key) for key in different} }): give another name, or have it done again"
        )
