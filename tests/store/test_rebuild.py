"""What is rebuilt from weights is what was captured, to the bit; and rounding is told from wrong weights."""

import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from ipstore import rebuild
from ipstore.block import digest
from ipstore.errors import CorruptionError, UnknownNameError
from ipstore.mlp import ACTIVATIONS, computing
from ipstore.rebuild import Rebuilder, Rounding, rebuilder
from ipstore.trainers import TrainConfig, capture
from ipstore.trainers.streaming import DivergedWarning
from ipstore.trainers.tasks import Task

WITNESSES = ("y", "train", "loss", "weight_norm")


def blobs(samples: int, features: int, classes: int) -> Task:
    """Noise around a mean of each class."""
    rng = np.random.default_rng(samples)
    y = rng.integers(classes, size=samples)
    x = (rng.normal(size=(classes, features))[y] + 0.5 * rng.normal(size=(samples, features))).astype(np.float32)
    return Task(x=x, p_x=np.full(samples, 1 / samples), p_y_given_x=np.eye(classes)[y], x_id=np.arange(samples))


def captured(store: Path, config: TrainConfig, task: Task, level: str = "full") -> xr.DataTree:
    return capture(task, store, level, config, seeds=[3, 1, 4], level=level, processes=0, shard_epochs=2)


def weights_of(run: xr.DataTree) -> dict[str, NDArray[Any]]:
    return {str(layer): values.to_numpy() for layer, values in run["weights"].data_vars.items()}


def witnesses(run: xr.DataTree) -> dict[str, NDArray[Any]]:
    paths = ("probe/y", "probe/train", "training/loss", "training/weight_norm")
    return {name: run[path].to_numpy() for name, path in zip(WITNESSES, paths, strict=True)}


def rebuilt(run: xr.DataTree, **options: Any) -> dict[str, NDArray[np.float32]]:
    return rebuilder(run.attrs).activations(weights_of(run), run["probe/x"].to_numpy(), **options)


def judged(run: xr.DataTree, weights: dict[str, NDArray[Any]] | None = None, **other: Any) -> Rounding:
    ours = rebuilder(run.attrs)
    return ours.rounding(weights or weights_of(run), run["probe/x"].to_numpy(), **{**witnesses(run), **other})


def digests(activations: dict[str, NDArray[np.float32]]) -> list[list[list[int]]]:
    """By (epoch, seed, layer)."""
    cells = [[[digest(cell) for cell in epoch] for epoch in values] for values in activations.values()]
    found: list[list[list[int]]] = np.moveaxis(np.array(cells), 0, -1).tolist()
    return found


CONFIGS = [
    (TrainConfig(hidden=(10, 7, 5, 4, 3), batch_size=33, epochs=4), blobs(701, 9, 3)),
    (TrainConfig(hidden=(), batch_size=20, epochs=4), blobs(101, 5, 2)),
    (TrainConfig(hidden=(1,), activation="linear", batch_size=5, epochs=4), blobs(37, 1, 11)),
    (TrainConfig(hidden=(64, 17), activation="relu", batch_size=50, learning_rate=0.02, epochs=4), blobs(131, 33, 4)),
    (TrainConfig(hidden=(9, 1, 6), activation="sigmoid", batch_size=20, epochs=4), blobs(67, 8, 3)),
    (TrainConfig(hidden=(13,), activation="hard_tanh", optimizer="adam", epochs=4), blobs(3, 4, 2)),
]


@pytest.mark.parametrize(("config", "task"), CONFIGS, ids=lambda value: getattr(value, "activation", ""))
def test_rebuilt_activations_are_those_captured(tmp_path: Path, config: TrainConfig, task: Task) -> None:
    full, weights = (captured(tmp_path, config, task, level) for level in ("full", "weights"))
    ours = rebuilt(weights)
    assert list(ours) == list(full["activations"].data_vars) == full.attrs["layers"]
    for layer, values in ours.items():
        stored = full["activations"][layer].to_numpy()
        assert values.dtype == stored.dtype
        assert values.flags.c_contiguous
        np.testing.assert_array_equal(values.view(np.uint32), stored.view(np.uint32), err_msg=layer)
    assert digests(ours) == weights["digest/crc32c"].to_numpy().tolist()


def test_every_activation_can_be_rebuilt() -> None:
    assert {config.activation for config, _ in CONFIGS} == set(ACTIVATIONS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    config = TrainConfig(hidden=(6, 5, 4), batch_size=20, epochs=5)
    return captured(tmp_path_factory.mktemp("runs"), config, blobs(211, 7, 3)).load()


def test_any_layers_at_any_epochs_and_seeds(run: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rebuilt(run)
    x, ours = run["probe/x"].to_numpy(), rebuilder(run.attrs)
    for memory in (1, 30_000):
        monkeypatch.setattr(rebuild, "_PASS_BYTES", memory)
        part = {layer: values[2:5, 1:] for layer, values in weights_of(run).items()}
        for layers in (["layer1"], ["layer3", "layer1"], ["output"], []):
            deepest = max((run.attrs["layers"].index(layer) for layer in layers), default=-1)
            needed = {layer: part[layer] for layer in run.attrs["layers"][: deepest + 1]}
            found = ours.activations(needed, x, layers)
            assert found.keys() == set(layers)
            for layer, values in found.items():
                np.testing.assert_array_equal(values, whole[layer][2:5, 1:], strict=True)
    none = ours.activations({layer: values[:0] for layer, values in weights_of(run).items()}, x)
    assert none["layer2"].shape == (0, 3, 211, 5)


def test_threads_rebuild_at_once_and_leave_blas_as_it_was() -> None:
    task, ours = blobs(499, 200, 3), rebuilder({"model": model(widths=[200, 150, 3]), "layers": ["layer1", "output"]})
    rng = np.random.default_rng(1)
    shapes = {layer.name: (1, 4, layer.stop - layer.start) for layer in ours.layers}
    weights = {name: rng.normal(size=shape, scale=0.1).astype(np.float32) for name, shape in shapes.items()}
    with threadpool_limits(1):
        expected = ours.activations(weights, task.x)["layer1"]
    with threadpool_limits(3):
        with ThreadPoolExecutor(3) as pool:
            for found in pool.map(lambda _: ours.activations(weights, task.x)["layer1"], range(9)):
                np.testing.assert_array_equal(found, expected)
        assert numpy_blas()["num_threads"] == 3
        first, second = computing(), computing()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert numpy_blas()["num_threads"] == 1, "the second still computes"
        second.__exit__(None, None, None)
        assert numpy_blas()["num_threads"] == 3


def numpy_blas() -> dict[str, Any]:
    """What is known of the matrix library of NumPy; SciPy may bring another."""
    found = [
        library for library in threadpool_info() if library["user_api"] == "blas" and "numpy" in library["filepath"]
    ]
    if len(found) != 1:
        pytest.skip("needs a NumPy that brings its own BLAS")
    return dict(found[0])


# Rounding or wrong -------------------------------------------------------------


def test_the_right_weights_are_vouched_for(run: xr.DataTree) -> None:
    found = judged(run)
    assert found.vouched.shape == (6, 3)
    assert found.vouched.all()
    for layer in run.attrs["layers"]:
        assert (found.tolerance[layer] > 0).all()
        assert found.tolerance[layer].max() < 2e-5  # some tens of units in the last place of 1


@pytest.mark.parametrize("change", ["epoch", "seed", "layer", "bit", "order"])
def test_wrong_weights_are_told_from_rounding(run: xr.DataTree, change: str) -> None:
    weights = {layer: values.copy() for layer, values in weights_of(run).items()}
    wrong = np.zeros((6, 3), np.bool_)
    if change == "epoch":  # those of the epoch before
        weights = {layer: np.roll(values, 1, axis=0) for layer, values in weights.items()}
        wrong[:] = True
    elif change == "seed":
        weights = {layer: values[:, [0, 2, 1]] for layer, values in weights.items()}
        wrong[:, 1:] = True
    elif change == "layer":  # one layer of the epoch before
        weights["layer2"] = np.roll(weights["layer2"], 1, axis=0)
        wrong[:] = True
    elif change == "bit":  # the lowest bit of the exponent: a weight halves or doubles
        weights["layer3"].view(np.uint32)[4, 1, 7] ^= 1 << 23
        wrong[4, 1] = True
    else:  # in column-major order: the norm is the same, the loss is not
        n = 6 * 5
        matrices = weights["layer2"][..., :n].reshape(6, 3, 5, 6)
        weights["layer2"][..., :n] = matrices.swapaxes(2, 3).reshape(6, 3, n)
        wrong[:] = True
    np.testing.assert_array_equal(judged(run, weights).vouched, ~wrong)


def test_another_activation_is_told_from_rounding(run: xr.DataTree) -> None:
    other = Rebuilder(rebuilder(run.attrs).layers, "hard_tanh")
    found = other.rounding(weights_of(run), run["probe/x"].to_numpy(), **witnesses(run))
    assert not found.vouched.any()


ELSEWHERE = """
import sys, numpy as np
from pathlib import Path
import ipstore
from ipstore.rebuild import rebuilder

run = ipstore.open(sys.argv[1])
weights = {layer: values.to_numpy() for layer, values in run["weights"].data_vars.items()}
x = run["probe/x"].to_numpy()
ours = rebuilder(run.attrs)
witnesses = [run[path].to_numpy() for path in ("probe/y", "probe/train", "training/loss", "training/weight_norm")]
found = ours.rounding(weights, x, *witnesses)
assert found.vouched.all()
equal = 0
for layer, values in ours.activations(weights, x).items():
    off = np.abs(values - run["activations"][layer].to_numpy()).max(axis=(2, 3))
    assert (off <= found.tolerance[layer]).all(), (layer, off.max())
    equal += (off == 0).sum()
print(equal)
"""


def other_kernels() -> str:
    """A kernel of OpenBLAS that adds in another order than the one in use, on this processor."""
    blas = numpy_blas()
    if blas["internal_api"] != "openblas" or os.uname().machine != "x86_64":
        pytest.skip("needs OpenBLAS on x86_64, whose kernels can be chosen")
    return "Prescott" if blas["architecture"] != "Prescott" else "Haswell"


def test_another_blas_is_within_the_tolerance(tmp_path: Path) -> None:
    config, task = CONFIGS[0]
    captured(tmp_path, config, task)
    environment = {**os.environ, "OPENBLAS_CORETYPE": other_kernels()}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ELSEWHERE, str(tmp_path / "full")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 5 * 3 * 6, "the kernels do not differ, so this shows nothing"


def test_diverged_networks_are_rebuilt_too(tmp_path: Path) -> None:
    config = TrainConfig(hidden=(8, 4), activation="relu", batch_size=10, learning_rate=1e12, epochs=6)
    with pytest.warns(DivergedWarning):
        full = captured(tmp_path, config, blobs(83, 5, 3))
    assert np.isnan(full["activations/output"].to_numpy()).any()
    ours = rebuilt(full)
    for layer, values in ours.items():
        stored = full["activations"][layer].to_numpy()
        np.testing.assert_array_equal(values.view(np.uint32), stored.view(np.uint32), err_msg=layer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = judged(full)
    assert found.vouched.all()
    assert not any(np.isnan(tolerance).any() for tolerance in found.tolerance.values())
    sound = {layer: np.where(np.isfinite(values), values, 0) for layer, values in weights_of(full).items()}
    changed = np.any([(sound[layer] != values).any(-1) for layer, values in weights_of(full).items()], axis=0)
    assert changed.any()
    assert not judged(full, sound).vouched[changed].any()


def test_no_tolerance_holds_where_float32_alone_overflows() -> None:
    layers = ["layer1", "layer2", "output"]
    ours = rebuilder({"model": model(widths=[4, 2, 1, 2], activation="linear"), "layers": layers})
    weights = {
        "layer1": np.full((1, 1, 10), 3e38, np.float32),
        "layer2": np.array([[[1, -1, 0]]], np.float32),
        "output": np.zeros((1, 1, 4), np.float32),
    }
    found = ours.rounding(
        weights, np.ones((5, 4)), np.zeros(5, int), np.ones((1, 5)), np.full((1, 1, 2), 0.7), np.full((1, 1, 3), np.inf)
    )
    assert np.isinf([found.tolerance[layer] for layer in layers]).all()
    assert not found.vouched.any()


def test_without_test_samples(tmp_path: Path) -> None:
    run = captured(tmp_path, TrainConfig(hidden=(4,), epochs=2, train_fraction=1), blobs(50, 3, 2))
    assert np.isnan(run["training/loss"].sel(split="test")).all()
    assert judged(run).vouched.all()


# Hostile attributes -------------------------------------------------------------


def model(**changes: Any) -> dict[str, Any]:
    return {"kind": "mlp", "widths": [4, 3, 2], "activation": "tanh", "output": "softmax", **changes}


@pytest.mark.parametrize(
    ("attrs", "error", "message"),
    [
        ({}, CorruptionError, "'model' must describe its network but is None"),
        ({"model": "mlp"}, CorruptionError, "but is 'mlp'"),
        ({"model": model(kind="cnn")}, UnknownNameError, "no rebuildable model kind 'cnn'. Known: mlp"),
        ({"model": model(kind=None)}, UnknownNameError, "kind 'None'"),
        ({"model": model(kind={"a": []})}, UnknownNameError, "kind"),
        ({"model": model(activation="tahn")}, UnknownNameError, "activation 'tahn'. Did you mean 'tanh'"),
        ({"model": model(activation="os:system")}, UnknownNameError, "activation 'os:system'"),
        ({"model": model(output="linear")}, UnknownNameError, "output 'linear'"),
        ({"model": model(widths=None)}, CorruptionError, "positive integers but are None"),
        ({"model": model(widths="432")}, CorruptionError, "positive integers"),
        ({"model": model(widths=[4])}, CorruptionError, "positive integers"),
        ({"model": model(widths=[4, 0, 2])}, CorruptionError, "positive integers"),
        ({"model": model(widths=[4, -3, 2])}, CorruptionError, "positive integers"),
        ({"model": model(widths=[4, 3.0, 2])}, CorruptionError, "positive integers"),
        ({"model": model(widths=[4, True, 2])}, CorruptionError, "positive integers"),
        ({"model": model(widths=[4, "3", 2])}, CorruptionError, "positive integers"),
        ({"model": model(widths={"0": 4, "1": 3})}, CorruptionError, "positive integers"),
        ({"model": model(widths=[4, 2])}, CorruptionError, "make 1 layers"),
        ({"model": model(), "layers": None}, CorruptionError, "'layers' is None"),
        ({"model": model(), "layers": ["layer1", "../output"]}, CorruptionError, "'layers' is"),
    ],
)
def test_attributes_that_cannot_be_rebuilt_from(attrs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        rebuilder({"layers": ["layer1", "output"], **attrs})
    assert len(str(caught.value)) < 400


def test_a_message_stays_short_whatever_it_is_given() -> None:
    for attrs in (
        {"model": model(kind="x" * 10**6)},
        {"model": model(widths=[10**400] * 10**4)},
        {"model": [0] * 10**6},
    ):
        with pytest.raises((CorruptionError, UnknownNameError)) as caught:
            rebuilder({"layers": ["y" * 10**6] * 100, **json.loads(json.dumps(attrs))})
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("layer1", np.zeros((2, 3, 16), np.float32), "'layer1', of 4 inputs and 3 units"),
        ("layer1", np.zeros((2, 3, 15)), "float64"),
        ("layer1", np.zeros((), np.float32), "shape"),
        ("output", np.zeros((2, 2, 8), np.float32), r"shape \(2, 3, 8\)"),
        ("output", None, "absent"),
        ("x", np.zeros((5, 3), np.float32), "must hold numbers"),
        ("x", np.zeros((0, 4), np.float32), "must hold numbers"),
        ("x", np.zeros(4, np.float32), "must hold numbers"),
        ("x", np.full((5, 4), "a"), "must hold numbers"),
        ("y", np.full(5, 2), "classes"),
        ("y", np.full(5, -1), "classes"),
        ("y", np.zeros(5), "classes"),
        ("y", np.zeros(4, np.int64), "y must be of shape"),
        ("train", np.ones((2, 5), np.bool_), "train must be of shape"),
        ("loss", np.ones((2, 3)), "loss must be of shape"),
        ("weight_norm", np.ones((2, 3, 3)), "weight_norm must be of shape"),
    ],
)
def test_arrays_that_do_not_fit_the_model(name: str, values: Any, message: str) -> None:
    arrays: dict[str, Any] = {
        "layer1": np.zeros((2, 3, 15), np.float32),
        "output": np.zeros((2, 3, 8), np.float32),
        "x": np.zeros((5, 4), np.float32),
        "y": np.zeros(5, np.int64),
        "train": np.ones((3, 5), np.bool_),
        "loss": np.full((2, 3, 2), np.log(2)),
        "weight_norm": np.zeros((2, 3, 2), np.float32),
    }
    ours = rebuilder({"model": model(), "layers": ["layer1", "output"]})

    def judge() -> Rounding:
        weights = {layer: arrays[layer] for layer in ("layer1", "output") if arrays[layer] is not None}
        return ours.rounding(weights, arrays["x"], *(arrays[name] for name in WITNESSES))

    judge()
    arrays[name] = values
    with pytest.raises(CorruptionError, match=message):
        judge()


def test_a_layer_that_is_none() -> None:
    ours = rebuilder({"model": model(), "layers": ["layer1", "output"]})
    with pytest.raises(UnknownNameError, match=r"no layer 'layer2'\. Did you mean 'layer1'"):
        ours.activations({}, np.zeros((5, 4)), ["layer2"])


def test_a_huge_model_asks_for_no_memory_that_the_store_does_not_hold() -> None:
    ours = rebuilder({"model": model(widths=[1, 10**12, 2]), "layers": ["layer1", "output"]})
    with pytest.raises(CorruptionError, match="1000000000000 units"):
        ours.activations({"layer1": np.zeros((1, 1, 4), np.float32)}, np.zeros((5, 1)))
