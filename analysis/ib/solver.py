"""The best decoders at one beta."""

from dataclasses import dataclass
from math import pi

import numpy as np
from scipy.optimize import nnls

from ipstore.analysis.ib.certificates import Excess, find_excess
from ipstore.analysis.ib.problem import Array, Problem, along, slopes

__all__ = ["Solution", "solve"]

_ENOUGH = 1e-10
"""Where log max c lies below it, in nats, as far as a search finds, it is time for the proof."""

_GOOD = 2e-9
"""A bound in nats that is worth no further atom."""

_COARSE = 400
"""States at most that a problem of two classes is solved with before it is solved with all."""

_OUTER = 60
_ROW = 1e4


@dataclass(frozen=True, eq=False)
class Solution:
    """A measure over decoders.

    Attributes
    ----------
    root : (t, class) float64
        Square roots of the decoders p(y|t): points of the unit sphere, on which Newton's method knows no border.
    weight : (t,) float64
        Sums to one.
    excess : Excess
        How far it may be from the best.
    iterations : int
        How often atoms were added, and once.
    """

    root: Array
    weight: Array
    excess: Excess
    iterations: int


def solve(problem: Problem, start: Solution | None = None, *, random_state: int = 0) -> Solution:
    """Minimise F.

    Parameters
    ----------
    problem : Problem
    start : Solution, optional
        Of a beta nearby; by default the one decoder p(y).
    random_state : int
        Of the starts from which peaks are sought if there are more than two classes.

    Returns
    -------
    Solution
    """
    if len(problem.p) > 2 * _COARSE and problem.q.shape[1] == 2:
        start = solve(_coarse(problem), start)
    root, weight = np.sqrt(problem.p @ problem.q)[None, :], np.ones(1)
    if start is not None:
        root, weight = _newton(problem, start.root, start.weight)
    best: Solution | None = None
    for iteration in range(1, _OUTER + 1):
        excess = find_excess(problem, root, weight, enough=_ENOUGH, random_state=random_state)
        if best is None or excess.bound < best.excess.bound:
            best = Solution(root, weight, excess, iteration)
        if excess.bound <= _GOOD or iteration > best.iterations + 3:  # or rounding is what limits
            break
        # A state of next to no weight may make the highest peak by far, and is not to hide the others.
        fresh = excess.better[excess.heights > min(float(excess.heights[0]), 0.1) / 2]
        root = np.concatenate([root, fresh])
        weight = np.concatenate([weight, np.zeros(len(fresh))])
        root, weight = _newton(problem, *_weigh(problem, root, weight))
    assert best is not None
    excess = best.excess
    if problem.q.shape[1] == 2 and not excess.evaluations:  # the best had no proof yet
        excess = find_excess(problem, best.root, best.weight)
    return Solution(best.root, best.weight, excess, iteration)


def _coarse(problem: Problem) -> Problem:
    """Merge states of two classes that lie close together, to solve what is nearly the same with fewer."""
    angle = np.arctan2(np.sqrt(problem.q[:, 1]), np.sqrt(problem.q[:, 0]))
    bins = np.unique((angle * (2 * _COARSE / pi)).astype(np.int64), return_inverse=True)[1]
    p = np.asarray(np.bincount(bins, problem.p), np.float64)
    q = np.stack([np.bincount(bins, problem.p * column) / p for column in problem.q.T], axis=1)
    return Problem(p, q, problem.beta)


def _weigh(problem: Problem, root: Array, weight: Array) -> tuple[Array, Array]:
    """Find the best weights of given atoms, and drop those of none.

    A few turns of expectation maximisation bring new weights to their size, however small; then Newton steps by
    non-negative least squares (Wang 2007, JRSS B 69).
    """
    exponent = problem.log_kernel(root)
    kernel = np.exp(exponent - exponent.max(axis=1)[:, None])
    near = kernel.max(axis=0) > 1e-100
    root, kernel, weight = root[near], kernel[:, near], np.maximum(weight[near], 1e-3 / len(weight))
    for _ in range(5):
        weight = weight * (problem.p @ (kernel / (kernel @ weight)[:, None]))
    value = -problem.p @ np.log(kernel @ weight)
    for _ in range(50):
        columns = np.sqrt(problem.p)[:, None] * kernel / (kernel @ weight)[:, None]
        unit = 1 / np.linalg.norm(columns, axis=0)  # of the weights, so that small ones are found as well as large ones
        # The last row has them sum to one.
        basis, factor = np.linalg.qr(np.concatenate([columns, np.full((1, len(weight)), _ROW)]) * unit)
        wanted = unit * nnls(factor, basis.T @ np.append(2 * np.sqrt(problem.p), _ROW), maxiter=100 * len(weight))[0]
        wanted /= wanted.sum()
        step, before = 1.0, value
        while step > 1e-8:
            trial = weight + step * (wanted - weight)
            mixed = kernel @ trial
            value = -problem.p @ np.log(mixed) if (mixed > 0).all() else np.inf
            if value <= before:
                break
            step /= 2
        else:
            break
        weight = trial
        if before - value <= 1e-16:
            break
    weight = np.maximum(weight, 1e-30)  # least squares lose the atom of a state of next to no weight
    for _ in range(3):
        weight = weight * (problem.p @ (kernel / (kernel @ weight)[:, None]))
    return _needed(problem, root, weight)


def _needed(problem: Problem, root: Array, weight: Array) -> tuple[Array, Array]:
    """Drop atoms that no state uses, and make one of those that coincide."""
    order = np.lexsort(root.T)
    root, weight = root[order], weight[order]
    apart = np.flatnonzero(np.append(True, np.abs(np.diff(root, axis=0)).max(axis=1) > 1e-9))
    root, weight = root[apart], np.add.reduceat(weight, apart)
    used = _share(problem, root, weight).max(axis=0) > 1e-10
    return root[used], weight[used] / weight[used].sum()


def _share(problem: Problem, root: Array, weight: Array) -> Array:
    """Give p(t|x), (state, t)."""
    exponent = problem.log_kernel(root)
    share = weight * np.exp(exponent - exponent.max(axis=1)[:, None])
    found: Array = share / share.sum(axis=1)[:, None]
    return found


def _newton(problem: Problem, root: Array, weight: Array) -> tuple[Array, Array]:
    """Move and weigh the atoms together.

    A step moves each root along a great circle and changes each weight by a factor. Minimised is F plus the sum of the
    weights, which sum to one where it is least.
    """
    root, weight = _needed(problem, root, weight)
    value = _value(problem, root, weight)
    stalled = 0
    for _ in range(60):
        gradient, hessian, tangents = _derivatives(problem, root, weight)
        free = root.shape[1] - 1
        size = np.concatenate([weight, np.repeat(problem.beta * weight, free)])  # of the curvatures, about
        if np.abs(gradient / size).max() <= 1e-13 or stalled > 3:
            break
        scale = 1 / np.sqrt(size)
        curvature, axes = np.linalg.eigh(scale[:, None] * hessian * scale)
        # Along an axis of no curvature, as that on which two atoms part, the gradient alone says little.
        floor = 1e-12 * max(1.0, float(curvature[-1]))
        step = -scale * (axes @ ((axes.T @ (scale * gradient)) / np.maximum(np.abs(curvature), floor)))
        step /= max(1.0, float(np.abs(step).max()) / 0.5)
        decrease = float(gradient @ step)
        length = 1.0
        while length > 1e-6:
            moved = _move(root, weight, tangents, length * step)
            trial = _value(problem, *moved)
            if trial <= value + 1e-4 * length * decrease + 1e-16:
                break
            length /= 2
        else:
            break
        stalled = 0 if trial < value else stalled + 1
        (root, weight), value = moved, trial
    return _needed(problem, root, weight)


def _value(problem: Problem, root: Array, weight: Array) -> float:
    return float(weight.sum() - problem.p @ problem.log_partition(root, weight))


def _move(root: Array, weight: Array, tangents: Array, step: Array) -> tuple[Array, Array]:
    """Go a step: factors of the weights first, then tangent coordinates of each atom."""
    atoms, classes = root.shape
    shift = np.einsum("tcd,td->tc", tangents, step[atoms:].reshape(atoms, classes - 1))
    return along(root, shift), weight * np.exp(step[:atoms])


def _derivatives(problem: Problem, root: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Gradient and Hessian of `_value` in the coordinates of `_move`, and the tangents (t, class, class - 1)."""
    atoms, classes = root.shape
    share = _share(problem, root, weight)
    free = classes - 1
    weighted = problem.p[:, None] * share
    mass = weighted.sum(axis=0)
    tangents, first, slope, own = slopes(problem, root, weighted)
    gradient = np.concatenate([weight - mass, -slope.ravel()])
    flat = (share[:, :, None] * first).reshape(len(problem.p), atoms * free)
    half = np.sqrt(problem.p)[:, None]
    both = np.concatenate([half * share, half * flat], axis=1)
    hessian = both.T @ both
    hessian[np.arange(atoms), np.arange(atoms)] += weight - mass
    for t in range(atoms):
        place = slice(atoms + t * free, atoms + (t + 1) * free)
        hessian[place, place] -= own[t]
        hessian[t, place] -= slope[t]
        hessian[place, t] -= slope[t]
    return gradient, hessian, tangents
