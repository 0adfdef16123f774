"""What figures and claims are made of: the runs of one store, asked by the names of the experiments."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import xarray as xr

from ipstore.analysis.bottleneck import analyze_bound, bound
from ipstore.analysis.ib import critical_betas
from ipstore.analysis.plane import View
from ipstore.analysis.probe import Probe
from ipstore.analysis.stored import analyze_all
from ipstore.analysis.sweeping import sweep
from ipstore.errors import UnknownNameError
from ipstore.places import Location, locate
from ipstore.reader import open as open_store
from ipstore.sweeps import sweep_of

__all__ = ["BETA_MAX", "LEARNED", "Evidence", "quiet"]

LEARNED = 0.9
"""Training accuracy above which a network has learned."""

BETA_MAX = 1000.0
"""Up to which critical points are sought."""


def quiet(what: str, done: int, total: int) -> None:
    """Take no notice of how far the work is."""


class Evidence:
    """A store in which the experiments were captured; what is asked of it is computed once, and kept in it.

    Parameters
    ----------
    store : path or URL
    on_progress : callable
        Told what is being computed, and how many of how many epochs are done.
    """

    def __init__(self, store: Location, on_progress: Callable[[str, int, int], None] = quiet) -> None:
        self.place = locate(store)
        self._on_progress = on_progress
        self._critical: dict[tuple[bytes, bytes], xr.Dataset] = {}

    @cached_property
    def _tree(self) -> xr.DataTree:
        return open_store(self.place)

    def run(self, name: str) -> xr.DataTree:
        """Give a run, lazily."""
        return self._tree.children[name]

    def runs(self, experiment: str) -> list[str]:
        """Name the runs of an experiment, in the order of its sweep if it is one."""
        if experiment in self._tree.children:
            return [experiment]
        of = {name: sweep_of(name, node.attrs) for name, node in self._tree.children.items()}
        mine = {name: found[0] for name, found in of.items() if found and found[0].name == experiment}
        if not mine:
            raise UnknownNameError(
                "experiment", experiment, {found[0].name if found else name for name, found in of.items()}
            )
        return [run for run in next(iter(mine.values())).runs() if run in mine]

    def last_epoch(self, run: str) -> int:
        """Give the last epoch that a run has."""
        return int(self.run(run)["epoch"].to_numpy()[-1])

    def training(self, run: str) -> xr.Dataset:
        """Give what was recorded of a training, in memory: loss, accuracy, norms."""
        return self.run(run)["training"].to_dataset().assign_attrs(source_run=run).compute()

    def learned(self, run: str) -> list[int]:
        """Name the seeds whose training accuracy is more than `LEARNED` at the end."""
        accuracy = self.training(run)["accuracy"].sel(split="train").isel(epoch=-1)
        return [int(seed) for seed in accuracy["seed"].values[accuracy.values > LEARNED]]

    def planes(self, run: str, asks: Sequence[str], **view: Any) -> list[xr.Dataset]:
        """Give information planes of a run under some estimators, in memory.

        Parameters
        ----------
        run : str
        asks : sequence of str
            As the command line writes them: ``"binned:bins=10,30"``.
        **view
            See `ipstore.analysis.analyze`.
        """

        def tell(done: int, total: int) -> None:
            self._on_progress(run, done, total)

        return [outcome.get().compute() for outcome in analyze_all(self.place, run, asks, on_progress=tell, **view)]

    def plane(self, run: str, ask: str = "binned", **view: Any) -> xr.Dataset:
        """Give the information plane of a run, in memory; see `planes`."""
        return self.planes(run, [ask], **view)[0]

    def stand(self, run: str) -> xr.Dataset:
        """Give how the layers stand to the bound before training and after, (epoch, seed, layer), in memory."""
        # Of epochs on a logarithmic scale only the first and the last are multiples of the last.
        return analyze_bound(self.place, run, every=self.last_epoch(run)).compute()

    def converged(self, run: str) -> xr.Dataset:
        """Give how the layers stand to the bound when training ends: (seed, layer), in memory."""
        return self.stand(run).isel(epoch=-1)

    def bound(self, run: str) -> xr.Dataset:
        """Give the bottleneck curve of a run's labels; see `ipstore.analysis.bound`."""
        return bound(self.run(run))

    def critical_betas(self, run: str) -> xr.Dataset:
        """Give the critical points of that curve up to `BETA_MAX`; see `ipstore.analysis.ib.critical_betas`."""
        joint = self.joint(run)
        key = (joint.p_y_given_x.tobytes(), joint.weights.tobytes())
        if key not in self._critical:
            self._critical[key] = critical_betas(joint, BETA_MAX)
        return self._critical[key]

    def joint(self, run: str) -> Probe:
        """Give the joint distribution of a run's inputs and labels."""
        return View().probe(self.run(run))

    def sweep(self, experiment: str, axis: str, of: Callable[[xr.DataTree], xr.Dataset]) -> xr.Dataset:
        """Put what is asked of the runs of a sweep together along its axis; see `ipstore.analysis.sweep`."""
        return sweep(self._tree, axis, of=of, name=experiment)
