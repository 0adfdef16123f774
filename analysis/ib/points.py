"""One point of the information-bottleneck curve, with its encoder, its decoders and its certificate."""

from math import log
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from ipstore.analysis.ib.certificates import Excess, find_excess
from ipstore.analysis.ib.joints import reduce
from ipstore.analysis.ib.problem import Array, Problem
from ipstore.analysis.ib.solver import solve
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

__all__ = ["BITS", "certificate", "certify", "check_beta", "described", "point"]

BITS = 1 / log(2)
"""To a nat."""


def check_beta(beta: float) -> float:
    """Refuse a beta at which there is nothing to find.

    Raises
    ------
    ParameterError
        If it is not a finite number, or lies below 1.
    """
    number = isinstance(beta, int | float | np.integer | np.floating) and not isinstance(beta, bool)
    if not number or not 1 <= beta < np.inf:
        raise ParameterError(
            f"beta must be a finite number, 1 or more, but got {beta!r}; below 1 nothing is worth its cost, since "
            "I(T;Y) <= I(X;T), and the best T is constant"
        )
    return float(beta)


def point(joint: Probe, beta: float, *, random_state: int = 0) -> xr.Dataset:
    """Solve the information bottleneck at one beta: the T that minimises I(X;T) - beta I(T;Y).

    Parameters
    ----------
    joint : Probe
        See `ipstore.analysis.ib.joint`.
    beta : float
        1 or more.
    random_state : int
        Of the starts of the search if there are more than two classes.

    Returns
    -------
    xarray.Dataset
        ``I_XT``, ``I_TY``, in bits, of the encoder ``p_t_given_state`` (state, t), with ``p_t`` (t) and the decoders
        ``p_y_given_t`` (t, class); the states are those of `ipstore.analysis.ib.reduce`. ``gap``, in bits: I(X;T) -
        beta I(T;Y) lies no farther above its minimum. ``attrs["certificate"]`` says what that is worth: "rigorous"
        for two classes, where it is proven up to floating point; "heuristic" for more, where a search from many
        starts found nothing better. ``attrs["iterations"]`` says how often atoms were sought,
        ``attrs["evaluations"]`` what the proof cost.

    Raises
    ------
    ParameterError
        If `beta` is not finite or lies below 1, or Y is independent of X.

    References
    ----------
    Tishby, Pereira & Bialek, "The information bottleneck method", 1999, arXiv:physics/0004057.
    """
    states = reduce(joint)
    problem = Problem(states.weights, states.p_y_given_x, check_beta(beta))
    solution = solve(problem, random_state=random_state)
    found = described(states, problem, solution.root, solution.weight, solution.excess)
    return found.assign_attrs(iterations=solution.iterations)


def described(states: Probe, problem: Problem, root: Array, weight: Array, excess: Excess) -> xr.Dataset:
    """Say what the encoder has that decoders and their weights imply.

    Parameters
    ----------
    states : Probe
    problem : Problem
        Of the same states.
    root : (t, class) float64
        Square roots of the decoders.
    weight : (t,) float64
    excess : Excess
        Of them.

    Returns
    -------
    xarray.Dataset
        As `point` does, without ``iterations``.
    """
    exponent = problem.log_kernel(root)
    encoder = weight * np.exp(exponent - exponent.max(axis=1)[:, None])
    encoder /= encoder.sum(axis=1)[:, None]
    order = np.lexsort(root.T)
    encoder = encoder[:, order]
    p_t = problem.p @ encoder
    encoder, p_t = encoder[:, p_t > 0], p_t[p_t > 0]
    decoder = (problem.p[:, None] * encoder).T @ problem.q / p_t[:, None]
    I_XT, I_TY = _information(problem.p, encoder, p_t), _information(p_t, decoder, problem.p @ problem.q)
    least = -problem.p @ problem.log_partition(root, weight) - excess.bound
    reached = I_XT / BITS - problem.p @ (encoder * problem.log_kernel(np.sqrt(decoder))).sum(axis=1)
    bits: dict[str, Any] = {"units": "bits"}
    return xr.Dataset(
        {
            "I_XT": ((), I_XT, bits | {"long_name": "I(X;T)"}),
            "I_TY": ((), I_TY, bits | {"long_name": "I(T;Y)"}),
            "beta": ((), problem.beta, {"long_name": "beta", "units": "1"}),
            "gap": ((), max(0.0, reached - least) * BITS, bits | {"long_name": "excess of I(X;T) - beta I(T;Y)"}),
            "p_t": ("t", p_t, {"long_name": "p(t)", "units": "1"}),
            "p_y_given_t": (("t", "class"), decoder, {"long_name": "p(y|t)", "units": "1"}),
            "p_t_given_state": (("state", "t"), encoder, {"long_name": "p(t|x)", "units": "1"}),
        },
        attrs={"certificate": certificate(states), "evaluations": excess.evaluations, "I_XY": states.I_XY},
    )


def certificate(states: Probe) -> str:
    """Say what a gap is worth."""
    return "rigorous" if states.p_y_given_x.shape[1] == 2 else "heuristic"


def certify(joint: Probe, p_t: ArrayLike, p_y_given_t: ArrayLike, beta: float) -> xr.Dataset:
    """Bound how far any T can be from the best one at a beta, wherever it comes from.

    Parameters
    ----------
    joint : Probe
    p_t : (t,)
        Probability of each cluster, summing to one.
    p_y_given_t : (t, class)
        Its decoder; rows sum to one.
    beta : float
        1 or more.

    Returns
    -------
    xarray.Dataset
        As `point` does, for the encoder p(t|x) that is proportional to p(t) exp(-beta KL(p(y|x) || p(y|t))).

    Raises
    ------
    ParameterError
        If `beta` is not finite or lies below 1, shapes disagree, or something does not sum to one.
    """
    states = reduce(joint)
    if np.shape(p_t) != np.shape(p_y_given_t)[:1]:
        raise ParameterError(
            f"p_t must have one entry per row of p_y_given_t but their shapes are {np.shape(p_t)} and "
            f"{np.shape(p_y_given_t)}"
        )
    given = Probe.of(p_y_given_t, None, p_t, least_classes=1)
    if given.p_y_given_x.shape[1] != states.p_y_given_x.shape[1]:
        raise ParameterError(
            f"p_y_given_t has {given.p_y_given_x.shape[1]} classes but the joint has {states.p_y_given_x.shape[1]}"
        )
    problem = Problem(states.weights, states.p_y_given_x, check_beta(beta))
    there = given.weights > 0
    root = np.sqrt(given.p_y_given_x[there])
    if np.isneginf(far := problem.log_kernel(root).max(axis=1)).any() or far.min() < -1e290:
        raise ParameterError("an input has a class that every decoder excludes, so that no cluster can take it")
    weight = given.weights[there]
    return described(states, problem, root, weight, find_excess(problem, root, weight))


def _information(p: Array, rows: Array, mean: Array) -> float:
    """Information between what `p` weighs and what `rows` (of `mean`) distribute, in bits."""
    return max(0.0, float(p @ rel_entr(rows, mean).sum(axis=1)) * BITS)
