"""Information of a layer with Gaussian noise from its covariances alone, as if all distributions were Gaussian."""

from dataclasses import replace
from math import log, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import I_TY, I_TY_SE, I_XT, I_XT_SE, Estimator
from ipstore.analysis.estimators.mixtures import MODE, NOISE, settle_mode, standard_error
from ipstore.analysis.probe import Probe

__all__ = ["gaussian", "kernel"]


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    noise: float = 1e-3,
    mode: Literal["population", "sample"] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Compute the information of T + N from covariances, with N Gaussian noise of variance `noise` on every unit.

    ``I_XT`` is ``log2 det(1 + S / noise) / 2`` with S the covariance of T [1]_. No distribution of that
    covariance has a larger entropy than the Gaussian, and h(T+N|X) is at least h(N): so it is an upper bound on
    I(X;T+N), also where an input is repeated with another T.

    ``I_TY`` is h(T+N) - h(T+N|Y) with the Gaussian entropies of the covariances of all samples and of each class,
    the model of quadratic discriminant analysis. Each entropy is an upper bound, their difference is none: it is
    right as far as the differences between the classes are small or their shapes are alike, and it can exceed
    H(Y), which says that the model does not fit.

    Parameters
    ----------
    t : (..., sample, unit) float16, float32 or float64
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Not needed; see above.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    noise : float
        Variance of the noise, in squared units of the activation.
    mode : {"population", "sample"}
        What the samples are: all there is, and then there is no standard error; or drawn, independently, from
        more. By default what the probe says; without a probe "population".

    Returns
    -------
    dict of str to float64 array
        ``I_XT``, ``I_TY`` and, in mode "sample", their standard errors ``I_XT_se``, ``I_TY_se``, else NaN; in
        bits, over the leading dimensions. The errors are those of the two numbers as defined here (delta method,
        for samples of any distribution), not of the model.

    References
    ----------
    .. [1] Cover & Thomas, "Elements of Information Theory", 2nd edition, 2006, section 9.5 and theorem 8.6.5.
    """
    *leading, samples, units = t.shape
    probe = Probe(p_y_given_x, None, p_x)
    present = probe.p_y > 0
    joint = (probe.weights[:, None] * p_y_given_x).T[present]
    out = np.empty((4, prod(leading)))
    for number, cell in enumerate(t.reshape(-1, samples, units)):
        determinant, own = _gaussian(cell, probe.weights, noise)
        of_classes = [_gaussian(cell, mass / mass.sum(), noise) for mass in joint]
        given_y = sum(mass.sum() * log_det for mass, (log_det, _) in zip(joint, of_classes, strict=True))
        out[:2, number] = determinant, max(0.0, determinant - given_y)
        if mode != "sample":
            out[2:, number] = np.nan
            continue
        local_y = sum(
            p_y * (log_det + distance)
            for p_y, (log_det, distance) in zip(p_y_given_x.T[present], of_classes, strict=True)
        )
        out[2, number] = standard_error(own, probe.weights)
        out[3, number] = standard_error(own - local_y, probe.weights)
    return {q.name: values.reshape(leading) for q, values in zip(gaussian.quantities, out / log(4), strict=True)}


def _gaussian(t: NDArray[Any], weights: NDArray[np.float64], noise: float) -> tuple[float, NDArray[np.float64]]:
    """Fit a Gaussian to the rows of a cell, and add the noise.

    Returns
    -------
    float
        Logarithm of the determinant of its covariance, in units of the noise.
    (sample,) float64
        Squared Mahalanobis distance of each row: how the logarithm changes with its weight, but for a constant.
    """
    wide = t.astype(np.float64, order="C")  # the last bits of the products below depend on the layout
    rows = wide - weights @ wide
    values, vectors = np.linalg.eigh((rows.T * weights) @ rows)
    values = np.maximum(values, 0.0)  # none is negative but by rounding
    return float(np.log1p(values / noise).sum()), ((rows @ vectors) ** 2) @ (1 / (values + noise))


gaussian = Estimator(
    name="gaussian",
    version=1,
    kind="estimate",
    summary="information of the layer with Gaussian noise from covariances, as if all were Gaussian",
    reference="Cover & Thomas 2006, Elements of Information Theory, 2nd edition, section 9.5",
    kernel=kernel,
    quantities=(replace(I_XT, kind="upper"), I_TY, I_XT_SE, I_TY_SE),
    parameters=(NOISE, MODE),
    settle=settle_mode,
    truths={"gaussian_channel": {"noise": 7 / 9}},
)
