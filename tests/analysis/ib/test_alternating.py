"""`blahut_arimoto` against closed forms, the equations it is to solve, a dense grid of decoders, and the solver."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import rel_entr

from ipstore.analysis.ib.alternating import blahut_arimoto
from ipstore.analysis.ib.joints import joint, reduce
from ipstore.analysis.ib.points import point
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


def random_joint(states: int, classes: int, seed: int) -> Probe:
    rng = np.random.default_rng(seed)
    return joint(rng.dirichlet(np.ones(states)), rng.dirichlet(np.full(classes, 0.5), states))


def divergences(q: Any, r: Any) -> Array:
    """KL(q || r) of each q with each r, in nats."""
    each: Array = rel_entr(np.asarray(q)[:, None, :], np.asarray(r)[None, :, :]).sum(axis=2)
    return each


def lagrangian(found: Any, states: Probe) -> float:
    return float(found.I_XT + found.beta * (states.I_XY - found.I_TY))


@pytest.mark.parametrize(
    ("given", "beta", "I_XT", "I_TY"),
    [
        (SYMMETRIC, 1.5, 0, 0),  # the onset is 1 / 0.8**2 = 1.5625
        (SYMMETRIC, 2, 0.6964327290, 0.4072338336),
        (SYMMETRIC, 3, 0.9489508285, 0.5165951586),
        (ERASURE, 1.2, 0, 0),
        (ERASURE, 1.4667, 1, 0.75),
        (DETERMINISTIC, 1.5, 0.8112781245, 0.8112781245),
        (DETERMINISTIC, 1e4, 0.8112781245, 0.8112781245),
    ],
)
def test_known_answers(given: Probe, beta: float, I_XT: float, I_TY: float) -> None:
    found = blahut_arimoto(given, beta)
    assert (float(found.I_XT), float(found.I_TY)) == pytest.approx((I_XT, I_TY), abs=1e-9)
    assert found.attrs["converged"] is True
    assert 0 <= float(found.gap) < 1e-8


@pytest.mark.parametrize(
    ("beta", "I_XT", "I_TY", "n_clusters"), [(1.2, 0.99238182, 0.97973760, 2), (100, 1.26986629, 0.98965644, 4)]
)
def test_known_answers_of_the_rule(beta: float, I_XT: float, I_TY: float, n_clusters: int) -> None:
    found = blahut_arimoto(rule(), beta)
    assert (float(found.I_XT), float(found.I_TY)) == pytest.approx((I_XT, I_TY), abs=1e-8)
    assert found.sizes == {"state": 53, "t": n_clusters, "class": 2}
    assert float(found.gap) < 1e-8


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [1.5, 4.0, 30.0])
def test_the_equations_hold_at_the_end(seed: int, beta: float) -> None:
    states = reduce(random_joint(7, 3, seed))
    found = blahut_arimoto(states, beta)
    p_t, decoders, encoder = (found[name].values for name in ("p_t", "p_y_given_t", "p_t_given_state"))
    assert found.attrs["converged"]
    given = p_t * np.exp(-beta * divergences(states.p_y_given_x, decoders))
    assert encoder == pytest.approx(given / given.sum(axis=1, keepdims=True), abs=1e-6)
    assert p_t == pytest.approx(states.weights @ encoder, abs=1e-12)
    backward = states.weights[:, None] * encoder / p_t
    assert decoders == pytest.approx(backward.T @ states.p_y_given_x, abs=1e-12)
    assert float(found.I_XT) == pytest.approx(states.weights @ rel_entr(encoder, p_t).sum(1) / np.log(2), abs=1e-12)
    assert float(found.I_TY) == pytest.approx(p_t @ rel_entr(decoders, states.p_y).sum(1) / np.log(2), abs=1e-12)


@pytest.mark.parametrize("states", [random_joint(9, 3, 0), random_joint(9, 2, 1), SYMMETRIC, ERASURE])
@pytest.mark.parametrize("beta", [1.2, 2.0, 25.0])
def test_no_iteration_raises_the_lagrangian(states: Probe, beta: float) -> None:
    course = [lagrangian(blahut_arimoto(states, beta, max_iterations=n), states) for n in range(1, 30)]
    assert (np.diff(course) <= 1e-11).all()


@pytest.mark.parametrize("beta", [1.7, 3.0, 40.0])
def test_no_decoder_of_a_dense_grid_would_help(beta: float) -> None:
    states = reduce(random_joint(6, 2, 3))
    found, q = blahut_arimoto(states, beta), states.p_y_given_x
    z = np.exp(-beta * divergences(q, found.p_y_given_t)) @ found.p_t.values
    r = np.sin(np.linspace(0, np.pi / 2, 20_001)[1:-1]) ** 2
    gradient = (states.weights / z) @ np.exp(-beta * divergences(q, np.stack([1 - r, r], axis=1)))
    assert gradient.max() == pytest.approx(1, abs=1e-8)
    assert float(found.gap) < 1e-8


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(2, 4), st.integers(0, 10_000), st.floats(1, 60), st.integers(1, 300))
def test_brackets_what_the_solver_finds(states: int, classes: int, seed: int, beta: float, iterations: int) -> None:
    given = random_joint(states, classes, seed)
    slow, fast = blahut_arimoto(given, beta, max_iterations=iterations), point(given, beta)
    best, reached = lagrangian(fast, given), lagrangian(slow, given)
    assert best - float(fast.gap) <= reached + 1e-12
    assert reached - float(slow.gap) <= best + 1e-12


def test_stops_in_any_case_and_says_so() -> None:
    found = blahut_arimoto(rule(), 1.0052, max_iterations=50)
    assert (found.attrs["iterations"], found.attrs["converged"]) == (50, False)
    assert float(found.gap) > 1e-5


def test_the_gap_tells_of_an_end_that_is_not_the_best() -> None:
    # Just above an onset where the best T does not begin with decoders close to p(y), the updates lose it.
    states = joint([0.16, 0.45, 0.39], [[0.73, 0.27], [0.01, 0.99], [0.47, 0.53]])
    slow, fast = blahut_arimoto(states, 2.477), point(states, 2.477)
    assert slow.attrs["converged"]
    assert float(slow.I_XT) == pytest.approx(0, abs=1e-9)
    assert float(fast.I_XT) > 0.02
    assert float(slow.gap) > lagrangian(slow, states) - lagrangian(fast, states) > 1e-4


def test_fewer_clusters_than_states() -> None:
    for n_clusters, least in ((1, 0.0), (2, 0.984), (3, 0.988)):
        found = blahut_arimoto(rule(), 1000, n_clusters=n_clusters)
        assert found.sizes["t"] == n_clusters
        assert float(found.I_TY) >= least
        assert float(found.gap) > 1e-4


def test_a_state_of_hardly_any_weight() -> None:
    given = joint([1e-12, 1 - 1e-12], [[1, 0], [0, 1]])
    found = blahut_arimoto(given, 2)
    assert found.p_t.values == pytest.approx([1e-12, 1], rel=1e-6)
    assert float(found.I_TY) == pytest.approx(given.H_Y, rel=1e-6)


def test_is_the_same_again_and_from_other_starts() -> None:
    states = random_joint(8, 3, 5)
    one, again, other = (blahut_arimoto(states, 6, random_state=seed) for seed in (0, 0, 1))
    assert one.identical(again)
    assert lagrangian(other, states) == pytest.approx(lagrangian(one, states), abs=1e-9)


def test_an_input_in_two_halves_and_one_without_weight_change_nothing() -> None:
    q = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    whole = blahut_arimoto(joint([0.5, 0.3, 0.2], q), 4)
    split = blahut_arimoto(joint([0.2, 0.25, 0.3, 0.0, 0.25], q[[2, 0, 1, 1, 0]]), 4)
    for name in ("I_XT", "I_TY", "p_t_given_state"):
        assert split[name].values == pytest.approx(whole[name].values, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 0.99}, "1 or more, but got 0.99"),
        ({"beta": np.inf}, "but got inf"),
        ({"beta": 2, "n_clusters": 0}, "n_clusters must be a number from 1 to that of the states, 2, but got 0"),
        ({"beta": 2, "n_clusters": 3}, "2, but got 3"),
        ({"beta": 2, "n_clusters": 1.5}, "but got 1.5"),
        ({"beta": 2, "tol": 0}, "tol must be positive but got 0"),
        ({"beta": 2, "max_iterations": 0}, "max_iterations must be 1 or more but got 0"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        blahut_arimoto(SYMMETRIC, **arguments)
