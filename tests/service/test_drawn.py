"""What pages draw of a plane and of lines is what xarray says of the same."""

import numpy as np
import pytest
import xarray as xr

from ipstore.analysis.service.drawn import Lines, Trajectories, on_scale
from ipstore.errors import ParameterError

EPOCHS = np.array([0, 1, 5, 20, 100])
LAYERS = ["layer1", "layer2", "output"]


@pytest.fixture
def plane() -> xr.Dataset:
    rng = np.random.default_rng(0)
    shape = (len(EPOCHS), 4, len(LAYERS))
    quantities = {
        name: (("epoch", "seed", "layer"), top * rng.random(shape)) for name, top in (("I_XT", 12), ("I_TY", 1))
    }
    attrs = {"estimator": "binned", "parameters": {}, "labels": "hard", "source_run": "run", "I_XY": 1.0, "H_X": 12.0}
    return xr.Dataset(quantities, {"epoch": EPOCHS, "seed": [3, 0, 7, 9], "layer": LAYERS}, attrs)


def test_a_path_is_the_mean_over_seeds(plane: xr.Dataset) -> None:
    drawn = Trajectories.of(plane)
    mean = plane.mean("seed")
    columns = drawn.paths(["output", "layer1"])
    assert columns["layer"] == columns["color"] == ["layer1", "output"], "in the order of the network"
    for name, x, y in zip(columns["layer"], columns["xs"], columns["ys"], strict=True):
        np.testing.assert_allclose(x, mean["I_XT"].sel(layer=name))
        np.testing.assert_allclose(y, mean["I_TY"].sel(layer=name))
    steps = drawn.steps_of(["layer2"])
    assert steps["epoch"].tolist() == EPOCHS.tolist()
    np.testing.assert_allclose(steps["I_XT"], mean["I_XT"].sel(layer="layer2"))


@pytest.mark.parametrize(("asked", "shown"), [(0, 0), (3, 1), (5, 5), (99, 20), (100, 100), (10**6, 100), (-1, 0)])
def test_a_snapshot_is_of_the_last_epoch_until_then(plane: xr.Dataset, asked: int, shown: int) -> None:
    columns = Trajectories.of(plane).snapshot(asked, LAYERS[1:])
    assert set(columns["epoch"]) == {shown}
    assert len(set(map(len, columns.values()))) == 1
    for x, y, layer, seed in zip(*(columns[name] for name in ("I_XT", "I_TY", "layer", "seed")), strict=True):
        own = plane.sel(epoch=shown, seed=seed, layer=layer)
        assert (x, y) == (own["I_XT"], own["I_TY"])
    assert set(columns["layer"]) == set(LAYERS[1:])


def test_one_seed_is_marked_or_none(plane: xr.Dataset) -> None:
    drawn = Trajectories.of(plane)
    own = plane.sel(epoch=20, seed=7)
    np.testing.assert_array_equal(drawn.seed_at(7, 20, LAYERS)["I_XT"], own["I_XT"])
    assert drawn.seed_at(None, 20, LAYERS)["I_XT"].size == drawn.seed_at(8, 20, LAYERS)["I_XT"].size == 0


def test_names_stand_at_the_median_of_their_seeds(plane: xr.Dataset) -> None:
    plane["I_XT"][2, 1, 0] = np.nan
    names = Trajectories.of(plane).names_at(5, LAYERS)
    np.testing.assert_allclose(names["I_XT"], plane["I_XT"].sel(epoch=5).median("seed"))
    plane["I_XT"][:, :, 2], plane["I_TY"][:, :, 2] = plane["I_XT"][:, :, 0], plane["I_TY"][:, :, 0]
    assert Trajectories.of(plane).names_at(5, LAYERS)["layer"] == ["layer1, output", "layer2"]


def test_seeds_that_diverged_are_left_out_of_the_path_and_named(plane: xr.Dataset) -> None:
    plane["I_XT"][3:, 2] = np.nan
    plane["I_TY"][3:, 2] = np.nan
    drawn = Trajectories.of(plane)
    np.testing.assert_allclose(drawn.path[0], plane["I_XT"].sel(seed=[3, 0, 9]).mean("seed"))
    assert "7" in drawn.notes[0]
    assert np.isnan(drawn.snapshot(100, ["layer1"])["I_XT"]).tolist() == [False, False, True, False]


def test_epochs_that_are_still_to_come_are_not_drawn(plane: xr.Dataset) -> None:
    longer = plane.reindex(epoch=[*EPOCHS, 200, 300]).assign_attrs(plane.attrs)
    assert Trajectories.of(longer).epochs.tolist() == EPOCHS.tolist()


def test_one_class_alone_has_no_information_and_is_drawn(plane: xr.Dataset) -> None:
    drawn = Trajectories.of(plane.assign(I_TY=0 * plane["I_TY"]).assign_attrs(I_XY=0.0))
    assert drawn.box[1] == (-0.05, 1.0)
    assert drawn.names_at(0, LAYERS)["I_TY"].tolist() == [0, 0, 0]


def test_what_is_no_plane_is_refused(plane: xr.Dataset) -> None:
    with pytest.raises(ParameterError, match="I_TY"):
        Trajectories.of(plane.drop_vars("I_TY"))


def test_lines_hold_the_mean_and_the_middle_of_the_seeds(plane: xr.Dataset) -> None:
    lines = Lines.of(plane["I_XT"], "layer")
    np.testing.assert_allclose(lines.mean, plane["I_XT"].mean("seed"))
    np.testing.assert_allclose(lines.low, plane["I_XT"].quantile(0.1, "seed"))
    np.testing.assert_allclose(lines.high, plane["I_XT"].quantile(0.9, "seed"))
    np.testing.assert_allclose(lines.place, np.log10(1 + EPOCHS))
    one = lines.of_seed(9, ["output"])
    np.testing.assert_array_equal(one["ys"][0], plane["I_XT"].sel(seed=9, layer="output"))
    assert np.isnan(lines.of_seed(None, LAYERS)["ys"][0]).all()


@pytest.mark.parametrize("logarithmic", [True, False])
def test_names_of_lines_that_end_together_come_together(plane: xr.Dataset, logarithmic: bool) -> None:
    array = 0 * plane["I_XT"] + xr.DataArray([1.0, 1.001, 100.0], {"layer": LAYERS}, "layer")
    array[0] = 0.001
    names = Lines.of(array, "layer").names(LAYERS, logarithmic)
    assert names["series"] == ["layer1, layer2", "output"]
    np.testing.assert_allclose(names["value"], [1.0, 100.0])
    array[:, :, 1] = 5.0  # near on one scale alone
    apart = Lines.of(array, "layer").names(LAYERS, logarithmic)["series"]
    assert apart == ([*LAYERS] if logarithmic else ["layer1, layer2", "output"])
    assert Lines.of(array, "layer").names(["output"], logarithmic)["series"] == ["output"]


def test_crossings_stand_where_they_are(plane: xr.Dataset) -> None:
    lines = Lines.of(plane["I_XT"], "layer")
    drawn = lines.crossings({"layer1": 20.0, "output": np.nan}, LAYERS)
    assert drawn["series"] == ["layer1"]
    np.testing.assert_allclose(drawn["xs"][0], on_scale([20, 20]))
    assert np.isnan(lines.crossings({}, LAYERS)["xs"][0]).all()


def test_bands_go_out_on_one_side_and_back_on_the_other(plane: xr.Dataset) -> None:
    lines = Lines.of(plane["I_XT"], "layer")
    band = lines.bands(["layer2"])
    np.testing.assert_allclose(band["xs"][0], [*lines.place, *lines.place[::-1]])
    np.testing.assert_allclose(band["ys"][0], [*lines.low[:, 1], *lines.high[::-1, 1]])


def test_lines_with_gaps(plane: xr.Dataset) -> None:
    array = plane["I_XT"].copy()
    array[1] = np.nan
    array[3, 2] = np.nan
    lines = Lines.of(array, "layer")
    kept = array.drop_sel(epoch=1)
    np.testing.assert_allclose(lines.place, on_scale(kept["epoch"]))
    np.testing.assert_allclose(lines.mean, kept.mean("seed"))
    np.testing.assert_allclose(lines.low, kept.quantile(0.1, "seed"))


def test_long_runs_are_thinned_with_both_ends() -> None:
    epochs = np.arange(5001)
    array = xr.DataArray(
        np.zeros((5001, 1, 1)), {"epoch": epochs, "seed": [0], "split": ["train"]}, ("epoch", "seed", "split")
    )
    lines = Lines.of(array, "split")
    assert len(lines.place) <= 400
    assert lines.place[[0, -1]].tolist() == on_scale([0, 5000]).tolist()
