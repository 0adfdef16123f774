"""Panels against the epoch: one column per layer and one row per quantity, or one panel per quantity with all lines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import holoviews as hv
import numpy as np
import xarray as xr

from ipstore.analysis.figures.epochs import EpochScale
from ipstore.analysis.figures.frame import GREY, I_TY, I_XT, styled
from ipstore.analysis.figures.panels import Panel, Sheet, sheet_of
from ipstore.analysis.figures.wording import limit_words

__all__ = ["axis_limits", "band", "curve", "curve_panels", "epoch_axis", "quantity_panels", "sheet_of_layers"]

_COLUMNS = 6  # more layers stand in blocks of rows, one under another


class _Axis(NamedTuple):
    """What a vertical axis shows, the attribute above which nothing can lie, and whether it is log."""

    dimension: Any
    most: Literal["", "H_X", "I_XY"] = ""
    log: bool = False


_AXES = {
    "I_XT": _Axis(I_XT, "H_X"),
    "I_TY": _Axis(I_TY, "I_XY"),
    "residual": _Axis(hv.Dimension("residual", label="residual J", unit="bits")),
    "gradient": _Axis(hv.Dimension("gradient", label="norm / norm of the weights"), log=True),
    "loss": _Axis(hv.Dimension("loss")),
    "accuracy": _Axis(hv.Dimension("accuracy")),
    "n_cells": _Axis(hv.Dimension("n_cells", label="distinct codes")),
}


def sheet_of_layers(layers: Sequence[str]) -> Sheet:
    """Give the size of the panels of so many layers."""
    blocks = -(-len(layers) // _COLUMNS)
    return sheet_of(-(-len(layers) // blocks), above=0.2 if blocks == 1 else 0.65)


def curve_panels(
    plane: xr.Dataset,
    drawn: Mapping[str, Sequence[xr.DataArray]],
    draw: Callable[[str, str, EpochScale], Any],
) -> list[Panel | None]:
    """Draw the panels, row by row, as `panels.arrange` takes them.

    Parameters
    ----------
    plane : Dataset
        With the epochs and the layers; as `prepare` gives it, also with H(X) and I(X;Y).
    drawn : mapping of str to sequence of DataArray
        For each quantity, everything that must lie inside its axis; on a logarithmic one, where it is positive.
    draw : callable
        From quantity, layer and epoch scale to the elements of a panel.
    """
    layers = [str(name) for name in plane["layer"].values]
    sheet = sheet_of_layers(layers)
    scale, xlim = epoch_axis(plane["epoch"].values, sheet)
    panels: list[Panel | None] = []
    for first in range(0, len(layers), sheet.columns):
        block = layers[first : first + sheet.columns]
        for row, (name, arrays) in enumerate(drawn.items()):
            ylim = axis_limits(plane, name, arrays)
            for column, layer in enumerate(block):
                elements = _reference(plane, name, xlim, ylim, words=column == 0) * draw(name, layer, scale)
                axes = {"xticks": scale.ticks, "xlabel": "epoch", "ylabel": _AXES[name].dimension.pprint_label}
                if _AXES[name].log:
                    axes["logy"] = True
                    if column:  # bokeh cannot measure an exponent of 0 points, as the numbers of a bare axis have
                        axes["yformatter"] = "%g"
                panels.append(
                    Panel(
                        elements,
                        layer if row == 0 else "",
                        (xlim, ylim),
                        x=row == len(drawn) - 1,
                        y=column == 0,
                        grid=True,
                        options=axes,
                    )
                )
            panels += [None] * (sheet.columns - len(block))
    return panels


def quantity_panels(
    plane: xr.Dataset,
    drawn: Mapping[str, Sequence[xr.DataArray]],
    draw: Callable[[str, EpochScale], Any],
    sheet: Sheet,
    *,
    labels: Mapping[str, str] | None = None,
) -> list[Panel]:
    """Draw one panel for each quantity, side by side, each on a scale of its own.

    Parameters
    ----------
    plane : Dataset
        With the epochs; with H(X) and I(X;Y) as attributes, there is a line at them.
    drawn : mapping of str to sequence of DataArray
        For each quantity, everything that must lie inside its axis.
    draw : callable
        From quantity and epoch scale to the elements of a panel.
    sheet : Sheet
        Of as many columns.
    labels : mapping of str to str, optional
        Of the vertical axes, where they are not always called the same.
    """
    scale, xlim = epoch_axis(plane["epoch"].values, sheet)
    panels = []
    for name, arrays in drawn.items():
        ylim = axis_limits(plane, name, arrays)
        label = (labels or {}).get(name, _AXES[name].dimension.pprint_label)
        elements = _reference(plane, name, xlim, ylim, words=True) * draw(name, scale)
        axes = {"xticks": scale.ticks, "xlabel": "epoch", "ylabel": label}
        panels.append(Panel(elements, "", (xlim, ylim), x=True, y=True, grid=True, options=axes))
    return panels


def epoch_axis(epochs: Any, sheet: Sheet) -> tuple[EpochScale, tuple[float, float]]:
    """Give the scale of ascending epochs on a panel, and the limits of its axis."""
    scale = EpochScale(epochs, gap=0.28 / sheet.width)
    low, high = scale.limits if len(epochs) > 1 else (scale.ticks[0][0] - 1, scale.ticks[0][0] + 1)
    pad = 0.03 * (high - low)
    return scale, (low - pad, high + pad)


def axis_limits(plane: xr.Dataset, name: str, arrays: Sequence[xr.DataArray]) -> tuple[float, float]:
    """Give limits inside which zero, the reference line and everything that is drawn lie."""
    if _AXES[name].log:
        least, most = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
        room = max(most / least, 10.0) ** 0.08
        return least / room, most * room
    low = min(0.0, *(float(array.min()) for array in arrays))
    high = max(float(plane.attrs.get(_AXES[name].most, 0)), *(float(array.max()) for array in arrays))
    return low - 0.04 * (high - low), high + 0.14 * (high - low)


def _reference(
    plane: xr.Dataset, name: str, xlim: tuple[float, float], ylim: tuple[float, float], *, words: bool
) -> Any:
    """Draw the line that nothing can lie above, with its name in one panel of a row."""
    dimension, attribute, _ = _AXES[name]
    if not attribute or attribute not in plane.attrs:
        return hv.Overlay([])
    bound = float(plane.attrs[attribute])
    dims = ["log_epoch", dimension]
    level = styled(
        hv.Curve([(xlim[0], bound), (xlim[1], bound)], *dims, group="Reference"),
        bokeh={"color": GREY, "line_width": 1, "line_dash": "dashed"},
        matplotlib={"color": GREY, "linewidth": 0.8, "linestyle": "dashed"},
    )
    if not words:
        return level
    at = (xlim[0] + 0.02 * (xlim[1] - xlim[0]), bound + 0.015 * (ylim[1] - ylim[0]), limit_words(plane, attribute))
    return level * styled(
        hv.Labels([at], dims, "text", group="Reference"),
        bokeh={"text_color": GREY, "text_font_size": "8.5pt", "text_align": "left", "text_baseline": "bottom"},
        matplotlib={"color": GREY, "size": 8.5, "horizontalalignment": "left", "verticalalignment": "bottom"},
    )


def curve(
    values: xr.DataArray,
    scale: EpochScale,
    colour: str,
    words: Mapping[str, str],
    *,
    dashed: bool = False,
    width: float = 2,
) -> Any:
    """Draw a quantity against the epoch; where there is but one epoch, a point.

    Parameters
    ----------
    values : DataArray (epoch,)
        Named as a vertical axis that is known: I_XT, I_TY, residual, gradient, loss, accuracy or n_cells.
    scale : EpochScale
    colour : str
    words : mapping of str to str
        What a tooltip says beside the epoch and the value.
    dashed : bool
    width : float
        Of the line, in pixels.
    """
    values = values.dropna("epoch")
    dimension = _AXES[str(values.name)].dimension
    epoch = values["epoch"].values
    extra = {name: np.full(len(epoch), text) for name, text in words.items()}
    data = {"log_epoch": scale(epoch), dimension.name: values.values, "epoch": epoch, **extra}
    kind, group = (hv.Scatter, "Point") if len(epoch) == 1 else (hv.Curve, "Mean")
    element = kind(data, scale.dimension, [dimension, "epoch", *words], group=group)
    tips = [(name, f"@{{{name}}}") for name in (*words, "epoch")]
    digits = "%.3g" if _AXES[str(values.name)].log else "0.000"
    tips.append((dimension.label, f"@{{{dimension.name}}}{{{digits}}}"))
    hover: dict[str, Any] = {"tools": ["hover"], "hover_tooltips": tips}
    if _AXES[str(values.name)].log:
        hover["hover_formatters"] = {f"@{{{dimension.name}}}": "printf"}
    if kind is hv.Scatter:
        return styled(element, color=colour, bokeh={"size": 8, **hover}, matplotlib={"s": 36})
    style = "dashed" if dashed else "solid"
    return styled(
        element,
        color=colour,
        bokeh={"line_width": width, "line_dash": style, **hover},
        matplotlib={"linewidth": 0.75 * width, "linestyle": style},
    )


def band(low: xr.DataArray, high: xr.DataArray, scale: EpochScale, colour: str, alpha: float) -> Any:
    """Fill what lies between two quantities (epoch,), named alike."""
    there = (low + high).notnull().values
    dimension = _AXES[str(low.name)].dimension
    at, low_at, high_at = scale(low["epoch"].values[there]), low.values[there], high.values[there]
    if len(at) == 1:
        stroke = hv.Segments((at, low_at, at, high_at), ["log_epoch", dimension, "end", "high"], group="Band")
        return styled(stroke, color=colour, bokeh={"line_width": 2}, matplotlib={"linewidth": 1.5})
    return styled(
        hv.Area((at, low_at, high_at), scale.dimension, [dimension, f"{dimension.name}_high"], group="Band"),
        color=colour,
        alpha=alpha,
        bokeh={"line_width": 0},
        matplotlib={"facecolor": colour, "linewidth": 0},  # else a cycle of colours prevails
    )
