"""The solver at one beta against closed forms, and its certificate against decoders and encoders it has not seen."""

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import rel_entr

from ipstore.analysis.ib import blahut_arimoto, certify, joint, onset, point, reduce
from ipstore.analysis.ib.certificates import find_excess
from ipstore.analysis.ib.peaks import find_peaks
from ipstore.analysis.ib.problem import Problem
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError
from ipstore.trainers.tasks import load

Array = NDArray[Any]

NATS = np.log(2)
SYMMETRIC = joint(None, [[0.9, 0.1], [0.1, 0.9]])
ERASURE = joint(None, [[0.75, 0.25, 0], [0, 0.25, 0.75]])
DETERMINISTIC = joint([0.25, 0.25, 0.5], [[1, 0], [0, 1], [0, 1]])


@cache
def rule() -> Probe:
    return joint(None, load("rule", information=0.99).p_y_given_x)


def of_binary(p: Any, q: Any) -> Probe:
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    return joint(p / p.sum(), np.stack([1 - q, q], axis=1))


@st.composite
def binary(draw: st.DrawFn, most: int = 10) -> Probe:
    """Joints of two classes: even or extreme p(y|x), exact 0 and 1 among them, and weights from even to 1e-9."""
    size = draw(st.integers(2, most))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    q = {
        "even": lambda: rng.random(size),
        "eighths": lambda: rng.integers(0, 9, size) / 8,
        "extreme": lambda: 1 / (1 + np.exp(-rng.normal(0, 10, size))),
        "rare": lambda: 10 ** -rng.uniform(0, 20, size),
        "alike": lambda: 0.5 + rng.uniform(-0.02, 0.02, size),
    }[draw(st.sampled_from(["even", "eighths", "extreme", "rare", "alike"]))]()
    q[:2] = draw(st.sampled_from([(0.25, 0.75), (0, 1), (0, 0.5)]))
    p = rng.dirichlet(np.full(size, draw(st.sampled_from([0.05, 1, 5]))))
    return of_binary(np.maximum(p, 1e-9), q)


betas = st.floats(0, np.log(300)).map(lambda log_beta: float(np.exp(log_beta)))


def random_joint(states: int, classes: int, seed: int) -> Probe:
    rng = np.random.default_rng(seed)
    return joint(rng.dirichlet(np.ones(states)), rng.dirichlet(np.full(classes, 0.5), states))


def divergences(q: Any, r: Any) -> Array:
    """KL(q || r) of each q with each r, in nats."""
    each: Array = rel_entr(np.asarray(q)[:, None, :], np.asarray(r)[None, :, :]).sum(axis=2)
    return each


def log_gradient(problem: Problem, r: Array, weight: Array, places: Array) -> Array:
    """Log c by its definition, in extended precision, at decoders ``places`` (place, class)."""
    with np.errstate(divide="ignore"):
        log_weight, log_p = np.log(weight.astype(np.longdouble)), np.log(problem.p.astype(np.longdouble))
    exponents = -problem.beta * divergences(problem.q, r).astype(np.longdouble) + log_weight
    top = exponents.max(axis=1, keepdims=True)
    log_z = top[:, 0] + np.log(np.exp(exponents - top).sum(axis=1))
    terms = -problem.beta * divergences(problem.q, places).astype(np.longdouble) + (log_p - log_z)[:, None]
    highest = np.maximum(terms.max(axis=0), -1e300)  # no state can take a decoder that excludes what all have
    with np.errstate(divide="ignore"):
        found: Array = (highest + np.log(np.exp(terms - highest).sum(axis=0))).astype(np.float64)
    return found


def dense(q: Array) -> Array:
    """Decoders of two classes everywhere: evenly in the angle, towards 0 and 1 by decades, at the states."""
    tails = 10.0 ** -np.arange(1, 320, 2)
    r = np.concatenate([np.sin(np.linspace(0, np.pi / 2, 3001)) ** 2, tails])
    return np.concatenate([np.stack([1 - r, r], axis=1), np.stack([tails, 1 - tails], axis=1), q])


def lagrangian(found: xr.Dataset, states: Probe) -> float:
    """I(X;T) + beta (I(X;Y) - I(T;Y)) in bits, with information by its definition from what was returned."""
    p_t, decoders, encoder = (found[name].values for name in ("p_t", "p_y_given_t", "p_t_given_state"))
    I_XT = states.weights @ rel_entr(encoder, p_t).sum(axis=1) / NATS
    lost = (
        states.weights[:, None] * encoder * np.where(encoder > 0, divergences(states.p_y_given_x, decoders), 0)
    ).sum()
    return float(I_XT + found["beta"].item() * lost / NATS)


# Known answers ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "beta", "I_XT", "I_TY"),
    [
        (SYMMETRIC, 1, 0, 0),
        (SYMMETRIC, 1.56, 0, 0),  # the onset is 1 / 0.8**2 = 1.5625
        (SYMMETRIC, 2, 0.6964327290, 0.4072338336),
        (SYMMETRIC, 3, 0.9489508285, 0.5165951586),
        (ERASURE, 1.2, 0, 0),
        (ERASURE, 1.333, 0, 0),
        (ERASURE, 1.334, 1, 0.75),
        (ERASURE, 1.4667, 1, 0.75),
        (DETERMINISTIC, 1.001, 0.8112781245, 0.8112781245),
        (DETERMINISTIC, 1.5, 0.8112781245, 0.8112781245),
        (DETERMINISTIC, 1e5, 0.8112781245, 0.8112781245),
    ],
)
def test_known_answers(given: Probe, beta: float, I_XT: float, I_TY: float) -> None:
    found = point(given, beta)
    assert (found["I_XT"].item(), found["I_TY"].item()) == pytest.approx((I_XT, I_TY), abs=1e-9)
    assert 0 <= found["gap"].item() * NATS <= 1e-8


@pytest.mark.parametrize("beta", [1.6, 2.0, 3.0, 30.0])
def test_the_symmetric_channel_has_two_decoders_that_mirror_each_other(beta: float) -> None:
    found = point(SYMMETRIC, beta)
    assert found["p_t"].values == pytest.approx([0.5, 0.5], abs=1e-7)
    assert found["p_y_given_t"].values[0] == pytest.approx(found["p_y_given_t"].values[1, ::-1], abs=1e-7)


@pytest.mark.parametrize(("beta", "I_XT", "I_TY"), [(1.2, 0.99238182, 0.97973760), (100, 1.26986629, 0.98965644)])
def test_known_answers_of_the_rule(beta: float, I_XT: float, I_TY: float) -> None:
    found = point(rule(), beta)
    assert (found["I_XT"].item(), found["I_TY"].item()) == pytest.approx((I_XT, I_TY), abs=1e-8)
    assert found.sizes["state"] == 53


@pytest.mark.parametrize("given", [SYMMETRIC, rule(), of_binary([1, 2, 3, 4], [0.1, 0.2, 0.6, 0.9])])
def test_few_iterations_where_the_curve_begins(given: Probe) -> None:
    begins = onset(given)
    above = point(given, begins * (1 + 1e-3))
    assert above.attrs["iterations"] <= 5
    assert above["gap"].item() * NATS <= 1e-8
    assert above["I_XT"].item() > 1e-4
    assert point(given, begins * (1 - 1e-3))["I_XT"].item() == pytest.approx(0, abs=1e-12)


def test_a_point_says_what_it_is() -> None:
    found = point(SYMMETRIC, 2)
    assert found.sizes == {"t": 2, "class": 2, "state": 2}
    assert found.attrs["certificate"] == "rigorous"
    assert point(ERASURE, 2).attrs["certificate"] == "heuristic"
    assert {name: found[name].attrs["units"] for name in ("I_XT", "I_TY", "gap", "beta", "p_t")} == {
        "I_XT": "bits",
        "I_TY": "bits",
        "gap": "bits",
        "beta": "1",
        "p_t": "1",
    }
    assert all("long_name" in variable.attrs for variable in found.data_vars.values())


# The certificate --------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    binary(),
    st.sampled_from([1.0, 1 + 1e-9, 1.1, 3.0, 30.0, 1e3, 1e5, 1e7]),
    st.integers(0, 10_000),
    st.sampled_from(["anywhere", "at the ends", "far out", "states"]),
)
def test_no_decoder_lies_above_the_bound(given: Probe, beta: float, seed: int, kind: str) -> None:
    # Of any measure, good or poor: at poor ones log max c is thousands of nats.
    rng, states = np.random.default_rng(seed), reduce(given)
    problem = Problem(states.weights, states.p_y_given_x, beta)
    r = {
        "anywhere": rng.random(4),
        "at the ends": np.array([0, 1, 1e-12, 0.3]),
        "far out": np.array([1e-300, 1e-100, 1e-30, 0.9]),
        "states": rng.choice(states.p_y_given_x[:, 1], 4),
    }[kind]
    rows = np.append(np.stack([1 - r, r], axis=1), [states.p_y], axis=0)
    weight = rng.dirichlet(np.full(5, 0.3))
    weight[rng.integers(5)] = 1e-200
    weight = np.maximum(weight, 1e-250) / weight.sum()
    excess = find_excess(problem, np.sqrt(rows), weight)
    heights = log_gradient(problem, rows, weight, dense(states.p_y_given_x))
    rounding = 1e-14 * max(beta, float(heights.max()))
    assert heights.max() <= excess.bound + rounding
    assert excess.bound <= max(0.0, heights.max(), excess.heights[0]) + 2e-9 + 1e-14 * beta


def test_the_bound_holds_between_any_places() -> None:
    # Two sharp peaks, each much narrower than the cells that the proof begins with.
    problem = Problem(np.array([0.4, 0.2, 0.4]), np.array([[0.7, 0.3], [0.5, 0.5], [0.3, 0.7]]), 1e5)
    rows, weight = np.array([[0.7, 0.3], [0.3, 0.7]]), np.array([0.5, 0.5])
    excess = find_excess(problem, np.sqrt(rows), weight)
    r = 0.5 + np.linspace(-0.02, 0.02, 10_001)
    heights = log_gradient(problem, rows, weight, np.stack([1 - r, r], axis=1))
    assert heights.max() == pytest.approx(excess.bound, abs=1e-6)
    assert excess.better[0] ** 2 == pytest.approx([0.5, 0.5], abs=1e-6)


@pytest.mark.parametrize("beta", [1.0, 5.0, 1e4])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_bound_holds_at_the_very_end(beta: float, mirrored: bool) -> None:
    # Where a state has q = 1, log c rises all the way to the decoder of probability 1.
    q = np.array([[0.5, 0.5], [0.0, 1.0]])[:, :: -1 if mirrored else 1]
    problem = Problem(np.array([0.3, 0.7]), q, beta)
    rows, weight = np.array([[0.5, 0.5]]), np.ones(1)
    heights = log_gradient(problem, rows, weight, dense(q))
    assert heights.max() <= find_excess(problem, np.sqrt(rows), weight).bound <= heights.max() + 1e-6
    if beta > 1:
        assert heights.max() == pytest.approx(log_gradient(problem, rows, weight, q[1:])[0], abs=1e-12)


def test_a_decoder_that_excludes_a_class_is_infinitely_far_however_rare_the_class() -> None:
    problem = Problem(np.array([0.5, 0.5]), np.array([[1, 1e-200], [0.5, 0.5]]), 2.0)
    root = np.sqrt([[1.0, 0.0], [0.5, 0.5]])
    exponent = problem.log_kernel(root)
    assert (exponent[:, 0] <= -1e299).all()
    assert exponent[:, 1] == pytest.approx([-2 * np.log(2), 0], abs=1e-12)


def least_on_a_grid(problem: Problem, places: Array, turns: int) -> tuple[float, float]:
    """F in nats, and how far it is from its least over measures on `places`, by multiplicative updates."""
    kernel = np.exp(-problem.beta * divergences(problem.q, places))
    weight = np.full(len(places), 1 / len(places))
    for _ in range(turns):
        gradient = (problem.p / (kernel @ weight)) @ kernel
        weight = weight * gradient
    z = kernel @ weight
    return -float(problem.p @ np.log(z)), float(np.log(((problem.p / z) @ kernel).max()))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("beta", [1.3, 2.5, 8.0])
def test_a_convex_programme_on_a_grid_of_decoders_finds_the_same(seed: int, beta: float) -> None:
    states = reduce(random_joint(6, 2, seed))
    problem = Problem(states.weights, states.p_y_given_x, beta)
    found = point(states, beta)
    best, room = least_on_a_grid(problem, dense(problem.q)[:3001:5], 3000)
    reached = lagrangian(found, states) * NATS
    assert reached - found["gap"].item() * NATS <= best
    assert best - room <= reached + 2e-5  # a grid of 600 decoders misses the best ones by a little
    assert room < 5e-3


@settings(max_examples=80, deadline=None)
@given(binary(), betas)
@example(  # one state of next to no weight has by far the highest peak, and hid the others
    of_binary([2e-3, 4e-14, 0.035, 0.052, 0.62, 0.29, 1e-9], [2e-5, 0.28, 0.99935, 0.76, 0.9999998, 0.9966, 1e-4]), 77.0
)
def test_what_is_found_is_proven_to_a_hundred_millionth_of_a_nat(given: Probe, beta: float) -> None:
    found = point(given, beta)
    states = reduce(given)
    assert 0 <= found["gap"].item() * NATS <= 1e-8
    stated = found["I_XT"].item() + beta * (states.I_XY - found["I_TY"].item())
    assert stated == pytest.approx(lagrangian(found, states), abs=1e-11 * beta)
    assert found["p_t"].values.sum() == pytest.approx(1, abs=1e-12)
    assert found["p_t_given_state"].values.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert found["p_y_given_t"].values.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert -1e-12 <= found["I_TY"].item() <= found["I_XT"].item() + 1e-12
    assert found["I_TY"].item() <= states.I_XY + 1e-12


@settings(max_examples=40, deadline=None)
@given(binary(7), betas, st.integers(0, 10_000))
def test_no_encoder_lies_lower_than_is_proven(given: Probe, beta: float, seed: int) -> None:
    states, found = reduce(given), point(given, beta)
    rng = np.random.default_rng(seed)
    near = found["p_t_given_state"].values
    for share in (1.0, 1e-2, 1e-4, 1e-6):
        noise = rng.dirichlet(np.ones(near.shape[1]), len(near))
        encoder = (1 - share) * near + share * noise
        p_t = states.weights @ encoder
        decoders = (states.weights[:, None] * encoder).T @ states.p_y_given_x / p_t[:, None]
        other = xr.Dataset(
            {
                "p_t": ("t", p_t),
                "p_y_given_t": (("t", "class"), decoders),
                "p_t_given_state": (("state", "t"), encoder),
                "beta": beta,
            }
        )
        assert lagrangian(other, states) >= lagrangian(found, states) - found["gap"].item() - 1e-12 * beta


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 7), st.integers(2, 4), st.integers(0, 10_000), st.floats(1, 50))
def test_agrees_with_alternating_updates_within_both_gaps(states: int, classes: int, seed: int, beta: float) -> None:
    given = reduce(random_joint(states, classes, seed))
    slow, fast = blahut_arimoto(given, beta, tol=1e-8, max_iterations=3000), point(given, beta)
    apart = lagrangian(slow, given) - lagrangian(fast, given)
    assert -fast["gap"].item() - 1e-11 <= apart <= slow["gap"].item() + 1e-11
    assert fast["gap"].item() <= 1e-7


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10_000), betas)
def test_the_certificate_of_what_was_found_is_its_own(states: int, seed: int, beta: float) -> None:
    given = random_joint(states, 2, seed)
    found = point(given, beta)
    again = certify(given, found["p_t"], found["p_y_given_t"], beta)
    assert again["gap"].item() * NATS <= 1e-6  # of p(y|t) that the encoder gives, one update further
    assert lagrangian(again, reduce(given)) == pytest.approx(lagrangian(found, reduce(given)), abs=1e-8)


def test_a_poor_measure_has_a_gap_that_says_so() -> None:
    poor = certify(SYMMETRIC, [0.5, 0.5], [[0.6, 0.4], [0.4, 0.6]], 3)
    best = point(SYMMETRIC, 3)
    worse = lagrangian(poor, SYMMETRIC) - lagrangian(best, SYMMETRIC)
    assert worse > 0.05
    assert poor["gap"].item() >= worse
    assert certify(SYMMETRIC, [1], [[0.5, 0.5]], 1.5)["gap"].item() < 1e-8


def test_peaks_are_where_a_dense_grid_has_them() -> None:
    states = reduce(rule())
    problem = Problem(states.weights, states.p_y_given_x, 100.0)
    rows = states.p_y[None, :]
    log_z = problem.log_partition(np.sqrt(rows), np.ones(1))
    root, heights = find_peaks(problem, log_z, np.sqrt(rows))
    assert (np.diff(heights) <= 0).all()
    grid = log_gradient(problem, rows, np.ones(1), dense(problem.q))
    assert heights[0] == pytest.approx(grid.max(), abs=1e-3)
    assert heights[0] >= grid.max() - 1e-9
    assert heights == pytest.approx(log_gradient(problem, rows, np.ones(1), root**2), abs=1e-9)


# What must not matter ---------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("beta", [1.7, 6.0])
def test_order_splits_and_names_do_not_matter(classes: int, beta: float) -> None:
    given = random_joint(6, classes, 3)
    p, q = given.weights, given.p_y_given_x
    found = [
        point(each, beta)[["I_XT", "I_TY"]].to_dataarray().values
        for each in (
            given,
            joint(p[::-1], q[::-1]),
            joint(p, q[:, ::-1]),
            joint(np.append(p / 4, 3 * p / 4), np.tile(q, (2, 1))),
            joint(np.append(p, 0), np.append(q, np.eye(classes)[:1], axis=0)),
        )
    ]
    for each in found[1:]:
        assert each == pytest.approx(found[0], abs=1e-6)


@pytest.mark.parametrize("beta", [1.58, 2.0, 20.0])
def test_a_class_that_never_occurs_does_not_matter(beta: float) -> None:
    found = point(joint(None, [[0.9, 0.1, 0], [0.1, 0.9, 0]]), beta)
    expected = point(SYMMETRIC, beta)
    assert found["I_XT"].item() == pytest.approx(expected["I_XT"].item(), abs=1e-6)
    assert found["p_y_given_t"].values[:, 2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("given", [random_joint(12, 2, 0), random_joint(12, 3, 0), rule()])
def test_a_second_run_gives_the_same_bits(given: Probe) -> None:
    xr.testing.assert_identical(point(given, 5.0), point(given, 5.0))


@pytest.mark.parametrize("classes", [3, 4])
def test_three_classes_of_which_two_are_one_are_two(classes: int) -> None:
    # Y that is split by a coin says nothing more of X.
    two = reduce(random_joint(6, 2, 11))
    coin = np.full(classes - 1, 1 / (classes - 1))
    split = joint(two.weights, np.concatenate([two.p_y_given_x[:, :1], two.p_y_given_x[:, 1:] * coin], axis=1))
    for beta in (1.5, 4.0):
        few, many = point(two, beta), point(split, beta)
        assert (many["I_XT"].item(), many["I_TY"].item()) == pytest.approx(
            (few["I_XT"].item(), few["I_TY"].item()), abs=1e-5
        )


# Far out ----------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 2.0, 1e3, 1e9, 1e15])
@pytest.mark.parametrize(
    "given",
    [
        of_binary([0.3, 0.3, 0.4], [0, 0.5, 1]),
        of_binary([0.5, 0.5], [1e-100, 0.5]),
        of_binary([0.3, 0.3, 0.4], [0, 1e-100, 1]),
        of_binary([1e-200, 0.5, 0.5], [0.1, 0.5, 0.8]),
        of_binary([1e-200, 0.5, 0.5], [1, 0, 0.8]),
        of_binary([1, 1], [0.5, np.nextafter(0.5, 1)]),
        joint([0.3, 0.3, 0.4], [[0.9, 0.1, 0.0], [0.1, 0.9, 1e-100], [0.0, 0.0, 1.0]]),
    ],
)
def test_extremes_give_numbers_and_no_warning(given: Probe, beta: float) -> None:
    found = point(given, beta)
    assert all(np.isfinite(variable.values).all() for variable in found.data_vars.values())
    assert found["I_TY"].item() <= given.I_XY + 1e-9
    if beta <= 1e3:  # far beyond, the gap may stay wide, and says so
        assert found["gap"].item() <= 1e-8


# Bad input --------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.99, 0, -1, np.nan, np.inf, True, "2", None, 2 + 0j, np.array([2.0])])
def test_a_beta_at_which_there_is_nothing_to_find_is_refused(beta: Any) -> None:
    message = re.escape(f"beta must be a finite number, 1 or more, but got {beta!r}")
    with pytest.raises(ParameterError, match=message):
        point(SYMMETRIC, beta)
    with pytest.raises(ParameterError, match=message):
        certify(SYMMETRIC, [1], [[0.5, 0.5]], beta)


@pytest.mark.parametrize("beta", [2, np.float32(2), np.int64(2)])
def test_any_number_is_a_beta(beta: Any) -> None:
    assert point(SYMMETRIC, beta)["I_XT"].item() == pytest.approx(0.6964327290, abs=1e-9)


@pytest.mark.parametrize(
    ("p_t", "p_y_given_t", "message"),
    [
        ([0.5, 0.4], np.eye(2), "must sum to one but one sums to 0.9"),
        ([0.5, 0.5], [[0.5, 0.5], [0.5, 0.6]], "must sum to one but one sums to 1.1"),
        ([0.5, 0.5], np.eye(3)[:2], "p_y_given_t has 3 classes but the joint has 2"),
        ([1.0], np.eye(2), "one entry per row of p_y_given_t but their shapes are (1,) and (2, 2)"),
        ([1.0], [[1.0, 0.0]], "a class that every decoder excludes"),
        ([1.0, 0.0], np.eye(2), "a class that every decoder excludes"),
    ],
)
def test_what_is_no_clustering_is_refused(p_t: Any, p_y_given_t: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)):
        certify(SYMMETRIC, p_t, p_y_given_t, 2)


def test_independent_labels_are_refused() -> None:
    with pytest.raises(ParameterError, match="Y is independent of X"):
        point(joint(None, [[0.3, 0.7], [0.3, 0.7]]), 2)
