"""Matrix-based Rényi information: entropies of the spectrum of a kernel matrix, without any density."""

from collections.abc import Iterable
from math import log2, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import H_T, I_TY, I_XT, Estimator, Quantity
from ipstore.analysis.estimators.parameters import Number
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

__all__ = ["kernel", "renyi"]

KERNEL_WIDTH = Quantity("kernel_width", "width of the kernel", "activation")

_TILE = 256
"""Rows of a tile: its distances and exponentials stay in the cache."""

_MOST = 2**14
"""Samples, at most, of which the eigenvalues are taken: the matrix and LAPACK's copy of it then take 4 GiB."""


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    alpha: float = 2.0,
    width: float | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Compute the matrix-based Rényi information of order `alpha`.

    The entropy of T is that of the eigenvalues of A, S(A) = log2(sum of eigenvalue^alpha) / (1 - alpha), where
    A_ij = sqrt(p_i p_j) exp(-|t_i - t_j|^2 / (2 width^2)) and p is the weight of the samples [1]_. A joint entropy
    is that of the elementwise product of the two kernels, and I(X;T) = S(X) + S(T) - S(X,T), likewise I(T;Y).
    Inputs and labels are known by identity alone: their kernel is 1 where they are equal and 0 where not, so that
    their entropies are the Rényi entropies of p(x) and p(y), and the joint matrix falls into one block for each
    value. With soft labels the block of y has the weights p(x) p(y|x). As long as the same input gives the same T,
    I(X;T) is S(T).

    These are analogues of Shannon's quantities, not estimates of them. They depend on `width` throughout: S(T) falls
    from the entropy of the distinct T to 0 as it grows. At orders other than 1, S(T) + S(Y) - S(T,Y) is no
    divergence and can be slightly negative; it is given as it is. Shannon's values come out where `width` lies below
    all distances and either `alpha` is 1 or what is left is equally likely.

    At `alpha` = 2 the sum of squared eigenvalues is the sum of the squared elements: memory is that of a tile, and
    4096 samples of 10 units take about a hundredth of the time of their eigenvalues. That is why 2 is the default
    and not 1.01, the usual choice [2]_, which is near to Shannon's order.

    Parameters
    ----------
    t : (..., sample, unit) float32, float64 or float16
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Number of the distinct input, 0 to n - 1. By default all inputs differ.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    alpha : float
        Order, above 1/2: below, the result hangs on eigenvalues that rounding hides. 1 is the limit, which is von
        Neumann's entropy.
    width : float
        Standard deviation of the Gaussian kernel, in units of the activation. By default Scott's rule [3]_ for
        each cell, s n^(-1 / (4 + d)), with n samples, d units and s^2 the mean variance of the units.

    Returns
    -------
    dict of str to float64 array
        ``I_XT``, ``I_TY`` and ``H_T`` in bits, of order `alpha`, and ``kernel_width``, the width that was used; over
        the leading dimensions.

    Raises
    ------
    ParameterError
        If `alpha` is not 2 and there are too many samples for eigenvalues.

    References
    ----------
    .. [1] Sanchez Giraldo, Rao & Principe, "Measures of entropy from data using infinitely divisible kernels", IEEE
       Transactions on Information Theory 61(1), 2015, arXiv:1211.2459, definitions of S_alpha and of the joint
       entropy.
    .. [2] Wickstrøm et al., "Information plane analysis of deep neural networks via matrix-based Rényi's entropy
       and tensor kernels", 2019, arXiv:1909.11396.
    .. [3] Scott, "Multivariate Density Estimation", 1992, equation 6.42.
    """
    samples = len(p_y_given_x)
    weights = np.full(samples, 1 / samples) if p_x is None else p_x
    keep = np.flatnonzero(weights > 0)
    _refuse_too_many(len(keep), alpha)
    weights, labels = weights[keep], p_y_given_x[keep]
    inputs = None if x_id is None else x_id[keep]
    S_Y = _entropy(weights @ labels, alpha)
    S_X = 0.0 if inputs is None else _entropy(np.bincount(inputs, weights), alpha)
    leading = t.shape[:-2]
    out = np.empty((4, prod(leading)))
    for cell, index in enumerate(np.ndindex(leading)):
        activations = t[index][keep].astype(np.float64)
        h = _scott(activations, weights) if width is None else width
        rows, row = np.unique(activations, axis=0, return_inverse=True)  # equal rows are one, of their joint weight
        row = row.reshape(-1)
        scaled = rows / h if len(rows) > 1 else rows
        p_t: NDArray[Any] = np.bincount(row, weights)
        p_ty = np.stack([np.bincount(row, weights * label) for label in labels.T], axis=1)
        if alpha == 2:
            purities = _purities(scaled, np.column_stack([p_t, p_ty]))
            S_T, S_TY = _of_purity(purities[0]), _of_purity(purities[1:].sum())
        else:
            S_T = _entropy(_spectrum(scaled, p_t), alpha)
            S_TY = _entropy(np.concatenate([_spectrum(scaled, p) for p in p_ty.T]), alpha)
        I_given = 0.0 if inputs is None else S_X - _with_inputs(scaled, row, inputs, weights, alpha)
        out[:, cell] = S_T + I_given, S_T + S_Y - S_TY, S_T, h
    return {q.name: values.reshape(leading) for q, values in zip(renyi.quantities, out, strict=True)}


def _scott(activations: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Width of the kernel by Scott's rule; 0 if all rows are equal."""
    samples, units = activations.shape
    centred = activations - weights @ activations
    scale = float(np.abs(centred).max())
    if scale == 0:
        return 0.0
    variance = weights @ np.square(centred / scale)  # scaled, so that the smallest do not vanish
    return float(scale * sqrt(variance.mean()) * samples ** (-1 / (4 + units)))


def _purities(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give tr(A^2) of the matrix with each column of weights, (row, column), by tiles.

    A^2 has the trace sum_ij w_i w_j k_ij^2, and the square of the Gaussian kernel is exp(-distance^2).
    """
    from scipy.spatial.distance import cdist

    total = np.zeros(weights.shape[1])
    starts = range(0, len(rows), _TILE)
    for i in starts:
        for j in starts[i // _TILE :]:
            tile = cdist(rows[i : i + _TILE], rows[j : j + _TILE], "sqeuclidean")
            np.exp(np.negative(tile, out=tile), out=tile)
            terms = weights[i : i + _TILE] * (tile @ weights[j : j + _TILE])
            total += terms.sum(axis=0) if i == j else 2 * terms.sum(axis=0)
    return total


def _spectrum(rows: NDArray[np.float64], weights: NDArray[Any]) -> NDArray[np.float64]:
    """Give the eigenvalues of sqrt(w_i w_j) exp(-distance^2 / 2), those of rounding as 0."""
    from scipy.spatial.distance import cdist

    rows, roots = rows[weights > 0], np.sqrt(weights[weights > 0])
    matrix = cdist(rows, rows, "sqeuclidean")
    matrix *= -0.5
    np.exp(matrix, out=matrix)
    matrix *= roots
    matrix *= roots[:, None]
    values: NDArray[np.float64] = np.linalg.eigvalsh(matrix)
    values[values < len(rows) * np.finfo(np.float64).eps * values.max(initial=0)] = 0
    return values


def _with_inputs(
    rows: NDArray[np.float64],
    row: NDArray[np.int64],
    inputs: NDArray[np.int64],
    weights: NDArray[np.float64],
    alpha: float,
) -> float:
    """Entropy of T together with X, whose matrix has a block for each input: its rows and their weights."""
    key = inputs * np.int64(len(rows)) + row
    _, first, pair = np.unique(key, return_index=True, return_inverse=True)
    mass: NDArray[Any] = np.bincount(pair.reshape(-1), weights)
    bounds = np.flatnonzero(np.diff(inputs[first], prepend=-1, append=-1))
    single = np.diff(bounds) == 1
    several = [slice(a, b) for a, b in zip(bounds[:-1][~single], bounds[1:][~single], strict=True)]
    blocks: Iterable[tuple[NDArray[np.float64], NDArray[Any]]]
    blocks = ((rows[row[first[block]]], mass[block]) for block in several)
    alone = mass[bounds[:-1][single]]  # an input with one row has one eigenvalue, its weight
    if alpha == 2:
        return _of_purity(np.sum(alone**2) + sum(_purities(r, w[:, None])[0] for r, w in blocks))
    return _entropy(np.concatenate([alone, *(_spectrum(r, w) for r, w in blocks)]), alpha)


def _entropy(values: NDArray[Any], alpha: float) -> float:
    """Rényi entropy of eigenvalues, or probabilities, that sum to one, in bits."""
    values = values[values > 0]
    logs = np.log(values)
    if alpha == 1:
        return float(max(0.0, -(values @ logs) / np.log(2)))
    # sum of v^alpha as the mean under v of exp((alpha - 1) ln v): no cancellation near 1, no underflow far from it.
    exponents = (alpha - 1) * logs
    largest = exponents.max()
    total = largest + np.log1p(values @ np.expm1(exponents - largest))
    return float(max(0.0, total / (1 - alpha) / np.log(2)))


def _of_purity(purity: float) -> float:
    """Rényi entropy of order 2 from the sum of squares, in bits."""
    return max(0.0, -log2(purity))


def _refuse_too_many(samples: int, alpha: float) -> None:
    if alpha != 2 and samples > _MOST:
        raise ParameterError(
            f"alpha={alpha:g} needs the eigenvalues of a matrix of {samples} x {samples} samples, "
            f"{2 * 8 * samples**2 / 2**30:.0f} GiB, and takes at most {_MOST} samples; give alpha=2, which needs "
            "none, or fewer samples"
        )


def _settle(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    _refuse_too_many(int(np.count_nonzero(probe.weights)), params["alpha"])
    return params


renyi = Estimator(
    name="renyi",
    version=1,
    kind="estimate",
    summary="matrix-based Rényi information of order alpha; an analogue of Shannon's, not an estimate of it",
    reference="Sanchez Giraldo, Rao & Principe 2015, arXiv:1211.2459; Wickstrøm et al. 2019, arXiv:1909.11396",
    kernel=kernel,
    quantities=(I_XT, I_TY, H_T, KERNEL_WIDTH),
    parameters=(
        Number("alpha", "order of the entropy; 2 needs no eigenvalues, 1 is the limit", low=0.5),
        Number(
            "width",
            "standard deviation of the kernel, in units of the activation; by default Scott's rule for each cell",
            low=0.0,
            optional=True,
        ),
    ),
    settle=_settle,
    truths={"clusters": {"alpha": 2.0, "width": 0.05}},
)
