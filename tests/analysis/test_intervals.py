"""Intervals over seeds: against scipy cell by cell, by their coverage, and where there is none."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import bootstrap

from ipstore.analysis.intervals import seed_interval
from ipstore.errors import ParameterError


def draws(cells: int, seeds: int) -> xr.DataArray:
    values = np.random.default_rng(0).exponential(size=(cells, seeds))
    return xr.DataArray(values, {"cell": np.arange(cells) * 2}, ("cell", "seed"), attrs={"units": "bits"})


def test_each_cell_is_the_bca_interval_of_scipy() -> None:
    values = draws(4, 12)
    found = seed_interval(values, 0.9, resamples=500, random_state=3)
    assert found.dims == ("cell", "bound")
    assert found["bound"].values.tolist() == ["low", "high"]
    assert found["cell"].values.tolist() == [0, 2, 4, 6]
    assert found.attrs == {"units": "bits", "interval": "0.9 BCa bootstrap over seeds"}
    for cell, row in enumerate(values.values):
        rng = np.random.default_rng(3)
        expected = bootstrap((row,), np.mean, confidence_level=0.9, n_resamples=500, rng=rng).confidence_interval
        np.testing.assert_allclose(found.isel(cell=cell), [expected.low, expected.high], rtol=1e-12)


def test_it_covers_the_mean_as_often_as_it_says() -> None:
    found = seed_interval(draws(1000, 40), resamples=500)
    covered = ((found.sel(bound="low") <= 1) & (found.sel(bound="high") >= 1)).mean().item()
    assert 0.90 < covered < 0.97  # of a skewed law, where every bootstrap falls a little short


def test_a_cell_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    values = draws(7, 5)
    whole = seed_interval(values)
    xr.testing.assert_identical(whole.isel(cell=[4]), seed_interval(values.isel(cell=[4])))
    monkeypatch.setattr("ipstore.analysis.intervals._RESAMPLED_VALUES", 1)
    xr.testing.assert_identical(whole, seed_interval(values))
    xr.testing.assert_identical(whole, seed_interval(values.transpose("seed", "cell")))


def test_where_there_is_no_interval() -> None:
    assert seed_interval(draws(3, 1)).isnull().all()
    assert seed_interval(draws(3, 4)).isnull().all()
    assert seed_interval(draws(3, 5)).notnull().all()
    endless = draws(2, 6)
    endless[0] = [1, 1, 1, 1, 1, np.inf]
    assert seed_interval(endless).isnull().all("bound").values.tolist() == [True, False]
    assert seed_interval(draws(3, 0)).isnull().all()
    values = draws(3, 6)
    values[1, 2] = np.nan
    assert seed_interval(values).isnull().all("bound").values.tolist() == [False, True, False]


def test_seeds_that_agree() -> None:
    values = xr.full_like(draws(2, 6), 1.5)
    values[1, 3] += 2e-16
    np.testing.assert_allclose(seed_interval(values), 1.5, rtol=1e-14)


def test_refusals() -> None:
    with pytest.raises(ParameterError, match=r"dimension seed but got \('cell',\)"):
        seed_interval(draws(3, 2).mean("seed"))
    with pytest.raises(ParameterError, match=r"level must lie in \(0, 1\) but got 95"):
        seed_interval(draws(3, 2), 95)
    with pytest.raises(ParameterError, match="resamples must be 1 or more but got 0"):
        seed_interval(draws(3, 2), resamples=0)
