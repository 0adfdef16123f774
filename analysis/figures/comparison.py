"""The information plane under several estimators, side by side on the same axes."""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from ipstore.analysis.figures.planes import SATURATION, load, prepare, split, without_nan
from ipstore.analysis.figures.sides import Side, side_by_side
from ipstore.analysis.figures.wording import estimator, kind_words, label_words, limit_words, listed, places_of, source
from ipstore.errors import ParameterError

__all__ = ["compare"]


def compare(*planes: xr.Dataset, layers: Sequence[str] | None = None, saturation: float = SATURATION) -> Any:
    """Draw the trajectories of several planes side by side: as many answers to the same question.

    All panels have the same axes and one colour scale of the epochs; each is titled by its estimator, its
    parameters and what its numbers are: exact, a bound or an estimate.

    Parameters
    ----------
    *planes : Dataset
        Two or more, each with I_XT and I_TY (epoch, seed, layer), in bits, and its attrs; see `information_plane`.
        One with a grid of parameters counts as one for each of its points.
    layers : sequence of str, optional
        Which layers; all by default.
    saturation : float
        A layer whose mean I(X;T) lies within so many bits of H(X) is marked as saturated.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        Fewer than two planes; one of them has no I(X;T), or is no information plane.
    UnknownNameError
        A layer that a plane does not have.
    """
    every = [one for plane in load(*planes) for one in split(plane)]
    if len(every) < 2:
        raise ParameterError(
            f"compare sets planes side by side and needs two or more, but got {len(every)}; give one for each "
            "estimator, as compare(binned, kde), or one with a grid of a parameter"
        )
    _refuse_halves(every)
    return side_by_side([_side(plane, layers) for plane in every], saturation, title="Information plane, side by side")


def _refuse_halves(planes: Sequence[Any]) -> None:
    """Refuse planes of which one axis is missing."""
    for name, other in (("I_XT", "I_TY"), ("I_TY", "I_XT")):
        without = [plane for plane in planes if isinstance(plane, xr.Dataset) and name not in plane and other in plane]
        if without:
            names = listed(sorted({repr(plane.attrs.get("estimator", "one plane")) for plane in without}))
            raise ParameterError(
                f"compare draws I_XT against I_TY, but of the planes given, those of {names} have {other} only; leave "
                f"them out, or draw {other} alone, over a grid of a parameter, with `sensitivity`"
            )


def _side(plane: xr.Dataset, layers: Sequence[str] | None) -> Side:
    """Prepare a panel: titled by the estimator and the kind of its numbers, over its parameters."""
    shown, seeds, notes = without_nan(prepare(plane, layers))
    words = estimator(plane)
    name, _, given = words.partition(" (")
    facts = {
        "run": source(shown),
        "bounds": f"{label_words(shown)}, {limit_words(shown, 'H_X')}",
        "seeds": seeds,
    }
    title = " · ".join(part for part in (name, kind_words(shown)) if part)
    places = places_of(shown)
    given = ", ".join([part for part in (given.removesuffix(")"), *places) if part])
    return Side(shown, ", ".join([words, *places]), title, given, facts, notes)
