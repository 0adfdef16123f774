"""`quantised` against rounding to the nearest level, written out plainly, and against known numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ipstore.analysis.estimators import estimate, get
from ipstore.analysis.probe import Probe
from ipstore.errors import ActivationError, ParameterError

Array = NDArray[Any]

RANGES: tuple[Any, ...] = ("layer", "unit", (-1.0, 1.0), (-0.3, 2.0))


def one_hot(y: Array) -> Array:
    return np.eye(int(y.max()) + 1)[y]


def levels_of(t: Array, bits: int, range: Any) -> Array:
    """The nearest of 2^bits levels, the upper of two at the same distance; (sample, unit)."""
    columns = np.split(t, t.shape[1], axis=1) if range == "unit" else [t]
    numbers = []
    for column in columns:
        low, high = (float(column.min()), float(column.max())) if isinstance(range, str) else range
        levels = np.linspace(low, high, 2**bits) if low < high else np.array([low])
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, column.astype(np.float64), side="right")
        # What searchsorted says is what comparing all distances says, but for ties and rounding.
        distance = abs(column[..., None] - levels)
        found = np.take_along_axis(distance, nearest[..., None], axis=-1)[..., 0]
        np.testing.assert_allclose(found, distance.min(axis=-1), rtol=0, atol=1e-6)
        numbers.append(nearest)
    return np.concatenate(numbers, axis=1)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Array]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    samples, units = draw(st.integers(2, 30)), draw(st.sampled_from((1, 2, 9)))
    dtype = draw(st.sampled_from((np.float16, np.float32, np.float64)))
    pool = rng.normal(0, draw(st.sampled_from((0.01, 1.0, 50.0))), draw(st.integers(1, 60)))
    t = rng.choice(pool, (samples, units)).astype(dtype)
    return t, one_hot(np.concatenate([[0, 1], rng.integers(0, 2, samples - 2)]))


@pytest.mark.parametrize("range", RANGES, ids=str)
@pytest.mark.parametrize("bits", [1, 4, 8, 9])
@settings(deadline=None, max_examples=20)
@given(problem=problems())
def test_equals_the_nearest_level(bits: int, range: Any, problem: tuple[Array, Array]) -> None:
    t, labels = problem
    levels = levels_of(t, bits, range)
    found = estimate("quantised", t, labels, bits=bits, range=range)
    expected = estimate("discrete", levels.astype(np.uint32), labels)
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), abs=1e-12, nan_ok=True)


def test_both_ends_are_levels() -> None:
    # Levels 0, 1, 2 and 3; halfway goes up; beyond the ends saturates.
    t = np.array([-9, 0, 0.49, 0.5, 1.49, 1.5, 2.49, 2.5, 3.0, 9.0])[:, None]
    labels = one_hot(np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 3]))
    values = estimate("quantised", t, labels, bits=2, range=(0, 3))
    assert values["n_cells"] == 4
    assert values["I_TY"] == pytest.approx(float(values["H_T"]))
    # The layer's own range is 0 to 3 where nothing lies beyond.
    inside = estimate("quantised", t[1:9], labels[1:9], bits=2)
    assert inside["n_cells"] == 4
    assert inside["I_TY"] == pytest.approx(float(inside["H_T"]))


def test_ranges_of_layer_and_unit() -> None:
    t = np.stack([np.arange(10.0), 10 * np.arange(10.0)], axis=1)
    labels = one_hot(np.arange(10) % 2)
    for range, cells in (("layer", 2), ("unit", 2), ((0, 9), 3)):
        values = estimate("quantised", t, labels, bits=1, range=range)
        # By layer the first unit never reaches 45; between 0 and 9 the second unit parts 0 from the rest.
        assert values["n_cells"] == cells, range


def test_scale_and_shift_do_not_matter_in_a_range_of_its_own() -> None:
    rng = np.random.default_rng(0)
    t, labels = rng.normal(0, 1, (3, 200, 4)), one_hot(rng.integers(0, 2, 200))
    for range in ("layer", "unit"):
        there = estimate("quantised", t, labels, bits=3, range=range)["I_TY"]
        np.testing.assert_array_equal(estimate("quantised", 8 * t, labels, bits=3, range=range)["I_TY"], there)
    t[1] = 0.1
    assert estimate("quantised", t, labels)["H_T"][1] == 0


def test_without_bits_the_floats_are_as_they_are() -> None:
    rng = np.random.default_rng(1)
    for dtype in (np.float16, np.float32, np.float64):
        t = rng.choice(rng.normal(0, 1e-3, 40), (2, 300, 3)).astype(dtype)
        labels = one_hot(rng.integers(0, 2, 300))
        found, expected = estimate("quantised", t, labels, bits=None), estimate("discrete", t, labels)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_more_bits_tell_more() -> None:
    rng = np.random.default_rng(2)
    t = rng.normal(0, 1, (1000, 1))
    labels = one_hot((t[:, 0] + rng.normal(0, 1, 1000) > 0).astype(int))
    H = [estimate("quantised", t, labels, bits=bits, range=(-4, 4))["H_T"] for bits in range(1, 17)]
    assert np.all(np.diff(H) > 0)
    assert H[0] == pytest.approx(1, abs=0.01)


def test_parameters() -> None:
    quantised, probe = get("quantised"), Probe.of(np.eye(2))
    assert quantised.resolve({}, probe) == {"bits": 8, "range": "layer", "correction": "plugin"}
    assert quantised.resolve({"bits": None}, probe) == {"bits": None, "range": None, "correction": "plugin"}
    assert quantised.resolve({"range": [0, 1]}, Probe.of(np.eye(2), population=False)) == {
        "bits": 8,
        "range": (0.0, 1.0),
        "correction": "grassberger",
    }


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"bits": 0}, r"bits must be an integer in \[1, 16\] but got 0"),
        ({"bits": 17}, "but got 17"),
        ({"bits": None, "range": "layer"}, "no range to round over"),
        ({"range": (1, 0)}, "range must be two finite numbers"),
    ],
    ids=str,
)
def test_parameters_that_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        estimate("quantised", [[0.0], [1.0]], np.eye(2), **params)


@pytest.mark.parametrize("params", [{}, {"range": "unit"}, {"range": (0, 1)}, {"bits": None}, {"bits": 12}], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite(params: dict[str, Any], value: float) -> None:
    t = np.random.default_rng(3).uniform(0, 1, (2, 3, 20, 2)).astype(np.float32)
    whole = estimate("quantised", t, one_hot(np.arange(20) % 2), **params)
    t[1, 2, 7, 1] = value
    with pytest.raises(ActivationError, match=r"1 of 6 cells, first at index \(1, 2\)"):
        estimate("quantised", t, one_hot(np.arange(20) % 2), **params)
    quantised, probe = get("quantised"), Probe.of(one_hot(np.arange(20) % 2))
    others = quantised.apply(t, probe.arguments, quantised.resolve(params, probe))
    np.testing.assert_array_equal(others["I_TY"].ravel()[:5], whole["I_TY"].ravel()[:5])


def test_codes_of_bins_are_no_activations() -> None:
    with pytest.raises(ActivationError, match="needs activations but got codes"):
        estimate("quantised", np.zeros((2, 1), np.uint8), np.eye(2))
