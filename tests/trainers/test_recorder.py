"""What a recorder stores is what the network gives, layer by layer, epoch by epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import ipstore
from ipstore.analysis import analyze
from ipstore.analysis.plane import Split
from ipstore.binning import Binning
from ipstore.errors import ParameterError, UnknownNameError
from ipstore.trainers import Recorder
from ipstore.trainers.tasks import load
from tests.store.synthetic import array

SAMPLES = 20
X = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(SAMPLES) % 3


class Net(nn.Module):
    """Registered in another order than it is called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(5, 3)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Sequential(nn.Linear(4, 6))])
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks[0](self.drop(self.norm(torch.tanh(self.blocks[1](x))))))
        return out


def by_hand(model: nn.Module, x: Tensor) -> dict[str, NDArray[np.float64]]:
    """Every layer of `Net` in eval mode, in float64, written out."""
    p = {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}
    out = {"blocks.1.0": x.double().numpy() @ p["blocks.1.0.weight"].T + p["blocks.1.0.bias"]}
    t = (np.tanh(out["blocks.1.0"]) - p["norm.running_mean"]) / np.sqrt(p["norm.running_var"] + 1e-5)
    out["norm"] = t * p["norm.weight"] + p["norm.bias"]
    out["blocks.0.0"] = out["norm"] @ p["blocks.0.0.weight"].T + p["blocks.0.0.bias"]
    out["blocks.0.1"] = np.maximum(out["blocks.0.0"], 0)
    out["head"] = out["blocks.0.1"] @ p["head.weight"].T + p["head.bias"]
    return out


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    loss = torch.zeros(())
    for batch in torch.split(torch.randperm(SAMPLES), 5):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X[batch]), Y[batch])
        torch.autograd.backward(loss)
        optimizer.step()
    return loss.item()


def stored(store: Path, path: str, run: str = "run") -> NDArray[Any]:
    """An array of the only seed, (epoch, ...)."""
    return np.asarray(array(ipstore.open(store, run=run), path)[:, 0])


def once(store: Path, model: nn.Module, probe: Any = (X, Y), **options: Any) -> Recorder:
    """Record a network as it is."""
    with Recorder(store, model, probe, "run", **options) as recorder:
        pass
    return recorder


def test_activations_are_those_of_the_network(tmp_path: Path) -> None:
    model, expected, norms = Net(), [], []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses: list[float] = []
    accuracies: list[dict[str, float | Tensor]] = []
    with Recorder(tmp_path, model, (X, Y), "run", optimizer=optimizer, batch_size=7) as recorder:
        expected.append(by_hand(model, X))
        for _ in range(3):
            losses.append(train_epoch(model, optimizer))
            accuracies.append({"train": 0.5, "test": torch.tensor(0.25, requires_grad=True)})
            expected.append(by_hand(model, X))
            recorder.epoch(loss=losses[-1], accuracy=accuracies[-1])
            norms.append(
                [np.sqrt(sum(float((p.detach() ** 2).sum()) for p in m.parameters())) for m in (model.norm, model.head)]
            )
    assert list(recorder.layers.items()) == [(name, each.shape[1]) for name, each in expected[0].items()]
    assert recorder.left_out == {"unused": "the model does not call it"}
    assert recorder.last_epoch == 3
    run = ipstore.open(tmp_path, run="run")
    assert array(run, "epoch").values.tolist() == [0, 1, 2, 3]
    for name in expected[0]:
        layer = stored(tmp_path, f"activations/{name}")
        np.testing.assert_allclose(layer, [each[name] for each in expected], atol=1e-5)
    np.testing.assert_array_equal(stored(tmp_path, "training/loss")[1:, 0], np.array(losses, np.float32))
    assert np.isnan(stored(tmp_path, "training/loss")[:, 1]).all()
    assert stored(tmp_path, "training/accuracy")[1:].tolist() == [[0.5, 0.25]] * 3
    assert np.isnan(stored(tmp_path, "training/loss")[0]).all()
    places = [list(recorder.layers).index(name) for name in ("norm", "head")]
    np.testing.assert_allclose(stored(tmp_path, "training/weight_norm")[1:, places], norms, rtol=1e-6)
    assert np.isnan(stored(tmp_path, "training/weight_norm")[:, list(recorder.layers).index("blocks.0.1")]).all()
    attrs = run.attrs
    assert (attrs["status"], attrs["task"], attrs["probe"], attrs["diverged"]) == ("finished", "custom", "sample", {})
    assert attrs["model"]["class"].endswith("test_recorder.Net")
    assert attrs["model"]["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert attrs["model"]["layers"]["head"] == {
        "module": "head",
        "class": "torch.nn.modules.linear.Linear",
        "shape": [3],
        "reduce": "flatten",
    }
    assert ipstore.verify(tmp_path / "run") == []


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["head"], ["head"]),
        (["blocks.*"], ["blocks.1", "blocks.0"]),
        (["blocks.**"], ["blocks.1.0", "blocks.1", "blocks.0.0", "blocks.0.1", "blocks.0"]),
        (["blocks.?.0", "h*"], ["blocks.1.0", "blocks.0.0", "head"]),
        (["model"], ["model"]),
        ("norm", ["norm"]),
        (["*"], ["norm", "drop", "head", "model"]),
    ],
)
def test_layers_chosen_by_pattern(layers: Any, expected: list[str], tmp_path: Path) -> None:
    model = Net()
    assert sorted(once(tmp_path, model, layers=layers).layers) == sorted(expected)
    if layers == ["model"]:
        np.testing.assert_allclose(stored(tmp_path, "activations/model")[0], by_hand(model, X)["head"], atol=1e-5)


def test_a_child_called_model_keeps_its_name(tmp_path: Path) -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.exp(self.model(x))

    model = Wrapper()
    assert once(tmp_path, model).layers == {"model": 3}
    with torch.no_grad():
        np.testing.assert_array_equal(stored(tmp_path, "activations/model")[0], model.model(X))


def test_a_layer_with_a_weight_norm_is_a_layer(tmp_path: Path) -> None:
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 3, bias=False))
    assert once(tmp_path, nn.Sequential(parametrized, nn.GELU(), spectral)).layers == {"0": 5, "1": 5, "2": 3}


@pytest.mark.parametrize("batch_size", [1, 7, SAMPLES, 1000])
def test_batches_make_no_difference(batch_size: int, tmp_path: Path) -> None:
    model = Net()
    once(tmp_path, model, batch_size=batch_size)
    for name, each in by_hand(model, X).items():
        np.testing.assert_allclose(stored(tmp_path, f"activations/{name}")[0], each, atol=1e-5)


def test_levels(tmp_path: Path) -> None:
    model, expected = Net(), by_hand(Net(), X)
    binning = Binning(bins=16, range=(-2, 2))
    for level in ("full", "half", "codes"):
        with Recorder(tmp_path, model, (X, Y), level, level=level, binning=binning):
            pass
    full = stored(tmp_path, "activations/head", "full")
    assert full.dtype == np.float32
    np.testing.assert_array_equal(stored(tmp_path, "activations/head", "half"), full.astype(np.float16))
    codes = np.clip(np.floor((expected["head"] + 2) / 4 * 16), 0, 15)
    np.testing.assert_array_equal(stored(tmp_path, "activations/head", "codes")[0], codes)


def test_every_and_own_numbers(tmp_path: Path) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    expected = [by_hand(model, X)["head"]]
    with Recorder(tmp_path, model, (X, Y), "run", every=5, optimizer=optimizer) as recorder:
        for number in (2, 5, 7, 15, 16):
            train_epoch(model, optimizer)
            recorder.epoch(number)
            if number % 5 == 0:
                expected.append(by_hand(model, X)["head"])
        recorder.epoch()
        assert recorder.last_epoch == 17
        recorder.epoch(np.int64(18))  # type: ignore[arg-type]
        assert recorder.state_dict() == {"run": "run", "epoch": 18, "recorded": 15}
    assert array(ipstore.open(tmp_path, run="run"), "epoch").values.tolist() == [0, 5, 15]
    np.testing.assert_allclose(stored(tmp_path, "activations/head"), expected, atol=1e-5)


def test_reduced_layers(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.conv, self.flat, self.last = nn.Conv1d(1, 8, 2), nn.Flatten(), nn.Linear(24, 16)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.flat(self.conv(x[:, None])))
            return out

    model = Wide()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    rules = {"conv": "mean", "last": "pca:3", "f*": "random:5"}
    with Recorder(tmp_path, model, (X, Y), "run", layers=["*"], reduce=rules, batch_size=6) as recorder:
        first = model(X).detach().double().numpy()
        for _ in range(2):
            train_epoch(model, optimizer)
            recorder.epoch()
    assert recorder.layers == {"conv": 8, "flat": 5, "last": 3, "model": 16}
    found = {name: stored(tmp_path, f"activations/{name}")[-1] for name in recorder.layers}
    with torch.no_grad():
        np.testing.assert_allclose(found["conv"], model.conv(X[:, None]).mean(2), atol=1e-6)
        now = model(X).double().numpy()
    components = np.linalg.svd(first - first.mean(0))[2][:3]
    expected = (now - first.mean(0)) @ components.T  # on the components that the first recorded epoch had
    np.testing.assert_allclose(np.abs(found["last"]), np.abs(expected), atol=1e-5)
    attrs = ipstore.open(tmp_path, run="run").attrs
    assert attrs["config"]["reduce"] == rules
    kept = {name: layer["reduce"] for name, layer in attrs["model"]["layers"].items()}
    assert kept == {"conv": "mean:2", "flat": "random:5", "last": "pca:3", "model": "flatten"}


def test_a_sampled_probe_and_the_training_samples(tmp_path: Path) -> None:
    model = Net()
    y = torch.linspace(0.1, 0.9, SAMPLES)
    train = np.arange(8) % 2 < 1
    with Recorder(tmp_path, model, (X, y), "run", sample=8, label_bins=2, train=train):
        pass
    run = ipstore.open(tmp_path, run="run")
    chosen = [int((X.numpy() == row).all(1).argmax()) for row in array(run, "probe/x").values]
    np.testing.assert_allclose(stored(tmp_path, "activations/head")[0], by_hand(model, X[chosen])["head"], atol=1e-5)
    config = run.attrs["config"]
    assert config["sample"] == {"drawn": 8, "of": SAMPLES}
    assert config["label_bins"]["edges"] == [float(np.median(y[chosen].double()))]
    np.testing.assert_array_equal(array(run, "probe/train")[0], train)
    splits: list[tuple[Split, Any]] = [("train", train), ("test", ~train)]
    for split, members in splits:
        found = analyze(tmp_path, "run", "binned", bins=4, range=(-1, 1), split=split, correction="plugin")["I_XT"]
        layer = array(run, "activations/head")[0, 0].values[members]
        codes = np.clip(np.floor((layer + 1) / 2 * 4), 0, 3)
        counts = np.unique(codes, axis=0, return_counts=True)[1] / members.sum()
        entropy = -(counts * np.log2(counts)).sum()
        np.testing.assert_allclose(found.sel(layer="head")[0, 0], entropy, atol=1e-9)


def test_a_task_is_a_probe(tmp_path: Path) -> None:
    task = load("rule", signed=True)
    model = nn.Sequential(nn.Linear(12, 3), nn.Tanh(), nn.Linear(3, 2))
    once(tmp_path, model, task)
    attrs = ipstore.open(tmp_path, run="run").attrs
    assert (attrs["task"], attrs["task_params"], attrs["probe"]) == ("rule", {"signed": True}, "population")


def test_a_bfloat16_model_on_inputs_by_name(tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, *, inputs: Tensor, scale: Tensor) -> dict[str, Any]:
            return {"loss": None, "count": torch.tensor(3), "out": self.inner(inputs) * scale}

    model = Named().bfloat16()
    inputs = {"scale": torch.ones(SAMPLES, 1).bfloat16() * 2, "inputs": X.bfloat16()}
    recorder = once(tmp_path, model, (inputs, Y), layers=["**"])
    assert recorder.layers == {"inner": 3, "model": 3}
    with torch.no_grad():
        out = model(**inputs)["out"].float()
    np.testing.assert_array_equal(stored(tmp_path, "activations/model")[0], out)
    norm = np.sqrt(sum(float((p.detach().double() ** 2).sum()) for p in model.parameters()))
    np.testing.assert_allclose(stored(tmp_path, "training/weight_norm")[0], [norm, norm], rtol=1e-6)


@pytest.mark.parametrize("without", [False, True])
def test_no_layers_to_record(without: bool, tmp_path: Path) -> None:
    if without:
        with pytest.raises(ParameterError, match=r"layers=\[\] records nothing"):
            once(tmp_path, Net(), layers=[])
        return
    with pytest.raises(UnknownNameError, match=r"no module 'encoder\.\*'.*Known: .*blocks\.0\.1.*head"):
        once(tmp_path, Net(), layers=["encoder.*"])
