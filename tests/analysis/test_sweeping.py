"""A sweep put together holds at every place what its run there holds."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore.analysis import information_plane, sweep
from ipstore.errors import ParameterError, StoreNotFoundError, UnknownNameError
from ipstore.places import locate
from ipstore.trainers import TrainConfig, capture, capture_sweep, resume, tasks

TASK = tasks.load("rule")
CONFIG = TrainConfig(hidden=(4, 3), epochs=4, batch_size=2048)
HIDDEN, FRACTIONS, BATCHES = ((4, 3), (3,), ()), (0.1, 0.5), (None, 1024)
OPTIONS: dict[str, Any] = {"seeds": (3, 0), "processes": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sweeps over widths and fractions, over fractions alone, and over batch sizes; and a run of none."""
    where = tmp_path_factory.mktemp("sweeping") / "store"
    capture_sweep(TASK, where, "wide", {"hidden": HIDDEN, "train_fraction": FRACTIONS}, CONFIG, **OPTIONS)
    capture_sweep(TASK, where, "fractions", {"train_fraction": FRACTIONS}, CONFIG, **OPTIONS)
    capture_sweep(TASK, where, "batches", {"batch_size": BATCHES}, CONFIG, **OPTIONS)
    capture(TASK, where, "alone", CONFIG, **OPTIONS)
    return where


@pytest.fixture(scope="module")
def tree(store: Path) -> xr.DataTree:
    return ipstore.open(store)


def plane(run: xr.DataTree) -> xr.Dataset:
    return information_plane(run, "binned", bins=10)


def loss(run: xr.DataTree) -> xr.DataArray:
    array = run["training/loss"]
    assert isinstance(array, xr.DataArray)
    return array


def test_what_is_asked_of_each_run_stands_at_its_place(tree: xr.DataTree) -> None:
    joined = sweep(tree, of=plane, name="wide")
    assert joined["I_XT"].dims == ("hidden", "train_fraction", "epoch", "seed", "layer")
    assert joined["hidden"].values.tolist() == ["4-3", "3", "none"]
    assert joined["train_fraction"].values.tolist() == list(FRACTIONS)
    assert joined["layer"].values.tolist() == ["layer1", "layer2", "output"]
    assert joined["I_XT"].chunks is not None, "it is lazy"
    there = joined.compute()
    for hidden in ("4-3", "3", "none"):
        for fraction in FRACTIONS:
            run = tree[f"wide-hidden={hidden}-train_fraction={fraction}"]
            assert isinstance(run, xr.DataTree)
            own = plane(run).compute()
            part = there.sel(hidden=hidden, train_fraction=fraction)
            for name, values in own.data_vars.items():
                np.testing.assert_array_equal(part[name].sel(layer=own["layer"]), values)
                assert part[name].attrs == values.attrs
            missing = [layer for layer in joined["layer"].values if layer not in own["layer"]]
            assert part["I_XT"].sel(layer=missing).isnull().all()


def test_attributes_are_those_that_all_have(store: Path, tree: xr.DataTree) -> None:
    own = plane(ipstore.open(store, run="wide-hidden=3-train_fraction=0.5")).attrs
    assert own["source_run"] == "wide-hidden=3-train_fraction=0.5"
    assert sweep(tree, of=plane, name="wide").attrs == {**own, "sweep": "wide", "source_run": "wide"}

    def told(run: xr.DataTree) -> xr.Dataset:
        attrs = {"batch": run.attrs["config"]["batch_size"], "same": [1, [2]], "array": np.arange(2)}
        return xr.Dataset({"a": 1.0}, attrs=attrs | ({"some": 1} if attrs["batch"] else {}))

    joined = sweep(tree, "batch_size", of=told)
    assert joined["a"].dims == ("batch_size",)
    assert joined["batch_size"].values.tolist() == ["full", "1024"]
    assert joined.attrs.keys() == {"same", "array", "sweep", "source_run"}
    assert (joined.attrs["same"], joined.attrs["sweep"]) == ([1, [2]], "batches")


@pytest.mark.parametrize("hidden", ["4-3", (4, 3), [4, 3]])
def test_other_axes_are_fixed(tree: xr.DataTree, hidden: Any) -> None:
    joined = sweep(tree, "train_fraction", hidden=hidden, of=loss)
    assert isinstance(joined, xr.DataArray)
    assert (joined.name, joined.dims) == ("loss", ("train_fraction", "epoch", "seed", "split"))
    assert joined["hidden"].item() == "4-3"
    for fraction in FRACTIONS:
        own = tree[f"wide-hidden=4-3-train_fraction={fraction}/training/loss"]
        np.testing.assert_array_equal(joined.sel(train_fraction=fraction), own)
    assert joined.attrs == {**loss(tree["alone"]).attrs, "sweep": "wide", "source_run": "wide"}  # type: ignore[arg-type]


def test_dimensions_come_in_the_order_asked_for(tree: xr.DataTree) -> None:
    given = sweep(tree, "train_fraction", "hidden", of=loss)
    assert given.dims[:2] == ("train_fraction", "hidden")
    xr.testing.assert_identical(given.transpose("hidden", ...), sweep(tree, name="wide", of=loss))


def test_runs_are_put_together(tree: xr.DataTree) -> None:
    joined = sweep(tree, name="fractions")
    assert joined.name == "fractions"
    assert set(joined.children) == {"training", "probe", "activations"}
    assert (joined.attrs["level"], joined.attrs["sweep"]) == ("full", "fractions")
    assert not {"config", "commit", "created_at", "left_out", "epochs"} & joined.attrs.keys()
    for fraction in FRACTIONS:
        run = tree[f"fractions-train_fraction={fraction}"]
        for path in ("training/accuracy", "training/weight_norm", "activations/layer2", "probe/train"):
            np.testing.assert_array_equal(joined[path].sel(train_fraction=fraction), run[path])
        np.testing.assert_array_equal(joined["probe/x"], run["probe/x"])


@pytest.mark.long
@pytest.mark.parametrize("split", ["all", "train"])
def test_a_sweep_is_analysed_as_a_run_is(store: Path, split: Any) -> None:
    tree = ipstore.open(store)
    joined = tree.ip.sweep(name="fractions").ip.information_plane("binned", bins=10, split=split)
    each = tree.ip.sweep(name="fractions", of=lambda run: information_plane(run, "binned", bins=10, split=split))
    assert joined["I_TY"].dims == ("train_fraction", "epoch", "seed", "layer")
    xr.testing.assert_equal(joined.compute(), each.compute())
    assert joined.attrs["source_run"] == "fractions"


def test_layers_of_other_widths_are_left_out_and_said_so(tree: xr.DataTree) -> None:
    joined = sweep(tree, "hidden", train_fraction=0.5)
    assert set(joined.children) == {"training", "probe"}
    reason = "layer 'layer1' is 4 units of float32 on 4096 samples in 'wide-hidden=4-3-train_fraction=0.5' and 3 units"
    assert joined.attrs["left_out"]["activations"].startswith(reason)
    with pytest.raises(
        ParameterError, match=r"runs of sweep 'wide' cannot be analysed as one: layer 'layer1' .* Ask each"
    ):
        information_plane(joined)
    norms = joined["training/weight_norm"].sel(hidden="none")
    assert norms.sel(layer="layer1").isnull().all()
    np.testing.assert_array_equal(
        norms.sel(layer=["output"]), tree["wide-hidden=none-train_fraction=0.5/training/weight_norm"]
    )


@pytest.fixture
def growing(store: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(store, tmp_path / "store"))


def test_epochs_are_those_that_all_have(growing: Path) -> None:
    resume(growing, "fractions-train_fraction=0.5", epochs=7, processes=0)
    tree = ipstore.open(growing)
    joined = sweep(tree, name="fractions")
    assert joined["epoch"].to_numpy().tolist() == [0, 1, 2, 3, 4]
    assert joined.attrs["epochs"] == "the 5 that all runs have, of up to 8"
    assert sweep(tree, name="fractions", of=loss).attrs["epochs"] == joined.attrs["epochs"]
    thinned = sweep(
        tree, name="fractions", of=lambda run: loss(run).isel(epoch=slice(0, None, run.sizes["epoch"] % 4 + 1))
    )
    assert thinned["epoch"].values.tolist() == [0, 2, 4]
    assert "epochs" not in sweep(tree, name="wide").attrs


def test_no_epoch_in_common_is_refused(tree: xr.DataTree) -> None:
    def one(run: xr.DataTree) -> xr.DataArray:
        return loss(run).isel(epoch=[int(run.attrs["config"]["train_fraction"] > 0.2)])

    with pytest.raises(ParameterError, match="no epoch in common"):
        sweep(tree, name="fractions", of=one)


@pytest.mark.long
def test_runs_that_are_missing_are_named(growing: Path) -> None:
    locate(growing / "wide-hidden=3-train_fraction=0.1").remove()
    tree = ipstore.open(growing)
    message = (
        "1 of 6 runs of sweep 'wide' have not been captured yet: wide-hidden=3-train_fraction=0.1. Go on with "
        "`ipstore capture TASK STORE --run wide --resume`"
    )
    with pytest.raises(StoreNotFoundError) as raised:
        sweep(tree, name="wide")
    assert str(raised.value) == message
    assert sweep(tree, "train_fraction", hidden="none", of=loss).sizes["train_fraction"] == 2


def test_a_copy_under_another_name_is_no_run_of_the_sweep(growing: Path) -> None:
    shutil.copytree(growing / "fractions-train_fraction=0.1", growing / "copied")
    joined = sweep(ipstore.open(growing), name="fractions", of=loss)
    assert joined.sizes["train_fraction"] == 2


def two(tree: xr.DataTree) -> xr.DataTree:
    """The store with the sweep over batch sizes twice."""
    again = {}
    for run, node in tree.children.items():
        again[run] = node.copy()
        if run.startswith("batches"):
            twin = again[run.replace("batches", "other")] = node.copy()
            twin.attrs = node.attrs | {"sweep": node.attrs["sweep"] | {"name": "other"}}
    return xr.DataTree(children=again, name="store")


def test_the_sweep_that_varies_just_that_is_meant(tree: xr.DataTree) -> None:
    assert sweep(tree, "train_fraction", of=loss).attrs["sweep"] == "fractions"
    assert sweep(tree, "train_fraction", hidden="3", of=loss).attrs["sweep"] == "wide"


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (
            lambda tree: sweep(tree),
            ParameterError,
            r"the store has 3 sweeps, so name one \(name=\.\.\.\): 'batches' varies",
        ),
        (
            lambda tree: sweep(tree, "init"),
            ParameterError,
            "no sweep in the store varies 'init': 'batches' varies batch_size; 'fractions' varies train",
        ),
        (
            lambda tree: sweep(two(tree), "batch_size"),
            ParameterError,
            "the store has 2 sweeps over 'batch_size', so name one",
        ),
        (lambda tree: sweep(tree, "fraction", name="wide"), UnknownNameError, "no axis of sweep 'wide' 'fraction'"),
        (lambda tree: sweep(tree, name="wides"), UnknownNameError, "no sweep 'wides'. Did you mean 'wide'"),
        (
            lambda tree: sweep(tree, "train_fraction", name="wide"),
            ParameterError,
            "varies hidden too: make it a dimension, or fix it, such as hidden='4-3'",
        ),
        (
            lambda tree: sweep(tree, "hidden", train_fraction=0.2),
            ParameterError,
            "train_fraction is one of 0.1, 0.5 in sweep 'wide', but got 0.2",
        ),
        (lambda tree: sweep(tree, "hidden", "hidden", train_fraction=0.1), ParameterError, "'hidden' was given twice"),
        (
            lambda tree: sweep(tree, "hidden", hidden="3", train_fraction=0.1),
            ParameterError,
            "'hidden' was given twice",
        ),
        (
            lambda tree: sweep(tree, hidden="3", train_fraction=0.1),
            ParameterError,
            r"leaves one run: ipstore.open\(store, run='wide-hidden=3-train_fraction=0.1'\)",
        ),
        (lambda tree: sweep(tree["alone"]), ParameterError, "'alone' is a run: give ipstore.open"),
        (lambda tree: sweep(xr.DataTree(name="empty")), ParameterError, "the store 'empty' holds no sweep"),
        (lambda tree: sweep(tree, "batch_size", of=lambda run: 3), ParameterError, "for every run, but gave int"),
        (
            lambda tree: sweep(tree, "hidden", train_fraction=0.1, of=lambda run: run["activations"].to_dataset()),
            ParameterError,
            "has the variables layer1, output, and of .* layer1, layer2, output: they must be the same",
        ),
        (
            lambda tree: sweep(
                tree,
                "hidden",
                train_fraction=0.1,
                of=lambda run: run["activations/layer1"] if len(run.attrs["layers"]) > 1 else run["activations/output"],
            ),
            ParameterError,
            "differs from that of .* along 'layer1_unit': 3 long, and 4 long",
        ),
        (
            lambda tree: sweep(
                tree,
                "batch_size",
                of=lambda run: loss(run).isel(seed=slice(bool(run.attrs["config"]["batch_size"]), 2)),
            ),
            ParameterError,
            r"differs from that of .* along 'seed': 1 long \(0\.\.\.\), and 2 long \(3, 0\.\.\.\)",
        ),
        (
            lambda tree: sweep(tree, "batch_size", of=lambda run: loss(run).rename(split="batch_size")),
            ParameterError,
            "has a 'batch_size' already",
        ),
    ],
)
def test_what_cannot_be_put_together_is_refused(
    tree: xr.DataTree, ask: Callable[[xr.DataTree], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(tree)
