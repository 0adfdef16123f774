"""Information of a layer with known Gaussian noise, by Monte Carlo: the sample-propagation estimator."""

from collections.abc import Iterator
from math import e, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import I_TY, I_TY_SE, I_XT, I_XT_SE, Estimator
from ipstore.analysis.estimators.mixtures import MODE, NOISE, Components, Tiles, settle_mode, standard_error
from ipstore.analysis.estimators.parameters import Integer

__all__ = ["kernel", "noisy"]

_BATCH = 2**20
"""Values of noise, or densities, at a time."""


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    noise: float = 0.01,
    draws: int = 2**14,
    mode: Literal["population", "sample"] | None = None,
    random_state: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Estimate the information of T + N, with N Gaussian noise of variance `noise` on every unit.

    T + N is a mixture of Gaussians, one about each row of T with the weight of its sample; so are p(t|y) and
    p(t|x). I(X;T+N) is the mean of log p(z|x) / p(z), and I(T+N;Y) that of log p(z|y) / p(z), over points z
    drawn from the mixture: the entropies h(T+N), h(T+N|X) and h(T+N|Y) of [1]_, with the logarithms taken
    together, so that what the noise alone contributes to their variance drops out.

    Every sample has draws of its own, the same in every cell: epochs are compared under the same noise.

    The noise belongs to the model: the information is that of a network which adds it, and grows without bound
    as it goes to zero. Take the variance with which the network was trained; without one, show results over a
    range of variances, in relation to the squared scale of the activations.

    Parameters
    ----------
    t : (..., sample, unit) float16, float32 or float64
    p_y_given_x : (sample, class) float64
    x_id : (sample,), optional
        Number of the distinct input, 0 to n - 1. By default all inputs differ.
    p_x : (sample,) float64, optional
        Weights that sum to one. By default they are equal.
    noise : float
        Variance of the noise, in squared units of the activation.
    draws : int
        How many draws of the noise to make over all samples; each has equally many, and two at least.
    mode : {"population", "sample"}
        What the samples are: all there is, so that only the draws carry an error; or drawn, independently, from
        more, and then the standard errors count that too. By default what the probe says; without a probe
        "population". The bias from a finite sample is not in the standard error; see Notes.
    random_state : int
        Seed of the draws.

    Returns
    -------
    dict of str to float64 array
        ``I_XT``, ``I_TY`` and their standard errors ``I_XT_se``, ``I_TY_se``, in bits, over the leading
        dimensions.

    Notes
    -----
    From n samples of more, I(X;T+N) is underestimated by about log2(e) C / 2n bits, where C, the chi-squared
    information of X on T + N, is the mean of p(z|x) / p(z) less one. Where the rows lie further apart than the
    noise reaches, I(X;T+N) comes out as log2 n, whatever it is.

    References
    ----------
    .. [1] Goldfeld et al., "Estimating Information Flow in Deep Neural Networks", ICML 2019.
    """
    *leading, samples, units = t.shape
    components = Components.of(p_y_given_x, x_id, p_x)
    out = np.empty((4, prod(leading)))
    for number, cell in enumerate(t.reshape(-1, samples, units)):
        out[:, number] = _of_cell(cell, components, noise, draws, mode == "sample", random_state)
    return {q.name: values.reshape(leading) for q, values in zip(noisy.quantities, out, strict=True)}


def _of_cell(
    t: NDArray[Any],
    components: Components,
    noise: float,
    draws: int,
    sampled: bool,
    random_state: int,
) -> list[float]:
    """Both information values of a cell (sample, unit), and both standard errors."""
    # About their middle, so that float32 has room for the noise where activations lie far from 0.
    wide = t.astype(np.float64)
    middle = wide.min(axis=0) / 2 + wide.max(axis=0) / 2
    t = (wide - middle).astype(np.float64 if t.dtype == np.float64 else np.float32)
    tiles = Tiles.of(t, *components.by_label)
    weights = components.weights[tiles.index]
    repeats = max(2, -(-draws // len(weights)))
    sums, squares = np.zeros((2, len(weights))), np.zeros((2, len(weights)))
    for points in _points(tiles, t.shape, len(components.mass), noise, repeats, random_state):
        local = _local_information(t, tiles, components, noise, points)
        sums += local.sum(axis=1)
        squares += (local**2).sum(axis=1)
    means = sums / repeats
    if sampled:
        # What a sample adds to the value is, to first order, what its own points say; their error is in that.
        errors = [standard_error(each, weights) for each in means]
    else:
        errors = list(np.sqrt(np.maximum(squares / repeats - means**2, 0.0) @ weights**2 / (repeats - 1)))
    return [*np.maximum(means @ weights, 0.0), *errors]


def _points(
    tiles: Tiles, shape: tuple[int, ...], classes: int, noise: float, repeats: int, random_state: int
) -> Iterator[NDArray[Any]]:
    """Give the rows of the cell plus draws of the noise, (draw, row, unit), some draws at a time."""
    samples, units = shape
    rng = np.random.default_rng(random_state)
    step = max(1, _BATCH // (samples * max(units, 2 * classes)))
    for start in range(0, repeats, step):
        drawn = rng.standard_normal((min(step, repeats - start), samples, units), np.float32)
        points = np.empty((len(drawn), *tiles.x.T.shape), tiles.x.dtype)
        points[...] = tiles.x.T
        points[..., :units] += np.sqrt(noise) * drawn[:, tiles.index]
        yield points


def _local_information(
    t: NDArray[Any],
    tiles: Tiles,
    components: Components,
    noise: float,
    points: NDArray[Any],
) -> NDArray[np.float64]:
    """log2 p(z|x) / p(z), and the mean of log2 p(z|y) / p(z) over p(y|x), at each point z.

    Returns
    -------
    (2, draw, row) float64
    """
    from ipstore.analysis.estimators import noisy_kernels

    mass = components.mass[:, tiles.index]
    weights = components.weights[tiles.index]
    p_y = np.broadcast_to(components.p_y, components.mass.shape)[:, tiles.index]
    unit = mass.max()  # equal weights become one, exactly
    scale = np.log2(e) / (2 * noise)
    out = np.zeros((2, len(mass), *points.shape[:2]))
    noisy_kernels.densities(tiles.x, (mass / unit).astype(np.float32), tiles.starts, tiles.group, scale, points, out)
    same, other = unit * out
    same = np.maximum(same, mass[:, None])  # each row's own, where float32 has none of it
    everything = np.maximum((same + other).sum(axis=0), weights)
    I_TY = np.zeros_like(everything)
    for own, probability, density in zip(mass, p_y, same, strict=True):
        # Where a class cannot be, its density does not count and may be 0.
        relative = np.where(own > 0, density / probability / everything, 1.0)
        I_TY += own / weights * np.log2(relative)
    if not components.repeats_differ(t):
        return np.stack([-np.log2(everything), I_TY])
    samples, bounds = components.by_input
    row_of = np.empty(len(t), np.int64)
    row_of[tiles.index] = np.arange(len(tiles.index))
    inputs = row_of[samples]
    given_x = np.zeros_like(everything)
    noisy_kernels.densities_given_input(tiles.x, weights, inputs, bounds, scale, points, given_x)
    p_x = np.empty(len(inputs))
    p_x[inputs] = np.repeat(np.add.reduceat(weights[inputs], bounds[:-1]), np.diff(bounds))
    return np.stack([np.log2(given_x / p_x / everything), I_TY])


noisy = Estimator(
    name="noisy",
    version=1,
    kind="estimate",
    summary="information of the layer with known Gaussian noise, by Monte Carlo",
    reference="Goldfeld et al. 2019, ICML, arXiv:1810.05728",
    kernel=kernel,
    quantities=(I_XT, I_TY, I_XT_SE, I_TY_SE),
    parameters=(
        NOISE,
        Integer("draws", "draws of the noise over all samples, two at least for each", low=2, high=2**31),
        MODE,
        Integer("random_state", "seed of the draws", low=0, high=2**63 - 1),
    ),
    settle=settle_mode,
    truths={
        "noisy_pair": {"noise": 1.0},
        "clusters": {"noise": 1e-3},
        "gaussian_channel": {"noise": 7 / 9},
        "noisy_tanh": {"noise": 0.25},
    },
)
