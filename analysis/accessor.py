"""The accessor ``.ip``: the functions of this package, where the data already lie at hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import xarray as xr
from numpy.typing import ArrayLike

from ipstore.analysis import bottleneck, dynamics, plane, sweeping
from ipstore.analysis.labelled import Subject, information
from ipstore.analysis.probe import Probe
from ipstore.analysis.questions import Ask, expand, stack

__all__ = ["ActivationAccessor", "LayersAccessor", "RunAccessor"]


@xr.register_datatree_accessor("ip")  # type: ignore[no-untyped-call]  # xarray does not type it
class RunAccessor:
    """``run.ip`` on a `xarray.DataTree` that ``ipstore.open(store, run=name)`` gave; ``sweep`` on one of a store."""

    def __init__(self, run: xr.DataTree) -> None:
        self._run = run

    def information_plane(self, estimator: str = "binned", **options: Any) -> xr.Dataset:
        """Call `ipstore.analysis.information_plane` on this run."""
        return plane.information_plane(self._run, estimator, **options)

    def information_planes(self, asks: Sequence[Ask], **options: Any) -> list[xr.Dataset]:
        """Call `ipstore.analysis.information_planes` on this run."""
        return plane.information_planes(self._run, asks, **options)

    def bound(self, **options: Any) -> xr.Dataset:
        """Call `ipstore.analysis.bound` on this run."""
        return bottleneck.bound(self._run, **options)

    def self_consistency(self, estimator: str = "binned", **options: Any) -> xr.Dataset:
        """Call `ipstore.analysis.self_consistency` on this run."""
        return bottleneck.self_consistency(self._run, estimator, **options)

    def distributions(self, layer: str, **options: Any) -> xr.Dataset:
        """Call `ipstore.analysis.distributions` on this run."""
        return bottleneck.distributions(self._run, layer, **options)

    def dynamics(self, estimator: str = "binned", **options: Any) -> xr.Dataset:
        """Call `ipstore.analysis.dynamics.measure_run` on this run."""
        return dynamics.measure_run(self._run, estimator, **options)

    def sweep(self, *axes: str, of: Callable[[xr.DataTree], Any] | None = None, **options: Any) -> Any:
        """Call `ipstore.analysis.sweep` on this store."""
        return sweeping.sweep(self._run, *axes, of=of, **options)


@xr.register_dataset_accessor("ip")  # type: ignore[no-untyped-call]  # xarray does not type it
class LayersAccessor:
    """``dataset.ip`` on activations: one variable (..., sample, <layer>_unit) per layer."""

    def __init__(self, layers: xr.Dataset) -> None:
        self._layers = layers

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
        """Estimate the information of every layer.

        Parameters are those of `ipstore.analysis.estimators.estimate`; a list of values is a grid.

        Returns
        -------
        xarray.Dataset
            Each quantity of the estimator (..., layer), lazy; NaN where it cannot take the activations.
        """
        layers = {str(name): array for name, array in self._layers.data_vars.items()}
        return _estimate(layers, estimator, Probe.of(p_y_given_x, x_id, p_x, population=population), params)


@xr.register_dataarray_accessor("ip")  # type: ignore[no-untyped-call]  # xarray does not type it
class ActivationAccessor:
    """``array.ip`` on the activations of one layer, (..., sample, <layer>_unit)."""

    def __init__(self, activations: xr.DataArray) -> None:
        self._activations = activations

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
        layer = {str(self._activations.name): self._activations}
        return _estimate(layer, estimator, Probe.of(p_y_given_x, x_id, p_x, population=population), params).isel(
            layer=0, drop=True
        )


def _estimate(
    layers: Mapping[str, xr.DataArray], estimator: str, probe: Probe, params: Mapping[str, Any]
) -> xr.Dataset:
    grid, questions = expand(estimator, params)
    return stack(grid, information(Subject(layers, probe), questions))
