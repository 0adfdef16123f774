"""Many lines and bands of one panel as one element each: a page draws two elements sooner than two for every layer."""

from collections.abc import Sequence
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from ipstore.analysis.figures.epochs import EpochScale
from ipstore.analysis.figures.frame import styled
from ipstore.analysis.figures.paths import round_caps

__all__ = ["bands", "seed_lines", "strokes"]


def strokes(values: xr.DataArray, dimension: Any, scale: EpochScale, colours: Sequence[str]) -> Any:
    """Draw a quantity of every layer against the epoch; where a layer has but one epoch, a point.

    Parameters
    ----------
    values : DataArray (layer, epoch)
    dimension : hv.Dimension
        Of the quantity, by its name.
    scale : EpochScale
    colours : sequence of str
        One for each layer.

    Returns
    -------
    holoviews.Overlay
    """
    steps, points = [], []
    for one, colour in zip(values, colours, strict=True):
        layer, there = str(one["layer"].item()), one.notnull().values
        epoch, y = one["epoch"].values[there], one.values[there]
        x = scale(epoch)
        if len(x) == 1:
            points.append((x[0], y[0], epoch[0], layer, colour))
        steps += list(zip(x[:-1], y[:-1], x[1:], y[1:], epoch[1:], [layer] * len(x), [colour] * len(x), strict=False))
    tips = ["layer", "epoch", (dimension.label, f"@{{{dimension.name}{'_end' if steps else ''}}}{{0.000}}")]
    ends = [scale.dimension, dimension, "log_epoch_end", f"{dimension.name}_end"]
    lines = styled(
        hv.Segments(steps, ends, ["epoch", "layer", "colour"], group="Mean"),
        color="colour",
        bokeh={"line_width": 2, "line_cap": "round", "tools": ["hover"], "hover_tooltips": tips},
        matplotlib={"linewidth": 1.6, "hooks": [round_caps]},
    )
    if not points:
        return hv.Overlay([lines])
    spots = styled(
        hv.Points(points, ends[:2], ["epoch", "layer", "colour"], group="Point"),
        color="colour",
        bokeh={"size": 8, "tools": ["hover"], "hover_tooltips": tips},
        matplotlib={"s": 36},
    )
    return hv.Overlay([lines, spots] if steps else [spots])


def bands(
    low: xr.DataArray, high: xr.DataArray, dimension: Any, scale: EpochScale, colours: Sequence[str], alpha: float
) -> Any:
    """Fill what lies between two quantities (layer, epoch), named alike, for every layer.

    Returns
    -------
    holoviews.Polygons
    """
    areas = []
    for below, above, colour in zip(low, high, colours, strict=True):
        there = (below + above).notnull().values
        x, under, over = scale(below["epoch"].values[there]), below.values[there], above.values[there]
        if len(x) == 1:  # an area needs a width
            x, under, over = x[0] + np.array([-0.01, 0.01]), under.repeat(2), over.repeat(2)
        if len(x):
            outline = {"log_epoch": np.r_[x, x[::-1]], dimension.name: np.r_[under, over[::-1]]}
            areas.append({**outline, "colour": colour})
    return styled(
        hv.Polygons(areas, [scale.dimension, dimension], "colour", group="Band"),
        color="colour",
        alpha=alpha,
        bokeh={"line_width": 0},
        matplotlib={"linewidth": 0},
    )


def seed_lines(values: xr.DataArray, dimension: Any, scale: EpochScale, colour: str) -> Any:
    """Draw thin lines, one for each seed of a quantity (epoch, seed), as one curve with gaps.

    Returns
    -------
    holoviews.Curve
    """
    rows = values.transpose("seed", "epoch").values
    gap = np.full((len(rows), 1), np.nan)
    y = np.hstack([rows, gap]).ravel()
    x = np.tile(np.r_[scale(values["epoch"].values), np.nan], len(rows))
    return styled(
        hv.Curve({"log_epoch": x, dimension.name: y}, scale.dimension, dimension, group="Seeds"),
        color=colour,
        alpha=0.45,
        bokeh={"line_width": 0.7},
        matplotlib={"linewidth": 0.5},
    )
