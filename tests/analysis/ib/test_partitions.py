"""Hard partitions against all partitions there are, plain dynamic programming, closed forms and known numbers."""

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import rel_entr, xlogy
from scipy.stats import entropy

from ipstore.analysis.ib import joint, reduce, states
from ipstore.analysis.ib.partition_kernels import best_intervals, improve, k_best_intervals
from ipstore.analysis.ib.partitions import best_quantiser, deterministic_bounds, deterministic_curve
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError
from ipstore.trainers.tasks import load

Array = NDArray[Any]

RULE_BEST_I_TY = {2: 0.98484116, 3: 0.98835672, 4: 0.98995561}  # of the rule with I(X;Y) = 0.99 bits


@cache
def all_partitions(states: int) -> Array:
    """Every partition of a set, (partition, state)."""
    grown = [[0]]
    for _ in range(states - 1):
        grown = [[*some, t] for some in grown for t in range(max(some) + 2)]
    return np.array(grown)


def measure(mass: Array, partitions: Array) -> tuple[Array, Array]:
    """H(T) and I(T;Y) in bits of partitions (partition, state) of p(x, y)."""
    p_ty = np.einsum("pst,sy->pty", np.eye(partitions.max() + 1)[partitions], mass)
    p_t = p_ty.sum(axis=2)
    I_TY = rel_entr(p_ty, p_t[:, :, None] * mass.sum(axis=0)).sum(axis=(1, 2)) / np.log(2)
    return -xlogy(p_t, p_t).sum(axis=1) / np.log(2), I_TY


def mass_of(given: Probe) -> Array:
    reduced = reduce(given)
    return reduced.weights[:, None] * reduced.p_y_given_x


def draw(seed: int, states: int, classes: int) -> Probe:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(classes, rng.choice([0.3, 1, 5])), states)
    if seed % 3 == 0:
        rows[0], rows[1] = np.eye(classes)[0], np.eye(classes)[-1]
    return joint(rng.dirichlet(np.full(states, rng.choice([0.3, 5]))), rows)


@st.composite
def joints(draw: st.DrawFn, most: int = 12) -> Probe:
    """Binary joints with exact 0 and 1, inputs of equal p(y|x), inputs without weight, and uneven weights."""
    samples = draw(st.integers(2, most))
    eighths = draw(st.lists(st.integers(0, 8), min_size=samples, max_size=samples).filter(lambda q: len(set(q)) > 1))
    weights = draw(st.lists(st.sampled_from([0, 1, 2, 10, 1000]), min_size=samples, max_size=samples))
    q, p = np.array(eighths) / 8, np.array(weights, np.float64)
    p[[np.argmin(q), np.argmax(q)]] += 1
    return joint(p / p.sum(), np.stack([1 - q, q], axis=1))


def curve_of(given: Probe) -> Array:
    return deterministic_curve(given, tol=0)[["H_T", "I_TY"]].to_dataarray().values


# Against all partitions -------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(10))
def test_no_partition_into_k_clusters_is_better(classes: int, seed: int) -> None:
    given = draw(seed, 7, classes)
    mass = mass_of(given)
    partitions = all_partitions(len(mass))
    I_TY = measure(mass, partitions)[1]
    for k in range(1, len(mass) + 1):
        found = best_quantiser(given, k)
        assert found["I_TY"].item() == pytest.approx(I_TY[partitions.max(axis=1) + 1 == k].max(), abs=1e-14)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(10))
def test_the_envelope_is_that_of_all_partitions(classes: int, seed: int) -> None:
    given = draw(seed, 7, classes)
    mass = mass_of(given)
    partitions = all_partitions(len(mass))
    H_T, I_TY = measure(mass, partitions)
    curve = deterministic_curve(given, tol=0)
    assert (deterministic_bounds(curve, H_T=H_T)["I_TY_upper"].values >= I_TY - 1e-14).all()
    assert (deterministic_bounds(curve, I_TY=I_TY)["H_T_lower"].values <= H_T + 1e-12).all()
    for vertex in range(curve.sizes["vertex"]):
        at = curve.isel(vertex=vertex)
        reached = np.isclose(H_T, at["H_T"].item(), atol=1e-14) & np.isclose(I_TY, at["I_TY"].item(), atol=1e-14)
        assert at["n_clusters"].item() in partitions[reached].max(axis=1) + 1
        for slope in (at["slope_left"].item(), at["slope_right"].item()):
            assert (at["I_TY"] - slope * at["H_T"]).item() == pytest.approx((I_TY - slope * H_T).max(), abs=1e-14)


@given(joints(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_no_assignment_of_inputs_lies_above_the_envelope(given: Probe, random: Any) -> None:
    cluster = np.array([random.randrange(4) for _ in given.weights])
    H_T, I_TY = measure(given.weights[:, None] * given.p_y_given_x, cluster[None])
    for tol in (0, 1e-2):
        curve = deterministic_curve(given, tol=tol)
        assert deterministic_bounds(curve, H_T=H_T)["I_TY_upper"].item() >= I_TY.item() - 1e-14


# Against plain dynamic programming --------------------------------------------


def plainly(mass: Array, price: float, k: int) -> tuple[float, list[float]]:
    """Best value of I(T;Y) - price H(T) less H(Y) in nats over intervals, and best I(T;Y) less H(Y) with 1 to k."""
    sums = np.vstack([np.zeros(mass.shape[1]), np.cumsum(mass, axis=0)])
    between = np.maximum(sums[None] - sums[:, None], 0)
    whole = between.sum(axis=2)
    worth = xlogy(between, between).sum(axis=2) - xlogy(whole, whole)
    best = [0.0]
    for j in range(1, len(sums)):
        best.append(max(best[i] + worth[i, j] + price * xlogy(whole[i, j], whole[i, j]) for i in range(j)))
    layer = np.r_[0.0, np.full(len(mass), -np.inf)]
    ends = []
    for _ in range(k):
        layer = np.r_[-np.inf, [(layer[:j] + worth[:j, j]).max() for j in range(1, len(sums))]]
        ends.append(float(layer[-1]))
    return best[-1], ends


@pytest.mark.parametrize("seed", range(6))
def test_intervals_are_those_of_plain_dynamic_programming(seed: int) -> None:
    mass = mass_of(draw(seed, 150, 2))
    H_Y = entropy(mass.sum(axis=0))
    prices = np.array([0.0, 1e-6, 1e-4, 1e-2, 0.1, 0.3, 0.7, 1.0])
    for price, cluster in zip(prices, best_intervals(mass, prices), strict=True):
        H_T, I_TY = measure(mass, cluster[None])
        value = (I_TY - price * H_T).item() * np.log(2) - H_Y
        assert value == pytest.approx(plainly(mass, price, 1)[0], abs=1e-13)
    for k, expected in enumerate(plainly(mass, 0, len(mass))[1], start=1):
        cluster = k_best_intervals(mass, k)
        assert len(np.unique(cluster)) == k
        assert measure(mass, cluster[None])[1].item() * np.log(2) - H_Y == pytest.approx(expected, abs=1e-13)


# Known numbers and closed forms -----------------------------------------------


@pytest.fixture(scope="module")
def rule() -> Probe:
    task = load("rule", information=0.99)
    return joint(task.p_x, task.p_y_given_x)


@pytest.mark.parametrize("k", RULE_BEST_I_TY)
def test_the_best_quantisers_of_the_rule(rule: Probe, k: int) -> None:
    found = best_quantiser(rule, k)
    assert found["I_TY"].item() == pytest.approx(RULE_BEST_I_TY[k], abs=5e-9)
    assert found.attrs["certificate"] == "exact"
    assert (found["I_TY"] <= deterministic_bounds(deterministic_curve(rule), H_T=found["H_T"])["I_TY_upper"]).all()


def test_the_curve_of_the_rule(rule: Probe) -> None:
    curve = deterministic_curve(rule, tol=0)
    mass = mass_of(rule)
    assert curve["n_clusters"].values[[0, 1, -1]].tolist() == [1, 2, 53]
    assert curve["I_TY"].values[1] == pytest.approx(RULE_BEST_I_TY[2], abs=5e-9)
    assert curve["H_T"].values[-1] == pytest.approx(entropy(mass.sum(axis=1), base=2), abs=1e-12)
    assert curve["I_TY"].values[-1] == pytest.approx(curve.attrs["I_XY"], abs=1e-12)
    assert curve["slope_left"].values[0] == 1
    assert curve["slope_right"].values[-1] == 0


@pytest.mark.parametrize("flip", [0.0, 0.1])
def test_a_symmetric_channel(flip: float) -> None:
    given = joint(None, [[1 - flip, flip], [1 - flip, flip], [flip, 1 - flip], [flip, 1 - flip]])
    I_XY = 1 - entropy([flip, 1 - flip], base=2)
    found = best_quantiser(given, 2)
    assert found["I_TY"].item() == pytest.approx(I_XY, abs=1e-15)
    assert found["cluster"].values.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(found["p_y_given_t"], [[1 - flip, flip], [flip, 1 - flip]], atol=1e-15)
    np.testing.assert_allclose(curve_of(given), [[0, 1], [0, I_XY]], atol=1e-14)


def test_an_erasure_channel() -> None:
    erased = 0.25
    given = joint([(1 - erased) / 2, erased, (1 - erased) / 2], [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    one_end = 1 - (1 + erased) / 2 * entropy([1, erased], base=2)
    assert best_quantiser(given, 2)["I_TY"].item() == pytest.approx(one_end, abs=1e-15)
    assert best_quantiser(given, 3)["I_TY"].item() == pytest.approx(1 - erased, abs=1e-15)
    ends = [entropy(part, base=2) for part in ([1], [1 - erased, 1 + erased], [0.375, 0.25, 0.375])]
    np.testing.assert_allclose(curve_of(given), [ends, [0, one_end, 1 - erased]], atol=1e-14)


# What must always hold --------------------------------------------------------


@given(joints())
@settings(deadline=None, max_examples=60)
def test_more_clusters_keep_more_up_to_all(given: Probe) -> None:
    count = len(reduce(given).weights)
    kept = [best_quantiser(given, k)["I_TY"].item() for k in range(1, count + 1)]
    assert kept[0] == pytest.approx(0, abs=1e-15)
    assert all(more >= less - 1e-15 for less, more in pairwise(kept))
    assert kept[-1] == pytest.approx(given.I_XY, abs=1e-13)


@given(joints())
@settings(deadline=None, max_examples=60)
def test_what_is_returned_of_a_quantiser_agrees(given: Probe) -> None:
    found = best_quantiser(given, 2)
    cluster, number = found["cluster"].values, states(given)
    assert ((cluster == -1) == (given.weights == 0)).all()
    assert len({(s, c) for s, c in zip(number, cluster, strict=True) if c >= 0}) == number.max() + 1
    used = cluster >= 0
    p_t = np.bincount(cluster[used], given.weights[used])
    np.testing.assert_allclose(found["p_t"], p_t, atol=1e-15)
    ones = np.bincount(cluster[used], given.weights[used] * given.p_y_given_x[used, 1])
    np.testing.assert_allclose(found["p_y_given_t"][:, 1], ones / p_t, atol=1e-13)
    assert found["p_y_given_t"].values[0, 1] < found["p_y_given_t"].values[1, 1]
    H_T, I_TY = measure(given.weights[used, None] * given.p_y_given_x[used], cluster[None, used])
    assert found["H_T"].item() == pytest.approx(H_T.item(), abs=1e-14)
    assert found["I_TY"].item() == pytest.approx(I_TY.item(), abs=1e-14)


@given(joints())
@settings(deadline=None, max_examples=60)
def test_the_curve_rises_and_bends_down_from_nothing_to_all(given: Probe) -> None:
    H_T, I_TY = curve_of(given)
    assert (H_T[0], I_TY[0]) == (0, 0)
    assert H_T[-1] == pytest.approx(reduce(given).H_X, abs=1e-13)
    assert I_TY[-1] == pytest.approx(given.I_XY, abs=1e-13)
    slopes = np.diff(I_TY) / np.diff(H_T)
    assert (slopes > 0).all()
    assert (slopes <= 1 + 1e-12).all()
    assert (np.diff(slopes) < 1e-9).all()


@given(joints(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_order_and_number_of_inputs_and_of_classes_change_nothing(given: Probe, random: Any) -> None:
    order = random.sample(range(len(given.weights)), len(given.weights))
    twice = [*order, order[0]]
    weights = given.weights[twice]
    weights[[0, -1]] *= (0.25, 0.75)
    split = joint(weights, given.p_y_given_x[twice])
    turned = joint(given.weights, given.p_y_given_x[:, ::-1])
    with_a_class_that_never_occurs = joint(given.weights, np.insert(given.p_y_given_x, random.randrange(3), 0, axis=1))
    for other in (split, turned, with_a_class_that_never_occurs):
        found = best_quantiser(other, 2)
        assert found["I_TY"].item() == pytest.approx(best_quantiser(given, 2)["I_TY"].item(), abs=1e-14)
        assert found.attrs["certificate"] == "exact"
        np.testing.assert_allclose(curve_of(other), curve_of(given), atol=1e-12)


def test_samples_of_one_input_stay_together() -> None:
    rows = np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.2, 0.8]])
    found = best_quantiser(Probe.of(rows, x_id=[0, 0, 1, 2]), 3)
    assert found["cluster"].values.tolist() == [0, 0, 2, 1]
    np.testing.assert_allclose(found["p_y_given_t"][:, 1], [0.3, 0.8, 0.9])


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_within_its_tolerance_the_curve_encloses_the_envelope(tol: float) -> None:
    given = draw(1, 300, 2)
    curve, fine = deterministic_curve(given, tol=tol), deterministic_curve(given, tol=0)
    assert 2 < curve.sizes["vertex"] < fine.sizes["vertex"]
    H_T = np.linspace(0, fine["H_T"].values[-1], 2000)
    bounds, exact = deterministic_bounds(curve, H_T=H_T), deterministic_bounds(fine, H_T=H_T)
    np.testing.assert_allclose(exact["I_TY_lower"], exact["I_TY_upper"], atol=1e-11)
    assert (bounds["I_TY_lower"] <= exact["I_TY_lower"] + 1e-13).all()
    assert (bounds["I_TY_upper"] >= exact["I_TY_upper"] - 1e-13).all()
    assert (bounds["I_TY_upper"] - bounds["I_TY_lower"]).max() <= tol
    assert curve.attrs["tolerance"] == tol


# More than two classes --------------------------------------------------------


def test_three_classes_that_are_two_in_truth() -> None:
    binary = draw(4, 100, 2)
    rows = binary.p_y_given_x @ np.array([[0.3, 0.7, 0], [0, 0, 1]])
    three = joint(binary.weights, rows)
    for k in (2, 3, 10):
        assert best_quantiser(three, k)["I_TY"].item() == pytest.approx(best_quantiser(binary, k)["I_TY"].item())
    curve = deterministic_curve(three, tol=1e-3)
    assert curve.attrs["certificate"] == "heuristic"
    exact = deterministic_bounds(deterministic_curve(binary), H_T=curve["H_T"])["I_TY_upper"]
    np.testing.assert_allclose(curve["I_TY"], exact, atol=1e-6)


def test_labels_that_are_the_state() -> None:
    given = joint([0.4, 0.3, 0.2, 0.1], np.eye(4))
    pairs = entropy([0.5, 0.5], base=2)
    assert best_quantiser(given, 2)["I_TY"].item() == pytest.approx(pairs, abs=1e-15)
    H_T, I_TY = curve_of(given)
    np.testing.assert_allclose(H_T, I_TY, atol=1e-14)
    assert I_TY[-1] == pytest.approx(given.H_Y, abs=1e-14)


def test_a_search_is_repeated_by_its_random_state() -> None:
    given = draw(2, 40, 3)
    xr.testing.assert_identical(best_quantiser(given, 5), best_quantiser(given, 5, random_state=0))
    first, second = (deterministic_curve(given, tol=1e-3, random_state=7) for _ in range(2))
    xr.testing.assert_identical(first, second)
    slopes = np.diff(first["I_TY"]) / np.diff(first["H_T"])
    assert (np.diff(slopes) < 0).all()
    np.testing.assert_allclose(first["slope_right"][:-1], slopes)
    np.testing.assert_allclose(first["slope_left"][1:], slopes)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("price", [0.0, 0.05, 0.3])
def test_moves_end_where_no_single_move_gains(seed: int, price: float) -> None:
    mass = mass_of(draw(seed, 12, 3))
    cluster = np.random.default_rng(seed).permutation(np.arange(len(mass)) % 4)
    start = cluster.copy()
    improve(mass, cluster, price, 2, 6)
    used = np.unique(cluster)
    assert 2 <= len(used) <= 6
    assert used.tolist() == list(range(len(used)))

    def value(of: Array) -> float:
        H_T, I_TY = measure(mass, of[None])
        return float((I_TY - price * H_T).item())

    assert value(cluster) >= value(start)
    for x in range(len(mass)):
        for t in range(min(len(used) + 1, 6)):
            moved = cluster.copy()
            moved[x] = t
            if len(np.unique(moved)) >= 2:
                assert value(moved) <= value(cluster) + 1e-12


# Reading the envelope ---------------------------------------------------------


@pytest.fixture(scope="module")
def erasure() -> xr.Dataset:
    return deterministic_curve(joint([0.375, 0.25, 0.375], [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))


def test_a_vertex_is_read_as_itself(erasure: xr.Dataset) -> None:
    across = deterministic_bounds(erasure, I_TY=erasure["I_TY"])
    up = deterministic_bounds(erasure, H_T=erasure["H_T"])
    for end in ("lower", "upper"):
        np.testing.assert_allclose(across[f"H_T_{end}"], erasure["H_T"], atol=1e-14)
        np.testing.assert_allclose(up[f"I_TY_{end}"], erasure["I_TY"], atol=1e-14)
    assert up["I_TY_upper"].attrs == {"long_name": "upper bound of I(T;Y)", "units": "bits"}
    assert up.attrs == {"certificate": "exact"}


def test_there_and_back(erasure: xr.Dataset) -> None:
    I_TY = xr.DataArray(np.linspace(0, 0.75, 50).reshape(5, 10), dims=("epoch", "layer"))
    H_T = deterministic_bounds(erasure, I_TY=I_TY)["H_T_lower"]
    xr.testing.assert_allclose(deterministic_bounds(erasure, H_T=H_T)["I_TY_upper"], I_TY, atol=1e-14)


def test_beyond_the_ends(erasure: xr.Dataset) -> None:
    most = erasure["H_T"].values[-1]
    up = deterministic_bounds(erasure, H_T=[-1e-16, most, most + 1e-15, 99, np.nan])
    np.testing.assert_allclose(up["I_TY_upper"], [0, 0.75, 0.75, 0.75, np.nan], atol=1e-14)
    across = deterministic_bounds(erasure, I_TY=[-1e-16, 0.75, 0.75 + 1e-15, 0.8, np.nan])
    np.testing.assert_allclose(across["H_T_lower"], [0, most, most, most, np.nan], atol=1e-14)
    np.testing.assert_allclose(across["H_T_upper"], [0, most, most, most, np.nan], atol=1e-14)


def test_shapes_and_laziness(erasure: xr.Dataset) -> None:
    assert deterministic_bounds(erasure, H_T=0.5)["I_TY_upper"].shape == ()
    assert deterministic_bounds(erasure, H_T=np.ones((2, 0, 3)))["I_TY_upper"].shape == (2, 0, 3)
    values = xr.DataArray(np.linspace(0, 1, 6).reshape(2, 3), {"layer": ["a", "b", "c"]}, ("seed", "layer"))
    lazy = deterministic_bounds(erasure, H_T=values.chunk(seed=1))
    assert lazy["I_TY_upper"].chunks is not None
    xr.testing.assert_identical(lazy.compute(), deterministic_bounds(erasure, H_T=values))


# Refusals ---------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 4, -1, 2.0, "2", None])
def test_a_number_of_clusters_that_cannot_be(k: Any) -> None:
    given = joint(None, [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]])
    with pytest.raises(ParameterError, match=r"from 1 to 3, the number of distinct p\(y\|x\), but got "):
        best_quantiser(given, k)


@pytest.mark.parametrize("tol", [-1e-3, np.nan, np.inf])
def test_a_tolerance_that_cannot_be(tol: float) -> None:
    with pytest.raises(ParameterError, match="tol must be 0 or more bits, and finite, but got"):
        deterministic_curve(joint(None, np.eye(2)), tol=tol)


def test_refusals_of_reading(erasure: xr.Dataset) -> None:
    with pytest.raises(ParameterError, match="exactly one of H_T and I_TY"):
        deterministic_bounds(erasure)
    with pytest.raises(ParameterError, match="exactly one of H_T and I_TY"):
        deterministic_bounds(erasure, H_T=1, I_TY=1)
    with pytest.raises(ParameterError, match="deterministic_curve but lacks H_T, slope_left, slope_right"):
        deterministic_bounds(xr.Dataset({"I_TY": ("point", [0.0])}), H_T=1)
