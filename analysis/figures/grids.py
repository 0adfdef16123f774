"""How the answer depends on a parameter: information against the epoch, one line per value."""

import warnings
from collections.abc import Sequence
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr
from holoviews.plotting.util import process_cmap

from ipstore.analysis.figures.curves import band, curve, curve_panels, sheet_of_layers
from ipstore.analysis.figures.epochs import EpochScale, log_spaced
from ipstore.analysis.figures.key import Entry
from ipstore.analysis.figures.panels import arrange
from ipstore.analysis.figures.planes import SATURATION, finite, grid_of, prepare, saturated, without_nan
from ipstore.analysis.figures.wording import (
    estimator,
    kind_words,
    label_words,
    listed,
    plain,
    saturation_words,
    source,
)
from ipstore.errors import ParameterError

__all__ = ["sensitivity"]

_EPOCHS = 120  # of a line: more than a panel this small can show

_SEEDS = (0.1, 0.9)
"""Quantiles over the seeds between which a band lies: unlike a standard deviation, never beyond what a seed had."""

_DISTINCT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
"""For values without an order: Okabe and Ito's colours, told apart by every common kind of colour vision."""


def sensitivity(plane: xr.Dataset, layers: Sequence[str] | None = None, *, saturation: float = SATURATION) -> Any:
    """Draw information against the epoch for every value of one parameter: how far the answer depends on it.

    One column per layer, one row per quantity, with a common scale in a row; one line per value, the mean over
    the seeds without a NaN, in a band that holds the middle 80% of those seeds. Values that are numbers run from
    dark to light in their order.

    Parameters
    ----------
    plane : Dataset
        I_XT, I_TY or both (parameter, epoch, seed, layer), in bits, with its attrs: as
        `ipstore.analysis.information_plane` gives it where one parameter is a list of values.
    layers : sequence of str, optional
        Which layers; all by default.
    saturation : float
        A note names the layers whose mean I(X;T) comes within so many bits of H(X), and at which values.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `plane` has no such dimension or several, or is no information plane.
    UnknownNameError
        A layer that the plane does not have.
    """
    parameter = _parameter(plane)
    plane = prepare(plane, layers, needs=(), grid=parameter)
    plane = plane.isel({parameter: _order(plane[parameter])})
    plane, seeds, notes = without_nan(plane)
    values = [plain(value.item()) for value in plane[parameter].values]
    colours = _colours(plane[parameter])
    mean = plane.mean("seed")
    few = plane.isel(epoch=log_spaced(plane["epoch"].values, _EPOCHS))
    lines = few.mean("seed")
    low, high = _interval(few)
    several = plane.sizes["seed"] > 1

    def draw(name: str, layer: str, scale: EpochScale) -> Any:
        bands, strokes = [], []
        for i, (value, colour) in enumerate(zip(values, colours, strict=True)):
            at = {parameter: i}
            one, below, above = (part[name].sel(layer=layer).isel(at) for part in (lines, low, high))
            if not one.notnull().any():
                continue
            strokes.append(curve(one, scale, colour, {"layer": layer, parameter: value}))
            if several:
                bands.append(band(below, above, scale, colour, alpha=min(0.18, 0.8 / len(values))))
        return hv.Overlay([*bands, *strokes])

    names = list(plane.data_vars)
    sheet = sheet_of_layers([str(name) for name in plane["layer"].values])
    mark = "Line" if plane.sizes["epoch"] > 1 else "Point"
    if several:
        key = f"{mark}: mean over seeds; {'band' if mark == 'Line' else 'stroke'}: the middle 80% of the seeds."
    else:
        key = f"{mark}: the one seed."
    return arrange(
        curve_panels(plane, {str(name): [lines[name], low[name], high[name]] for name in names}, draw),
        sheet,
        title=f"Sensitivity to {parameter} · {source(plane)}",
        details=[
            " · ".join(
                [
                    label_words(plane),
                    f"estimator: {estimator(plane, without=parameter)}",
                    *([kind_words(plane)] if kind_words(plane) else []),
                    seeds,
                ]
            )
        ],
        notes=[
            key,
            *_statements(mean, parameter, values),
            *_saturation_note(plane, parameter, values, saturation),
            *_missing_note(plane, parameter, values),
            *notes,
        ],
        key=(parameter, [Entry(value, colour) for value, colour in zip(values, colours, strict=True)]),
    )


def _parameter(plane: Any) -> str:
    """Name the one dimension that is a parameter."""
    if not isinstance(plane, xr.Dataset):
        raise ParameterError(f"a figure draws what `information_plane` returned, but got a {type(plane).__name__}")
    grid = grid_of(plane)
    if len(grid) == 1:
        return grid[0]
    if not grid:
        raise ParameterError(
            "sensitivity shows how information depends on one parameter, but this plane has no grid of one: its "
            f"dimensions are {', '.join(map(str, plane.sizes)) or 'none'}. Give several values of a parameter, as in "
            "information_plane(run, 'binned', bins=[10, 30, 100])"
        )
    chosen = ", ".join(f"{name}={plane[name].values[0].item()!r}" for name in grid[1:] if name in plane.coords)
    raise ParameterError(
        f"sensitivity shows how information depends on one parameter, but this plane has a grid of {listed(grid)}; "
        f"choose one value of all but one, as with plane.sel({chosen})"
    )


def _interval(plane: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # where no seed is a number there is no line
        return plane.quantile(_SEEDS[0], "seed"), plane.quantile(_SEEDS[1], "seed")


def _order(values: xr.DataArray) -> Any:
    """Give the order of the values: by size if they are numbers, else as they were given."""
    return np.argsort(values.values, kind="stable") if values.dtype.kind in "iuf" else np.arange(values.size)


def _colours(values: xr.DataArray) -> list[str]:
    """Give each value a colour: from dark to light if they have an order, else as distinct as can be."""
    if values.dtype.kind not in "iuf" and values.size <= len(_DISTINCT):
        return list(_DISTINCT[: values.size])
    colours = process_cmap("viridis", 256)[:236]  # the lightest yellow is lost on white
    return [colours[round(i * (len(colours) - 1) / max(values.size - 1, 1))] for i in range(values.size)]


def _statements(mean: xr.Dataset, parameter: str, values: Sequence[str]) -> list[str]:
    """Say in numbers what the parameter changes most, of the means over seeds (parameter, epoch, layer)."""
    last = int(mean["epoch"][-1])
    said = []
    if "I_XT" in mean and mean.sizes["epoch"] > 1:
        drop = mean["I_XT"].max("epoch") - mean["I_XT"].isel(epoch=-1)
        said.append(_most("Drop of I(X;T) in bits, peak minus end", drop, parameter, values, 2))
    elif "I_XT" in mean:
        said.append(_most(f"I(X;T) in bits at epoch {last}", mean["I_XT"].isel(epoch=-1), parameter, values, 2))
    if "I_TY" in mean:
        said.append(_most(f"I(T;Y) in bits at epoch {last}", mean["I_TY"].isel(epoch=-1), parameter, values, 3))
    return [words for words in said if words]


def _most(what: str, numbers: xr.DataArray, parameter: str, values: Sequence[str], digits: int) -> str:
    """State numbers (parameter, layer) of the layer where they differ most; nothing, if there are none."""
    if not numbers.notnull().any():
        return ""
    spread = (numbers.max(parameter) - numbers.min(parameter)).fillna(-1)
    layer = spread["layer"].values[int(spread.values.argmax())]
    pairs = zip(numbers.sel(layer=layer).values, values, strict=True)
    stated = ", ".join(f"{number:.{digits}f} at {value}" for number, value in pairs if np.isfinite(number))
    where = f", in {layer}, where it depends most on {parameter}" if numbers.sizes["layer"] > 1 else f", in {layer}"
    return f"{what}{where}: {stated}."


def _saturation_note(plane: xr.Dataset, parameter: str, values: Sequence[str], tolerance: float) -> list[str]:
    if "I_XT" not in plane:
        return []
    reached = saturated(plane, tolerance).any("epoch")
    words = []
    for layer in plane["layer"].values:
        some = [value for value, there in zip(values, reached.sel(layer=layer).values, strict=True) if there]
        if len(some) == len(values):
            words.append(f"{layer} at every value")
        elif some:
            words.append(f"{layer} at {listed(some)}")
    if not words:
        return []
    return [
        f"Saturated, {saturation_words(plane, tolerance)}, so that it measures the resolution and not the layer, at "
        f"some epoch: {'; '.join(words)}."
    ]


def _missing_note(plane: xr.Dataset, parameter: str, values: Sequence[str]) -> list[str]:
    """Name the lines that are not there."""
    there = finite(plane).any(["epoch", "seed"])
    words = []
    for layer in plane["layer"].values:
        some = [value for value, one in zip(values, there.sel(layer=layer).values, strict=True) if not one]
        if some:
            words.append(f"{layer} at {listed(some)}")
    return [f"No line, no finite value: {'; '.join(words)}."] if words else []
