"""The contract sees every way of breaking it, by the promise that is meant to; every registered estimator keeps it."""

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import cache
from inspect import signature
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from numpy.typing import NDArray

from ipstore.analysis.estimators import H_T, I_TY, I_XT, Estimator, Integer, available, get
from ipstore.analysis.probe import Probe, entropy
from ipstore.analysis.testing import EstimatorContract
from ipstore.errors import ParameterError

pytest_plugins = ["pytester"]

Array = NDArray[Any]
Values = dict[str, NDArray[np.float64]]

# An estimator that keeps the contract ------------------------------------------


def count(
    t: Array, p_y_given_x: Array, *, x_id: Array | None = None, p_x: Array | None = None, steps: int = 2
) -> Values:
    """Exact information of the layer in bins of width 1 / steps, one cell after the other."""
    samples = t.shape[-2]
    weights = np.full(samples, 1 / samples) if p_x is None else p_x
    inputs = np.arange(samples) if x_id is None else x_id
    out: Values = {name: np.full(t.shape[:-2], np.nan) for name in ("I_XT", "I_TY", "H_T")}
    for cell in np.ndindex(t.shape[:-2]):
        if np.isfinite(t[cell]).all():
            codes = np.floor(steps * t[cell].astype(np.float64))
            _, value = np.unique(codes, axis=0, return_inverse=True)
            joint = np.stack([np.bincount(value, column) for column in (weights[:, None] * p_y_given_x).T])
            with_x = np.unique(np.stack([value, inputs]), axis=1, return_inverse=True)[1]
            H = entropy(np.bincount(value, weights))
            H_X = entropy(np.bincount(inputs, weights))
            out["I_XT"][cell] = H + H_X - entropy(np.bincount(with_x, weights))
            out["I_TY"][cell] = H + entropy(joint.sum(axis=1)) - entropy(joint)
            out["H_T"][cell] = H
    return out


STEPS = Integer("steps", "bins of a unit of activation", low=1, high=100)


def estimator(kernel: Callable[..., Any] = count, **declared: Any) -> Estimator:
    given: dict[str, Any] = {
        "name": "counted",
        "version": 1,
        "kind": "exact",
        "summary": "information of the binned layer",
        "reference": "these tests",
        "quantities": (I_XT, I_TY, H_T),
        "parameters": (STEPS,),
        "truths": {"bsc": {}, "clusters": {}},
    }
    kind = declared.pop("of", Estimator)
    made: Estimator = kind(kernel=kernel, **given | declared)
    return made


def changed(change: Callable[..., Values | None], **declared: Any) -> Estimator:
    """An estimator whose values are changed by `change(values, t, p_y_given_x, x_id, p_x)`."""

    def kernel(
        t: Array, p_y_given_x: Array, *, x_id: Array | None = None, p_x: Array | None = None, steps: int = 2
    ) -> Values:
        values = count(t, p_y_given_x, x_id=x_id, p_x=p_x, steps=steps)
        return change(values, t, p_y_given_x, x_id, p_x) or values

    return estimator(kernel, **declared)


def times(values: Values, name: str, factor: Any) -> None:
    values[name] *= factor


# Ways to break it -------------------------------------------------------------


@dataclass(frozen=True)
class Loose(Integer):
    """A parameter that takes what it says it does not."""

    _: KW_ONLY

    def _accept(self, value: Any) -> int:
        return 2


class TakesAnyName(Estimator):
    def check(self, params: Any) -> dict[str, Any]:
        return super().check({name: value for name, value in params.items() if name in self.defaults})


class TakesOneClass(Estimator):
    def __call__(self, t: Any, p_y_given_x: Any, *probe: Any, **params: Any) -> Values:
        if np.asarray(p_y_given_x).ndim == 2 and np.ptp(p_y_given_x, axis=0).max() == 0:
            return {quantity.name: np.zeros(np.shape(t)[:-2]) for quantity in self.quantities}
        return super().__call__(t, p_y_given_x, *probe, **params)


class CutsToFit(Estimator):
    def __call__(self, t: Any, p_y_given_x: Any, *probe: Any, **params: Any) -> Values:
        if np.ndim(t) > 1 and np.shape(t)[-2] < len(p_y_given_x):
            p_y_given_x = p_y_given_x[: np.shape(t)[-2]]
        return super().__call__(t, p_y_given_x, *probe, **params)


class TakesIntegers(Estimator):
    def apply(self, t: Array, probe: Any, params: Any) -> Values:
        return super().apply(t.astype(np.float32) if t.dtype.kind in "iub" else t, probe, params)


def grows(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    return params | {"steps": min(params["steps"] + 1, 100)}


def dislikes_soft_labels(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    if probe.labels == "soft":
        raise ParameterError("no")
    return params


def undeclared(
    t: Array, p_y_given_x: Array, *, x_id: Array | None = None, p_x: Array | None = None, steps: int = 2, more: int = 1
) -> Values:
    return count(t, p_y_given_x, x_id=x_id, p_x=p_x, steps=steps)


def held_by_a_lock(lock: Any) -> Callable[..., Values | None]:
    def change(*_: Any) -> None:
        with lock:
            pass

    return change


def drifts() -> Callable[..., Values | None]:
    calls = iter(range(10**9))

    def change(values: Values, *_: Any) -> None:
        values["I_TY"] -= 1e-13 * next(calls)

    return change


def single(values: Values, *_: Any) -> Values:
    return {name: value.astype(np.float32) for name, value in values.items()}


def one_cell_too_many(values: Values, *_: Any) -> Values:
    return {name: np.atleast_1d(value) for name, value in values.items()}


def sees_other_cells(values: Values, t: Array, *_: Any) -> None:
    times(values, "I_TY", 1 - 1e-15 * (t.ndim > 2 and len(t) > 2))


def half_is_other(values: Values, t: Array, *_: Any) -> None:
    times(values, "I_TY", 1 - 1e-6 * (t.dtype == np.float16))


def reads_memory_order(
    t: Array, p_y_given_x: Array, *, x_id: Array | None = None, p_x: Array | None = None, steps: int = 2
) -> Values:
    straight = t.T.ravel().reshape(t.shape) if t.flags.f_contiguous and not t.flags.c_contiguous else t
    return count(straight, p_y_given_x, x_id=x_id, p_x=p_x, steps=steps)


def writes(values: Values, t: Array, *_: Any) -> None:
    t[...] = t.astype(np.float64).round(6)


def writes_labels(values: Values, t: Array, p_y_given_x: Array, *_: Any) -> None:
    p_y_given_x /= p_y_given_x.sum(axis=1, keepdims=True)


def sees_first_sample(values: Values, t: Array, *_: Any) -> None:
    times(values, "I_TY", 1 - 1e-6 * np.tanh(abs(t[..., 0, :].astype(np.float64)).sum(axis=-1)))


def sees_first_unit(values: Values, t: Array, p_y_given_x: Array, x_id: Array, p_x: Array | None) -> None:
    weights = np.full(t.shape[-2], 1 / t.shape[-2]) if p_x is None else p_x
    times(values, "I_TY", 1 - 1e-6 * np.tanh(t[..., 0].astype(np.float64)) @ weights)


def sees_first_class(values: Values, t: Array, p_y_given_x: Array, x_id: Array, p_x: Array) -> None:
    times(values, "I_TY", 1 - 1e-6 * Probe.of(p_y_given_x, x_id, p_x).p_y[0])


def counts_classes(values: Values, t: Array, p_y_given_x: Array, *_: Any) -> None:
    times(values, "I_TY", 1 - 1e-6 * p_y_given_x.shape[1])


def minds_no_weight(values: Values, t: Array, p_y_given_x: Array, x_id: Array, p_x: Array | None) -> None:
    times(values, "I_TY", 1 - 1e-6 * (p_x is not None and (p_x == 0).any()))


def counts_samples(values: Values, t: Array, p_y_given_x: Array, x_id: Array, p_x: Array | None) -> None:
    times(values, "I_TY", 1 - 1e-6 * (0 if p_x is None else np.count_nonzero(p_x)))


def exceeds_entropy(values: Values, *_: Any) -> None:
    times(values, "I_XT", 1.3)


def below_zero(values: Values, *_: Any) -> None:
    values["I_TY"] = np.where(values["H_T"] > 0, -1e-3, 0.0)


def knows_more_than_the_input(values: Values, t: Array, p_y_given_x: Array, x_id: Array, p_x: Array) -> None:
    probe = Probe.of(p_y_given_x, x_id, p_x)
    if probe.labels == "soft":
        values["I_TY"] = np.sqrt(values["I_TY"] * probe.H_Y)


def dilutes(values: Values, t: Array, *_: Any) -> None:
    times(values, "I_TY", 1 / t.shape[-1] ** 2)


def something_of_nothing(values: Values, t: Array, *_: Any) -> None:
    values["I_TY"] += 0.1 * (np.ptp(t, axis=(-2, -1)) == 0)


def swallows_nan(
    t: Array, p_y_given_x: Array, *, x_id: Array | None = None, p_x: Array | None = None, steps: int = 2
) -> Values:
    return count(np.nan_to_num(t), p_y_given_x, x_id=x_id, p_x=p_x, steps=steps)


def spoils_neighbours(values: Values, t: Array, *_: Any) -> None:
    if not np.isfinite(t).all():
        for value in values.values():
            value[...] = np.nan


def overflows(values: Values, t: Array, *_: Any) -> None:
    if t.size and abs(t.astype(np.float64)).max() > 1e20:
        raise OverflowError("too large")


def needs_three(values: Values, t: Array, *_: Any) -> None:
    if t.shape[-2] < 3:
        raise ZeroDivisionError


def reads_codes(binning: Any, given: dict[str, Any]) -> tuple[dict[str, Any], None]:
    return given, None


BITS = {
    "test_a_cell_does_not_depend_on_the_others",
    "test_computes_nothing_before_it_is_asked",
    "test_can_be_sent_to_another_process",
    "test_refuses_activations_that_are_not_finite",
    "test_huge_activations_are_answered_or_refused",
}
"""What else compares two calls to the bit, and so sees what is never the same."""

ALSO = {
    "test_gives_the_same_bits_twice": BITS,
    # A plane gives kernels what they cannot write to.
    "test_changes_no_input": {
        "test_computes_nothing_before_it_is_asked",
        "test_refuses_activations_that_are_not_finite",
    },
}
"""Promises that are broken along with another."""

RAISED = {"test_changes_no_input", "test_two_samples_are_answered_or_refused"}
"""Where what the estimator raises is let through."""

BROKEN: list[tuple[str, Callable[[], Estimator]]] = [
    ("test_declares_itself", lambda: estimator(name="counted:2")),
    ("test_declares_itself", lambda: estimator(version=0)),
    ("test_declares_itself", lambda: estimator(reference=" ")),
    ("test_declares_its_quantities", lambda: estimator(quantities=(I_XT, H_T))),
    ("test_declares_its_quantities", lambda: estimator(quantities=(I_XT,), refuses={"I_TY": "It cannot."})),
    ("test_declares_its_quantities", lambda: estimator(quantities=(replace(I_XT, units="nats"), I_TY))),
    ("test_declares_the_parameters_of_its_kernel", lambda: estimator(undeclared)),
    ("test_settled_parameters_are_allowed_and_settle_to_themselves", lambda: estimator(settle=grows)),
    (
        "test_refuses_parameters_out_of_range",
        lambda: estimator(parameters=(Loose("steps", "bins of a unit of activation", low=1, high=100),)),
    ),
    ("test_refuses_unknown_parameters", lambda: estimator(of=TakesAnyName)),
    (
        "test_takes_hard_labels_and_says_what_else_it_does_not_take",
        lambda: estimator(settle=dislikes_soft_labels),
    ),
    ("test_gives_float64_over_any_leading_dimensions", lambda: changed(single)),
    ("test_gives_float64_over_any_leading_dimensions", lambda: changed(one_cell_too_many)),
    ("test_gives_the_same_bits_twice", lambda: changed(drifts())),
    ("test_a_cell_does_not_depend_on_the_others", lambda: changed(sees_other_cells)),
    ("test_takes_every_float", lambda: changed(half_is_other)),
    ("test_takes_any_memory_layout", lambda: estimator(reads_memory_order, marks_nonfinite=True)),
    ("test_changes_no_input", lambda: changed(writes)),
    ("test_changes_no_input", lambda: changed(writes_labels)),
    ("test_can_be_sent_to_another_process", lambda: changed(held_by_a_lock(threading.Lock()))),
    ("test_reads_stored_codes", lambda: estimator(marks_nonfinite=True, read_codes=reads_codes)),
    ("test_order_of_samples_does_not_matter", lambda: changed(sees_first_sample, truths={})),
    ("test_order_of_units_does_not_matter", lambda: changed(sees_first_unit, truths={})),
    ("test_order_of_classes_does_not_matter", lambda: changed(sees_first_class, truths={})),
    ("test_a_class_that_never_occurs_does_not_matter", lambda: changed(counts_classes, truths={})),
    ("test_a_sample_of_no_weight_does_not_matter", lambda: changed(minds_no_weight)),
    ("test_a_sample_twice_is_a_sample_of_twice_the_weight", lambda: changed(counts_samples, truths={})),
    ("test_is_not_negative_and_not_above_the_entropies", lambda: changed(exceeds_entropy, truths={})),
    ("test_is_not_negative_and_not_above_the_entropies", lambda: changed(below_zero, truths={})),
    ("test_a_layer_knows_no_more_of_the_label_than_the_input", lambda: changed(knows_more_than_the_input)),
    ("test_a_layer_without_one_of_its_units_knows_no_more", lambda: changed(dilutes, truths={})),
    ("test_a_constant_layer_knows_nothing", lambda: changed(something_of_nothing)),
    ("test_gives_the_known_truths", lambda: estimator(truths={"popcount": {}})),
    ("test_gives_the_known_truths", lambda: estimator(truths={"gaussian_classes": {"steps": 100}})),
    ("test_refuses_activations_that_are_not_finite", lambda: estimator(swallows_nan, marks_nonfinite=True)),
    ("test_refuses_activations_that_are_not_finite", lambda: changed(spoils_neighbours, marks_nonfinite=True)),
    ("test_huge_activations_are_answered_or_refused", lambda: changed(overflows)),
    ("test_two_samples_are_answered_or_refused", lambda: changed(needs_three)),
    ("test_refuses_labels_of_one_class", lambda: estimator(of=TakesOneClass)),
    ("test_refuses_shapes_that_disagree", lambda: estimator(of=CutsToFit)),
    ("test_refuses_activations_that_are_no_floats", lambda: estimator(of=TakesIntegers)),
]


def held(subject: str | Estimator, **attributes: Any) -> EstimatorContract:
    contract: EstimatorContract = type("Held", (EstimatorContract,), {"estimator": subject, **attributes})()
    return contract


def broken_promises(contract: EstimatorContract) -> dict[str, str]:
    """What fails, and how; what does not apply is no failure."""
    broken = {}
    for promise in contract.promises():
        try:
            getattr(contract, promise)()
        except SkipTest:
            pass
        except Exception as error:
            broken[promise] = str(error)
    return broken


def test_what_keeps_it_passes() -> None:
    assert broken_promises(held(estimator())) == {}
    assert broken_promises(held(estimator(marks_nonfinite=True), params={"steps": 9}, units=1, samples=40)) == {}


@pytest.mark.parametrize(
    ("promise", "make"), BROKEN, ids=[f"{number}-{promise[5:]}" for number, (promise, _) in enumerate(BROKEN)]
)
def test_what_breaks_it_is_seen_by_the_promise_that_is_meant_to(promise: str, make: Callable[[], Estimator]) -> None:
    subject = make()
    broken = broken_promises(held(subject))
    assert promise in broken
    assert subject.name in broken[promise] or promise in RAISED
    others = set(broken) - {promise}
    assert others <= ALSO.get(promise, set()), broken


def test_every_promise_is_broken_by_something() -> None:
    seen = {promise for promise, _ in BROKEN} | {"test_computes_nothing_before_it_is_asked"}
    assert seen == set(EstimatorContract.promises())


def test_what_is_eager_is_seen() -> None:
    class Eager(EstimatorContract):
        estimator = estimator()

        def _plane(self, t: Any, case: Any) -> Any:
            return super()._plane(np.asarray(t), case)

    with pytest.raises(AssertionError, match="counted: expected nothing loaded before it is computed; got 2 blocks"):
        Eager().test_computes_nothing_before_it_is_asked()


def test_messages_say_who_what_and_where() -> None:
    with pytest.raises(AssertionError, match=r"^counted: expected the same with the units in another order"):
        held(changed(sees_first_unit, truths={})).test_order_of_units_does_not_matter()
    with pytest.raises(AssertionError, match=r"^counted: expected I_XT on the bed 'popcount' to be exact"):
        held(estimator(truths={"popcount": {}})).test_gives_the_known_truths()
    with pytest.raises(AssertionError, match="expected an activation of nan refused, by ActivationError; got"):
        held(estimator(swallows_nan, marks_nonfinite=True)).test_refuses_activations_that_are_not_finite()


def test_what_does_not_apply_is_skipped_for_a_reason() -> None:
    with pytest.raises(SkipTest, match="counted needs activations"):
        held(estimator()).test_reads_stored_codes()
    with pytest.raises(SkipTest, match="counted gives nothing that is exact"):
        held(estimator(kind="estimate")).test_a_layer_without_one_of_its_units_knows_no_more()
    plain = estimator(settle=only_plain, truths={"clusters": {}})
    with pytest.raises(SkipTest, match="counted refuses inputs that are weighted and repeated"):
        held(plain).test_a_sample_twice_is_a_sample_of_twice_the_weight()
    assert broken_promises(held(plain)) == {}


def only_plain(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    if probe.labels == "soft" or probe.x_id is not None or probe.p_x is not None:
        raise ParameterError("labels must be hard and inputs distinct and of equal weight; leave out p_x and x_id")
    return params


def noisy(
    t: Array,
    p_y_given_x: Array,
    *,
    x_id: Array | None = None,
    p_x: Array | None = None,
    steps: int = 2,
    random_state: int = 0,
) -> Values:
    """Off by chance, which depends on the order of samples."""
    values = count(t, p_y_given_x, x_id=x_id, p_x=p_x, steps=steps)
    draws = np.random.default_rng(random_state).normal(0, 1, t.shape[-2])
    off = 0.01 * np.tanh((np.tanh(t).mean(axis=-1) * draws).sum(axis=-1))
    return {"I_TY": values["I_TY"] + off, "I_TY_se": np.full(off.shape, 0.01)}


def test_chance_is_allowed_for_where_it_is_stated() -> None:
    from ipstore.analysis.estimators import I_TY_SE

    seed = Integer("random_state", "of the draws", low=0, high=2**32 - 1)
    declared: dict[str, Any] = {
        "kind": "estimate",
        "refuses": {"I_XT": "these tests do not"},
        "parameters": (STEPS, seed),
        "truths": {},
    }
    stated = estimator(noisy, quantities=(I_TY, I_TY_SE), **declared)
    assert broken_promises(held(stated)) == {}
    silent = estimator(noisy, quantities=(I_TY,), **declared)
    assert broken_promises(held(silent)) == {}
    with pytest.raises(SkipTest, match="counted draws random numbers and states no standard error"):
        held(silent).test_order_of_samples_does_not_matter()
    unseeded = estimator(noisy, quantities=(I_TY,), **declared | {"parameters": (STEPS,)})
    assert "test_order_of_samples_does_not_matter" in broken_promises(held(unseeded))


# Every estimator keeps it -------------------------------------------------------

SHORT: dict[str, Any] = {"steps": 20, "hidden": 4}
"""Training that is long enough for every promise but the known truths, which are for the check of all."""


@cache
def of(name: str) -> EstimatorContract:
    trained = {"hidden", "steps"} <= set(signature(get(name).kernel).parameters)
    return held(name, params=SHORT, test_gives_the_known_truths=None) if trained else held(name)


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize("promise", EstimatorContract.promises())
def test_every_estimator_keeps_it(name: str, promise: str) -> None:
    contract = of(name)
    if promise in contract.promises():
        getattr(contract, promise)()


@pytest.mark.long
def test_needs_no_pytest_and_nothing_heavy() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None; import ipstore.analysis.testing; "
        "print({'numba', 'torch', 'hypothesis', 'scipy.stats', 'holoviews'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_pytest_collects_a_subclass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="""
        from ipstore.analysis.testing import EstimatorContract

        class TestBinned(EstimatorContract):
            estimator = "binned"
            test_gives_the_known_truths = None

        class TestWide(EstimatorContract):
            estimator = "binned"
            params = {"range": "layer", "bins": 5}
        """
    )
    outcome = pytester.runpytest("-q").parseoutcomes()
    assert set(outcome) <= {"passed", "skipped"}
    assert outcome["passed"] >= 50
