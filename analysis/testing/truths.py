"""Known truths: beds whose information is known in closed form, or by quadrature of a smooth density.

A bed is a joint distribution of X, T and Y together with a way to have it as arrays. Its truth is computed here
from its definition, to about 1e-12 bits. The activations of a population bed are the whole distribution, few
values with their probabilities, which float32 tells apart exactly: nothing is drawn. Those of a sampled bed are
draws, which float32 moves by 6e-8 of their size: a millionth of their sampling error.

Two beds of the usual benchmarks [1]_ cannot be asked here: ``dense_normal`` (both variables jointly Gaussian
vectors) and ``additive_uniform`` (Y = X + U). Both of their variables are continuous. Here Y is a class, and X is
known by its identity alone: no estimator sees a value of X, so a density of X and Y on the real line cannot be
put to one.

References
----------
.. [1] Czyż, Grabowski, Vogt, Beerenwinkel & Marx, "Beyond Normal: On the Evaluation of Mutual Information
   Estimators", 2023, arXiv:2306.11078.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import e, log2, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.probe import Probe, entropy
from ipstore.errors import ParameterError, UnknownNameError

__all__ = ["Bed", "Data", "available", "get"]


@dataclass(frozen=True, eq=False)
class Data:
    """A bed as arrays, as estimators take them.

    Attributes
    ----------
    t : (sample, unit) float32
    p_y_given_x : (sample, class) float64
    x_id : (sample,) int64 or None
        Equal entries mean equal inputs; None if all inputs differ.
    p_x : (sample,) float64 or None
        Weights that sum to one; None if they are equal.
    """

    t: NDArray[np.float32]
    p_y_given_x: NDArray[np.float64]
    x_id: NDArray[np.int64] | None = None
    p_x: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Bed:
    """A joint distribution of input X, layer T and label Y whose information is known.

    Parameters
    ----------
    name : str
    description : str
        What X, T and Y are.
    source : str
        Where its formula stands.
    truth : mapping of str to float
        By name of the quantity, in bits. A quantity that does not exist on this bed is left out: H(T) of a
        continuous T, I(X;T) of a T that tells a continuous X exactly.
    noise : float
        Variance of the Gaussian noise, in squared units of the activations, that stands between the
        activations and the T of the truth. 0 if the activations are T.
    population : bool
        Whether the samples are the whole distribution, or drawn from it.
    sampler : callable
        From a number of samples and a generator to `Data`; one of a population heeds neither.
    """

    name: str
    description: str
    source: str
    truth: Mapping[str, float]
    noise: float
    population: bool
    sampler: Callable[[int, np.random.Generator], Data]

    def draw(self, samples: int = 1000, random_state: int | np.random.SeedSequence = 0) -> Data:
        """Give the bed as arrays.

        Parameters
        ----------
        samples : int
            How many to draw; of a population all there are come, whatever is asked.
        random_state : int or SeedSequence
            Equal ones draw equal samples.

        Raises
        ------
        ParameterError
            If `samples` is less than 2.
        """
        if samples < 2:
            raise ParameterError(f"samples must be 2 or more but got {samples}")
        return self.sampler(samples, np.random.default_rng(random_state))

    def probe(self, data: Data) -> Probe:
        """Give the probe of what was drawn, which knows whether it is a population."""
        return Probe.of(data.p_y_given_x, data.x_id, data.p_x, population=self.population)


def available() -> tuple[str, ...]:
    """Names of the beds that `get` knows, in the order of this file."""
    return tuple(_BEDS)


@cache
def get(name: str) -> Bed:
    """Give a bed; its truth is computed on first use, in milliseconds.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    if name not in _BEDS:
        raise UnknownNameError("bed", name, _BEDS)
    return _BEDS[name]()


# Populations ------------------------------------------------------------------


def _population(
    t: NDArray[Any], y: NDArray[np.int64], x_id: NDArray[np.int64] | None = None, p_x: object = None
) -> Callable[[int, np.random.Generator], Data]:
    weights = None if p_x is None else np.asarray(p_x, np.float64)

    def sampler(samples: int, rng: np.random.Generator) -> Data:
        return Data(t.astype(np.float32), np.eye(y.max() + 1)[y], x_id, weights)

    return sampler


def _binary_entropy(p: float) -> float:
    return entropy(np.array([p, 1 - p]))


def _bsc() -> Bed:
    flip = 0.11
    x, t = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    information = 1 - _binary_entropy(flip)
    return Bed(
        name="bsc",
        description=f"X a fair bit, T = X through a binary symmetric channel that flips {flip:.0%}, Y = X",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed., section 7.1.4",
        truth={"I_XT": information, "I_TY": information, "H_T": 1.0},
        noise=0.0,
        population=True,
        sampler=_population(t[:, None] - 0.5, x, x, np.where(x == t, 1 - flip, flip) / 2),
    )


def _bec() -> Bed:
    erased = 0.25
    x, t = np.array([0, 0, 1, 1]), np.array([-0.5, 0.0, 0.0, 0.5])
    return Bed(
        name="bec",
        description=f"X a fair bit, T = X through a binary channel that erases {erased:.0%}, Y = X",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed., section 7.1.5",
        truth={"I_XT": 1 - erased, "I_TY": 1 - erased, "H_T": _binary_entropy(erased) + 1 - erased},
        noise=0.0,
        population=True,
        sampler=_population(t[:, None], x, x, np.where(t == 0, erased, 1 - erased) / 2),
    )


def _popcount() -> Bed:
    bits = 12
    ones = np.bitwise_count(np.arange(2**bits)).astype(np.int64)
    p = np.bincount(ones) / 2**bits
    H_T = entropy(p)
    return Bed(
        name="popcount",
        description=f"X uniform on the {2**bits} patterns of {bits} bits, T the number of ones (from -1 to 1), "
        f"Y whether they are more than {bits // 2}",
        source="T and Y are functions of X: I(X;T) is the entropy of the binomial distribution, I(T;Y) = H(Y)",
        truth={"I_XT": H_T, "I_TY": _binary_entropy(p[bits // 2 + 1 :].sum()), "H_T": H_T},
        noise=0.0,
        population=True,
        sampler=_population((ones[:, None] - bits / 2) / (bits / 2), (ones > bits // 2).astype(np.int64)),
    )


def _clusters() -> Bed:
    corners = np.repeat(np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), axis=-1).reshape(-1, 3), 64, axis=0)
    return Bed(
        name="clusters",
        description="X uniform on 512 inputs, 64 at each corner T of a cube, Y the sign of the first unit",
        source="T and Y are functions of X: I(X;T) = log2 8, I(T;Y) = H(Y)",
        truth={"I_XT": 3.0, "I_TY": 1.0, "H_T": 3.0},
        noise=0.0,
        population=True,
        sampler=_population(corners, (corners[:, 0] > 0).astype(np.int64)),
    )


def _noisy_pair() -> Bed:
    x = np.array([0, 1])
    information = _two_gaussians()
    return Bed(
        name="noisy_pair",
        description="X a fair bit, T = -1 or 1 plus Gaussian noise of variance 1, Y = X",
        source="the Gaussian channel with binary input: I = 1 - E[log2(1 + exp(-2 t))] with t ~ N(1, 1), by quadrature",
        truth={"I_XT": information, "I_TY": information},
        noise=1.0,
        population=True,
        sampler=_population(2.0 * x[:, None] - 1, x),
    )


def _two_gaussians() -> float:
    """Information in bits of a fair bit under N(-1, 1) and N(1, 1)."""
    from scipy.integrate import quad

    lost, _ = quad(lambda t: np.exp(-((t - 1) ** 2) / 2) * np.logaddexp(0, -2 * t), -np.inf, np.inf, epsabs=1e-13)
    return float(1 - lost / (sqrt(2 * pi) * np.log(2)))


# Samples ----------------------------------------------------------------------


def _gaussian_channel() -> Bed:
    from scipy.integrate import quad
    from scipy.special import log_ndtr

    noise = 7 / 9
    slope = sqrt(1 / noise)  # of the posterior's z-score in the received value, in units of its deviation

    def uncertainty(u: float) -> float:
        """Density of the received value times the nats that the sign of X keeps."""
        yes, no = log_ndtr(slope * u), log_ndtr(-slope * u)
        return float(np.exp(-(u**2) / 2) * -(np.exp(yes) * yes + np.exp(no) * no))

    lost, _ = quad(uncertainty, -np.inf, np.inf, epsabs=1e-13)

    def sampler(samples: int, rng: np.random.Generator) -> Data:
        x = rng.normal(0, 1, samples)
        return Data(x[:, None].astype(np.float32), np.eye(2)[(x > 0).astype(np.int64)])

    return Bed(
        name="gaussian_channel",
        description="X ~ N(0, 1), T = X plus Gaussian noise of variance 7/9 (correlation 0.75), Y the sign of X",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed., section 9.1; I(T;Y) by quadrature",
        truth={"I_XT": log2(1 + 1 / noise) / 2, "I_TY": float(1 - lost / (sqrt(2 * pi) * np.log(2)))},
        noise=noise,
        population=False,
        sampler=sampler,
    )


def _noisy_tanh() -> Bed:
    noise = 0.25
    # p(t | x > 0) by Gauss and Legendre over x, then integrals over t by the trapezoidal rule, which converges
    # geometrically for analytic integrands that vanish at both ends. Doubling either changes less than 1e-13.
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x, p_x = 4.5 * (nodes + 1), 4.5 * weights * 2 * np.exp(-((4.5 * (nodes + 1)) ** 2) / 2) / sqrt(2 * pi)
    t = np.linspace(-7, 7, 2801)
    positive = np.exp(-((t[:, None] - np.tanh(x)) ** 2) / (2 * noise)) @ p_x / sqrt(2 * pi * noise)
    negative = positive[::-1]
    p_t, step = (positive + negative) / 2, t[1] - t[0]
    h_t = -step * np.sum(p_t * np.log2(p_t))
    h_t_given_y = -step * np.sum(positive * np.log2(positive))

    def sampler(samples: int, rng: np.random.Generator) -> Data:
        x = rng.normal(0, 1, samples)
        return Data(np.tanh(x)[:, None].astype(np.float32), np.eye(2)[(x > 0).astype(np.int64)])

    return Bed(
        name="noisy_tanh",
        description="X ~ N(0, 1), T = tanh(X) plus Gaussian noise of variance 0.25, Y the sign of X",
        source="the noisy unit of Goldfeld et al. 2019, arXiv:1810.05728; I(X;T) = h(T) - h(noise), by quadrature",
        truth={"I_XT": float(h_t - log2(2 * pi * e * noise) / 2), "I_TY": float(h_t - h_t_given_y)},
        noise=noise,
        population=False,
        sampler=sampler,
    )


def _gaussian_classes() -> Bed:
    def sampler(samples: int, rng: np.random.Generator) -> Data:
        y = rng.integers(0, 2, samples)
        return Data(rng.normal(2.0 * y - 1, 1)[:, None].astype(np.float32), np.eye(2)[y])

    return Bed(
        name="gaussian_classes",
        description="Y a fair bit, T ~ N(-1, 1) or N(1, 1)",
        source="the Gaussian channel with binary input: I = 1 - E[log2(1 + exp(-2 t))] with t ~ N(1, 1), by quadrature",
        truth={"I_TY": _two_gaussians()},
        noise=0.0,
        population=False,
        sampler=sampler,
    )


def _gaussian_classes_5d() -> Bed:
    # One unit that tells Y and four that do not, these correlated by 0.5 among themselves, all reflected so that
    # the first falls equally on all five. A linear map that can be undone changes no information.
    spread = np.eye(5)
    spread[1:, 1:] = np.linalg.cholesky(np.full((4, 4), 0.5) + np.diag(np.full(4, 0.5)))
    mirror = np.full(5, 1 / sqrt(5)) - np.eye(5)[0]
    units = spread.T @ (np.eye(5) - 2 * np.outer(mirror, mirror) / (mirror @ mirror))

    def sampler(samples: int, rng: np.random.Generator) -> Data:
        y = rng.integers(0, 2, samples)
        t = rng.normal(0, 1, (samples, 5))
        t[:, 0] += 2.0 * y - 1
        return Data((t @ units).astype(np.float32), np.eye(2)[y])

    return Bed(
        name="gaussian_classes_5d",
        description="Y a fair bit, T five correlated units with all of Y in one direction across them: N(-1, 1) or "
        "N(1, 1) along it",
        source="gaussian_classes; information is invariant under invertible maps (Kraskov et al. 2004, section II)",
        truth={"I_TY": _two_gaussians()},
        noise=0.0,
        population=False,
        sampler=sampler,
    )


def _gao_mixture() -> Bed:
    classes = 5

    def sampler(samples: int, rng: np.random.Generator) -> Data:
        y = rng.integers(0, classes, samples)
        return Data((y + rng.uniform(0, 2, samples))[:, None].astype(np.float32), np.eye(classes)[y])

    return Bed(
        name="gao_mixture",
        description=f"Y uniform on 0..{classes - 1}, T uniform on (Y, Y + 2)",
        source="Gao et al. 2017, arXiv:1709.06212, section 5: I = log m - (m - 1)/m log 2",
        truth={"I_TY": log2(classes) - (classes - 1) / classes},
        noise=0.0,
        population=False,
        sampler=sampler,
    )


def _sampled(population: Bed) -> Bed:
    """Draw from a population instead of giving it whole."""
    whole = population.draw()
    x = np.arange(len(whole.t)) if whole.x_id is None else whole.x_id

    def sampler(samples: int, rng: np.random.Generator) -> Data:
        rows = rng.choice(len(whole.t), samples, p=whole.p_x)
        return Data(whole.t[rows], whole.p_y_given_x[rows], x[rows])

    return replace(
        population,
        name=f"{population.name}_sample",
        description=f"samples of the bed {population.name}: {population.description}",
        population=False,
        sampler=sampler,
    )


_BEDS: dict[str, Callable[[], Bed]] = {
    "bsc": _bsc,
    "bec": _bec,
    "popcount": _popcount,
    "clusters": _clusters,
    "noisy_pair": _noisy_pair,
    "gaussian_channel": _gaussian_channel,
    "noisy_tanh": _noisy_tanh,
    "gaussian_classes": _gaussian_classes,
    "gaussian_classes_5d": _gaussian_classes_5d,
    "gao_mixture": _gao_mixture,
    "bsc_sample": lambda: _sampled(get("bsc")),
    "popcount_sample": lambda: _sampled(get("popcount")),
}
