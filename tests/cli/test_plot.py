"""``plot``: figures of a sweep, of a run's training, and films."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import ipstore as library
from ipstore.analysis import dynamics, figures
from tests.cli.conftest import ipstore, ipstore_json


@pytest.fixture(scope="module")
def captured_sweeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two sweeps, one along two axes."""
    store = tmp_path_factory.mktemp("plot") / "runs.zarr"
    words = ("rule", store, "--epochs", "3", "--seeds", "2", "--level", "codes", "--processes", "0")
    ipstore("capture", *words, "--run", "deep", "--hidden", "4-3,3", "--batch-size", "512,full")
    ipstore("capture", *words, "--run", "data", "--hidden", "3", "--train-fraction", "0.3,0.6,0.9")
    return store


@pytest.fixture
def swept(captured_sweeps: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(captured_sweeps, tmp_path / "runs.zarr"))


def plane_over(store: Path, axis: str, **at: str) -> Any:
    return library.open(store).ip.sweep(axis, of=lambda run: run.ip.information_plane("binned"), **at)


def same_figure(file: Path, figure: Any) -> bool:
    """Whether a file is what `save` writes of a figure; images have the same bytes again."""
    return file.read_bytes() == figures.save(figure, file.with_name(f"expected{file.suffix}")).read_bytes()


@pytest.mark.long
def test_a_sweep_is_drawn_along_one_axis_and_its_analyses_are_kept(swept: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    shown = ipstore("plot", swept, "sweep", "--over", "hidden", "--at", "batch_size=512", "-o", file).stdout
    assert shown == f"sweep of deep is in {file}\n"
    assert same_figure(file, figures.sweep(plane_over(swept, "hidden", batch_size="512")))
    runs = library.open(swept).children
    assert {name for name, run in runs.items() if "results" in run.children} == {
        "deep-hidden=4-3-batch_size=512",
        "deep-hidden=3-batch_size=512",
    }


@pytest.mark.long
def test_some_values_of_an_axis_are_chosen_as_they_are_written(swept: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    words = ("plot", swept, "converged", "--over", "train_fraction=.9,0.30", "-o", file, "--bound")
    found = ipstore_json(*words, "--layers", "output")
    assert (found["figure"], found["run"], found["file"]) == ("converged", "data", str(file))
    assert [each["estimator"] for each in found["shows"]] == ["binned"]
    plane = plane_over(swept, "train_fraction").sel(train_fraction=[0.3, 0.9])
    curve = library.analysis.bound(library.open(swept, run="data-train_fraction=0.3"))
    assert same_figure(file, figures.converged(plane, ["output"], bound=curve))


@pytest.mark.long
def test_gradients_of_a_run_are_drawn_with_their_crossing(swept: Path, tmp_path: Path) -> None:
    file, run = tmp_path / "one.png", "data-train_fraction=0.9"
    found = ipstore_json("plot", swept, "gradients", "--run", run, "-o", file, "--layers", "layer1")
    assert found == {"figure": "gradients", "run": run, "shows": [], "file": str(file)}
    training = library.open(swept, run=run)["training"].to_dataset().assign_attrs(source_run=run)
    crossing = dynamics.crossing(training)["crossing"]
    assert same_figure(file, figures.gradients(training, ["layer1"], crossing=crossing))
    ipstore("plot", swept / run, "gradients", "-o", file, "--every", "2")
    few = training.sel(epoch=[0, 2])
    assert same_figure(file, figures.gradients(few, crossing=dynamics.crossing(few)["crossing"]))


@pytest.mark.long
def test_loss_and_accuracy_of_a_run_are_drawn(swept: Path, tmp_path: Path) -> None:
    file, run = tmp_path / "one.png", "data-train_fraction=0.9"
    found = ipstore_json("plot", swept / run, "training", "-o", file)
    assert found == {"figure": "training", "run": run, "shows": [], "file": str(file)}
    training = library.open(swept, run=run)["training"].to_dataset().assign_attrs(source_run=run)
    assert same_figure(file, figures.training(training))


@pytest.mark.long
def test_activations_of_a_layer_are_drawn_under_the_rule_of_an_estimator(swept: Path, tmp_path: Path) -> None:
    file, name = tmp_path / "one.png", "deep-hidden=4-3-batch_size=512"
    found = ipstore_json("plot", swept / name, "activations", "-o", file)
    assert [each["estimator"] for each in found["shows"]] == ["binned"]
    run = library.open(swept, run=name)
    assert same_figure(file, figures.activations(run.ip.layer_activity("layer2")))  # the last that is hidden
    words = ("--layers", "layer1", "--every", "2", "--estimator", "binned:bins=10")
    ipstore("plot", swept / name, "activations", "-o", file, *words)
    assert same_figure(file, figures.activations(run.ip.layer_activity("layer1", epochs=[0, 2], bins=10)))


@pytest.mark.long
def test_a_film_has_the_rate_that_was_asked_for(swept: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.gif"
    ipstore("plot", swept / "data-train_fraction=0.3", "snapshots", "-o", file, "--rate", "4")
    with Image.open(file) as film:
        assert film.info["duration"] == 250


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep"], "sweep shows a sweep along one of its axes: name it, such as --over train_fraction"),
        (["sweep", "--over", "hidden"], "sweep 'deep' varies batch_size too"),
        (["sweep", "--over", "hidden", "--at", "batch_size"], "--at is written AXIS=VALUE, such as activation=tanh"),
        (["sweep", "--over", "hidden", "--at", "batch_size=7"], "batch_size is one of 512, full in sweep 'deep'"),
        (["sweep", "--over", "train_fraction=0.3,0.5"], "there is no value of train_fraction '0.5'. "),
        (["sweep", "--over", "train_fraction=most,0.5"], "there is no value of train_fraction 'most'. Known: 0.3, 0.6"),
        (["sweep", "--over", "train_fraction=0.3"], "sweep shows how layers differ along train_fraction and needs two"),
        (["sweep", "--over", "train_fraction", "--run", "dat"], "there is no sweep 'dat'. Did you mean 'data'?"),
        (
            ["sweep", "--over", "train_fraction", "--estimator", "binned:bins=10,30"],
            "this figure takes a sweep but got",
        ),
        (["converged", "--over", "train_fraction", "--split", "train"], "converged draws all values of train_fraction"),
        (["sweep", "--over", "train_fraction", "--bound"], "--bound goes under plane, snapshots or converged, not"),
        (["plane", "--over", "hidden"], "--over and --at are those of a sweep, which sweep and converged show, not"),
        (["plane", "--at", "hidden=3"], "--over and --at are those of a sweep, which sweep and converged show, not"),
        (["gradients"], "a figure shows one run: name it with --run, one of "),
        (["gradients", "--run", "data-train_fraction=0.3", "--every", "0"], "every must be a number of epochs, 1 or"),
        (["gradients", "--run", "data-train_fraction=0.3", "--split", "test"], "gradients is drawn from what the"),
        (["training", "--run", "data-train_fraction=0.3", "--layers", "output"], "training is of the whole network"),
        (["activations", "--run", "data-train_fraction=0.3", "--split", "test"], "activations shows all samples, with"),
        (["activations", "--run", "data-train_fraction=0.3", "--layers", "layer1,output"], "activations shows one"),
        (["activations", "--run", "data-train_fraction=0.3", "--layers", "layer7"], "there is no layer 'layer7'"),
        (["activations", "--run", "data-train_fraction=0.3", "--every", "0"], "every must be a number of epochs, 1 or"),
    ],
)
def test_what_cannot_be_drawn(swept: Path, tmp_path: Path, words: list[str], message: str) -> None:
    failed = ipstore("plot", swept, *words, "-o", tmp_path / "x.png", code=2)
    assert failed.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert not (tmp_path / "x.png").exists()


def test_a_sweep_lies_in_a_store(swept: Path, tmp_path: Path) -> None:
    words = ("sweep", "--over", "train_fraction", "-o", tmp_path / "x.png")
    failed = ipstore("plot", swept / "data-train_fraction=0.3", *words, code=2)
    assert f"is a run; give its store, '{swept}'" in failed.stderr
    assert "x.png" not in ipstore("plot", tmp_path / "none.zarr", *words, code=1).stderr
