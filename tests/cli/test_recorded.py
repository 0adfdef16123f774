"""What is done with a run, done with one that a Recorder made of somebody's own network."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ipstore as library
from ipstore.trainers import Recorder
from tests.cli.conftest import ipstore, ipstore_json

EPOCHS = 4
SAMPLES = 120


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Tanh())
        self.head = nn.Linear(6 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        head: Tensor = self.head(self.features(x).flatten(1))
        return head


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("recorded") / "runs.zarr"
    x, y = torch.randn(SAMPLES, 1, 8, 8, generator=torch.Generator().manual_seed(7)), torch.arange(SAMPLES) % 3
    for seed in (4, 2):
        torch.manual_seed(seed)
        model = Convolutions()
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        options: dict[str, Any] = {"layers": ["features.*", "head"], "reduce": {"features.*": "mean"}, "seed": seed}
        with Recorder(store, model, (x, y), "cnn", optimizer=optimizer, **options) as recorder:
            for _ in range(EPOCHS):
                for batch in torch.randperm(SAMPLES).reshape(3, 40):
                    optimizer.zero_grad()
                    loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
                    loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
                    optimizer.step()
                recorder.epoch(loss=loss)
    return store


LAYERS = ["features.0", "features.1", "features.2", "features.3", "head"]


def test_seeds_are_analysed_as_one(store: Path) -> None:
    (found,) = ipstore_json("analyze", store / "cnn", "--estimator", "binned:range=layer,correction=plugin")["analyses"]
    assert (found["run"], found["seeds"], found["probe"]) == ("cnn", 2, "sample")
    rows = {row["layer"]: row for row in found["layers"]}
    assert list(rows) == LAYERS
    for row in rows.values():
        assert 0 <= row["end_I_XT"] <= np.log2(SAMPLES) + 1e-9
        assert row["end_I_TY"] <= found["I_XY"] + 1e-9


@pytest.mark.long
def test_layers_are_held_against_the_bound_of_the_sample(store: Path) -> None:
    (found,) = ipstore_json("bound", store / "cnn")["bounds"]
    assert (found["probe"], found["labels"]) == ("sample", "hard")
    assert found["I_XY"] == pytest.approx(np.log2(3))
    assert "of the sampled inputs" in ipstore("bound", store / "cnn").stdout


@pytest.mark.long
@pytest.mark.parametrize("figure", ["plane", "gradients", "residual"])
def test_figures_are_drawn(store: Path, tmp_path: Path, figure: str) -> None:
    file = tmp_path / f"{figure}.svg"
    ipstore("plot", store / "cnn", figure, "-o", file)
    text = re.sub(r"\s+", " ", " ".join(re.findall(r"<!-- (.*?) -->", file.read_text(), re.DOTALL)))
    assert "features.3" in text
    if figure == "gradients":
        assert "Without gradients of their own: features.1 and features.3." in text
    if figure == "plane":
        assert f"H(X) of the sample = {np.log2(SAMPLES):.4g} bits" in text


def test_it_is_verified_and_damage_is_found(store: Path, tmp_path: Path) -> None:
    assert "cnn+2: whole" in ipstore("verify", store).stdout
    library.copy(store / "cnn+2", tmp_path / "copy.zarr")
    (chunk, *_) = (tmp_path / "copy.zarr/cnn+2/activations/head").glob("c.*")
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(bytes(content))
    assert "activations/head" in ipstore("verify", tmp_path / "copy.zarr", code=1).stdout


def test_its_parts_become_one_run(store: Path, tmp_path: Path) -> None:
    for part in ("cnn+2", "cnn+4"):
        library.copy(store / part, tmp_path / "all.zarr")
    before = library.open(tmp_path / "all.zarr", run="cnn").load()
    ipstore("merge", tmp_path / "all.zarr", "cnn")
    after = library.open(tmp_path / "all.zarr", run="cnn")
    assert os.listdir(tmp_path / "all.zarr").count("cnn") == 1
    assert after["seed"].to_numpy().tolist() == [2, 4]
    for layer in LAYERS:
        np.testing.assert_array_equal(before["activations"][layer], after["activations"][layer])


def test_its_training_is_not_ours_to_go_on_with(store: Path) -> None:
    said = ipstore("capture", "custom", store, "--run", "cnn+2", "--resume", code=1).stderr
    assert "Recorder(..., resume=True)" in said
    assert "training of somebody's own" in " ".join(said.split())


def test_runs_lists_it(store: Path) -> None:
    listed = ipstore_json("runs", store)["runs"]
    assert [(run["run"], run["task"], run["epochs"]) for run in listed] == [
        ("cnn+2", "custom", EPOCHS),
        ("cnn+4", "custom", EPOCHS),
    ]
