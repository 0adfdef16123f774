"""The change point of the error: planted bends, other solvers, and curves that have none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import curve_fit, minimize_scalar

from ipstore.analysis.dynamics import change_point
from ipstore.analysis.dynamics.bend_kernels import bend, spacing
from ipstore.errors import ParameterError, UnknownNameError
from tests.analysis.dynamics.curves import DENSE, THINNED, numbers, over_splits, through

CORNERS = ((0, 0.7), (150, 0.1), (1000, 0.02))


def misfit(place: float, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Weighted squared distance of the best line that bends at a place, by numpy's least squares."""
    root = np.sqrt(spacing(x))
    columns = np.stack([np.ones_like(x), x, np.maximum(x - place, 0)], axis=1) * root[:, None]
    best, *_ = np.linalg.lstsq(columns, y * root, rcond=None)
    return float(np.sum((columns @ best - y * root) ** 2))


@pytest.mark.parametrize("epochs", [DENSE, THINNED], ids=["every epoch", "log-spaced"])
def test_a_planted_bend(epochs: NDArray[np.int64]) -> None:
    planted = through(epochs, *CORNERS)
    found = change_point(over_splits([planted], "loss", epochs)).squeeze()
    assert found["change_point"].item() == pytest.approx(150, abs=1.5 if epochs is THINNED else 1e-9)
    assert found["change_value"].item() == pytest.approx(0.1, abs=0.002)
    assert found["change_explained"].item() == pytest.approx(1, abs=1e-3)
    end = np.median(planted[epochs >= 900])
    assert found["settled"].item() == epochs[planted <= end + 0.05 * (0.7 - end)].min()
    assert found.attrs == {"measure": "loss", "split": "train", "share": 0.05, "stretch": 0.1}
    for array in found.data_vars.values():
        assert array.attrs.keys() == {"long_name", "units", "definition"}


def test_settled_by_hand() -> None:
    falling = through(DENSE, (0, 0.7), (600, 0.1), (1000, 0.1))
    found = change_point(over_splits([falling], "loss", DENSE)).squeeze()
    assert found["settled"].item() == 570  # 5% of a fall of 0.6, at a thousandth an epoch
    assert found["change_point"].item() == pytest.approx(600)
    assert change_point(over_splits([falling], "loss", DENSE), share=0.2)["settled"].item() == 480


def test_the_error_is_what_is_not_accurate_and_each_split_its_own() -> None:
    early, late = through(DENSE, (0, 0.5), (100, 0), (1000, 0)), through(DENSE, (0, 0.5), (300, 0.1), (1000, 0.1))
    training = over_splits([1 - early], "accuracy", DENSE, test=[1 - late])
    assert change_point(training, "error")["change_point"].item() == pytest.approx(100)
    found = change_point(training, "error", split="test")
    assert found["change_point"].item() == pytest.approx(300)
    assert found["change_value"].item() == pytest.approx(0.1)


@pytest.mark.parametrize("tau", [20.0, 100.0])
def test_thinning_does_not_move_it(tau: float) -> None:
    dense, thinned = (0.6 * np.exp(-epochs / tau) for epochs in (DENSE, THINNED))
    every = change_point(over_splits([dense], "loss", DENSE))["change_point"].item()
    some = change_point(over_splits([thinned], "loss", THINNED))["change_point"].item()
    assert some == pytest.approx(every, rel=0.02)
    assert tau < every < 4 * tau


def test_weights_are_those_of_trapezoids() -> None:
    x = THINNED.astype(float)
    assert spacing(x) @ np.sin(x) == pytest.approx(np.trapezoid(np.sin(x), x))
    assert spacing(x).sum() == pytest.approx(1000)


def test_against_a_global_search() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        x = np.unique(rng.integers(0, 400, 60)).astype(float)
        y = 2 * np.exp(-x / rng.uniform(10, 150)) + rng.normal(0, 0.05, len(x))
        found = bend(x, y)
        places = np.linspace(x[1], x[-2], 500)
        nearest = places[np.argmin([misfit(place, x, y) for place in places])]
        around = (max(nearest - 1, x[1]), min(nearest + 1, x[-2]))
        searched = minimize_scalar(misfit, args=(x, y), bounds=around, options={"xatol": 1e-9})
        assert misfit(found.place, x, y) <= searched.fun * (1 + 1e-9)
        assert found.place == pytest.approx(searched.x, rel=1e-3)
        straight = np.polyfit(x, y, 1, w=np.sqrt(spacing(x)))
        alone = np.sum(spacing(x) * (np.polyval(straight, x) - y) ** 2)
        assert found.explained == pytest.approx(1 - searched.fun / alone, rel=1e-6)


def test_against_a_fit_of_scipy() -> None:
    def bent(x: NDArray[np.float64], place: float, value: float, before: float, after: float) -> NDArray[np.float64]:
        return value + np.where(x < place, before, after) * (x - place)

    x = DENSE.astype(float)
    y = through(x, *CORNERS) + np.random.default_rng(1).normal(0, 0.02, len(x))
    deviations = 1 / np.sqrt(spacing(x))
    fitted, _ = curve_fit(bent, x, y, [200, 0.1, -0.004, 0], sigma=deviations)
    found = bend(x, y)
    assert found.place == pytest.approx(fitted[0], rel=1e-4)
    assert found.value == pytest.approx(fitted[1], rel=1e-3)
    assert abs(found.place - 150) < 3


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), min_size=4, max_size=25), st.integers(1, 50))
def test_no_bend_at_a_point_is_better(values: list[int], stretch: int) -> None:
    x = np.cumsum(1 + (np.arange(len(values)) * 7 % 5)).astype(float)
    y = np.array(values, float)
    found = bend(x, y)
    if np.isnan(found.place):
        return
    assert x[0] < found.place < x[-1]
    reached = misfit(found.place, x, y)
    slack = 1e-9 * (1 + np.sum(y**2))
    for place in x[1:-1]:
        root = np.sqrt(spacing(x))
        columns = np.stack([np.ones_like(x), x, np.maximum(x - place, 0)], axis=1) * root[:, None]
        (_, before, more), *_ = np.linalg.lstsq(columns, y * root, rcond=None)
        if before < -1e-9 and more > 1e-9:
            assert reached <= misfit(place, x, y) + slack
    wider = bend(x * stretch, y * 3 + 1)
    assert misfit(wider.place / stretch, x, y) == pytest.approx(reached, abs=slack)


def test_where_there_is_none() -> None:
    rising = through(DENSE, (0, 0.1), (1000, 0.7))
    flat = np.full(1001, 0.3)
    faster = through(DENSE, (0, 0.7), (800, 0.6), (1000, 0))
    broken = through(DENSE, *CORNERS)
    broken[700:] = np.nan
    found = change_point(over_splits([rising, flat, faster, broken], "loss", DENSE))
    assert found["change_point"].isnull().all()
    assert found["settled"].notnull().values.tolist() == [False, False, True, False]


def test_noise_without_a_fall() -> None:
    noise = 0.3 + np.random.default_rng(3).normal(0, 0.05, (50, 1001))
    found = change_point(over_splits(list(noise), "loss", DENSE))
    assert found["change_point"].notnull().sum() <= 2  # the first value lies three deviations up once in 700


def test_jumps_of_single_epochs_do_not_move_it() -> None:
    planted = through(DENSE, *CORNERS)
    jumping = planted.copy()
    jumping[[400, 401, 600, 750]] += 20
    found = [change_point(over_splits([curve], "loss", DENSE))["change_point"].item() for curve in (planted, jumping)]
    assert found[1] == pytest.approx(found[0], abs=0.1)
    assert abs(bend(DENSE.astype(float), jumping).place - 150) > 20


def test_refusals() -> None:
    training = over_splits([through(DENSE, *CORNERS)], "loss", DENSE)
    with pytest.raises(UnknownNameError, match=r"no measure of the error 'los'. Did you mean 'loss'"):
        change_point(training, "los")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(UnknownNameError, match="no split 'validation'"):
        change_point(training, split="validation")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ParameterError, match="needs the variable 'accuracy' but got 'loss'"):
        change_point(training, "error")
    with pytest.raises(ParameterError, match="loss is given of test but not of split 'train'"):
        change_point(training.sel(split=["test"]))
    with pytest.raises(ParameterError, match="at 4 epochs or more"):
        change_point(training.isel(epoch=slice(3)))
    assert numbers(change_point(training.isel(epoch=slice(4)))["change_point"]) == [pytest.approx(np.nan, nan_ok=True)]
