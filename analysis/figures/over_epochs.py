"""Information against the epoch: every layer of a network in one panel, one panel per quantity."""

from collections.abc import Sequence
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from ipstore.analysis.figures.curves import quantity_panels
from ipstore.analysis.figures.epochs import EpochScale, log_spaced
from ipstore.analysis.figures.frame import I_TY, I_XT, layer_colours
from ipstore.analysis.figures.key import Entry
from ipstore.analysis.figures.panels import Sheet, arrange
from ipstore.analysis.figures.planes import SATURATION, prepare, saturated, without_nan
from ipstore.analysis.figures.strokes import bands, seed_lines, strokes
from ipstore.analysis.figures.wording import (
    count,
    estimator,
    kind_words,
    label_words,
    listed,
    places_of,
    saturation_words,
    source,
)

__all__ = ["information", "middle"]

_EPOCHS, _SEED_EPOCHS = 200, 120  # of a line, and of the line of a single seed: more than so wide a panel can show
_SEEDS = (0.1, 0.9)
_DIMENSIONS = {"I_XT": I_XT, "I_TY": I_TY}


def information(
    plane: xr.Dataset, layers: Sequence[str] | None = None, *, seeds: bool = False, saturation: float = SATURATION
) -> Any:
    """Draw I(X;T) and I(T;Y) against the epoch, all layers in one panel each.

    Lines are means over the seeds without a NaN, in bands that hold the middle 80% of those seeds; layers run from
    dark to light through the network. Of a long run at most 200 epochs are drawn, evenly spaced in log(1 + epoch).

    Parameters
    ----------
    plane : Dataset
        I_XT, I_TY or both (epoch, seed, layer), in bits, with its attrs: as `information_plane` gives it.
    layers : sequence of str, optional
        Which layers; all by default.
    seeds : bool
        Whether single seeds are drawn too, as thin lines.
    saturation : float
        A note names the layers whose mean I(X;T) comes within so many bits of H(X).

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `plane` is no information plane.
    UnknownNameError
        A layer that the plane does not have.
    """
    plane, kept, notes = without_nan(prepare(plane, layers, needs=()))
    names = [str(name) for name in plane["layer"].values]
    colours = layer_colours(len(names))
    few = plane.isel(epoch=log_spaced(plane["epoch"].values, _EPOCHS))
    lines = few.mean("seed").transpose("layer", "epoch")
    low, high = (part.transpose("layer", "epoch") for part in middle(few))
    several = plane.sizes["seed"] > 1
    single = plane.isel(epoch=log_spaced(plane["epoch"].values, _SEED_EPOCHS)) if seeds else None

    def draw(name: str, scale: EpochScale) -> Any:
        dimension = _DIMENSIONS[name]
        under = []
        if several:
            alpha = min(0.22, 1 / len(names))
            under.append(bands(low[name], high[name], dimension, scale, colours, alpha))
        if single is not None:
            under += [
                seed_lines(single[name].sel(layer=layer), dimension, scale, colour)
                for layer, colour in zip(names, colours, strict=True)
            ]
        return hv.Overlay(under) * strokes(lines[name], dimension, scale, colours)

    quantities = [str(name) for name in plane.data_vars]
    sheet = Sheet(len(quantities), 4.4, 3.2, above=0.2, beside=0.75, titles=0)
    parts = [lines, low, high] if single is None else [lines, single]
    return arrange(
        quantity_panels(plane, {name: [part[name] for part in parts] for name in quantities}, draw, sheet),
        sheet,
        title=f"Information over the epochs · {source(plane)}",
        details=[
            " · ".join(
                [
                    label_words(plane),
                    *places_of(plane),
                    f"estimator: {estimator(plane)}",
                    *([kind_words(plane)] if kind_words(plane) else []),
                    kept,
                ]
            )
        ],
        notes=[
            _marks(several, seeds, plane),
            *_thinned_note(plane.sizes["epoch"], few.sizes["epoch"]),
            *_saturation_note(plane, saturation),
            *notes,
        ],
        key=("", [Entry(name, colour) for name, colour in zip(names, colours, strict=True)]),
    )


def middle(values: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Give the ends of the band that holds the middle 80% of the seeds; NaN where no seed is a number."""

    def ends(array: Any) -> Any:
        found = np.quantile(array, _SEEDS, axis=-1)
        # Where some seeds only are numbers; to seek that everywhere takes a hundred times as long.
        there = np.isfinite(array)
        partly = there.any(axis=-1) & ~there.all(axis=-1)
        found[:, partly] = np.nanquantile(array[partly], _SEEDS, axis=-1)
        return np.moveaxis(found, 0, -1)

    both = xr.apply_ufunc(ends, values, input_core_dims=[["seed"]], output_core_dims=[["end"]])
    return both.isel(end=0), both.isel(end=1)


def _marks(several: bool, seeds: bool, plane: xr.Dataset) -> str:
    one = plane.sizes["epoch"] == 1
    mark, span = ("Point", "stroke") if one else ("Line", "band")
    words = f"{mark}: mean over seeds; {span}: the middle 80% of the seeds" if several else f"{mark}: the one seed"
    if several and seeds:
        words += "; thin: single seeds"
    dashed = " Dashed: H(X) and I(X;Y)." if "H_X" in plane.attrs and "I_XY" in plane.attrs else ""
    return f"{words}. The axis of the epochs is log(1 + epoch).{dashed}"


def _thinned_note(epochs: int, drawn: int) -> list[str]:
    return [f"Drawn: {drawn} of {count(epochs, 'epoch')}."] if drawn < epochs else []


def _saturation_note(plane: xr.Dataset, tolerance: float) -> list[str]:
    if "I_XT" not in plane or "H_X" not in plane.attrs:
        return []
    reached = saturated(plane, tolerance)
    some = [str(layer) for layer in plane["layer"].values if reached.sel(layer=layer).any()]
    if not some:
        return []
    return [
        f"Saturated at some epoch, {saturation_words(plane, tolerance)}, so that it measures the resolution and not "
        f"the layer: {listed(some)}."
    ]
