"""The summary of a plane, against numbers worked out by hand."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import ArrayLike

from ipstore.analysis.intervals import seed_interval
from ipstore.analysis.summaries import summary
from ipstore.errors import ParameterError

EPOCHS = [0, 1, 10, 100]


def make_plane(I_XT: ArrayLike, I_TY: ArrayLike | None = None) -> xr.Dataset:
    """A plane of two layers; both arrays are (epoch, seed, layer)."""
    x = np.array(I_XT, float)
    y = x / 10 if I_TY is None else np.asarray(I_TY, float)
    dims = ("epoch", "seed", "layer")
    coords = {"epoch": EPOCHS[: len(x)], "seed": [3, 5, 8, 9, 11][: x.shape[1]], "layer": ["layer1", "output"]}
    return xr.Dataset({"I_XT": (dims, x), "I_TY": (dims, y)}, coords)


# The mean over seeds is 3, 5, 5, 2 in layer1 and 1, 2, 3, 4 in output.
X = np.array(
    [
        [[2, 1], [3, 1], [4, 1]],
        [[9, 2], [5, 2], [1, 2]],
        [[4, 3], [5, 3], [6, 3]],
        [[1, 3], [2, 4], [3, 5]],
    ],
    float,
)


def test_numbers_by_hand() -> None:
    found = summary(make_plane(X, X / 5))
    assert found["layer"].values.tolist() == ["layer1", "output"]
    assert found["peak_I_XT"].values.tolist() == [5, 4]
    assert found["peak_epoch"].values.tolist() == [1, 100]  # the first of two equal peaks; the end itself
    assert found["end_I_XT"].values.tolist() == [2, 4]
    assert found["drop"].values.tolist() == [3, 0]
    assert found["end_I_XT_sd"].values.tolist() == [1, 1]
    np.testing.assert_allclose(found["end_I_TY"], [0.4, 0.8], rtol=1e-15)
    np.testing.assert_allclose(found["end_I_TY_sd"], [0.2, 0.2], rtol=1e-15)
    assert found["end_I_XT_low"].isnull().all()  # of three seeds
    assert found.attrs["seeds"] == 3
    units = {name: array.attrs["units"] for name, array in found.data_vars.items()}
    assert units.pop("peak_epoch") == "1"
    assert set(units.values()) == {"bits"}


def test_the_peak_is_that_of_the_mean_and_not_the_mean_of_peaks() -> None:
    values = np.zeros((2, 2, 2))
    values[0, 0], values[1, 1] = 4, 6
    assert summary(make_plane(values))["peak_I_XT"].values.tolist() == [3, 3]


@pytest.mark.parametrize("quantity", ["I_XT", "I_TY"])
def test_a_seed_with_a_nan_is_left_out_everywhere(quantity: str) -> None:
    plane = make_plane(X)
    plane[quantity][2, 1, 1] = np.nan
    found = summary(plane)
    assert found.attrs["seeds"] == 2
    xr.testing.assert_identical(found, summary(make_plane(X[:, [0, 2]])))


def test_without_a_whole_seed_every_number_is_nan() -> None:
    values = X.copy()
    values[0, :, 0] = np.nan
    found = summary(make_plane(values))
    assert found.attrs["seeds"] == 0
    assert all(array.isnull().all() for array in found.data_vars.values())


def test_a_single_seed_has_no_spread() -> None:
    found = summary(make_plane(X[:, :1]))
    assert found["end_I_XT"].values.tolist() == [1, 3]
    for name in ("sd", "low", "high"):
        assert found[f"end_I_XT_{name}"].isnull().all()


def test_five_seeds_have_an_interval() -> None:
    values = np.concatenate([X, X[:, :2] + 0.5], axis=1)
    found = summary(make_plane(values)).sel(layer="layer1")
    expected = seed_interval(xr.DataArray(values[-1, :, 0], dims="seed"))
    assert [found["end_I_XT_low"], found["end_I_XT_high"]] == expected.values.tolist()
    assert values[-1, :, 0].min() <= found["end_I_XT_low"] < found["end_I_XT"] < found["end_I_XT_high"]


def test_a_plane_of_one_quantity() -> None:
    found, whole = summary(make_plane(X).drop_vars("I_XT")), summary(make_plane(X))
    assert set(found) == {"end_I_TY", "end_I_TY_sd", "end_I_TY_low", "end_I_TY_high"}
    xr.testing.assert_identical(found, whole[list(found)])


def test_a_grid_of_parameters() -> None:
    planes = [make_plane(X), make_plane(X / 2)]
    planes[1]["I_XT"][0, 0, 0] = np.nan  # a seed that is left out at one point is left out at all
    found = summary(xr.concat(planes, dim=xr.Variable("bins", [30, 10])))
    assert found["end_I_XT"].dims == ("bins", "layer")
    assert found.attrs["seeds"] == 2
    xr.testing.assert_allclose(found.sel(bins=30, drop=True), summary(make_plane(X[:, 1:])))


STANDING = (
    *("residual", "IB_distance_I_XT", "IB_distance_I_TY", "deterministic_distance_H_T", "deterministic_distance_I_TY"),
    *("beta", "beta_capped", "at_bound"),
)


def make_standing() -> xr.Dataset:
    """What `self_consistency` gives, of which the summary tells the end: every quantity as if it were I(X;T)."""
    plane = make_plane(X)
    for name in STANDING:
        plane[name] = plane["I_XT"] * 2
    plane["at_bound"] = (plane["I_XT"] > 1).astype(float)
    return plane.assign(curve_I_XT=("point", [0.0, 1.0]), deterministic_H_T=("vertex", [0.0, 1.0, 2.0]))


def test_how_layers_end_up_against_the_bound() -> None:
    plane = make_standing()
    plane["beta"][-1, :, 1] = [1.5, 1e6, 2.5]  # one that is cut off, from which a mean would tell nothing
    found = summary(plane)
    assert found["end_beta"].values.tolist() == [4, 2.5]
    for name in STANDING[:5]:
        assert found[f"end_{name}"].values.tolist() == [4, 8]
    two = summary(plane.isel(seed=[0, 1]))
    assert two["end_beta"].values.tolist() == [2, 1.5]  # the lower one, not what lies between it and the cap
    assert found["end_at_bound"].values.tolist() == [pytest.approx(2 / 3), 1]  # the share of seeds
    xr.testing.assert_identical(found.drop_vars([f"end_{name}" for name in STANDING]), summary(make_plane(X)))
    units = {name: found[f"end_{name}"].attrs["units"] for name in STANDING}
    numbers = ("beta", "beta_capped", "at_bound")
    assert units == {name: "1" if name in numbers else "bits" for name in STANDING}


def test_a_seed_with_a_nan_is_left_out_of_where_layers_end_up() -> None:
    plane = make_standing()
    for name in ("I_XT", "I_TY", *STANDING):
        plane[name][1, 1, 0] = np.nan  # an epoch before the end, of another layer
    kept = summary(make_standing().isel(seed=[0, 2]))
    xr.testing.assert_identical(summary(plane), kept)
    lost = make_standing().where(False)
    assert all(array.isnull().all() for array in summary(lost).data_vars.values())


def test_without_a_curve_there_is_no_distance_to_tell() -> None:
    plane = make_standing()
    nothing = [*STANDING[1:5], "at_bound"]
    plane[nothing] = plane[nothing].where(False)
    found = summary(plane)
    assert found.attrs["seeds"] == 3  # all of which have an answer to the rest
    assert found["end_residual"].notnull().all()
    assert found[[f"end_{name}" for name in nothing]].to_dataarray().isnull().all()


def test_lazy_and_transposed_planes_give_the_same() -> None:
    plane = make_plane(X)
    xr.testing.assert_identical(summary(plane.chunk(epoch=2).transpose("layer", "seed", "epoch")), summary(plane))


@pytest.mark.parametrize(
    "plane",
    [make_plane(X).drop_vars(["I_XT", "I_TY"]), make_plane(X).mean("seed"), make_plane(X).isel(epoch=slice(0, 0))],
)
def test_what_is_no_plane_is_refused(plane: xr.Dataset) -> None:
    with pytest.raises(ParameterError, match="I_XT or I_TY over epoch, seed and layer"):
        summary(plane)
