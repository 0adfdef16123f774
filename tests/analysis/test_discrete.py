"""`discrete`, and what all estimators that count share: corrections, coverage and standard errors."""

from collections import Counter
from itertools import product
from math import log, log2, nan, sqrt
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ipstore.analysis.estimators import estimate, get
from ipstore.analysis.estimators.corrections import UNBOUNDED, Correction, entropy
from ipstore.analysis.probe import Probe
from ipstore.binning import Binning
from ipstore.errors import ActivationError, ParameterError

Array = NDArray[Any]

CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


def one_hot(y: Array) -> Array:
    return np.eye(int(y.max()) + 1)[y]


def beds() -> dict[str, tuple[dict[str, Any], float, float]]:
    """Channels of discrete values: what to call an estimator with, I(X;T) and I(T;Y)."""
    bsc = 1 + sum(p * log2(p) for p in (0.11, 0.89))
    ones = np.array(list(product((0, 1), repeat=12))).sum(axis=1)
    counts = np.bincount(ones) / 4096
    label = (ones > 6).mean()
    corners = np.repeat(np.array(list(product((-0.5, 0.5), repeat=3))), 64, axis=0)
    xs = one_hot(np.array([0, 0, 1, 1]))
    return {
        "bsc": (
            {
                "t": np.array([[-0.5], [0.5], [-0.5], [0.5]]),
                "p_y_given_x": xs,
                "x_id": [0, 0, 1, 1],
                "p_x": [0.445, 0.055, 0.055, 0.445],
            },
            bsc,
            bsc,
        ),
        "bec": (
            {
                "t": np.array([[-0.5], [0.0], [0.0], [0.5]]),
                "p_y_given_x": xs,
                "x_id": [0, 0, 1, 1],
                "p_x": [0.375, 0.125, 0.125, 0.375],
            },
            0.75,
            0.75,
        ),
        "popcount": (
            {"t": (ones[:, None] - 6) / 6, "p_y_given_x": one_hot((ones > 6).astype(int))},
            float(-np.sum(counts * np.log2(counts))),
            -sum(p * log2(p) for p in (label, 1 - label)),
        ),
        "clusters": ({"t": corners, "p_y_given_x": one_hot((corners[:, 0] > 0).astype(int))}, 3.0, 1.0),
    }


@pytest.mark.parametrize("name", ["binned", "quantised", "discrete"])
@pytest.mark.parametrize("bed", beds())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_known_truths(name: str, bed: str, dtype: type) -> None:
    given, i_xt, i_ty = beds()[bed]
    values = estimate(name, **(given | {"t": given["t"].astype(dtype)}), **get(name).truths[bed])
    assert values["I_XT"] == pytest.approx(i_xt, abs=1e-9)
    assert values["I_TY"] == pytest.approx(i_ty, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("units", [1, 3, 40])
def test_each_distinct_row_is_a_value(dtype: type, units: int) -> None:
    rng = np.random.default_rng(units)
    pool = rng.normal(0, 1, 200) if np.dtype(dtype).kind == "f" else rng.integers(0, 255, 200)
    rows: Array = rng.choice(pool, (50, units)).astype(dtype)
    t = rows[rng.integers(0, 50, (4, 300))]
    labels = one_hot(rng.integers(0, 3, 300))
    found = estimate("discrete", t, labels)
    for cell in range(4):
        _, value = np.unique(t[cell], axis=0, return_inverse=True)
        counts = np.bincount(value.ravel())
        joint = np.bincount(value.ravel() * 3 + labels.argmax(axis=1))
        h = [-np.sum(c[c > 0] / 300 * np.log2(c[c > 0] / 300)) for c in (counts, joint, labels.sum(axis=0))]
        expected = {"I_XT": h[0], "H_T": h[0], "I_TY": h[0] + h[2] - h[1], "n_cells": len(counts)}
        expected |= {"coverage": 1 - np.sum(counts == 1) / 300, "I_XT_se": nan, "I_TY_se": nan}
        assert {name: float(value[cell]) for name, value in found.items()} == pytest.approx(
            expected, abs=1e-12, nan_ok=True
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_differ_in_their_last_bit_and_zeros_do_not_in_sign(dtype: type) -> None:
    one: Array = np.array(1, dtype)
    t: Array = np.array([0.0, -0.0, one, np.nextafter(one, dtype(2)), np.nextafter(dtype(0), one)], dtype)[:, None]
    values = estimate("discrete", t, one_hot(np.array([0, 1, 0, 1, 0])))
    assert values["n_cells"] == 4


def test_activations_and_codes_that_are_missing() -> None:
    labels = one_hot(np.array([0, 1, 1]))
    t = np.array([[[3], [29], [0]], [[3], [255], [0]]], np.uint8)
    with pytest.raises(ActivationError, match=r"1 of 2 cells, first at index \(1,\)"):
        estimate("discrete", t, labels)
    assert estimate("discrete", t.astype(np.uint16), labels)["n_cells"].tolist() == [3, 3]
    for value in (np.nan, np.inf):
        with pytest.raises(ActivationError, match=r"1 of 2 cells, first at index \(1,\)"):
            estimate("discrete", np.where(t == 255, value, t.astype(np.float32)), labels)


def test_stored_codes_are_taken_as_they_are() -> None:
    discrete, probe = get("discrete"), Probe.of(np.eye(2), population=False)
    assert discrete.read_codes is not None
    wanted, table = discrete.read_codes(Binning(30, (-1.0, 1.0)), {"correction": "nsb"})
    assert table is None
    assert discrete.resolve(wanted, probe) == {"correction": "nsb"}
    assert discrete.resolve({}, probe) == {"correction": "grassberger"}
    binned = get("binned")
    assert binned.read_codes is not None
    wanted, _ = binned.read_codes(Binning(30, (-1.0, 1.0)), {"correction": "nsb", "bins": 15})
    assert binned.resolve(wanted, probe)["correction"] == "nsb"


@st.composite
def samples(draw: st.DrawFn) -> tuple[Array, Array, Array | None]:
    """Codes with repeats, labels, and inputs that are all different, repeated, or repeated with other codes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, values = draw(st.integers(2, 60)), draw(st.integers(1, 40))
    t = rng.zipf(1.5, n).clip(1, values) - 1
    y = np.concatenate([[0, 2], rng.integers(0, 3, n - 2)])
    inputs = draw(st.sampled_from(("differ", "determine", "noisy")))
    x = {"differ": None, "determine": 2 * t + rng.integers(0, 2, n), "noisy": rng.integers(0, max(1, n // 4), n)}[
        inputs
    ]
    return t, y, x


def slowly(t: Array, y: Array, x: Array | None, correction: Correction) -> dict[str, float]:
    """What `count` promises, with dictionaries and one sample at a time."""
    n = len(t)
    pairs = list(zip(t.tolist(), y.tolist(), strict=True))
    of_t, of_y, of_ty = Counter(t.tolist()), Counter(y.tolist()), Counter(pairs)
    labels = len(of_y)

    def H(counts: Counter[Any], alphabet: float) -> float:
        return entropy(list(counts.values()), correction, alphabet)

    def error(ratios: list[float], freedom: int, values: int, single: int) -> float:
        se = sqrt(np.var(ratios) / n + (freedom / 2 + values / 4) / (n * log(2)) ** 2)
        return se if single / n <= 0.15 * se and len(of_t) > 1 and correction != "chao-shen" else nan

    def once(counts: Counter[Any]) -> int:
        return sum(c == 1 for c in counts.values())

    constant = len(of_t) == 1
    found = {"n_cells": float(len(of_t)), "coverage": 1 - once(of_t) / n}
    found["H_T"] = found["I_XT"] = 0.0 if constant else H(of_t, UNBOUNDED)
    found["I_TY"] = 0.0 if constant else found["H_T"] + H(of_y, labels) - H(of_ty, UNBOUNDED * labels)
    ratios = [log2(of_ty[a, b] * n / of_t[a] / of_y[b]) for a, b in pairs]
    freedom = max(0, len(of_ty) - len(of_t) - labels + 1)
    found["I_TY_se"] = error(ratios, freedom, len(of_ty) + len(of_t) + labels, once(of_ty))
    found["I_XT_se"] = error([-log2(of_t[a] / n) for a in t.tolist()], 0, 3 * len(of_t), once(of_t))
    if x is not None:
        both = list(zip(x.tolist(), t.tolist(), strict=True))
        of_x, of_xt = Counter(x.tolist()), Counter(both)
        if len(of_xt) > len(of_x):
            inputs = len(of_x)
            if not constant:
                found["I_XT"] += H(of_x, inputs) - H(of_xt, UNBOUNDED * inputs)
            ratios = [log2(of_xt[a, b] * n / of_x[a] / of_t[b]) for a, b in both]
            freedom = max(0, len(of_xt) - len(of_t) - inputs + 1)
            found["I_XT_se"] = error(ratios, freedom, len(of_xt) + len(of_t) + inputs, once(of_xt))
    return found


@pytest.mark.parametrize("correction", CORRECTIONS[1:])
@settings(deadline=None, max_examples=40)
@given(sample=samples())
def test_equals_counting_with_dictionaries(correction: Correction, sample: tuple[Array, Array, Array | None]) -> None:
    t, y, x = sample
    found = estimate("discrete", t[:, None].astype(np.float32), one_hot(y), x, correction=correction)
    expected = slowly(t, y, x, correction)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("correction", CORRECTIONS[1:])
def test_each_cell_stands_for_itself(correction: Correction) -> None:
    rng = np.random.default_rng(4)
    t = np.tanh(rng.normal(0, 1, (5, 9, 3000, 2)) * rng.choice([0.01, 0.3, 3.0], (5, 9, 1, 1)))
    labels, x = one_hot(rng.integers(0, 3, 3000)), rng.integers(0, 700, 3000)
    together = estimate("binned", t, labels, x, correction=correction)
    for index in ((0, 0), (2, 4), (4, 8)):
        alone = estimate("binned", t[index], labels, x, correction=correction)
        for name, value in alone.items():
            np.testing.assert_array_equal(together[name][index], value)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_what_no_correction_may_change(correction: Correction) -> None:
    rng = np.random.default_rng(5)
    t = rng.integers(0, 30, (400, 1)).astype(np.uint16)
    y = t[:, 0] % 2
    labels = one_hot(y)
    H_Y = entropy(np.bincount(y), correction, 2)
    values = estimate("discrete", t, labels, correction=correction)
    # A T that determines the label; what is a function of a repeated input; a T of one value; all values once.
    assert values["I_TY"] == pytest.approx(H_Y, abs=0.01 if correction == "nsb" else 1e-12)
    repeated = estimate("discrete", t, labels, x_id=3 * t[:, 0] + rng.integers(0, 3, 400), correction=correction)
    assert repeated["I_XT"] == pytest.approx(values["H_T"], abs=1e-12)
    constant = estimate("discrete", 0 * t, labels, correction=correction)
    assert [constant[name] for name in ("I_XT", "I_TY", "H_T", "n_cells", "coverage")] == [0, 0, 0, 1, 1]
    assert np.isnan([constant["I_XT_se"], constant["I_TY_se"]]).all()
    distinct = estimate("discrete", np.arange(400)[:, None].astype(np.uint16), labels, correction=correction)
    assert distinct["coverage"] == 0
    assert distinct["n_cells"] == 400
    assert np.isnan([distinct["I_XT_se"], distinct["I_TY_se"]]).all()
    if correction != "nsb":
        assert distinct["I_TY"] == pytest.approx(H_Y, abs=1e-9)


@pytest.mark.parametrize("correction", CORRECTIONS[1:])
def test_samples_of_no_weight_are_no_samples(correction: Correction) -> None:
    rng = np.random.default_rng(6)
    t, y, x = rng.integers(0, 12, (200, 2)).astype(np.float32), rng.integers(0, 3, 200), rng.integers(0, 60, 200)
    used = rng.random(200) < 0.7
    labels = one_hot(y)
    labels[~used] = 1 / 3  # and so their labels do not matter either
    found = estimate("discrete", t, labels, x, used / used.sum(), correction=correction)
    expected = estimate("discrete", t[used], one_hot(y[used]), x[used], correction=correction)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-9)


def test_estimates_of_nothing_are_nothing_on_average() -> None:
    # 20 values that know nothing of the label: the plug-in gives 19 / 2n nats, others scatter around 0.
    rng = np.random.default_rng(7)
    t, labels = rng.integers(0, 20, (400, 300, 1)).astype(np.uint8), one_hot(np.arange(300) % 2)
    plugin = estimate("discrete", t, labels)["I_TY"].mean()
    assert plugin == pytest.approx(19 / 600 / log(2), rel=0.1)
    for correction in ("miller-madow", "grassberger", "jackknife"):
        values = estimate("discrete", t, labels, correction=correction)["I_TY"]
        assert abs(values.mean()) < 0.1 * plugin
        assert values.min() < 0


@pytest.mark.parametrize("correction", ["miller-madow", "grassberger", "jackknife", "nsb"])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 100.0])
def test_intervals_hold(correction: Correction, alpha: float) -> None:
    # Of 95% intervals of H(T), where they are given, 90% hold at least.
    rng = np.random.default_rng(8)
    p = rng.dirichlet(np.full(40, alpha))
    truth = -np.sum(p * np.log2(p))
    t = rng.choice(40, (150, 2000, 1), p=p).astype(np.float32)
    values = estimate("discrete", t, one_hot(np.arange(2000) % 2), correction=correction)
    given = np.isfinite(values["I_XT_se"])
    assert given.mean() > 0.5
    holds = abs(values["I_XT"] - truth)[given] < 1.96 * values["I_XT_se"][given]
    assert holds.mean() >= 0.9


def test_a_wide_layer_has_no_interval() -> None:
    rng = np.random.default_rng(9)
    t = np.tanh(rng.normal(0, 1, (2000, 10)))
    values = estimate("binned", t, one_hot(rng.integers(0, 2, 2000)), correction="grassberger")
    assert values["coverage"] < 0.01
    assert np.isnan([values["I_XT_se"], values["I_TY_se"]]).all()


def test_the_kernel_itself_refuses_to_count_soft_labels() -> None:
    kernel = get("discrete").kernel
    with pytest.raises(ParameterError, match="labels are soft"):
        kernel(np.zeros((2, 1), np.uint8), np.full((2, 2), 0.5), correction="grassberger")
