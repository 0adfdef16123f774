"""What a task is: samples and their joint distribution with the labels, known exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from ipstore.errors import ParameterError
from ipstore.trainers.randomness import Purpose, shuffle

__all__ = ["Task", "mutual_information"]


def mutual_information(p_x: NDArray[np.float64], p_y_given_x: NDArray[np.float64]) -> float:
    """I(X;Y) in bits of p_x (sample,) and p_y_given_x (sample, class)."""
    joint = p_x[:, None] * p_y_given_x
    return float(rel_entr(joint, p_x[:, None] * joint.sum(axis=0)).sum() / np.log(2))


@dataclass(frozen=True, eq=False)
class Task:
    """Samples with the joint distribution p(x, y) that they stand for.

    The arrays are copied, converted and made read-only. A factory gives the four arrays; `load` adds name and
    params.

    Parameters
    ----------
    x : (sample, feature) float32
        Inputs.
    p_x : (sample,) float64
        Probability of each sample.
    p_y_given_x : (sample, class) float64
        Probability of each class at each sample.
    x_id : (sample,) int64
        Identity of the input: equal ids for equal inputs.
    population : bool
        Whether these are all the inputs there are, so that what is counted over them is exact; if not, they were
        drawn from more, and estimates are corrected for that.
    name : str
        The name under which `load` found it.
    params : mapping
        What `load` was given beside the name; ``load(name, **params)`` builds the same task again.

    Raises
    ------
    ParameterError
        If shapes disagree, a value is not finite, probabilities are negative or do not sum to one, there is
        only one class, or one id stands for different inputs.
    """

    x: NDArray[np.float32]
    p_x: NDArray[np.float64]
    p_y_given_x: NDArray[np.float64]
    x_id: NDArray[np.int64]
    population: bool = False
    name: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dtypes = {"x": np.float32, "p_x": np.float64, "p_y_given_x": np.float64, "x_id": np.int64}
        for key, dtype in dtypes.items():
            array = np.array(getattr(self, key), dtype)
            array.setflags(write=False)
            object.__setattr__(self, key, array)
        shapes = {key: getattr(self, key).shape for key in dtypes}
        n = len(self.x) if self.x.ndim else 0
        if (
            n == 0
            or self.x.ndim != 2
            or self.p_y_given_x.ndim != 2
            or self.p_x.shape != (n,)
            or self.p_y_given_x.shape[0] != n
            or self.x_id.shape != (n,)
            or self.x.shape[1] == 0
        ):
            raise ParameterError(
                "a task needs x (sample, feature), p_x (sample,), p_y_given_x (sample, class) and "
                f"x_id (sample,) with equal numbers of samples but got shapes {shapes}"
            )
        if self.p_y_given_x.shape[1] < 2:
            raise ParameterError("p_y_given_x has one class only; a task needs at least two")
        for key in ("x", "p_x", "p_y_given_x"):
            if not np.isfinite(getattr(self, key)).all():
                raise ParameterError(f"{key} holds NaN or infinite values; a task needs finite ones")
        for key, p in (("p_x", self.p_x), ("each row of p_y_given_x", self.p_y_given_x)):
            worst = np.abs(p.sum(axis=-1) - 1).max()
            if (p < 0).any() or worst > 1e-9:
                raise ParameterError(
                    f"{key} must be non-negative and sum to 1, but the smallest value is {p.min():.3g} and "
                    f"the sum is off by up to {worst:.3g}"
                )
        _, first, inverse = np.unique(self.x_id, return_index=True, return_inverse=True)
        differing = np.flatnonzero((self.x != self.x[first[inverse]]).any(axis=1))
        if differing.size:
            raise ParameterError(
                f"x_id {self.x_id[differing[0]]} stands for different inputs (samples "
                f"{first[inverse[differing[0]]]} and {differing[0]}); equal ids mean equal inputs"
            )

    @cached_property
    def y(self) -> NDArray[np.int64]:
        """The most probable class of each sample, (sample,) int64: what networks are trained on."""
        y: NDArray[np.int64] = self.p_y_given_x.argmax(axis=1)
        y.setflags(write=False)
        return y

    @cached_property
    def labels(self) -> Literal["hard", "soft"]:
        """Whether every p(y|x) is 0 or 1, or any lies between."""
        return "soft" if ((self.p_y_given_x > 0) & (self.p_y_given_x < 1)).any() else "hard"

    @cached_property
    def I_XY(self) -> float:  # the field's symbol
        """I(X;Y) in bits."""
        return mutual_information(self.p_x, self.p_y_given_x)

    def split(self, seed: int, fraction: float) -> NDArray[np.bool_]:
        """Draw the training samples of one seed.

        Parameters
        ----------
        seed : int
            In [0, 2**32).
        fraction : float
            Share of the samples to train on, in (0, 1].

        Returns
        -------
        (sample,) bool
            True for exactly ``round(fraction * samples)`` samples, the same number for every seed.

        Raises
        ------
        ParameterError
            If the fraction lies outside (0, 1] or leaves no training sample.
        """
        n = len(self.x)
        if not 0 < fraction <= 1:
            raise ParameterError(f"the train fraction must lie in (0, 1] but got {fraction!r}")
        n_train = round(fraction * n)
        if n_train == 0:
            raise ParameterError(
                f"a train fraction of {fraction!r} leaves none of the {n} samples to train on; "
                f"take at least {1 / n:.3g}"
            )
        order = np.arange(n)
        shuffle(order, seed, Purpose.SPLIT)
        mask = np.zeros(n, np.bool_)
        mask[order[:n_train]] = True
        return mask
