"""A training that is recorded ends in the same bits as one that is not."""

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ipstore.trainers import Recorder
from ipstore.trainers.probing import undisturbed

SAMPLES, CLASSES = 24, 3


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.3))
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.features(x.reshape(-1, 1, 2, 3).repeat(1, 1, 2, 2)).mean((2, 3))))
        return out


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True), 2)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(self.embedding(x)).mean(1))
        return out


class Restless(nn.Module):
    """Changes, replaces and begins buffers in every forward pass, and draws random numbers from every source."""

    counted: Tensor
    behind: Tensor
    replaced: Tensor
    begun: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, CLASSES)
        self.register_buffer("counted", torch.zeros(()))
        self.register_buffer("behind", torch.ones(2))
        self.register_buffer("replaced", torch.zeros(3))
        self.register_buffer("begun", None)
        self.generator = torch.Generator().manual_seed(1)
        self.numbers = np.random.default_rng(1)
        self.plain = random.Random(1)

    def forward(self, x: Tensor) -> Tensor:
        self.counted += 1
        self.behind.data.mul_(0.9)
        self.replaced = self.replaced + 1
        self.begun = torch.ones(2) if self.begun is None else self.begun + 1
        own = torch.rand((), generator=self.generator).item() + self.numbers.random() + self.plain.random()
        common = torch.rand(()).item() + np.random.random() + random.random()  # noqa: NPY002  (what users call)
        state = self.counted + self.behind.sum() + self.replaced.sum() + self.begun.sum()
        out: Tensor = self.inner(x) * (1 + 0.01 * (own + common + state))
        return out


Step = Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor, int], None]


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, at: int) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(F.cross_entropy(model(x), y))
    optimizer.step()


def accumulating_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, at: int) -> None:
    """Two batches to a step, and the gradient clipped."""
    torch.autograd.backward(F.cross_entropy(model(x), y) / 2)
    if at % 2:
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()


def mixed_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, at: int) -> None:
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(x), y)
    torch.autograd.backward(loss)
    optimizer.step()


def data(model: nn.Module) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    y = torch.arange(SAMPLES) % CLASSES
    if isinstance(model, Sequences):
        return torch.randint(7, (SAMPLES, 5), generator=generator), y
    return torch.randn(SAMPLES, 6, generator=generator), y


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """All that a training consists of, as bytes where it is a tensor."""

    def flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Tensor):
            yield name, value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        elif isinstance(value, dict):
            for key, each in value.items():
                yield from flat(each, f"{name}.{key}")
        elif isinstance(value, list | tuple):
            for key, each in enumerate(value):
                yield from flat(each, f"{name}.{key}")
        elif isinstance(value, np.ndarray):
            yield name, value.tobytes()
        else:
            yield name, value

    found = {
        "parameters": dict(model.named_parameters()),
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
        "buffers": {f"{name}/{key}": each for name, m in model.named_modules() for key, each in m._buffers.items()},
        "optimizer": optimizer.state_dict(),
        "modes": {name: module.training for name, module in model.named_modules()},
        "random": (torch.get_rng_state(), np.random.get_state(), random.getstate()),  # noqa: NPY002  (the training's)
        "own random": [
            value.get_state() if isinstance(value, torch.Generator) else str(value.bit_generator.state)
            for module in model.modules()
            for value in vars(module).values()
            if isinstance(value, torch.Generator | np.random.Generator)
        ],
        "fused": torch.backends.mha.get_fastpath_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
        "gradients on": torch.is_grad_enabled(),
    }
    return dict(flat(found, ""))


Watch = Callable[[nn.Module, torch.optim.Optimizer], Any]
Wrap = Callable[[nn.Module], nn.Module]


def train(
    kind: type[nn.Module], watch: Watch, step: Step = plain_step, wrap: Wrap = lambda model: model, epochs: int = 3
) -> dict[str, Any]:
    """Train from a fixed beginning; `watch` gives a context whose value is called after each epoch."""
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002  (what users call)
    random.seed(3)
    bare = kind()
    model = wrap(bare)
    optimizer = torch.optim.AdamW(bare.parameters(), lr=0.01)
    x, y = data(bare)
    with watch(model, optimizer) as after:
        for _ in range(epochs):
            for at, batch in enumerate(torch.split(torch.randperm(SAMPLES), 6)):
                step(model, optimizer, x[batch], y[batch], at)
            after()
    return everything(bare, optimizer)


def unrecorded(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    return nullcontext(lambda: None)


def recorded(store: Path, **options: Any) -> Watch:
    @contextmanager
    def watch(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Callable[[], None]]:
        x, y = data(getattr(model, "_orig_mod", model))
        with Recorder(store, model, (x, y), "run", optimizer=optimizer, **options) as recorder:
            assert recorder.layers
            yield lambda: recorder.epoch(loss=1.0)

    return watch


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


NETWORKS = [Perceptron, Convolutions, Sequences, Restless]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("step", [plain_step, accumulating_step, mixed_step])
def test_recording_changes_no_bit(kind: type[nn.Module], step: Step, tmp_path: Path) -> None:
    assert differing(train(kind, unrecorded, step), train(kind, recorded(tmp_path), step)) == []


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("careful", [False, True])
def test_a_careless_probe_would_be_seen(kind: type[nn.Module], careful: bool) -> None:
    """A forward pass in train mode changes what follows; so does one in eval mode, of a module that is restless."""

    @contextmanager
    def watch(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Callable[[], None]]:
        def after() -> None:
            with torch.no_grad():
                model.train(not careful)
                model(data(model)[0])
                model.train()

        yield after

    changed = differing(train(kind, unrecorded), train(kind, watch))
    assert bool(changed) == (not careful or kind is Restless)


def test_modes_of_modules_are_their_own(tmp_path: Path) -> None:
    """A part that is frozen in eval mode stays in it, and the rest stays in train mode."""

    def freeze(model: nn.Module) -> nn.Module:
        model.features[1].eval()  # type: ignore[index, union-attr]
        return model

    one = train(Convolutions, unrecorded, wrap=freeze)
    assert one[".modes.features.1"] is False
    assert one[".modes.norm"] is True
    assert one[".buffers.features.1/num_batches_tracked"] == bytes(8)
    assert differing(one, train(Convolutions, recorded(tmp_path), wrap=freeze)) == []


def around(model: nn.Module) -> nn.Module:
    compiled: nn.Module = torch.compile(model, backend="eager")  # type: ignore[assignment]
    return compiled


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def within(model: nn.Module) -> nn.Module:
    for name, child in list(model.named_children())[:1]:
        setattr(model, name, around(child))
    return model


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        (Perceptron, around),
        (Perceptron, in_place),
        (Perceptron, within),
        *[pytest.param(kind, wrap, marks=pytest.mark.long) for kind in NETWORKS[1:3] for wrap in (around, in_place)],
    ],
)
def test_compiled_networks(kind: type[nn.Module], wrap: Wrap, tmp_path: Path) -> None:
    torch.compiler.reset()
    bare = train(kind, unrecorded, wrap=wrap)
    torch.compiler.reset()
    assert differing(bare, train(kind, recorded(tmp_path), wrap=wrap)) == []


def test_recording_compiles_nothing_anew(tmp_path: Path) -> None:
    def compilations(watch: Watch) -> int:
        count = 0

        def backend(graph: Any, inputs: Any) -> Any:
            nonlocal count
            count += 1
            return graph.forward

        torch.compiler.reset()
        train(Perceptron, watch, wrap=lambda model: torch.compile(model, backend=backend))  # type: ignore[arg-type, return-value]
        return count

    assert compilations(recorded(tmp_path)) == compilations(unrecorded) > 0


def test_inside_autocast(tmp_path: Path) -> None:
    """Casts of weights that autocast keeps must not be those that were made without gradients."""

    @contextmanager
    def watch(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Callable[[], None]]:
        with torch.autocast("cpu", torch.bfloat16), recorded(tmp_path)(model, optimizer) as after:
            yield after

    @contextmanager
    def only_autocast(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Callable[[], None]]:
        with torch.autocast("cpu", torch.bfloat16):
            yield lambda: None

    assert differing(train(Perceptron, only_autocast), train(Perceptron, watch)) == []


def test_between_forward_and_backward(tmp_path: Path) -> None:
    """Recorded while a graph waits for its backward pass, which must not find its buffers changed."""
    torch.manual_seed(0)
    model = Convolutions()
    x, y = data(model)
    with Recorder(tmp_path, model, (x, y), "run") as recorder:
        other = copy.deepcopy(model)
        losses = []
        for each in (model, other):
            torch.manual_seed(1)
            losses.append(F.cross_entropy(each(x), y))
        recorder.epoch()
        for loss in losses:
            torch.autograd.backward(loss)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert torch.equal(one.grad, two.grad)


def test_no_hook_is_left(tmp_path: Path) -> None:
    model = Sequences()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = data(model)

    def hooks() -> int:
        return sum(
            len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
            for module in model.modules()
        )

    with Recorder(tmp_path, model, (x, y), "run", optimizer=optimizer) as recorder:
        assert hooks() == 0
        recorder.epoch()
        assert hooks() == 0
        assert len(optimizer._optimizer_step_pre_hooks) == 1
    assert len(optimizer._optimizer_step_pre_hooks) == 0


def test_fused_layers_do_not_hide_modules(tmp_path: Path) -> None:
    """In eval mode PyTorch runs a whole encoder layer as one kernel, without calling the modules in it."""
    seen: list[int] = []

    class Counted(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            seen.append(len(input))
            return super().forward(input)

    model = Sequences().eval()
    model.encoder.layers[0].linear1 = Counted(8, 16)
    x, y = data(model)
    with torch.no_grad():
        model(x)
    assert seen == []  # so it is, left to itself
    with Recorder(tmp_path, model, (x, y), "run", layers=["encoder.layers.*.linear1"], reduce="mean") as recorder:
        assert recorder.layers == {"encoder.layers.0.linear1": 16, "encoder.layers.1.linear1": 16}
    assert SAMPLES in seen
    assert torch.backends.mha.get_fastpath_enabled()


def test_an_exception_leaves_no_trace_either() -> None:
    model = Restless()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = everything(model, optimizer)
    with pytest.raises(IndexError), undisturbed(model):
        model(data(model)[0])[SAMPLES]
    assert differing(before, everything(model, optimizer)) == []
