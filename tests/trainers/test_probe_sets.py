"""What a user has becomes samples with a joint distribution, or a message that says why not."""

from typing import Any

import numpy as np
import pytest
import torch

from ipstore.errors import ParameterError
from ipstore.trainers.probe_sets import ProbeSet, probe_set
from ipstore.trainers.tasks import load

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 4)).astype(np.float32)
Y = np.arange(12) % 3


def same(one: ProbeSet, other: ProbeSet) -> bool:
    tasks = one.task, other.task
    arrays = ("x", "p_x", "p_y_given_x", "x_id")
    return all(np.array_equal(getattr(tasks[0], name), getattr(tasks[1], name)) for name in arrays)


@pytest.mark.parametrize("x", [X, torch.from_numpy(X), X.astype(np.float64), np.asfortranarray(X), X[::-1][::-1]])
@pytest.mark.parametrize("y", [Y, torch.from_numpy(Y), Y.tolist(), Y.astype(np.float64), Y[:, None], Y.astype(str)])
def test_arrays_and_tensors_are_one(x: Any, y: Any) -> None:
    made = probe_set((x, y))
    assert same(made, probe_set((X, Y)))
    assert made.names == ()
    np.testing.assert_array_equal(made.task.p_y_given_x, np.eye(3)[Y])
    np.testing.assert_array_equal(made.task.p_x, np.full(12, 1 / 12))
    assert not made.task.population


def test_classes_are_named() -> None:
    assert probe_set((X, Y * 10)).about == {"classes": [0, 10, 20]}
    assert probe_set((X, np.array(list("abc"))[Y])).about == {"classes": ["a", "b", "c"]}
    assert probe_set((X, Y == 1)).about == {"classes": [False, True]}


def test_several_inputs_lie_side_by_side() -> None:
    tokens = torch.arange(12 * 6).reshape(12, 2, 3)
    by_place = probe_set(((X, tokens), Y))
    by_name = probe_set(({"x": X, "tokens": tokens}, Y))
    assert same(by_place, by_name)
    np.testing.assert_array_equal(by_place.task.x, np.concatenate([X, tokens.reshape(12, 6).numpy()], axis=1))
    assert by_name.names == ("x", "tokens")
    place, args, kwargs = list(by_name.batches(5, torch.device("cpu")))[2]
    assert place == slice(10, 12)
    assert args == ()
    assert torch.equal(kwargs["tokens"], tokens[10:])
    _, args, kwargs = next(by_place.batches(5, torch.device("cpu")))
    assert torch.equal(args[0], torch.from_numpy(X[:5]))
    assert kwargs == {}


def test_images_keep_their_shape_for_the_model() -> None:
    images = torch.rand(12, 1, 5, 5)
    made = probe_set((images, Y))
    assert made.inputs[0].shape == (12, 1, 5, 5)
    assert made.task.x.shape == (12, 25)


def test_equal_inputs_share_their_labels() -> None:
    """Of four inputs, each there three times: p(y|x) is the share of each class among the three."""
    x, y = np.repeat(X[:4], 3, axis=0), np.array([0, 0, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0])
    order = RNG.permutation(12)
    task = probe_set((x[order], y[order])).task
    shares = np.repeat([[2 / 3, 1 / 3], [0, 1], [1 / 3, 2 / 3], [1, 0]], 3, axis=0)
    np.testing.assert_allclose(task.p_y_given_x, shares[order])
    assert (np.equal.outer(task.x_id, task.x_id) == np.equal.outer(order // 3, order // 3)).all()
    assert task.labels == "soft"


def test_a_distribution_of_labels_is_taken_as_it_is() -> None:
    p = RNG.dirichlet(np.ones(3), 12)
    np.testing.assert_array_equal(probe_set((X, p)).task.p_y_given_x, p)
    with pytest.raises(ParameterError, match=r"p_y_given_x must be non-negative and sum to 1.*off by up to 1"):
        probe_set((X, 2 * p))


def test_continuous_labels_are_binned_by_quantiles() -> None:
    y = RNG.standard_exponential(12)
    made = probe_set((X, y), label_bins=4)
    rank = y.argsort().argsort()
    np.testing.assert_array_equal(made.task.p_y_given_x.argmax(1), rank // 3)
    told = made.about["label_bins"]
    assert told["rule"] == "quantile"
    np.testing.assert_allclose(told["edges"], np.quantile(y, [0.25, 0.5, 0.75]))
    tied = np.array([0.5] * 9 + [1.5, 2.5, 3.5])
    assert (probe_set((X, tied), label_bins=4).task.p_y_given_x[:9] == np.eye(2)[0]).all()


def test_a_task_says_itself_what_it_is() -> None:
    task = load("rule", signed=True)
    made = probe_set(task)
    assert made.task.population
    assert (made.task.name, made.task.params) == (task.name, task.params)
    np.testing.assert_array_equal(made.task.p_y_given_x, task.p_y_given_x)
    drawn = probe_set(task, sample=100)
    assert not drawn.task.population
    assert drawn.about == {"sample": {"drawn": 100, "of": len(task.x)}}


def test_a_sample_is_the_same_every_time() -> None:
    made = probe_set((X, Y), sample=7)
    assert same(made, probe_set((X, Y), sample=7))
    assert len(made) == len(made.inputs[0]) == 7
    rows = [int(np.flatnonzero((row == X).all(1))[0]) for row in made.task.x]
    assert rows == sorted(set(rows)) != list(range(7))
    np.testing.assert_array_equal(made.task.p_y_given_x.argmax(1), Y[rows])


def test_what_the_user_has_stays_as_it_is() -> None:
    x = torch.from_numpy(X.copy())
    made = probe_set((x, Y))
    x += 1
    np.testing.assert_array_equal(made.inputs[0], X)


@pytest.mark.parametrize(
    ("probe", "options", "message"),
    [
        (X, {}, r"probe must be \(x, y\), or a task as .*load gives it, but got ndarray"),
        ((X, Y, Y), {}, r"must be \(x, y\).*but got tuple of 3"),
        ((X, Y[:11]), {}, r"as many samples but have shapes \(12, 4\) and \(11,\)"),
        (((X, X[:5]), Y), {}, r"\(12, 4\), \(5, 4\) and \(12,\)"),
        ((X[:0], Y[:0]), {}, r"at least|as many samples but have shapes \(0, 4\)"),
        ((X, Y * 0), {}, r"labels are all 0: I\(T;Y\) needs at least two classes"),
        ((X, np.full(12, 0.5)), {}, r"labels are all 0\.5: I\(T;Y\) needs at least two classes"),
        ((np.where(X > 0, np.nan, X), Y), {}, r"x holds NaN or infinite values"),
        ((X, np.where(Y > 1, np.inf, 0.5)), {}, r"y holds NaN or infinite values"),
        ((torch.empty(12, 4, device="meta"), Y), {}, r"x must be \(sample, \.\.\.\) with values.*on meta"),
        ((np.array(list("abcdefghijkl")), Y), {}, r"x must be tensors or arrays of numbers but got .*<U1"),
        (((), Y), {}, r"x has no input"),
        ((X, Y.reshape(3, 2, 2)), {}, r"as many samples|\(sample,\), or p\(y\|x\)"),
        ((X, np.zeros((12, 2, 2))), {}, r"must be \(sample,\), or p\(y\|x\) \(sample, class\), but has shape \(12, 2"),
        ((X, Y), {"sample": 13}, r"sample must be 2 to 12, the number of samples of the probe, but got 13"),
        ((X, Y), {"sample": 2.5}, r"but got 2\.5"),
        ((X, X[:, 0]), {"label_bins": 1}, r"label_bins must be .*at least 2 but got 1"),
    ],
)
def test_bad_probes(probe: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        probe_set(probe, **options)
