"""`noisy` against integrals of mixture densities, and its standard errors against repetition."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import entr

from ipstore.analysis.estimators import estimate, get
from ipstore.analysis.probe import Probe
from ipstore.analysis.testing import EstimatorContract, truths

Array = NDArray[Any]


class TestNoisy(EstimatorContract):
    estimator = "noisy"


def by_quadrature(t: Array, p_y_given_x: Array, x_id: Array, p_x: Array, noise: float) -> Array:
    """I(X;T+N) and I(T+N;Y) of a layer of one unit, from densities on a grid."""
    z = np.linspace(t.min() - 9 * noise**0.5, t.max() + 9 * noise**0.5, 6001)
    components = np.exp(-((z - t) ** 2) / (2 * noise)) / np.sqrt(2 * np.pi * noise)

    def conditional(joint: Array) -> float:
        return float(sum(mass.sum() * entropy(mass / mass.sum()) for mass in joint if mass.any()))

    def entropy(weights: Array) -> float:
        return float(entr(weights @ components).sum() * (z[1] - z[0]) / np.log(2))

    by_input = np.eye(x_id.max() + 1)[x_id] * p_x[:, None]
    by_label = p_y_given_x * p_x[:, None]
    return entropy(p_x) - np.array([conditional(by_input.T), conditional(by_label.T)])


@pytest.mark.parametrize("noise", [0.001, 0.03, 1.0])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_quadrature(noise: float, soft: bool, repeated: bool, dtype: type) -> None:
    rng = np.random.default_rng(1)
    t: Array = np.tanh(rng.normal(0, 1, (300, 1))).astype(dtype)
    labels = rng.dirichlet([0.5, 0.5, 0.5], 300) if soft else np.eye(3)[rng.integers(0, 3, 300)]
    x_id = np.unique(rng.integers(0, 40, 300), return_inverse=True)[1] if repeated else np.arange(300)
    p_x = rng.dirichlet(np.ones(300)) * (np.arange(300) < 290)
    p_x /= p_x.sum()
    values = estimate("noisy", t, labels, x_id, p_x, noise=noise, draws=100_000)
    expected = by_quadrature(t.astype(np.float64), labels, x_id, p_x, noise)
    for name, truth in zip(("I_XT", "I_TY"), expected, strict=True):
        assert abs(values[name] - truth) < 4 * values[f"{name}_se"] + 1e-6
        assert values[f"{name}_se"] < 0.02


def test_inputs_that_repeat_with_the_same_layer_are_one_input() -> None:
    rng = np.random.default_rng(2)
    x_id = rng.integers(0, 30, 200)
    t, labels = rng.normal(0, 1, (30, 2))[x_id], np.eye(2)[x_id % 2]
    there, back = (estimate("noisy", t, labels, given, noise=0.1) for given in (None, x_id))
    np.testing.assert_array_equal(there["I_XT"], back["I_XT"])


def test_wide_layers() -> None:
    # Two inputs at distance 2 along some direction of 600 units: only that direction matters.
    direction = np.random.default_rng(3).normal(0, 1, 600)
    t = np.array([[-1.0], [1.0]]) * direction / np.linalg.norm(direction)
    values = estimate("noisy", t.astype(np.float32), np.eye(2), noise=1.0, draws=20_000)
    for name in ("I_XT", "I_TY"):
        assert abs(values[name] - 0.485944) < 4 * values[f"{name}_se"]
        assert values[f"{name}_se"] < 0.01


def test_probabilities_that_float32_does_not_have() -> None:
    t = np.array([[-1.0], [1.0], [1.0]], np.float32)
    labels = np.array([[1.0, 1e-60], [1e-60, 1.0], [1.0, 0.0]])
    weights = np.array([0.5, 0.5, 1e-80])
    values = estimate("noisy", t, labels, None, weights, noise=1e-3)
    assert (values["I_XT"], values["I_TY"]) == pytest.approx((1, 1), abs=1e-6)


@pytest.mark.parametrize("name", ["noisy", "kde_upper", "kde_lower", "gaussian"])
def test_a_single_sample(name: str) -> None:
    values = estimate(name, [[0.3, 0.2]], [[0.5, 0.5]], population=False)
    assert (values["I_XT"], values["I_TY"]) == pytest.approx((0, 0), abs=1e-9)
    for error in set(values) & {"I_XT_se", "I_TY_se"}:
        assert np.isnan(values[error])


def test_error_of_the_draws_is_that_of_repetition() -> None:
    rng = np.random.default_rng(4)
    t, labels = np.tanh(rng.normal(0, 1, (200, 3))), np.eye(2)[rng.integers(0, 2, 200)]
    runs = [estimate("noisy", t, labels, noise=0.1, draws=2000, random_state=seed) for seed in range(100)]
    for name in ("I_XT", "I_TY"):
        found = np.std([run[name] for run in runs], ddof=1)
        assert np.mean([run[f"{name}_se"] for run in runs]) == pytest.approx(found, rel=0.3)


@pytest.mark.parametrize("bed", ["gaussian_channel", "noisy_tanh"])
def test_intervals_hold_the_truth_as_often_as_they_say(bed: str) -> None:
    known = truths.get(bed)
    held = {"I_XT": 0, "I_TY": 0}
    for repeat in range(50):
        data = known.draw(500, repeat)
        drawing: dict[str, Any] = {"noise": known.noise, "draws": 2000, "random_state": repeat}
        values = estimate("noisy", data.t, data.p_y_given_x, population=False, **drawing)
        for name in held:
            held[name] += bool(abs(values[name] - known.truth[name]) <= 1.96 * values[f"{name}_se"])
    assert min(held.values()) >= 45, held


def test_the_mode_is_that_of_the_probe_unless_given() -> None:
    noisy, labels = get("noisy"), np.eye(2)[[0, 1, 1]]
    for population, mode in ((True, "population"), (False, "sample")):
        probe = Probe.of(labels, population=population)
        expected = {"noise": 0.01, "draws": 2**14, "mode": mode, "random_state": 0}
        assert noisy.resolve({}, probe) == expected
        assert noisy.resolve({"mode": "population"}, probe)["mode"] == "population"


def test_draws_come_in_batches_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    t, labels = rng.normal(0, 1, (50, 2)).astype(np.float32), np.eye(2)[rng.integers(0, 2, 50)]
    whole = estimate("noisy", t, labels, draws=1000)
    monkeypatch.setattr("ipstore.analysis.estimators.noisy._BATCH", 300)
    parts = estimate("noisy", t, labels, draws=1000)
    for name, value in whole.items():
        assert parts[name] == pytest.approx(float(value), abs=1e-12)
