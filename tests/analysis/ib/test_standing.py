"""How far from the curves a layer lies: against closed forms, and the bounds that distances are taken to."""

from math import log2
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq

from ipstore.analysis.ib import (
    Curves,
    best_quantiser,
    bounds,
    curve,
    curve_of,
    deterministic_bounds,
    deterministic_curve,
    joint,
    self_consistency,
)
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError
from ipstore.trainers.tasks import load

TOL = 1e-4
NOISE = 0.1
BSC = joint(None, [[1 - NOISE, NOISE], [NOISE, 1 - NOISE]])

DISTANCES = ("IB_distance_I_TY", "IB_distance_I_XT", "deterministic_distance_I_TY", "deterministic_distance_H_T")


def entropy(p: float) -> float:
    """Of a coin, in bits."""
    return -p * log2(p) - (1 - p) * log2(1 - p) if 0 < p < 1 else 0.0


def through(flipped: float) -> tuple[float, float]:
    """I(X;T) and I(T;Y) of the T that is X with so many flipped: the IB curve of BSC, by Mrs. Gerber's lemma."""
    return 1 - entropy(flipped), 1 - entropy(flipped * (1 - NOISE) + (1 - flipped) * NOISE)


def most(I_XT: float) -> float:
    """I(T;Y) of the curve at I(X;T)."""
    return through(brentq(lambda d: through(d)[0] - I_XT, 0, 0.5, xtol=1e-16))[1]


def least(I_TY: float) -> float:
    """I(X;T) of the curve at I(T;Y)."""
    return through(brentq(lambda d: through(d)[1] - I_TY, 0, 0.5, xtol=1e-16))[0]


def flipping(flipped: float) -> tuple[NDArray[np.int64], Probe]:
    """That T: a value for each sample, and the joint distribution of the samples, of which two share an input."""
    x, t = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    weights = np.where(x == t, 1 - flipped, flipped) / 2
    return t, Probe.of(BSC.p_y_given_x[x], x, weights)


def random_layer(seed: int, classes: int) -> tuple[NDArray[np.int64], Probe]:
    """A hard T, or a soft one of inputs that are repeated."""
    rng = np.random.default_rng(seed)
    inputs, samples = int(rng.integers(3, 9)), 30
    rows = rng.dirichlet(np.full(classes, rng.choice([0.2, 1.0, 5.0])), inputs)
    x = np.r_[:inputs, rng.integers(0, inputs, samples - inputs)]
    values = rng.integers(0, int(rng.integers(2, 8)), samples)
    soft = bool(rng.integers(0, 2))
    return values if soft else values[x], Probe.of(rows[x], x, rng.dirichlet(np.ones(samples)))


# The distances of a binary symmetric channel ----------------------------------


def test_they_are_those_of_the_closed_form_and_what_the_tolerance_leaves() -> None:
    curves = Curves.of(BSC, TOL)
    for I_XT in (0.05, 0.3, 0.696432729, 0.95, 1.0):
        for I_TY in (0.2 * most(I_XT), 0.9 * most(I_XT), most(I_XT)):
            below, right, *_ = curves.distances(np.array(I_XT), np.array(I_TY), np.array(I_XT))
            assert -1e-12 <= below - (most(I_XT) - I_TY) <= TOL
            # `TOL` bits higher the curve is that much farther to the right, and no more is left.
            assert -1e-9 <= right - (I_XT - least(I_TY)) <= least(I_TY) - least(max(0.0, I_TY - TOL)) + 1e-9


def test_they_are_taken_to_the_bounds_that_nothing_passes() -> None:
    curves = Curves.of(BSC, 1e-2)
    rng = np.random.default_rng(0)
    I_XT, H_T = rng.uniform(0, 1, (2, 4, 5))
    I_TY = I_XT * rng.uniform(0, 1 - entropy(NOISE), I_XT.shape)
    below, right, below_hard, right_hard = curves.distances(I_XT, I_TY, H_T)
    np.testing.assert_allclose(below, bounds(curves.bottleneck, I_XT)["I_TY_upper"] - I_TY, rtol=0, atol=0)
    np.testing.assert_allclose(right, I_XT - bounds(curves.bottleneck, I_TY=I_TY)["I_XT_lower"], rtol=0, atol=0)
    upper = deterministic_bounds(curves.deterministic, H_T=H_T)["I_TY_upper"]
    lower = deterministic_bounds(curves.deterministic, I_TY=I_TY)["H_T_lower"]
    np.testing.assert_array_equal(below_hard, np.maximum(upper - I_TY, 0))
    np.testing.assert_array_equal(right_hard, np.maximum(H_T - lower, 0))


def test_a_deterministic_T_of_two_inputs_is_one_of_two() -> None:
    # Only the constant and X itself are functions of X: the envelope is the straight line between them.
    whole = 1 - entropy(NOISE)
    H_T = np.array([0.0, 0.25, 0.5, 1.0, 3.0])
    I_TY = np.array([0.0, 0.1, 0.2, whole, whole])
    *_, below, right = Curves.of(BSC, TOL).distances(H_T, I_TY, H_T)
    np.testing.assert_allclose(below, np.minimum(H_T, 1) * whole - I_TY, atol=1e-12)
    np.testing.assert_allclose(right, H_T - I_TY / whole, atol=1e-12)


def test_nothing_known_is_no_distance() -> None:
    nothing = np.array([np.nan, 0.5])
    found = Curves.of(BSC, TOL).distances(nothing, nothing / 2, nothing)
    assert np.isnan(found[:, 0]).all()
    assert (found[:, 1] >= 0).all()


def test_an_I_TY_above_I_XY_by_rounding_is_I_XY() -> None:
    curves, whole = Curves.of(BSC, TOL), 1 - entropy(NOISE)
    exact, above = (curves.distances(*np.array([1.0, I_TY, 1.0])) for I_TY in (whole, whole + 1e-15))
    np.testing.assert_allclose(above, exact, atol=1e-12)
    assert (above >= 0).all()


# A T that is optimal, and known ones that are not -----------------------------


@pytest.mark.parametrize("flipped", [0.4, 0.25, 0.1, 0.05])
def test_an_optimal_T_is_at_the_bound(flipped: float) -> None:
    t, probe = flipping(flipped)
    found = self_consistency(t, probe, tol=TOL)
    I_XT, I_TY = through(flipped)
    assert found["I_XT"] == pytest.approx(I_XT, abs=1e-12)
    assert found["I_TY"] == pytest.approx(I_TY, abs=1e-12)
    assert 0 <= found["IB_distance_I_TY"] <= TOL
    assert found["at_bound"] == 1
    assert found["residual"] == pytest.approx(0, abs=1e-12)
    # Its beta is the reciprocal of the curve's slope; both entropies are symmetric, so a difference tells it.
    high, low = through(flipped + 1e-5), through(flipped - 1e-5)
    assert found["beta"] == pytest.approx((high[0] - low[0]) / (high[1] - low[1]), rel=1e-6)
    # As for a T that is a function of X, it spends a bit where X itself would say more.
    assert found["H_T"] == pytest.approx(1)
    assert found["deterministic_distance_I_TY"] == pytest.approx(1 - entropy(NOISE) - I_TY, abs=1e-12)


def test_what_is_near_enough_to_be_at_the_bound_can_be_chosen() -> None:
    t, probe = flipping(0.1)
    away = float(self_consistency(t, probe, tol=TOL)["IB_distance_I_XT"])
    assert away > 0  # of a tolerance of 1e-4 bits something is left
    assert self_consistency(t, probe, tol=TOL, within=away)["at_bound"] == 1
    assert self_consistency(t, probe, tol=TOL, within=away / 2)["at_bound"] == 0


def test_layers_of_the_rule() -> None:
    task = load("rule", information=0.99)
    probe = joint(None, task.p_y_given_x)
    ones = np.asarray(task.x).astype(np.int64).sum(axis=1)
    quantised = {k: best_quantiser(probe, k)["cluster"].values for k in (2, 3, 4)}
    everything = np.arange(4096)
    found = self_consistency(np.stack([ones, everything, *quantised.values()]), probe)
    below, right, below_hard, right_hard = (found[name].values for name in DISTANCES)
    np.testing.assert_allclose(found["I_TY"].values[2:], [0.98484116, 0.98835672, 0.98995561], atol=1e-8)
    # The best of two values is a corner of what functions of X can have.
    assert below_hard[2] == pytest.approx(0, abs=1e-6)
    assert right_hard[2] == pytest.approx(0, abs=1e-4)
    # All inputs apart touch the curve from below and lie far to its right, of 12 bits 5.35 at most being needed.
    assert below[1] == pytest.approx(0, abs=TOL)
    assert right[1] >= 12 - 5.347023129796223
    assert right_hard[1] >= 12 - 5.347023129796223
    assert found["at_bound"].values.tolist()[:2] == [0, 0]
    assert below[0] == pytest.approx(0.99 - 0.62848242, abs=TOL)
    assert (found["residual"] <= right + 1e-9).all()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.integers(2, 3))
def test_the_residual_is_no_more_than_the_horizontal_distance(seed: int, classes: int) -> None:
    found = self_consistency(*random_layer(seed, classes), tol=1e-3)
    assert 0 <= found["residual"] <= found["IB_distance_I_XT"] + 1e-9
    assert found["IB_distance_I_XT"] <= found["I_XT"]
    assert all(found[name] >= 0 for name in DISTANCES)
    assert found["at_bound"] == (found["IB_distance_I_XT"] <= 0.01)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32))
def test_no_function_of_X_passes_the_curve_of_those(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probe = joint(rng.dirichlet(np.ones(12)), rng.dirichlet([1, 1], 12))
    found = self_consistency(rng.integers(0, 5, (6, 12)), probe, tol=1e-3)
    hard = deterministic_bounds(deterministic_curve(probe), H_T=found["H_T"])["I_TY_upper"]
    assert (found["I_TY"] <= hard + 1e-9).all()
    np.testing.assert_allclose(found["deterministic_distance_I_TY"], np.maximum(hard - found["I_TY"], 0), atol=1e-9)
    # What a function of X cannot have is never more than what any T can.
    assert (found["deterministic_distance_I_TY"] <= found["IB_distance_I_TY"] + 1e-5).all()


# Curves that go with the distances --------------------------------------------


def test_the_curves_stand_beside_the_distances_and_are_taken_out_again() -> None:
    t, probe = flipping(0.2)
    found = self_consistency(t, probe, tol=1e-3)
    expected, hard = curve(probe, 1e-3), deterministic_curve(probe)
    for name in ("I_XT", "I_TY", "beta", "gap"):
        xr.testing.assert_identical(found[f"curve_{name}"].rename(name), expected[name])
    for name in ("H_T", "I_TY"):
        xr.testing.assert_identical(found[f"deterministic_{name}"].rename(name), hard[name])
    assert found.attrs["onset_beta"] == expected.attrs["onset_beta"]
    assert found.attrs["curve_error"] == expected.attrs["error"] <= 1e-3
    assert found.attrs["certificate"] == "rigorous"

    taken = curve_of(found)
    assert taken.attrs == {name: expected.attrs[name] for name in taken.attrs} | {"H_Y": pytest.approx(1, abs=1e-12)}
    assert {"error", "onset_beta", "certificate", "I_XY", "labels", "units"} <= taken.attrs.keys()
    grid = np.linspace(0, 1, 7)
    xr.testing.assert_identical(bounds(taken, grid), bounds(expected, grid))
    I_TY = np.linspace(0, 0.5, 7)
    xr.testing.assert_identical(bounds(taken, I_TY=I_TY), bounds(expected, I_TY=I_TY))


def test_the_curve_of_three_classes_is_what_a_search_found() -> None:
    t, probe = random_layer(1, 3)
    found = self_consistency(t, probe, tol=1e-3)
    assert found.attrs["certificate"] == curve_of(found).attrs["certificate"] == "heuristic"


def test_without_a_tolerance_there_is_no_curve_and_no_distance() -> None:
    t, probe = flipping(0.2)
    found, whole = self_consistency(t, probe, tol=None), self_consistency(t, probe)
    for name in (*DISTANCES, "at_bound"):
        assert np.isnan(found[name])
    assert set(whole) - set(found) == {
        *(f"curve_{name}" for name in ("I_XT", "I_TY", "beta", "gap")),
        *(f"deterministic_{name}" for name in ("H_T", "I_TY")),
    }
    for name in ("I_XT", "I_TY", "H_T", "beta", "residual"):
        xr.testing.assert_identical(found[name], whole[name])
    assert "curve_error" not in found.attrs


def test_missing_values_have_no_distance() -> None:
    t = np.array([[0.0, 1.0, 0.0, 1.0], [0.0, np.nan, 0.0, 1.0]])
    found = self_consistency(t, flipping(0.2)[1])
    for name in (*DISTANCES, "at_bound"):
        assert found[name].isnull().values.tolist() == [False, True]


def test_the_same_distribution_has_its_curves_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(8).dirichlet([1, 1], 4)
    first = Curves.of(joint(None, rows), TOL)

    def again(*given: Any) -> Any:
        raise AssertionError("computed again")

    with monkeypatch.context() as patched:
        patched.setattr("ipstore.analysis.ib.standing.curve", again)
        assert Curves.of(joint(None, rows), TOL) is first
        assert Curves.of(joint(None, rows[::-1]), TOL) is first  # the inputs in another order
        assert Curves.of(joint(None, np.repeat(rows, 2, axis=0)), TOL) is first  # and each of them twice
    assert Curves.of(joint(None, rows), 1e-3) is not first
    assert Curves.of(joint(None, 1 - rows), TOL) is not first


def test_labels_that_are_independent_of_the_input_have_no_curve() -> None:
    probe = joint(None, np.full((4, 2), 0.5))
    with pytest.raises(ParameterError, match="so Y is independent of X"):
        Curves.of(probe, TOL)
    with pytest.raises(ParameterError, match="so Y is independent of X"):
        self_consistency([0, 1, 0, 1], probe)
