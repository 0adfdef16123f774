"""The ensemble trainer against float64 autograd, and that a seed's numbers are its own to the bit."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from ipstore.errors import ParameterError, ResumeError
from ipstore.trainers import ensemble as ensemble_module
from ipstore.trainers import tasks
from ipstore.trainers.backend import Backend
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.ensemble import Ensemble
from ipstore.trainers.randomness import Purpose, shuffle
from ipstore.trainers.tasks import Task

RULE = tasks.load("rule", signed=True)
REFERENCE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "hard_tanh": functional.hardtanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "linear": lambda z: z,
}


def blobs(samples: int, features: int, classes: int) -> Task:
    """Noise around a mean of each class, in odd sizes."""
    rng = np.random.default_rng(samples)
    y = rng.integers(classes, size=samples)
    x = (rng.normal(size=(classes, features))[y] + 0.5 * rng.normal(size=(samples, features))).astype(np.float32)
    return Task(x=x, p_x=np.full(samples, 1 / samples), p_y_given_x=np.eye(classes)[y], x_id=np.arange(samples))


BLOBS = blobs(701, 9, 3)


def probe(ensemble: Ensemble) -> dict[str, Tensor]:
    """Activations, loss and accuracy, by name."""
    shape = len(ensemble.seeds), len(ensemble.task.x)
    dtype = next(iter(ensemble.parameters().values())).dtype
    out = {layer: torch.full((*shape, width), torch.nan, dtype=dtype) for layer, width in ensemble.widths.items()}
    metrics = ensemble.probe(out)
    return {**out, "loss": metrics.loss, "accuracy": metrics.accuracy}


def history(ensemble: Ensemble, epochs: int) -> dict[str, NDArray[Any]]:
    """All that can be seen of an ensemble while it trains, each with leading axes (seed, ...)."""
    seen: dict[str, Tensor] = {}
    for epoch in range(epochs):
        moments = ensemble.train_epoch()
        now = {**probe(ensemble), "mean_norm": moments.mean_norm, "std_norm": moments.std_norm}
        now |= {"weight_norm": ensemble.weight_norms()}
        now |= {f"parameters of {layer}": values for layer, values in ensemble.parameters().items()}
        seen |= {f"{name} at {epoch}": values.clone() for name, values in now.items()}
    return {**{name: values.numpy() for name, values in seen.items()}, **ensemble.state()}


def assert_same_bits(ours: dict[str, NDArray[Any]], theirs: dict[str, NDArray[Any]], rows: Sequence[int]) -> None:
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name][list(rows)], err_msg=name, strict=True)


def reference(ensemble: Ensemble, epochs: int) -> dict[str, NDArray[Any]]:
    """Train the ensemble's first seed by autograd and torch.optim in float64."""
    config, task, seed = ensemble.config, ensemble.task, ensemble.seeds[0]
    widths = [task.x.shape[1], *config.hidden, task.p_y_given_x.shape[1]]
    layers: list[tuple[Tensor, Tensor]] = []
    for flat, (inputs, units) in zip(ensemble.parameters().values(), pairwise(widths), strict=True):
        weight, bias = flat[0].tensor_split([units * inputs])
        layers.append((weight.clone().reshape(units, inputs).requires_grad_(), bias.clone().requires_grad_()))
    every = [parameter for layer in layers for parameter in layer]
    optimiser = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.optimizer](every, lr=config.learning_rate)
    x, y = torch.tensor(task.x, dtype=torch.float64), torch.tensor(task.y)

    def run(a: Tensor) -> list[Tensor]:
        outputs = []
        for weight, bias in layers[:-1]:
            a = REFERENCE[config.activation](functional.linear(a, weight, bias))
            outputs.append(a)
        return [*outputs, functional.linear(a, *layers[-1])]

    train = np.flatnonzero(task.split(seed, config.train_fraction))
    gradients: list[list[Tensor]] = []
    for epoch in range(epochs):
        gradients = []
        order = train.copy()
        shuffle(order, seed, Purpose.ORDER, epoch)
        size = config.batch_size or len(order)
        for batch in (torch.tensor(order[at : at + size]) for at in range(0, len(order), size)):
            loss = functional.cross_entropy(run(x[batch])[-1], y[batch])
            gradient = torch.autograd.grad(loss, every)
            gradients.append([torch.cat([w.flatten(), b]) for w, b in zip(gradient[::2], gradient[1::2], strict=True)])
            for parameter, parameter_gradient in zip(every, gradient, strict=True):
                parameter.grad = parameter_gradient
            optimiser.step()
    with torch.no_grad():
        *hidden, logits = run(x)
        split = torch.tensor(task.split(seed, config.train_fraction))
        per_layer = [torch.stack(steps) for steps in zip(*gradients, strict=True)]
        found = {
            "loss": torch.stack([functional.cross_entropy(logits[m], y[m]) for m in (split, ~split)]),
            "accuracy": torch.stack([(logits.argmax(1) == y)[m].double().mean() for m in (split, ~split)]),
            "mean_norm": torch.stack([g.mean(0).norm() for g in per_layer]),
            "std_norm": torch.stack([g.std(0, correction=0).norm() for g in per_layer]),
            "weight_norm": torch.stack([torch.cat([w.flatten(), b]).norm() for w, b in layers]),
        }
        for name, a, (weight, bias) in zip(ensemble.layers, [*hidden, logits.softmax(1)], layers, strict=True):
            found |= {name: a, f"parameters of {name}": torch.cat([weight.flatten(), bias])}
    return {name: values.numpy() for name, values in found.items()}


@pytest.mark.parametrize(
    ("task", "config"),
    [
        (RULE, TrainConfig(batch_size=None)),
        (RULE, TrainConfig(optimizer="adam", learning_rate=0.002)),
        (BLOBS, TrainConfig(hidden=(8, 5), activation="relu", batch_size=50, init="kaiming_normal")),
        (BLOBS, TrainConfig(hidden=(17, 3), activation="sigmoid", batch_size=33, init="xavier_uniform")),
        (BLOBS, TrainConfig(hidden=(6, 5), activation="hard_tanh", batch_size=64, optimizer="adam")),
        (BLOBS, TrainConfig(hidden=(4,), activation="linear", batch_size=100)),
        (BLOBS, TrainConfig(hidden=(), batch_size=100)),
    ],
    ids=lambda value: f"{value.activation}-{value.optimizer}" if isinstance(value, TrainConfig) else "",
)
def test_equals_float64_autograd(task: Task, config: TrainConfig) -> None:
    ensemble = Ensemble(task, config, [3, 1], dtype="float64")
    expected = reference(ensemble, 3)
    ours = history(ensemble, 3)
    for name, values in expected.items():
        scale = np.abs(values).max() or 1.0
        np.testing.assert_allclose(ours[f"{name} at 2"][0], values, rtol=1e-6, atol=1e-9 * scale, err_msg=name)


CASES = [
    (RULE, TrainConfig()),
    (RULE, TrainConfig(activation="relu", batch_size=100, optimizer="adam", learning_rate=0.001)),
    (RULE, TrainConfig(hidden=(13, 31, 1), activation="sigmoid", batch_size=None, learning_rate=1.0)),
    (BLOBS, TrainConfig(hidden=(10, 7, 5, 4, 3), batch_size=33, train_fraction=1)),
    (BLOBS, TrainConfig(hidden=(64, 20), activation="relu", batch_size=7, learning_rate=0.01)),
    (BLOBS, TrainConfig(hidden=(3, 17, 2), activation="sigmoid", batch_size=130, optimizer="adam")),
    (blobs(37, 5, 11), TrainConfig(hidden=(9,), activation="hard_tanh", batch_size=1, optimizer="adam")),
]


@pytest.mark.parametrize(("task", "config"), CASES, ids=range(len(CASES)))
def test_a_seed_is_the_same_to_the_bit_in_any_ensemble(task: Task, config: TrainConfig) -> None:
    seeds = list(range(100, 150))
    whole = history(Ensemble(task, config, seeds), 2)
    for rows in ([0], [49], [8, 3], range(11, 14), range(20, 27), [49, *range(1, 20)], range(5, 30)):
        part = history(Ensemble(task, config, [seeds[row] for row in rows]), 2)
        assert_same_bits(part, whole, rows)


@pytest.mark.parametrize("memory", [1, 300_000, 1 << 30])
def test_a_seed_is_the_same_to_the_bit_however_seeds_share_memory(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = history(Ensemble(RULE, TrainConfig(), range(7)), 1)
    monkeypatch.setattr(ensemble_module, "_PASS_BYTES", memory)
    assert_same_bits(history(Ensemble(RULE, TrainConfig(), range(7)), 1), usual, range(7))


def test_a_seed_is_the_same_to_the_bit_whatever_threads_blas_has() -> None:
    config = TrainConfig(hidden=(400, 100), batch_size=2048, learning_rate=0.01)
    with threadpool_limits(1):
        one = history(Ensemble(RULE, config, [1]), 2)
    with threadpool_limits(4):
        assert_same_bits(history(Ensemble(RULE, config, [1]), 2), one, [0])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_loaded_state_continues_to_the_bit(optimizer: Any) -> None:
    config = TrainConfig(optimizer=optimizer, learning_rate=0.01)
    whole = Ensemble(RULE, config, range(7))
    parts = [Ensemble(RULE, config, range(3)), Ensemble(RULE, config, range(3, 7))]
    for ensemble in (whole, *parts):
        history(ensemble, 2)
    states = [part.state() for part in parts]
    state = {name: np.concatenate([state[name] for state in states]) for name in states[0]}
    continued = Ensemble(RULE, config, range(7))
    continued.load_state(state, epoch=2)
    assert continued.epoch == 2
    assert_same_bits(history(continued, 2), history(whole, 2), range(7))
    assert all(values.shape[0] == 7 for values in state.values())


def test_a_state_is_a_copy() -> None:
    ensemble = Ensemble(BLOBS, TrainConfig(optimizer="adam"), [1])
    before = ensemble.state()
    kept = {name: values.copy() for name, values in before.items()}
    ensemble.train_epoch()
    assert_same_bits(before, kept, [0])


def test_a_state_of_another_kind_is_refused() -> None:
    sgd, adam = (Ensemble(BLOBS, TrainConfig(optimizer=name), [1]) for name in ("sgd", "adam"))
    with pytest.raises(ResumeError, match="first_moment"):
        adam.load_state(sgd.state(), epoch=0)
    with pytest.raises(ResumeError, match="epoch 3 was asked for"):
        sgd.load_state(sgd.state(), epoch=3)
    with pytest.raises(ResumeError, match="needs"):
        Ensemble(BLOBS, TrainConfig(), [1, 2]).load_state(sgd.state(), epoch=0)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_diverging_seed_keeps_to_itself(poison: float) -> None:
    sound, ill = (Ensemble(BLOBS, TrainConfig(batch_size=33), range(5)) for _ in range(2))
    state = sound.state()
    state["parameters"][2] = poison
    ill.load_state(state, epoch=0)
    ours, theirs = history(ill, 2), history(sound, 2)
    rest = [0, 1, 3, 4]
    assert_same_bits({name: values[rest] for name, values in ours.items()}, theirs, rest)
    assert not np.isfinite(ours["loss at 1"][2]).any()
    np.testing.assert_array_equal(np.isnan(ours["accuracy at 1"][2]), np.isnan(ours["loss at 1"][2]))


def test_before_training() -> None:
    ensemble = Ensemble(RULE, TrainConfig(), [5, 6])
    assert ensemble.layers == ("layer1", "layer2", "layer3", "layer4", "layer5", "output")
    assert ensemble.widths == dict(zip(ensemble.layers, (10, 7, 5, 4, 3, 2), strict=True))
    assert ensemble.epoch == 0
    first, again = probe(ensemble), probe(ensemble)
    for name, values in first.items():
        assert values.isfinite().all()
        assert torch.equal(values, again[name])
    torch.testing.assert_close(first["output"].sum(-1), torch.ones(2, 4096))


def test_one_batch_has_no_deviation() -> None:
    moments = Ensemble(RULE, TrainConfig(batch_size=None), [5]).train_epoch()
    assert (moments.std_norm == 0).all()
    assert (moments.mean_norm > 0).all()


def test_no_test_samples_no_test_metrics() -> None:
    metrics = probe(Ensemble(RULE, TrainConfig(train_fraction=1), [5, 6]))
    for name in ("loss", "accuracy"):
        assert metrics[name].isnan().tolist() == [[False, True]] * 2


def test_a_tie_counts_its_share() -> None:
    ensemble = Ensemble(BLOBS, TrainConfig(hidden=(4,), train_fraction=0.5), [1])
    state = ensemble.state()
    state["parameters"][:] = 0
    ensemble.load_state(state, epoch=0)
    metrics = probe(ensemble)
    torch.testing.assert_close(metrics["accuracy"], torch.full((1, 2), 1 / 3))
    torch.testing.assert_close(metrics["loss"], torch.full((1, 2), float(np.log(3))))


def test_truncated_normal_is_cut_at_two_standard_deviations() -> None:
    ensemble = Ensemble(RULE, TrainConfig(hidden=(2000,)), [0, 1])
    weight, bias = ensemble.parameters()["layer1"].tensor_split([2000 * 12], dim=1)
    scaled = weight.double() * 12**0.5
    # 24,000 draws: the standard error of the standard deviation is 0.003; 0.8796 is that of N(0, 1) cut at 2.
    np.testing.assert_allclose(scaled.std(dim=1), 0.8796, atol=0.015)
    assert 1.95 < scaled.abs().max() <= 2.0001
    assert (bias == 0).all()
    assert not torch.equal(weight[0], weight[1])


def test_learns_the_rule() -> None:
    ensemble = Ensemble(RULE, TrainConfig(), range(5))
    for _ in range(400):
        ensemble.train_epoch()
    accuracy = probe(ensemble)["accuracy"]
    assert accuracy.median(dim=0).values.min() > 0.9


@pytest.mark.parametrize("seeds", [[], [3, 3], [-1], [0.5]])
def test_seeds_must_be_distinct_integers(seeds: Any) -> None:
    with pytest.raises(ParameterError, match="seed"):
        Ensemble(RULE, TrainConfig(), seeds)


@pytest.mark.parametrize("device", ["cuda:99", "no such device"])
def test_a_missing_device_is_refused(device: str) -> None:
    with pytest.raises(ParameterError, match="cannot train on device"):
        Ensemble(RULE, TrainConfig(), [0], device=device)


class OnDevice(Backend):
    """Takes the way of a GPU, through PyTorch, on the CPU."""

    def __init__(self, device: str, dtype: Any) -> None:
        super().__init__(device, dtype)
        self.on_cpu, self.xp = False, torch


def assert_close(ours: dict[str, NDArray[Any]], theirs: dict[str, NDArray[Any]]) -> None:
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=2e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(("task", "config"), CASES, ids=range(len(CASES)))
def test_the_code_of_a_gpu_agrees(task: Task, config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = history(Ensemble(task, config, range(3)), 1)
    monkeypatch.setattr(ensemble_module, "Backend", OnDevice)
    assert_close(history(Ensemble(task, config, range(3)), 1), usual)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("task", "config"), CASES, ids=range(len(CASES)))
def test_a_gpu_agrees(task: Task, config: TrainConfig) -> None:
    ours, theirs = (Ensemble(task, config, range(3), device=device) for device in ("cuda", "cpu"))
    mean_norm, expected = ours.train_epoch().mean_norm, theirs.train_epoch().mean_norm
    torch.testing.assert_close(mean_norm.cpu(), expected, rtol=2e-3, atol=2e-5)
    assert_close(ours.state(), theirs.state())
