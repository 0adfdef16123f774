"""The curve against closed forms and encoders at random, its bounds as a person asks for them, and where it begins."""

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import entropy

from ipstore.analysis.ib import blahut_arimoto, bounds, curve, joint, onset, point, reduce
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError
from ipstore.trainers.tasks import load

Array = NDArray[Any]

SYMMETRIC = joint(None, [[0.9, 0.1], [0.1, 0.9]])
ERASURE = joint(None, [[0.75, 0.25, 0], [0, 0.25, 0.75]])
DETERMINISTIC = joint([0.25, 0.25, 0.5], [[1, 0], [0, 1], [0, 1]])


@cache
def rule() -> Probe:
    return joint(None, load("rule", information=0.99).p_y_given_x)


@cache
def curve_of(name: str) -> xr.Dataset:
    return curve({"symmetric": SYMMETRIC, "deterministic": DETERMINISTIC, "rule": rule()}[name])


def random_joint(states: int, classes: int, seed: int) -> Probe:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(classes, rng.choice([0.3, 1])), states)
    if seed % 3 == 0:
        rows[:2] = np.eye(classes)[:2]
    return joint(rng.dirichlet(np.full(states, 2)), rows)


def measure(given: Probe, encoder: Array) -> tuple[float, float]:
    """I(X;T) and I(T;Y) in bits of an encoder p(t|x), (sample, t)."""
    p_t = given.weights @ encoder
    p_ty = (given.weights[:, None] * encoder).T @ given.p_y_given_x
    I_XT = given.weights @ rel_entr(encoder, p_t).sum(axis=1)
    I_TY = rel_entr(p_ty, p_t[:, None] * p_ty.sum(axis=0)).sum()
    return float(I_XT) / np.log(2), float(I_TY) / np.log(2)


def encoders(given: Probe, seed: int) -> Array:
    """Encoders of many kinds, (encoder, sample, t)."""
    rng, samples = np.random.default_rng(seed), len(given.weights)
    hard = np.eye(3)[rng.integers(0, 3, (4, samples))]
    soft = np.array([rng.dirichlet(np.full(3, a), samples) for a in (0.05, 0.3, 1, 5)])
    by_label = given.p_y_given_x @ rng.dirichlet(np.full(3, 0.1), (4, given.p_y_given_x.shape[1]))
    return np.concatenate([hard, soft, by_label])


# The curve --------------------------------------------------------------------


def test_the_curve_of_the_symmetric_channel_is_its_closed_form() -> None:
    # Of T that is the input through a symmetric channel e: Y is then T through one more (Wyner & Ziv 1973).
    found = curve_of("symmetric")
    e = np.linspace(0, 0.5, 101)
    I_XT = 1 - entropy([e, 1 - e], base=2)
    I_TY = 1 - entropy([0.1 + 0.8 * e, 0.9 - 0.8 * e], base=2)
    between = bounds(found, I_XT=I_XT)
    assert (between["I_TY_lower"].values <= I_TY + 1e-12).all()
    assert (between["I_TY_upper"].values >= I_TY - 1e-12).all()
    assert (between["I_TY_upper"] - between["I_TY_lower"]).max().item() <= 1e-4
    least = bounds(found, I_TY=I_TY)
    assert (least["I_XT_lower"].values <= I_XT + 1e-9).all()
    assert (least["I_XT_upper"].values >= I_XT - 1e-9).all()


def test_the_curve_of_deterministic_labels_is_a_line() -> None:
    found = curve_of("deterministic")
    I_TY = np.linspace(0, 0.8112781244, 7)
    assert bounds(found, I_XT=I_TY)["I_TY_lower"].values == pytest.approx(I_TY, abs=1e-9)
    assert bounds(found, I_TY=I_TY)["I_XT_upper"].values == pytest.approx(I_TY, abs=1e-9)
    assert bounds(found, I_TY=I_TY)["I_XT_lower"].values == pytest.approx(I_TY, abs=1e-8)
    assert bounds(found, I_XT=[0.9, 5])["I_TY_upper"].values == pytest.approx(0.8112781245, abs=1e-10)
    assert found.attrs["labels"] == "hard"


def test_the_curve_of_the_erasure_channel_is_a_line() -> None:
    found = curve(ERASURE)
    assert bounds(found, I_XT=[0.2, 0.6, 1])["I_TY_lower"].values == pytest.approx([0.15, 0.45, 0.75], abs=1e-9)
    assert found.attrs["certificate"] == "heuristic"


@pytest.mark.parametrize("tol", [1e-2, 1e-4, pytest.param(1e-6, marks=pytest.mark.long)])
def test_the_curve_of_the_rule_is_within_what_was_asked(tol: float) -> None:
    found = curve(rule(), tol)
    assert found.attrs["error"] <= tol
    assert found["gap"].max().item() * np.log(2) <= 1e-8
    at = bounds(found, I_XT=np.linspace(0, 6, 4001))
    assert (at["I_TY_upper"] - at["I_TY_lower"]).max().item() <= found.attrs["error"] + 1e-12
    for beta in (1.2, 100):
        best = point(rule(), beta)
        here = bounds(found, I_XT=best["I_XT"])
        assert here["I_TY_lower"].item() - 1e-9 <= best["I_TY"].item() <= here["I_TY_upper"].item() + 1e-9


def test_a_curve_says_what_it_is() -> None:
    found = curve_of("rule")
    numbers = {
        "tolerance": 1e-4,
        "error": found.attrs["error"],
        "onset_beta": 1.00497858,
        "I_XY": 0.99,
        "H_Y": rule().H_Y,
    }
    assert {name: found.attrs[name] for name in numbers} == pytest.approx(numbers, abs=1e-8)
    words = {"units": "bits", "certificate": "rigorous", "labels": "soft"}
    assert {name: found.attrs[name] for name in words} == words
    assert {variable.attrs["units"] for variable in found.data_vars.values()} == {"bits", "1"}
    assert all("long_name" in variable.attrs for variable in found.data_vars.values())
    first, last = found.isel(point=0), found.isel(point=-1)
    assert (first["I_XT"].item(), first["I_TY"].item(), first["n_clusters"].item()) == (0, 0, 1)
    assert first["beta"].item() == found.attrs["onset_beta"]
    assert last["I_TY"].item() == found.attrs["I_XY"]
    assert (last["beta"].item(), last["n_clusters"].item()) == (np.inf, 53)


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000))
def test_curves_rise_and_bend_down(states: int, seed: int) -> None:
    given = random_joint(states, 2, seed)
    found = curve(given, 1e-3)
    I_XT, I_TY, beta = (found[name].values for name in ("I_XT", "I_TY", "beta"))
    assert found.attrs["error"] <= 1e-3
    right, up = np.diff(I_XT), np.diff(I_TY)
    assert (right > -1e-9).all()
    assert (up > -1e-9).all()
    assert (np.diff(beta) > 0).all()
    # A chord is no flatter than the tangent at its right end, and no steeper than that at its left one.
    assert (up <= right / beta[:-1] + 1e-8).all()
    assert (up >= right / beta[1:] - 1e-8).all()
    assert (I_TY <= I_XT + 1e-12).all()
    assert I_TY[-1] == pytest.approx(given.I_XY, abs=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 7), st.integers(2, 3), st.integers(0, 10_000))
def test_no_encoder_passes_the_curve(samples: int, classes: int, seed: int) -> None:
    given = random_joint(samples, classes, seed)
    found = curve(given, 1e-3 if classes == 2 else 1e-2)
    I_XT, I_TY = np.array([measure(given, encoder) for encoder in encoders(given, seed)]).T
    assert (bounds(found, I_XT=I_XT)["I_TY_upper"].values + 1e-9 >= I_TY).all()
    least = bounds(found, I_TY=np.minimum(I_TY, given.I_XY))["I_XT_lower"].values
    assert (least - 1e-7 <= I_XT).all()


@pytest.mark.parametrize("seed", range(2))
def test_alternating_updates_end_between_the_bounds(seed: int) -> None:
    given = reduce(random_joint(6, 3, seed))
    found = curve(given, 1e-2)
    for beta in (2.0, 5.0, 20.0):
        there = blahut_arimoto(given, beta, tol=1e-7, max_iterations=3000)
        at = bounds(found, I_XT=there["I_XT"])
        assert there["I_TY"].item() <= at["I_TY_upper"].item() + 1e-9
        assert there["I_TY"].item() >= at["I_TY_lower"].item() - 1e-2


def test_what_is_processed_further_lies_no_higher() -> None:
    # Labels through a channel, or inputs of which one no longer tells two apart: no curve rises.
    given = random_joint(7, 2, 5)
    noisy = joint(given.weights, given.p_y_given_x @ [[0.95, 0.05], [0.2, 0.8]])
    merged = joint(given.weights, given.p_y_given_x).p_y_given_x.copy()
    pair = given.weights[:2] / given.weights[:2].sum()
    merged[:2] = pair @ merged[:2]
    I_XT = np.linspace(0, 2.5, 50)
    most = bounds(curve(given), I_XT=I_XT)["I_TY_upper"].values
    for less in (noisy, joint(given.weights, merged)):
        assert (bounds(curve(less), I_XT=I_XT)["I_TY_lower"].values <= most + 1e-12).all()


def test_order_splits_and_names_do_not_matter() -> None:
    given = random_joint(6, 2, 4)
    p, q = given.weights, given.p_y_given_x
    I_XT = np.linspace(0, 2, 30)
    expected = bounds(curve(given), I_XT=I_XT)
    for same in (
        joint(p[::-1], q[::-1]),
        joint(p, q[:, ::-1]),
        joint(np.append(p / 4, 3 * p / 4), np.tile(q, (2, 1))),
    ):
        found = bounds(curve(same), I_XT=I_XT)
        assert (found["I_TY_lower"] <= expected["I_TY_upper"] + 1e-12).all()
        assert (found["I_TY_upper"] >= expected["I_TY_lower"] - 1e-12).all()
        assert curve(same).attrs["onset_beta"] == pytest.approx(curve(given).attrs["onset_beta"], rel=1e-8)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_second_run_gives_the_same_bits(classes: int) -> None:
    given = random_joint(6, classes, 1)
    xr.testing.assert_identical(curve(given, 1e-2), curve(given, 1e-2))


@pytest.mark.parametrize("tol", [0, -1, 1e-8, np.nan, np.inf, "1e-4", None])
def test_a_tolerance_that_cannot_be_kept_is_refused(tol: Any) -> None:
    with pytest.raises(ParameterError, match=re.escape(f"tol must be a number of bits, 1e-7 or more, but got {tol!r}")):
        curve(SYMMETRIC, tol)


def test_independent_labels_have_no_curve() -> None:
    nothing = joint(None, [[0.3, 0.7], [0.3, 0.7]])
    for ask in (curve, onset):
        with pytest.raises(ParameterError, match="Y is independent of X"):
            ask(nothing)


# The onset --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "beta"),
    [
        (SYMMETRIC, 1.5625),  # 1 / 0.8**2
        (ERASURE, 4 / 3),  # nothing of what is not erased can be had for less
        (DETERMINISTIC, 1.0),
        (joint(None, np.eye(3)), 1.0),
        (rule(), 1.00497858),
    ],
)
def test_known_onsets(given: Probe, beta: float) -> None:
    assert onset(given) == pytest.approx(beta, abs=1e-8)


def test_the_onset_of_the_rule_lies_before_that_of_its_correlation() -> None:
    states = reduce(rule())
    scaled = np.sqrt(states.weights)[:, None] * (states.p_y_given_x - states.p_y) / np.sqrt(states.p_y)
    local = 1 / np.linalg.svd(scaled, compute_uv=False)[0] ** 2
    assert local == pytest.approx(1.00522, abs=1e-5)
    assert onset(rule()) < local - 2e-4


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(2, 3), st.integers(0, 10_000))
def test_no_encoder_is_worth_its_cost_before_the_onset(samples: int, classes: int, seed: int) -> None:
    given = random_joint(samples, classes, seed)
    begins = onset(given)
    assert begins >= 1
    I_XT, I_TY = np.array([measure(given, encoder) for encoder in encoders(given, seed)]).T
    assert (I_TY * begins <= I_XT + 1e-9).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10_000))
def test_something_is_worth_its_cost_behind_the_onset(samples: int, seed: int) -> None:
    given = random_joint(samples, 2, seed)
    begins = onset(given)
    before, behind = point(given, max(1.0, begins * (1 - 1e-6))), point(given, begins * 1.01)
    assert before["I_XT"].item() - begins * before["I_TY"].item() >= -1e-8
    assert behind["I_XT"].item() > 0
    assert behind["I_TY"].item() * begins * 1.01 > behind["I_XT"].item() - 1e-9


# Bounds -----------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("name", ["I_XT", "I_TY"])
def test_bounds_keep_dimensions_coordinates_and_laziness(name: str, lazy: bool) -> None:
    values = np.linspace(0, 0.5, 12).reshape(3, 4)
    values[1, 2] = np.nan
    array = xr.DataArray(values, dims=("epoch", "layer"), coords={"layer": list("abcd"), "epoch": [0, 10, 20]})
    asked = array.chunk({"epoch": 1}) if lazy else array
    found = bounds(curve_of("rule"), **{name: asked})
    other = "I_TY" if name == "I_XT" else "I_XT"
    assert set(found.data_vars) == {f"{other}_lower", f"{other}_upper"}
    for variable in found.data_vars.values():
        assert variable.dims == ("epoch", "layer")
        assert (variable.chunks is not None) == lazy
        assert variable.attrs["units"] == "bits"
        xr.testing.assert_equal(variable["layer"], array["layer"])
        assert (np.isnan(variable.values) == np.isnan(values)).all()
    lower, upper = found[f"{other}_lower"].values, found[f"{other}_upper"].values
    assert (lower <= upper)[~np.isnan(values)].all()


@pytest.mark.parametrize("shape", [(), (5,), (2, 0), (2, 3, 4)])
def test_bounds_take_arrays_of_any_shape(shape: tuple[int, ...]) -> None:
    assert bounds(curve_of("rule"), I_XT=np.full(shape, 0.3))["I_TY_upper"].shape == shape
    assert bounds(curve_of("rule"), I_TY=np.full(shape, 0.3).tolist())["I_XT_lower"].shape == shape


def test_bounds_at_the_ends() -> None:
    found, most = curve_of("rule"), rule().I_XY
    at = bounds(found, I_XT=[0, 12, np.inf, 1e-12])
    assert at["I_TY_lower"].values[:3] == pytest.approx([0, most, most], abs=1e-12)
    assert at["I_TY_upper"].values == pytest.approx([0, most, most, 0], abs=1e-8)
    at = bounds(found, I_TY=[0, most])
    assert at["I_XT_lower"].values[0] == at["I_XT_upper"].values[0] == 0
    assert at["I_XT_upper"].values[1] == pytest.approx(reduce(rule()).H_X, abs=1e-9)
    assert 1.2 < at["I_XT_lower"].values[1] < reduce(rule()).H_X


def test_rounding_at_the_ends_is_taken_for_the_end() -> None:
    found, most = curve_of("rule"), rule().I_XY
    for name, end, other in (("I_XT", 0.0, "I_TY"), ("I_TY", 0.0, "I_XT"), ("I_TY", most, "I_XT")):
        beyond = end - 1e-12 if end == 0 else end + 1e-12
        xr.testing.assert_allclose(bounds(found, **{name: beyond}), bounds(found, **{name: end}))
        assert bounds(found, **{name: beyond})[f"{other}_upper"].notnull().item()


def test_what_no_T_can_have_has_no_bounds() -> None:
    found = curve_of("rule")
    assert np.isnan(bounds(found, I_TY=[rule().I_XY + 1e-6, 2, -1e-6, np.nan, np.inf]).to_dataarray()).all().item()
    assert np.isnan(bounds(found, I_XT=[-1e-6, -np.inf, np.nan]).to_dataarray()).all().item()


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 6))
def test_one_bound_takes_the_other_back(I_XT: float) -> None:
    found = curve_of("rule")
    most = bounds(found, I_XT=I_XT)
    assert bounds(found, I_TY=most["I_TY_lower"])["I_XT_lower"].item() <= I_XT + 1e-9
    assert bounds(found, I_TY=most["I_TY_upper"])["I_XT_upper"].item() >= min(I_XT, found["I_XT"][-1].item()) - 1e-3


def test_bounds_refuse_what_they_cannot_answer() -> None:
    found = curve_of("symmetric")
    for both in ({}, {"I_XT": 0.1, "I_TY": 0.1}):
        with pytest.raises(ParameterError, match="give either I_XT or I_TY"):
            bounds(found, **both)
    with pytest.raises(ParameterError, match="but beta, gap is missing"):
        bounds(found.drop_vars(["beta", "gap"]), I_XT=0.1)
