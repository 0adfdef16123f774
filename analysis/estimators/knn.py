"""Information of the layer on the label from nearest neighbours, without bins or a model of the density."""

from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import I_TY, I_TY_SE, Estimator
from ipstore.analysis.estimators.parameters import Choice, Integer
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

__all__ = ["kernel", "knn"]


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    method: Literal["ross", "mixed"] = "mixed",
    k: int = 3,
) -> dict[str, NDArray[np.float64]]:
    """Estimate I(T;Y) from the distances between samples of the same class.

    Samples are taken as drawn independently from p(t, y). For each, r is the distance (the largest difference over
    the units) to the k-th nearest other sample of its class, and m counts the other samples, of any class, that lie
    no farther. Then [1]_

        I(T;Y) = psi(N) + mean of [psi(k) - psi(m) - psi(N_y)],

    with the digamma function psi, N samples and N_y samples of the class. The estimator of [2]_ comes to the same for
    a discrete label, save for log N in place of psi(N), where no two distances are equal. Equal distances are where
    they differ: saturated activations repeat. Both are derived for a fixed k; here k and m both count every sample
    that is no farther than r, so that ties cannot favour either. Counting those of m alone, as the letter of [1]_ has
    it, is off by bits; keeping k wherever r > 0, as in the code released with [2]_, by up to half a bit on rounded
    values.

    The result is not forced into [0, H(Y)]: it is nearly unbiased, and an average over seeds stays so.

    Parameters
    ----------
    t : (..., sample, unit) float32, float64 or float16
    p_y_given_x : (sample, class) float64
        Each 0 or 1. A class of which there are k samples or fewer is estimated with the neighbours it has; a sample
        that is the only one of its class has none and is left out.
    x_id : (sample,), optional
        Makes no difference: samples count alike whether or not they share an input.
    p_x : (sample,) float64, optional
        Equal weights, or 0 for samples to leave out.
    method : {"ross", "mixed"}
        "ross" [1]_, for a continuous T. "mixed" [2]_: values of T may also have positive probability; where more
        than k samples of a class are equal, the sample counts itself in both numbers, which makes the estimate the
        counted information of those values but for terms of 1 / N.
    k : int
        Number of neighbours: more reduce the spread and increase the bias.

    Returns
    -------
    dict of str to float64 array
        ``I_TY`` and its standard error ``I_TY_se`` in bits, over the leading dimensions. The error is the
        jackknife's, each sample left out in turn; on average it is not too small [3]_, on samples of known
        information 1.1 to 1.7 times too large. It does not hold the bias, which grows with the number of units and
        with k: at k = 3 and 1000 samples it is a third of the error or less.

    Raises
    ------
    ParameterError
        If labels are soft, weights differ, or no class has two samples.

    References
    ----------
    .. [1] Ross, "Mutual information between discrete and continuous data sets", PLOS ONE 9(2), e87357, 2014.
    .. [2] Gao, Kannan, Oh & Viswanath, "Estimating mutual information for discrete-continuous mixtures", NeurIPS
       2017, arXiv:1709.06212, algorithm 1, with digamma functions throughout as in the authors' code.
    .. [3] Efron & Stein, "The jackknife estimate of variance", Annals of Statistics 9(3), 1981.
    """
    from scipy.special import digamma

    from ipstore.analysis.estimators import knn_kernels

    _refuse(p_y_given_x, p_x)
    chosen, label = _grouped(p_y_given_x, p_x)
    sizes = np.bincount(label)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    samples = len(chosen)
    psi = np.concatenate([[-np.inf], digamma(np.arange(1.0, samples + 2))])
    # What stands beside the mean of the terms: with all samples, and without each of them.
    of_classes, own = np.sum(sizes * psi[sizes]), sizes[label]
    of_others = of_classes - own * psi[own] + (own - 1) * psi[own - 1]
    of_all = psi if method == "ross" else np.log(np.maximum(np.arange(samples + 1), 1))
    whole = of_all[samples] - of_classes / samples
    rest = of_all[samples - 1] - of_others / (samples - 1)
    terms, changes = np.empty(samples), np.empty(samples)
    leading = t.shape[:-2]
    out = np.empty((2, prod(leading)))
    for cell, index in enumerate(np.ndindex(leading)):
        x = t[index][chosen].astype(np.float64)  # in float32 distances that differ would be rounded to ties
        with np.errstate(over="ignore", invalid="ignore"):  # any unit will do for the order of the search
            widest = int(x.var(axis=0).argmax())
        x = x[np.lexsort((x[:, widest], label))].T
        x = np.ascontiguousarray(np.roll(x, -widest, axis=0))
        knn_kernels.local_terms(x, bounds, k, psi, method == "mixed", terms, changes)
        out[:, cell] = _mean_and_error(whole + terms.mean(), rest + (terms.sum() - terms + changes) / (samples - 1))
    return {q.name: values.reshape(leading) for q, values in zip(knn.quantities, out, strict=True)}


def _mean_and_error(estimate: float, without_each: NDArray[np.float64]) -> tuple[float, float]:
    """Give an estimate and its jackknife error in bits, from nats."""
    samples = len(without_each)
    spread = np.sum(np.square(without_each - without_each.mean()))
    return estimate / np.log(2), np.sqrt((samples - 1) / samples * spread) / np.log(2)


def _grouped(
    p_y_given_x: NDArray[np.float64], p_x: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the samples to use, in the order of their class, and the number of the class of each.

    Samples of no weight are left out, and those that are the only one of their class.
    """
    chosen = np.arange(len(p_y_given_x)) if p_x is None else np.flatnonzero(p_x > 0)
    label = p_y_given_x[chosen].argmax(axis=1)
    paired = np.bincount(label)[label] > 1
    chosen, label = chosen[paired], label[paired]
    order = np.argsort(label, kind="stable")
    return chosen[order], np.unique(label[order], return_inverse=True)[1]


def _refuse(p_y_given_x: NDArray[np.float64], p_x: NDArray[np.float64] | None) -> None:
    """Raise ParameterError for labels or weights that neighbours cannot be counted with."""
    if not np.isin(p_y_given_x, (0.0, 1.0)).all():
        raise ParameterError(
            "the labels are soft (some p(y|x) are neither 0 nor 1) but 'knn' looks for neighbours of the same class; "
            "give hard labels, or use an estimator that takes soft ones, such as 'binned' or 'renyi'"
        )
    weights = np.ones(len(p_y_given_x)) if p_x is None else p_x[p_x > 0]
    if np.any(weights != weights[0]):
        raise ParameterError(
            f"the weights p_x differ (from {weights.min():g} to {weights.max():g}) but 'knn' counts neighbours, each "
            "as one; give samples of equal weight (0 leaves one out), or use an estimator that takes weights, such as "
            "'binned' or 'renyi'"
        )
    if not len(_grouped(p_y_given_x, p_x)[0]):
        raise ParameterError(
            f"no class has two samples ({len(weights)} samples in as many classes), so that no sample has a neighbour "
            "of its class; give more samples of each"
        )


def _settle(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    _refuse(probe.p_y_given_x, probe.p_x)
    return params


knn = Estimator(
    name="knn",
    version=1,
    kind="estimate",
    summary="information on the label from the distances to nearest neighbours",
    reference="Ross 2014, PLOS ONE 9(2) e87357; Gao, Kannan, Oh & Viswanath 2017, arXiv:1709.06212",
    kernel=kernel,
    quantities=(I_TY, I_TY_SE),
    parameters=(
        Choice("method", "how values of positive probability are counted", words=("ross", "mixed")),
        Integer("k", "number of neighbours", low=1, high=1000),
    ),
    refuses={
        "I_XT": "T is a function of a discrete X, whose information is H(T), while neighbours among distinct samples "
        "see only how far apart they lie"
    },
    settle=_settle,
    truths={name: {"method": "mixed", "k": 3} for name in ("gaussian_classes", "gaussian_classes_5d", "gao_mixture")},
)
