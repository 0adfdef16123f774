"""Self-consistency against its definition, in plain NumPy over inputs and values of T, and against known answers."""

import pickle
from functools import partial
from itertools import product
from math import log, log2
from typing import Any, ClassVar

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import rel_entr, softmax

from ipstore.analysis.estimators import get
from ipstore.analysis.ib import consistency
from ipstore.analysis.ib.consistency import BETA_MAX, distributions, self_consistent
from ipstore.analysis.ib.joints import joint, reduce
from ipstore.analysis.probe import Probe
from ipstore.analysis.testing import EstimatorContract
from ipstore.binning import Binning
from ipstore.errors import ActivationError, ParameterError
from ipstore.trainers.tasks import load

Array = NDArray[Any]

self_consistency = partial(consistency.self_consistency, tol=None)
"""Without the curves, which `test_standing.py` is about."""

TIE = 1e-12  # nats by which two divergences may differ and still be taken for equal

NAMES = ("I_XT", "I_TY", "H_T", "n_cells", "beta", "beta_capped", "residual", "residual_at_0")


class Definition:
    """J(beta) = E_x KL(p(t|x) || p_beta(t|x)) in nats, from the table p(x, t) and p(y|x)."""

    def __init__(self, t: Array, probe: Probe) -> None:
        x = np.arange(len(t)) if probe.x_id is None else probe.x_id
        shared = np.zeros((x.max() + 1, t.max() + 1))
        np.add.at(shared, (x, t), probe.weights)
        mass = np.zeros((len(shared), probe.p_y_given_x.shape[1]))
        np.add.at(mass, x, probe.weights[:, None] * probe.p_y_given_x)
        there, shown = shared.sum(axis=1) > 0, shared.sum(axis=0) > 0
        shared, mass = shared[there][:, shown], mass[there]
        self.p_x, self.p_t = shared.sum(axis=1), shared.sum(axis=0)
        self.q = mass / self.p_x[:, None]
        self.encoder = shared / self.p_x[:, None]
        self.decoder = shared.T @ self.q / self.p_t[:, None]
        self.divergence = rel_entr(self.q[:, None], self.decoder).sum(axis=2)

    def consistent(self, beta: float) -> Array:
        logits = np.log(self.p_t) - beta * self.divergence
        p: Array = softmax(logits, axis=1)
        return p

    def J(self, beta: float) -> float:
        with np.errstate(under="ignore"):
            return float(self.p_x @ rel_entr(self.encoder, self.consistent(beta)).sum(axis=1))

    def slope(self, beta: float) -> float:
        """Of J: the mean excess divergence of the layer's encoder less that of the self-consistent one."""
        excess = np.where(np.isinf(self.divergence), 0, self.divergence) - self.divergence.min(axis=1, keepdims=True)
        return float(self.p_x @ ((self.encoder - self.consistent(beta)) * excess).sum(axis=1))


def one_hot(y: Array) -> Array:
    return np.eye(int(y.max()) + 1)[y]


def of(found: xr.Dataset, *names: str) -> tuple[float, ...]:
    """The values of a Dataset of scalars."""
    return tuple(float(found[name]) for name in names)


def close(found: xr.Dataset, expected: xr.Dataset, atol: float = 1e-10, rtol: float = 1e-9) -> None:
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=atol, err_msg=name)


# Known answers ----------------------------------------------------------------


def rule() -> tuple[Array, Probe]:
    task = load("rule", information=0.99)
    return np.asarray(task.x).astype(np.int64), joint(None, task.p_y_given_x)


def test_the_number_of_ones_of_the_rule() -> None:
    x, probe = rule()
    found = self_consistency(x.sum(axis=1), probe)
    assert found["H_T"] == pytest.approx(2.83852874, abs=1e-8)
    assert found["I_TY"] == pytest.approx(0.62848242, abs=1e-8)
    assert found["beta"] == pytest.approx(1.06807476, abs=1e-8)
    assert found["residual"] == pytest.approx(2.18242312, abs=1e-8)
    assert found["n_cells"] == 13
    assert found["beta_capped"] == 0
    assert found["residual_at_0"] == found["I_XT"] == found["H_T"]


def test_the_label_of_the_rule_is_consistent_at_any_large_beta() -> None:
    _, probe = rule()
    found = self_consistency(probe.p_y_given_x.argmax(axis=1), probe)
    assert found["beta"] == BETA_MAX
    assert found["beta_capped"] == 1
    assert found["residual"] == pytest.approx(0, abs=1e-12)


def test_the_input_itself_uses_its_nearest_decoders() -> None:
    # Of 8 inputs with two p(y|x) there are two decoders, and each encoder could take any T of its own half.
    probe = joint(None, np.repeat([[0.9, 0.1], [0.2, 0.8]], [2, 6], axis=0))
    found = self_consistency(np.arange(8), probe)
    assert found["beta_capped"] == 1
    assert found["residual"] == pytest.approx(
        3 - 2 / 8 * log2(4) - 6 / 8 * log2(8 / 6), abs=1e-9
    )  # rounding times beta_max


@pytest.mark.parametrize("samples", [4, 7, 1000])
def test_a_constant_says_nothing(samples: int) -> None:
    rng = np.random.default_rng(samples)
    probe = joint(rng.dirichlet(np.ones(samples)), rng.dirichlet([1, 1, 1], samples))
    found = self_consistency(np.zeros(samples, int), probe)
    assert {name: float(found[name]) for name in NAMES} == {name: float(name == "n_cells") for name in NAMES}


def test_noise_says_nothing() -> None:
    # T is drawn with the same probabilities whatever the input: all decoders are p(y).
    rows = np.repeat(np.random.default_rng(0).dirichlet([1, 1], 5), 3, axis=0)
    probe = Probe.of(rows, np.repeat(np.arange(5), 3), np.tile([0.05, 0.07, 0.08], 5))
    found = self_consistency(np.tile([0, 1, 2], 5), probe)
    assert of(found, "beta", "beta_capped") == (0, 0)
    assert found["residual"] == found["I_XT"] == pytest.approx(0, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(2, 4))
def test_hard_labels_have_beta_one(seed: int, classes: int) -> None:
    # At beta = 1 the self-consistent encoder is p(t|y), and E_x KL(p(t|x) || p(t|y)) = I(X;T) - I(T;Y).
    rng = np.random.default_rng(seed)
    t = rng.integers(0, rng.integers(2, 20), 60)
    found = self_consistency(t, joint(None, one_hot(np.r_[:classes, rng.integers(0, classes, 60 - classes)])))
    if not found["beta_capped"]:
        assert found["beta"] == pytest.approx(1, abs=1e-11)
    assert found["residual"] == pytest.approx(float(found["I_XT"] - found["I_TY"]), abs=1e-11)


def test_a_partition_into_hard_labels_is_consistent_at_every_beta() -> None:
    found = self_consistency([0, 0, 1, 2], joint(None, one_hot(np.array([0, 0, 1, 1]))))
    assert of(found, "beta", "beta_capped") == (BETA_MAX, 1)
    assert found["residual"] == pytest.approx(0.5, abs=1e-12)  # which half of the label, 1 bit half of the time


def test_decoders_that_exclude_labels_can_have_the_least_residual_at_zero() -> None:
    # The first input shares its T with the second and would rather have that of the third, but only a little: from
    # beta = 0, where the others drop what their decoders exclude, J grows.
    rows = np.array([[1, 0, 0], [0, 1, 0], [0.9, 0, 0.1]])
    probe = joint([0.01, 0.5, 0.49], rows)
    found = self_consistency([0, 0, 1], probe)
    definition = Definition(np.array([0, 0, 1]), probe)
    assert found["beta"] == 0
    assert found["residual"] == pytest.approx(definition.J(1e-12) / log(2), abs=1e-9)
    assert found["residual"] < found["residual_at_0"]
    assert definition.J(0.5) > definition.J(1e-12)


def optimum(p_x: Array, q: Array, beta: float, values: int) -> Array:
    """An encoder p(t|x) that the self-consistent equations leave as it is."""
    encoder = np.random.default_rng(0).dirichlet(np.ones(values), len(p_x))
    for _ in range(20_000):
        p_t = p_x @ encoder
        decoder = (p_x[:, None] * encoder).T @ q / p_t[:, None]
        logits = np.log(p_t) - beta * rel_entr(q[:, None], decoder).sum(axis=2)
        encoder = softmax(logits, axis=1)
    return np.asarray(encoder)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("beta", [2.0, 5.0, 12.0])
def test_an_optimum_of_the_bottleneck_has_its_own_beta(classes: int, beta: float) -> None:
    rng = np.random.default_rng(3)
    p_x, q = rng.dirichlet(np.ones(5)), rng.dirichlet(np.full(classes, 0.3), 5)
    q = np.array([[0.9, 0.1], [0.1, 0.9]]) if classes == 2 else q
    p_x = np.array([0.5, 0.5]) if classes == 2 else p_x
    encoder = optimum(p_x, q, beta, classes)
    x, t = np.divmod(np.arange(encoder.size), classes)
    probe = Probe.of(q[x], x, (p_x[:, None] * encoder).ravel())
    found = self_consistency(t, probe)
    assert found["I_XT"] > 0.1
    assert found["residual"] == pytest.approx(0, abs=1e-11)
    assert found["beta"] == pytest.approx(beta, rel=1e-6)
    if classes == 2 and beta == 2:  # the curve of a binary symmetric channel
        assert of(found, "I_XT", "I_TY") == pytest.approx((0.696432729, 0.4072338336), abs=1e-8)


# Against the definition --------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Probe]:
    """A T, hard or soft given the input, and labels of 2 to 4 classes, some certain and some excluded."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    samples, classes = draw(st.integers(2, 40)), draw(st.integers(2, 4))
    rows = rng.dirichlet(np.full(classes, draw(st.sampled_from((0.05, 0.5, 5.0)))), samples)
    if draw(st.booleans()):
        rows[rng.random(samples) < 0.4] = np.eye(classes)[rng.integers(classes)]
        rows = np.where(rng.random(rows.shape) < 0.2, 0, rows)
        rows[rows.sum(axis=1) == 0] = 1
        rows /= rows.sum(axis=1, keepdims=True)
    rows = rows[rng.integers(0, draw(st.integers(1, samples)), samples)]
    x_id = rng.integers(0, samples, samples) if draw(st.booleans()) else None
    if x_id is not None and draw(st.booleans()):
        rows = rows[x_id]
    p_x = None
    if draw(st.booleans()):
        p_x = rng.dirichlet(np.ones(samples)) * (np.arange(samples) < max(2, samples - draw(st.integers(0, 3))))
        p_x /= p_x.sum()
    t = rng.integers(0, draw(st.integers(1, 12)), samples)
    assume(np.count_nonzero((rows if p_x is None else rows[p_x > 0]).sum(axis=0)) > 1)
    return t, Probe.of(rows, x_id, p_x)


@settings(deadline=None, max_examples=300)
@given(problems())
def test_residual_and_beta_are_those_of_the_definition(problem: tuple[Array, Probe]) -> None:
    t, probe = problem
    most = 1e3
    found = self_consistency(t, probe, beta_max=most)
    definition = Definition(t, probe)
    beta, residual = float(found["beta"]), float(found["residual"]) * log(2)
    for other in (*np.geomspace(1e-6, most, 40), most):
        assert residual <= definition.J(other) + 1e-11 + other * TIE
    assert 0 <= residual <= float(found["residual_at_0"]) * log(2)
    if found["beta_capped"]:
        assert beta == most
        assert definition.slope(most) <= 1e-11
    elif beta == 0:
        assert residual == pytest.approx(definition.J(1e-13), abs=1e-11)
        assert definition.slope(1e-13) >= -1e-11
    else:
        assert residual == pytest.approx(definition.J(beta), abs=1e-11 + beta * TIE)
        low, high = beta / 2, min(2 * beta, 2 * most)
        if definition.slope(low) < -1e-6 and definition.slope(high) > 1e-6:
            assert beta == pytest.approx(brentq(definition.slope, low, high, xtol=1e-13, rtol=1e-13), rel=1e-8)


@settings(deadline=None, max_examples=60)
@given(problems())
def test_no_beta_gives_less_by_another_way_of_searching(problem: tuple[Array, Probe]) -> None:
    t, probe = problem
    found = self_consistency(t, probe, beta_max=1e3)
    definition = Definition(t, probe)
    searched = minimize_scalar(lambda u: definition.J(np.exp(u)), bounds=(-12, log(1e3)), method="bounded")
    assert found["residual"] * log(2) <= searched.fun + 1e-10
    if not found["beta_capped"] and float(found["beta"]) > 1e-4:
        assert found["residual"] * log(2) == pytest.approx(searched.fun, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(problems(), st.integers(0, 2**32))
def test_what_is_only_a_matter_of_writing_changes_nothing(problem: tuple[Array, Probe], seed: int) -> None:
    t, probe = problem
    rng = np.random.default_rng(seed)
    there = self_consistency(t, probe, beta_max=1e3)
    x_id = np.arange(len(t)) if probe.x_id is None else probe.x_id
    order = rng.permutation(len(t))
    close(
        self_consistency(t[order], Probe.of(probe.p_y_given_x[order], x_id[order], probe.weights[order]), beta_max=1e3),
        there,
    )
    close(self_consistency(rng.permutation(100)[t] - 50, probe, beta_max=1e3), there)
    close(self_consistency(t, Probe.of(probe.p_y_given_x[:, ::-1], probe.x_id, probe.p_x), beta_max=1e3), there)
    twice = np.r_[order, order]
    halves = Probe.of(probe.p_y_given_x[twice], x_id[twice], probe.weights[twice] / 2)
    close(self_consistency(t[twice], halves, beta_max=1e3), there)


def test_an_input_split_in_two_that_keep_their_T_has_the_same_beta() -> None:
    # Two inputs in the place of one: I(X;T) stays, and so does the rest.
    rng = np.random.default_rng(4)
    rows, p_x, t = rng.dirichlet([1, 1], 30), rng.dirichlet(np.ones(30)), rng.integers(0, 6, 30)
    split = joint(np.tile(p_x, 2) / 2, np.tile(rows, (2, 1)))
    close(self_consistency(np.tile(t, 2), split), self_consistency(t, joint(p_x, rows)))


@pytest.mark.parametrize("labels", [np.full((4, 2), 0.5), one_hot(np.array([0, 1, 0, 1]))])
def test_extreme_labels_raise_no_warning(labels: Array) -> None:
    for t in ([0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 3], [0, 0, 1, 1]):
        found = self_consistency(t, joint(None, labels))
        assert all(np.isfinite(found[name]) for name in NAMES)


# Shapes, batches, bad cells ----------------------------------------------------


def network(cells: int, samples: int = 700) -> tuple[Array, Probe]:
    rng = np.random.default_rng(5)
    inputs = rng.normal(0, 1, (samples, 6))
    t = np.tanh(inputs @ rng.normal(0, 1, (cells, 6, 3)) * rng.choice([0.05, 0.5, 5.0], (cells, 1, 1)))
    p = 1 / (1 + np.exp(-2 * inputs.sum(axis=1).round()))
    return t.astype(np.float32), joint(None, np.stack([1 - p, p], axis=1))


def test_a_cell_does_not_depend_on_its_batch() -> None:
    t, probe = network(200)
    binned = self_consistent(get("binned"))
    together = binned(t, probe.p_y_given_x, bins=5)
    for cell in (0, 1, 77, 199):
        alone = binned(t[cell], probe.p_y_given_x, bins=5)
        for name in NAMES:
            np.testing.assert_array_equal(together[name][cell], alone[name])
    backwards = binned(t[::-1], probe.p_y_given_x, bins=5)
    for name in NAMES:
        np.testing.assert_array_equal(together[name], backwards[name][::-1])


def test_counts_are_those_of_the_estimator() -> None:
    t, probe = network(5)
    for name, params in (("binned", {"bins": 7}), ("binned", {"rule": "quantile"}), ("quantised", {"bits": 3})):
        ours, theirs = (
            self_consistent(get(name))(t, probe.p_y_given_x, **params),
            get(name)(t, probe.p_y_given_x, **params),
        )
        for quantity in ("I_XT", "I_TY", "H_T", "n_cells"):
            np.testing.assert_array_equal(ours[quantity], theirs[quantity])
        cells = [Definition(_numbered(t[cell], name, params), probe) for cell in range(5)]
        for cell, definition in enumerate(cells):
            if not ours["beta_capped"][cell]:
                assert ours["residual"][cell] == pytest.approx(definition.J(ours["beta"][cell]) / log(2), abs=1e-11)


def _numbered(t: Array, name: str, params: dict[str, Any]) -> Array:
    estimator = get(name)
    assert estimator.encode is not None
    codes, _ = estimator.encode(t[None], None, estimator.resolve(params, Probe.of(np.eye(2))))
    return np.unique(codes[0], axis=0, return_inverse=True)[1].reshape(-1)


def test_leading_dimensions_keep_their_names() -> None:
    rng = np.random.default_rng(6)
    probe = joint(None, rng.dirichlet([1, 1], 20))
    codes = xr.DataArray(
        rng.integers(0, 4, (3, 20, 2)), dims=["seed", "sample", "layer1_unit"], coords={"seed": [4, 5, 6]}
    )
    found = self_consistency(codes, probe)
    assert found["residual"].dims == ("seed",)
    assert found["seed"].values.tolist() == [4, 5, 6]
    assert list(found.data_vars)[: len(NAMES)] == list(NAMES)
    assert found.attrs["certificate"] == "exact"
    assert found["residual"].attrs == {"long_name": "residual at beta*", "units": "bits"}
    close(self_consistency(codes.values, probe), found)
    lazy = self_consistency(codes.chunk({"seed": 1, "sample": 7}), probe)
    assert lazy["beta"].chunks is not None
    close(lazy.compute(), found)
    close(self_consistency(codes.transpose("sample", "layer1_unit", "seed"), probe), found)


def test_any_kind_of_number_will_do() -> None:
    rng = np.random.default_rng(7)
    probe, t = joint(None, rng.dirichlet([1, 1], 30)), rng.integers(0, 5, 30)
    there = self_consistency(t, probe)
    for same in (t.tolist(), -t, t.astype(np.uint8), t.astype(np.float16), np.where(t == 0, -0.0, t / 7), t[:, None]):
        close(self_consistency(same, probe), there)
    close(self_consistency(t > 2, probe), self_consistency((t > 2).astype(np.int8), probe))


def test_bad_cells_are_nan_and_no_others() -> None:
    t = np.array([[0, 1, 2, 0], [0, 1, np.nan, 0], [0, np.inf, 1, 2]])[..., None]
    probe = joint(None, np.array([[1, 0], [0.5, 0.5], [0, 1], [0.25, 0.75]]))
    found = self_consistency(t, probe)
    for name in NAMES:
        assert np.isnan(found[name].values).tolist() == [False, True, True]
    missing = self_consistency(np.array([[0, 1, 255, 0]], np.uint8), probe)
    assert all(np.isnan(missing[name]).all() for name in NAMES)
    with pytest.raises(ActivationError, match="not finite"):
        distributions(t[1], probe)


def test_samples_without_weight_do_not_count() -> None:
    rng = np.random.default_rng(8)
    rows, t = rng.dirichlet([1, 1, 1], 30), rng.integers(0, 5, 30)
    p_x = rng.dirichlet(np.ones(20))
    found = self_consistency(np.where(np.arange(30) < 20, t, 99), joint(np.r_[p_x, np.zeros(10)], rows))
    close(found, self_consistency(t[:20], joint(p_x, rows[:20])))


def test_inputs_repeated_with_other_labels_have_their_mean() -> None:
    # Hard labels drawn for each input: Y depends on T through X, and so what is counted is their frequency.
    rng = np.random.default_rng(9)
    x = np.repeat(np.arange(10), 4)
    rows, t = one_hot(rng.integers(0, 2, 40)), rng.integers(0, 4, 40)
    mean = rows.reshape(10, 4, 2).mean(axis=1)
    close(self_consistency(t, Probe.of(rows, x)), self_consistency(t, Probe.of(mean[x], x)))


# Distributions -----------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(problems())
def test_distributions_are_those_of_the_definition(problem: tuple[Array, Probe]) -> None:
    t, probe = problem
    try:
        found = distributions(t, probe)
    except ParameterError as error:
        assert "same p(y|x)" in str(error)  # noqa: PT017  # a joint without a curve may be drawn
        return
    definition = Definition(t, probe)
    used = probe.weights > 0
    assert (found["t_of_sample"].values >= 0).tolist() == used.tolist()
    np.testing.assert_allclose(found["p_t"].sum(), 1, atol=1e-12)
    ours, state = found["t_of_sample"].values[used], found["state_of_sample"].values[used]
    assert len(set(zip(t[used], ours, strict=True))) == len(np.unique(t[used])) == found.sizes["t"]
    place = np.searchsorted(np.unique(t[used]), t[used])
    np.testing.assert_allclose(found["p_t"].values[ours], definition.p_t[place], atol=1e-13)
    np.testing.assert_allclose(found["p_y_given_t"].values[ours], definition.decoder[place], atol=1e-12)
    if probe.x_id is None:
        np.testing.assert_allclose(found["p_y_given_state"].values[state], probe.p_y_given_x[used], atol=0)
    np.testing.assert_array_equal(found["p_y_given_state"], reduce(probe).p_y_given_x)
    for name in ("p_t_given_state", "p_t_given_state_at_beta"):
        np.testing.assert_allclose(found[name].sum("t"), 1, atol=1e-12)
    np.testing.assert_allclose((found["p_t_given_state"] * found["p_state"]).sum("state"), found["p_t"], atol=1e-13)
    beta = max(float(found["beta"]), 1e-12)  # at 0 what is meant is the limit from above
    x = np.arange(len(t)) if probe.x_id is None else probe.x_id
    inputs = np.searchsorted(np.unique(x[used]), x[used])
    expected = definition.consistent(beta)[inputs, place]
    np.testing.assert_allclose(found["p_t_given_state_at_beta"].values[state, ours], expected, rtol=0, atol=1e-8)
    at_two = distributions(t, probe, beta=2.0)
    assert at_two["residual"] == pytest.approx(definition.J(2.0) / log(2), abs=1e-11)
    assert of(at_two, "beta", "beta_capped") == (2, 0)
    at_zero = distributions(t, probe, beta=0.0)
    assert at_zero["residual"] == pytest.approx(float(self_consistency(t, probe)["I_XT"]), abs=1e-11)
    np.testing.assert_allclose(
        at_zero["p_t_given_state_at_beta"], np.broadcast_to(at_zero["p_t"], state_shape(at_zero))
    )


def state_shape(found: xr.Dataset) -> tuple[int, int]:
    return found.sizes["state"], found.sizes["t"]


def test_values_of_T_are_in_the_order_of_their_decoders() -> None:
    _, probe = rule()
    x = np.array(list(product((0, 1), repeat=12)))
    found = distributions(12 - x.sum(axis=1), probe)
    assert np.all(np.diff(found["p_y_given_t"].isel({"class": 1})) >= 0)
    assert found["residual"] == pytest.approx(2.18242312, abs=1e-8)
    assert found["beta"] == pytest.approx(1.06807476, abs=1e-8)


# Estimators and bad input -------------------------------------------------------


class TestBinned(EstimatorContract):
    estimator = self_consistent(get("binned"))
    params: ClassVar = {"tol": 0.05}


class TestQuantised(EstimatorContract):
    estimator = self_consistent(get("quantised"))
    params: ClassVar = {"tol": None}


class TestDiscrete(EstimatorContract):
    estimator = self_consistent(get("discrete"))
    params: ClassVar = {"tol": None}


def test_the_same_question_is_known_to_be_the_same() -> None:
    binned = self_consistent(get("binned"))
    assert self_consistent(get("binned")) is binned
    assert binned.kernel != self_consistent(get("quantised")).kernel
    sent = pickle.loads(pickle.dumps(binned))
    assert sent.kernel == binned.kernel
    assert hash(sent.kernel) == hash(binned.kernel)


def test_parameters_are_those_of_T() -> None:
    binned, probe = self_consistent(get("binned")), Probe.of(np.eye(2), population=False)
    assert binned.resolve({"bins": 4}, probe) == {
        "bins": 4,
        "range": (-1.0, 1.0),
        "width": None,
        "rule": "equal",
        "beta_max": BETA_MAX,
        "tol": 1e-4,
        "within": 0.01,
    }
    with pytest.raises(ParameterError, match="no parameter 'correction'"):
        binned.resolve({"correction": "plugin"}, probe)
    with pytest.raises(ParameterError, match="goes with neither"):
        binned.resolve({"width": 0.1, "bins": 3}, probe)
    assert binned.read_codes is not None
    wanted, _ = binned.read_codes(Binning(30, (-1.0, 1.0)), {"beta_max": 50.0, "bins": 15})
    assert binned.resolve(wanted, probe)["beta_max"] == 50


def test_the_cap_is_kept() -> None:
    probe = joint(None, [[0.9, 0.1], [0.85, 0.15], [0.2, 0.8], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    t = np.array([0, 0, 1, 1, 1, 0])
    free = self_consistency(t, probe)
    assert not free["beta_capped"]
    capped = self_consistency(t, probe, beta_max=float(free["beta"]) / 2)
    assert of(capped, "beta", "beta_capped") == (float(free["beta"]) / 2, 1)
    definition = Definition(t, probe)
    assert capped["residual"] == pytest.approx(definition.J(float(free["beta"]) / 2) / log(2), abs=1e-12)


@pytest.mark.parametrize("name", ["kde_upper", "gaussian", "knn"])
def test_a_T_without_discrete_values_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="use one of binned, discrete, quantised"):
        self_consistent(get(name))


def test_bad_input_is_refused() -> None:
    probe = joint(None, np.random.default_rng(0).dirichlet([1, 1], 5))
    with pytest.raises(ParameterError, match=r"5 samples, but its shape is \(4,\)"):
        self_consistency(np.zeros(4, int), probe)
    with pytest.raises(ParameterError, match=r"of 5 as the joint, but has .*'sample': 3"):
        self_consistency(xr.DataArray(np.zeros(3), dims="sample"), probe)
    with pytest.raises(ParameterError, match="whose dimensions say which is meant"):
        self_consistency(np.zeros((5, 5)), probe)
    with pytest.raises(ParameterError, match="integers or floats of 16, 32 or 64 bits, but are <U1"):
        self_consistency(np.array(list("abcab")), probe)
    with pytest.raises(ParameterError, match="a_unit, b_unit"):
        self_consistency(xr.DataArray(np.zeros((5, 2, 2)), dims=["sample", "a_unit", "b_unit"]), probe)
    with pytest.raises(ParameterError, match=r"beta_max must be a number in \(0, 1e\+09\) but got -1"):
        self_consistency(np.arange(5), probe, beta_max=-1)
    with pytest.raises(ParameterError, match="choose one cell"):
        distributions(np.zeros((2, 5), int), probe)
    for beta in (-1.0, np.nan, np.inf):
        with pytest.raises(ParameterError, match="0 or more, but got"):
            distributions(np.arange(5), probe, beta=beta)
