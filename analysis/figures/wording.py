"""What figures say: titles, estimators with their parameters, numbers."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

__all__ = [
    "count",
    "estimator",
    "heading",
    "kind",
    "kind_words",
    "label_words",
    "limit_words",
    "listed",
    "parameters",
    "places_of",
    "plain",
    "saturation_words",
    "source",
    "wrap",
]

_WRAP = 118
"""Characters of a title line that fit a figure of 880 pixels."""

_KINDS = {"exact": "exact", "lower": "lower bound", "upper": "upper bound", "estimate": "estimate"}


def count(number: int, noun: str) -> str:
    """Write "1 seed", "20 seeds"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def plain(value: Any) -> str:
    """Write a parameter, numbers without idle zeros."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def listed(words: Sequence[str]) -> str:
    """Write "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def wrap(lines: Sequence[str], width: int = _WRAP) -> str:
    """Break lines that are too long."""
    return "\n".join(piece for line in lines for piece in textwrap.wrap(line, width))


def parameters(plane: xr.Dataset) -> Mapping[str, Any]:
    """Give the estimator's parameters; where one value of a grid was selected, that value and not the grid."""
    given: Mapping[str, Any] = plane.attrs["parameters"]
    return {
        name: plane[name].values.item() if name in plane.coords and plane[name].ndim == 0 else value
        for name, value in given.items()
    }


def places_of(plane: xr.Dataset) -> list[str]:
    """Write where on the axes of a sweep a plane was taken: its coordinates without a dimension, save parameters."""
    return [
        f"{name}={plain(coord.item())}"
        for name, coord in plane.coords.items()
        if coord.ndim == 0 and name not in plane.attrs["parameters"]
    ]


def estimator(plane: xr.Dataset, *, without: str = "") -> str:
    """Write the estimator and its parameters: "binned (bins=30, rule=equal)"."""
    given = {name: value for name, value in parameters(plane).items() if value is not None and name != without}
    words = ", ".join(f"{name}={plain(value)}" for name, value in given.items())
    return str(plane.attrs["estimator"]) + (f" ({words})" if words else "")


def kind(plane: xr.Dataset, name: str) -> str:
    """Tell what the quantity `name` is: "exact", "lower", "upper" or "estimate"; "" if the plane does not say."""
    return str(plane[name].attrs.get("kind", plane.attrs.get("estimator_kind", "")))


def kind_words(plane: xr.Dataset) -> str:
    """Write the kinds of the quantities: "upper bound", or for each if they differ."""
    names = {"I_XT": "I(X;T)", "I_TY": "I(T;Y)"}
    kinds = {names[name]: _KINDS.get(kind(plane, name), "") for name in names if name in plane}
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    return ", ".join(f"{name} {word}" for name, word in kinds.items())


def label_words(plane: xr.Dataset) -> str:
    """Write which Y, which p(y|x) and which samples the figure refers to."""
    attrs = plane.attrs
    if attrs.get("target") == "output":
        words = ["Y: the network's own answer"]
    else:
        words = [f"p(y|x): {attrs['labels']} labels, {limit_words(plane, 'I_XY')}"]
    if attrs.get("split", "all") != "all":
        words.append(f"{attrs['split']} samples only")
    return " · ".join(words)


def limit_words(plane: xr.Dataset, name: Literal["H_X", "I_XY"]) -> str:
    """Write the most that a quantity can be: H(X), which may be that of a sample only, or I(X;Y)."""
    value = float(plane.attrs[name])
    return f"{_inputs(plane)} = {value:.4g} bits" if name == "H_X" else f"I(X;Y) = {value:.3f} bits"


def saturation_words(plane: xr.Dataset, tolerance: float) -> str:
    """Write when a layer counts as saturated; estimates that are corrected for sampling can lie beyond H(X)."""
    beyond = " or beyond" if plane.attrs.get("probe") == "sample" else ""
    return f"mean I(X;T) within {tolerance:g} bits of {_inputs(plane)}{beyond}"


def _inputs(plane: xr.Dataset) -> str:
    return "H(X) of the sample" if plane.attrs.get("probe") == "sample" else "H(X)"


def source(plane: xr.Dataset) -> str:
    """Name the run, or the sweep if several runs were put together."""
    return f"{'sweep' if 'sweep' in plane.attrs else 'run'} {plane.attrs['source_run']}"


def heading(plane: xr.Dataset, title: str, seeds: str) -> str:
    """Say what is drawn: the run, p(y|x), the estimator with its parameters, and how many seeds."""
    details = " · ".join([label_words(plane), *places_of(plane), f"estimator: {estimator(plane)}", seeds])
    return wrap([f"{title} · {source(plane)}", details])
