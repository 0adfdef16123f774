"""What is asked of a run: an estimator with parameters, or with a grid of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Literal

import numpy as np
import xarray as xr

from ipstore.analysis.estimators.base import Estimator
from ipstore.analysis.estimators.registry import get, parse
from ipstore.analysis.ib.consistency import self_consistent
from ipstore.errors import ParameterError

__all__ = ["About", "Ask", "Question", "expand", "read", "stack"]

Ask = str | tuple[str, Mapping[str, Any]]
"""An estimator as a person names it: ``"binned:bins=10,30"``, or name and parameters."""


About = Literal["information", "bound"]
"""What is asked of a layer."""


def _estimator(name: str, about: About) -> Estimator:
    return get(name) if about == "information" else self_consistent(get(name))


@dataclass(frozen=True, eq=False)
class Question:
    """One estimator with one set of parameters.

    Parameters
    ----------
    name : str
        As it was asked for: a registered name, or ``module:object``.
    params : mapping
        The parameters that were given, each a single value.
    about : {"information", "bound"}
        Whether information is asked for, or how the T of that estimator stands to the information bottleneck.
    """

    name: str
    params: Mapping[str, Any]
    about: About = "information"

    @property
    def estimator(self) -> Estimator:
        """The estimator of that name, or what asks of its T."""
        return _estimator(self.name, self.about)


def read(ask: Ask) -> tuple[str, dict[str, Any]]:
    """Give name and parameters of what was asked.

    Raises
    ------
    UnknownNameError
        If there is no such estimator.
    ParameterError
        If a parameter does not exist or lies outside its range.
    """
    name, params = parse(ask) if isinstance(ask, str) else ask
    get(name)
    return name, dict(params)


def expand(
    name: str, params: Mapping[str, Any], about: About = "information"
) -> tuple[dict[str, list[Any]], list[Question]]:
    """Give the grid that is asked for, and every question in it.

    Parameters
    ----------
    name : str
    params : mapping
        A list (for an interval: of anything but two numbers), range or array is a grid of that parameter.
    about : {"information", "bound"}

    Returns
    -------
    grid : dict of str to list
        The values of each parameter that has several, in the order given; empty if it is one question.
    questions : list of Question
        In the order of `itertools.product` over the grid.

    Raises
    ------
    UnknownNameError, ParameterError
    """
    estimator = _estimator(name, about)
    grid = {key: values for key, value in params.items() if (values := estimator.parameter(key).grid(value))}
    if "tol" in grid and about == "bound":
        raise ParameterError(f"tol says how closely one curve is known, so it has one value, but got {grid['tol']}")
    single = {key: value for key, value in params.items() if key not in grid}
    estimator.check(single)
    points = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    return grid, [Question(name, single | point, about) for point in points]


def stack(grid: Mapping[str, Sequence[Any]], planes: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put the answers to `expand` together along a dimension for each parameter of the grid.

    Parameters
    ----------
    grid : mapping of str to sequence
        As `expand` gives it.
    planes : sequence of Dataset
        One for each question, in that order.

    Returns
    -------
    Dataset
        With the parameters of the grid as leading dimensions and coordinates: numbers, or words ("-1..1",
        "none") where not all are numbers. The attribute ``parameters`` lists their values, and those of any other
        parameter that follows from them.

    Raises
    ------
    ParameterError
        If there are no such planes.
    """
    if len(planes) != prod(map(len, grid.values())):
        raise ParameterError(f"a grid over {dict(grid)} has one plane for each point, but got {len(planes)}")
    shared = [name for name, array in planes[0].data_vars.items() if "layer" not in array.dims]
    stacked = [plane.drop_vars(shared) for plane in planes]
    for key, values in reversed(list(grid.items())):
        index = xr.Variable(key, _labels(values))
        stacked = [
            xr.concat(stacked[start : start + len(values)], dim=index, join="exact", combine_attrs="override")
            for start in range(0, len(stacked), len(values))
        ]
    (whole,) = stacked
    whole = whole.assign({name: planes[0][name] for name in shared})
    if not grid:
        return whole
    settled = {key: [plane.attrs["parameters"][key] for plane in planes] for key in whole.attrs["parameters"]}
    several = {
        key: [each for i, each in enumerate(values) if each not in values[:i]] for key, values in settled.items()
    }
    listed = {key: [_plain(value) for value in values] for key, values in grid.items()}
    for name, array in whole.data_vars.items():
        kinds = {plane[name].attrs.get("kind") for plane in planes}
        if len(kinds) > 1:  # some points are counted and some corrected, say: no more can be claimed of all
            array.attrs["kind"] = "estimate"
    used = {key: values[0] if len(values) == 1 else values for key, values in several.items()}
    return whole.assign_attrs(parameters=used | listed)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _labels(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    if all(isinstance(value, int | float) for value in values):
        return np.array(values)
    return np.array([_label(value) for value in values])


def _label(value: Any) -> str:
    """Write a value as the command line does."""
    if isinstance(value, tuple):
        return "..".join(str(end).removesuffix(".0") for end in value)
    return str(value).lower()
