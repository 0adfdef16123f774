"""Information on the label that a decoder finds in a layer: a lower bound, by cross-entropy on held-out inputs."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import I_TY, I_TY_SE, Estimator
from ipstore.analysis.estimators.cross_fitting import NO_I_XT, Folds, Training, cross_fit, parameters, settle

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["kernel", "variational"]


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    hidden: int = 64,
    steps: int = 400,
    batch_size: int = 256,
    learning_rate: float = 0.03,
    weight_decay: float | None = 1.0,
    folds: int = 5,
    random_state: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Bound I(T;Y) from below by H(Y) less the cross-entropy of a decoder q(y|t), on inputs it was not trained on.

    For any q the cross-entropy is H(Y|T) or more [1]_, so a decoder that has learnt little gives a low bound and
    never a wrong one; a negative value says that it has learnt nothing. With a weak decoder (``hidden=0`` is
    logistic regression) the value is the information that is usable to such decoders [2]_. The H(Y) is that of
    the probe; soft labels and weights are used as such, in training and in judging.

    The inputs are dealt into folds, and each is judged by a decoder that was trained on the other folds: samples
    of one input, equal `x_id`, are never on both sides. On a population the value is no higher than I(T;Y)
    wherever training finds the best decoder of its family, whatever the folds: the best on part of the probe
    does no better on the rest than the best on all [3]_. On a sample it is a bound in expectation.

    Parameters
    ----------
    t : (..., sample, unit) float32, float64 or float16
        Finite activations. Each cell is standardised by its training samples.
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Number of the distinct input. By default all inputs differ.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    hidden : int
        Hidden units (ReLU) of the decoder; 0 for a linear one.
    steps : int
        Steps of training, by Adam.
    batch_size : int
        Samples of one step, drawn by their weights.
    learning_rate : float
        Of the first step; it falls linearly to 0.
    weight_decay : float, optional
        Precision of a Gaussian prior on each weight: this, times half the square of the weights, is added to the
        loss in nats summed over the inputs, so it counts for less the more inputs there are. None for none.
    folds : int
        Parts of the inputs, each held out once. There are no more of them than inputs.
    random_state : int
        Seed of the folds, initial weights and batches, which are the same for every cell.

    Returns
    -------
    dict of str to float64 array
        ``I_TY`` and ``I_TY_se`` in bits, over the leading dimensions. The standard error is that of the mean
        over inputs: how far another sample of inputs would move the value.

    References
    ----------
    .. [1] Barber & Agakov, "The IM Algorithm: A Variational Approach to Information Maximization", NIPS 2003;
       as a difference of entropies McAllester & Stratos, "Formal Limitations on the Measurement of
       Mutual Information", AISTATS 2020, arXiv:1811.04251.
    .. [2] Xu, Zhao, Song, Stewart & Ermon, "A Theory of Usable Information Under Computational Constraints",
       ICLR 2020, arXiv:2002.10689, definition 3.
    .. [3] Let L be the loss on all inputs and the prior's part, L_k the loss on fold k, q best for L, and q_k for
       L - L_k. Then L_k(q_k) = L(q_k) - (L - L_k)(q_k) >= L(q) - (L - L_k)(q) = L_k(q); sum over k.
    """
    parts = Folds.deal(p_y_given_x, x_id, p_x, folds, random_state)

    def terms(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        log_q = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        gained: NDArray[np.float64] = np.sum(parts.labels * (log_q - np.log(parts.p_y)), axis=1)
        return gained

    training = Training(hidden, steps, batch_size, learning_rate, weight_decay, random_state)
    return cross_fit(t, parts, training, slope, terms)


def slope(scores: "Tensor", labels: "Tensor", p_y: "Tensor") -> "Tensor":
    """Slope of the cross-entropy of softmax(scores) and the labels; see `cross_fitting.Slope`."""
    return scores.softmax(dim=1).sub_(labels)


variational = Estimator(
    name="variational",
    version=1,
    kind="lower",
    summary="information that a trained decoder finds, on held-out inputs",
    reference="Barber & Agakov 2003; Poole et al. 2019, arXiv:1905.06922, equation 2; McAllester & Stratos 2020",
    kernel=kernel,
    quantities=(I_TY, I_TY_SE),
    parameters=parameters(),
    refuses={"I_XT": NO_I_XT},
    settle=settle,
    truths={"gaussian_classes": {}, "gaussian_classes_5d": {}, "clusters": {}, "gao_mixture": {}},
)
