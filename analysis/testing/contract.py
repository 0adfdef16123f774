"""The contract of estimators, as a test class: somebody subclasses it, and pytest holds their estimator to it.

It imports nothing of pytest, so it also runs where pytest is not installed. What does not apply to an estimator
is skipped by `unittest.SkipTest`, which pytest understands.
"""

import json
from importlib import import_module
from inspect import Parameter as Argument
from inspect import signature
from math import isfinite, sqrt
from typing import Any, get_args
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import RESERVED, Estimator, Kind
from ipstore.analysis.estimators.parameters import Choice, Integer, Interval, Number, Parameter
from ipstore.analysis.testing import truths
from ipstore.analysis.testing.cases import Case
from ipstore.analysis.testing.holding import FEATURES, Holding
from ipstore.analysis.testing.trials import judge, run
from ipstore.binning import MISSING, Binning
from ipstore.errors import ActivationError, ParameterError

__all__ = ["EstimatorContract"]


class EstimatorContract(Holding):
    """What every estimator keeps, one method each.

    Subclass it, under a name that begins with ``Test``, in a file that pytest collects::

        class TestMine(EstimatorContract):
            estimator = "my_package:mine"

    Attributes
    ----------
    estimator : str or Estimator
        One of ``ipstore.analysis.estimators.available()``, ``module:object``, or the estimator itself.
    params : mapping
        Parameters to hold it under, where they are not the defaults.
    samples, units : int
        Size of the layers that it is shown.
    tolerance : float, optional
        Bits by which two computations of the same may differ. By default 1e-9 for a quantity that is exact, and
        1e-5 for others, which may be computed in float32. Where the standard error of a quantity is stated,
        chance may add 6 of them. An estimator that draws random numbers (it has a parameter ``random_state``)
        and states none is not held to give the same for another order of samples, units or classes.

    Notes
    -----
    Override `activations` if the estimator needs others than it gives. Set a method to None to take it out, and
    say why: what is left out is promised to nobody.
    """

    @classmethod
    def promises(cls) -> tuple[str, ...]:
        """Names of the methods that hold a promise each, in order."""
        names = dict.fromkeys(name for home in reversed(cls.__mro__) for name in vars(home))
        return tuple(name for name in names if name.startswith("test_") and getattr(cls, name) is not None)

    # What it declares ---------------------------------------------------------

    def test_declares_itself(self) -> None:
        """Name, version, kind, summary and reference are given, and it is registered under its name."""
        subject = self.subject
        plain = subject.name and not set(subject.name) & set(":=, \t\n")
        self._hold(bool(plain), "a name without blanks, colons, commas and equals signs", repr(subject.name))
        if isinstance(self.estimator, str) and ":" not in self.estimator:
            self._hold(subject.name == self.estimator, f"the name {self.estimator!r} under which it is registered")
        self._hold(
            isinstance(subject.version, int) and subject.version >= 1, "a version of 1 or more", repr(subject.version)
        )
        self._hold(subject.kind in get_args(Kind), f"a kind among {get_args(Kind)}", repr(subject.kind))
        for what, text in (("summary", subject.summary), ("reference", subject.reference)):
            self._hold(bool(text.strip()) and "\n" not in text, f"a {what} of one line", repr(text))

    def test_declares_its_quantities(self) -> None:
        """Quantities are named once, information is in bits, and what is not given says why."""
        subject = self.subject
        names = [quantity.name for quantity in subject.quantities]
        self._hold(bool(names) and len(set(names)) == len(names), "quantities, each named once", names)
        for quantity in subject.quantities:
            name = quantity.name
            self._hold(name.isidentifier() and name not in RESERVED, "a name that a variable can have", repr(name))
            self._hold(bool(quantity.long_name and quantity.units), f"a long name and units of {name}")
            self._hold(quantity.kind in (None, *get_args(Kind)), f"a kind of {name}", repr(quantity.kind))
            if name.startswith(("I_", "H_")):
                self._hold(quantity.units == "bits", f"{name} in bits", quantity.units)
        for name in ("I_XT", "I_TY"):
            once = (name in names) != (name in subject.refuses)
            self._hold(once, f"{name} either among the quantities or, with a reason, in `refuses`", names)
        for name, reason in subject.refuses.items():
            self._hold(name in ("I_XT", "I_TY"), "nothing in `refuses` but I_XT and I_TY", repr(name))
            clause = bool(reason.strip()) and reason.strip()[-1] not in ".!" and "\n" not in reason
            self._hold(clause, f"a reason to refuse {name} that fits after 'because'", repr(reason))

    def test_declares_the_parameters_of_its_kernel(self) -> None:
        """Kernel and declaration have the same parameters, keyword only, each with a default."""
        subject = self.subject
        arguments = dict(signature(subject.kernel).parameters)
        for name in ("t", "p_y_given_x"):
            self._hold(list(arguments)[:1] == [name], f"a kernel(t, p_y_given_x, *, ...) that takes {name}", arguments)
            del arguments[name]
        for name, argument in arguments.items():
            self._hold(argument.kind is Argument.KEYWORD_ONLY, f"{name} as a keyword", argument.kind)
            self._hold(argument.default is not Argument.empty, f"a default of {name} in the kernel")
        for name in ("x_id", "p_x"):
            self._hold(name in arguments and arguments[name].default is None, f"a kernel with {name}=None")
            del arguments[name]
        declared = sorted(parameter.name for parameter in subject.parameters)
        self._hold(sorted(arguments) == declared, f"the kernel's parameters {sorted(arguments)} declared", declared)
        for parameter in subject.parameters:
            self._hold(bool(parameter.description.strip()), f"a description of {parameter.name}")

    def test_settled_parameters_are_allowed_and_settle_to_themselves(self) -> None:
        """What a result is stored with can be stored, is allowed, and asks for the same again."""
        probe = self._case().probe
        for label, given in (("the defaults", {}), (f"{dict(self.params)}", self.params)):
            settled = self.subject.resolve(given, probe)
            names = {parameter.name for parameter in self.subject.parameters}
            self._hold(set(settled) == names, f"{label} to settle to {sorted(names)}", settled)
            try:
                again = self.subject.resolve(json.loads(json.dumps(settled)), probe)
            except (ParameterError, TypeError) as error:
                again = {"error": error}
            self._hold(again == settled, f"{label}, settled to {settled}, to be allowed and settle to that", again)

    def test_refuses_parameters_out_of_range(self) -> None:
        """A value outside what is allowed is refused by name, with what is allowed."""
        case = self._case()
        for parameter in self.subject.parameters:
            for value in _outside(parameter):
                given = {**self.params, parameter.name: value}
                error = self._refused(
                    lambda given=given: self.subject(*case.arguments, **given),  # type: ignore[misc]  # binds it now
                    ParameterError,
                    f"{parameter.name}={value!r} refused, as it must be {parameter.allowed}",
                )
                told = parameter.name in error and parameter.allowed in error
                self._hold(told, f"a message with {parameter.name!r} and {parameter.allowed!r}", error)

    def test_refuses_unknown_parameters(self) -> None:
        """A parameter that does not exist is refused by its name."""
        case, name = self._case(), "no_such_parameter"
        given: dict[str, Any] = {name: 1}
        error = self._refused(
            lambda: self.subject(*case.arguments, **given), ParameterError, "an unknown parameter refused"
        )
        self._hold(name in error, f"a message with {name!r}", error)

    # What it takes and gives --------------------------------------------------

    def test_takes_hard_labels_and_says_what_else_it_does_not_take(self) -> None:
        """Hard labels of distinct, equally weighted inputs are taken; others too, or ParameterError says why not."""
        for features in ((), *((name,) for name in FEATURES), FEATURES):
            case = self._case(*features)
            try:
                params = self.subject.resolve(self.params, case.probe)
            except ParameterError as error:
                self._hold(bool(features), f"{case} to be taken", error)
                self._hold(len(str(error)) > 20, f"a message on why {case} are not taken", error)
                continue
            values = self.subject.apply(case.t, case.probe.arguments, params)
            first = values[self.subject.quantities[0].name]
            self._hold(not np.isnan(first).any(), f"numbers for finite activations, with {case}", first)

    def test_gives_float64_over_any_leading_dimensions(self) -> None:
        """The kernel gives every quantity, as float64, over no, one and two leading dimensions and for no cells."""
        case = self._case(cells=(2, 2))
        params = self.subject.resolve(self.params, case.probe)
        for t in (case.t[0, 0], case.t[0, :1], case.t, case.t[0, :0], case.t[:, :0]):
            values = self.subject.kernel(t, **case.probe.arguments, **params)
            for quantity in self.subject.quantities:
                name = self.subject.kernel_names.get(quantity.name, quantity.name)
                self._hold(name in values, f"{name} from the kernel", sorted(values))
                # A scalar of NumPy will do: arithmetic makes one of an array of no dimensions.
                array = isinstance(values[name], np.ndarray | np.floating)
                self._hold(array, f"{name} as an array", type(values[name]).__name__)
                came, dtype = values[name].shape, values[name].dtype
                self._hold(dtype == np.float64, f"{name} as float64", dtype)
                self._hold(came == t.shape[:-2], f"{name} of shape {t.shape[:-2]} for t {t.shape}", came)

    def test_gives_the_same_bits_twice(self) -> None:
        """Equal calls give equal results."""
        for case in self._cases(cells=(2,)):
            self._same(self._estimate(case), self._estimate(case), f"the same a second time, with {case}")

    def test_a_cell_does_not_depend_on_the_others(self) -> None:
        """A cell alone, or in another order, gives the same bits as among others."""
        for case in self._cases(cells=(3,)):
            whole = self._estimate(case)
            for order in ([1], [2, 0]):
                some = self._estimate(case.of(case.t[order]))
                expected = {name: value[order] for name, value in whole.items()}
                self._same(expected, some, f"cells {order} as among all three, with {case}")

    def test_takes_every_float(self) -> None:
        """Activations of float16, float32 and float64 that are equal give equal information."""
        case = self._case()
        half = case.t.astype(np.float16)
        there = self._estimate(case.of(half.astype(np.float64)))
        for dtype in (np.float16, np.float32):
            self._close(there, self._estimate(case.of(half.astype(dtype))), f"{np.dtype(dtype)} as float64")

    def test_takes_any_memory_layout(self) -> None:
        """Activations in any order of memory give the same information."""
        for case in self._cases():
            there = self._estimate(case)
            layouts = {
                "Fortran order": np.asfortranarray(case.t),
                "every other row": np.repeat(case.t, 2, axis=-2)[..., ::2, :],
                "rows backwards": np.ascontiguousarray(case.t[..., ::-1, :])[..., ::-1, :],
                "units first": np.ascontiguousarray(np.moveaxis(case.t, -1, 0)).transpose(1, 2, 0),
            }
            for layout, t in layouts.items():
                self._close(there, self._estimate(case.of(t)), f"{layout} as C order, with {case}")

    def test_changes_no_input(self) -> None:
        """The kernel writes to none of its arguments, and takes arrays that must not be written to."""
        for case in self._cases():
            params = self.subject.resolve(self.params, case.probe)
            before = {"t": case.t} | case.probe.arguments
            given = {name: array.copy() for name, array in before.items()}
            self.subject.kernel(**given, **params)
            for name, array in given.items():
                self._hold(np.array_equal(array, before[name]), f"{name} as it was before the call, with {case}")
                array.flags.writeable = False
            self.subject.kernel(**given, **params)

    def test_computes_nothing_before_it_is_asked(self) -> None:
        """On a Dask array it is lazy, and then gives what it gives on arrays, whatever the chunks."""
        import dask.array

        case, loaded = self._cases(cells=(1, 2))[-1], 0

        def load(block: NDArray[Any]) -> NDArray[Any]:
            nonlocal loaded
            loaded += 1
            return block

        da: Any = dask.array  # its functions carry no types
        t = da.from_array(case.t, chunks=(1, 1, -1, -1)).map_blocks(load, meta=np.empty((0, 0, 0, 0), case.t.dtype))
        lazy = self._plane(t, case)
        self._hold(loaded == 0, "nothing loaded before it is computed", f"{loaded} blocks loaded")
        done = lazy.compute(scheduler="synchronous")
        self._hold(loaded > 0, "activations loaded when it is computed")
        got = {str(name): array.to_numpy() for name, array in done.data_vars.items()}
        self._same(self._estimate(case), got, f"lazily the same as on arrays, with {case}")

    def test_can_be_sent_to_another_process(self) -> None:
        """What a Dask worker gets of it works as it does."""
        cloudpickle: Any = import_module("cloudpickle")  # with which Dask sends; it carries no types
        case = self._case()
        params = self.subject.resolve(self.params, case.probe)
        try:
            sent: Estimator = cloudpickle.loads(cloudpickle.dumps(self.subject))
        except Exception as error:
            raise AssertionError(f"{self.subject.name}: expected to be picklable; got {error!r}") from error
        self._same(self._estimate(case), sent.apply(case.t, case.probe.arguments, params), "the same after it was sent")

    def test_reads_stored_codes(self) -> None:
        """If it reads codes of bins, it takes them as they are stored, and a missing one spoils its cell alone."""
        subject, case = self.subject, self._case(cells=(1, 2))
        if subject.read_codes is None:
            raise SkipTest(f"{subject.name} needs activations")
        try:
            params, table = subject.read_codes(Binning(8, (-1.0, 1.0)), subject.check(self.params))
        except ParameterError as error:
            raise SkipTest(str(error)) from error
        stored = np.digitize(case.t, np.linspace(-1, 1, 9)[1:-1]).astype(np.uint8)
        spoilt = stored.copy()
        spoilt[0, 1, 3, 0] = MISSING
        settled = subject.resolve(params, case.probe)
        there, got = (
            subject.apply(codes if table is None else table[codes], case.probe.arguments, settled)
            for codes in (stored, spoilt)
        )
        for name, value in there.items():
            fits = value.dtype == np.float64 and value.shape == case.t.shape[:-2]
            self._hold(fits, f"{name} of codes as float64 {case.t.shape[:-2]}", f"{value.dtype} {value.shape}")
        self._spoilt(got, "a missing code", 1)
        self._beside(there, got, "a missing code")

    # What does not matter -----------------------------------------------------

    def test_order_of_samples_does_not_matter(self) -> None:
        """Samples in another order, with all that is known of them, give the same information."""
        for case in self._cases():
            order = np.random.default_rng(1).permutation(self.samples)
            self._agree(case, case.take(order), f"the same with the samples in another order, with {case}")

    def test_order_of_units_does_not_matter(self) -> None:
        """Units in another order give the same information."""
        for case in self._cases():
            self._agree(case, case.of(case.t[..., ::-1]), f"the same with the units in another order, with {case}")

    def test_order_of_classes_does_not_matter(self) -> None:
        """Classes in another order give the same information."""
        for case in self._cases():
            other = case.labelled(case.p_y_given_x[:, [2, 0, 1]])
            self._agree(case, other, f"the same with the classes in another order, with {case}")

    def test_a_class_that_never_occurs_does_not_matter(self) -> None:
        """A class of probability zero changes nothing."""
        for case in self._cases():
            other = case.labelled(np.insert(case.p_y_given_x, 1, 0.0, axis=1))
            self._agree(case, other, f"the same with a class that never occurs, with {case}")

    def test_a_sample_of_no_weight_does_not_matter(self) -> None:
        """Samples of weight zero change nothing, where weights are taken."""
        for case in self._taken("weighted"):
            assert case.p_x is not None
            more = case.take(np.r_[np.arange(self.samples), np.arange(5)])
            t = np.concatenate([case.t, 0.9 * case.t[..., :5, ::-1]], axis=-2)
            new = np.arange(self.samples, self.samples + 5)
            x_id = None if case.x_id is None else np.r_[case.x_id, new]
            other = more.of(t).weighted(np.r_[case.p_x, np.zeros(5)], x_id)
            self._agree(case, other, f"the same with five samples more, of weight zero, with {case}")

    def test_a_sample_twice_is_a_sample_of_twice_the_weight(self) -> None:
        """What is exact counts probability: it cannot tell two halves of a sample from the whole."""
        self._informations("exact")
        for case in self._taken("weighted", "repeated"):
            assert case.p_x is not None
            twice = case.take(np.tile(np.arange(self.samples), 2))
            halves = twice.weighted(np.tile(case.p_x, 2) / 2, twice.x_id)
            self._agree(case, halves, f"the same with every sample as two halves, with {case}", exact=True)

    # What information is ------------------------------------------------------

    def test_is_not_negative_and_not_above_the_entropies(self) -> None:
        """0 <= I(T;Y) <= H(Y), I(T;Y) <= I(X;T) <= H(X), and I(X;T) <= H(T), as far as the kinds promise."""
        for case in self._cases():
            values, H_X, H_Y = self._estimate(case), case.probe.H_X, case.probe.H_Y
            for low, high, what in (
                (0.0, "I_XT", "I(X;T) >= 0"),
                (0.0, "I_TY", "I(T;Y) >= 0"),
                ("I_XT", H_X, f"I(X;T) <= H(X) = {H_X}"),
                ("I_TY", H_Y, f"I(T;Y) <= H(Y) = {H_Y}"),
                ("I_TY", "I_XT", "I(T;Y) <= I(X;T)"),
                ("I_XT", "H_T", "I(X;T) <= H(T)"),
                ("I_TY", "H_T", "I(T;Y) <= H(T)"),
            ):
                self._at_most(values, low, high, f"{what}, with {case}")

    def test_a_layer_knows_no_more_of_the_label_than_the_input(self) -> None:
        """Data processing: I(T;Y) <= I(X;Y), for what is exact or a lower bound."""
        self._informations("exact", "lower")
        for case in self._cases():
            most = case.probe.I_XY
            self._at_most(self._estimate(case), "I_TY", most, f"I(T;Y) <= I(X;Y) = {most}, with {case}")

    def test_a_layer_without_one_of_its_units_knows_no_more(self) -> None:
        """Data processing: a function of T has no more information than T, where that is exact."""
        exact, case = self._informations("exact"), self._case()
        # Every unit has the same values, in another order: what is taken from the values of a layer or of a unit
        # (its range, its quantiles) does not change with the units.
        rng, values = np.random.default_rng(2), case.t[0, :, 0]
        t = np.stack([rng.permutation(values) for _ in range(max(self.units, 2))], axis=-1)
        whole, part = self._estimate(case.of(t)), self._estimate(case.of(t[:, :-1]))
        for quantity in exact:
            less = np.all(part[quantity.name] <= whole[quantity.name] + self._tolerance(quantity))
            got = f"{part[quantity.name]} > {whole[quantity.name]}"
            self._hold(less, f"{quantity.name} of a layer without its last unit at most that of the layer", got)

    def test_a_constant_layer_knows_nothing(self) -> None:
        """A constant T gives 0: a lower bound no more, an upper bound no less; or it is refused.

        An estimate may miss by chance or by 1/sqrt(sample) bits, its bias.
        """
        case = self._case()
        try:
            values = self._estimate(case.of(np.full_like(case.t, 0.25)))
        except (ActivationError, ParameterError):
            return
        for quantity in self._informations(*get_args(Kind)):
            kind, value = self._kind(quantity), values[quantity.name]
            chance = self._chance(quantity.name, values)
            bias = 1 / sqrt(self.samples) if kind == "estimate" or chance is None else 0.0
            most = np.maximum(bias, 0.0 if chance is None else chance) + self._tolerance(quantity)
            above, below = kind != "upper" and np.any(value > most), kind != "lower" and np.any(value < -most)
            self._hold(not (above or below), f"{quantity.name} of a constant layer to be 0 ({kind})", value)

    def test_gives_the_known_truths(self) -> None:
        """On every bed that it is held to it keeps what its kind claims; `ipstore.analysis.testing.trials` says how."""
        subject = self.subject
        if not subject.truths:
            raise SkipTest(f"{subject.name} declares no bed in `truths`")
        for name in subject.truths:
            bed = truths.get(name)
            held = [quantity for quantity in subject.quantities if quantity.name in bed.truth]
            self._hold(bool(held), f"a quantity whose truth is known on {name!r}", f"only {list(bed.truth)} known")
            trial = run(subject, bed, samples=500, repeats=5, random_state=0)
            for quantity in held:
                verdict, reason = judge(bed.truth[quantity.name], trial, quantity.name)
                claim = f"{quantity.name} on the bed {name!r} to be {trial.kinds[quantity.name]}"
                self._hold(verdict != "breach", claim, reason)

    # What it refuses ----------------------------------------------------------

    def test_refuses_activations_that_are_not_finite(self) -> None:
        """NaN and the infinities are an ActivationError on arrays, and NaN for that cell alone in a plane."""
        case = self._case(cells=(1, 4))
        t, there = case.t.copy(), self._estimate(case.of(case.t[:, :1]))
        for cell, value in enumerate((np.nan, np.inf, -np.inf), start=1):
            t[0, cell, 3, 0] = value
            spoilt = case.of(t[0, cell])
            self._refused(
                lambda spoilt=spoilt: self._estimate(spoilt),  # type: ignore[misc]  # binds it now
                ActivationError,
                f"an activation of {value} refused",
            )
        got = {str(name): array.to_numpy() for name, array in self._plane(t, case).data_vars.items()}
        for cell in (1, 2, 3):
            self._spoilt(got, f"an activation of {t[0, cell, 3, 0]}", cell)
        self._beside(there, got, "activations of NaN and infinity")

    def test_huge_activations_are_answered_or_refused(self) -> None:
        """A network that diverges has activations near 1e30 before NaN: they take no other cell along."""
        case = self._case(cells=(1, 2))
        there = self._estimate(case)
        t = case.t.copy()
        t[0, 1] *= np.float32(1e30)
        try:
            got = self.subject.apply(t, case.probe.arguments, self.subject.resolve(self.params, case.probe))
        except Exception as error:
            raise AssertionError(
                f"{self.subject.name}: expected a number or NaN for activations near 1e30; got {error!r}"
            ) from error
        self._beside(there, got, "activations near 1e30")

    def test_two_samples_are_answered_or_refused(self) -> None:
        """The smallest probe gives a number, or a ParameterError or ActivationError that says what is needed."""
        case = Case(np.array([[-0.5, 0.25], [0.5, 0.75]], np.float32), np.eye(2))
        try:
            values = self._estimate(case)
        except (ParameterError, ActivationError) as error:
            self._hold(len(str(error)) > 20, "a message on why two samples are not taken", error)
        else:
            first = values[self.subject.quantities[0].name]
            self._hold(not np.isnan(first), "a number for two samples", first)

    def test_refuses_labels_of_one_class(self) -> None:
        """Labels that do not vary are refused."""
        other = self._case().labelled(np.tile([1.0, 0.0], (self.samples, 1)))
        self._refused(lambda: self._estimate(other), ParameterError, "labels of one class refused")

    def test_refuses_shapes_that_disagree(self) -> None:
        """Samples are as many in all arrays, and t is (..., sample, unit), or it is a ParameterError."""
        case, fewer = self._case(), self.samples - 1
        wrong: dict[str, tuple[Any, ...]] = {
            "fewer samples in t": (case.t[..., 1:, :], case.p_y_given_x),
            "t without units": (case.t[..., :0], case.p_y_given_x),
            "t of one dimension": (case.t[0, :, 0], case.p_y_given_x),
            "p_y_given_x of one dimension": (case.t, case.p_y_given_x[:, 0]),
            "fewer x_id": (case.t, case.p_y_given_x, np.arange(fewer)),
            "fewer p_x": (case.t, case.p_y_given_x, None, np.full(fewer, 1 / fewer)),
        }
        for what, given in wrong.items():
            self._refused(
                lambda given=given: self.subject(*given, **self.params),  # type: ignore[misc]  # binds it now
                ParameterError,
                f"{what} refused",
            )

    def test_refuses_activations_that_are_no_floats(self) -> None:
        """Signed integers, booleans and complex numbers are no activations; unsigned are codes, if it reads those."""
        case = self._case()
        for dtype in (np.int64, np.bool_, np.complex64, *(() if self.subject.read_codes else (np.uint8,))):
            other = case.of((10 * abs(case.t)).astype(dtype))
            self._refused(
                lambda other=other: self._estimate(other),  # type: ignore[misc]  # binds it now
                ActivationError,
                f"activations of {np.dtype(dtype)} refused",
            )


def _outside(parameter: Parameter) -> list[Any]:
    """Give values that the parameter does not allow."""
    match parameter:
        case Integer(low=low, high=high):
            return [low - 1, high + 1, low + 0.5, "many", True]
        case Number(low=low, high=high):
            return [*(end for end in (low, high) if isfinite(end)), np.nan, np.inf, "much", True]
        case Choice():
            return ["no such word", 3]
        case Interval():
            return [(1.0, 1.0), (0.0, np.inf), (1.0, 2.0, 3.0), "no such word", 3]
        case _:
            return [object()]
