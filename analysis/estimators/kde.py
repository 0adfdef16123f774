"""Bounds on the information of a layer with Gaussian noise, from the distances between all pairs of its rows."""

from math import e, log2, pi, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import I_TY, I_XT, Estimator, Quantity
from ipstore.analysis.estimators.mixtures import NOISE, Components, Tiles

__all__ = ["kde_lower", "kde_upper", "kernel"]


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: NDArray[np.int64] | None = None,
    p_x: NDArray[np.float64] | None = None,
    noise: float = 1e-3,
) -> dict[str, NDArray[np.float64]]:
    """Bound the information of T + N, with N Gaussian noise of variance `noise` on every unit.

    T + N is a mixture of Gaussians, one about each row of T with the weight of its sample. Its entropy lies
    between h(N) - sum_i p_i log sum_j p_j exp(-D_ij) with D the Bhattacharyya distance, d^2 / 8 noise, and the
    same with the Kullback-Leibler divergence, d^2 / 2 noise ([1]_, section 3), d being the distance of
    rows i and j. So do h(T+N|Y=y) and h(T+N|X=x) of the samples of one class and of one input, and

    - I(X;T+N) = h(T+N) - h(T+N|X), where h(T+N|X) = h(N) unless an input is repeated with another T;
    - I(T+N;Y) = h(T+N) - h(T+N|Y): its upper bound takes the upper one of the first and the lower ones of the
      second, and its lower bound the other way round.

    Upper bounds on I(T+N;Y) are then brought down to that on the information of the samples on T + N, and to the
    information of the samples on Y, if those are smaller; lower bounds below 0 are 0. The literature ([2]_) takes
    the difference of two bounds of one kind; it bounds nothing, and stands here under its own name.

    All this is about the samples with their weights. If they were drawn from more, I(X;T+N) of all can be larger
    than of the samples, and lie above the upper bound, by about what the samples' own information falls short.

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

    Returns
    -------
    dict of str to float64 array
        ``I_XT``, ``I_TY``, ``I_TY_difference`` and ``h_T``, the differential entropy h(T+N), each as ``_upper``
        and ``_lower``; in bits, over the leading dimensions. Rounding is below 1e-5 bits.

    References
    ----------
    .. [1] Kolchinsky & Tracey, "Estimating Mixture Entropy with Pairwise Distances", Entropy 19(7), 361, 2017.
    .. [2] Saxe et al., "On the Information Bottleneck Theory of Deep Learning", ICLR 2018.
    """
    *leading, samples, units = t.shape
    components = Components.of(p_y_given_x, x_id, p_x)
    h_N = units * log2(2 * pi * e * noise) / 2
    values = {f"{quantity.name}_{side}": np.empty(prod(leading)) for side in _SIDES for quantity in _QUANTITIES}
    for number, cell in enumerate(t.reshape(-1, samples, units)):
        whole, given_y = _excess(cell, components, noise)
        given_x = _excess_given_input(cell, components, noise) if components.repeats_differ(cell) else np.zeros(2)
        for this, other, side in ((0, 1, "lower"), (1, 0, "upper")):
            I_XT, I_TY = whole[this] - given_x[other], whole[this] - given_y[other]
            if side == "lower":
                I_XT, I_TY = max(0.0, I_XT), max(0.0, I_TY)
            else:
                I_TY = min(I_TY, whole[this], components.I_SY)
            values[f"I_XT_{side}"][number] = I_XT
            values[f"I_TY_{side}"][number] = I_TY
            values[f"I_TY_difference_{side}"][number] = whole[this] - given_y[this]
            values[f"h_T_{side}"][number] = whole[this] + h_N
    return {name: value.reshape(leading) for name, value in values.items()}


def _excess(t: NDArray[Any], components: Components, noise: float) -> NDArray[np.float64]:
    """Bounds on h(T+N) - h(N) and on h(T+N|Y) - h(N), in bits.

    Returns
    -------
    (2, 2) float64
        Of all and given the label; lower and upper.
    """
    tiles = Tiles.of(t, *components.by_label)
    mass = components.mass[:, tiles.index]
    p_y = np.broadcast_to(components.p_y, components.mass.shape)[:, tiles.index]
    same, other = _sums(tiles, mass, noise, between=True)
    same += mass  # each row with itself
    everything = (same + other).sum(axis=1)
    positive = np.where(mass > 0, same, p_y)
    return np.stack([-np.log2(everything) @ mass.sum(axis=0), -(mass * np.log2(positive / p_y)).sum(axis=(1, 2))])


def _excess_given_input(t: NDArray[Any], components: Components, noise: float) -> NDArray[np.float64]:
    """Bounds on h(T+N|X) - h(N) in bits, (2,): lower and upper."""
    tiles = Tiles.of(t, *components.by_input)
    mass = components.weights[None, tiles.index]
    bounds = components.by_input[1]
    p_x = np.repeat(np.add.reduceat(mass[0], bounds[:-1]), np.diff(bounds))
    same = _sums(tiles, mass, noise, between=False)[0, :, 0] + mass
    result: NDArray[np.float64] = -np.log2(same / p_x) @ mass[0]
    return result


def _sums(tiles: Tiles, mass: NDArray[np.float64], noise: float, *, between: bool) -> NDArray[np.float64]:
    """See `kde_kernels.pair_sums`; (2, 2, class, row) float64."""
    from ipstore.analysis.estimators import kde_kernels

    out = np.zeros((2, 2, *mass.shape))
    unit = mass.max()  # equal weights become one, exactly
    kernel_weights = (mass / unit).astype(np.float32)
    kde_kernels.pair_sums(tiles.x, kernel_weights, tiles.starts, tiles.group, log2(e) / (8 * noise), between, out)
    out *= unit
    return out


_SIDES = ("lower", "upper")
_QUANTITIES = (
    I_XT,
    I_TY,
    Quantity("I_TY_difference", "difference of like bounds for I(T;Y)", kind="estimate"),
    Quantity("h_T", "differential entropy of T + N"),
)


def _estimator(side: Literal["lower", "upper"], summary: str) -> Estimator:
    return Estimator(
        name=f"kde_{side}",
        version=1,
        kind=side,
        summary=summary,
        reference="Kolchinsky & Tracey 2017, Entropy 19(7), 361, section 3",
        kernel=kernel,
        quantities=_QUANTITIES,
        parameters=(NOISE,),
        kernel_names={quantity.name: f"{quantity.name}_{side}" for quantity in _QUANTITIES},
        truths=_TRUTHS,
    )


_TRUTHS = {
    "noisy_pair": {"noise": 1.0},
    "clusters": {"noise": 1e-3},
    "gaussian_channel": {"noise": 7 / 9},
    "noisy_tanh": {"noise": 0.25},
}

kde_lower = _estimator("lower", "lower bound for the layer with Gaussian noise, by Bhattacharyya distances of pairs")
kde_upper = _estimator("upper", "upper bound for the layer with Gaussian noise, by divergences of pairs")
