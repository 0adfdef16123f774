"""What an estimator declares and promises; validation that is common to all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.estimators.parameters import Parameter
from ipstore.analysis.probe import Probe
from ipstore.binning import MISSING, Binning
from ipstore.errors import ActivationError, ParameterError

__all__ = [
    "COVERAGE",
    "H_T",
    "I_TY",
    "I_TY_SE",
    "I_XT",
    "I_XT_SE",
    "N_CELLS",
    "RESERVED",
    "Encode",
    "Estimator",
    "Kernel",
    "Kind",
    "Quantity",
]

Kind = Literal["exact", "lower", "upper", "estimate"]
"""What a number is of the information that it is about: its value, a bound on it, or an estimate of it."""

RESERVED = frozenset(
    {
        *("epoch", "seed", "layer", "sample", "unit", "class"),
        *(
            "store",
            "run",
            "estimator",
            "layers",
            "every",
            "split",
            "target",
            "quantities",
            "population",
            "name",
            "again",
            "on_progress",
        ),
    }
)
"""Names that no parameter may have: dimensions, beside which a grid of parameters stands, and options of an
analysis."""


@dataclass(frozen=True)
class Quantity:
    """Something an estimator gives for each cell, that is for each (epoch, seed, layer).

    Parameters
    ----------
    name : str
        Name of the variable: ``"I_XT"``.
    long_name : str
        As a figure writes it: ``"I(X;T)"``.
    units : str
    kind : {"exact", "lower", "upper", "estimate"}, optional
        Where it differs from the kind of the estimator that gives it.
    of_samples : bool
        It says something only where the probe is a sample; of a population it is not reported.
    """

    name: str
    long_name: str
    units: str = "bits"
    kind: Kind | None = None
    of_samples: bool = False


I_XT = Quantity("I_XT", "I(X;T)")
I_TY = Quantity("I_TY", "I(T;Y)")
I_XT_SE = Quantity("I_XT_se", "standard error of I(X;T)", kind="estimate")
I_TY_SE = Quantity("I_TY_se", "standard error of I(T;Y)", kind="estimate")
H_T = Quantity("H_T", "H(T)")
N_CELLS = Quantity("n_cells", "distinct values of T", "1")
COVERAGE = Quantity("coverage", "Good-Turing coverage of p(t)", "1", kind="estimate", of_samples=True)


Kernel = Callable[..., Mapping[str, NDArray[np.float64]]]
"""The computation: ``kernel(t, p_y_given_x, *, x_id=None, p_x=None, **params)``, plain arrays in and out.

``t`` is (..., sample, unit), float16, float32 or float64, or unsigned integers where the estimator reads
codes; ``p_y_given_x`` is (sample, class) float64; ``x_id`` is (sample,) int64, numbers 0 to n - 1 of the
distinct inputs, None if all differ; ``p_x`` is (sample,) float64, None if all weigh the same. All are checked. It
gives each quantity over the leading dimensions of ``t``, information in bits.
"""

Encode = Callable[[NDArray[Any], NDArray[np.float64] | None, Mapping[str, Any]], tuple[NDArray[Any], NDArray[np.bool_]]]
"""What T is, where it has discrete values: ``encode(cells, p_x, params)`` gives codes (cell, sample, unit), and (cell,)
whether a cell cannot be taken.

Of cells (cell, sample, unit), the weights of the samples, None if they are equal, and parameters, settled. Codes are
integers that are not negative; samples whose rows of codes are equal have the same T.
"""


def _as_given(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    return params


@dataclass(frozen=True, eq=False)
class Estimator:
    """An estimator of information: a kernel and what it declares about itself.

    Calling it is calling the kernel with everything checked.

    Parameters
    ----------
    name : str
    version : int
        Raised whenever a result may change; stored results are known by it.
    kind : {"exact", "lower", "upper", "estimate"}
        What it gives of the variable that it defines (`binned`: of the binned layer) under the probe's p(x):
        the value itself, a bound on it, or an estimate from samples.
    summary : str
        One line.
    reference : str
        The paper, with the equation or section.
    kernel : callable
        See `Kernel`. Its signature gives the parameters' defaults.
    quantities : sequence of Quantity
        What it gives. A cell that it cannot take is NaN in the first of them, and no other cell is.
    parameters : sequence of Parameter
    refuses : mapping of str to str, optional
        Of ``I_XT`` and ``I_TY`` the one that it cannot honestly give, and why: a clause that fits after
        "because".
    settle : callable, optional
        From a full dict of parameters and the `Probe` to the parameters that will be used: refuses, with
        ParameterError, those that contradict one another or ask what cannot be answered on that probe, and
        fills in what follows from others or from the probe. Settling twice changes nothing.
    truths : mapping of str to mapping, optional
        The beds of `ipstore.analysis.testing.truths` that it is held to, each with the parameters to use there.
    kernel_names : mapping of str to str, optional
        From the name of a quantity to the kernel's own name for it, where that differs. So one kernel can
        serve several estimators; asked together with equal parameters, they are computed once.
    marks_nonfinite : bool
        The kernel itself gives NaN for a cell whose activations it cannot take. Otherwise it only ever sees
        cells of finite activations, and the others become NaN.
    read_codes : callable, optional
        For estimators that can work on stored bin codes: from the stored `Binning` and the parameters that
        were given to the parameters to use and, where codes must be merged, a table from old to new code.
        Raises ParameterError if those codes cannot answer. By default the estimator needs the activations.
    encode : callable, optional
        For estimators of a T of discrete values, of which other questions can then be asked: see `Encode`.
    """

    name: str
    version: int
    kind: Kind
    summary: str
    reference: str
    kernel: Kernel
    quantities: tuple[Quantity, ...] = (I_XT, I_TY)
    parameters: tuple[Parameter, ...] = ()
    refuses: Mapping[str, str] = field(default_factory=dict)
    settle: Callable[[dict[str, Any], Probe], dict[str, Any]] = _as_given
    truths: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kernel_names: Mapping[str, str] = field(default_factory=dict)
    marks_nonfinite: bool = False
    read_codes: Callable[[Binning, dict[str, Any]], tuple[dict[str, Any], NDArray[np.uint8] | None]] | None = None
    encode: Encode | None = None
    defaults: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        if taken := RESERVED.intersection(parameter.name for parameter in self.parameters):
            raise ParameterError(
                f"estimator {self.name!r} calls a parameter {', '.join(sorted(taken))}, which means something else "
                "in an analysis; give it another name"
            )
        given = signature(self.kernel).parameters
        object.__setattr__(self, "defaults", {p.name: given[p.name].default for p in self.parameters})

    def resolve(self, params: Mapping[str, Any], probe: Probe) -> dict[str, Any]:
        """Give all parameters, checked, with defaults filled in.

        Parameters
        ----------
        params : mapping
            Those that were given.
        probe : Probe
            On which they will be used.

        Raises
        ------
        ParameterError
            If one does not exist, lies outside its range, or contradicts another or the probe.
        """
        return self.settle(self.defaults | self.check(params), probe)

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Check the parameters that were given, each for itself.

        Raises
        ------
        ParameterError
            If one does not exist or lies outside its range.
        """
        return {name: self.parameter(name).check(value) for name, value in params.items()}

    def kind_of(self, quantity: Quantity, params: Mapping[str, Any]) -> Kind:
        """Say what a quantity is under settled parameters: a count that is corrected is no longer exact."""
        corrected = params.get("correction", "plugin") != "plugin"
        return quantity.kind or ("estimate" if corrected else self.kind)

    def parameter(self, name: str) -> Parameter:
        """Find a parameter by name.

        Raises
        ------
        ParameterError
            If there is none of that name.
        """
        declared = {parameter.name: parameter for parameter in self.parameters}
        if name not in declared:
            raise ParameterError(
                f"estimator {self.name!r} has no parameter {name!r}; it has {', '.join(declared) or 'none'}"
            )
        return declared[name]

    def __call__(
        self,
        t: ArrayLike,
        p_y_given_x: ArrayLike,
        x_id: ArrayLike | None = None,
        p_x: ArrayLike | None = None,
        *,
        population: bool = True,
        **params: Any,
    ) -> dict[str, NDArray[np.float64]]:
        """Estimate on arrays.

        Parameters
        ----------
        t : (..., sample, unit) float16, float32 or float64
            Activations; or unsigned integers, codes of bins, if the estimator reads codes.
        p_y_given_x : (sample, class)
            Probabilities of the classes given the input; rows sum to one.
        x_id : (sample,), optional
            Equal entries mean equal inputs. By default every sample is an input of its own.
        p_x : (sample,), optional
            Weight of each sample, summing to one. By default they are equal.
        population : bool, keyword only
            Whether the samples are all there is, or were drawn from more: some estimators correct for that.
        **params
            Parameters of the estimator.

        Returns
        -------
        dict of str to float64 array
            Each of its quantities, over the leading dimensions of `t`; information in bits.

        Raises
        ------
        ParameterError
            If a parameter, a shape or a probability is not what it must be.
        ActivationError
            If activations are NaN or infinite, or of a type that the estimator cannot take.
        """
        probe = Probe.of(p_y_given_x, x_id, p_x, population=population)
        values = self.apply(np.asarray(t), probe.arguments, self.resolve(params, probe))
        refused = np.isnan(values[self.quantities[0].name])
        if refused.any():
            where = f", first at index {tuple(map(int, np.argwhere(refused)[0]))}" if refused.ndim else ""
            raise ActivationError(
                f"activations hold NaN or infinite values in {np.count_nonzero(refused)} of {refused.size} "
                f"cells{where}; estimator {self.name!r} needs finite ones. Leave those cells out"
            )
        return values

    def apply(
        self, t: NDArray[Any], probe: Mapping[str, NDArray[Any]], params: Mapping[str, Any]
    ) -> dict[str, NDArray[np.float64]]:
        """Estimate where everything but the activations is checked already.

        Parameters
        ----------
        t : (..., sample, unit)
        probe : mapping
            `Probe.arguments`.
        params : mapping
            As `resolve` gives them.

        Returns
        -------
        dict of str to float64 array
            Each quantity; NaN for a cell with activations that the estimator cannot take.

        Raises
        ------
        ParameterError, ActivationError
            If the shape or the type of `t` is not what it must be.
        """
        return self.pick(self.compute(t, probe, params))

    def compute(
        self, t: NDArray[Any], probe: Mapping[str, NDArray[Any]], params: Mapping[str, Any]
    ) -> dict[str, NDArray[np.float64]]:
        """Do what `apply` does, under the kernel's own names; `pick` takes this estimator's quantities from it."""
        self._check_activations(t, samples=len(probe["p_y_given_x"]))
        if self.marks_nonfinite:
            return self._check_given(self.kernel(t, **probe, **params), t.shape[:-2])
        finite = (t != MISSING if t.dtype == np.uint8 else np.isfinite(t)).all(axis=(-2, -1))
        given = self._check_given(self.kernel(t[finite], **probe, **params), (int(np.count_nonzero(finite)),))
        first = self.kernel_names.get(self.quantities[0].name, self.quantities[0].name)
        if (lost := np.count_nonzero(np.isnan(given[first]))) > 0:
            raise ValueError(
                f"its kernel gave NaN as {first} of {lost} of {given[first].size} cells of finite activations"
            )
        values = {name: np.full(finite.shape, np.nan) for name in given}
        for name, value in values.items():
            value[finite] = given[name]
        return values

    def _check_given(
        self, given: Mapping[str, NDArray[np.float64]], shape: tuple[int, ...]
    ) -> dict[str, NDArray[np.float64]]:
        """Hold a kernel to its word: every quantity is there, and has one value a cell."""
        for quantity in self.quantities:
            name = self.kernel_names.get(quantity.name, quantity.name)
            if name not in given:
                raise ValueError(f"its kernel gave no {name}, but only {', '.join(given) or 'nothing'}")
            if np.shape(given[name]) != shape:
                raise ValueError(f"its kernel gave {name} of shape {np.shape(given[name])} for cells of shape {shape}")
        return dict(given)

    def pick(self, computed: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """Take the quantities of this estimator from what `compute` gave."""
        return {
            quantity.name: computed[self.kernel_names.get(quantity.name, quantity.name)] for quantity in self.quantities
        }

    def _check_activations(self, t: NDArray[Any], samples: int) -> None:
        if t.ndim < 2 or t.shape[-1] == 0:
            raise ParameterError(f"t must be a (..., sample, unit) array but has shape {t.shape}")
        if t.shape[-2] != samples:
            raise ParameterError(f"t has {t.shape[-2]} samples (shape {t.shape}) but p_y_given_x has {samples}")
        if t.dtype.kind == "u" and self.read_codes is None:
            raise ActivationError(
                f"estimator {self.name!r} needs activations but got codes of bins ({t.dtype}); "
                "use one that reads codes, such as 'binned', or capture at level full or half"
            )
        if t.dtype.kind != "u" and t.dtype not in (np.float16, np.float32, np.float64):
            raise ActivationError(
                f"activations must be float16, float32 or float64, or unsigned codes, but got {t.dtype}"
            )
