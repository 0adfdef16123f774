"""`gaussian` against the formula for two numbers, numerical optimisation over projections, and its limits."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from ipstore.analysis.ib.closed_forms import gaussian
from ipstore.errors import ParameterError

Array = NDArray[Any]


def covariances(x_units: int, y_units: int, seed: int) -> tuple[Array, Array, Array]:
    """Of Y that depends on X through a few of its directions, in units of any size."""
    rng = np.random.default_rng(seed)
    units = x_units + y_units
    factor = rng.normal(0, 1, (units, units + 1)) * 10.0 ** rng.integers(-3, 4, (units, 1))
    joint = factor @ factor.T
    return joint[:x_units, :x_units], joint[x_units:, x_units:], joint[:x_units, x_units:]


def informations(projection: Array, x: Array, y: Array, xy: Array) -> tuple[float, float]:
    """I(X;T) and I(T;Y) of T = projection X + N, from determinants; in bits."""
    x_given_y = x - xy @ np.linalg.solve(y, xy.T)
    of_t, of_t_given_y = (
        np.linalg.slogdet(projection @ each @ projection.T + np.eye(len(projection)))[1] for each in (x, x_given_y)
    )
    return of_t / np.log(4), (of_t - of_t_given_y) / np.log(4)


@pytest.mark.parametrize("rho", [0.2, -0.75, 0.999999])
def test_equals_the_formula_for_two_numbers(rho: float) -> None:
    onset = 1 / rho**2
    betas = np.array([1, onset * (1 - 1e-9), onset * (1 + 1e-9), 2 * onset, 1e6])
    found = gaussian(4.0, 9.0, 6 * rho, betas)
    above = betas > onset
    I_XT = np.log2((betas[above] - 1) * rho**2 / (1 - rho**2)) / 2
    I_TY = I_XT - np.log2(betas[above] * rho**2) / 2
    assert found.I_XT.values[above] == pytest.approx(I_XT, abs=1e-9)
    assert found.I_TY.values[above] == pytest.approx(I_TY, abs=1e-9)
    assert not found[["I_XT", "I_TY"]].sel(beta=betas[~above]).to_array().any()
    assert found.critical_beta.values == pytest.approx([onset], rel=1e-12)
    assert found.attrs["I_XY"] == pytest.approx(-np.log2(1 - rho**2) / 2, rel=1e-9)


def test_the_channel_of_correlation_three_quarters() -> None:
    assert gaussian(1, 1, 0.75, 2).attrs["I_XY"] == pytest.approx(0.596322539, abs=1e-9)


@pytest.mark.parametrize(("x_units", "y_units"), [(1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("beta", [1.3, 4.0, 50.0])
def test_no_projection_does_better(x_units: int, y_units: int, beta: float) -> None:
    x, y, xy = covariances(x_units, y_units, seed=x_units)
    unit = np.sqrt(np.diagonal(x))

    def lagrangian(flat: Array) -> float:
        I_XT, I_TY = informations(flat.reshape(x_units, x_units) / unit, x, y, xy)
        return I_XT - beta * I_TY

    starts = np.random.default_rng(0).normal(0, 3, (8, x_units**2))
    best = min(float(minimize(lagrangian, start, method="BFGS").fun) for start in starts)
    found = gaussian(x, y, xy, beta)
    assert float(found.I_XT - beta * found.I_TY) == pytest.approx(best, abs=1e-6)
    assert float(found.I_XT - beta * found.I_TY) <= best + 1e-12


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000), st.floats(1, 1e4))
def test_the_projection_has_these_informations(x_units: int, y_units: int, seed: int, beta: float) -> None:
    x, y, xy = covariances(x_units, y_units, seed)
    found = gaussian(x, y, xy, beta)
    I_XT, I_TY = informations(found.projection.values, x, y, xy)
    assert (float(found.I_XT), float(found.I_TY)) == pytest.approx((I_XT, I_TY), rel=1e-6, abs=1e-6)
    assert int(found.n_components) == np.count_nonzero(found.projection.values.any(axis=1))
    assert int(found.n_components) == np.count_nonzero(found.critical_beta < beta)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10_000))
def test_units_and_mixtures_of_units_change_nothing(x_units: int, y_units: int, seed: int) -> None:
    x, y, xy = covariances(x_units, y_units, seed)
    rng = np.random.default_rng(seed)
    of_x, of_y = (np.linalg.qr(rng.normal(0, 1, (n, n)))[0] for n in (x_units, y_units))
    of_x, of_y = of_x / np.sqrt(np.diagonal(x)), of_y / np.sqrt(np.diagonal(y))
    betas = [1, 1.5, 3, 30]
    before = gaussian(x, y, xy, betas)
    turned_x, turned_y = of_x @ x @ of_x.T, of_y @ y @ of_y.T
    after = gaussian((turned_x + turned_x.T) / 2, (turned_y + turned_y.T) / 2, of_x @ xy @ of_y.T, betas)
    for name in ("I_XT", "I_TY"):
        assert after[name].values == pytest.approx(before[name].values, abs=1e-6)


def test_beta_is_the_slope_of_the_curve() -> None:
    x, y, xy = covariances(3, 3, seed=1)
    for beta in (2.0, 10.0, 300.0):
        low, high = (gaussian(x, y, xy, beta * factor) for factor in (1 - 1e-5, 1 + 1e-5))
        assert float((high.I_XT - low.I_XT) / (high.I_TY - low.I_TY)) == pytest.approx(beta, rel=1e-4)


def test_a_free_price_buys_all_of_the_information() -> None:
    found = gaussian(*covariances(3, 2, seed=0), [1, 1e12])
    assert found.I_XT.values[0] == found.I_TY.values[0] == found.n_components.values[0] == 0
    assert found.I_TY.values[1] == pytest.approx(found.attrs["I_XY"], abs=1e-9)
    # Of three units of X, two tell something of two units of Y; for each, I(X;T) grows by half a bit as beta doubles.
    assert np.isinf(found.critical_beta.values).tolist() == [False, False, True]
    twice = gaussian(*covariances(3, 2, seed=0), 2e12)
    assert float(twice.I_XT) - found.I_XT.values[1] == pytest.approx(1, abs=1e-9)


def test_independent_variables() -> None:
    found = gaussian(np.eye(2), np.eye(2), np.zeros((2, 2)), [1, 1e9])
    assert not found[["I_XT", "I_TY", "n_components"]].to_array().any()
    assert np.isinf(found.critical_beta).all()
    assert found.attrs["I_XY"] == 0


def test_says_what_its_numbers_are() -> None:
    found = gaussian(1, 1, 0.5, [2, 8])
    assert found.I_XT.dims == found.I_TY.dims == ("beta",)
    assert found.projection.dims == ("beta", "component", "x_unit")
    assert {found[name].attrs["units"] for name in ("I_XT", "I_TY")} == {"bits"}
    assert found.attrs["certificate"] == "exact"
    assert gaussian(1, 1, 0.5, 8).I_XT.shape == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((1, 1, 0.5, 0.99), r"beta must be a finite number, 1 or more, but got 0.99"),
        ((1, 1, 0.5, [2, np.inf]), r"beta must be a finite number"),
        ((1, 1, 0.5, np.nan), r"but got nan"),
        ((1, 1, 0.5, []), r"a list of numbers but has shape \(0,\)"),
        ((np.eye(2), 1, 0.5, 2), r"are \(2, 2\), \(1, 1\) and \(1, 1\)"),
        ((np.eye(2), np.eye(3), np.zeros((3, 2)), 2), r"a row for each unit of X"),
        ((1, np.nan, 0.5, 2), r"1 entries of the joint one, \(2, 2\), are not"),
        ((1, -1, 0.5, 2), r"variances must be positive but one is -1"),
        (([[1, 0.5], [0.4, 1]], 1, [[0], [0]], 2), r"symmetric but entries across the diagonal differ by 0.1"),
        ((1, 1, 1, 2), r"I\(X;Y\) is infinite"),
        ((1, 1, 1.5, 2), r"least eigenvalue of its correlations is -0.5"),
        ((np.ones((2, 2)), 1, [[0.5], [0.5]], 2), r"follows from others"),
    ],
)
def test_bad_input(given: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        gaussian(*given)
