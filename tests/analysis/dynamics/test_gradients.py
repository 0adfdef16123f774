"""The crossing from drift to diffusion: planted, with what may be mistaken for it before and after."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.dynamics import crossing, signal_to_noise
from ipstore.errors import ParameterError
from tests.analysis.dynamics.curves import DENSE, THINNED, numbers, over_layers, through


def training_of(*ratios: ArrayLike, epochs: NDArray[np.int64] = DENSE) -> xr.Dataset:
    """Gradients of one layer with these ratios, of which each is a seed; none at epoch 0."""
    deviation = np.linspace(2, 0.1, len(epochs))
    curves = [[np.asarray(ratio, float) * deviation] for ratio in ratios]
    training = over_layers(curves, "grad_mean_norm", epochs)
    training["grad_std_norm"] = xr.ones_like(training["grad_mean_norm"]) * deviation[:, None, None]
    return training.where(training["epoch"] > 0)


def log_through(epochs: NDArray[np.int64], *corners: tuple[float, float]) -> NDArray[np.float64]:
    """Straight lines through corners (epoch, ratio), log-log."""
    places = [(np.log1p(epoch), np.log(ratio)) for epoch, ratio in corners]
    return np.exp(through(np.log1p(epochs), *places))


LATE_RISE = ((0, 2), (8, 5), (50, 0.2), (300, 0.2), (1000, 30))
"""Below 1 from epoch 23.2 on, where log(1 + epoch) is halfway from 9 to 51 for log 5 to fall to that of 1/5."""


@pytest.mark.parametrize("epochs", [DENSE, THINNED], ids=["every epoch", "log-spaced"])
def test_a_late_rise_above_the_early_maximum(epochs: NDArray[np.int64]) -> None:
    found = crossing(training_of(log_through(epochs, *LATE_RISE), epochs=epochs)).squeeze()
    exact = np.sqrt(9 * 51) - 1
    assert 20 < exact < 21
    assert found["crossing"].item() == epochs[epochs > exact].min()
    assert found["early_maximum_epoch"].item() == 8
    assert found["early_maximum"].item() == pytest.approx(5)
    assert {str(name): array.attrs["units"] for name, array in found.items()} == {
        "crossing": "epochs",
        "early_maximum": "1",
        "early_maximum_epoch": "epochs",
    }


def test_noise_about_one_before_the_maximum_and_late_noise() -> None:
    rng = np.random.default_rng(0)
    start = np.array([np.nan, 1.1, 0.8, 0.9, 1.3, 0.7, 1.2])
    crossings = []
    for _ in range(100):
        curve = log_through(DENSE, (0, 1), (6, 1), (30, 5), (120, 0.15), (300, 0.2), (1000, 12))
        curve *= np.exp(0.25 * rng.normal(size=len(DENSE)))
        curve[: len(start)] = start
        crossings.append(crossing(training_of(curve))["crossing"].item())
    exact = np.exp(np.interp(0, [-np.log(5), -np.log(0.15)], [np.log(31), np.log(121)])) - 1
    assert 0.7 * exact < np.min(crossings)
    assert np.max(crossings) < 1.2 * exact


def test_where_there_is_no_crossing() -> None:
    never = through(DENSE, (0, 5), (1000, 1.5))
    always = through(DENSE, (0, 0.5), (100, 0.9), (1000, 0.1))
    rising = through(DENSE, (0, 0.1), (1000, 50))
    found = crossing(training_of(never, always, rising)).squeeze()
    assert found["crossing"].isnull().all()
    assert found["early_maximum"].values[0] > 1 > found["early_maximum"].values[1]


def test_full_batch_and_gradients_that_vanish() -> None:
    training = training_of(np.ones(1001), np.ones(1001))
    training["grad_std_norm"][1:] = 0
    training["grad_mean_norm"][1:, 1] = 0
    ratio = signal_to_noise(training).squeeze()
    assert np.isinf(ratio.values[1:, 0]).all()
    assert ratio.isnull().values[:, 1].all()
    found = crossing(training).squeeze()
    assert found["crossing"].isnull().all()
    assert numbers(found["early_maximum"])[0] == np.inf
    assert np.isnan(found["early_maximum"].values[1])


def test_a_seed_that_diverged_keeps_what_it_did_before() -> None:
    whole = training_of(log_through(DENSE, *LATE_RISE), log_through(DENSE, *LATE_RISE))
    broken = whole.copy(deep=True)
    broken["grad_mean_norm"][200:, 1] = np.nan
    xr.testing.assert_equal(crossing(whole), crossing(broken))
    broken["grad_mean_norm"][1:, 1] = np.nan
    assert crossing(broken)["crossing"].isnull().values.ravel().tolist() == [False, True]


def slow(ratio: list[float], epochs: list[int]) -> tuple[float, float, float]:
    """The largest fall of all pairs of epochs, and the first ratio below 1 after it begins."""
    falls = [(ratio[i] / ratio[j], -j, i) for i in range(len(ratio)) for j in range(i, len(ratio))]
    most = max(fall for fall, _, _ in falls)
    start = min(i for fall, _, i in falls if fall == most)
    below = [epochs[k] for k in range(start + 1, len(ratio)) if ratio[k] < 1]
    found = below[0] if below and ratio[start] > 1 else float("nan")
    return found, ratio[start], epochs[start]


@settings(deadline=None)
@given(st.lists(st.integers(-40, 40), min_size=3, max_size=25, unique=True))
def test_against_all_pairs(logarithms: list[int]) -> None:
    epochs = np.arange(len(logarithms)) ** 2 + 1
    ratio = [float(1.25**number) for number in logarithms]
    gaps = {a - b for i, a in enumerate(logarithms) for b in logarithms[i + 1 :]}
    found = crossing(training_of(ratio, epochs=epochs)).squeeze()
    if max(gaps) > 0 and sum(a - b == max(gaps) for i, a in enumerate(logarithms) for b in logarithms[i + 1 :]) == 1:
        expected = slow(ratio, epochs.tolist())
        names = ("crossing", "early_maximum", "early_maximum_epoch")
        np.testing.assert_allclose([found[name].item() for name in names], expected, rtol=1e-12)


def test_refusals() -> None:
    training = training_of(np.ones(1001))
    with pytest.raises(ParameterError, match="needs the variable 'grad_std_norm' but got 'grad_mean_norm'"):
        crossing(training[["grad_mean_norm"]])
    with pytest.raises(ParameterError, match="must have the dimensions epoch, seed, layer but lacks layer"):
        crossing(training.isel(layer=0))
