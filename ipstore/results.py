"""What an analysis wrote: a published group of its own below the run, growing with the run's epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ipstore.errors import ParameterError, RunExistsError
from ipstore.format import FORMAT, FORMAT_VERSION
from ipstore.group import GrowingGroup, read_document, remove_group, utc_now
from ipstore.places import DOCUMENT, Place
from ipstore.reader import open_published
from ipstore.schema import EPOCHS, GrowingArray, StaticArray, check_name

__all__ = ["ResultWriter", "open_result"]

_CHUNK_EPOCHS = 64


class ResultWriter:
    """Appends the epochs that a result lacks.

    Parameters
    ----------
    run : Place
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
        run: Place,
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
        place = self._place = run / "results" / check_name("result", name)
        if anew:
            place = run / "results" / f".{name}.anew"
            if place.exists(DOCUMENT):
                remove_group(place)
        if not place.exists(DOCUMENT):
            shape = (len(seeds), len(layers))
            growing = [EPOCHS]
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
                self._group = GrowingGroup.create(place, growing, standing, attrs, shard_epochs=_CHUNK_EPOCHS)
            except RunExistsError:  # another process was quicker; if it is still at it, the lease says so
                self._group = GrowingGroup.resume(place)
        else:
            _check_same(place, provenance, identity)
            self._group = GrowingGroup.resume(place)

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
        for name, array in {"epoch": values["epoch"], **values.data_vars}.items():
            if "epoch" in array.dims:
                self._group.write(str(name), start, array.to_numpy())
        self._group.publish(stop)

    def finish(self) -> None:
        """Put a result that was begun aside in its place."""
        if self._group.place != self._place:
            self._group.move(self._place)

    def close(self) -> None:
        """Let others write the result; one of which nothing is stored yet is taken away."""
        if not self._group.epochs and self._group.place.exists(DOCUMENT):
            self._group.place.remove()
        self._group.close()


def open_result(run: Place, name: str) -> xr.Dataset:
    """Open a result of a run, lazily.

    Parameters
    ----------
    run : Place
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


def _check_same(place: Place, provenance: Mapping[str, Any], identity: Sequence[str]) -> None:
    attrs = read_document(place, "result")["attributes"]
    different = {key: attrs.get(key) for key in identity if attrs.get(key) != provenance.get(key)}
    if different:
        raise ParameterError(
            f"result {place.name!r} is of something else ({different}, not "
            f"{ {key: provenance.get(key) for key in different} }): give another name, or have it done again"
        )
