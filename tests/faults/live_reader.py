"""Somebody who looks at a run again and again while it is written."""

import threading
from pathlib import Path

import google_crc32c
import numpy as np

import ipstore
from tests.faults.children import RUN
from tests.store.synthetic import array

__all__ = ["LiveReader"]


class LiveReader(threading.Thread):
    """Reads the first and the last epoch of every array, in one go after the other; the first failure ends it.

    Parameters
    ----------
    store : Path
        Its run is there.

    Attributes
    ----------
    looks : int
    epochs : int
        Committed epochs at the last look.
    errors : list of BaseException
    """

    def __init__(self, store: Path) -> None:
        super().__init__(daemon=True)
        self._store = store
        self._ending = threading.Event()
        self.looks = self.epochs = 0
        self.errors = list[BaseException]()

    def run(self) -> None:
        """Look until it is ended."""
        while not self._ending.is_set() and not self.errors:
            try:
                self._look()
                self.looks += 1
            except BaseException as error:
                self.errors.append(error)

    def end(self) -> None:
        """Stop looking, and raise what went wrong."""
        self._ending.set()
        self.join()
        if self.errors:
            raise AssertionError(f"look {self.looks + 1}, after {self.epochs} epochs, failed") from self.errors[0]

    def _look(self) -> None:
        tree = ipstore.open(self._store, run=RUN)
        epochs = tree.sizes["epoch"]
        assert epochs >= self.epochs, "committed epochs are gone"
        self.epochs = epochs
        ends = sorted({0, epochs - 1}) if epochs else []
        looked = {}
        for node in tree.subtree:
            for name, stored in node.data_vars.items():
                assert stored.sizes.get("epoch", epochs) == epochs, "torn"
                looked[f"{node.path}/{name}"] = stored.isel(epoch=ends).load() if "epoch" in stored.dims else stored
        for layer, name in enumerate(tree.attrs["layers"] if ends else []):
            activations = looked[f"/activations/{name}"].values
            digests = array(tree, "digest/crc32c").isel(epoch=ends, layer=layer).values
            for place in np.ndindex(digests.shape):
                cell = np.ascontiguousarray(activations[place])
                assert google_crc32c.value(cell.tobytes()) == digests[place], f"{name} is not what was captured"
