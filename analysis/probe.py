"""The probe: the inputs on which a network is asked, their weights, and the known p(y|x)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipstore.errors import ParameterError

__all__ = ["Probe", "entropy"]

_TOLERANCE = 1e-5
"""How far a sum of probabilities may lie from one: what float32 loses over some thousand terms."""


def entropy(p: NDArray[Any]) -> float:
    """Shannon entropy of a distribution, in bits.

    Parameters
    ----------
    p : float64 array, any shape
        Probabilities; they sum to one.
    """
    positive = p[p > 0]
    return max(0.0, float(-np.sum(positive * np.log2(positive))))


@dataclass(frozen=True, eq=False)
class Probe:
    """Inputs, their weights and p(y|x), as every estimator takes them; made by `Probe.of`, which checks them.

    Attributes
    ----------
    p_y_given_x : (sample, class) float64
        Rows sum to one; at least two classes occur.
    x_id : (sample,) int64 or None
        Number of the distinct input, 0 to n - 1; None if no input is repeated.
    p_x : (sample,) float64 or None
        Weights that sum to one; None if they are equal.
    population : bool
        Whether the samples are all there is, with their probabilities, so that what is counted is exact; if not,
        they were drawn from more, and counts carry an error and a bias.
    """

    p_y_given_x: NDArray[np.float64]
    x_id: NDArray[np.int64] | None
    p_x: NDArray[np.float64] | None
    population: bool = True

    @classmethod
    def of(
        cls,
        p_y_given_x: ArrayLike,
        x_id: ArrayLike | None = None,
        p_x: ArrayLike | None = None,
        *,
        population: bool = True,
        least_classes: int = 2,
    ) -> "Probe":
        """Check a probe.

        Parameters
        ----------
        p_y_given_x : (sample, class)
            Probabilities of the classes given the input; rows sum to one.
        x_id : (sample,), optional
            Equal entries mean equal inputs. By default every sample is an input of its own.
        p_x : (sample,), optional
            Weight of each sample, summing to one. By default they are equal.
        population : bool
            Whether the samples are all there is, or were drawn from more.
        least_classes : int
            How many classes must occur.

        Raises
        ------
        ParameterError
            If shapes disagree, probabilities are negative or do not sum to one, or too few classes occur.
        """
        rows = _probabilities("p_y_given_x", p_y_given_x, ndim=2)
        samples = len(rows)
        weights = None if p_x is None else _probabilities("p_x", p_x, ndim=1)
        if weights is not None and weights.shape != (samples,):
            raise ParameterError(f"p_x must have one entry per sample ({samples}) but has shape {weights.shape}")
        if weights is not None and np.all(weights == weights[0]):
            weights = None
        inputs = None
        if x_id is not None:
            given = np.asarray(x_id)
            if given.shape != (samples,):
                raise ParameterError(f"x_id must have one entry per sample ({samples}) but has shape {given.shape}")
            distinct, inputs = np.unique(given, return_inverse=True)
            inputs = None if len(distinct) == samples else inputs
        probe = cls(rows, inputs, weights, population)
        if np.count_nonzero(probe.p_y) < least_classes:
            raise ParameterError(
                f"the labels hold one class only: p_y_given_x has shape {rows.shape} and "
                f"{np.count_nonzero(probe.p_y)} class of positive probability, so I(T;Y) is 0 for every T. "
                "Give labels of at least two classes"
            )
        return probe

    @property
    def arguments(self) -> dict[str, NDArray[Any]]:
        """What a kernel is called with beside the activations; leaves out what is None."""
        given = {"p_y_given_x": self.p_y_given_x, "x_id": self.x_id, "p_x": self.p_x}
        return {name: array for name, array in given.items() if array is not None}

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Weight of each sample, (sample,) float64."""
        samples = len(self.p_y_given_x)
        return np.full(samples, 1 / samples) if self.p_x is None else self.p_x

    @cached_property
    def p_y(self) -> NDArray[np.float64]:
        """Probability of each class, (class,) float64."""
        return self.weights @ self.p_y_given_x

    @property
    def labels(self) -> Literal["hard", "soft"]:
        """Whether every p(y|x) is 0 or 1."""
        return "hard" if np.isin(self.p_y_given_x, (0.0, 1.0)).all() else "soft"

    @cached_property
    def H_Y(self) -> float:
        """Entropy of the label, in bits."""
        return entropy(self.p_y)

    @cached_property
    def H_X(self) -> float:
        """Entropy of the input, in bits."""
        return entropy(self.weights if self.x_id is None else np.bincount(self.x_id, self.weights))

    @cached_property
    def I_XY(self) -> float:
        """Information of the input on the label, in bits: the most that any layer can have."""
        joint = self.weights[:, None] * self.p_y_given_x
        if self.x_id is not None:
            joint = np.stack([np.bincount(self.x_id, column) for column in joint.T], axis=1)
        return max(0.0, self.H_X + self.H_Y - entropy(joint))


def _probabilities(name: str, values: ArrayLike, *, ndim: int) -> NDArray[np.float64]:
    """Check that `values` are distributions along the last axis, and have them sum to one exactly."""
    p = np.asarray(values, np.float64)
    if p.ndim != ndim or p.size == 0:
        dims = "(sample, class)" if ndim == 2 else "(sample,)"
        raise ParameterError(f"{name} must be a non-empty {dims} array but has shape {p.shape}")
    if not (np.isfinite(p).all() and (p >= 0).all()):
        raise ParameterError(f"{name} must hold probabilities but its values lie in [{p.min()}, {p.max()}]")
    total = p.sum(axis=-1, keepdims=True)
    worst = total.flat[np.argmax(abs(total - 1))]
    if abs(worst - 1) > _TOLERANCE:
        what = "the rows of p_y_given_x" if ndim == 2 else name
        raise ParameterError(f"{what} must sum to one but one sums to {worst:.6g}; divide by the sum")
    exact: NDArray[np.float64] = p / total
    return exact
