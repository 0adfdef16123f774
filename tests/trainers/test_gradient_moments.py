"""Moments of gradients, against all gradients kept and averaged in float64."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import ipstore
from ipstore.trainers import Recorder, moments
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.moments import RunningMoments, watch
from ipstore.trainers.streaming import capture
from ipstore.trainers.tasks import load
from tests.store.synthetic import array

Gradients = dict[str, list[NDArray[np.float64]]]


def kept(model: nn.Module) -> dict[str, NDArray[np.float64]]:
    """All gradients as they are now."""
    found = {}
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()
        found[name] = gradient.double().numpy().copy()
    return found


def naive(steps: Sequence[dict[str, NDArray[np.float64]]]) -> dict[str, tuple[float, float]]:
    """Squared norm of the mean, and summed variance, of each parameter."""
    stacked = {name: np.stack([step[name] for step in steps]) for name in steps[0]}
    return {name: (float((each.mean(0) ** 2).sum()), float(each.var(0).sum())) for name, each in stacked.items()}


def assert_agree(model: nn.Module, running: RunningMoments, steps: Sequence[dict[str, Any]]) -> None:
    found, expected = running.take(), naive(steps)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[parameter] for parameter in found} == {
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    for parameter, pair in found.items():
        np.testing.assert_allclose(pair, expected[names[parameter]], rtol=1e-5, atol=1e-12, err_msg=names[parameter])


class Odd(nn.Module):
    """Small layers, one beyond the size to which small ones are put together, and a scalar."""

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, sparse=sparse)
        self.wide = nn.Linear(6, 12_000)
        self.narrow = nn.Linear(12_000, 3)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.empty = nn.Parameter(torch.zeros(0, 3))

    def forward(self, x: Tensor, narrow: bool = True) -> Tensor:
        out = self.scale * torch.tanh(self.wide(self.embedding(x)))
        return self.narrow(out) if narrow else out[:, :3]


def backward(model: nn.Module, x: Tensor, **options: Any) -> None:
    torch.autograd.backward(F.cross_entropy(model(x, **options), x % 3))


@pytest.mark.parametrize("sparse", [False, True])
def test_moments_of_all_kinds_of_parameters(sparse: bool) -> None:
    torch.manual_seed(0)
    model = Odd(sparse)
    assert model.wide.weight.numel() > moments._TOGETHER > model.wide.bias.numel()
    model.wide.bias.requires_grad_(False)
    running, steps = RunningMoments(model.parameters()), []
    for epoch in range(2):  # each epoch begins anew
        for at in range(5):
            model.zero_grad()
            backward(model, torch.randint(11, (8,)), narrow=at != 2)  # a step at which one layer has no gradient
            running.step()
            steps.append(kept(model))
        assert_agree(model, running, steps[5 * epoch :])
    assert running.take() == {}


def test_a_mean_far_from_zero_hides_no_spread() -> None:
    """Squares that are summed before the mean is known would lose it."""
    parameter = nn.Parameter(torch.zeros(1000))
    running = RunningMoments([parameter])
    rng = np.random.default_rng(0)
    steps = (1000 + rng.standard_normal((50, 1000))).astype(np.float32)
    for step in steps:
        parameter.grad = torch.from_numpy(step)
        running.step()
    mean, spread = running.take()[parameter]
    exact = steps.astype(np.float64)
    assert mean == pytest.approx((exact.mean(0) ** 2).sum(), rel=1e-5)
    assert spread == pytest.approx(exact.var(0).sum(), rel=1e-4)  # float32 is exact to 6e-5 at 1000


def test_layers_unfrozen_later_are_taken_in() -> None:
    model = Odd()
    model.narrow.requires_grad_(False)
    running = RunningMoments(model.parameters())
    backward(model, torch.arange(8))
    running.step()
    assert not {model.narrow.weight, model.narrow.bias} & set(running.take())
    model.narrow.requires_grad_(True)
    backward(model, torch.arange(8))
    running.step()
    assert {model.narrow.weight, model.narrow.bias} <= set(running.take())


def test_memory_is_one_copy_of_the_parameters() -> None:
    """All tensors that are held between steps, by what they take."""
    model = Odd()
    running = RunningMoments(model.parameters())
    backward(model, torch.arange(8))
    running.step()
    held = [value for piece in running._pieces for value in vars(piece).values() if isinstance(value, Tensor)]
    values = sum(parameter.numel() for parameter in model.parameters())
    count = sum(1 for _ in model.parameters())
    assert sum(tensor.nbytes for tensor in held) == 4 * values + (8 + 8) * count  # lengths, and sums of squares
    running.take()
    assert running._pieces == []


class Recorded:
    """A recorder, and beside it every gradient that there was when an optimizer made a step."""

    def __init__(self, store: Path, model: nn.Module, probe: Any, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.store, self.model, self.steps = store, model, [list[Any]() for _ in optimizers]
        for steps, optimizer in zip(self.steps, optimizers, strict=True):
            watch(optimizer, lambda steps=steps: steps.append(kept(model)))  # type: ignore[misc]
        self.recorder = Recorder(store, model, probe, "run", optimizer=optimizers)

    def stored(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and spreads (layer) of the last epoch."""
        self.recorder.close()
        run = ipstore.open(self.store, run="run")
        mean, std = (array(run, f"training/grad_{name}_norm")[-1, 0].to_numpy() for name in ("mean", "std"))
        return mean.astype(np.float64), std.astype(np.float64)


def two_layers() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


X, Y = torch.randn(30, 4, generator=torch.Generator().manual_seed(2)), torch.arange(30) % 3


def layers(pairs: dict[str, tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Norms of the two layers, between which the activation function has none."""
    sums = [np.add(pairs[f"{name}.weight"], pairs[f"{name}.bias"]) for name in "02"]
    return tuple([float(each[k]) ** 0.5 for each in (sums[0], [np.nan, np.nan], sums[1])] for k in (0, 1))  # type: ignore[return-value]


def test_accumulated_gradients_are_those_of_the_step(tmp_path: Path) -> None:
    model = two_layers()
    optimizer = torch.optim.Adam(model.parameters())
    recorded = Recorded(tmp_path, model, (X, Y), [optimizer])
    for at, batch in enumerate(torch.split(torch.arange(30), 5)):
        torch.autograd.backward(F.cross_entropy(model(X[batch]), Y[batch]) / 2)
        if at % 2:
            optimizer.step()
            optimizer.zero_grad()
    recorded.recorder.epoch()
    assert len(recorded.steps[0]) == 3
    np.testing.assert_allclose(recorded.stored(), layers(naive(recorded.steps[0])), rtol=1e-5)


def test_one_batch_has_no_spread(tmp_path: Path) -> None:
    model = two_layers()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorded = Recorded(tmp_path, model, (X, Y), [optimizer])
    torch.autograd.backward(F.cross_entropy(model(X), Y))
    optimizer.step()
    recorded.recorder.epoch()
    mean, std = recorded.stored()
    assert std.tolist()[::2] == [0, 0]
    assert np.isnan(std[1])
    np.testing.assert_allclose(mean, layers(naive(recorded.steps[0]))[0], rtol=1e-5)


def test_each_of_several_optimizers_counts_its_own_steps(tmp_path: Path) -> None:
    """One makes a step for each batch, the other for every second, when the gradients of the first are others."""
    model = two_layers()
    optimizers = [torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.Adam(model[2].parameters())]
    recorded = Recorded(tmp_path, model, (X, Y), optimizers)
    for at, batch in enumerate(torch.split(torch.arange(30), 5)):
        torch.autograd.backward(F.cross_entropy(model(X[batch]), Y[batch]))
        optimizers[0].step()
        optimizers[0].zero_grad()
        if at % 2:
            optimizers[1].step()
            optimizers[1].zero_grad()
    recorded.recorder.epoch()
    assert list(map(len, recorded.steps)) == [6, 3]
    first, second = map(naive, recorded.steps)
    expected = {name: (first if name.startswith("0") else second)[name] for name in first}
    np.testing.assert_allclose(recorded.stored(), layers(expected), rtol=1e-5)


def test_a_line_search_is_one_step(tmp_path: Path) -> None:
    """LBFGS evaluates its closure again and again; the mini-batch's gradient is the first."""
    model = two_layers()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5, line_search_fn="strong_wolfe")
    first: list[dict[str, NDArray[np.float64]]] = []
    with Recorder(tmp_path, model, (X, Y), "run", optimizer=optimizer) as recorder:
        for batch in torch.split(torch.arange(30), 10):
            seen: list[dict[str, NDArray[np.float64]]] = []

            def closure(batch: Tensor = batch, seen: list[Any] = seen) -> float:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(X[batch]), Y[batch])
                torch.autograd.backward(loss)
                seen.append(kept(model))
                return loss.item()

            optimizer.step(closure)  # type: ignore[no-untyped-call]
            assert len(seen) > 1
            first.append(seen[0])
        recorder.epoch()
    run = ipstore.open(tmp_path, run="run")
    stored = [array(run, f"training/grad_{name}_norm")[-1, 0] for name in ("mean", "std")]
    np.testing.assert_allclose(stored, layers(naive(first)), rtol=1e-5)


def test_steps_told_by_hand(tmp_path: Path) -> None:
    model, steps = two_layers(), []
    with Recorder(tmp_path, model, (X, Y), "run") as recorder:
        for batch in torch.split(torch.arange(30), 10):
            model.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(X[batch]), Y[batch]))
            recorder.step()
            steps.append(kept(model))
        recorder.epoch()
        recorder.epoch()
    run = ipstore.open(tmp_path, run="run")
    for place, name in enumerate(("mean", "std")):
        stored = array(run, f"training/grad_{name}_norm")[:, 0]
        np.testing.assert_allclose(stored[1], layers(naive(steps))[place], rtol=1e-5)
        assert stored[[0, 2]].isnull().all()


def by_hand(task: Any, config: TrainConfig, seed: int, run: Any) -> nn.Sequential:
    """The network that the ensemble begins with, weight for weight."""
    widths = [task.x.shape[1], *config.hidden, task.p_y_given_x.shape[1]]
    made: list[nn.Module] = []
    for at, (inputs, units) in enumerate(pairwise(widths)):
        name = f"layer{at + 1}" if at < len(config.hidden) else "output"
        flat = torch.from_numpy(array(run, f"weights/{name}").sel(seed=seed).isel(epoch=0).to_numpy().copy())
        linear = nn.Linear(inputs, units)
        with torch.no_grad():
            linear.weight.copy_(flat[:-units].reshape(units, inputs))
            linear.bias.copy_(flat[-units:])
        made += [linear, nn.Tanh()]
    return nn.Sequential(*made[:-1])


def test_agreement_with_the_ensemble(tmp_path: Path) -> None:
    """ipstore's own trainer, which computes many networks at once, against a module of the same weights."""
    task = load("rule", signed=True)
    config = TrainConfig(hidden=(5, 3), epochs=3, batch_size=4096, learning_rate=0.1, optimizer="sgd", train_fraction=1)
    own = capture(task, tmp_path, "own", config, seeds=(4,), processes=0)
    model = by_hand(task, config, 4, own)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = torch.from_numpy(task.x.copy()), torch.from_numpy(task.y.copy())
    with Recorder(tmp_path, model, task, "module", layers=["0", "1", "2", "3", "4"], optimizer=optimizer) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            torch.autograd.backward(loss)
            optimizer.step()
            recorder.epoch()
    run = ipstore.open(tmp_path, run="module")
    for name in ("grad_mean_norm", "weight_norm"):
        ours, theirs = array(run, f"training/{name}")[:, 0, ::2], array(own, f"training/{name}")[:, 0]
        np.testing.assert_allclose(ours, theirs, rtol=2e-5)
    for layer, name in (("1", "layer1"), ("3", "layer2")):
        np.testing.assert_allclose(array(run, f"activations/{layer}"), array(own, f"activations/{name}"), atol=2e-6)
