"""InfoNCE: a lower bound on I(T;Y) by telling the label of a layer's activations from labels of other samples."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import I_TY, I_TY_SE, Estimator
from ipstore.analysis.estimators.cross_fitting import (
    NO_I_XT,
    Folds,
    Training,
    cross_fit,
    generator,
    parameters,
    settle,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["infonce", "kernel"]


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
    """Bound I(T;Y) from below by InfoNCE, on inputs that the critic was not trained on.

    With a critic f(t, y), the label y of t, and B - 1 labels y_j drawn from p(y), B being `batch_size` [1]_ [2]_,

    I(T;Y) >= E log2( B exp f(t, y) / (exp f(t, y) + sum_j exp f(t, y_j)) ),

    which is never above log2(B). As Y is one of some classes, the critic is a network with one output for each of
    them. In training the other labels are those of the same batch. In judging, each held-out sample meets B - 1
    labels of its own, drawn from the p(y) of the probe, so that the standard error holds what the drawing adds.
    The sum over labels that are drawn is what makes it InfoNCE: with its expectation under p(y) in its place,
    which is known here, the bound would be `variational` with q(y|t) proportional to p(y) exp f(t, y).

    The parameters, the folds and the standard error are those of `variational`.

    Parameters
    ----------
    t : (..., sample, unit) float32, float64 or float16
        Finite activations. Each cell is standardised by its training samples.
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Number of the distinct input. By default all inputs differ.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    hidden, steps, learning_rate, weight_decay, folds, random_state
        See `variational`.
    batch_size : int
        Samples of one step, and labels among which the right one is to be found.

    Returns
    -------
    dict of str to float64 array
        ``I_TY`` and ``I_TY_se`` in bits, over the leading dimensions.

    References
    ----------
    .. [1] van den Oord, Li & Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018,
       arXiv:1807.03748, equations 4 and 5.
    .. [2] Poole, Ozair, van den Oord, Alemi & Tucker, "On Variational Bounds of Mutual Information", ICML 2019,
       arXiv:1905.06922, equation 10.
    """
    parts = Folds.deal(p_y_given_x, x_id, p_x, folds, random_state)
    drawn = generator(random_state, 3).multinomial(batch_size - 1, parts.p_y, len(parts.labels))
    with np.errstate(divide="ignore"):
        log_drawn = np.log(drawn)

    def terms(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        others = np.logaddexp.reduce(scores + log_drawn, axis=1, keepdims=True)
        found = scores - np.logaddexp(scores, others)
        gained: NDArray[np.float64] = np.sum(parts.labels * found, axis=1) + np.log(batch_size)
        return gained

    training = Training(hidden, steps, batch_size, learning_rate, weight_decay, random_state)
    return cross_fit(t, parts, training, slope, terms)


def slope(scores: "Tensor", labels: "Tensor", p_y: "Tensor") -> "Tensor":
    """Slope of minus the bound within each batch; see `cross_fitting.Slope`.

    Of soft labels the other samples of the batch lend their expected number of each class.
    """
    others = (labels.sum(dim=2, keepdim=True) - labels).clamp_(min=0).log_().add_(scores)
    # With r the log of the sum over the others, the loss of label y is log(exp f_y + exp r) - f_y.
    missed = (others.logsumexp(dim=1, keepdim=True) - scores).sigmoid_().mul_(labels)
    return others.softmax(dim=1).mul_(missed.sum(dim=1, keepdim=True)).sub_(missed)


infonce = Estimator(
    name="infonce",
    version=1,
    kind="lower",
    summary="InfoNCE bound of a trained critic, on held-out inputs; at most log2(batch_size)",
    reference="van den Oord et al. 2018, arXiv:1807.03748; Poole et al. 2019, arXiv:1905.06922, equation 10",
    kernel=kernel,
    quantities=(I_TY, I_TY_SE),
    parameters=parameters(batch_size="samples of one step, and labels among which the right one is to be found"),
    refuses={"I_XT": NO_I_XT},
    settle=settle,
    truths={"gaussian_classes": {}, "clusters": {}},
)
