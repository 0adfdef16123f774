"""beta* of every layer: by depth at the last epoch, and against the epoch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from ipstore.analysis.figures.epochs import EpochScale, log_spaced
from ipstore.analysis.figures.frame import GREY, INK, Limits, layer_colours, styled
from ipstore.analysis.figures.panels import Panel, arrange, sheet_of
from ipstore.analysis.figures.standing import beta_number, beta_words, cap_words, prepare_bound, seed_quantiles
from ipstore.analysis.figures.wording import count, estimator, label_words

__all__ = ["beta"]

_EPOCHS, _POINT_EPOCHS = 120, 24
_LOG_BETA = hv.Dimension("log_beta", label="β*")
_STROKE = ["x", _LOG_BETA, "x_end", "log_beta_end"]
_QUARTILES = (0.25, 0.5, 0.75)


def beta(found: xr.Dataset, layers: Sequence[str] | None = None) -> Any:
    """Draw beta* on a logarithmic scale: by depth at the last epoch, then for each layer against the epoch.

    beta* is the trade-off at which the layer's encoder comes nearest to the one that the self-consistent equations of
    the bottleneck ask for. Lines are medians and bands the quartiles over seeds; points are single seeds. One
    that is beyond the cap is an open triangle at the cap, and one that is zero cannot be drawn and is counted.

    Parameters
    ----------
    found : Dataset
        Over (epoch, seed, layer) beta and beta_capped, with the rest of what the bound of a run has.
    layers : sequence of str, optional
        Which layers; all by default.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `found` is no bound of a run.
    UnknownNameError
        A layer that is not there.

    References
    ----------
    Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, whose last figure writes beta beside the layers.
    """
    standing = prepare_bound(found, layers)
    every = standing.layers[["beta", "beta_capped"]]
    names = [str(name) for name in every["layer"].values]
    last = every.isel(epoch=-1)
    epochs = every["epoch"].values
    panels = len(names) + 1
    rows = 1 if panels <= 4 else 2
    sheet = replace(sheet_of(-(-panels // rows), above=0.95), titles=2)
    scale = EpochScale(epochs, gap=0.28 / sheet.width)
    ylim, ticks = _axis(every["beta"])
    xlim = _around(scale.limits if len(epochs) > 1 else (scale.ticks[0][0] - 1, scale.ticks[0][0] + 1))
    box: Limits = (xlim, ylim)
    colours = layer_colours(len(names))
    cap = every["beta"].where(every["beta_capped"] > 0)
    lines = [float(np.log10(cap.min()))] if cap.notnull().any() else []
    shared = {"yticks": ticks, "ylabel": "β*"}
    drawn: list[Panel | None] = [
        Panel(
            _by_depth(last, colours, _cap_line(lines, (-0.6, len(names) - 0.4))),
            f"by depth\nat epoch {int(epochs[-1])}",
            ((-0.6, len(names) - 0.4), ylim),
            x=True,
            y=True,
            options={**shared, "xticks": list(enumerate(names)), "xlabel": " ", "xrotation": 40},
        )
    ]
    for k, (name, colour) in enumerate(zip(names, colours, strict=True), start=1):
        one, end = every.sel(layer=name), last.sel(layer=name)
        drawn.append(
            Panel(
                _by_epoch(one, scale, colour, name, _cap_line(lines, xlim)),
                f"{name}\n{beta_words(end['beta'], end['beta_capped'])}",
                box,
                x=True,
                y=k % sheet.columns == 0,
                grid=True,
                options={**shared, "xticks": scale.ticks, "xlabel": "epoch"},
            )
        )
    several = every.sizes["seed"] > 1
    return arrange(
        [*drawn, *[None] * (-len(drawn) % sheet.columns)],
        sheet,
        linked=False,
        title=f"β* of the layers · run {standing.layers.attrs['source_run']}",
        details=[
            " · ".join([label_words(standing.layers), f"estimator: {estimator(standing.layers)}", standing.seeds])
        ],
        notes=[
            "β*: the trade-off, as in I(X;T) - β I(T;Y), at which the layer's p(t|x) comes nearest to the "
            "self-consistent encoder of its own p(t) and p(y|t). "
            f"Over each panel: {'the median' if several else 'it'} at epoch {int(epochs[-1])}.",
            "Line: median over seeds, each a value of a seed; band, and bar by depth: quartiles. Points: single seeds, "
            "by depth side by side in their order. Open triangle: at the cap or beyond."
            if several
            else "The one seed. Open triangle: at the cap or beyond.",
            *cap_words(every),
            *_none_note(every),
            *standing.notes,
        ],
    )


def _around(limits: tuple[float, float]) -> tuple[float, float]:
    pad = 0.03 * (limits[1] - limits[0])
    return limits[0] - pad, limits[1] + pad


def _axis(beta: xr.DataArray) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    """Give the limits of log10(beta), from 1 or the least value on, and at most eight ticks."""
    logs = xr.apply_ufunc(np.log10, _positive(beta))
    there = bool(logs.notnull().any())
    low, high = (min(0.0, float(logs.min())), max(0.3, float(logs.max()))) if there else (0.0, 1.0)
    powers = np.arange(np.floor(low), np.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 2 else (1,)
    every = [(power + np.log10(factor), factor * 10.0**power) for power in powers for factor in factors]
    inside = [
        (at, beta_number(value) if value >= 100 else f"{value:g}")
        for at, value in every
        if low - 1e-9 <= at <= high + 1e-9
    ]
    pad = 0.06 * (high - low)
    return (low - pad, high + pad), inside[:: -(-len(inside) // 8)]


def _cap_line(at: Sequence[float], xlim: tuple[float, float]) -> Any:
    line = hv.Segments([(xlim[0], y, xlim[1], y) for y in at], _STROKE, group="Cap")
    return styled(
        line,
        color=GREY,
        bokeh={"line_width": 0.8, "line_dash": "dashed"},
        matplotlib={"linewidth": 0.6, "linestyle": "dashed"},
    )


def _by_depth(last: xr.Dataset, colours: Sequence[str], cap: Any) -> Any:
    """Draw the seeds of each layer side by side, with a bar over the quartiles and a stroke at the median."""
    seeds = last.sizes["seed"]
    aside = np.linspace(-0.28, 0.28, seeds) if seeds > 1 else np.zeros(1)
    elements, bars, medians = [], [], []
    for k, colour in enumerate(colours):
        one = last.isel(layer=k)
        elements.append(_points(k + aside, one, colour, alpha=0.7))
        low, middle, high = np.log10(_positive(seed_quantiles(one["beta"].dropna("seed"), _QUARTILES)).values)
        if seeds > 1:
            bars.append((k, low, k, high))
            medians.append((k - 0.36, middle, k + 0.36, middle))
    for strokes, group, width in ((bars, "Quartiles", 1.0), (medians, "Median", 2.0)):
        elements.append(
            styled(
                hv.Segments([stroke for stroke in strokes if np.isfinite(stroke).all()], _STROKE, group=group),
                color=INK,
                bokeh={"line_width": width},
                matplotlib={"linewidth": 0.75 * width},
            )
        )
    return cap * hv.Overlay(elements)


def _by_epoch(one: xr.Dataset, scale: EpochScale, colour: str, layer: str, cap: Any) -> Any:
    """Draw the median in the band of the quartiles, over single seeds at a few epochs."""
    epochs = one["epoch"].values
    few = one.isel(epoch=log_spaced(epochs, _EPOCHS))
    quartiles = _positive(seed_quantiles(few["beta"], _QUARTILES)).transpose("quantile", "epoch")
    at, (low, middle, high) = few["epoch"].values, np.log10(quartiles.values)
    points = one.isel(epoch=log_spaced(epochs, _POINT_EPOCHS)).stack(cell=("epoch", "seed"))
    seeds = _points(scale(points["epoch"].values), points, colour, alpha=0.3)
    if len(at) == 1 or one.sizes["seed"] == 1:
        band = hv.Overlay([])
    else:
        known = np.isfinite(low + high)
        band = styled(
            hv.Area((scale(at[known]), low[known], high[known]), scale.dimension, [_LOG_BETA, "high"], group="Band"),
            color=colour,
            alpha=0.25,
            bokeh={"line_width": 0},
            matplotlib={"facecolor": colour, "linewidth": 0},
        )
    columns = {
        scale.dimension.name: scale(at),
        "log_beta": middle,
        "epoch": at,
        "beta": quartiles.values[1],
        "layer": np.full(len(at), layer),
    }
    line = styled(
        hv.Curve(columns, scale.dimension, [_LOG_BETA, "epoch", "beta", "layer"], group="Median"),
        color=colour,
        bokeh={
            "line_width": 2,
            "tools": ["hover"],
            "hover_tooltips": ["layer", "epoch", ("β*, median", "@beta{0,0.00}")],
        },
        matplotlib={"linewidth": 1.5},
    )
    return band * cap * seeds * line  # what comes first lies under the grid


def _positive(beta: xr.DataArray) -> xr.DataArray:
    return beta.where(beta > 0)  # zero has no place on the scale


def _points(at: Any, cells: xr.Dataset, colour: str, *, alpha: float) -> Any:
    """Draw single seeds at the places `at`: filled points, and open triangles at the cap."""
    there = (cells["beta"] > 0).values
    over = (cells["beta_capped"] > 0).values
    elements = []
    for some, group in ((there & ~over, "Seeds"), (there & over, "Capped")):
        columns = {
            "x": at[some],
            "log_beta": np.log10(cells["beta"].values[some]),
            "epoch": np.broadcast_to(cells["epoch"].values, some.shape)[some],
            "seed": cells["seed"].values[some],
            "beta": cells["beta"].values[some],
        }
        open_marks = group == "Capped"
        elements.append(
            styled(
                hv.Points(columns, ["x", _LOG_BETA], ["epoch", "seed", "beta"], group=group),
                color="white" if open_marks else colour,
                alpha=1 if open_marks else alpha,
                bokeh={
                    "marker": "triangle" if open_marks else "circle",
                    "size": 6 if open_marks else 4,
                    "line_color": colour if open_marks else None,
                    "tools": ["hover"],
                    "hover_tooltips": ["epoch", "seed", ("β* ≥" if open_marks else "β*", "@beta{0,0.00}")],
                },
                matplotlib={
                    "marker": "^" if open_marks else "o",
                    "s": 20 if open_marks else 10,
                    "edgecolor": colour if open_marks else "none",
                    "linewidth": 0.7,
                },
            )
        )
    return hv.Overlay(elements)


def _none_note(layers: xr.Dataset) -> list[str]:
    """Count what has no place on a logarithmic scale."""
    none = (layers["beta"] == 0).sum(["epoch", "seed"])
    words = [
        f"{layer} in {count(number, 'cell')}"
        for layer, number in zip(none["layer"].values, none.values, strict=True)
        if number
    ]
    return [f"Not drawn, as 0 has no place on the scale: {'; '.join(words)}."] if words else []
