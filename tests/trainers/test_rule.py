"""Tasks: the paper's rule against the published table and known numbers, and what any task must keep."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipstore.errors import ParameterError, UnknownNameError
from ipstore.trainers import tasks
from ipstore.trainers.tasks.base import Task
from ipstore.trainers.tasks.rule import THRESHOLD, pair_counts, power, rule

# SHA-256 of the labels that the authors of arXiv 1703.00810 published with their code, as uint8 in row order.
PUBLISHED = "77732f16f85e91b49d3997196b56163b3bd362d8cf631468a8de3f986e88359f"
PATTERNS = np.array([[int(bit) for bit in f"{row:012b}"] for row in range(4096)])


def entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def test_labels_are_the_published_table() -> None:
    task = tasks.load("rule")
    assert hashlib.sha256(task.y.astype(np.uint8).tobytes()).hexdigest() == PUBLISHED
    np.testing.assert_array_equal(task.x, PATTERNS)
    assert task.labels == "hard"
    assert pytest.approx(task.I_XY, abs=1e-12) == entropy(np.bincount(task.y) / 4096)
    assert pytest.approx(0.99916, abs=5e-6) == task.I_XY


def test_there_are_64_pair_distance_spectra_and_the_label_is_a_function_of_them() -> None:
    spectra, orbit = np.unique(pair_counts(PATTERNS), axis=0, return_inverse=True)
    assert len(spectra) == 64
    label = tasks.load("rule").y
    assert all(len(np.unique(label[orbit == k])) == 1 for k in range(64))


def test_power_is_the_norm_of_the_vector_sum() -> None:
    # Another construction of the icosahedron: a pole, two rings of five, a pole. Rotation and the order of
    # columns only permute the patterns, so f must take the same values equally often.
    height, radius, turn = 5**-0.5, 2 * 5**-0.5, 2 * np.pi / 5
    upper = [(radius * np.cos(k * turn), radius * np.sin(k * turn), height) for k in range(5)]
    vertices = np.array([(0, 0, 1), *upper, *(tuple(-c for c in v) for v in upper), (0, 0, -1)])
    expected = PATTERNS.sum(axis=1) + np.linalg.norm(PATTERNS @ vertices, axis=1)
    np.testing.assert_allclose(np.sort(power(PATTERNS)), np.sort(expected), atol=1e-12)


def test_threshold_lies_in_the_gap_of_the_power() -> None:
    f = power(PATTERNS)
    assert f[f < THRESHOLD].max() == pytest.approx(7.5628, abs=5e-5)
    assert f[f > THRESHOLD].min() == pytest.approx(7.7013, abs=5e-5)


@pytest.mark.parametrize(("information", "gamma"), [(0.99, 54.47821), (0.90, 10.3571)])
def test_soft_labels_have_the_known_steepness(information: float, gamma: float) -> None:
    p = tasks.load("rule", information=information).p_y_given_x
    margin = power(PATTERNS) - THRESHOLD
    row = np.abs(margin).argmin()
    assert np.log(p[row, 1] / p[row, 0]) / margin[row] == pytest.approx(gamma, rel=1e-5)


def test_soft_labels_are_equal_to_the_bit_within_an_orbit() -> None:
    task = tasks.load("rule", information=0.99)
    assert task.labels == "soft"
    assert len(np.unique(task.p_y_given_x, axis=0)) == 53
    np.testing.assert_array_equal(task.y, tasks.load("rule").y)


@given(st.floats(1e-4, 0.999))
def test_soft_labels_have_the_information_asked_for(information: float) -> None:
    task = tasks.load("rule", information=information)
    p_y = task.p_x @ task.p_y_given_x
    noise = sum(p * entropy(row) for p, row in zip(task.p_x, task.p_y_given_x, strict=True))
    assert entropy(p_y) - noise == pytest.approx(information, abs=1e-9)
    assert pytest.approx(information, abs=1e-12) == task.I_XY


@pytest.mark.parametrize("information", [0.0, -0.5, 0.99916, 1.0, np.nan, np.inf])
def test_information_out_of_range_is_refused(information: float) -> None:
    with pytest.raises(ParameterError, match=r"information must lie in \(0, 0\.99916\) bits but got"):
        rule(information=information)


def test_signed_inputs() -> None:
    np.testing.assert_array_equal(tasks.load("rule", signed=True).x, 2 * PATTERNS - 1)


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 1))
def test_split_has_the_same_size_for_every_seed(seed: int, fraction: float) -> None:
    mask = tasks.load("rule").split(seed, fraction)
    assert mask.dtype == np.bool_
    assert mask.sum() == round(fraction * 4096)


def test_split_depends_on_the_seed_alone_and_is_uniform() -> None:
    task = tasks.load("rule")
    masks = np.stack([task.split(seed, 0.85) for seed in range(400)])
    np.testing.assert_array_equal(masks[7], tasks.load("rule", signed=True).split(7, 0.85))
    assert len(np.unique(masks, axis=0)) == 400
    # Each sample is drawn Binomial(400, 0.85) times, standard deviation 7.1; all stay within 5 of it.
    assert np.abs(masks.sum(axis=0) - 340).max() < 36


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, np.nan, 1e-5])
def test_split_refuses_a_fraction_outside_0_1(fraction: float) -> None:
    with pytest.raises(ParameterError, match="train fraction"):
        tasks.load("rule").split(0, fraction)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, "3"])
def test_split_refuses_what_is_no_seed(seed: object) -> None:
    with pytest.raises(ParameterError, match="a seed must be an integer"):
        tasks.load("rule").split(seed, 0.5)  # type: ignore[arg-type]  # what a user may pass


def test_a_task_is_rebuilt_from_its_name_and_params() -> None:
    task = tasks.load("rule", information=0.7, signed=True)
    again = tasks.load(task.name, **json.loads(json.dumps(dict(task.params))))
    for name in ("x", "y", "p_x", "p_y_given_x", "x_id"):
        np.testing.assert_array_equal(getattr(task, name), getattr(again, name))
    assert task.name == "rule"


def test_arrays_of_a_task_are_its_own_and_read_only() -> None:
    x = np.zeros((2, 3), np.float32)
    task = Task(x=x, p_x=np.full(2, 0.5), p_y_given_x=np.eye(2), x_id=np.zeros(2, np.int64))
    x[:] = 7
    assert not task.x.any()
    with pytest.raises(ValueError, match="read-only"):
        task.x[0, 0] = 1


def test_a_task_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_task.py").write_text(
        "import numpy as np\n"
        "from ipstore.trainers.tasks import Task\n"
        "def coins(n=4):\n"
        "    fair = np.full((n, 2), 0.5)\n"
        "    return Task(x=np.eye(n), p_x=np.full(n, 1 / n), p_y_given_x=fair, x_id=np.arange(n))\n"
        "def nothing():\n"
        "    return None\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = tasks.load("own_task:coins", n=6)
    assert task.x.shape == (6, 6)
    assert pytest.approx(0, abs=1e-15) == task.I_XY
    assert (task.name, task.params) == ("own_task:coins", {"n": 6})
    with pytest.raises(ParameterError, match="returned a NoneType"):
        tasks.load("own_task:nothing")
    with pytest.raises(ParameterError, match="is a int"):
        tasks.load("own_task:number")
    with pytest.raises(UnknownNameError, match="own_task:coin"):
        tasks.load("own_task:coin")
    with pytest.raises(ParameterError, match="as JSON values"):
        tasks.load("own_task:coins", n={1, 2})
    del sys.modules["own_task"]


@pytest.mark.parametrize("name", ["rull", "no_such_module:task", ":task", "module:"])
def test_an_unknown_task_names_those_there_are(name: str) -> None:
    with pytest.raises(UnknownNameError, match="rule"):
        tasks.load(name)


def test_an_unknown_parameter_names_those_there_are() -> None:
    with pytest.raises(ParameterError, match="information"):
        tasks.load("rule", informatoin=0.9)


def test_available() -> None:
    assert "rule" in tasks.available()


GOOD: dict[str, Any] = {
    "x": np.eye(3),
    "p_x": np.full(3, 1 / 3),
    "p_y_given_x": np.full((3, 2), 0.5),
    "x_id": np.arange(3),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.eye(4)}, "equal numbers of samples"),
        ({"x": np.ones(3)}, "equal numbers of samples"),
        ({"x_id": np.arange(2)}, "equal numbers of samples"),
        ({"p_y_given_x": np.ones((3, 1))}, "one class only"),
        ({"p_y_given_x": np.full((3, 2), 0.6)}, "sum to 1"),
        ({"p_y_given_x": np.array([[1.5, -0.5]] * 3)}, "non-negative"),
        ({"p_x": np.full(3, 0.3)}, "sum to 1"),
        ({"p_x": np.array([np.nan, 0.5, 0.5])}, "p_x holds NaN"),
        ({"x": np.diag([1, np.inf, 1])}, "x holds NaN or infinite"),
        ({"x_id": np.array([0, 1, 0])}, "x_id 0 stands for different inputs"),
    ],
)
def test_a_task_refuses_what_is_no_joint_distribution(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Task(**{**GOOD, **change})
