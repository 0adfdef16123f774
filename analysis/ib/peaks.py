"""Where another decoder would help: the local maxima of c (see `problem`)."""

from math import ceil, sqrt

import numpy as np

from ipstore.analysis.ib.problem import Array, Problem, along, slopes

__all__ = ["find_peaks"]

_MOST_PLACES = 4096
_STARTS = 64
_ASCENTS = 40
_WALK = 8


def find_peaks(problem: Problem, log_z: Array, root: Array, random_state: int = 0) -> tuple[Array, Array]:
    """Find the local maxima of log c: their roots (peak, class) and heights (peak,)."""
    if problem.q.shape[1] == 2:
        places = _scan(problem)
        heights = problem.log_gradient(log_z, places)
        padded = np.concatenate([[-np.inf], heights, [-np.inf]])
        tops = places[(heights >= padded[:-2]) & (heights >= padded[2:])]
    else:
        tops = _spread(problem, root, random_state)
    return _climb(problem, log_z, tops)


def _scan(problem: Problem) -> Array:
    """Choose places (place, 2) from one end of the states to the other, 8 sqrt(beta) for each unit of the angle.

    At an angle phi, r = sin(phi/2)**2, and there the curvature of beta KL is about beta everywhere. At a beta so large
    that these would be too many, the peaks lie at the states.
    """
    half = np.sort(np.arctan2(np.sqrt(problem.q[:, 1]), np.sqrt(problem.q[:, 0])))
    number = ceil(16 * sqrt(problem.beta) * (half[-1] - half[0])) + 3
    between = np.linspace(half[0], half[-1], min(number, _MOST_PLACES))[1:-1]
    if number > _MOST_PLACES:
        between = np.sort(np.concatenate([between, half[1:-1]]))
    ends = np.sqrt(problem.q[[problem.q[:, 1].argmin(), problem.q[:, 1].argmax()]])
    return np.concatenate([ends[:1], np.stack([np.cos(between), np.sin(between)], axis=1), ends[1:]])


def _spread(problem: Problem, root: Array, random_state: int) -> Array:
    """Choose where to start a search in more than one dimension: the atoms, states, and mixtures of states."""
    random = np.random.default_rng(random_state)
    some = random.choice(len(problem.p), min(len(problem.p), 4 * _STARTS), replace=False, p=problem.p, shuffle=False)
    mixtures = random.dirichlet(np.full(len(some), 2 / len(some)), _STARTS) @ problem.q[some]
    return np.concatenate([root, np.sqrt(problem.q[some]), np.sqrt(mixtures)])


def _climb(problem: Problem, log_z: Array, root: Array) -> tuple[Array, Array]:
    """Take each root to a peak of log c.

    The mean of q under p(x|r) never lies lower than r (it is a step of expectation maximisation for one atom). From
    close by, Newton's step or a part of it lies higher.
    """
    height = problem.log_gradient(log_z, root)
    for turn in range(_ASCENTS):
        share = np.exp(problem.log_kernel(root) + (np.log(problem.p) - log_z)[:, None] - height)
        reached = [np.sqrt(share.T @ problem.q)]
        if turn >= _WALK:
            tangents, step = _leap(problem, share, root)
            reached += [along(root, np.einsum("tcd,td->tc", tangents, part * step)) for part in (1, 1 / 4, 1 / 16)]
        heights = problem.log_gradient(log_z, np.concatenate(reached)).reshape(len(reached), -1)
        best = heights.argmax(axis=0)
        moved = np.stack(reached)[best, np.arange(len(root))]
        settled = np.abs(moved - root).max() <= 1e-9
        root, height = moved, heights.max(axis=0)
        if turn == _WALK:
            root, height = _distinct(root, height, 1e-3)
        if settled:
            break
    return _distinct(root, height, 1e-6)


def _leap(problem: Problem, share: Array, root: Array) -> tuple[Array, Array]:
    """Give tangents, and in them Newton's step towards a peak of log c; `share` is p(x|r), (state, place)."""
    tangents, _, slope, curve = slopes(problem, root, share)
    curve -= slope[:, :, None] * slope[:, None, :]
    values, axes = np.linalg.eigh(curve)
    step = np.einsum("ted,td->te", axes, np.einsum("ted,te->td", axes, slope) / np.maximum(np.abs(values), 1e-12))
    step /= np.maximum(1.0, np.linalg.norm(step, axis=1, keepdims=True) * 4 * sqrt(problem.beta))
    return tangents, step


def _distinct(root: Array, height: Array, apart: float) -> tuple[Array, Array]:
    """Keep the highest of places that are one, and of those `_STARTS` at most."""
    kept: list[int] = []
    for place in np.argsort(-height, kind="stable"):
        if len(kept) < _STARTS and (not kept or np.abs(root[kept] - root[place]).max(axis=1).min() > apart):
            kept.append(int(place))
    return root[kept], height[kept]
