"""A run against the information bottleneck: the curve of its task, and how every layer stands to it."""

from collections.abc import Callable, Sequence
from typing import Any

import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis import ib
from ipstore.analysis.labelled import plan
from ipstore.analysis.plane import Labels, View
from ipstore.analysis.questions import Question, expand, stack
from ipstore.analysis.stored import analyze_view, ignore
from ipstore.errors import ActivationError, ParameterError
from ipstore.places import Location

__all__ = ["analyze_bound", "bound", "distributions", "self_consistency"]


def bound(run: xr.DataTree, *, labels: Labels | ArrayLike = "stored", tol: float = 1e-4) -> xr.Dataset:
    """Compute the information-bottleneck curve of a run's inputs and labels.

    Parameters
    ----------
    run : xarray.DataTree
        As ``ipstore.open(store, run=name)`` gives it.
    labels : {"stored", "hard"} or (sample, class)
        The p(y|x); see `ipstore.analysis.information_plane`. I(T;Y) must refer to the same.
    tol : float
        Bits of I(T;Y), at most, that are left between what is reached and what is proven impossible.

    Returns
    -------
    xarray.Dataset
        See `ipstore.analysis.ib.curve`. ``attrs["probe"]`` is "population", or "sample" if p(y|x) is that of samples.

    Raises
    ------
    ParameterError
        If `run` is not a run, Y is independent of X, or a value is not allowed.
    """
    view = View(labels=labels)
    probe = view.probe(run)
    where = {"source_run": run.name or "", "probe": "population" if probe.population else "sample"}
    return ib.curve(probe, tol).assign_attrs(where | view.labels_from(run))


def self_consistency(
    run: xr.DataTree,
    estimator: str = "binned",
    *,
    layers: Sequence[str] | None = None,
    every: int = 1,
    labels: Labels | ArrayLike = "stored",
    **params: Any,
) -> xr.Dataset:
    """Say how every layer of a run stands to the information bottleneck: beta*, residual, and distances.

    Parameters
    ----------
    run : xarray.DataTree
        As ``ipstore.open(store, run=name)`` gives it.
    estimator : str
        What says which T are equal: "binned", "quantised" or "discrete".
    layers : sequence of str, optional
        By default all, in the order of the network.
    every : int
        Only epochs that are multiples of this.
    labels : {"stored", "hard"} or (sample, class)
        The p(y|x), of I(T;Y) and of the curve; see `ipstore.analysis.information_plane`.
    **params
        Parameters of the estimator (a list is a grid), and

        - ``tol``, 1e-4: bits of I(T;Y) to which the curve is known; None for no curve and no distances, where many
          inputs with soft labels of several classes make it take long;
        - ``within``, 0.01: bits to the right of the curve within which a layer counts as on it;
        - ``beta_max``, 1e6: where beta* is cut off.

    Returns
    -------
    xarray.Dataset
        Lazy, over (epoch, seed, layer), in bits where not said otherwise:

        - ``I_XT``, ``I_TY``, ``H_T`` and ``n_cells``, as the estimator counts them without a correction;
        - ``beta``: beta*, at which the encoder p(t|x) is nearest to the self-consistent one; ``beta_capped`` is 1
          where it is cut off or unbounded;
        - ``residual``: the mean divergence of the layer's encoder from that one, 0 for a layer that solves the
          equations; ``residual_at_0``: from p(t), which is I(X;T);
        - ``IB_distance_I_TY`` and ``IB_distance_I_XT``: how far the curve lies above the layer, and how far the layer
          to the right of the curve, at most. 0 <= residual <= IB_distance_I_XT, unless `beta_max` is less than a finite
          beta of the curve;
        - ``at_bound``: 1 where ``IB_distance_I_XT`` is at most `within`;
        - ``deterministic_distance_I_TY`` and ``deterministic_distance_H_T``: the same for the envelope of all T that
          are functions of X.

        And, not over those dimensions, the curves: ``curve_I_XT``, ``curve_I_TY``, ``curve_beta``, ``curve_gap``
        (point), ``deterministic_H_T``, ``deterministic_I_TY`` (vertex).

    Raises
    ------
    UnknownNameError, ParameterError, ActivationError
        As `ipstore.analysis.information_plane`; and if T of that estimator has no discrete values.

    References
    ----------
    Tishby, Pereira & Bialek, "The information bottleneck method", 1999, arXiv:physics/0004057. See
    `ipstore.analysis.ib.self_consistent` for the equations.
    """
    view = View(layers, every, labels=labels)
    grid, questions = expand(estimator, params, "bound")
    return stack(grid, view.planes(run, questions))


def distributions(
    run: xr.DataTree,
    layer: str,
    *,
    epoch: int,
    seed: int,
    estimator: str = "binned",
    labels: Labels | ArrayLike = "stored",
    beta: float | None = None,
    **params: Any,
) -> xr.Dataset:
    """Give encoder and decoder of one layer at one epoch and seed, and the self-consistent encoder beside its own.

    Parameters
    ----------
    run : xarray.DataTree
    layer : str
    epoch, seed : int
    estimator, labels, **params
        See `self_consistency`.
    beta : float, optional
        Of the self-consistent encoder; by default beta*.

    Returns
    -------
    xarray.Dataset
        In memory; see `ipstore.analysis.ib.distributions`.

    Raises
    ------
    UnknownNameError, ParameterError, ActivationError
        As `self_consistency`; and if that epoch or seed is not stored, or activations of the cell are not finite.
    """
    view = View([layer], labels=labels)
    subject = view.subject(run)
    task = plan(Question(estimator, params, "bound"), layer, subject)
    cells = subject.activations[layer]
    for name, value in (("epoch", epoch), ("seed", seed)):
        if value not in (stored := cells[name].values):
            raise ParameterError(f"{name} must be one that is stored, {_span(stored)}, but got {value!r}")
    t = cells.sel(epoch=[epoch], seed=seed).transpose("epoch", "sample", ...).values
    assert task.estimator.encode is not None
    codes, refused = task.estimator.encode(t if task.table is None else task.table[t], subject.probe.p_x, task.params)
    if refused.any():
        raise ActivationError(f"layer {layer!r} has activations at epoch {epoch}, seed {seed} that are not finite")
    where = {"source_run": run.name or "", "layer": layer, "epoch": epoch, "seed": seed, "estimator": estimator}
    return ib.distributions(codes[0], subject.probe, beta=beta).assign_attrs(where | view.labels_from(run))


def _span(stored: NDArray[Any]) -> str:
    return str(stored[0]) if len(stored) == 1 else f"{stored[0]} to {stored[-1]} ({len(stored)} of them)"


def analyze_bound(
    store: Location,
    run: str,
    estimator: str = "binned",
    *,
    layers: Sequence[str] | None = None,
    every: int = 1,
    labels: Labels | ArrayLike = "stored",
    name: str | None = None,
    again: bool = False,
    on_progress: Callable[[int, int], None] = ignore,
    **params: Any,
) -> xr.Dataset:
    """Do what `self_consistency` does, and keep it in the run, as `ipstore.analysis.analyze` does.

    Parameters
    ----------
    store : path
    run : str
    estimator, layers, every, labels, **params
        See `self_consistency`.
    name, again, on_progress
        See `ipstore.analysis.analyze`.

    Returns
    -------
    xarray.Dataset
        As `self_consistency` gives it, lazily read from the run, with its provenance as attributes.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, UnknownNameError, ParameterError, ActivationError
    EstimatorError, RunLockedError
    """
    view = View(layers, every, labels=labels)
    return analyze_view(store, run, [(estimator, params)], view, name, again, on_progress, "bound")[0].get()
