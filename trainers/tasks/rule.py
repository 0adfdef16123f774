"""The rule of Shwartz-Ziv & Tishby 2017: a rotation-invariant function of twelve points on a sphere.

The twelve inputs say which vertices of an icosahedron are occupied. Of a pattern x the rule sees the norms of
the l=0 and l=1 parts of its spherical power spectrum,

    f(x) = n + || sum_i x_i v_i ||,    n = sum_i x_i,

with unit vertices v_i, and the label is 1 where f exceeds a threshold. This reproduces the table that the
authors published with their code bit for bit (the tests hold its SHA-256).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from ipstore.errors import ParameterError
from ipstore.trainers.tasks.base import Task, mutual_information

__all__ = ["THRESHOLD", "pair_counts", "power", "rule"]

THRESHOLD = 7.632
"""Between the two values of f nearest to it, 7.5628 and 7.7013, any threshold gives the same labels."""

_GOLDEN = (1 + 5**0.5) / 2
# In the column order of the authors' table; times 1 / sqrt(1 + golden**2) they lie on the unit sphere.
_VERTICES = np.array([
    (0, 1, _GOLDEN), (1, _GOLDEN, 0), (0, 1, -_GOLDEN), (-1, _GOLDEN, 0),
    (_GOLDEN, 0, -1), (0, -1, _GOLDEN), (1, -_GOLDEN, 0), (-1, -_GOLDEN, 0),
    (-_GOLDEN, 0, -1), (0, -1, -_GOLDEN), (-_GOLDEN, 0, 1), (_GOLDEN, 0, 1),
])  # fmt: skip


def pair_counts(x: NDArray[np.integer]) -> NDArray[np.int64]:
    """Pair-distance spectrum of patterns: the paper's orbits.

    Parameters
    ----------
    x : (sample, 12) of 0 and 1

    Returns
    -------
    (sample, 4) int64
        Number of occupied vertices, and of pairs of them that are neighbours, next neighbours and antipodes.
        It takes 64 values over the 4096 patterns.
    """
    cosine = _VERTICES @ _VERTICES.T / (1 + _GOLDEN**2)
    kinds = [np.isclose(cosine, c).astype(np.int64) for c in (5**-0.5, -(5**-0.5), -1.0)]
    bits = x.astype(np.int64)
    return np.stack([bits.sum(axis=1), *(((bits @ kind) * bits).sum(axis=1) // 2 for kind in kinds)], axis=1)


def power(x: NDArray[np.integer]) -> NDArray[np.float64]:
    """f(x) of patterns, (sample, 12) of 0 and 1 -> (sample,).

    The squared norm is a sum of cosines over pairs, n + 2 (neighbours - next neighbours) / sqrt(5) - 2
    antipodes. Taken from the integer counts, f is the same to the last bit for all patterns of an orbit,
    which summing vectors would not give.
    """
    n, neighbours, next_neighbours, antipodes = pair_counts(x).T
    f: NDArray[np.float64] = n + np.sqrt((n - 2 * antipodes) + 2 * (neighbours - next_neighbours) / 5**0.5)
    return f


def rule(information: float | None = None, signed: bool = False) -> Task:
    """All 4096 patterns, equally probable, with labels by the rule.

    Row r is the binary number r, column 11 the least significant bit.

    Parameters
    ----------
    information : float, optional
        I(X;Y) in bits, in (0, 0.99916). The labels are then stochastic, ``p(y=1|x) = sigmoid(gamma (f(x) -
        threshold))`` with the gamma that gives this information. The paper used 0.99 (gamma 54.478). None
        gives the deterministic labels, whose information is 0.99916 bits.
    signed : bool
        Inputs -1 and 1 in place of 0 and 1.

    Returns
    -------
    Task

    Raises
    ------
    ParameterError
        If no gamma gives that information.
    """
    bits = (np.arange(4096)[:, None] >> np.arange(11, -1, -1)) & 1
    margin = power(bits) - THRESHOLD
    p_x = np.full(4096, 1 / 4096)
    p_y_given_x = _soften(np.inf if information is None else _solve_gamma(information, p_x, margin), margin)
    x = 2 * bits - 1 if signed else bits
    return Task(x=x.astype(np.float32), p_x=p_x, p_y_given_x=p_y_given_x, x_id=np.arange(4096), population=True)


def _soften(gamma: float, margin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give p(y|x), both classes by their own sigmoid so that neither saturates to 1 - 1."""
    return np.stack([expit(-gamma * margin), expit(gamma * margin)], axis=1)


def _solve_gamma(information: float, p_x: NDArray[np.float64], margin: NDArray[np.float64]) -> float:
    def excess(log_gamma: float) -> float:
        return mutual_information(p_x, _soften(np.exp(log_gamma), margin)) - information

    low, high = (
        np.log(1e-6),
        np.log(1e6),
    )  # I(X;Y) grows with gamma, from 1e-12 bits to that of the hard labels
    if not excess(low) < 0 < excess(high):
        limit = mutual_information(p_x, _soften(np.inf, margin))
        raise ParameterError(
            f"information must lie in (0, {limit:.5f}) bits but got {information!r}; "
            f"None gives the hard labels, with {limit:.5f}"
        )
    return float(np.exp(brentq(excess, low, high, xtol=1e-14)))
