"""What the neural estimators share: a small network scores each sample after training on other inputs only.

Cross-fitting: the distinct inputs are dealt into folds; for each fold a network is trained on all others and then
gives the scores of the classes, (sample, class), on the fold. So every sample is held out once, and no input is
trained on and judged by the same network. An estimator adds a loss, by its slope, and the terms whose mean is its
value. Against one split into train and test the whole probe counts, which makes the interval narrower (by the root
of five at a fifth for testing), and on a population the value is of that population, not of a random part of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.parameters import Integer, Number, Parameter
from ipstore.analysis.probe import Probe
from ipstore.errors import MissingPackageError, ParameterError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NO_I_XT", "Folds", "Training", "cross_fit", "generator", "mean", "parameters", "settle"]

Array = NDArray[np.float64]

_OWN = 0x69707374
"""Part of every seed: who drew labels with ``default_rng(0)`` must not find the very same numbers in the folds."""

NO_I_XT = (
    "a network that is to tell which input gave T knows nothing of inputs that it was not trained on, and has "
    "memorised the others"
)
"""Why the neural estimators give no I(X;T)."""


def parameters(batch_size: str = "samples of one step") -> tuple[Parameter, ...]:
    """Declare the parameters that the neural estimators share; `batch_size` says what that one means."""
    return (
        Integer("hidden", "hidden units (ReLU) of the network; 0 for a linear one", low=0, high=65536),
        Integer("steps", "steps of training (Adam)", low=1, high=10_000_000),
        Integer("batch_size", batch_size, low=2, high=2**20),
        Number("learning_rate", "of the first step; falls linearly to 0", low=0.0),
        Number("weight_decay", "precision of a Gaussian prior on each weight; none for none", low=0.0, optional=True),
        Integer("folds", "parts of the inputs, each held out once; at most one for each input", low=2, high=1000),
        Integer("random_state", "seed of folds, initial weights and batches", low=0, high=2**32 - 1),
    )


def settle(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    """Refuse what cannot be trained, and have no more folds than inputs; see `Estimator`.

    Raises
    ------
    MissingPackageError
        If PyTorch is not installed.
    ParameterError
        If there are fewer than two distinct inputs of positive weight.
    """
    if not _has_torch():
        raise MissingPackageError(
            "the estimators variational, infonce and smile train networks in PyTorch, which is not installed; "
            "run: pip install 'ipstore[train]'"
        )
    positive = probe.weights > 0
    inputs = np.count_nonzero(positive) if probe.x_id is None else len(np.unique(probe.x_id[positive]))
    if inputs < 2:
        raise ParameterError(
            f"the probe has {inputs} distinct input of positive weight; a network is trained on some inputs and asked "
            "about others, so it takes two or more. With one input I(T;Y) is 0"
        )
    return params | {"folds": min(params["folds"], inputs)}


def _has_torch() -> bool:
    try:
        return find_spec("torch") is not None
    except ImportError:
        return False


def generator(random_state: int, purpose: int) -> np.random.Generator:
    """Give the random numbers of one purpose, the same for every cell: 1 folds, 2 training, 3 negatives."""
    return np.random.default_rng((_OWN, random_state, purpose))


def mean(values: Array, weights: Array) -> Array:
    """Weighted mean over samples, the first axis; unlike BLAS it rounds the same whatever the number of threads."""
    total: Array = np.sum(weights.reshape(-1, *[1] * (values.ndim - 1)) * values, axis=0)
    return total


@dataclass(frozen=True, eq=False)
class Folds:
    """The probe, without samples of weight 0 and classes of probability 0, and who is held out when.

    Attributes
    ----------
    kept : (sample,) bool
        Of all samples those of positive weight, which the others are about.
    labels : (sample, class) float64
        p(y|x).
    weights : (sample,) float64
        They sum to one.
    p_y : (class,) float64
    inputs : (sample,) int64
        Number of the distinct input.
    fold : (sample,) int64
        When it is held out; samples of one input are held out together.
    """

    kept: NDArray[np.bool_]
    labels: Array
    weights: Array
    p_y: Array
    inputs: NDArray[np.int64]
    fold: NDArray[np.int64]

    @classmethod
    def deal(
        cls, p_y_given_x: Array, x_id: NDArray[np.int64] | None, p_x: Array | None, folds: int, random_state: int
    ) -> "Folds":
        """Deal the inputs into folds of equal number, at random."""
        samples = len(p_y_given_x)
        weights = np.full(samples, 1 / samples) if p_x is None else p_x
        kept = weights > 0
        weights, labels = weights[kept], p_y_given_x[kept]
        p_y = mean(labels, weights)
        given = np.arange(samples) if x_id is None else x_id
        distinct, inputs = np.unique(given[kept], return_inverse=True)
        fold = generator(random_state, 1).permutation(np.arange(len(distinct)) % folds)
        return cls(kept, labels[:, p_y > 0], weights, p_y[p_y > 0], inputs, fold[inputs])

    @property
    def n_folds(self) -> int:
        """How many folds there are."""
        return int(self.fold.max()) + 1

    @property
    def n_inputs(self) -> int:
        """How many distinct inputs there are."""
        return int(self.inputs.max()) + 1


@dataclass(frozen=True)
class Training:
    """How the networks are trained; see `parameters`."""

    hidden: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float | None
    random_state: int


Slope = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""The slope of a loss, all tensors float32: from scores (fold, class, sample), labels p(y|x) of the same shape, and
p(y) (class, 1) to the derivative of the loss, summed over the samples, with respect to the scores."""

Terms = Callable[[Array], Array]
"""From the held-out scores (sample, class) to terms in nats, (sample,): their weighted mean is the value, and each
says how the value moves with the weight of its sample (its influence, less a constant)."""


def cross_fit(t: NDArray[Any], folds: Folds, training: Training, slope: Slope, terms: Terms) -> dict[str, Array]:
    """Train on all folds but one, score that one, for each fold of each cell.

    Cells are trained one after the other, all folds of one at once: the last bits of a batched product of matrices
    depend on the batch, so cells trained together would not be what each is alone.

    Parameters
    ----------
    t : (..., sample, unit)
        Finite activations.
    folds : Folds
    training : Training
    slope, terms : callable
        See `Slope` and `Terms`.

    Returns
    -------
    dict of str to float64 array
        ``I_TY``, the weighted mean of the terms, and ``I_TY_se``, its standard error, in bits. The error is that
        of a mean over independent inputs, which for cross-fitting holds asymptotically [1]_.

    References
    ----------
    .. [1] Bayle, Bayle, Janson & Mackey, "Cross-validation Confidence Intervals for Test Error", NeurIPS 2020,
       arXiv:2007.12671.
    """
    from ipstore.analysis.estimators.cross_fitting_network import held_out_scores, one_thread

    *leading, samples, units = t.shape
    cells = t.reshape(prod(leading), samples, units)
    values, errors = np.empty((2, len(cells)))
    with one_thread():
        for index, cell in enumerate(cells):
            scores = held_out_scores(_rescale(cell[folds.kept]), folds, training, slope)
            values[index], errors[index] = _mean(terms(scores) / np.log(2), folds)
    return {"I_TY": values.reshape(leading), "I_TY_se": errors.reshape(leading)}


def _rescale(cell: NDArray[Any]) -> NDArray[np.float32]:
    """Bring each unit into [-1, 1], so that float32 holds what matters of it whatever its offset and size."""
    t = np.array(cell, np.float64, order="C")  # sums round alike however the cell lies in memory
    low, high = t.min(axis=0) / 2, t.max(axis=0) / 2
    half = high - low
    rescaled: NDArray[np.float32] = ((t - (low + high)) / np.where(half > 0, half, 1.0)).astype(np.float32)
    return rescaled


def _mean(terms: Array, folds: Folds) -> tuple[float, float]:
    """Weighted mean over samples, and its standard error with the inputs as what was drawn."""
    value = float(mean(terms, folds.weights))
    of_input = np.bincount(folds.inputs, folds.weights * (terms - value))
    n = len(of_input)
    return value, float(np.sqrt(n / (n - 1) * np.sum(of_input**2)))
