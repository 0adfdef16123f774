"""Estimators by name: those of this package, those that other packages register, and ``module:object``."""

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.estimators.base import Estimator
from ipstore.errors import EstimatorError, ParameterError, UnknownNameError

__all__ = ["GROUP", "available", "estimate", "get", "parse", "require"]

GROUP = "ipstore.estimators"
"""The entry-point group in which other packages register theirs: ``name = "module:object"``."""

_OURS = {
    "gaussian": "ipstore.analysis.estimators.gaussian:gaussian",
    "noisy": "ipstore.analysis.estimators.noisy:noisy",
    "kde_lower": "ipstore.analysis.estimators.kde:kde_lower",
    "kde_upper": "ipstore.analysis.estimators.kde:kde_upper",
    "binned": "ipstore.analysis.estimators.binned:binned",
    "discrete": "ipstore.analysis.estimators.discrete:discrete",
    "infonce": "ipstore.analysis.estimators.infonce:infonce",
    "quantised": "ipstore.analysis.estimators.quantised:quantised",
    "renyi": "ipstore.analysis.estimators.renyi:renyi",
    "smile": "ipstore.analysis.estimators.smile:smile",
    "variational": "ipstore.analysis.estimators.variational:variational",
    "knn": "ipstore.analysis.estimators.knn:knn",
}


def _homes() -> dict[str, str]:
    """Where each named estimator is found; no other package can take one of our names."""
    return {point.name: point.value for point in entry_points(group=GROUP)} | _OURS


def available() -> tuple[str, ...]:
    """Names of the estimators that `get` knows, sorted; none of them is loaded."""
    return tuple(sorted(_homes()))


def get(name: str) -> Estimator:
    """Find an estimator.

    Parameters
    ----------
    name : str
        One of `available`, or ``module:object``, which is imported.

    Raises
    ------
    UnknownNameError
        If there is none of that name, or no such module or object.
    EstimatorError
        If its module cannot be imported.
    ParameterError
        If what is there is no `Estimator`.
    """
    homes = _OURS if name in _OURS or ":" in name else _homes()  # asking the installed packages takes milliseconds
    if name not in homes and ":" not in name:
        raise UnknownNameError("estimator", name, homes)
    home = homes.get(name, name)
    module, _, path = home.partition(":")
    try:
        found = attrgetter(path)(import_module(module))
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}.")
        if name not in homes and (missing or isinstance(error, AttributeError | TypeError | ValueError)):
            raise UnknownNameError("estimator", name, _homes(), str(error)) from error
        raise EstimatorError(name, 0, f"import of {home!r}", f"{type(error).__name__}: {error}") from error
    if not isinstance(found, Estimator):
        raise ParameterError(f"{home!r} is a {type(found).__name__}; an estimator must be an {Estimator.__name__}")
    return found


def require(name: str, quantities: Iterable[str]) -> None:
    """Refuse to ask an estimator for what it does not give.

    Parameters
    ----------
    name : str
        One of `available`, or ``module:object``.
    quantities : iterable of str
        ``"I_XT"``, ``"I_TY"``, or another that some estimator gives.

    Raises
    ------
    UnknownNameError
        If there is no such estimator.
    ParameterError
        If it does not give one of them: says why, and which estimators do.
    """
    estimator = get(name)
    for quantity in quantities:
        if quantity in {given.name for given in estimator.quantities}:
            continue
        ours = {other: get(other).quantities for other in _OURS}
        others = [other for other, given in ours.items() if quantity in {each.name for each in given}]
        why = estimator.refuses.get(quantity)
        raise ParameterError(
            f"estimator {name!r} does not give {quantity}{f', because {why}' if why else ''}. "
            f"It gives {', '.join(given.name for given in estimator.quantities)}; "
            f"{quantity} is given by {', '.join(others) or 'no estimator of ipstore'}"
        )


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Read an estimator as the command line writes it: ``NAME`` or ``NAME:parameter=value,...``.

    ``NAME`` is one of `available` or ``module:object``. Values hold neither comma nor colon: two numbers are
    written ``low..high``, none is ``none``. So ``binned:bins=30,range=-1..1`` and ``binned:range=layer``.
    Several values, as in ``binned:bins=10,30,100,range=layer``, are a grid.

    Parameters
    ----------
    spec : str

    Returns
    -------
    name : str
    params : dict
        The parameters that were given, each of its declared type, or a list of those where there are several.

    Raises
    ------
    UnknownNameError
        If there is no such estimator.
    ParameterError
        If a parameter does not exist, is given twice, lies outside its range, or is not written
        ``parameter=value``.
    """
    head, _, tail = spec.rpartition(":")
    name, pairs = (head, tail.split(",")) if head and "=" in tail else (spec, [])
    estimator = get(name)
    texts: dict[str, list[str]] = {}
    for pair in pairs:
        before, equals, after = (part.strip() for part in pair.partition("="))
        if equals and before and after and before not in texts:
            texts[before] = [after]
        elif before and not equals and texts:  # the first part holds "=", so there is a parameter to go on with
            texts[next(reversed(texts))].append(before)
        else:
            raise ParameterError(f"parameters are written {name}:parameter=value,... each once, but got {spec!r}")
    params: dict[str, Any] = {}
    for key, several in texts.items():
        parameter = estimator.parameter(key)
        values = [parameter.parse(text) for text in several]
        params[key] = parameter.grid(values) if len(values) > 1 else values[0]
    return name, params


def estimate(
    name: str,
    t: ArrayLike,
    p_y_given_x: ArrayLike,
    x_id: ArrayLike | None = None,
    p_x: ArrayLike | None = None,
    *,
    population: bool = True,
    **params: Any,
) -> dict[str, NDArray[np.float64]]:
    """Estimate information on arrays, with an estimator by name.

    Parameters
    ----------
    name : str
        One of `available`, or ``module:object``.
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
        Each quantity of the estimator, over the leading dimensions of `t`; information in bits.

    Raises
    ------
    UnknownNameError
        If there is no such estimator.
    ParameterError
        If a parameter, a shape or a probability is not what it must be.
    ActivationError
        If activations are NaN or infinite, or of a type that the estimator cannot take.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.array([[-0.9], [-0.9], [0.9], [0.9]], np.float32)
    >>> estimate("binned", t, [[1, 0], [1, 0], [0, 1], [0, 1]])["I_TY"]
    array(1.)
    """
    return get(name)(t, p_y_given_x, x_id, p_x, population=population, **params)
