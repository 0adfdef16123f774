"""Joint distributions and their states: what merges, what is kept to the bit, and what is refused."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipstore.analysis.ib import joint, reduce, states
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError
from ipstore.trainers.tasks import load


@st.composite
def tables(draw: st.DrawFn) -> tuple[Any, Any]:
    """Weights and p(y|x) of inputs of which many are equal and some have no weight."""
    classes, samples = draw(st.integers(2, 4)), draw(st.integers(2, 12))
    kinds = [*np.eye(classes)[:2].tolist(), [1 / classes] * classes]
    rows = np.array(draw(st.lists(st.sampled_from(kinds), min_size=samples, max_size=samples)))
    rows[:2] = np.eye(classes)[:2]
    weights = np.array(draw(st.lists(st.integers(0, 5), min_size=samples, max_size=samples)), np.float64)
    weights[:2] += 1
    return weights / weights.sum(), rows


@settings(max_examples=60, deadline=None)
@given(tables())
def test_states_are_the_distinct_rows_with_their_weights(table: tuple[Any, Any]) -> None:
    p_x, rows = table
    given = joint(p_x, rows)
    reduced, number = reduce(given), states(given)
    assert (number == -1).tolist() == (p_x == 0).tolist()
    there = number >= 0
    assert (reduced.p_y_given_x[number[there]] == given.p_y_given_x[there]).all()
    assert len(np.unique(reduced.p_y_given_x, axis=0)) == len(reduced.p_y_given_x)
    assert reduced.weights == pytest.approx(np.bincount(number[there], given.weights[there]), abs=1e-15)
    assert (reduced.weights > 0).all()
    assert pytest.approx((given.I_XY, given.H_Y), abs=1e-12) == (reduced.I_XY, reduced.H_Y)
    assert reduced.H_X <= given.H_X + 1e-12
    ordered = [tuple(row[::-1]) for row in reduced.p_y_given_x]
    assert ordered == sorted(ordered)


@settings(max_examples=30, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_splitting_or_shuffling_inputs_changes_no_state(table: tuple[Any, Any], random: Any) -> None:
    p_x, rows = table
    once = reduce(joint(p_x, rows))
    order = random.sample(range(2 * len(p_x)), 2 * len(p_x))
    share = np.repeat([0.25, 0.75], len(p_x))
    twice = joint((np.tile(p_x, 2) * share)[order], np.tile(rows, (2, 1))[order])
    assert (reduce(twice).p_y_given_x == once.p_y_given_x).all()
    assert reduce(twice).weights == pytest.approx(once.weights, abs=1e-15)


def test_reducing_twice_changes_nothing() -> None:
    once = reduce(joint(None, load("rule", information=0.99).p_y_given_x))
    assert once.p_y_given_x.shape == (53, 2)
    assert (reduce(once).p_y_given_x == once.p_y_given_x).all()
    assert (reduce(once).weights == once.weights).all()


def test_samples_of_one_input_are_their_weighted_mean() -> None:
    given = Probe.of([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.0, 1.0]], [7, 7, 3, 9], [0.1, 0.3, 0.2, 0.4])
    reduced = reduce(given)
    assert reduced.p_y_given_x == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75], [0, 1]]), abs=1e-15)
    assert reduced.weights == pytest.approx([0.2, 0.4, 0.4])
    assert states(given).tolist() == [1, 1, 0, 2]


def test_repeated_samples_keep_their_row_to_the_bit() -> None:
    rows = np.array([[1 / 3, 2 / 3], [0.9, 0.1]])
    given = Probe.of(rows[[0, 0, 0, 1]], [0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4])
    assert (reduce(given).p_y_given_x == rows[::-1] / rows[::-1].sum(axis=1, keepdims=True)).all()


def test_a_joint_knows_its_information() -> None:
    given = joint(None, [[0.9, 0.1], [0.1, 0.9]])
    assert pytest.approx((0.5310044064, 1, 1), abs=1e-10) == (given.I_XY, given.H_X, given.H_Y)
    assert (given.labels, joint(None, np.eye(3)).labels) == ("soft", "hard")


@pytest.mark.parametrize(
    ("p_x", "p_y_given_x", "message"),
    [
        ([0.5, 0.6], np.eye(2), "p_x must sum to one but one sums to 1.1; divide by the sum"),
        ([0.5, 0.5], [[1, 0], [0.5, 0.4]], "the rows of p_y_given_x must sum to one but one sums to 0.9"),
        ([1.5, -0.5], np.eye(2), "p_x must hold probabilities but its values lie in [-0.5, 1.5]"),
        ([0.5, 0.5], [[1, 0], [-0.1, 1.1]], "p_y_given_x must hold probabilities"),
        ([0.5, 0.5], [[1, 0], [np.nan, 1]], "p_y_given_x must hold probabilities"),
        ([0.5, np.inf], np.eye(2), "p_x must hold probabilities"),
        ([0.2, 0.3, 0.5], np.eye(2), "p_x must have one entry per sample (2) but has shape (3,)"),
        ([[0.5, 0.5]], np.eye(2), "p_x must be a non-empty (sample,) array but has shape (1, 2)"),
        (None, [0.5, 0.5], "p_y_given_x must be a non-empty (sample, class) array but has shape (2,)"),
        (None, np.zeros((0, 2)), "has shape (0, 2)"),
        (None, [[1.0], [1.0]], "Give labels of at least two classes"),
        (None, [[1, 0], [1, 0]], "one class only"),
        ([1, 0], np.eye(2), "one class only"),
    ],
)
def test_what_is_no_joint_is_refused(p_x: Any, p_y_given_x: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)):
        joint(p_x, p_y_given_x)


@pytest.mark.parametrize("p_x", [None, [0.3, 0.7], [1, 0]])
def test_a_label_that_is_independent_of_the_input_is_refused(p_x: Any) -> None:
    given = joint(p_x, [[0.3, 0.7], [0.3, 0.7]])
    with pytest.raises(ParameterError, match=r"Y is independent of X.*Give labels that depend on the input"):
        reduce(given)
    with pytest.raises(ParameterError, match="independent"):
        states(given)
