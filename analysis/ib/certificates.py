"""How far a T can be from the best one at its beta: a proof for two classes, a search for more."""

from dataclasses import dataclass
from math import ceil, log, sqrt

import numpy as np
from scipy.special import logsumexp, xlogy

from ipstore.analysis.ib.peaks import find_peaks
from ipstore.analysis.ib.problem import Array, Problem

__all__ = ["Excess", "find_excess"]

_TOLERANCE = 1e-9
_MOST = 200_000


@dataclass(frozen=True, eq=False)
class Excess:
    """How far F lies above its minimum at most.

    Attributes
    ----------
    bound : float
        Nats, 0 or more.
    better : (place, class) float64
        Square roots of the decoders that would help most, the best one first.
    heights : (place,) float64
        log c there.
    evaluations : int
        Of c, that a proof took; 0 for a search.
    """

    bound: float
    better: Array
    heights: Array
    evaluations: int


def find_excess(problem: Problem, root: Array, weight: Array, *, enough: float = 0.0, random_state: int = 0) -> Excess:
    """Bound log max c (see `problem`): proven for two classes; for more, the most that a search from many starts met.

    Parameters
    ----------
    problem : Problem
    root : (t, class) float64
        Square roots of the decoders.
    weight : (t,) float64
    enough : float
        A search that finds more leaves the proof for another time: then the bound is what it found.
    random_state : int
        Of the search if there are more than two classes.

    Returns
    -------
    Excess
    """
    log_z = problem.log_partition(root, weight)
    better, heights = find_peaks(problem, log_z, root, random_state)
    found = max(0.0, float(heights[0]))
    if problem.q.shape[1] > 2 or found > enough > 0:
        return Excess(found, better, heights, 0)
    bound, met, odds, evaluations = _proven(problem, log_z)
    if met > found:
        better, heights = np.exp(-np.logaddexp(0, [[odds, -odds]]) / 2), np.array([met])
    return Excess(bound, better, heights, evaluations)


def _proven(problem: Problem, log_z: Array) -> tuple[float, float, float, int]:
    """Bound log max c for two classes.

    In the log odds u = log r / (1 - r) of a decoder,

        log c(u) = A(u) - beta softplus(u),    A(u) = log sum_x a_x exp(beta q_x u),

    where both A and softplus are convex. On a cell [a, b], A lies below its chord and softplus above its tangent at any
    m, so that log c lies below a line, and below the larger of its ends: log c(a) and log c(b), each plus beta times
    how far softplus lies above the tangent there. Cells where that is more than 1e-9 above the largest log c that was
    met are halved. Decoders beyond the outermost states need not be looked at: every term of c falls there. Where a
    state has q = 1 (or 0), its own term tends to a_x instead; behind u = 40 + log beta that gains no more than
    a_x beta e^-u.

    What floating point may lose is allowed for by 2^-50 (1 + beta). The cost is one evaluation of c, of as many
    exponentials as there are states, for each cell: 8 sqrt(beta) cells to begin with for each unit of the angle, and
    some hundred at each atom.
    """
    from ipstore.analysis.ib import certificate_kernels

    beta, q = problem.beta, problem.q
    log_mass = np.log(problem.p) - log_z - beta * xlogy(q, q).sum(axis=1)
    with np.errstate(divide="ignore"):
        odds = np.log(q[:, 1]) - np.log(q[:, 0])
    inner = odds[np.isfinite(odds)]
    far = 40 + log(beta)
    low = min(inner.min(initial=np.inf), -far) if np.isneginf(odds).any() else inner.min()
    high = max(inner.max(initial=-np.inf), far) if np.isposinf(odds).any() else inner.max()
    angles = 2 * np.arctan(np.exp(np.array([low, high]) / 2))
    cells = min(ceil(8 * sqrt(beta) * (angles[1] - angles[0])) + 3, 4096)
    between = np.linspace(float(angles[0]), float(angles[1]), cells)[1:-1]
    places = 2 * np.log(np.tan(between / 2))
    places = np.concatenate([[low], places[(places > low) & (places < high)], [high]])
    bound, met, odds_met, evaluations = certificate_kernels.largest_height(log_mass, q, beta, places, _TOLERANCE, _MOST)
    for end, tail in ((low, np.isneginf(odds)), (high, np.isposinf(odds))):
        if tail.any():
            terms = log_mass - beta * (q[:, 0] * np.logaddexp(0, end) + q[:, 1] * np.logaddexp(0, -end))
            gained = log_mass[tail] + log(beta) - abs(end)
            bound = max(bound, float(logsumexp(np.concatenate([terms, gained]))))
    return bound + 2.0**-50 * (1 + beta), met, odds_met, evaluations
