"""What units do over the epochs: against NumPy's histogram, the estimators, and answers that are known."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from xarray.backends.zarr import ZarrArrayWrapper

import ipstore
from ipstore.analysis import information_plane, layer_activity
from ipstore.analysis.activity_kernels import code_counts, distinct, histograms
from ipstore.binning import MISSING, Binning
from ipstore.errors import ActivationError, ParameterError, UnknownNameError
from ipstore.trainers import TrainConfig, capture, tasks
from tests.store.synthetic import make_plan, write_run

TANH = {"kind": "mlp", "activation": "tanh", "output": "softmax"}


def run_of(
    values: NDArray[Any], model: dict[str, Any] | None = None, *, layer: str = "layer1", **probe: Any
) -> xr.DataTree:
    """A run with one layer, of values (epoch, seed, sample, unit)."""
    epochs, seeds, samples, _ = values.shape
    labels = np.eye(2)[np.arange(samples) % 2]
    arrays = {"p_y_given_x": (("sample", "class"), labels), **{name: ("sample", one) for name, one in probe.items()}}
    root = xr.Dataset(
        coords={"epoch": np.arange(epochs), "seed": 10 + np.arange(seeds)},
        attrs={"level": "full", "probe": "population", "layers": ["layer1", "output"], "model": model or TANH},
    )
    stored = xr.Dataset({layer: (("epoch", "seed", "sample", f"{layer}_unit"), values)}, attrs={"layers": [layer]})
    return xr.DataTree.from_dict(
        {"/": root, "/probe": xr.Dataset(arrays), "/activations": stored.chunk(epoch=2, seed=1)}, name="mine"
    )


def random_run(**how: Any) -> xr.DataTree:
    rng = np.random.default_rng(5)
    return run_of(np.tanh(rng.normal(0, 1.5, (4, 3, 64, 5))).astype(np.float32), **how)


# The kernels -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("low", "high", "bins"), [(-1.0, 1.0, 30), (0.0, 0.7, 7), (-3.0, 1e-3, 1), (1e6, 1e6 + 1, 9)])
def test_histograms_are_those_of_numpy_also_at_the_edges(dtype: Any, low: float, high: float, bins: int) -> None:
    rng = np.random.default_rng(0)
    edges = np.linspace(low, high, bins + 1)
    spread = rng.uniform(low - 0.1 * (high - low), high + 0.1 * (high - low), 2000)
    on = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
    x = rng.permutation(np.concatenate([spread, on])).astype(dtype)
    found = layer_activity(
        run_of(x[None, None, :, None]), "layer1", histogram_bins=bins, histogram_range=(low, high)
    ).compute()
    expected, _ = np.histogram(x, bins=edges)
    np.testing.assert_array_equal(found["counts"][0, 0], expected)
    assert found["below"].item() == np.count_nonzero(x < edges[0])
    assert found["above"].item() == np.count_nonzero(x > edges[-1])
    np.testing.assert_array_equal(found["left"], edges[:-1])
    np.testing.assert_array_equal(found["right"], edges[1:])
    np.testing.assert_allclose(found["bin"], (edges[:-1] + edges[1:]) / 2)


def test_what_is_no_number_is_counted_beside_the_bins() -> None:
    x = np.array([[[0.5, np.nan], [np.inf, -np.inf], [np.nan, 0.0]]])
    counts, outside = np.zeros((1, 2, 4), np.int64), np.zeros((1, 3), np.int64)
    histograms(x, np.linspace(0, 1, 5), counts, outside)
    np.testing.assert_array_equal(counts, [[[0, 0, 1, 0], [1, 0, 0, 0]]])
    np.testing.assert_array_equal(outside, [[1, 1, 2]])


def test_codes_are_counted_as_they_are() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 7, (3, 50, 4), np.uint8)
    codes[1, :9, 2] = MISSING
    counts, outside = np.zeros((3, 4, 6), np.int64), np.zeros((3, 3), np.int64)
    code_counts(codes, MISSING, counts, outside)
    for cell, unit in np.ndindex(3, 4):
        np.testing.assert_array_equal(counts[cell, unit], np.bincount(codes[cell, :, unit], minlength=6)[:6])
    np.testing.assert_array_equal(outside[:, 1], (codes == 6).sum(axis=(1, 2)))
    np.testing.assert_array_equal(outside[:, 2], [0, 9, 0])


@pytest.mark.parametrize("most", [1, 30, 2**16, 2**20, 2**62])
def test_distinct_codes_are_those_of_numpy(most: int) -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, most, (3, 300, 4)).astype(np.uint64)
    out = np.empty((3, 4), np.int64)
    distinct(codes, out)
    expected = [[len(np.unique(codes[cell, :, unit])) for unit in range(4)] for cell in range(3)]
    np.testing.assert_array_equal(out, expected)


# Known answers ---------------------------------------------------------------


def test_a_uniform_unit_fills_every_bin_alike() -> None:
    values = (np.arange(60) + 0.5) / 30 - 1
    found = layer_activity(run_of(np.tile(values[:, None], (2, 3, 1, 2)).astype(np.float32)), "layer1").compute()
    assert found["counts"].dims == ("epoch", "unit", "bin")
    assert (found["counts"] == 2 * 3).all()  # two samples of three seeds
    assert (found["bins_used"] == 30).all()
    assert (found["n_cells"] == 30).all()
    assert found.attrs["samples"] == 60
    assert found.attrs["bins_possible"] == 30
    np.testing.assert_allclose(found["saturation"], (np.abs(values) > 0.95).mean())


def test_a_constant_unit_uses_one_bin() -> None:
    found = layer_activity(run_of(np.full((1, 2, 40, 3), 0.3, np.float32)), "layer1").compute()
    assert (found["bins_used"] == 1).all()
    assert (found["n_cells"] == 1).all()
    assert (found["saturation"] == 0).all()
    assert (found["counts"].max("bin") == 80).all()
    assert ((found["counts"] > 0).sum("bin") == 1).all()


def test_a_saturated_tanh_lies_in_the_outermost_bins() -> None:
    values = np.tanh(np.float32(20)) * np.where(np.arange(40) % 4 == 0, 1, -1).astype(np.float32)
    assert values.max() == 1  # in single precision
    found = layer_activity(run_of(values[None, None, :, None]), "layer1").compute()
    np.testing.assert_array_equal(found["counts"][0, 0, [0, -1]], [30, 10])
    assert found["saturation"].item() == 1
    assert found["bins_used"].item() == 2
    assert found["above"].item() == 0


@pytest.mark.parametrize(
    ("function", "values", "share", "words"),
    [
        ("tanh", [0.95, 0.951, -0.96, 0.0], 0.5, "|T| > 0.95"),
        ("hard_tanh", [1.0, -1.0, 0.5, 0.2], 0.5, "|T| > 0.95"),
        ("sigmoid", [0.02, 0.03, 0.98, 0.97], 0.5, "T < 0.025 or T > 0.975"),
        ("softmax", [0.0, 1.0, 1.0, 0.5], 0.75, "T < 0.025 or T > 0.975"),
        ("relu", [0.0, 0.0, 0.0, 1e-30], 0.75, "exactly 0"),
    ],
)
def test_saturation_is_judged_by_the_range_of_the_function(
    function: Any, values: list[float], share: float, words: str
) -> None:
    given = np.array(values, np.float32)[None, None, :, None]
    for run, how in (
        (run_of(given, {"kind": "mlp", "activation": function, "output": "linear"}), {}),
        (run_of(given, {"kind": "module", "layers": {}}), {"function": function}),
    ):
        found = layer_activity(run, "layer1", **how).compute()
        assert found["saturation"].item() == share
        assert found.attrs["saturated"] == words
        assert found.attrs["function"] == function
        assert "no_saturation" not in found.attrs


def test_the_last_layer_has_the_function_of_the_output() -> None:
    found = layer_activity(random_run(layer="output"), "output")
    assert found.attrs["function"] == "softmax"
    assert (found["left"].values[0], found["right"].values[-1]) == (0, 1)


@pytest.mark.parametrize(
    ("recorded", "function"),
    [
        ({"class": "torch.nn.modules.activation.Tanh", "shape": [5], "reduce": "mean"}, "tanh"),
        ({"class": "torch.nn.modules.activation.ReLU", "shape": [5, 4], "reduce": "flatten"}, "relu"),
        ({"class": "torch.nn.modules.activation.ReLU", "shape": [5, 4], "reduce": "mean"}, None),
        ({"class": "torch.nn.modules.activation.Tanh", "shape": [5], "reduce": "pca:3"}, None),
        ({"class": "torch.nn.modules.linear.Linear", "shape": [5], "reduce": "mean"}, None),
    ],
)
def test_the_function_of_a_recorded_layer_is_that_of_its_module(recorded: dict[str, Any], function: str | None) -> None:
    found = layer_activity(random_run(model={"kind": "module", "layers": {"layer1": recorded}}), "layer1")
    assert found.attrs.get("function") == function
    assert ("saturation" in found) == (function is not None)
    if function is None:
        assert "give it as function=" in found.attrs["no_saturation"]


def test_without_bounds_the_histogram_spans_what_there_is() -> None:
    values = np.random.default_rng(0).exponential(1, (3, 2, 50, 2)).astype(np.float32)
    values[1, 0, 3, 1] = np.inf
    found = layer_activity(run_of(values), "layer1", function="relu", epochs=[1, 2], seeds=[10]).compute()
    some = values[1:, 0][np.isfinite(values[1:, 0])]
    assert (found["left"].values[0], found["right"].values[-1]) == (some.min(), some.max())
    assert found["counts"].sum() == some.size
    assert found["above"].sum() == 1
    constant = layer_activity(run_of(np.full((1, 1, 8, 1), 3.0)), "layer1", function="linear").compute()
    assert (constant["left"].values[0], constant["right"].values[-1]) == (2.5, 3.5)
    nothing = layer_activity(run_of(np.full((1, 1, 8, 1), np.nan)), "layer1", function="linear").compute()
    assert nothing["missing"].item() == 8


# Against the estimators ------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        ("binned", {}),
        ("binned", {"bins": 5}),
        ("binned", {"bins": 8, "range": "layer"}),
        ("binned", {"bins": 6, "rule": "quantile"}),
        ("binned", {"bins": 6, "rule": "entropy"}),
        ("binned", {"width": 0.25}),
        ("quantised", {"bits": 3}),
        ("discrete", {}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_the_codes_of_a_layer_are_those_that_the_estimator_counts(
    estimator: str, params: dict[str, Any], dtype: Any
) -> None:
    rng = np.random.default_rng(5)
    values = np.tanh(rng.normal(0, 1.5, (4, 3, 64, 5))).round(2).astype(dtype)
    weights = rng.uniform(0, 1, 64)
    weights[:7] = 0
    run = run_of(values, p_x=weights / weights.sum())
    found = layer_activity(run, "layer1", estimator, **params).compute()
    expected = information_plane(run, estimator, **params)["n_cells"].sel(layer="layer1").compute()
    np.testing.assert_array_equal(found["n_cells"], expected)
    for unit in range(5):
        one = run_of(values[..., [unit]], p_x=weights / weights.sum())
        if params.get("range") != "layer" and params.get("rule") != "entropy":  # those look at all units
            alone = information_plane(one, estimator, **params)["n_cells"].isel(layer=0)
            np.testing.assert_array_equal(found["bins_used"].sel(unit=unit), alone)
    assert found.attrs["samples"] == 57
    assert found.attrs["estimator"] == estimator
    assert found.attrs.get("bins_possible") == (params.get("bins", 30) if estimator == "binned" else 8) or (
        "width" in params or estimator == "discrete"
    )


def test_bins_in_use_are_those_of_digitize() -> None:
    run = random_run()
    found = layer_activity(run, "layer1", bins=12).compute()
    values = run["activations"].dataset["layer1"].values
    codes = np.digitize(values, np.linspace(-1, 1, 13)[1:-1])
    for epoch, seed, unit in np.ndindex(4, 3, 5):
        assert found["bins_used"][epoch, seed, unit] == len(np.unique(codes[epoch, seed, :, unit]))
    assert (found["bins_used"] <= 12).all()


def test_seeds_and_epochs_are_chosen_by_their_labels() -> None:
    run = random_run()
    found = layer_activity(run, "layer1", epochs=[3, 0], seeds=[12, 10]).compute()
    whole = layer_activity(run, "layer1").compute()
    assert found["epoch"].values.tolist() == [0, 3]
    assert found["seed"].values.tolist() == [10, 12]
    some = whole.sel(epoch=[0, 3], seed=[10, 12])
    xr.testing.assert_identical(found.drop_vars("counts"), some.drop_vars("counts"))
    values = run["activations"].dataset["layer1"].values[[0, 3]][:, [0, 2]]
    for epoch, unit in np.ndindex(2, 5):
        expected, _ = np.histogram(values[epoch, ..., unit], np.linspace(-1, 1, 31))
        np.testing.assert_array_equal(found["counts"][epoch, unit], expected)


def test_many_epochs_are_thinned_evenly_in_the_logarithm() -> None:
    found = layer_activity(run_of(np.zeros((300, 1, 4, 1), np.float32)), "layer1", epochs=12)
    epochs = found["epoch"].values
    assert (epochs[0], epochs[-1]) == (0, 299)
    assert 9 <= len(epochs) <= 12
    assert found.attrs["epochs_of_run"] == 300


def test_a_seed_with_nan_is_counted_out_of_what_it_lacks() -> None:
    values = np.full((2, 2, 10, 2), 0.99, np.float32)
    values[1, 0, :4, 1] = np.nan
    found = layer_activity(run_of(values), "layer1").compute()
    np.testing.assert_array_equal(found["missing"], [[0, 0], [4, 0]])
    np.testing.assert_array_equal(found["counts"].sum("bin"), [[20, 20], [20, 16]])
    assert (found["saturation"] == 1).all()  # of those that are numbers
    np.testing.assert_array_equal(found["n_cells"], [[1, 1], [np.nan, 1]])
    assert found["bins_used"][1, 0].isnull().all()


# What is stored, and what is read --------------------------------------------


def test_of_codes_the_histogram_is_theirs(tmp_path: Path) -> None:
    write_run(tmp_path, make_plan("codes", attrs={"task": "synthetic", "model": TANH}), 5)
    run = ipstore.open(tmp_path, run="run")
    found = layer_activity(run, "layer1").compute()
    codes: NDArray[Any] = run["activations"].dataset["layer1"].values
    for epoch, unit in np.ndindex(5, 5):
        expected = np.bincount(codes[epoch, ..., unit].ravel(), minlength=30)
        np.testing.assert_array_equal(found["counts"][epoch, unit], expected)
    np.testing.assert_array_equal(found["left"], Binning().edges[:-1])
    beyond = (codes == 0) | (codes == 29)  # the edges at 0.9333 are nearest to 0.95
    np.testing.assert_allclose(found["saturation"], beyond.mean(axis=2))
    assert found.attrs["saturated"] == "|T| beyond 0.9333 (bins)"
    assert found.attrs["activations"] == "codes of bins"
    coarser = layer_activity(run, "layer1", bins=10).compute()
    assert coarser["bins_used"][0, 0, 0] == len(np.unique(codes[0, 0, :, 0] // 3))
    xr.testing.assert_identical(coarser["counts"], found["counts"])
    with pytest.raises(ParameterError, match=r"codes of 30 bins on \(-1.0, 1.0\), .* neither histogram_bins \(10\)"):
        layer_activity(run, "layer1", histogram_bins=10)
    assert "do not tell a ReLU's zero" in layer_activity(run, "layer1", function="relu").attrs["no_saturation"]
    with pytest.raises(ParameterError, match="cannot answer"):
        layer_activity(run, "layer1", bins=7)


@pytest.mark.parametrize(
    ("bins", "span", "function", "words"),
    [
        (40, (0.0, 1.0), "sigmoid", "T beyond 0.025, 0.975 (bins)"),
        (3, (-1.0, 1.0), "tanh", "|T| beyond 0.3333 (bins)"),
        (2, (-1.0, 1.0), "tanh", ""),
    ],
)
def test_limits_of_codes_are_the_nearest_edges(bins: int, span: Any, function: Any, words: str) -> None:
    codes = np.random.default_rng(0).integers(0, bins, (1, 1, 30, 2)).astype(np.uint8)
    run = run_of(codes)
    run["activations/layer1"].attrs["binning"] = Binning(bins, span).to_attrs()
    found = layer_activity(run, "layer1", function=function).compute()
    if not words:
        assert found.attrs["no_saturation"] == "codes of 2 bins are too coarse for it"
        return
    assert found.attrs["saturated"] == words
    np.testing.assert_allclose(found["saturation"][0, 0], ((codes == 0) | (codes == bins - 1)).mean(axis=2)[0, 0])


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training, captured whole, as weights, and as weights in two parts."""
    store = tmp_path_factory.mktemp("activity") / "runs"
    config = TrainConfig(hidden=(4, 3), epochs=9, batch_size=2048)
    task = tasks.load("rule")
    for level in ("full", "weights"):
        capture(task, store, level, config, seeds=[2, 5, 9], level=level, processes=0, shard_epochs=4)
    for part, seeds in (("a", [2, 5]), ("b", [9])):
        capture(task, store, "big", config, seeds=seeds, part=part, level="weights", processes=0, shard_epochs=4)
    return store


@pytest.mark.long
@pytest.mark.parametrize("name", ["weights", "big"])
def test_rebuilt_activations_give_the_same(captured: Path, name: str) -> None:
    whole = layer_activity(ipstore.open(captured, run="full"), "layer2", epochs=[0, 4, 9])
    rebuilt = layer_activity(ipstore.open(captured, run=name), "layer2", epochs=[0, 4, 9])
    xr.testing.assert_equal(rebuilt.compute(), whole.compute())
    assert rebuilt.attrs["activations"] == "rebuilt from weights"
    assert "activations" not in whole.attrs


@pytest.mark.long
def test_only_the_chosen_epochs_are_rebuilt(captured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipstore import virtual

    built: list[int] = []
    real = virtual._rebuild

    def spy(model: Any, arrays: Any) -> Any:
        built.append(arrays["digest/crc32c"].shape[0] * arrays["digest/crc32c"].shape[1])
        return real(model, arrays)

    monkeypatch.setattr(virtual, "_rebuild", spy)
    found = layer_activity(ipstore.open(captured, run="weights"), "layer1", epochs=[0, 9])
    assert built == []
    found.compute()
    assert sum(built) == 2 * 3


def test_only_blocks_with_a_chosen_epoch_are_read_and_nothing_before_it_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, make_plan(seeds=2, shard=16, attrs={"task": "synthetic", "model": TANH}), 64)
    run = ipstore.open(tmp_path, run="run")
    blocks = run["activations"].dataset["layer1"].chunksizes
    assert blocks["epoch"] == (16,) * 4
    read: list[int] = []
    real: Any = ZarrArrayWrapper.__getitem__

    def spy(self: Any, key: Any) -> Any:
        part = real(self, key)
        if self._array.path.endswith("activations/layer1"):
            read.append(len(part))
        return part

    monkeypatch.setattr(ZarrArrayWrapper, "__getitem__", spy)
    found = layer_activity(run, "layer1", epochs=[0, 1, 2, 17, 33, 47])
    assert read == []
    found.compute()
    # Each once, for all that is asked: a slice, a single epoch, and a block of which two are needed; none of the last.
    assert sorted(read) == sorted([3, 1, 16] * len(blocks["seed"]))


def test_a_task_holds_a_few_megabytes_however_long_the_run() -> None:
    zeros: Any = da.zeros
    values = zeros((400, 3, 512, 64), dtype=np.float32, chunks=(400, 1, 512, 64))
    run = run_of(np.zeros((400, 3, 512, 1), np.float32))
    stored = xr.Dataset({"layer1": (("epoch", "seed", "sample", "layer1_unit"), values)}, attrs={"layers": ["layer1"]})
    run["activations"] = xr.DataTree(stored)
    found = layer_activity(run, "layer1", epochs=400)
    assert max(found["n_cells"].chunksizes["epoch"]) * 512 * 64 * 4 <= 2**24
    assert found["counts"].sizes == {"epoch": 400, "unit": 64, "bin": 30}


# What is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "layer9"}, UnknownNameError, "there is no layer 'layer9'"),
        ({"estimator": "nothing"}, UnknownNameError, "there is no estimator 'nothing'"),
        ({"estimator": "kde_upper"}, ParameterError, "does not say which bins are used; .*: binned, discrete, quant"),
        ({"epochs": [0, 77]}, ParameterError, r"epochs must be of those that are stored, 0 to 3 \(4 of them\), .* 77"),
        ({"epochs": []}, ParameterError, "epochs must be of those that are stored, .* but got none"),
        ({"epochs": 0}, ParameterError, "epochs must be how many, 1 or more, or which ones, but got 0"),
        ({"epochs": True}, ParameterError, "epochs must be how many"),
        ({"seeds": [3]}, ParameterError, r"seeds must be of those that are stored, 10 to 12 \(3 of them\), but got 3"),
        ({"histogram_bins": 0}, ParameterError, r"histogram_bins must lie in \[1, 1000\] but got 0"),
        ({"histogram_range": (1, 1)}, ParameterError, r"histogram_range must be two finite .* but got \(1, 1\)"),
        ({"histogram_range": (0, np.inf)}, ParameterError, "histogram_range must be two finite"),
        ({"function": "gelu"}, ParameterError, "function must be one of 'tanh', .* but got 'gelu'"),
        ({"bins": 0}, ParameterError, "bins"),
        ({"bines": 3}, ParameterError, "has no parameter 'bines'"),
    ],
)
def test_what_cannot_be_asked(options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        layer_activity(random_run(), **{"layer": "layer1", **options})


def test_a_run_without_activations_says_what_to_do() -> None:
    run = random_run()
    del run["activations"]
    with pytest.raises(ActivationError, match="holds no activations"):
        layer_activity(run, "layer1")
