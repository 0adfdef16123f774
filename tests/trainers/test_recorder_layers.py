"""Modules that are shared, repeated, left out or changed; and what is refused, with what to do about it."""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ipstore
from ipstore.binning import Binning
from ipstore.errors import IpstoreError, ParameterError, SpaceError, UnknownNameError
from ipstore.trainers import Recorder
from tests.store.synthetic import array

SAMPLES = 12
X = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(SAMPLES) % 3


class Shared(nn.Module):
    """One module under two names, called twice; and a recurrent cell."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = self.second = nn.Linear(4, 4)
        self.cell = nn.RNNCell(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        state = torch.zeros(len(x), 3)
        for _ in range(3):
            state = self.cell(x, state)
        return state


def last(store: Path, layer: str) -> Any:
    return np.asarray(array(ipstore.open(store, run="run"), f"activations/{layer}")[-1, 0])


def record(store: Path, model: Any, probe: Any = (X, Y), **options: Any) -> Recorder:
    with Recorder(store, model, probe, "run", **options) as recorder:
        pass
    return recorder


def test_shared_and_repeated_modules(tmp_path: Path) -> None:
    model = Shared()
    assert record(tmp_path, model).layers == {"first": 4, "first+2": 4, "cell": 3, "cell+2": 3, "cell+3": 3}
    with torch.no_grad():
        once = model.first(X)
        twice = model.first(torch.tanh(once))
        states = [torch.zeros(SAMPLES, 3)]
        for _ in range(3):
            states.append(model.cell(torch.tanh(twice), states[-1]))
    expected = {"first": once, "first+2": twice, "cell": states[1], "cell+2": states[2], "cell+3": states[3]}
    for name, each in expected.items():
        np.testing.assert_allclose(last(tmp_path, name), each, atol=1e-6)


def test_outputs_of_every_form(tmp_path: Path) -> None:
    class Forms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(1, 5, batch_first=True)
            self.across = nn.GRU(5, 2)  # sequence first: its output has no samples in front
            self.attention = nn.MultiheadAttention(5, 1, batch_first=True)
            self.tokens = nn.Identity()

        def forward(self, x: Tensor) -> dict[str, Any]:
            out, _ = self.lstm(x[:, :, None])
            across, _ = self.across(out.transpose(0, 1))
            attended, _ = self.attention(out, out, out)
            return {"size": self.tokens(torch.arange(len(x))), "nested": [None, {"out": across[-1] + attended.sum()}]}

    model = Forms()
    recorder = record(tmp_path, model, layers=["*"])
    assert recorder.layers == {"lstm": 20, "attention": 20, "model": 2}
    assert recorder.left_out == {
        "across": "it gives (4, 2, 2) and (4, 3, 2) for 2 and 3 samples: the first dimension must be that of the "
        "samples, and the others stay as they are",
        "tokens": "it gives Tensor of int64, and no tensor of real numbers",
    }
    with torch.no_grad():
        np.testing.assert_allclose(last(tmp_path, "lstm"), model.lstm(X[:, :, None])[0].reshape(SAMPLES, 20), atol=1e-6)
        np.testing.assert_allclose(last(tmp_path, "model"), model(X)["nested"][1]["out"], atol=1e-6)


def test_layers_added_later_are_told_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    with Recorder(tmp_path, model, (X, Y), "run") as recorder:
        recorder.epoch()
        model.append(nn.Linear(3, 3))
        with pytest.warns(UserWarning, match=r"module '2' came into the model after recording began") as told:
            recorder.epoch()
        assert told[0].filename == __file__
        recorder.epoch()
    assert len(recwarn) == 0
    assert len(array(ipstore.open(tmp_path, run="run"), "epoch")) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.pop(1), r"module '1' is recorded, and is not in the model any more; a run's layers stay"),
        (lambda model: model.__setitem__(0, nn.Linear(4, 5)), r"layer '0' gave \(12, 3\).*gives \(12, 5\) now"),
        (lambda model: model.__setitem__(0, nn.Linear(9, 3)), r"cannot run on the probe, float32 \(12, 4\) on cpu"),
    ],
)
def test_layers_that_change_end_the_recording(change: Any, message: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    recorder = Recorder(tmp_path, model, (X, Y), "run")
    recorder.epoch()
    change(model)
    with pytest.raises(ParameterError, match=message), recorder:
        recorder.epoch()
    run = ipstore.open(tmp_path, run="run")
    assert array(run, "epoch").values.tolist() == [0, 1]
    assert run.attrs["status"] == "interrupted"
    assert ipstore.verify(tmp_path / "run") == []


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Dropout(0.1), nn.Linear(3, 3))


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(3), nn.Tanh())


def meta() -> nn.Module:
    return net().to("meta")


BAD: list[tuple[dict[str, Any], type[IpstoreError], str]] = [
    ({"model": lambda: F.relu}, ParameterError, r"model must be a torch\.nn\.Module but got builtin|function"),
    ({"model": meta}, ParameterError, r"'0\.weight' of the model is on the device 'meta'.*to_empty"),
    ({"model": lazy}, ParameterError, r"'0\.weight' of the model gets its shape from the first batch: run the model"),
    (
        {"probe": (X[:, :3], Y)},
        ParameterError,
        r"Sequential cannot run on the probe, float32 \(2, 3\) on cpu: RuntimeError: mat1 and mat2 shapes.*Give x as",
    ),
    ({"probe": (X.double(), Y)}, ParameterError, r"float64 \(2, 4\) on cpu.*dtype"),
    ({"probe": ({"y": X}, Y)}, ParameterError, r"cannot run on the probe, y=float32 \(2, 4\).*unexpected keyword"),
    ({"probe": (torch.where(X > 1, torch.nan, X), Y)}, ParameterError, r"x holds NaN"),
    (
        {"probe": (X.to("meta"), Y)},
        ParameterError,
        r"x must be \(sample, \.\.\.\) with values but is \(12, 4\) on meta",
    ),
    ({"probe": (X, Y * 0)}, ParameterError, r"labels are all 0"),
    ({"layers": ["encoder.*"]}, UnknownNameError, r"no module 'encoder\.\*'.*Known: 0, 1, 2, 3, model"),
    (
        {"model": lambda: nn.Sequential(OrderedDict(c=nn.Linear(4, 2)))},
        ParameterError,
        r"layer names are .* save 'c' and 'zarr\.json', which Zarr keeps for itself, but got 'c'",
    ),
    ({"layers": []}, ParameterError, r"layers=\[\] records nothing"),
    ({"train": np.ones(5, bool)}, ParameterError, r"each of the 12 samples.*but is bool of shape \(5,\)"),
    ({"train": np.arange(12)}, ParameterError, r"True or False of each of the 12.*but is int64"),
    ({"reduce": "median"}, ParameterError, r"reduce must be 'flatten', 'mean'.*but got 'median'"),
    ({"reduce": {"encoder": "mean"}}, UnknownNameError, r"no module 'encoder'.*Known: 0, 1, 2, 3, model"),
    ({"reduce": {"0": "mean:3,3"}}, ParameterError, r"but got 'mean:3,3'"),
    ({"reduce": ["mean"]}, ParameterError, r"reduce must be 'flatten', 'mean'.*but got \['mean'\]"),
    ({"level": "weights"}, ParameterError, r"level 'weights' builds ipstore's own.*'full', 'half' or 'codes'"),
    ({"level": "double"}, UnknownNameError, r"no capture level 'double'.*full"),
    ({"level": "codes"}, ParameterError, r"level 'codes' needs a binning, such as Binning"),
    ({"every": 0}, ParameterError, r"every must be an integer of at least 1 but got 0"),
    ({"batch_size": 2.0}, ParameterError, r"batch_size must be an integer of at least 1 but got 2\.0"),
    ({"shard_epochs": 0}, ParameterError, r"a shard holds 1 epoch or more but got 0"),
    ({"seed": -1}, ParameterError, r"seed must be an integer of at least 0.*but got -1"),
    ({"run": "a/b"}, ParameterError, r"run names are 1 to 128 letters.*but got 'a/b'"),
    ({"optimizer": "adam"}, ParameterError, r"optimizer must be a torch\.optim\.Optimizer, or several, but got str"),
    ({"optimizer": [3]}, ParameterError, r"or several, but got int"),
]


@pytest.mark.parametrize(
    ("given", "error", "message"), BAD, ids=[f"{next(iter(each[0]))}-{at}" for at, each in enumerate(BAD)]
)
def test_what_is_refused(given: dict[str, Any], error: type[IpstoreError], message: str, tmp_path: Path) -> None:
    """Before anything is written."""
    model = given.get("model", net)()
    options = {"run": "run", "probe": (X, Y), **{name: value for name, value in given.items() if name != "model"}}
    with pytest.raises(error, match=re.compile(message, re.DOTALL)):
        Recorder(tmp_path / "store", model, options.pop("probe"), options.pop("run"), **options)
    assert not (tmp_path / "store").exists()


def test_components_need_samples(tmp_path: Path) -> None:
    model = nn.Linear(4, 50)
    with pytest.raises(
        ParameterError, match=r"layer 'model': 'pca:20' needs at least 20 samples, but the probe has 12"
    ):
        record(tmp_path / "store", model, reduce="pca:20")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("given", [0, -3, 2, 1.5, "three"])
def test_epochs_that_are_none(given: Any, tmp_path: Path) -> None:
    with Recorder(tmp_path, net(), (X, Y), "run") as recorder:
        recorder.epoch()
        recorder.epoch()
        with pytest.raises(ParameterError, match=r"must be 3 or later but got (0|-3|2)|must be an integer but got"):
            recorder.epoch(given)
        recorder.epoch()
    assert array(ipstore.open(tmp_path, run="run"), "epoch").values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"validation": 0.5}, r"loss is a number, of the training samples, or a mapping with 'train' and 'test', but"),
        (torch.ones(3), r"loss must be one number for each split but got tensor\(\[1"),
        ("low", r"loss must be one number for each split but got 'low'"),
        ({"train": None}, r"loss must be one number for each split but got \{'train': None\}"),
    ],
)
def test_metrics_that_are_none(loss: Any, message: str, tmp_path: Path) -> None:
    """An epoch that was refused can be told again."""
    with Recorder(tmp_path, net(), (X, Y), "run") as recorder:
        with pytest.raises(ParameterError, match=message):
            recorder.epoch(loss=loss)
        recorder.epoch(1, loss=2.0)
    assert array(ipstore.open(tmp_path, run="run"), "training/loss").values[1, 0, 0] == 2


@pytest.mark.parametrize(
    ("width", "samples", "options"), [(60_000_000, 20, {}), (2_000_000, 400, {"shard_epochs": 4}), (10**6, 300, {})]
)
def test_what_would_not_fit(width: int, samples: int, options: dict[str, Any], tmp_path: Path) -> None:
    """Too wide for the memory, for a chunk, or for the disk, of a network that makes its output without holding it."""

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).expand(len(x), width)  # type: ignore[no-any-return]

    probe = (torch.randn(samples, 4), torch.arange(samples) % 2)
    with pytest.raises(
        SpaceError, match=r"The widest layers take, each epoch: model .* MB.*reduce=.*'pca:64'.*sample="
    ):
        record(tmp_path, Wide(), probe, layers=["model", "inner"], epochs=10**7, **options)
    assert not (tmp_path / "run").exists()


def test_codes_of_what_is_not_finite(tmp_path: Path) -> None:
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.bias[1] = torch.nan
    from ipstore.trainers.streaming import DivergedWarning

    with pytest.warns(DivergedWarning):
        record(tmp_path, model, level="codes", binning=Binning(bins=8, range=(-1, 1)))
    assert (last(tmp_path, "model")[:, 1] == 255).all()
