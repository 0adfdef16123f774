"""SMILE: an estimate of I(T;Y) from a critic's density ratio, clipped where it is averaged."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import I_TY, I_TY_SE, Estimator
from ipstore.analysis.estimators.cross_fitting import NO_I_XT, Folds, Training, cross_fit, mean, parameters, settle
from ipstore.analysis.estimators.parameters import Number

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["kernel", "smile"]


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    tau: float = 5.0,
    hidden: int = 64,
    steps: int = 400,
    batch_size: int = 256,
    learning_rate: float = 0.03,
    weight_decay: float | None = 1.0,
    folds: int = 5,
    random_state: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Estimate I(T;Y) by SMILE, on inputs that the critic was not trained on.

    The estimate of a critic f(t, y) is, in nats [1]_,

    E_{p(t,y)} f - log E_{p(t)p(y)} clip(exp f, exp -tau, exp tau).

    Without the clipping it would be the bound of Donsker and Varadhan, whose second mean a few samples can
    dominate; clipped it varies less but is no bound. As in the authors' experiments the critic is trained by the
    Jensen-Shannon bound, at whose optimum exp f is p(t, y) / (p(t) p(y)). As Y is one of some classes, the critic
    is a network with one output for each of them, and means under p(y) are sums: nothing is drawn from it.

    Folds are as for `variational`, and both means are over all held-out samples together.

    Parameters
    ----------
    t : (..., sample, unit) float32, float64 or float16
        Finite activations. Each cell is standardised by its training samples.
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Number of the distinct input. By default all inputs differ.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    tau : float
        Where the critic is clipped, in nats.
    hidden, steps, batch_size, learning_rate, weight_decay, folds, random_state
        See `variational`.

    Returns
    -------
    dict of str to float64 array
        ``I_TY`` and ``I_TY_se`` in bits, over the leading dimensions. The standard error is to first order in
        both means.

    References
    ----------
    .. [1] Song & Ermon, "Understanding the Limitations of Variational Mutual Information Estimators", ICLR 2020,
       arXiv:1910.06222, section 5.
    """
    parts = Folds.deal(p_y_given_x, x_id, p_x, folds, random_state)

    def terms(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        joint: NDArray[np.float64] = np.sum(parts.labels * scores, axis=1)
        product = np.sum(parts.p_y * np.exp(np.clip(scores, -tau, tau)), axis=1)
        total = mean(product, parts.weights)
        influence: NDArray[np.float64] = joint - np.log(total) - (product / total - 1)
        return influence

    training = Training(hidden, steps, batch_size, learning_rate, weight_decay, random_state)
    return cross_fit(t, parts, training, slope, terms)


def slope(scores: "Tensor", labels: "Tensor", p_y: "Tensor") -> "Tensor":
    """Slope of E_{p(t,y)} softplus(-f) + E_{p(t)p(y)} softplus(f), minus the Jensen-Shannon bound."""
    found = scores.sigmoid()
    return found * p_y - (1 - found) * labels


smile = Estimator(
    name="smile",
    version=1,
    kind="estimate",
    summary="SMILE estimate of a trained critic, on held-out inputs",
    reference="Song & Ermon 2020, arXiv:1910.06222, section 5",
    kernel=kernel,
    quantities=(I_TY, I_TY_SE),
    parameters=(Number("tau", "where the critic is clipped, in nats", low=0.0), *parameters()),
    refuses={"I_XT": NO_I_XT},
    settle=settle,
    truths={"gaussian_classes": {}},
)
