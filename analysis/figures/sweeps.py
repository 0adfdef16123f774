"""The information plane at every value of a setting, side by side: the paper's figures 3 and 5."""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from ipstore.analysis.figures.along import along
from ipstore.analysis.figures.planes import SATURATION, without_nan
from ipstore.analysis.figures.sides import Side, side_by_side
from ipstore.analysis.figures.wording import count, estimator, kind_words, label_words, places_of, source
from ipstore.errors import ParameterError

__all__ = ["sweep"]

_MOST = 12
"""Panels that a page can hold at a size at which they can be read."""


def sweep(plane: xr.Dataset, layers: Sequence[str] | None = None, *, saturation: float = SATURATION) -> Any:
    """Draw the trajectories of every layer at each value along an axis of a sweep, one panel per value.

    All panels have the same axes and one colour scale of the epochs. A layer is drawn where the run has it.

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY (axis, epoch, seed, layer), in bits, at two values to twelve, with the attrs of
        `information_plane`: as `ipstore.analysis.sweep` puts planes together. NaN where the run at a value has no such
        layer, epoch or seed.
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
        `plane` has no such axis or several, too few or too many values along it, or is no information plane.
    UnknownNameError
        A layer that the plane does not have.

    References
    ----------
    Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, figures 3 (training data) and 5 (hidden layers).
    """
    apart = along(plane, layers, "sweep")
    if len(apart.planes) > _MOST:
        raise ParameterError(
            f"sweep has room for {_MOST} panels, but {apart.axis} has {len(apart.planes)} values; choose some, as with "
            f"plane.sel({apart.axis}=[...]), or draw `converged`, which takes any number"
        )
    one_network = len({one.sizes["layer"] for one in apart.planes}) == 1
    sides = []
    for text, one in zip(apart.values, apart.planes, strict=True):
        shown, seeds, notes = without_nan(one)
        facts = {
            "bounds": f"H(X) = {float(shown.attrs['H_X']):.4g} bits",
            "seeds": seeds,
            "epochs": _epochs(shown),
        }
        if not one_network:
            facts["layers"] = count(shown.sizes["layer"], "layer")
        sides.append(Side(shown, f"{apart.axis} {text}", f"{apart.axis} {text}", "", facts, notes))
    first = apart.planes[0]
    details = [label_words(first), *places_of(first), f"estimator: {estimator(first)}", kind_words(first)]
    return side_by_side(
        sides,
        saturation,
        title=f"Information plane along {apart.axis} · {source(first)}",
        details=[words for words in details if words],
        notes=apart.notes,
    )


def _epochs(plane: xr.Dataset) -> str:
    first, last = plane["epoch"].values[[0, -1]]
    return f"epoch {first}" if first == last else f"epochs {first} to {last}"
