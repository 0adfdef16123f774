"""What the pages draw of a store's runs, in memory once for all browsers."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
import xarray as xr

from ipstore.analysis.dynamics import crossing
from ipstore.analysis.service.drawn import Lines, Trajectories
from ipstore.group import read_document
from ipstore.places import Location, Place, locate
from ipstore.reader import open_published, open_run

__all__ = ["Holdings"]

_LIMIT = 512 * 2**20
"""Bytes that are held; what was not asked for longest goes first."""


_T = TypeVar("_T")


class _Held(NamedTuple):
    attrs: Mapping[str, Any]
    """Of the document that published it."""
    data: xr.Dataset


class Holdings:
    """Training records and results of a store's runs, read when they are asked for, and as they grow.

    All methods may be called from any thread. What they give is shared: it must not be changed.

    Parameters
    ----------
    store : path or URL
    limit : int
        Bytes to hold at most, beside what is in use.
    """

    def __init__(self, store: Location, limit: int = _LIMIT) -> None:
        self._place = locate(store)
        self._limit = limit
        self._held: OrderedDict[tuple[str, str], _Held] = OrderedDict()
        self._drawn: dict[tuple[str, str, str], tuple[xr.Dataset, Any]] = {}
        self._busy: dict[tuple[str, str], Lock] = {}
        self._lock = Lock()

    def training(self, run: str) -> xr.Dataset:
        """Give what was recorded of a run's training.

        Returns
        -------
        Dataset
            ``loss``, ``accuracy`` (epoch, seed, split) and norms (epoch, seed, layer), in memory, as far as the run
            has them; with the run's attributes.
        """
        place = self._place / run
        return self._current((run, ""), place, lambda: _training(open_published(place)))

    def result(self, run: str, name: str) -> xr.Dataset:
        """Give a result of a run.

        Returns
        -------
        Dataset
            Its quantities (epoch, seed, layer), in memory, and what it says of itself as attributes.
        """
        place = self._place / run / "results" / name
        return self._current((run, name), place, lambda: open_published(place).to_dataset())

    def results(self, run: str) -> dict[str, dict[str, Any]]:
        """Give what each result of a run says of itself, by name."""
        place = self._place / run / "results"
        return {name: read_document(place / name, "result")["attributes"] for name in place.groups()}

    def trajectories(self, run: str, name: str) -> Trajectories:
        """Give what is drawn of a result that is an information plane.

        Raises
        ------
        ParameterError
            If it is none.
        """
        return self._made(run, name, "plane", self.result(run, name), Trajectories.of)

    def recorded(self, run: str, quantity: str) -> Lines | None:
        """Give the lines of ``loss``, ``accuracy``, or a norm, unless the run has none."""
        return self._lines(run, "", quantity, self.training(run))

    def crossings(self, run: str) -> dict[str, float]:
        """Give the epoch at which the median seed of each layer passes from drift to diffusion; NaN where none does."""
        training = self.training(run)
        if not {"grad_mean_norm", "grad_std_norm"} <= set(training.data_vars):
            return {}
        return self._made(run, "", "crossings", training, _crossings)

    def estimated(self, run: str, name: str, quantity: str) -> Lines | None:
        """Give the lines of a quantity of a result, such as ``I_XT``, unless it has none."""
        return self._lines(run, name, quantity, self.result(run, name))

    def _lines(self, run: str, name: str, quantity: str, source: xr.Dataset) -> Lines | None:
        if quantity not in source:
            return None
        array = source[quantity]
        along = str(array.dims[-1])
        return self._made(run, name, quantity, source, lambda _: Lines.of(array, along))

    def _made(self, run: str, name: str, what: str, source: xr.Dataset, make: Callable[[xr.Dataset], _T]) -> _T:
        """Make what is drawn of a source, unless it was made of the same."""
        key = (run, name, what)
        with self._lock:
            known = self._drawn.get(key)
        if known is None or known[0] is not source:
            known = source, make(source)
            with self._lock:
                self._drawn[key] = known
        drawn: _T = known[1]
        return drawn

    def tree(self, run: str) -> xr.DataTree:
        """Open a run, lazily, as it stands now."""
        return open_run(self._place / run)

    @property
    def bytes(self) -> int:
        """Bytes that are held."""
        with self._lock:
            return sum(held.data.nbytes for held in self._held.values())

    def _current(self, key: tuple[str, str], place: Place, opened: Callable[[], xr.Dataset]) -> xr.Dataset:
        """Give what is held if it is what stands there now, or read what it lacks."""
        with self._lock:
            busy = self._busy.setdefault(key, Lock())
        with busy:  # whoever comes second finds what the first has read
            attrs = read_document(place)["attributes"]
            with self._lock:
                held = self._held.get(key)
            if held is None or held.attrs != attrs:
                # What is opened may be newer than the document just read: then it is opened once more, the next time.
                held = _Held(attrs, _grown(None if held is None else held.data, opened()))
            with self._lock:
                self._held[key] = held
                self._held.move_to_end(key)
                self._make_room()
            return held.data

    def _make_room(self) -> None:
        total = sum(held.data.nbytes for held in self._held.values())
        while total > self._limit and len(self._held) > 1:
            (run, name), gone = self._held.popitem(last=False)
            total -= gone.data.nbytes
            for key in [key for key in self._drawn if key[:2] == (run, name)]:
                del self._drawn[key]


def _crossings(training: xr.Dataset) -> dict[str, float]:
    found = crossing(training)["crossing"]
    median = found.where(found.notnull().any("seed"), -1.0).median("seed").values  # NumPy warns of what is all NaN
    layers = map(str, found["layer"].values)
    return {layer: float(at) if at >= 0 else np.nan for layer, at in zip(layers, median, strict=True)}


def _training(tree: xr.DataTree) -> xr.Dataset:
    """Give the training group, and with it what tells whether two epochs of a number are the same."""
    dataset = tree["training"].to_dataset().assign_attrs(tree.attrs)
    if "digest" in tree.children:
        dataset["digest"] = tree["digest"].to_dataset()["crc32c"]
    return dataset


def _grown(known: xr.Dataset | None, stored: xr.Dataset) -> xr.Dataset:
    """Read what is stored: of what has grown, only what it has grown by."""
    if known is None or not _continues(known, stored):
        return stored.compute()
    new = stored.isel(epoch=slice(known.sizes["epoch"], None)).compute()
    if new.sizes["epoch"] == 0:
        return known.assign_attrs(stored.attrs)
    growing = [name for name, array in stored.data_vars.items() if "epoch" in array.dims]
    together: xr.Dataset = xr.concat([known[growing], new[growing]], "epoch", join="exact", combine_attrs="override")
    return together.assign({name: known[name] for name in known.data_vars if name not in growing}).assign_attrs(
        stored.attrs
    )


def _continues(known: xr.Dataset, stored: xr.Dataset) -> bool:
    """Whether what is stored begins with what is known: a run that went back has other epochs of the same number."""
    length = known.sizes["epoch"]
    if known.attrs["created_at"] != stored.attrs["created_at"] or not known["seed"].equals(stored["seed"]):
        return False
    if length == 0 or set(known.data_vars) != set(stored.data_vars) or stored.sizes["epoch"] < length:
        return False
    if not np.array_equal(stored["epoch"].to_numpy()[:length], known["epoch"].to_numpy()):
        return False
    last: Any = {"epoch": length - 1}
    names = ["digest"] if "digest" in known else list(known.data_vars)
    return bool(
        known[names].isel(last).drop_vars("epoch").equals(stored[names].isel(last).drop_vars("epoch").compute())
    )
