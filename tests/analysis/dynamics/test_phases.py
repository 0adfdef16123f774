"""Phases of I(X;T): against curves with known corners, a slow loop, and noise in which there is nothing to find."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ipstore.analysis.dynamics import compression
from ipstore.analysis.dynamics.curve_kernels import noise_scale, passing
from ipstore.errors import ParameterError
from tests.analysis.dynamics.curves import DENSE, THINNED, numbers, over_layers, through

CORNERS = ((0, 6), (10, 8), (100, 8), (500, 3), (1000, 3))
"""It rises to 8 bits until epoch 10, and falls by 5 bits from epoch 100 to 500."""


def plane_of(*curves: NDArray[np.float64], epochs: NDArray[np.int64] = DENSE) -> xr.Dataset:
    """A plane of one layer, of which each curve is a seed."""
    return over_layers([[curve] for curve in curves], "I_XT", epochs)


@pytest.mark.parametrize("epochs", [DENSE, THINNED], ids=["every epoch", "log-spaced"])
def test_corners_by_hand(epochs: NDArray[np.int64]) -> None:
    found = compression(plane_of(through(epochs, *CORNERS), epochs=epochs)).squeeze()
    expected = {
        "peak_epoch": 10,
        "peak_I_XT": 8,
        "end_I_XT": 3,
        "compressed": 5,
        "noise": 0,
        "compresses": 1,
        "onset": 120,  # 5% of 5 bits, at 1 bit in 80 epochs
        "halfway": 300,
        "compression_end": 480,
        "share_after_peak": 0.99,
        "share_compressing": 0.36,
        "regained": 0,
    }
    assert set(found.data_vars) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, abs=1e-12), name
    wider = compression(plane_of(through(epochs, *CORNERS), epochs=epochs), share=0.4)
    assert wider["onset"].item() == epochs[epochs <= 260].max()
    assert wider["compression_end"].item() == epochs[epochs >= 340].min()


def test_every_number_says_what_it_is() -> None:
    found = compression(plane_of(through(DENSE, *CORNERS)), least=0.2)
    assert found.attrs == {"share": 0.05, "least": 0.2, "stretch": 0.1}
    for array in found.data_vars.values():
        assert array.dims == ("seed", "layer")
        assert array.attrs.keys() == {"long_name", "units", "definition"}
    assert {str(name): array.attrs["units"] for name, array in found.items()} == {
        "peak_epoch": "epochs",
        **dict.fromkeys(("peak_I_XT", "end_I_XT", "compressed", "noise", "regained"), "bits"),
        **dict.fromkeys(("onset", "halfway", "compression_end"), "epochs"),
        **dict.fromkeys(("compresses", "share_after_peak", "share_compressing"), "1"),
    }


def test_a_first_fall_that_is_regained() -> None:
    deep = through(DENSE, (0, 8), (10, 8), (20, 6), (100, 7.9), (500, 3), (1000, 3))
    shallow = through(DENSE, (0, 8), (10, 8), (20, 6), (100, 7.5), (500, 3), (1000, 3))
    found = compression(plane_of(deep, shallow)).squeeze()
    np.testing.assert_allclose(found["regained"], [1.9, 1.5], atol=1e-12)
    assert numbers(found["onset"]) == [112, 11]  # within a quarter of a bit of the peak: after the first fall, or in it
    assert numbers(found["halfway"]) == [295, 277]


def test_what_does_not_compress() -> None:
    rising, flat = through(DENSE, (0, 2), (1000, 9)), np.full(1001, 12.0)
    little = through(DENSE, (0, 12), (500, 11.95), (1000, 11.95))
    found = compression(plane_of(rising, flat, little)).squeeze()
    assert numbers(found["compresses"]) == [0, 0, 0]
    for name in ("onset", "halfway", "compression_end"):
        assert found[name].isnull().all()
    for name in ("share_after_peak", "share_compressing"):
        assert numbers(found[name]) == [0, 0, 0]
    assert numbers(found["peak_epoch"]) == [1000, 0, 0]
    np.testing.assert_allclose(found["compressed"], [0, 0, 0.05], atol=1e-12)
    assert compression(plane_of(flat, little), least=0)["compresses"].values.ravel().tolist() == [0, 1]


@pytest.mark.parametrize("sigma", [0.01, 0.3])
@pytest.mark.parametrize("epochs", [DENSE, THINNED], ids=["every epoch", "log-spaced"])
def test_noise_is_no_compression(sigma: float, epochs: NDArray[np.int64]) -> None:
    rng = np.random.default_rng(0)
    flat = 5 + sigma * rng.normal(size=(2000, len(epochs)))
    found = compression(plane_of(*flat, epochs=epochs), least=0).squeeze()
    assert found["compresses"].sum() == 0
    assert (
        found["compressed"].where(found["compressed"] > 0).mean() > 2.5 * sigma
    )  # though the drop from a maximum always looks like one
    assert found["noise"].mean().item() == pytest.approx(sigma, rel=0.02)
    falling = through(epochs, (0, 5), (100, 5), (500, 5 - 10 * sigma), (1000, 5 - 10 * sigma))
    found = compression(plane_of(*(flat[:200] - 5 + falling), epochs=epochs), least=0).squeeze()
    assert found["compresses"].sum() == 200
    assert (found["onset"] < found["halfway"]).all()
    assert (found["halfway"] < found["compression_end"]).all()
    assert abs(found["halfway"].median() - 300) < 40  # the last of the noisy values at that height


def test_a_trend_is_no_noise() -> None:
    rng = np.random.default_rng(1)
    trend = 100 * np.exp(-THINNED / 300)
    noise = noise_scale(np.stack([trend, trend + rng.normal(0, 0.2, len(THINNED))]), THINNED.astype(float))
    assert noise[0] < 0.02
    assert noise[1] == pytest.approx(0.2, rel=0.15)


def slow(curve: list[float], epochs: list[int], share: float, least: float, stretch: float) -> dict[str, float]:
    """The definitions, one curve at a time, word for word."""
    n, nan = len(curve), float("nan")
    first, last = epochs[0], epochs[-1]
    end = float(np.median([v for v, e in zip(curve, epochs, strict=True) if e >= last - stretch * (last - first)]))
    peak = max(curve)
    at = curve.index(peak)
    residuals = []
    for i in range(1, n - 1):
        a = (epochs[i + 1] - epochs[i]) / (epochs[i + 1] - epochs[i - 1])
        line = a * curve[i - 1] + (1 - a) * curve[i + 1]
        residuals.append(abs(line - curve[i]) / (1 + a**2 + (1 - a) ** 2) ** 0.5)
    noise = float(np.median(residuals)) / 0.67449
    drop = 0.0 if epochs[at] >= last - stretch * (last - first) else peak - end
    regained = max([curve[j] - curve[i] for i in range(at, n) for j in range(i, n)], default=0.0)
    whole = {"peak_epoch": epochs[at], "peak_I_XT": peak, "end_I_XT": end, "compressed": drop, "noise": noise}
    whole["regained"] = regained
    if drop < least or drop < 6 * noise:
        none = {"compresses": 0.0, "share_after_peak": 0.0, "share_compressing": 0.0}
        return {**whole, **none, "onset": nan, "halfway": nan, "compression_end": nan}
    tolerance = max(share * drop, 3 * noise)
    onset = max(e for v, e in zip(curve, epochs, strict=True) if v >= peak - tolerance)
    halfway = max(e for v, e in zip(curve, epochs, strict=True) if v >= peak - drop / 2)
    settled = [i for i in range(n) if all(abs(v - end) <= tolerance for v in curve[i:])]
    stop = epochs[settled[0]] if settled else last
    whole |= {"compresses": 1.0, "onset": onset, "halfway": halfway, "compression_end": stop}
    whole |= {"share_after_peak": (last - epochs[at]) / (last - first)}
    return {**whole, "share_compressing": (stop - onset) / (last - first)}


def test_against_a_slow_loop() -> None:
    rng = np.random.default_rng(2)
    epochs = np.unique(np.round(np.logspace(0, 2.5, 70)).astype(int)) - 1
    walks = rng.normal(0, 0.05, (60, len(epochs))).cumsum(axis=1)
    falls = rng.uniform(-2, 6, (60, 1)) / (1 + np.exp((epochs - rng.uniform(5, 300, (60, 1))) / rng.uniform(1, 60)))
    curves = walks + falls + rng.normal(0, 0.1, walks.shape) * rng.integers(0, 2, (60, 1))
    found = compression(plane_of(*curves, epochs=epochs), share=0.1, least=0.3, stretch=0.2).squeeze()
    assert 5 < found["compresses"].sum() < 55
    for row, curve in enumerate(curves):
        for name, value in slow(curve.tolist(), epochs.tolist(), 0.1, 0.3, 0.2).items():
            np.testing.assert_allclose(found[name].values[row], value, rtol=1e-5, atol=1e-9, err_msg=name)


SHAPES = st.lists(st.integers(0, 4096), min_size=5, max_size=40)
"""Values in 1/256 bit, so that shifts and powers of two are exact."""


@settings(deadline=None)
@given(SHAPES, st.integers(-2000, 2000), st.sampled_from([0.25, 2, 8]))
def test_what_a_shift_and_a_scale_do(shape: list[int], shift: int, factor: float) -> None:
    epochs = np.arange(len(shape)) ** 2
    values = np.array(shape) / 256
    plain = compression(plane_of(values, epochs=epochs), least=0)
    shifted = compression(plane_of(values + shift / 256, epochs=epochs), least=0)
    for name, array in plain.data_vars.items():
        moved = array + shift / 256 if name in ("peak_I_XT", "end_I_XT") else array
        np.testing.assert_allclose(shifted[name], moved, atol=1e-9, err_msg=str(name))
    later = compression(plane_of(values, epochs=epochs * 7), least=0)
    louder = compression(plane_of(values * factor, epochs=epochs), least=0)
    for name, array in plain.data_vars.items():
        units = array.attrs["units"]
        np.testing.assert_allclose(later[name], array * (7 if units == "epochs" else 1), err_msg=str(name))
        np.testing.assert_allclose(louder[name], array * (factor if units == "bits" else 1), err_msg=str(name))


def test_passing_is_between_the_epochs() -> None:
    epochs = np.array([0.0, 10, 30, 40])
    curves = np.array([[4.0, 3, 1, 0], [4, 1, 3, 0], [4, 3, 2, 2], [0, 0, 0, 0]])
    passed = passing(curves, epochs, np.array([2.0, 2, 2, 2]))
    np.testing.assert_allclose(passed, [20, 30 + 10 / 3, np.nan, np.nan])


def test_a_seed_that_diverged() -> None:
    plane = plane_of(through(DENSE, *CORNERS), through(DENSE, *CORNERS))
    plane["I_XT"][900:, 1, 0] = np.nan
    found = compression(plane)
    for array in found.data_vars.values():
        assert array.isnull().values.ravel().tolist() == [False, True]


def test_a_lazy_plane_with_a_grid() -> None:
    plane = plane_of(through(DENSE, *CORNERS), through(DENSE, (0, 5), (1000, 1)))
    grid = xr.concat([plane, plane * 2], dim=xr.Variable("bins", [10, 30]))
    found = compression(grid.transpose("layer", "bins", "epoch", "seed").chunk(epoch=100))
    assert set(found["onset"].dims) == {"bins", "seed", "layer"}
    xr.testing.assert_allclose(found.sel(bins=10, drop=True).transpose("seed", "layer"), compression(plane))
    np.testing.assert_allclose(found["compressed"].sel(bins=30), 2 * found["compressed"].sel(bins=10))


def test_refusals() -> None:
    plane = plane_of(through(DENSE, *CORNERS))
    with pytest.raises(ParameterError, match=r"share must lie in \(0, 0.5\) but got 0.5"):
        compression(plane, share=0.5)
    with pytest.raises(ParameterError, match="least must be a number of bits, 0 or more, but got -1"):
        compression(plane, least=-1)
    with pytest.raises(ParameterError, match=r"stretch must lie in \(0, 1\) but got 1"):
        compression(plane, stretch=1)
    with pytest.raises(ParameterError, match="needs the variable 'I_XT' but got 'I_TY'"):
        compression(plane.rename(I_XT="I_TY"))
    with pytest.raises(ParameterError, match="lacks seed"):
        compression(plane.isel(seed=0))
    with pytest.raises(ParameterError, match=r"at 3 epochs or more, .* but has 2"):
        compression(plane.isel(epoch=[0, 1]))
    with pytest.raises(ParameterError, match="ascending order; sort it"):
        compression(plane.isel(epoch=slice(None, None, -1)))
