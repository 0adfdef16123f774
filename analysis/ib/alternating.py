"""The information bottleneck by alternating updates: slow and simple, to check the solver against."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.ib.joints import reduce
from ipstore.analysis.ib.points import certify, check_beta
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

__all__ = ["blahut_arimoto"]

Array = NDArray[np.float64]

_STARTS = 10
"""Starts from random states, where there are fewer clusters than states."""

_NOISE = 0.01
"""Share of noise in a decoder at the start: one with a probability of 0 cannot move, and equal ones never part."""

_GONE = 1e-200
"""Weight below which a cluster is dropped on the way: decoders of less would be lost to underflow."""

_ALIKE = 1e-6
"""Clusters are one if their decoders differ by no more in any class; the Lagrangian changes by the square of it."""


class _Ended(NamedTuple):
    """Where the updates ended: p_t (t), p_y_given_t (t, class), the Lagrangian in nats, and how they went."""

    p_t: Array
    p_y_given_t: Array
    lagrangian: float
    residual: float
    iterations: int


def blahut_arimoto(
    joint: Probe,
    beta: float,
    *,
    n_clusters: int | None = None,
    tol: float = 1e-10,
    max_iterations: int = 100_000,
    random_state: int = 0,
) -> xr.Dataset:
    """Iterate the self-consistent equations of the information bottleneck [1]_ until they hold.

    ``p(t|x) = p(t) exp(-beta KL(p(y|x) || p(y|t))) / Z_x``, then p(t) and p(y|t) that follow from it, and again. No
    update raises the Lagrangian I(X;T) - beta I(T;Y), and where none lowers it, all equations hold: at a minimum among
    encoders nearby, or a saddle. How far it lies above the minimum of all, ``gap`` bounds. That is mostly nothing with
    a cluster for each state, but just above the onset the updates may well end where T says nothing. Near the onset,
    and near any beta where a cluster splits, they take tens of thousands of iterations; `point` solves the same
    problem in a few.

    Parameters
    ----------
    joint : Probe
        See `ipstore.analysis.ib.joint`. The equations are those of its states.
    beta : float
        Price of a bit of I(T;Y) in bits of I(X;T), 1 or more.
    n_clusters : int, optional
        Of T at most: the best of ten starts with that many of the states. By default as many as there are states, of
        which no optimum needs more.
    tol : float
        How far the equations may be from holding: by which share any p(t) still grows in an iteration (which bounds, in
        nats, what other weights of these decoders would gain), and how far p(y|t) still moves, in its mean over t. A
        Lagrangian that no longer changes would tell neither: near the onset, it hardly changes at all.
    max_iterations : int
        Where to stop in any case.
    random_state : int
        Of the starts.

    Returns
    -------
    Dataset
        As `point` gives: ``I_XT``, ``I_TY`` and ``gap`` in bits, ``beta``, ``p_t`` (t), ``p_y_given_t`` (t, class) and
        ``p_t_given_state`` (state, t). Clusters of equal p(y|t) are one. ``attrs["iterations"]`` of the start that
        ended lowest, ``attrs["converged"]`` whether it reached `tol`.

    Raises
    ------
    ParameterError
        If `beta` is below 1 or not finite, `n_clusters` is no number from 1 to that of the states, or `tol` or
        `max_iterations` is not positive.

    References
    ----------
    .. [1] Tishby, Pereira & Bialek, "The information bottleneck method", 37th Allerton Conference, 1999, theorems 4
       and 5.
    """
    beta, states = check_beta(beta), reduce(joint)
    p_x, q = states.weights, states.p_y_given_x
    clusters = len(q) if n_clusters is None else n_clusters
    if not isinstance(clusters, int | np.integer) or not 1 <= clusters <= len(q):
        raise ParameterError(
            f"n_clusters must be a number from 1 to that of the states, {len(q)}, but got {clusters!r}"
        )
    if not tol > 0:
        raise ParameterError(f"tol must be positive but got {tol!r}")
    if max_iterations < 1:
        raise ParameterError(f"max_iterations must be 1 or more but got {max_iterations!r}")
    rng = np.random.default_rng(random_state)
    best: _Ended | None = None
    for _ in range(1 if clusters == len(q) else _STARTS):
        chosen = np.sort(rng.choice(len(q), clusters, replace=False))
        noise = rng.dirichlet(np.ones(q.shape[1]), clusters)
        start = p_x[chosen] / p_x[chosen].sum(), (1 - _NOISE) * q[chosen] + _NOISE * noise
        ended = _iterate(p_x, q, beta, *start, tol=tol, max_iterations=max_iterations)
        if best is None or ended.lagrangian < best.lagrangian:
            best = ended
    assert best is not None
    light = min(tol, p_x.min() / (2 * len(p_x)))  # so light that no state has it for its most likely cluster
    found = certify(states, *_distinct(best.p_t, best.p_y_given_t, light), beta)
    return found.assign_attrs(iterations=best.iterations, converged=best.residual <= tol)


def _iterate(
    p_x: Array, q: Array, beta: float, p_t: Array, p_y_given_t: Array, *, tol: float, max_iterations: int
) -> _Ended:
    """Update p(t), p(y|t) and p(t|x) in turn."""
    joint = p_x[:, None] * q
    encoder, lagrangian = _encode(p_x, q, beta, p_t, p_y_given_t)
    residual, iteration = np.inf, 0
    while residual > tol and iteration < max_iterations:
        iteration += 1
        weights = p_x @ encoder
        there = weights > _GONE
        weights, decoders = weights[there], (encoder.T @ joint)[there] / weights[there, None]
        moved = weights @ abs(decoders - p_y_given_t[there]).max(axis=1)
        residual = max(float((weights / p_t[there]).max()) - 1, float(moved))
        p_t, p_y_given_t = weights, decoders
        encoder, lagrangian = _encode(p_x, q, beta, p_t, p_y_given_t)
    return _Ended(p_t, p_y_given_t, lagrangian, residual, iteration)


def _encode(p_x: Array, q: Array, beta: float, p_t: Array, p_y_given_t: Array) -> tuple[Array, float]:
    """Give p(t|x), (state, t), and the Lagrangian - sum_x p(x) log Z_x, in nats."""
    from scipy.special import xlogy

    logs = np.full(p_y_given_t.shape, -1e300)  # not -inf: where q is 0 as well, the product is to be 0
    np.log(p_y_given_t, where=p_y_given_t > 0, out=logs)
    with np.errstate(over="ignore"):  # what is farther than any number is infinitely far
        exponents = beta * (q @ logs.T - xlogy(q, q).sum(axis=1, keepdims=True))
    exponents += np.log(p_t)
    nearest = exponents.max(axis=1, keepdims=True)
    exponents -= nearest
    encoder = np.exp(exponents, out=exponents)
    z = encoder.sum(axis=1, keepdims=True)
    encoder /= z
    return encoder, -float(p_x @ (np.log(z) + nearest)[:, 0])


def _distinct(p_t: Array, p_y_given_t: Array, light: float) -> tuple[Array, Array]:
    """Merge clusters of the same decoder, and leave out light ones; in ascending order, the last class first."""
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import pdist, squareform

    there = p_t > light
    p_t, p_y_given_t = p_t[there] / p_t[there].sum(), p_y_given_t[there]
    alike = squareform(pdist(p_y_given_t, "chebyshev") <= _ALIKE)
    number, cluster = connected_components(alike, directed=False)
    members = np.equal.outer(np.arange(number), cluster) * p_t
    merged = members.sum(axis=1)
    decoders = members @ p_y_given_t / merged[:, None]
    order = np.lexsort(decoders.T)
    return merged[order], decoders[order]
