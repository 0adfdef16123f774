"""`gaussian` against determinants, a fit by scikit-learn's conventions, and the bootstrap."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ipstore.analysis.estimators import estimate, get
from ipstore.analysis.probe import Probe
from ipstore.analysis.testing import EstimatorContract

Array = NDArray[Any]


class TestGaussian(EstimatorContract):
    estimator = "gaussian"


def by_determinants(t: Array, p_y_given_x: Array, p_x: Array, noise: float) -> tuple[float, float]:
    def log2_det(weights: Array) -> float:
        covariance = np.atleast_2d(np.cov(t.astype(np.float64).T, aweights=weights, ddof=0))
        sign, value = np.linalg.slogdet(np.eye(t.shape[1]) + covariance / noise)
        assert sign == 1
        return float(value / np.log(2))

    joint = (p_x[:, None] * p_y_given_x).T
    everything = log2_det(p_x)
    return everything / 2, (everything - sum(mass.sum() * log2_det(mass) for mass in joint)) / 2


@pytest.mark.parametrize("units", [1, 2, 7, 40])
@pytest.mark.parametrize("noise", [1e-3, 0.5])
def test_equals_determinants(units: int, noise: float) -> None:
    rng = np.random.default_rng(units)
    t = np.tanh(rng.normal(0, 1, (150, units)) @ rng.normal(0, 1, (units, units))).astype(np.float32)
    for labels in (np.eye(3)[rng.integers(0, 3, 150)], rng.dirichlet([1, 1, 1], 150)):
        for p_x in (np.full(150, 1 / 150), rng.dirichlet(np.ones(150))):
            values = estimate("gaussian", t, labels, None, p_x, noise=noise)
            expected = by_determinants(t, labels, p_x, noise)
            assert (values["I_XT"], values["I_TY"]) == pytest.approx(expected, abs=1e-9)
            assert np.isnan([values["I_XT_se"], values["I_TY_se"]]).all()


def test_a_gaussian_channel() -> None:
    # All of a normal distribution, as well as 4001 quantiles tell it: I = log2(1 + variance / noise) / 2.
    x = np.linspace(-8, 8, 4001)
    p_x = np.exp(-(x**2) / 2)
    labels = np.eye(2)[(x > 0).astype(int)]
    values = estimate("gaussian", x[:, None], labels, None, p_x / p_x.sum(), noise=7 / 9)
    assert values["I_XT"] == pytest.approx(0.596322539, abs=1e-9)


def test_is_above_the_information_of_a_pair() -> None:
    values = estimate("gaussian", [[-1.0], [1.0]], np.eye(2), noise=1.0)
    assert (values["I_XT"], values["I_TY"]) == pytest.approx((0.5, 0.5), abs=1e-12)
    assert values["I_XT"] > 0.485944


def test_a_dead_layer_and_one_of_less_rank_than_units() -> None:
    labels = np.eye(2)[[0, 1] * 20]
    assert estimate("gaussian", np.full((40, 3), 0.7, np.float32), labels)["I_XT"] == pytest.approx(0, abs=1e-12)
    t = np.random.default_rng(0).normal(0, 1, (40, 1))
    once, often = (estimate("gaussian", t * np.ones(n) / n**0.5, labels, noise=1e-9) for n in (1, 60))
    assert often["I_XT"] == pytest.approx(once["I_XT"], abs=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_standard_errors_are_those_of_the_bootstrap(soft: bool) -> None:
    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, 400)
    t = np.stack([rng.normal(y, 1 + y), rng.exponential(1 + y) ** 0.7], axis=1)
    labels = np.eye(2)[y] * (0.7 if soft else 1) + (0.15 if soft else 0)
    values = estimate("gaussian", t, labels, noise=0.1, population=False)
    again = []
    for _ in range(400):
        drawn = rng.integers(0, 400, 400)
        one = estimate("gaussian", t[drawn], labels[drawn], noise=0.1)
        again.append((one["I_XT"], one["I_TY"]))
    assert (values["I_XT_se"], values["I_TY_se"]) == pytest.approx(np.std(again, axis=0), rel=0.15)


def test_the_mode_is_that_of_the_probe_unless_given() -> None:
    gaussian, labels = get("gaussian"), np.eye(2)[[0, 1, 1]]
    for population, mode in ((True, "population"), (False, "sample")):
        probe = Probe.of(labels, population=population)
        assert gaussian.resolve({}, probe) == {"noise": 1e-3, "mode": mode}
        assert gaussian.resolve({"mode": "sample"}, probe)["mode"] == "sample"
