"""All measures at once, over seeds, and of real runs."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import ipstore
from ipstore.analysis import dynamics, seed_interval
from ipstore.errors import ParameterError
from ipstore.trainers import TrainConfig, capture, tasks
from tests.analysis.dynamics.curves import DENSE, numbers, over_layers, over_splits, through


def plane_and_training(seeds: int = 6) -> tuple[xr.Dataset, xr.Dataset]:
    """Two layers, of which the second compresses, later in every seed; the gradients of the first do not cross."""
    late = [100 + 20 * number for number in range(seeds)]
    compressing = [through(DENSE, (0, 6), (10, 8), (at, 8), (at + 400, 3), (1000, 3)) for at in late]
    plane = over_layers([[np.full(1001, 12.0), curve] for curve in compressing], "I_XT", DENSE)
    plane["I_TY"] = plane["I_XT"] * 0 + through(DENSE, (0, 0), (200, 1), (1000, 0.9))[:, None, None]
    training = over_splits([through(DENSE, (0, 0.7), (at, 0), (1000, 0)) for at in late], "loss", DENSE)
    training["accuracy"] = 1 - training["loss"] / 2
    ratio = [[np.full(1001, 5.0), through(DENSE, (0, 3), (at / 2 - 1, 3), (at / 2, 0.3))] for at in late]
    training["grad_mean_norm"] = over_layers(ratio, "ratio", DENSE)["ratio"]
    training["grad_std_norm"] = xr.ones_like(training["grad_mean_norm"])
    return plane.assign_attrs(estimator="binned"), training


def test_it_is_what_the_functions_give() -> None:
    plane, training = plane_and_training()
    found = dynamics.measure(plane.chunk(epoch=200), training.chunk(seed=1))
    for part in (
        dynamics.compression(plane),
        dynamics.relaxation_time(plane)[["relaxation_time"]],
        dynamics.relaxation_law(dynamics.relaxation_time(plane)),
        dynamics.label_loss(plane),
        dynamics.change_point(training),
        dynamics.epochs_to(training),
        dynamics.crossing(training),
    ):
        for name in part.data_vars:
            xr.testing.assert_identical(found[name], part[name])
    np.testing.assert_allclose(found["change_point"], 100 + 20 * np.arange(6))
    second = found.sel(layer="layer2")
    np.testing.assert_allclose(second["crossing"], 50 + 10 * np.arange(6))
    np.testing.assert_allclose(second["onset_after_crossing"], 70 + 10 * np.arange(6))
    np.testing.assert_allclose(second["onset_after_change"], 20)
    np.testing.assert_allclose(second["halfway_after_change"], 200)
    np.testing.assert_allclose(second["halfway_log_ratio_crossing"], np.log10(second["halfway"] / second["crossing"]))
    assert found["onset_after_crossing"].sel(layer="layer1").isnull().all()
    assert found["onset_after_crossing"].attrs["long_name"] == (
        "onset of compression after crossing from drift to diffusion"
    )
    assert found.attrs["estimator"] == "binned"
    assert found.attrs["dynamics"]["share"] == 0.05
    for name, array in found.data_vars.items():
        assert {"long_name", "units", "definition"} <= array.attrs.keys(), name


def test_parameters_reach_what_they_are_of() -> None:
    plane, training = plane_and_training()
    found = dynamics.measure(
        plane, training, share=0.2, least=6, least_label=0.2, stretch=0.3, error="error", accuracy=0.7, stays=True
    )
    assert found["compresses"].sum() == 0
    assert found["loses_label"].sum() == 0
    xr.testing.assert_identical(found["end_I_TY"], dynamics.label_loss(plane, stretch=0.3)["end_I_TY"])
    changed = dynamics.change_point(training, "error", share=0.2, stretch=0.3)
    xr.testing.assert_identical(found["settled"], changed["settled"])
    xr.testing.assert_identical(found["epochs_to"], dynamics.epochs_to(training, 0.7, stays=True)["epochs_to"])
    expected = {"share": 0.2, "least": 6, "least_label": 0.2, "stretch": 0.3, "error": "error", "accuracy": 0.7}
    assert found.attrs["dynamics"] == {**expected, "stays": True}


def test_what_is_not_there_is_left_out() -> None:
    plane, training = plane_and_training()
    assert "crossing" not in dynamics.measure(plane)
    alone = dynamics.measure(plane[["I_TY"]], training[["accuracy"]])
    assert set(alone.data_vars) == {*dynamics.label_loss(plane).data_vars, "epochs_to", "reached"}
    with pytest.raises(ParameterError, match=r"needs a plane with I_XT or I_TY, .* but got H_T"):
        dynamics.measure(plane.rename(I_XT="H_T")[["H_T"]])
    fewer = dynamics.measure(plane.sel(layer=["layer2"]).isel(epoch=slice(None, None, 10)), training)
    assert numbers(fewer["layer"]) == ["layer2"]
    np.testing.assert_allclose(fewer["change_point"], 100 + 20 * np.arange(6))


def test_over_seeds_by_hand() -> None:
    plane, training = plane_and_training()
    measures = dynamics.measure(plane, training)
    found = dynamics.over_seeds(measures, level=0.9)
    assert numbers(found["statistic"]) == ["mean", "median", "low", "high", "seeds"]
    onset = found["onset"].sel(layer="layer2")
    assert onset.dims == ("statistic",)
    interval = seed_interval(measures["onset"].sel(layer="layer2"), 0.9)
    np.testing.assert_allclose(onset, [170, 170, *interval.values, 6])
    np.testing.assert_array_equal(found["onset"].sel(layer="layer1"), [np.nan] * 4 + [0])
    assert found["change_point"].dims == ("statistic",)
    assert found["onset"].attrs["interval"] == "0.9 BCa bootstrap over seeds"
    assert found["onset"].attrs["units"] == "epochs"


def test_seeds_that_do_not_count_are_as_if_they_were_not() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(3, 12, 2))
    values[0, :5, 0], values[1, 3:, 0], values[2, :5, 1], values[1, 0, 1] = np.nan, np.nan, np.nan, np.inf
    array = xr.DataArray(values, {"layer": list("abc")}, ("layer", "seed", "bins"))
    found = dynamics.over_seeds(xr.Dataset({"onset": array, "alone": ("seed", np.full(12, 2.0))}))
    assert found["onset"].dims == ("statistic", "layer", "bins")
    np.testing.assert_array_equal(found["alone"], [2, 2, 2, 2, 12])
    for layer, bins in np.ndindex(3, 2):
        kept = values[layer, :, bins][np.isfinite(values[layer, :, bins])]
        ends = seed_interval(xr.DataArray(kept, dims="seed")).values
        expected = [kept.mean(), np.median(kept), *ends, len(kept)]
        np.testing.assert_allclose(found["onset"].values[:, layer, bins], expected, rtol=1e-12)
    assert np.isnan(found["onset"].sel(statistic="low", layer="b").values[0])  # three seeds
    with pytest.raises(ParameterError, match="needs a variable over seed but got"):
        dynamics.over_seeds(found)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    """Networks of the paper."""
    store = tmp_path_factory.mktemp("dynamics") / "runs.zarr"
    config = TrainConfig(hidden=(10, 7, 5, 4, 3), epochs=300, learning_rate=0.2, batch_size=512)
    capture(tasks.load("rule", signed=True), store, "run", config, seeds=tuple(range(8)), level="codes", processes=0)
    return ipstore.open(store, run="run")


@pytest.mark.long
def test_networks_of_the_paper(run: xr.DataTree) -> None:
    found = run.ip.dynamics()
    assert dict(found.sizes) == {"seed": 8, "layer": 6}
    middle = found.median("seed")
    assert middle["crossing"].min() >= 3
    assert middle["crossing"].max() <= 20
    deep = middle.sel(layer=["layer4", "layer5", "output"])
    assert (deep["compressed"] > 1.5).all()
    assert (deep["halfway_log_ratio_crossing"] > 0.5).all()  # compression is long after the crossing
    assert found["compresses"].sel(layer="layer1").sum() == 0  # saturated
    assert (found["compresses"].sel(layer=["layer5", "output"]) == 1).all()
    assert 40 < middle["change_point"] < 200
    assert (found["reached"] == 1).all()
    assert (found["epochs_to"] < 120).all()
    assert (found["label_lost"] < 0.1).all()


@pytest.mark.long
def test_few_epochs_of_a_run_say_the_same(run: xr.DataTree) -> None:
    """Log-spaced epochs of it, as a capture might have kept."""
    kept: NDArray[np.int64] = np.unique(
        np.concatenate([np.arange(30), np.logspace(1.4, np.log10(300), 80).astype(int)])
    )
    plane, training = run.ip.information_plane(), run["training"].to_dataset()
    every = dynamics.measure(plane, training)
    some = dynamics.measure(plane.sel(epoch=kept), training.sel(epoch=kept))
    xr.testing.assert_identical(some["crossing"], every["crossing"])
    np.testing.assert_array_equal(some["compresses"], every["compresses"])
    ratio = some["halfway"] / every["halfway"]
    assert ratio.notnull().sum() > 25
    assert abs(ratio.sel(layer=["layer3", "layer4", "layer5", "output"]).median("seed") - 1).max() < 0.1
    assert abs(some["change_point"] / every["change_point"] - 1).median() < 0.1


@pytest.mark.long
def test_options_of_the_plane_and_of_the_measures(run: xr.DataTree) -> None:
    found = run.ip.dynamics("binned", bins=[10, 30], layers=["layer5", "output"], every=5, share=0.2)
    assert dict(found.sizes) == {"bins": 2, "seed": 8, "layer": 2}
    plane = run.ip.information_plane("binned", bins=10, layers=["layer5", "output"], every=5)
    expected = dynamics.measure(plane, run["training"].to_dataset(), share=0.2)
    xr.testing.assert_allclose(found.sel(bins=10, drop=True), expected)
    summed = dynamics.over_seeds(found)
    assert set(summed["onset"].dims) == {"statistic", "bins", "layer"}
    with pytest.raises(ParameterError, match="has no parameter 'shar'"):
        run.ip.dynamics(shar=0.1)
    without = run.drop_nodes("training")
    assert "crossing" not in without.ip.dynamics()


def test_full_batch_training_has_no_crossing(tmp_path: Path) -> None:
    config = TrainConfig(hidden=(5, 3), epochs=20, batch_size=None)
    made = capture(tasks.load("rule", signed=True), tmp_path / "s.zarr", "run", config, seeds=(0, 1), processes=0)
    found = made.ip.dynamics()
    assert found["crossing"].isnull().all()
    assert dynamics.over_seeds(found)["crossing"].sel(statistic="seeds").sum() == 0
