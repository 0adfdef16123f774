"""`renyi` against whole kernel matrices without blocks or merged rows, and against closed forms."""

import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import logm, svdvals

from ipstore.analysis.estimators import estimate, get
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

Array = NDArray[Any]

ALPHAS = (0.7, 1.0, 1.01, 2.0, 3.5)


def one_hot(y: Array) -> Array:
    return np.eye(int(y.max()) + 1)[y]


def entropy_of(kernel: Array, weights: Array, alpha: float) -> float:
    matrix = kernel * np.sqrt(np.outer(weights, weights))
    values = svdvals(matrix / np.trace(matrix))
    values = values[values > 1e-13]
    if alpha == 1:
        return float(-np.sum(values * np.log2(values)))
    return float(np.log2(np.sum(values**alpha)) / (1 - alpha))


def plainly(
    t: Array, p_y_given_x: Array, x_id: Array | None, p_x: Array | None, alpha: float, width: float
) -> dict[str, float]:
    """Every pair of a sample and a label is a row of its own, weighed by its probability."""
    n, classes = p_y_given_x.shape
    p = np.full(n, 1 / n) if p_x is None else p_x
    sample, label = (which.ravel() for which in np.indices((n, classes)))
    weights = (p[:, None] * p_y_given_x).ravel()
    sample, label, weights = sample[weights > 0], label[weights > 0], weights[weights > 0]
    rows = t.astype(np.float64)[sample]
    inputs = np.arange(n)[sample] if x_id is None else x_id[sample]
    of_t = np.exp(-np.sum((rows[:, None] - rows) ** 2, axis=2) / (2 * width**2))
    of_x, of_y = (np.equal.outer(v, v).astype(float) for v in (inputs, label))
    s = {key: entropy_of(k, weights, alpha) for key, k in {"t": of_t, "x": of_x, "y": of_y}.items()}
    return {
        "I_XT": s["x"] + s["t"] - entropy_of(of_x * of_t, weights, alpha),
        "I_TY": s["t"] + s["y"] - entropy_of(of_t * of_y, weights, alpha),
        "H_T": s["t"],
        "kernel_width": width,
    }


def clusters() -> tuple[Array, Array]:
    t = np.repeat(np.array(list(product((-0.5, 0.5), repeat=3))), 64, axis=0)
    return t, one_hot((t[:, 0] > 0).astype(int))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_whole_matrices(alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, units, classes = int(rng.integers(4, 60)), int(rng.integers(1, 5)), int(rng.integers(2, 4))
    t = rng.choice(np.tanh(rng.normal(0, 1, n)), (n, units))
    t[: n // 3] = t[0]
    labels = one_hot(np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)]))
    if seed % 2:
        labels = rng.dirichlet(np.ones(classes), n)
        labels[0] = one_hot(np.array([0, classes - 1]))[0]
    x_id = rng.integers(0, n // 2, n) if seed % 4 > 1 else None
    p_x = rng.dirichlet(np.ones(n)) * (np.arange(n) > 1) if seed % 3 else None
    p_x = None if p_x is None else p_x / p_x.sum()
    width = float(rng.choice([0.05, 0.4, 3.0]))
    found = estimate("renyi", t, labels, x_id, p_x, alpha=alpha, width=width)
    expected = plainly(t, labels, x_id, p_x, alpha, width)
    # An eigenvalue of the size of rounding, 1e-14, counts as 1e-14 ** alpha: at 0.7 that shows, 60 times.
    within = 1e-7 if alpha < 1 else 1e-10
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, abs=within)


def test_more_rows_than_a_tile() -> None:
    rng = np.random.default_rng(20)
    t, y = rng.normal(0, 1, (700, 3)), rng.integers(0, 3, 700)
    found = estimate("renyi", t, one_hot(y), width=0.8)
    assert found["I_TY"] == pytest.approx(plainly(t, one_hot(y), None, None, 2.0, 0.8)["I_TY"], abs=1e-9)
    by_eigenvalues = estimate("renyi", t, one_hot(y), width=0.8, alpha=2 + 1e-9)
    for name in found:
        assert found[name] == pytest.approx(by_eigenvalues[name], abs=1e-7)


@pytest.mark.parametrize("alpha", [*ALPHAS, 0.501, 60.0])
def test_clusters_that_are_narrow_against_their_distance(alpha: float) -> None:
    values = estimate("renyi", *clusters(), alpha=alpha, width=0.05)
    assert (values["I_XT"], values["I_TY"], values["H_T"]) == pytest.approx((3, 1, 3), abs=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_closed_forms(alpha: float) -> None:
    labels = one_hot(np.arange(50) % 2)
    constant = estimate("renyi", np.full((50, 2), 0.3, np.float32), labels, alpha=alpha)
    assert all(value == pytest.approx(0, abs=1e-12) for value in constant.values())
    apart = estimate("renyi", 1e3 * np.arange(50.0)[:, None], labels, alpha=alpha, width=1.0)
    assert (apart["H_T"], apart["I_TY"]) == pytest.approx((np.log2(50), 1), abs=1e-12)
    pair = estimate("renyi", [[0.0], [1.0]], np.eye(2), alpha=alpha, width=0.7)
    values = (1 + np.array([-1, 1]) * np.exp(-1 / (2 * 0.49))) / 2
    entropy = -np.sum(values * np.log2(values)) if alpha == 1 else np.log2(np.sum(values**alpha)) / (1 - alpha)
    assert pair["H_T"] == pytest.approx(entropy, abs=1e-12)


def test_the_limit_is_von_neumann_entropy() -> None:
    rng = np.random.default_rng(21)
    t, labels = rng.normal(0, 1, (30, 2)), one_hot(rng.integers(0, 2, 30))
    matrix = np.exp(-np.sum((t[:, None] - t) ** 2, axis=2) / (2 * 0.16)) / 30
    expected = -np.trace(matrix @ logm(matrix)).real / np.log(2)
    assert estimate("renyi", t, labels, alpha=1, width=0.4)["H_T"] == pytest.approx(expected, abs=1e-9)
    for alpha in (1 - 1e-9, 1 + 1e-9):
        near = estimate("renyi", t, labels, alpha=alpha, width=0.4)["H_T"]
        assert near == pytest.approx(expected, abs=1e-6)
    orders = [estimate("renyi", t, labels, alpha=alpha, width=0.4)["H_T"] for alpha in ALPHAS]
    assert orders == sorted(orders, reverse=True)


def test_channels_at_shannons_order() -> None:
    symmetric = estimate(
        "renyi",
        np.array([[-0.5], [0.5], [-0.5], [0.5]]),
        np.eye(2)[[0, 0, 1, 1]],
        x_id=[0, 0, 1, 1],
        p_x=[0.445, 0.055, 0.055, 0.445],
        alpha=1,
        width=0.05,
    )
    assert (symmetric["I_XT"], symmetric["I_TY"]) == pytest.approx((0.500084042, 0.500084042), abs=1e-9)
    soft = estimate("renyi", [[-0.5], [0.5]], [[0.89, 0.11], [0.11, 0.89]], alpha=1, width=0.05)
    assert (soft["I_XT"], soft["I_TY"]) == pytest.approx((1, 0.500084042), abs=1e-9)


def test_at_other_orders_it_can_be_negative() -> None:
    # p(t, y) = [[0, 0.1], [0.1, 0.8]]: the squares of the joint sum to 0.66, those of the margins to 0.82 each.
    values = estimate("renyi", [[-0.5], [0.5]], [[0.0, 1.0], [1 / 9, 8 / 9]], p_x=[0.1, 0.9], width=0.05)
    assert values["I_TY"] == pytest.approx(np.log2(0.66 / 0.82**2), abs=1e-12)
    assert values["I_TY"] < 0


def test_the_width_by_scotts_rule() -> None:
    rng = np.random.default_rng(22)
    t, labels = rng.normal(3, [0.2, 1.5], (200, 2)), one_hot(rng.integers(0, 2, 200))
    found = estimate("renyi", t, labels)
    expected = np.sqrt(t.var(axis=0).mean()) * 200 ** (-1 / 6)
    assert found["kernel_width"] == pytest.approx(expected, rel=1e-12)
    assert found["I_TY"] == pytest.approx(estimate("renyi", t, labels, width=expected)["I_TY"], abs=1e-12)
    assert estimate("renyi", 1e-200 * t, labels)["I_TY"] == pytest.approx(found["I_TY"], abs=1e-9)


def test_each_cell_stands_for_itself() -> None:
    rng = np.random.default_rng(23)
    t = np.tanh(rng.normal(0, 1, (2, 3, 100, 2)) * rng.choice([0.1, 1, 9], (2, 3, 1, 1))).astype(np.float32)
    labels, x_id = rng.dirichlet(np.ones(3), 100), rng.integers(0, 60, 100)
    for alpha in (1.01, 2):
        together = estimate("renyi", t, labels, x_id, alpha=alpha)
        for name, values in together.items():
            assert values.shape == (2, 3)
            assert values.dtype == np.float64
            for index in np.ndindex(2, 3):
                assert values[index] == estimate("renyi", t[index], labels, x_id, alpha=alpha)[name]


def test_order_does_not_matter_nor_a_sample_split_in_two() -> None:
    rng = np.random.default_rng(24)
    t, labels = rng.normal(0, 1, (60, 3)), rng.dirichlet(np.ones(2), 60)
    p_x, order = rng.dirichlet(np.ones(60)), rng.permutation(60)
    for alpha in (1.01, 2):
        there = estimate("renyi", t, labels, np.arange(60), p_x, alpha=alpha, width=0.5)
        back = estimate("renyi", t[order][:, [2, 0, 1]], labels[order], None, p_x[order], alpha=alpha, width=0.5)
        twice = estimate(
            "renyi",
            np.tile(t, (2, 1)),
            np.tile(labels, (2, 1)),
            np.tile(np.arange(60), 2),
            np.tile(p_x, 2) / 2,
            alpha=alpha,
            width=0.5,
        )
        for name in there:
            assert back[name] == pytest.approx(there[name], abs=1e-10)
            assert twice[name] == pytest.approx(there[name], abs=1e-10)


def test_memory_is_that_of_tiles() -> None:
    t = np.random.default_rng(25).normal(0, 1, (4000, 4))
    labels = one_hot(np.arange(4000) % 2)
    estimate("renyi", t[:400], labels[:400])
    tracemalloc.start()
    estimate("renyi", t, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # the matrix would take 128e6


def test_too_many_samples_for_eigenvalues() -> None:
    renyi = get("renyi")
    probe = Probe.of(one_hot(np.arange(20000) % 2))
    assert renyi.resolve({}, probe) == {"alpha": 2.0, "width": None}
    with pytest.raises(ParameterError, match=r"20000 x 20000 samples, 6 GiB, .* at most 16384 samples; give alpha=2"):
        renyi.resolve({"alpha": 1.01}, probe)
    few = Probe.of(one_hot(np.arange(20000) % 2), p_x=np.where(np.arange(20000) < 100, 0.01, 0.0))
    assert renyi.resolve({"alpha": 1.01}, few)["alpha"] == 1.01


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": 0.5}, r"alpha must be a number in \(0.5, inf\) but got 0.5"),
        ({"alpha": np.inf}, "alpha must be"),
        ({"width": 0.0}, r"width must be a number in \(0, inf\) but got 0.0"),
    ],
    ids=str,
)
def test_parameters_that_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        estimate("renyi", [[0.0], [1.0]], np.eye(2), **params)
