"""The information bottleneck at one beta, as the convex problem that it is; plain arrays, nats.

Take T's decoders r = p(y|t) with their probabilities as one measure mu over the simplex. Over all encoders the
Lagrangian I(X;T) + beta (I(X;Y) - I(T;Y)) is then at least, and for the best encoder equal to,

    F(mu) = - sum_x p(x) log Z_x,    Z_x = integral mu(dr) exp(-beta KL(p(y|x) || r)),

which is rate-distortion with the distortion KL(p(y|x) || r) [1]_, and convex in mu: the likelihood of a mixture [2]_.
Whether an atom at r would help says the gradient

    c(r) = sum_x p(x) exp(-beta KL(p(y|x) || r)) / Z_x :    F(mu) - min F <= log max_r c(r)    [3]_,

since F(mu) - F(nu) is the mean of log (Z'_x / Z_x), at most the log of its mean, which is the mean of c under nu. The
optimum has few atoms, and an iteration that moves a fixed number of them sees a problem with local minima. Here atoms
are added where c has its peaks, all are weighed, and then moved and weighed together by Newton's method.

References
----------
.. [1] Harremoes & Tishby, "The information bottleneck revisited or how to choose a good distortion measure", ISIT 2007.
.. [2] Slonim & Weiss, "Maximum likelihood and the information bottleneck", NIPS 2002.
.. [3] Lindsay, "The geometry of mixture likelihoods: a general theory", Annals of Statistics 11 (1983), theorem 4.1.
"""

from dataclasses import dataclass
from functools import cached_property
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

__all__ = ["Array", "Problem", "along", "slopes"]

Array = NDArray[np.float64]

_NEVER = -1e300
"""Stands for the logarithm of 0 where it may be multiplied by 0."""

_LEAST = 1e-290
"""A p(y|x) that a mean may lose to underflow; a decoder of 0 then stands for one of next to nothing."""


@dataclass(frozen=True, eq=False)
class Problem:
    """States of the input and a beta.

    Parameters
    ----------
    p : (state,) float64
        Positive, sums to one.
    q : (state, class) float64
        Distinct rows that sum to one.
    beta : float
    """

    p: Array
    q: Array
    beta: float

    def log_kernel(self, root: Array) -> Array:
        """Give -beta KL(q_x || r) for the decoders r = root**2, (state, t)."""
        logs = 2 * np.log(root, where=root > 0, out=np.zeros_like(root))
        result: Array = self.beta * (self.q @ logs.T + self._entropy[:, None])
        shut = np.flatnonzero((root == 0).any(axis=1))
        if shut.size:  # a decoder that excludes a class is infinitely far from where that occurs
            result[:, shut] = np.where((self.q > _LEAST) @ (root[shut] == 0).T, _NEVER, result[:, shut])
        return np.minimum(result, 0.0)

    @cached_property
    def _entropy(self) -> Array:
        entropy: Array = -xlogy(self.q, self.q).sum(axis=1)
        return entropy

    def log_partition(self, root: Array, weight: Array) -> Array:
        """Give log Z_x under a measure, (state,)."""
        exponent = self.log_kernel(root)
        top = exponent.max(axis=1)
        found: Array = top + np.log(np.exp(exponent - top[:, None]) @ weight)
        return found

    def log_gradient(self, log_z: Array, root: Array) -> Array:
        """Give log c at some decoders r = root**2, (place,), from log Z_x under a measure."""
        exponent = self.log_kernel(root) + (np.log(self.p) - log_z)[:, None]
        top = exponent.max(axis=0)
        height: Array = top + np.log(np.exp(exponent - top).sum(axis=0))  # four times as fast as scipy's logsumexp
        return height


def along(root: Array, shift: Array) -> Array:
    """Go along great circles, from each root by a tangent vector; beyond a border is what mirrors it."""
    length = np.linalg.norm(shift, axis=1, keepdims=True)
    reached: Array = np.abs(root * np.cos(length) + shift * np.sinc(length / pi))
    return reached


def slopes(problem: Problem, root: Array, share: Array) -> tuple[Array, Array, Array, Array]:
    """Give tangents, and how the log kernel changes along them.

    Parameters
    ----------
    problem : Problem
    root : (t, class) float64
    share : (state, t) float64
        Weights of the sums over states.

    Returns
    -------
    tangents : (t, class, class - 1) float64
    first : (state, t, class - 1) float64
        First derivatives.
    slope : (t, class - 1) float64
        Their sums.
    curve : (t, class - 1, class - 1) float64
        Sums of the second derivatives of the kernel itself, over the kernel: those of its log plus the squares of the
        first. What is summed is never in memory at once.
    """
    tangents = _tangents(root)
    with np.errstate(divide="ignore"):
        along = tangents * np.where(root > 1e-120, 1 / root, 0.0)[:, :, None]
    atoms, classes, free = tangents.shape
    first = 2 * problem.beta * (problem.q @ np.moveaxis(along, 1, 0).reshape(classes, -1))
    of_atom = np.moveaxis(first.reshape(-1, atoms, free), 1, 0)
    weighted = np.ascontiguousarray(of_atom * share.T[:, :, None]).transpose(0, 2, 1)
    curve = weighted @ of_atom
    curve -= 2 * problem.beta * (along.transpose(0, 2, 1) * (share.T @ problem.q)[:, None, :]) @ along
    curve -= 2 * problem.beta * share.sum(axis=0)[:, None, None] * np.eye(free)
    return tangents, first.reshape(-1, atoms, free), weighted.sum(axis=2), curve


def _tangents(root: Array) -> Array:
    """Give an orthonormal basis of the tangent space of the sphere at each root, (t, class, class - 1)."""
    atoms, classes = root.shape
    if classes == 2:
        return np.stack([-root[:, 1], root[:, 0]], axis=1)[:, :, None]
    # The reflection that takes e_k to the root takes the other unit vectors to a basis of what is orthogonal to it.
    bases = np.empty((atoms, classes, classes - 1))
    for t in range(atoms):
        k = int(np.argmin(root[t]))
        normal = -root[t]
        normal[k] += 1
        normal /= np.linalg.norm(normal)
        bases[t] = np.delete(np.eye(classes) - 2 * np.outer(normal, normal), k, axis=1)
    return bases
