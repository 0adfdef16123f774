"""Epochs to an accuracy, what is lost of the label, and the time between two events."""

import numpy as np
import pytest
import xarray as xr

from ipstore.analysis.dynamics import epochs_to, label_loss, lag
from ipstore.errors import ParameterError, UnknownNameError
from tests.analysis.dynamics.curves import DENSE, THINNED, numbers, over_layers, over_splits, through

SPLIT = over_splits(
    [[0.5, 0.6, 0.95, 0.9, 0.91], [0.5, 0.5, 0.6, 0.6, 0.7]],
    "accuracy",
    [0, 1, 10, 30, 100],
    test=[[0.5, 0.9, 0.85, 0.9, 0.95], [0.5, 0.5, np.nan, 0.89, np.nan]],
)


def test_by_hand() -> None:
    first = epochs_to(SPLIT)
    np.testing.assert_array_equal(first["epochs_to"], [1, np.nan])
    assert numbers(first["reached"]) == [1, 0]
    assert first["epochs_to"].attrs["definition"] == "the first epoch at which the test accuracy is 0.9 or more"
    kept = epochs_to(SPLIT, stays=True)
    np.testing.assert_array_equal(kept["epochs_to"], [30, np.nan])
    assert kept["epochs_to"].attrs["definition"] == "the first epoch from which no test accuracy is less than 0.9"
    np.testing.assert_array_equal(epochs_to(SPLIT, split="train")["epochs_to"], [10, np.nan])
    np.testing.assert_array_equal(epochs_to(SPLIT, 0.5)["epochs_to"], [0, 0])
    np.testing.assert_array_equal(epochs_to(SPLIT, 0.5, stays=True)["epochs_to"], [0, np.nan])


def test_an_accuracy_of_exactly_that_in_single_precision_counts() -> None:
    single = SPLIT.astype(np.float32)
    assert float(single["accuracy"].values[1, 0, 1]) < 0.9
    xr.testing.assert_equal(epochs_to(single), epochs_to(SPLIT))


@pytest.mark.parametrize("accuracy", [0, 1.2, float("nan")])
def test_no_accuracy(accuracy: float) -> None:
    with pytest.raises(ParameterError, match=r"accuracy must lie in \(0, 1\], as a share of samples, but got"):
        epochs_to(SPLIT, accuracy)


def test_no_split() -> None:
    with pytest.raises(UnknownNameError, match=r"no split 'tset'. Did you mean 'test'"):
        epochs_to(SPLIT, split="tset")  # type: ignore[arg-type]  # on purpose


def test_label_lost_by_hand() -> None:
    overfit = through(DENSE, (0, 0), (200, 0.9), (600, 0.75), (1000, 0.75))
    kept = through(DENSE, (0, 0), (200, 0.9), (600, 0.89), (1000, 0.89))
    found = label_loss(over_layers([[overfit, kept]], "I_TY", DENSE)).isel(seed=0)
    assert numbers(found["label_peak_epoch"]) == [200, 200]
    np.testing.assert_allclose(found["peak_I_TY"], [0.9, 0.9])
    np.testing.assert_allclose(found["end_I_TY"], [0.75, 0.89])
    np.testing.assert_allclose(found["label_lost"], [0.15, 0.01])
    np.testing.assert_allclose(found["label_noise"], 0, atol=1e-12)
    assert numbers(found["loses_label"]) == [1, 0]
    assert numbers(label_loss(over_layers([[overfit, kept]], "I_TY", DENSE), least=0.2)["loses_label"]) == [[0, 0]]


def test_noise_of_the_label_is_no_loss() -> None:
    rng = np.random.default_rng(0)
    curves = 0.9 * (1 - np.exp(-THINNED / 50)) + rng.normal(0, 0.01, (300, 1, len(THINNED)))
    found = label_loss(over_layers(curves, "I_TY", THINNED))
    assert (found["label_lost"] > 0.01).mean() > 0.9
    assert found["loses_label"].sum() == 0


def test_lag_by_hand() -> None:
    coords = {"seed": [1, 2, 3], "layer": ["a", "b"]}
    later = xr.DataArray([[100.0, np.nan], [50, 0], [7, 8]], coords, ("seed", "layer"), attrs={"long_name": "onset"})
    earlier = xr.DataArray([10.0, 500, 7], {"seed": [1, 2, 4]}, ("seed",), name="crossing")
    found = lag(later, earlier)
    assert numbers(found["seed"]) == [1, 2]
    np.testing.assert_array_equal(found["after"], [[90, np.nan], [-450, -500]])
    np.testing.assert_allclose(found["log_ratio"], [[1, np.nan], [-1, np.nan]], rtol=1e-15)
    assert found["after"].attrs["long_name"] == "onset after crossing"
    assert found["after"].attrs["definition"] == "onset minus crossing"
