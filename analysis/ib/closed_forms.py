"""The information bottleneck where it can be written down: jointly Gaussian variables."""

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.ib.points import check_beta
from ipstore.errors import ParameterError

__all__ = ["gaussian"]

_SINGULAR = 1e-12
"""Least eigenvalue of correlations that is more than rounding."""


def gaussian(covariance_x: ArrayLike, covariance_y: ArrayLike, covariance_xy: ArrayLike, beta: ArrayLike) -> xr.Dataset:
    """Solve the information bottleneck of jointly Gaussian X and Y, whose best T is a noisy linear projection [1]_.

    With lambda_i the eigenvalues of the covariance of X given Y times the inverse of that of X, the i-th component
    enters at ``beta = 1 / (1 - lambda_i)``; of those that have,

        I(X;T) = sum_i log2((beta - 1) (1 - lambda_i) / lambda_i) / 2,
        I(T;Y) = I(X;T) - sum_i log2(beta (1 - lambda_i)) / 2.

    1 - lambda_i is the square of a canonical correlation of X and Y.

    Parameters
    ----------
    covariance_x : (x_unit, x_unit)
        A number if X is one.
    covariance_y : (y_unit, y_unit)
    covariance_xy : (x_unit, y_unit)
    beta : scalar or (beta,)
        Price of a bit of I(T;Y) in bits of I(X;T), 1 or more.

    Returns
    -------
    Dataset
        Over ``beta``: ``I_XT`` and ``I_TY`` in bits, ``n_components`` that have entered, and ``projection`` (component,
        x_unit) of the best T = projection X + N, with N independent standard normal noise on every component. Over
        ``component``: ``critical_beta`` where it enters, infinite for one that says nothing of Y.
        ``attrs["I_XY"]`` in bits.

    Raises
    ------
    ParameterError
        If shapes disagree, the joint covariance is not finite, symmetric and positive definite, or a beta is below 1 or
        not finite.

    References
    ----------
    .. [1] Chechik, Globerson, Tishby & Weiss, "Information bottleneck for Gaussian variables", JMLR 6 (2005),
       theorem 3.1 and section 5.
    """
    from scipy.linalg import solve_triangular

    betas = np.asarray(beta, np.float64)
    if betas.ndim > 1 or betas.size == 0:
        raise ParameterError(f"beta must be a number or a list of numbers but has shape {betas.shape}")
    for each in betas.flat:
        check_beta(float(each))
    x, y, xy = (np.atleast_2d(np.asarray(each, np.float64)) for each in (covariance_x, covariance_y, covariance_xy))
    if x.shape != 2 * xy.shape[:1] or y.shape != 2 * xy.shape[1:]:
        raise ParameterError(
            "covariance_xy must have a row for each unit of X and a column for each of Y, and the others be square, "
            f"but the shapes of x, y and xy are {x.shape}, {y.shape} and {xy.shape}"
        )
    deviations, correlations = _correlations(np.block([[y, xy.T], [xy, x]]))

    # In the factor of (Y, X), the last rows are what Y tells of X, and a factor of the covariance of X given Y. The
    # squared singular values of their ratio are (1 - lambda) / lambda: signal to noise.
    y_units = len(y)
    told, given_y = np.hsplit(np.linalg.cholesky(correlations)[y_units:], [y_units])
    axes, singular, _ = np.linalg.svd(solve_triangular(given_y, told, lower=True))
    signal = np.zeros(len(x))
    signal[: len(singular)] = singular**2
    explained = signal / (1 + signal)  # 1 - lambda
    with np.errstate(divide="ignore"):
        critical = 1 / explained
    entered = betas[..., None] > critical
    gain = np.where(entered, betas[..., None] * explained - 1, 0.0)  # squared, in units of the noise given Y
    I_XT = np.log1p(gain * (1 + signal)).sum(axis=-1) / np.log(4)
    I_TY = I_XT - np.log1p(gain).sum(axis=-1) / np.log(4)
    whitening = solve_triangular(given_y, axes, lower=True, trans="T").T / deviations[y_units:]

    over, bits = ("beta",) * betas.ndim, {"units": "bits"}
    return xr.Dataset(
        {
            "I_XT": (over, I_XT, {"long_name": "I(X;T)", **bits}),
            "I_TY": (over, I_TY, {"long_name": "I(T;Y)", **bits}),
            "n_components": (over, entered.sum(axis=-1), {"long_name": "components of T", "units": "1"}),
            "projection": ((*over, "component", "x_unit"), np.sqrt(gain)[..., None] * whitening),
            "critical_beta": ("component", critical, {"long_name": "beta where a component enters", "units": "1"}),
        },
        coords={"beta": (over, betas, {"long_name": "beta", "units": "1"})},
        attrs={"I_XY": float(np.log1p(signal).sum() / np.log(4)), "certificate": "exact"},
    )


def _correlations(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check a joint covariance; give standard deviations (unit,) and correlations (unit, unit)."""
    if not np.isfinite(covariance).all():
        raise ParameterError(
            f"covariances must be finite but {np.count_nonzero(~np.isfinite(covariance))} entries of the joint one, "
            f"{covariance.shape}, are not; leave the units out that they belong to"
        )
    variances = np.diagonal(covariance)
    if not (variances > 0).all():
        raise ParameterError(f"variances must be positive but one is {variances.min():.6g}; leave that unit out")
    deviations = np.sqrt(variances)
    correlations = covariance / deviations[:, None] / deviations
    skew = abs(correlations - correlations.T).max()
    if skew > 1e-10:
        raise ParameterError(
            f"covariance_x and covariance_y must be symmetric but entries across the diagonal differ by {skew:.3g} of "
            "the variances; if that is rounding, give (C + C.T) / 2"
        )
    least = np.linalg.eigvalsh(correlations)[0]
    if least <= _SINGULAR:
        raise ParameterError(
            "the joint covariance must be positive definite but the least eigenvalue of its correlations is "
            f"{least:.3g}: a unit of X or Y follows from others, or I(X;Y) is infinite. Leave such units out, or add "
            "noise to them"
        )
    return deviations, correlations
