"""Relaxation: exponentials of known time constants, the planted law, and other implementations of slope and rank."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import linregress, spearmanr

from ipstore.analysis.dynamics import relaxation_law, relaxation_time
from ipstore.errors import ParameterError
from tests.analysis.dynamics.curves import over_layers

EPOCHS = np.arange(4001)
LOG_SPACED = np.unique(np.concatenate([[0], np.logspace(0, np.log10(4000), 600).astype(int)]))


def decay(epochs: NDArray[np.int64], start: float, bits: float, tau: float) -> NDArray[np.float64]:
    """Constant until `start`, then exponential."""
    return np.asarray(2 + bits * np.exp(-np.maximum(epochs - start, 0) / tau), np.float64)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.4])
@pytest.mark.parametrize("epochs", [EPOCHS, LOG_SPACED], ids=["every epoch", "log-spaced"])
@pytest.mark.parametrize("tau", [30.0, 300.0])
def test_an_exponential_has_its_time_constant(tau: float, epochs: NDArray[np.int64], share: float) -> None:
    found = relaxation_time(over_layers([[decay(epochs, 100, 5, tau)]], "I_XT", epochs), share=share)
    dense = epochs is EPOCHS
    assert found["relaxation_time"].item() == pytest.approx(tau, rel=2e-3 if dense else 1e-2)
    assert found["bits"].item() == pytest.approx(5, rel=1e-4)
    assert found["relaxation_time"].attrs["units"] == "epochs"


def test_what_does_not_compress_has_no_time() -> None:
    plane = over_layers([[EPOCHS / 1000, np.full(4001, 12.0), decay(EPOCHS, 9, 1, 50)]], "I_XT", EPOCHS)
    found = relaxation_time(plane).isel(seed=0)
    assert found["relaxation_time"].isnull().values.tolist() == [True, True, False]
    assert found["bits"].isnull().values.tolist() == [True, True, False]
    plane["I_XT"][10, 0, 2] = np.nan
    assert relaxation_time(plane)["relaxation_time"].isnull().all()


@pytest.mark.parametrize("rate", [np.log(2), 0.2, -0.4])
def test_the_planted_law(rate: float) -> None:
    """Times that grow with exp(rate x bits): with ln 2 per bit, as the paper argues."""
    seeds = []
    for seed in range(4):
        bits = np.array([1.0, 2.5, 4, 5.5]) + 0.1 * seed
        seeds.append(
            [decay(EPOCHS, 20, amount, 10 * np.exp(rate * (amount - 1 if rate > 0 else 0))) for amount in bits]
        )
        if rate < 0:
            seeds[-1] = [decay(EPOCHS, 20, amount, 200 * np.exp(rate * amount)) for amount in bits]
    law = relaxation_law(relaxation_time(over_layers(seeds, "I_XT", EPOCHS)))
    assert law["relaxation_slope"].dims == ("seed",)
    np.testing.assert_allclose(law["relaxation_slope"], rate, rtol=0.02)
    np.testing.assert_array_equal(law["relaxation_rank"], np.sign(rate))
    np.testing.assert_array_equal(law["relaxation_layers"], 4)
    assert law["relaxation_slope"].attrs["units"] == "1/bits"


def test_slope_and_rank_against_scipy() -> None:
    rng = np.random.default_rng(0)
    bits, times = rng.integers(1, 6, (3, 20, 7)) / 2, rng.integers(1, 30, (3, 20, 7)) * 10.0
    missing = rng.random(bits.shape) < 0.3
    times[missing] = np.nan
    dims = ("bins", "seed", "layer")
    law = relaxation_law(xr.Dataset({"bits": (dims, bits), "relaxation_time": (dims, times)}))
    assert law["relaxation_slope"].dims == ("bins", "seed")
    checked = 0
    for cell in np.ndindex(3, 20):
        keep = ~missing[cell]
        x, y = bits[cell][keep], np.log(times[cell][keep])
        found = {name: law[name].values[cell] for name in law.data_vars}
        assert found["relaxation_layers"] == keep.sum()
        if keep.sum() < 3 or np.ptp(x) == 0:
            assert np.isnan(found["relaxation_slope"])
            assert np.isnan(found["relaxation_rank"])
            continue
        assert found["relaxation_slope"] == pytest.approx(linregress(x, y).slope)
        if np.ptp(y) > 0:
            assert found["relaxation_rank"] == pytest.approx(spearmanr(x, y).statistic)
            checked += 1
    assert checked > 40


def test_too_few_layers_or_no_spread() -> None:
    times = xr.Dataset(
        {
            "bits": (("seed", "layer"), [[1.0, 2, np.nan], [2, 2, 2], [1, 2, 3]]),
            "relaxation_time": (("seed", "layer"), [[10.0, 20, 30], [10, 20, 30], [10, 10, 10]]),
        }
    )
    law = relaxation_law(times)
    np.testing.assert_array_equal(law["relaxation_slope"], [np.nan, np.nan, 0])
    np.testing.assert_array_equal(law["relaxation_rank"], [np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(law["relaxation_layers"], [2, 3, 3])
    with pytest.raises(ParameterError, match="the law needs bits over layer"):
        relaxation_law(times.drop_vars("bits"))
    with pytest.raises(ParameterError, match="the law needs bits over layer"):
        relaxation_law(times.isel(layer=0))
