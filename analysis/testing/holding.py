"""How an estimator is held to its contract: the cases it is shown, comparisons, and failures that say who and what.

Failures are raised, not asserted: pytest rewrites no assertions outside the tests, and ``python -O`` drops them.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar
from unittest import SkipTest

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import Estimator, Kind, Quantity
from ipstore.analysis.estimators.registry import get
from ipstore.analysis.testing.cases import Case
from ipstore.analysis.testing.trials import standard_error
from ipstore.errors import ParameterError

__all__ = ["DIMS", "FEATURES", "Holding", "Values"]

Values = Mapping[str, NDArray[np.float64]]

DIMS = ("epoch", "seed", "sample", "layer_unit")
"""Dimensions of the activations of one layer of a run."""

FEATURES = ("soft", "weighted", "repeated")
"""What inputs can be beside plain, and what an estimator may refuse: soft labels, weights, an input twice."""

_CHANCE = 6
"""Standard errors that two results may lie apart: two in a thousand million do."""


class Holding:
    """The means of `ipstore.analysis.testing.EstimatorContract`, whose docstring has the attributes."""

    estimator: ClassVar[str | Estimator]
    params: ClassVar[Mapping[str, Any]] = {}
    samples: ClassVar[int] = 64
    units: ClassVar[int] = 3
    tolerance: ClassVar[float | None] = None

    @property
    def subject(self) -> Estimator:
        """The estimator that is held to the contract."""
        return self.estimator if isinstance(self.estimator, Estimator) else get(self.estimator)

    def activations(self, y: NDArray[np.int64], leading: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
        """Give the layers that the estimator is shown, ``(*leading, sample, unit)``, for classes `y` (sample,).

        By default tanh layers in which the classes overlap. Equal arguments must give equal activations.
        """
        return np.asarray(np.tanh(rng.normal(0, 1, (*leading, len(y), self.units)) + (y - y.mean())[:, None]))

    # The cases ----------------------------------------------------------------

    def _case(self, *features: str, cells: tuple[int, ...] = (1,)) -> Case:
        """Give some cells of samples that have some of `FEATURES`."""
        rng = np.random.default_rng(0)
        number = np.arange(self.samples)
        x = number // 2 if "repeated" in features else number
        y = rng.permutation(np.arange(x.max() + 1) % 3)
        rows = np.eye(3)[y]
        if "soft" in features:
            rows = 0.6 * rows + 0.4 * rng.dirichlet([1, 1, 1], len(rows))
        p_x = rng.dirichlet(np.full(self.samples, 2.0)) if "weighted" in features else None
        t = np.asarray(self.activations(y[x], cells, np.random.default_rng(3)), np.float32)
        return Case(t, rows[x], x if "repeated" in features else None, p_x)

    def _takes(self, case: Case) -> bool:
        try:
            self.subject.resolve(self.params, case.probe)
        except ParameterError:
            return False
        return True

    def _cases(self, cells: tuple[int, ...] = (1,)) -> list[Case]:
        """Give the plain case, and the one with all features that it takes together, or those with one each."""
        features = [name for name in FEATURES if self._takes(self._case(name))]
        together = [tuple(features)] if self._takes(self._case(*features)) else [(name,) for name in features]
        return [self._case(*given, cells=cells) for given in dict.fromkeys([(), *together])]

    def _taken(self, *features: str) -> list[Case]:
        """Give the case with these features, and the one with all, as far as they are taken."""
        cases = [case for case in (self._case(*features), self._case(*FEATURES)) if self._takes(case)]
        if not cases:
            raise SkipTest(f"{self.subject.name} refuses inputs that are {' and '.join(features)}")
        return cases

    # The estimator at work ----------------------------------------------------

    def _estimate(self, case: Case) -> dict[str, NDArray[np.float64]]:
        return self.subject(*case.arguments, **self.params)

    def _plane(self, t: Any, case: Case) -> xr.Dataset:
        """Estimate over a labelled array, of NumPy or of Dask, lazily if of Dask."""
        array = xr.DataArray(t, dims=DIMS, name="layer")
        with self._named() as name:
            plane: xr.Dataset = array.ip.estimate(name, case.p_y_given_x, case.x_id, case.p_x, **self.params)
        names = {quantity.name for quantity in self.subject.quantities if not quantity.of_samples}
        self._hold(names <= set(plane.data_vars), f"{sorted(names)} in a plane", sorted(map(str, plane.data_vars)))
        return plane

    @contextmanager
    def _named(self) -> Iterator[str]:
        """Give a name by which the registry finds the estimator."""
        if isinstance(self.estimator, str):
            yield self.estimator
            return
        module = ModuleType("_ipstore_held_estimator")
        module.estimator = self.estimator  # type: ignore[attr-defined]  # a module of our own making
        sys.modules[module.__name__] = module
        try:
            yield f"{module.__name__}:estimator"
        finally:
            del sys.modules[module.__name__]

    def _kind(self, quantity: Quantity) -> Kind:
        return self.subject.kind_of(quantity, self.subject.resolve(self.params, self._case().probe))

    def _informations(self, *kinds: str) -> list[Quantity]:
        """Give I_XT, I_TY and H_T, as far as it gives them and they are of these kinds; skip if none is."""
        found = [q for q in self.subject.quantities if q.name in ("I_XT", "I_TY", "H_T") and self._kind(q) in kinds]
        if not found:
            raise SkipTest(f"{self.subject.name} gives nothing that is {' or '.join(kinds)}")
        return found

    # Comparisons --------------------------------------------------------------

    def _hold(self, holds: bool | np.bool_, expected: str, got: object = "") -> None:
        """Fail unless it holds, with what was expected, of whom, and what came."""
        if not holds:
            came = f"; got {got}" if str(got) else ""
            raise AssertionError(f"{self.subject.name}: expected {expected}{came}")

    def _refused(self, call: Callable[[], object], error: type[Exception], expected: str) -> str:
        """Give the message of the error that `call` must raise."""
        try:
            got = f"no error but {call()}"
        except error as raised:
            return str(raised)
        except Exception as raised:
            got = f"{type(raised).__name__}: {raised}"
        raise AssertionError(f"{self.subject.name}: expected {expected}, by {error.__name__}; got {got}")

    def _tolerance(self, quantity: Quantity) -> float:
        if self.tolerance is not None:
            return self.tolerance
        return 1e-9 if self._kind(quantity) == "exact" else 1e-5

    def _chance(self, name: str, *results: Values) -> NDArray[np.float64] | None:
        """Bits that chance explains between results; None if it draws random numbers and does not say."""
        errors = np.array([values.get(standard_error(name), np.nan) for values in results])
        if np.isnan(errors).all():
            return None if "random_state" in self.subject.defaults else np.zeros(())
        return np.asarray(_CHANCE * np.sqrt(np.nansum(errors**2, axis=0)))

    def _same(self, expected: Values, got: Values, what: str) -> None:
        """Hold every quantity that came to be the same to the bit."""
        for name, value in got.items():
            same = np.array_equal(expected[name], value, equal_nan=True)
            self._hold(same, f"{what}, to the bit: {name} = {_full(expected[name])}", _full(value))

    def _close(self, expected: Values, got: Values, what: str) -> None:
        """Hold every quantity to be the same but for rounding."""
        for quantity in self.subject.quantities:
            a, b, most = expected[quantity.name], got[quantity.name], self._tolerance(quantity)
            close = np.allclose(a, b, rtol=0, atol=most, equal_nan=True)
            self._hold(close, f"{what}: {quantity.name} = {_full(a)} within {most:g}", _full(b))

    def _agree(self, there: Case, here: Case, what: str, *, exact: bool = False) -> None:
        """Hold every quantity (that is exact) to be the same in two cases, but for rounding and chance."""
        expected, got = self._estimate(there), self._estimate(here)
        held = False
        for quantity in self.subject.quantities:
            chance = self._chance(quantity.name, expected, got)
            if chance is None or (exact and self._kind(quantity) != "exact"):
                continue
            held = True
            a, b = expected[quantity.name], got[quantity.name]
            both = (a == b) | (np.isnan(a) & np.isnan(b))
            with np.errstate(invalid="ignore"):  # both infinite
                near = both | (abs(a - b) <= chance + self._tolerance(quantity))
            self._hold(near.all(), f"{what}: {quantity.name} = {_full(a)}", _full(b))
        if not held:
            raise SkipTest(f"{self.subject.name} draws random numbers and states no standard error")

    def _at_most(self, values: Values, low: str | float, high: str | float, what: str) -> None:
        """Hold one to be no more than the other, where both are given and their kinds promise it.

        What is exact or a lower bound cannot exceed what is exact or an upper bound of something larger.
        """
        quantities = {quantity.name: quantity for quantity in self.subject.quantities}
        allowance: Any = 0.0
        for side, kinds in ((low, ("exact", "lower")), (high, ("exact", "upper"))):
            if isinstance(side, str):
                if side not in quantities or self._kind(quantities[side]) not in kinds:
                    return
                chance = self._chance(side, values)
                allowance = allowance + self._tolerance(quantities[side]) + (0.0 if chance is None else chance)
        a = values[low] if isinstance(low, str) else np.float64(low)
        b = values[high] if isinstance(high, str) else np.float64(high)
        self._hold(np.all(a <= b + allowance), what, f"{low} {a if isinstance(low, str) else ''} > {b}")

    def _beside(self, there: Values, got: Values, what: str) -> None:
        """Hold cell (0, 0) to be what it was, to the bit."""
        first = {name: value[0, 0] for name, value in got.items()}
        expected = {name: there[name][0, 0] for name in first}
        self._same(expected, first, f"the same in a cell beside one with {what}")

    def _spoilt(self, got: Values, what: str, cell: int) -> None:
        """Hold cell (0, cell) to be NaN in the first quantity."""
        name = self.subject.quantities[0].name
        self._hold(np.isnan(got[name][0, cell]), f"NaN of {name} for a cell with {what}", got[name][0, cell])


def _full(values: NDArray[np.float64]) -> str:
    """Write values with all their digits."""
    return np.array2string(values, formatter={"float_kind": lambda value: np.format_float_positional(value, trim="0")})
