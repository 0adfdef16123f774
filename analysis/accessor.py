"""The accessor ``.ip``: the functions of this package, where the data already lie at hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import xarray as xr
from numpy.typing import ArrayLike

from ipstore.analysis import activity, bottleneck, dynamics, intervals, plane, summaries, sweeping
from ipstore.analysis.activity import ActivationFunction
from ipstore.analysis.dynamics import ErrorMeasure
from ipstore.analysis.labelled import Subject, information
from ipstore.analysis.plane import Labels, Split, Target
from ipstore.analysis.probe import Probe
from ipstore.analysis.questions import Ask, expand, stack
from ipstore.analysis.representations import tree_html, tree_text

__all__ = ["ArrayAccessor", "DatasetAccessor", "RunAccessor"]


@xr.register_datatree_accessor("ip")  # type: ignore[no-untyped-call]  # xarray does not type it
class RunAccessor:
    """``run.ip`` on a `xarray.DataTree` that ``ipstore.open(store, run=name)`` gave; ``sweep`` on one of a store.

    By itself it shows what the run is: ``run.ip`` at the end of a cell.
    """

    def __init__(self, run: xr.DataTree) -> None:
        self._run = run

    def __repr__(self) -> str:
        return tree_text(self._run)

    def _repr_html_(self) -> str:
        return tree_html(self._run)

    def information_plane(
        self,
        estimator: str = "binned",
        *,
        layers: Sequence[str] | None = None,
        every: int = 1,
        split: Split = "all",
        target: Target = "labels",
        labels: Labels | ArrayLike = "stored",
        quantities: Sequence[str] | None = None,
        **params: Any,
    ) -> xr.Dataset:
        """Information of every layer on input and label, lazily: `ipstore.analysis.information_plane` of this run."""
        chosen: dict[str, Any] = {"layers": layers, "every": every, "split": split, "target": target, "labels": labels}
        return plane.information_plane(self._run, estimator, quantities=quantities, **chosen, **params)

    def information_planes(
        self,
        asks: Sequence[Ask],
        *,
        layers: Sequence[str] | None = None,
        every: int = 1,
        split: Split = "all",
        target: Target = "labels",
        labels: Labels | ArrayLike = "stored",
        quantities: Sequence[str] | None = None,
    ) -> list[xr.Dataset]:
        """Planes under several estimators, from one read: `ipstore.analysis.information_planes` of this run."""
        chosen: dict[str, Any] = {"layers": layers, "every": every, "split": split, "target": target, "labels": labels}
        return plane.information_planes(self._run, asks, quantities=quantities, **chosen)

    def bound(self, *, labels: Labels | ArrayLike = "stored", tol: float = 1e-4) -> xr.Dataset:
        """Bottleneck curve of the inputs and labels, certified: `ipstore.analysis.bound` of this run."""
        return bottleneck.bound(self._run, labels=labels, tol=tol)

    def self_consistency(
        self,
        estimator: str = "binned",
        *,
        layers: Sequence[str] | None = None,
        every: int = 1,
        labels: Labels | ArrayLike = "stored",
        **params: Any,
    ) -> xr.Dataset:
        """How every layer stands to the bottleneck curve, lazily: `ipstore.analysis.self_consistency` of this run."""
        return bottleneck.self_consistency(self._run, estimator, layers=layers, every=every, labels=labels, **params)

    def distributions(
        self,
        layer: str,
        *,
        epoch: int,
        seed: int,
        estimator: str = "binned",
        labels: Labels | ArrayLike = "stored",
        beta: float | None = None,
        **params: Any,
    ) -> xr.Dataset:
        """Give encoder and decoder of one layer of one network: `ipstore.analysis.distributions` of this run."""
        cell: dict[str, Any] = {"epoch": epoch, "seed": seed, "estimator": estimator, "labels": labels, "beta": beta}
        return bottleneck.distributions(self._run, layer, **cell, **params)

    def dynamics(
        self,
        estimator: str = "binned",
        *,
        layers: Sequence[str] | None = None,
        every: int = 1,
        split: Split = "all",
        target: Target = "labels",
        labels: Labels | ArrayLike = "stored",
        quantities: Sequence[str] | None = None,
        share: float = 0.05,
        least: float = 0.1,
        least_label: float = 0.02,
        stretch: float = 0.1,
        error: ErrorMeasure = "loss",
        accuracy: float = 0.9,
        stays: bool = False,
        **params: Any,
    ) -> xr.Dataset:
        """When layers fit, compress and rest, by seed: `ipstore.analysis.dynamics.measure_run` of this run."""
        chosen: dict[str, Any] = {"layers": layers, "every": every, "split": split, "target": target, "labels": labels}
        falls: dict[str, Any] = {"share": share, "least": least, "least_label": least_label, "stretch": stretch}
        events: dict[str, Any] = {"error": error, "accuracy": accuracy, "stays": stays}
        return dynamics.measure_run(self._run, estimator, quantities=quantities, **chosen, **falls, **events, **params)

    def layer_activity(
        self,
        layer: str,
        estimator: str = "binned",
        *,
        epochs: int | Sequence[int] = 60,
        seeds: Sequence[int] | None = None,
        histogram_bins: int | None = None,
        histogram_range: tuple[float, float] | None = None,
        function: ActivationFunction | None = None,
        **params: Any,
    ) -> xr.Dataset:
        """Histograms of a layer's units, saturation and bins in use: `ipstore.analysis.layer_activity` of this run."""
        histogram: dict[str, Any] = {"histogram_bins": histogram_bins, "histogram_range": histogram_range}
        cells: dict[str, Any] = {"epochs": epochs, "seeds": seeds, "function": function}
        return activity.layer_activity(self._run, layer, estimator, **cells, **histogram, **params)

    def sweep(
        self, *axes: str, of: Callable[[xr.DataTree], Any] | None = None, name: str | None = None, **at: Any
    ) -> Any:
        """Put the runs of a sweep, or what `of` gives of each, together: `ipstore.analysis.sweep` of this store."""
        return sweeping.sweep(self._run, *axes, of=of, name=name, **at)


@xr.register_dataset_accessor("ip")  # type: ignore[no-untyped-call]  # xarray does not type it
class DatasetAccessor:
    """``dataset.ip`` on a plane, on measures over seeds, or on activations."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def summary(self) -> xr.Dataset:
        """Where every layer peaks and ends, with intervals over seeds: `ipstore.analysis.summary` of this plane."""
        return summaries.summary(self._dataset)

    def dynamics(
        self,
        training: xr.Dataset | None = None,
        *,
        share: float = 0.05,
        least: float = 0.1,
        least_label: float = 0.02,
        stretch: float = 0.1,
        error: ErrorMeasure = "loss",
        accuracy: float = 0.9,
        stays: bool = False,
    ) -> xr.Dataset:
        """When layers fit, compress and rest, by seed: `ipstore.analysis.dynamics.measure` of this plane."""
        falls: dict[str, Any] = {"share": share, "least": least, "least_label": least_label, "stretch": stretch}
        return dynamics.measure(self._dataset, training, error=error, accuracy=accuracy, stays=stays, **falls)

    def over_seeds(self, *, level: float = 0.95) -> xr.Dataset:
        """Mean, median and interval over seeds: `ipstore.analysis.dynamics.over_seeds` of these measures."""
        return dynamics.over_seeds(self._dataset, level=level)

    def estimate(
        self,
        estimator: str,
        p_y_given_x: ArrayLike,
        x_id: ArrayLike | None = None,
        p_x: ArrayLike | None = None,
        *,
        population: bool = True,
        **params: Any,
    ) -> xr.Dataset:
        """Estimate the information of every layer: of activations, one variable (..., sample, <layer>_unit) for each.

        Parameters are those of `ipstore.analysis.estimators.estimate`; a list of values is a grid.

        Returns
        -------
        xarray.Dataset
            Each quantity of the estimator (..., layer), lazy; NaN where it cannot take the activations.
        """
        layers = {str(name): array for name, array in self._dataset.data_vars.items()}
        return _estimate(layers, estimator, Probe.of(p_y_given_x, x_id, p_x, population=population), params)


@xr.register_dataarray_accessor("ip")  # type: ignore[no-untyped-call]  # xarray does not type it
class ArrayAccessor:
    """``array.ip`` on values over seeds, or on the activations of one layer, (..., sample, <layer>_unit)."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def seed_interval(self, level: float = 0.95, *, resamples: int = 2000, random_state: int = 0) -> xr.DataArray:
        """Interval of the mean over seeds, by the BCa bootstrap: `ipstore.analysis.seed_interval` of this array."""
        return intervals.seed_interval(self._array, level, resamples=resamples, random_state=random_state)

    def estimate(
        self,
        estimator: str,
        p_y_given_x: ArrayLike,
        x_id: ArrayLike | None = None,
        p_x: ArrayLike | None = None,
        *,
        population: bool = True,
        **params: Any,
    ) -> xr.Dataset:
        """Estimate the information of this layer.

        Parameters are those of `ipstore.analysis.estimators.estimate`; a list of values is a grid.

        Returns
        -------
        xarray.Dataset
            Each quantity of the estimator (...), lazy; NaN where it cannot take the activations.
        """
        layer = {str(self._array.name): self._array}
        found = _estimate(layer, estimator, Probe.of(p_y_given_x, x_id, p_x, population=population), params)
        return found.isel(layer=0, drop=True)


def _estimate(
    layers: Mapping[str, xr.DataArray], estimator: str, probe: Probe, params: Mapping[str, Any]
) -> xr.Dataset:
    grid, questions = expand(estimator, params)
    return stack(grid, information(Subject(layers, probe), questions))
