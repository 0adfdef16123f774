"""`kde_upper` and `kde_lower` against the formulas with all N x N distances in float64, and against known numbers."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import entr, logsumexp

from ipstore.analysis.estimators import estimate, get
from ipstore.analysis.testing import EstimatorContract
from ipstore.errors import ParameterError

Array = NDArray[Any]

ROUNDING = 1e-5
"""Bits, as promised; the largest that was found is 2e-6."""


class TestUpper(EstimatorContract):
    estimator = "kde_upper"


class TestLower(EstimatorContract):
    estimator = "kde_lower"


def excess(t: Array, mass: Array, divisor: float) -> float:
    """Entropy in bits of a mixture about the rows `t` over that of one component; `mass` need not sum to one."""
    present = mass > 0
    p = mass[present] / mass.sum()
    exponents = -cdist(t[present], t[present], "sqeuclidean") / divisor
    return float(-p @ logsumexp(exponents, b=p, axis=1) / np.log(2))


def plainly(
    t: Array, p_y_given_x: Array, x_id: Array | None = None, p_x: Array | None = None, noise: float = 1e-3
) -> dict[str, dict[str, float]]:
    """Both estimators by their definition."""
    t = t.astype(np.float64)
    p_x = np.full(len(t), 1 / len(t)) if p_x is None else p_x
    x_id = np.arange(len(t)) if x_id is None else x_id
    joint = (p_x[:, None] * p_y_given_x).T
    by_input = [np.where(x_id == x, p_x, 0.0) for x in np.unique(x_id[p_x > 0])]
    whole, given_y, given_x = {}, {}, {}
    for side, divisor in (("lower", 8 * noise), ("upper", 2 * noise)):
        whole[side] = excess(t, p_x, divisor)
        given_y[side] = sum(mass.sum() * excess(t, mass, divisor) for mass in joint if mass.any())
        given_x[side] = sum(mass.sum() * excess(t, mass, divisor) for mass in by_input)
    h_noise = t.shape[1] / 2 * np.log2(2 * np.pi * math.e * noise)
    most = (entr(joint.sum(axis=1)).sum() - p_x @ entr(p_y_given_x).sum(axis=1)) / np.log(2)
    return {
        "lower": {
            "I_XT": max(0.0, whole["lower"] - given_x["upper"]),
            "I_TY": max(0.0, whole["lower"] - given_y["upper"]),
            "I_TY_difference": whole["lower"] - given_y["lower"],
            "h_T": whole["lower"] + h_noise,
        },
        "upper": {
            "I_XT": whole["upper"] - given_x["lower"],
            "I_TY": min(whole["upper"] - given_y["lower"], whole["upper"], most),
            "I_TY_difference": whole["upper"] - given_y["upper"],
            "h_T": whole["upper"] + h_noise,
        },
    }


def agrees(t: Array, p_y_given_x: Array, x_id: Array | None = None, p_x: Array | None = None, *, noise: float) -> None:
    for side, expected in plainly(t, p_y_given_x, x_id, p_x, noise).items():
        found = estimate(f"kde_{side}", t, p_y_given_x, x_id, p_x, noise=noise)
        assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=0, abs=ROUNDING)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Array, Array | None, Array | None]:
    """Layers of every shape and scale; labels, inputs and weights of every kind."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    samples, units = draw(st.integers(2, 500)), draw(st.integers(1, 19))
    x_id = rng.integers(0, max(1, samples // draw(st.integers(1, 50))), samples) if draw(st.booleans()) else None
    of_input = rng.normal(0, 1, (samples, units))
    z = of_input if x_id is None else of_input[x_id] + draw(st.sampled_from((0.0, 0.03, 1.0))) * of_input
    layers = {
        "tanh": np.tanh(z),
        "saturated": np.tanh(20 * z),
        "two values": 0.05 * np.sign(z),
        "dead": np.maximum(z - 1.5, 0),
        "far away": 1000 + z,
    }
    t = layers[draw(st.sampled_from(sorted(layers)))].astype(draw(st.sampled_from((np.float32, np.float64))))
    classes = draw(st.integers(2, 5))
    label = np.concatenate([[0, classes - 1], rng.integers(0, classes, samples - 2)])
    p_y_given_x = np.eye(classes)[label]
    if draw(st.booleans()):
        p_y_given_x = rng.dirichlet(np.ones(classes), samples)
        p_y_given_x[rng.random(samples) < 0.3] = np.eye(classes)[0]
        p_y_given_x[0] = 1 / classes
    p_x = None
    if draw(st.booleans()):
        p_x = rng.dirichlet(np.full(samples, 0.3)) * (np.arange(samples) < max(2, samples - draw(st.integers(0, 9))))
        p_x[:2] += 1e-3
        p_x /= p_x.sum()
    return t, p_y_given_x, x_id, p_x


@settings(deadline=None, max_examples=40)
@given(problem=problems(), noise=st.sampled_from((1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0)))
def test_equals_the_formula_with_all_distances(
    problem: tuple[Array, Array, Array | None, Array | None], noise: float
) -> None:
    agrees(*problem, noise=noise)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_tiles(dtype: type) -> None:
    rng = np.random.default_rng(0)
    labels = np.eye(3)[rng.integers(0, 3, 1300)]
    z = rng.normal(0, 1, (1300, 10))
    agrees(np.tanh(3 * z).astype(dtype), labels, noise=1e-3)
    agrees(np.tanh(z[:, :3]).astype(dtype), 0.1 + 0.7 * labels, noise=1e-2)


def test_a_pair() -> None:
    # Two components 2 apart: the kernel between them is exp(-1/2) of Bhattacharyya, exp(-2) of Kullback-Leibler.
    t, labels = np.array([[-1.0], [1.0]]), np.eye(2)
    for side, kernel in (("lower", np.exp(-0.5)), ("upper", np.exp(-2))):
        values = estimate(f"kde_{side}", t, labels, noise=1.0)
        expected = -np.log2((1 + kernel) / 2)
        assert [values["I_XT"], values["I_TY"]] == pytest.approx([expected, expected], abs=1e-6)
        assert values["h_T"] == pytest.approx(expected + np.log2(2 * np.pi * math.e) / 2, abs=1e-6)
    assert estimate("kde_lower", t, labels, noise=1.0)["I_XT"] < 0.485944 < values["I_XT"]


def test_clusters_are_exact() -> None:
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T
    t = np.repeat(corners, 64, axis=0)
    labels = np.eye(2)[(t[:, 0] > 0).astype(int)]
    for side in ("lower", "upper"):
        values = estimate(f"kde_{side}", t, labels, noise=1e-3)
        assert (values["I_XT"], values["I_TY"]) == pytest.approx((3, 1), abs=1e-6)


def test_repeated_inputs() -> None:
    # Two inputs, each with two values of T: H(T) = 2, of which 1 bit is about the input.
    t, labels = np.array([[0.0], [1.0], [2.0], [3.0]]), np.eye(2)[[0, 0, 1, 1]]
    for side in ("lower", "upper"):
        assert estimate(f"kde_{side}", t, labels, [0, 0, 1, 1], noise=1e-3)["I_XT"] == pytest.approx(1)
        assert estimate(f"kde_{side}", t, labels, noise=1e-3)["I_XT"] == pytest.approx(2)
        assert estimate(f"kde_{side}", t // 2, labels, [0, 0, 1, 1], noise=1e-3)["I_XT"] == pytest.approx(1)


def test_bounds_surround_the_truth() -> None:
    # X uniform on many points of a line, T = X: with noise of that width the information is known by quadrature.
    x = np.linspace(-1, 1, 801)[:, None]
    labels = np.eye(2)[(x[:, 0] > 0).astype(int)]
    z = np.linspace(-8, 8, 4001)
    for noise in (0.01, 0.1, 1.0):
        density = np.exp(-((z - x) ** 2) / (2 * noise)).mean(axis=0) / np.sqrt(2 * np.pi * noise)
        truth = entr(density).sum() * (z[1] - z[0]) / np.log(2) - np.log2(2 * np.pi * math.e * noise) / 2
        low, high = (estimate(f"kde_{side}", x, labels, noise=noise) for side in ("lower", "upper"))
        assert low["I_XT"] < truth < high["I_XT"]
        assert low["I_TY"] <= high["I_TY"] <= 1


@pytest.mark.parametrize("scale", [1e-18, 1e-12, 1e12, 1e25])
def test_scale_does_not_matter(scale: float) -> None:
    rng = np.random.default_rng(3)
    t, labels = rng.normal(0, 1, (300, 4)), np.eye(2)[rng.integers(0, 2, 300)]
    noise = min(max(scale**2, 2e-30), 9e29)
    there = estimate("kde_upper", t, labels, noise=1.0)
    if noise == scale**2:
        assert estimate("kde_upper", scale * t, labels, noise=noise)["I_XT"] == pytest.approx(there["I_XT"], abs=1e-6)
    else:  # too near together, or too far apart, for the smallest and the largest noise that is allowed
        expected = 0.0 if scale < 1 else np.log2(300)
        assert estimate("kde_upper", scale * t, labels, noise=noise)["I_XT"] == pytest.approx(expected, abs=1e-5)


def test_values_at_the_end_of_the_floats() -> None:
    top = np.finfo(np.float32).max
    t = np.array([[-top, 0.0], [top, 0.0], [0.0, top], [0.0, 1e-45]], np.float32)
    for side in ("lower", "upper"):
        assert estimate(f"kde_{side}", t, np.eye(2)[[0, 0, 1, 1]])["I_XT"] == pytest.approx(2)
        assert estimate(f"kde_{side}", t.astype(np.float64) * 1e200, np.eye(2)[[0, 0, 1, 1]])["I_XT"] == pytest.approx(
            2
        )


def test_what_the_two_declare() -> None:
    upper, lower = get("kde_upper"), get("kde_lower")
    assert upper.kernel is lower.kernel
    assert (upper.kind, lower.kind) == ("upper", "lower")
    kinds = {quantity.name: quantity.kind for quantity in upper.quantities}
    assert kinds == {"I_XT": None, "I_TY": None, "I_TY_difference": "estimate", "h_T": None}
    for noise in (0.0, -1.0, np.inf, 1e-31, "little"):
        with pytest.raises(ParameterError, match=r"noise must be a number in \(1e-30, 1e\+30\) but got"):
            estimate("kde_upper", [[0.0], [1.0]], np.eye(2), noise=noise)
