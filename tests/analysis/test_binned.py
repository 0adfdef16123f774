"""`binned` against a plain implementation with numpy.digitize and dictionaries, and against known numbers."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from itertools import product
from math import log2, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ipstore.analysis.estimators import estimate
from ipstore.errors import ActivationError, ParameterError

Array = NDArray[Any]

# (I(X;T), I(T;Y)) of each layer in bits as the code released with Shwartz-Ziv & Tishby 2017 computes them, on
# `golden_layers` with the hard labels of the rule, by gain.
GOLDEN = {
    1: (
        (10.998027789608532, 0.588069760360213),
        (4.494634463911047, 0.04427416605550771),
        (0.4071044803003101, 0.0011777350434560852),
        (0.5037989849963405, 0.0026870462057875244),
        (0.5039090326727599, 0.003592419852815776),
        (0.0, 0.0),
    ),
    3: (
        (11.368993895740019, 0.7245934183400209),
        (7.30020738046977, 0.10650432787418751),
        (4.531703192589515, 0.014906760813224729),
        (4.088639375872136, 0.01183074020411734),
        (3.2290689716943675, 0.010964240884990595),
        (2.763478835174621, 0.008089532022848456),
    ),
    30: (
        (8.997212706638438, 0.3884936051952632),
        (7.538344249107843, 0.2265092034845555),
        (5.909359416329819, 0.11748254373644951),
        (4.30713690816636, 0.04768938559475),
        (3.09751761384641, 0.017044322263247036),
        (1.2842318540750624, 0.010675531525701443),
    ),
}

PATTERNS = np.array(list(product((0.0, 1.0), repeat=12)))


def one_hot(y: Array) -> Array:
    return np.eye(int(y.max()) + 1)[y]


def rule_labels() -> Array:
    """Norms of the spherical harmonics l = 0 and 1 of subsets of an icosahedron's vertices, thresholded."""
    phi = (1 + 5**0.5) / 2
    first = [(0, 1, phi), (1, phi, 0), (0, 1, -phi), (-1, phi, 0), (phi, 0, -1), (0, -1, phi)]
    last = [(1, -phi, 0), (-1, -phi, 0), (-phi, 0, -1), (0, -1, -phi), (-phi, 0, 1), (phi, 0, 1)]
    vertices = np.array([*first, *last]) / np.hypot(1, phi)
    labels: Array = (PATTERNS.sum(axis=1) + np.linalg.norm(PATTERNS @ vertices, axis=1) > 7.632).astype(int)
    return labels


def golden_layers(gain: int) -> Iterable[Array]:
    h = PATTERNS
    for layer, (a, b) in enumerate(zip((12, 10, 7, 5, 4, 3), (10, 7, 5, 4, 3, 2), strict=True)):
        i, j = np.arange(1, a + 1)[:, None], np.arange(1, b + 1)
        weights = gain * np.sin(12.9898 * i + 78.233 * j + 37.719 * (layer + 1)) / np.sqrt(a)
        h = np.tanh(h @ weights + 0.1 * np.cos(j + layer + 1))
        yield h.astype(np.float32)


def codes_of(
    t: Array, p_x: Array, bins: int = 30, range: Any = (-1, 1), width: Any = None, rule: str = "equal"
) -> Array:
    """Bin the activations of one cell (sample, unit) as plainly as can be."""
    if width is not None:
        return np.asarray(np.floor_divide(t.astype(np.float64), width))
    if rule == "idnns":
        low, high = range
        edges = np.linspace(low, high, bins).astype(np.float32)
        return np.asarray(edges[np.digitize(t, edges) - 1])
    range = "layer" if rule == "entropy" and range == (-1, 1) else range
    columns = [t] if range == "layer" else np.split(t, t.shape[1], axis=1)
    codes = []
    for column in columns:
        if rule == "entropy":
            values, rank = np.unique(column, return_inverse=True)
            codes.append(rank.reshape(column.shape) * bins // len(values))
        elif rule == "quantile":
            values = np.unique(column)
            below = [np.sum(p_x[:, None] * (column <= value)) / column.shape[1] for value in values]
            reached = np.searchsorted(below, np.arange(1, bins) / bins - 1e-12)
            edges = values[np.minimum(reached, len(values) - 1)]
            codes.append(np.searchsorted(edges, column, side="left"))
        else:
            low, high = (float(column.min()), float(column.max())) if isinstance(range, str) else range
            inner: Array = np.linspace(low, high, bins + 1)[1:-1] if low < high else np.empty(0)
            codes.append(np.digitize(column, inner))
    return np.concatenate(codes, axis=1)


def plug_in(codes: Array, p_y_given_x: Array, x_id: Array | None, p_x: Array) -> dict[str, float]:
    """Information of rows of codes, with dictionaries."""

    def entropy(masses: Iterable[tuple[Hashable, float]]) -> float:
        total: dict[Hashable, float] = defaultdict(float)
        for key, mass in masses:
            total[key] += mass
        return -sum(p * log2(p) for p in total.values() if p > 0)

    rows = [
        (tuple(row), n if x_id is None else x_id[n], p, q)
        for n, (row, p, q) in enumerate(zip(codes, p_x, p_y_given_x, strict=True))
        if p > 0
    ]
    h_t = entropy((t, p) for t, _, p, _ in rows)
    h_x = entropy((x, p) for _, x, p, _ in rows)
    h_y = entropy((y, p * q) for _, _, p, qs in rows for y, q in enumerate(qs))
    h_tx = entropy(((t, x), p) for t, x, p, _ in rows)
    h_ty = entropy(((t, y), p * q) for t, _, p, qs in rows for y, q in enumerate(qs))
    return {
        "I_XT": h_t + h_x - h_tx,
        "I_TY": h_t + h_y - h_ty,
        "H_T": h_t,
        "n_cells": len({t for t, *_ in rows}),
        "coverage": sum(p for t, _, p, _ in rows if sum(t == other for other, *_ in rows) > 1),
        "I_XT_se": nan,
        "I_TY_se": nan,
    }


RULES: tuple[dict[str, Any], ...] = (
    {},
    {"bins": 1},
    {"bins": 7, "range": (-0.5, 2.0)},
    {"bins": 300},
    {"range": "layer"},
    {"bins": 5, "range": "unit"},
    {"rule": "idnns"},
    {"rule": "idnns", "bins": 255, "range": (-0.75, 0.5)},
    {"rule": "quantile", "bins": 4, "range": "unit"},
    {"rule": "quantile", "bins": 6, "range": "layer"},
    {"rule": "entropy", "bins": 5},
    {"rule": "entropy", "bins": 3, "range": "unit"},
    {"rule": "entropy", "bins": 300},
    {"width": 0.1},
    {"width": 1 / 15},
)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Array, Array | None, Array | None]:
    """Activations full of ties and of values at the edges; labels, inputs and weights of every kind."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    samples, units = draw(st.integers(2, 40)), draw(st.sampled_from((1, 2, 5, 13, 30)))
    dtype = draw(st.sampled_from((np.float16, np.float32, np.float64)))
    edges = np.concatenate([np.linspace(-1, 1, 31), np.linspace(-1, 1, 30), 0.1 * np.arange(-25, 25), [0.0, -3.0, 5.0]])
    edges = np.concatenate([edges, np.nextafter(edges, -9), np.nextafter(edges, 9), rng.normal(0, 1, 100)])
    pool = rng.choice(edges, draw(st.integers(1, 60)))
    t = rng.choice(pool, (samples, units)).astype(dtype)
    classes = draw(st.integers(2, 4))
    p_y_given_x = one_hot(np.concatenate([[0, classes - 1], rng.integers(0, classes, samples - 2)]))
    if draw(st.booleans()):
        p_y_given_x = rng.dirichlet(np.ones(classes), samples)
        p_y_given_x[rng.random(samples) < 0.2] = np.eye(classes)[0]
        p_y_given_x[0] = 1 / classes
    x_id = rng.integers(0, samples, samples) if draw(st.booleans()) else None
    p_x = None
    if draw(st.booleans()):
        p_x = rng.dirichlet(np.ones(samples)) * (np.arange(samples) < max(2, samples - draw(st.integers(0, 3))))
        p_x /= p_x.sum()
    return t, p_y_given_x, x_id, p_x


@pytest.mark.parametrize("gain", GOLDEN)
def test_idnns_gives_what_the_released_code_gives(gain: int) -> None:
    labels = one_hot(rule_labels())
    for t, (i_xt, i_ty) in zip(golden_layers(gain), GOLDEN[gain], strict=True):
        values = estimate("binned", t, labels, rule="idnns")
        assert values["I_XT"] == pytest.approx(i_xt, abs=1e-9)
        assert values["I_TY"] == pytest.approx(i_ty, abs=1e-9)


@pytest.mark.parametrize("params", RULES, ids=str)
@settings(deadline=None, max_examples=50)
@given(problem=problems())
def test_equals_digitise_and_count(
    params: dict[str, Any], problem: tuple[Array, Array, Array | None, Array | None]
) -> None:
    t, p_y_given_x, x_id, p_x = problem
    weights = np.full(len(t), 1 / len(t)) if p_x is None else p_x
    codes = codes_of(t[weights > 0], weights[weights > 0], **params)
    x = None if x_id is None else x_id[weights > 0]
    expected = plug_in(codes, p_y_given_x[weights > 0], x, weights[weights > 0])
    found = estimate("binned", t, p_y_given_x, x_id, p_x, **params)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_number_of_ones_of_all_patterns() -> None:
    values = estimate(
        "binned", PATTERNS.sum(axis=1, keepdims=True), one_hot(rule_labels()), bins=13, range=(-0.5, 12.5)
    )
    assert values["I_XT"] == pytest.approx(2.838528744, abs=1e-9)
    assert values["n_cells"] == 13


def test_binary_symmetric_channel() -> None:
    # Once in the labels, once between input and layer: 1 - H(0.11) bits.
    labels = estimate("binned", [[-1.0], [1.0]], [[0.89, 0.11], [0.11, 0.89]])
    assert (labels["I_XT"], labels["I_TY"]) == pytest.approx((1.0, 0.500084042), abs=1e-9)
    layer = estimate(
        "binned",
        [[-1.0], [1.0], [-1.0], [1.0]],
        [[1, 0], [1, 0], [0, 1], [0, 1]],
        x_id=["a", "a", "b", "b"],
        p_x=[0.445, 0.055, 0.055, 0.445],
    )
    assert (layer["I_XT"], layer["I_TY"], layer["H_T"]) == pytest.approx((0.500084042, 0.500084042, 1.0), abs=1e-9)


def test_binary_erasure_channel() -> None:
    t = [[-1.0], [0.0], [0.0], [1.0]]
    values = estimate("binned", t, one_hot(np.array([0, 0, 1, 1])), [0, 0, 1, 1], [0.375, 0.125, 0.125, 0.375])
    assert (values["I_XT"], values["I_TY"]) == pytest.approx((0.75, 0.75), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_each_cell_stands_for_itself(dtype: type) -> None:
    # Many more cells than one batch, wide and narrow ones in turn, so that a table left dirty would show.
    rng = np.random.default_rng(1)
    t = np.tanh(rng.normal(0, 1, (9, 40, 2000, 2)) * rng.choice([0.01, 0.3, 3.0], (9, 40, 1, 1))).astype(np.float32)
    cells = t if dtype == np.float32 else np.digitize(t, np.linspace(-1, 1, 31)[1:-1]).astype(np.uint8)
    labels = one_hot(rng.integers(0, 3, 2000))
    together = estimate("binned", cells, labels)
    for name, value in together.items():
        assert value.shape == (9, 40)
        assert value.dtype == np.float64
        alone = [estimate("binned", cells[index], labels)[name] for index in np.ndindex(9, 40)]
        np.testing.assert_array_equal(value.ravel(), alone)
    np.testing.assert_allclose(together["H_T"], estimate("binned", t, labels)["H_T"], rtol=0, atol=0)


def test_order_of_samples_and_units_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    t = np.tanh(rng.normal(0, 1, (5, 500, 3))).astype(np.float32)
    labels, x_id, p_x = rng.dirichlet([1, 1], 500), rng.integers(0, 400, 500), rng.dirichlet(np.ones(500))
    samples, units = rng.permutation(500), rng.permutation(3)
    there = estimate("binned", t, labels, x_id, p_x)
    back = estimate("binned", t[:, samples][..., units], labels[samples], x_id[samples], p_x[samples])
    for name in there:
        np.testing.assert_allclose(back[name], there[name], rtol=0, atol=1e-11)


def test_a_sample_split_in_two_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    t, labels, p_x = rng.normal(0, 1, (60, 2)), rng.dirichlet([1, 1, 1], 60), rng.dirichlet(np.ones(60))
    for params in RULES:
        whole = estimate("binned", t, labels, np.arange(60), p_x, **params)
        twice = estimate(
            "binned",
            np.tile(t, (2, 1)),
            np.tile(labels, (2, 1)),
            np.tile(np.arange(60), 2),
            np.tile(p_x, 2) / 2,
            **params,
        )
        for name in ("I_XT", "I_TY", "H_T", "n_cells"):
            assert twice[name] == pytest.approx(whole[name], abs=1e-12), (params, name)


@pytest.mark.parametrize("units", [12, 13, 64, 1024])
def test_wide_rows_that_differ_in_one_unit_are_told_apart(units: int) -> None:
    rng = np.random.default_rng(units)
    t = np.repeat(rng.integers(0, 30, (1, units)), 4000, axis=0).astype(np.uint8)
    rows = np.arange(4000)
    t[rows, rows % units] = (rows // units + t[0][rows % units]) % 30
    t[2000:] = t[rng.integers(0, 2000, 2000)]
    values = estimate("binned", t, one_hot(rng.integers(0, 2, 4000)))
    distinct, counts = np.unique(t, axis=0, return_counts=True)
    assert values["n_cells"] == len(distinct)
    assert values["H_T"] == pytest.approx(-np.sum(counts / 4000 * np.log2(counts / 4000)), abs=1e-11)


def test_memory_layout_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    t = rng.uniform(-1, 1, (4, 300, 6)).astype(np.float32)
    labels = one_hot(rng.integers(0, 2, 300))
    expected = estimate("binned", t, labels)["I_TY"]
    frozen = t.copy()
    frozen.flags.writeable = False
    for same in (
        frozen,
        np.asfortranarray(t),
        np.repeat(t, 2, axis=1)[:, ::2],
        t.transpose(2, 0, 1).copy().transpose(1, 2, 0),
    ):
        np.testing.assert_array_equal(estimate("binned", same, labels)["I_TY"], expected)
    half = t.astype(np.float16)
    np.testing.assert_array_equal(
        estimate("binned", half, labels)["I_TY"], estimate("binned", half.astype(np.float64), labels)["I_TY"]
    )


def test_ranges_follow_the_activations() -> None:
    rng = np.random.default_rng(5)
    t = np.maximum(rng.normal(0, 1, (3, 400, 4)), 0).astype(np.float32)
    labels = one_hot(rng.integers(0, 2, 400))
    adaptive: list[dict[str, Any]] = [{"range": "layer"}, {"range": "unit"}, {"rule": "quantile"}, {"rule": "entropy"}]
    for params in adaptive:
        np.testing.assert_array_equal(
            estimate("binned", t, labels, **params)["I_XT"],
            estimate("binned", 8 * t, labels, **params)["I_XT"],
        )
    t[1] = 0.7
    for params in RULES:
        assert estimate("binned", t, labels, **params)["H_T"][1] == 0


def test_ranges_and_rules_take_the_edges_that_they_say() -> None:
    # Two units, 0 .. 9 and 10 times that: edges by layer lie 45 apart with two bins, by unit 4.5 and 45.
    unit = np.arange(10.0)
    t = np.stack([unit, 10 * unit], axis=1)
    labels = one_hot(np.arange(10) % 2)

    def cells(**params: Any) -> float:
        return float(estimate("binned", t, labels, bins=2, **params)["n_cells"])

    assert cells(range="layer") == 2  # the first unit never reaches 45
    assert cells(range="unit") == 2  # both change between samples 4 and 5
    skewed = np.concatenate([np.zeros((90, 1)), np.arange(1, 11)[:, None] / 10.0])
    halves = one_hot(np.arange(100) % 2)
    equal = estimate("binned", skewed, halves, bins=2, range="layer")
    quantile = estimate("binned", skewed, halves, bins=2, rule="quantile")
    adaptive = estimate("binned", skewed, halves, bins=2, rule="entropy")
    # Eleven values, 0 (90 times), .1, ..., 1: equal bins part at .5, quantiles at 0, and ranks after .5.
    h = [-sum(p * log2(p) for p in (n / 100, 1 - n / 100)) for n in (94, 90, 95)]
    assert [float(values["H_T"]) for values in (equal, quantile, adaptive)] == pytest.approx(h)


def test_weights_move_quantiles_but_not_distinct_values() -> None:
    t = np.arange(8.0)[:, None]
    labels, p_x = one_hot(np.arange(8) % 2), np.array([0.65] + [0.05] * 7)
    quantile = estimate("binned", t, labels, None, p_x, bins=2, rule="quantile")
    adaptive = estimate("binned", t, labels, None, p_x, bins=2, rule="entropy")
    expected = [-sum(p * log2(p) for p in (first, 1 - first)) for first in (0.65, 0.8)]
    assert [quantile["H_T"], adaptive["H_T"]] == pytest.approx(expected)
    # A sample of no weight has no value either.
    none = estimate("binned", t, labels, None, np.array([0, 0, 0, 0, 0.25, 0.25, 0.25, 0.25]), bins=4, rule="entropy")
    assert none["n_cells"] == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("params", RULES, ids=str)
def test_activations_that_are_not_finite(params: dict[str, Any], value: float) -> None:
    rng = np.random.default_rng(6)
    t = rng.uniform(-1, 1, (2, 3, 50, 2)).astype(np.float32)
    t[1, 2, 7, 1] = value
    labels = one_hot(rng.integers(0, 2, 50))
    if params.get("rule") == "idnns":
        top = t.copy()
        top[1, 2, 7, 1] = params.get("range", (-1, 1))[1]
        np.testing.assert_array_equal(
            estimate("binned", t, labels, **params)["I_XT"], estimate("binned", top, labels, **params)["I_XT"]
        )
    else:
        with pytest.raises(ActivationError, match=r"1 of 6 cells, first at index \(1, 2\)"):
            estimate("binned", t, labels, **params)


def test_codes_that_are_missing_or_too_large() -> None:
    labels = one_hot(np.array([0, 1, 1]))
    codes = np.array([[[3], [29], [0]], [[3], [255], [0]]], np.uint8)
    assert estimate("binned", codes[0], labels)["n_cells"] == 3
    with pytest.raises(ActivationError, match=r"1 of 2 cells, first at index \(1,\)"):
        estimate("binned", codes, labels)
    with pytest.raises(ParameterError, match="codes up to 29 but bins is 20"):
        estimate("binned", codes[0], labels, bins=20)
    assert estimate("binned", codes[0].astype(np.uint16) + 1000, labels, bins=2000)["n_cells"] == 3
    for params in ({"width": 0.1}, {"range": "layer"}, {"rule": "quantile"}, {"rule": "entropy"}):
        with pytest.raises(ParameterError, match="cannot be binned again"):
            estimate("binned", codes[0], labels, **params)


def test_a_width_of_too_many_bins_is_refused() -> None:
    with pytest.raises(ActivationError):
        estimate("binned", [[0.0], [1.0]], np.eye(2), width=1e-10)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"bins": 0}, r"bins must be an integer in \[1, 65535\] but got 0"),
        ({"bins": 2.5}, "bins must be an integer"),
        ({"width": 0.0}, r"width must be a number in \(0, inf\) but got 0.0"),
        ({"width": np.nan}, "width must be a number"),
        ({"range": (1.0, -1.0)}, "range must be two finite numbers, low < high"),
        ({"range": (0.0, np.inf)}, "range must be two finite numbers"),
        ({"range": "cell"}, "'layer' or 'unit' but got 'cell'"),
        ({"rule": "round"}, "rule must be one of 'equal', 'idnns', 'quantile', 'entropy' but got 'round'"),
        ({"width": 0.1, "bins": 30}, "neither bins"),
        ({"width": 0.1, "range": (-1, 1)}, "nor range"),
        ({"width": 0.1, "rule": "idnns"}, "nor rule 'idnns'"),
        ({"rule": "quantile", "range": (-1, 1)}, "'quantile' finds its own edges"),
        ({"rule": "entropy", "range": (-1, 1)}, "'entropy' finds its own edges, so range must be 'layer' or 'unit'"),
        ({"rule": "idnns", "range": "unit"}, "'idnns' needs two edges"),
        ({"rule": "idnns", "bins": 1}, "'idnns' needs two edges"),
        ({"colour": 3}, "no parameter 'colour'; it has bins, range, width, rule, correction"),
    ],
    ids=str,
)
def test_parameters_that_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        estimate("binned", [[0.0], [1.0]], np.eye(2), **params)
