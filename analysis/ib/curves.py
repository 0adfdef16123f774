"""The information-bottleneck curve: the largest I(T;Y) at any I(X;T), between bounds that are proven."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ipstore.analysis.ib.certificates import find_excess
from ipstore.analysis.ib.joints import reduce
from ipstore.analysis.ib.points import BITS, certificate, described
from ipstore.analysis.ib.problem import Array, Problem
from ipstore.analysis.ib.solver import Solution, solve
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

__all__ = ["bounds", "curve", "onset"]

_ROUNDING = 1e-9
"""Bits by which an information may lie below 0, or an I(T;Y) above I(X;Y), and still be taken for it."""


def curve(joint: Probe, tol: float = 1e-4, *, random_state: int = 0) -> xr.Dataset:
    """Compute the information-bottleneck curve, as closely as is asked for.

    Each point that is solved gives a point on the curve or below it, and a tangent that no T can pass. Where the chord
    between two points and their tangents leave most room, the beta of the chord's slope is solved next.

    Parameters
    ----------
    joint : Probe
        See `ipstore.analysis.ib.joint`.
    tol : float
        Bits of I(T;Y), at most, that are left between chords and tangents.
    random_state : int
        Of the starts of the search if there are more than two classes.

    Returns
    -------
    xarray.Dataset
        Over ``point``, ascending: ``I_XT`` and ``I_TY`` of a T that exists; ``beta``, ``gap`` and
        ``n_clusters`` as `point` gives them. The first is the constant T at the onset, below which nothing is worth
        its cost (``attrs["onset_beta"]``). The last is the minimal sufficient statistic, at an infinite beta.
        ``attrs["error"]`` is what `bounds` leaves at most, in bits; ``attrs["certificate"]`` is "rigorous" for two
        classes and "heuristic" for more; further ``I_XY``, ``H_Y`` and ``labels``.

    Raises
    ------
    ParameterError
        If `tol` is not a positive number, or Y is independent of X.

    Notes
    -----
    The curve is concave (Gilad-Bachrach, Navot & Tishby 2003), so chords lie below it. A joint with deterministic
    labels has the straight line I(T;Y) = I(X;T) up to H(Y).
    """
    if not (isinstance(tol, int | float | np.floating) and 1e-7 <= tol < np.inf):
        raise ParameterError(f"tol must be a number of bits, 1e-7 or more, but got {tol!r}")
    states = reduce(joint)
    first = Problem(states.weights, states.p_y_given_x, onset(states, random_state=random_state))
    root, weight = np.sqrt(states.p_y)[None, :], np.ones(1)
    constant = Solution(root, weight, find_excess(first, root, weight, random_state=random_state), 0)
    knots = [
        _Knot(first.beta, 0.0, 0.0, constant.excess.bound * BITS, 1, constant),
        _Knot(np.inf, states.H_X, states.I_XY, 0.0, len(first.p)),
    ]
    while max(rooms := [_room(*pair) for pair in pairwise(knots)]) > tol:
        place = int(np.argmax(rooms))
        left, right = knots[place : place + 2]
        beta = (right.I_XT - left.I_XT) / (right.I_TY - left.I_TY)
        if right.solution is None:  # what is missing falls about as 1 / beta: go no farther than where it is enough
            beta = min(beta, max(2.0, 1.2 * rooms[place] / tol) * left.beta)
        problem = Problem(first.p, first.q, beta)
        solution = solve(problem, left.solution, random_state=random_state)
        found = described(states, problem, solution.root, solution.weight, solution.excess)
        I_XT, I_TY, gap = (found[name].item() for name in ("I_XT", "I_TY", "gap"))
        knot = _Knot(problem.beta, I_XT, I_TY, gap, found.sizes["t"], solution)
        knots.insert(place + 1, knot)
        if max(_room(left, knot), _room(knot, right)) >= rooms[place]:
            break  # the search among more than two classes was not good enough to go on; the error says so
    return _dataset(states, knots, tol)


def _dataset(states: Probe, knots: list["_Knot"], tol: float) -> xr.Dataset:
    columns = {
        "I_XT": ("I(X;T)", "bits"),
        "I_TY": ("I(T;Y)", "bits"),
        "beta": ("beta", "1"),
        "gap": ("excess of I(X;T) - beta I(T;Y)", "bits"),
        "n_clusters": ("distinct values of T", "1"),
    }
    return xr.Dataset(
        {
            name: ("point", [getattr(knot, name) for knot in knots], {"long_name": long_name, "units": units})
            for name, (long_name, units) in columns.items()
        },
        attrs={
            "units": "bits",
            "certificate": certificate(states),
            "tolerance": float(tol),
            "error": max(_room(*pair) for pair in pairwise(knots)),
            "onset_beta": knots[0].beta,
            "labels": states.labels,
            **{name: getattr(states, name) for name in ("I_XY", "H_Y")},
        },
    )


@dataclass(frozen=True, eq=False)
class _Knot:
    """A point of the curve, in bits, and the solution from which to go on."""

    beta: float
    I_XT: float
    I_TY: float
    gap: float
    n_clusters: int
    solution: Solution | None = None

    def tangent(self, I_XT: float) -> float:
        """Give the most I(T;Y) that any T can have at `I_XT`."""
        return self.I_TY + (I_XT - self.I_XT + self.gap) / self.beta


def _room(left: _Knot, right: _Knot) -> float:
    """Bits between the tangents at two points and their chord, where most."""
    if right.I_XT <= left.I_XT:
        return 0.0
    # Where tangents of slopes 1 / beta meet; points that share a tangent have no room between them.
    slopes = 1 / left.beta - 1 / right.beta
    meet = (right.tangent(0.0) - left.tangent(0.0)) / slopes if slopes > 0 else left.I_XT
    rooms = []
    for I_XT in (left.I_XT, min(max(meet, left.I_XT), right.I_XT), right.I_XT):
        chord = left.I_TY + (I_XT - left.I_XT) * (right.I_TY - left.I_TY) / (right.I_XT - left.I_XT)
        rooms.append(min(left.tangent(I_XT), right.tangent(I_XT)) - chord)
    return max(rooms)


def onset(joint: Probe, *, random_state: int = 0) -> float:
    """Find the beta at which the curve begins: at most there, a constant T is best.

    At beta a decoder r is worth its cost if c(r) = sum_x p(x) exp(beta (KL(p(y|x) || p(y)) - KL(p(y|x) || r))) is more
    than one. Beside p(y) that begins at the reciprocal of the squared maximal correlation of X and Y, and it can begin
    earlier far from it. Each turn takes the best decoder at a beta to the smaller beta where it breaks even.

    Parameters
    ----------
    joint : Probe
    random_state : int
        Of the starts of the search if there are more than two classes.

    Returns
    -------
    float
        The reciprocal of the largest I(T;Y) / I(X;T) (Anantharam, Gohari, Kamath & Nair 2013, arXiv:1304.6133).
    """
    states = reduce(joint)
    p, q, p_y = states.weights, states.p_y_given_x, states.p_y
    there = p_y > 0
    scaled = np.sqrt(p)[:, None] * (q[:, there] - p_y[there]) / np.sqrt(p_y[there])
    correlation = min(1.0, float(np.linalg.norm(scaled, ord=2)) ** 2)
    if not correlation > 1e-15:
        raise ParameterError(
            f"Y is independent of X but for rounding (their squared maximal correlation is {correlation:.1e}), so that "
            "there is no curve. Give labels that depend on the input"
        )
    local = 1 / correlation
    root, beta = np.sqrt(p_y)[None, :], local * 1.01
    middle = Problem(p, q, 1.0).log_kernel(root)
    for _ in range(50):
        excess = find_excess(Problem(p, q, beta), root, np.ones(1), enough=1e-12, random_state=random_state)
        before = beta
        if excess.heights[0] <= 1e-12:
            break
        gain = Problem(p, q, 1.0).log_kernel(excess.better[:1]) - middle
        while True:  # log c is convex in beta: from above, Newton's steps come down to where it is 0
            exponent = np.log(p) + beta * gain[:, 0]
            share = np.exp(exponent - exponent.max())
            height = exponent.max() + np.log(share.sum())
            step = height * share.sum() / (share @ np.maximum(gain[:, 0], -1e200))
            if not 1e-15 * beta < step < beta:
                break
            beta -= step
        if before - beta <= 1e-14 * beta:
            break
    return float(max(1.0, min(beta, local)))


def bounds(curve: xr.Dataset, I_XT: ArrayLike | xr.DataArray | None = None, *, I_TY: Any = None) -> xr.Dataset:
    """Bound what a T can have: I(T;Y) at most, given its I(X;T); or I(X;T) at least, given its I(T;Y).

    Parameters
    ----------
    curve : Dataset
        As `curve` gives it.
    I_XT, I_TY : array or DataArray, any shape, may be lazy
        One of them, in bits.

    Returns
    -------
    xarray.Dataset
        Of the curve's value there, in bits, over the dimensions given: ``I_TY_lower``, which some T reaches, and
        ``I_TY_upper``, which none passes. Or ``I_XT_lower`` and ``I_XT_upper``, likewise; NaN where I(T;Y) is more than
        I(X;Y), by more than rounding.

    Raises
    ------
    ParameterError
        If both are given, or neither, or `curve` is none.
    """
    if (I_XT is None) == (I_TY is None):
        raise ParameterError("give either I_XT or I_TY, to be bounded given the other")
    if missing := {"I_XT", "I_TY", "beta", "gap"} - set(map(str, curve.data_vars)):
        raise ParameterError(f"bounds takes what `curve` returned, but {', '.join(sorted(missing))} is missing")
    knots = np.stack([curve[name].values for name in ("I_XT", "I_TY", "beta", "gap")])
    given, name = (I_TY, "I_XT") if I_XT is None else (I_XT, "I_TY")
    array = given if isinstance(given, xr.DataArray) else xr.DataArray(np.asarray(given, np.float64))
    low, high = xr.apply_ufunc(
        _least_I_XT if I_XT is None else _most_I_TY,
        array,
        kwargs={"knots": knots},
        output_core_dims=[[], []],
        output_dtypes=[np.float64, np.float64],
        dask="parallelized",
    )
    found = xr.Dataset({f"{name}_lower": low, f"{name}_upper": high})
    for variable, each in found.data_vars.items():
        each.attrs = {"long_name": f"{'least' if 'lower' in str(variable) else 'most'} of the curve", "units": "bits"}
    return found


def _most_I_TY(I_XT: Array, knots: Array) -> tuple[Array, Array]:
    x, y, beta, gap = knots
    possible = I_XT >= -_ROUNDING
    given = np.maximum(I_XT, 0.0)
    lower = np.interp(given, x, y)
    upper = np.minimum(given, y[-1])
    for at, value, slope, room in zip(x[:-1], y[:-1], 1 / beta[:-1], gap[:-1], strict=True):
        upper = np.minimum(upper, value + (given - at + room) * slope)
    return np.where(possible, lower, np.nan), np.where(possible, np.maximum(upper, lower), np.nan)


def _least_I_XT(I_TY: Array, knots: Array) -> tuple[Array, Array]:
    x, y, beta, gap = knots
    possible = (I_TY >= -_ROUNDING) & (y[-1] + _ROUNDING >= I_TY)
    wanted = np.clip(I_TY, 0.0, y[-1])
    upper = np.interp(wanted, y, x)
    lower = wanted
    for at, value, inverse, room in zip(x[:-1], y[:-1], beta[:-1], gap[:-1], strict=True):
        lower = np.maximum(lower, at - room + (wanted - value) * inverse)
    return np.where(possible, np.minimum(lower, upper), np.nan), np.where(possible, upper, np.nan)
