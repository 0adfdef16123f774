"""Estimators by name: those of this package, those that other packages register, and ``module:object``."""

from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.estimators.base import Estimator
from ipstore.errors import ParameterError, UnknownNameError

__all__ = ["GROUP", "available", "estimate", "get", "parse"]

GROUP = "ipstore.estimators"
"""The entry-point group in which other packages register theirs: ``name = "module:object"``."""

_OURS = {
    "binned": "ipstore.analysis.estimators.binned:binned",
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
    ParameterError
        If what is there is no `Estimator`.
    """
    homes = _OURS if name in _OURS else _homes()  # asking the installed packages takes milliseconds
    if name not in homes and ":" not in name:
        raise UnknownNameError("estimator", name, homes)
    home = homes.get(name, name)
    module, _, path = home.partition(":")
    try:
        found = attrgetter(path)(import_module(module))
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}.")
        if name not in homes and (missing or isinstance(error, AttributeError | TypeError | ValueError)):
            raise UnknownNameError("estimator", name, homes) from error
        error.add_note(f"while loading the estimator {name!r} from {home!r}")
        raise
    if not isinstance(found, Estimator):
        raise ParameterError(f"{home!r} is a {type(found).__name__}; an estimator must be an {Estimator.__name__}")
    return found


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Read an estimator as the command line writes it: ``NAME`` or ``NAME:parameter=value,...``.

    ``NAME`` is one of `available` or ``module:object``. Values hold neither comma nor colon: two numbers are
    written ``low..high``, none is ``none``. So ``binned:bins=30,range=-1..1`` and ``binned:range=layer``.

    Parameters
    ----------
    spec : str

    Returns
    -------
    name : str
    params : dict
        The parameters that were given, each of its declared type.

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
    texts: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not (key and equals and text) or key in texts:
            raise ParameterError(f"parameters are written {name}:parameter=value,... each once, but got {spec!r}")
        texts[key] = text
    return name, estimator.parse(texts)


def estimate(
    name: str,
    t: ArrayLike,
    p_y_given_x: ArrayLike,
    x_id: ArrayLike | None = None,
    p_x: ArrayLike | None = None,
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
    return get(name)(t, p_y_given_x, x_id, p_x, **params)
