"""Trajectories through the information plane: paths over single seeds, their ends and their names."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.figures.epochs import EpochScale, log_spaced
from ipstore.analysis.figures.frame import I_TY, I_XT, INK, STEP, Limits, reference_lines, styled
from ipstore.analysis.figures.placing import merge, place
from ipstore.analysis.figures.planes import saturated

__all__ = ["draw_paths", "layer_names", "round_caps", "thinned"]

_PATH_EPOCHS = 400  # a path bends visibly in far fewer; more only makes the file heavier
_POINTS = 6000  # faint points in all: about 0.5 MB of html


def draw_paths(
    plane: xr.Dataset,
    box: Limits,
    colour: EpochScale,
    saturation: float,
    *,
    colour_bar: Collection[str] = ("bokeh", "matplotlib"),
    words: bool = True,
    share: float = 1.0,
    size: tuple[float, float] = (1.0, 1.0),
) -> Any:
    """Draw the trajectory of every layer, with the reference lines.

    Parameters
    ----------
    plane : Dataset
        As `planes.without_nan` gives it.
    box : Limits
        Limits of the axes.
    colour : EpochScale
    saturation : float
        Bits below H(X) within which the end of a path is marked as saturated.
    colour_bar : collection of str
        Backends under which there is one.
    words : bool
        Whether the reference lines are named.
    share : float
        Of the points and steps that a whole figure may have, the part that these may be.
    size : (float, float)
        Width and height of the frame, relative to a frame that is a figure by itself.

    Returns
    -------
    holoviews.Overlay
    """
    curves = _curves(plane, saturation, share)
    points = _points(plane, colour, share)
    return (
        reference_lines(plane, box, words=words)
        * points
        * _paths(curves, colour, colour_bar)
        * _markers(curves, colour)
        * layer_names({c.layer: np.column_stack([c.I_XT, c.I_TY]) for c in curves}, points, plane, box, size)
    )


class _Curve(NamedTuple):
    """The mean of one layer at the epochs that are drawn."""

    layer: str
    epoch: NDArray[np.int64]
    I_XT: NDArray[np.float64]
    I_TY: NDArray[np.float64]
    saturated: NDArray[np.bool_]


def _curves(plane: xr.Dataset, saturation: float, share: float) -> list[_Curve]:
    mean = plane.mean("seed")
    full = saturated(plane, saturation)
    curves = []
    for layer in plane["layer"].values:
        one = mean.sel(layer=layer).dropna("epoch")
        one = one.isel(epoch=log_spaced(one["epoch"].values, round(share * _PATH_EPOCHS)))
        epoch = one["epoch"].values
        at = full.sel(layer=layer, epoch=epoch).values
        curves.append(_Curve(str(layer), epoch, one["I_XT"].values, one["I_TY"].values, at))
    return curves


def thinned(plane: xr.Dataset, share: float = 1.0) -> NDArray[np.int64]:
    """Give the positions of the epochs at which single seeds are drawn."""
    number = max(8, int(share * _POINTS) // (plane.sizes["seed"] * plane.sizes["layer"]))
    return log_spaced(plane["epoch"].values, number)


def _points(plane: xr.Dataset, colour: EpochScale, share: float) -> Any:
    few = plane.isel(epoch=thinned(plane, share))
    x, y, epoch = (a.values.ravel() for a in xr.broadcast(few["I_XT"], few["I_TY"], few["epoch"]))
    finite = ~np.isnan(x)
    points = hv.Points((x[finite], y[finite], colour(epoch[finite])), [I_XT, I_TY], colour.dimension, group="Seeds")
    return styled(
        points,
        **colour.colours,
        alpha=0.25,
        bokeh={"size": 3, "line_color": None},
        matplotlib={"s": 5, "linewidth": 0},
    )


def _paths(curves: list[_Curve], colour: EpochScale, colour_bar: Collection[str]) -> Any:
    """One segment per step, coloured by the epoch it arrives at.

    hv.Path would say it shorter, but HoloViews 1.23 shifts the colours of every path after the first.
    """
    steps = [
        (c.I_XT[i - 1], c.I_TY[i - 1], c.I_XT[i], c.I_TY[i], colour(c.epoch[i]), c.layer, c.epoch[i])
        for c in curves
        for i in range(1, len(c.epoch))
    ]
    return styled(
        hv.Segments(steps, STEP, [colour.dimension, "layer", "epoch"], group="Mean"),
        **colour.colours,
        bokeh={
            "colorbar": "bokeh" in colour_bar,
            "line_width": 2.5,
            "line_cap": "round",
            "cticks": colour.named_ticks,
            "clabel": "",  # bokeh writes it beside the foot of the bar; the ends of the scale say it
            "tools": ["hover"],
            "hover_tooltips": [
                "layer",
                "epoch",
                ("I(X;T)", "@I_XT_end{0.000}"),
                ("I(T;Y)", "@I_TY_end{0.000}"),
            ],
        },
        matplotlib={
            "colorbar": "matplotlib" in colour_bar,
            "linewidth": 2.2,
            "clabel": "epoch",
            "cbar_ticks": colour.ticks,
            "hooks": [round_caps],
        },
    )


def round_caps(plot: Any, _: Any) -> None:
    """Join the segments without gaps; HoloViews has an option for it under bokeh only."""
    plot.handles["artist"].set_capstyle("round")


def _markers(curves: list[_Curve], colour: EpochScale) -> Any:
    """Mark both ends of each path: hollow before, filled after; a diamond where the layer is saturated."""
    overlay = []
    for at, filled in ((0, False), (-1, True)):
        for full, shape, symbol in ((False, "circle", "o"), (True, "diamond", "D")):
            some = [c for c in curves if c.saturated[at] == full]
            data = [(c.I_XT[at], c.I_TY[at], colour(c.epoch[at]), c.layer, c.epoch[at]) for c in some]
            if not data:
                continue
            points = hv.Points(
                data,
                [I_XT, I_TY],
                [colour.dimension, "layer", "epoch"],
                group="End" if filled else "Start",
                label="saturated" if full else "",
            )
            fill = colour.colours if filled else {"color": "white"}
            overlay.append(
                styled(
                    points,
                    **fill,
                    bokeh={"marker": shape, "size": 14 if full else 9, "line_color": INK, "line_width": 1.2},
                    matplotlib={"marker": symbol, "s": 45, "edgecolor": INK, "linewidth": 1},
                )
            )
    return hv.Overlay(overlay)


def layer_names(
    paths: Mapping[str, NDArray[np.float64]],
    points: Any,
    plane: xr.Dataset,
    box: Limits,
    size: tuple[float, float] = (1.0, 1.0),
) -> Any:
    """Write each layer's name beside the end of its path, with a leader where it had to move away.

    Parameters
    ----------
    paths : mapping of str to (point, 2) float64
        I(X;T) and I(T;Y) of each layer.
    points : hv.Points
        What the names should not cover, beside the paths.
    plane : Dataset
        Of which the reference lines are.
    box : Limits
        Limits of the axes.
    size : (float, float)
        Width and height of the frame, relative to a frame that is a figure by itself.

    Returns
    -------
    holoviews.Overlay
    """
    low, high = np.array(box).T
    ink = np.concatenate([_ink(list(paths.values()), plane, box, size), points.array([0, 1])])
    ends = (np.array([path[-1] for path in paths.values()]) - low) / (high - low)
    groups = merge(ends, list(paths), size)
    groups.sort(key=lambda group: -ends[group[0], 0])  # the margin on the right leaves the least choice
    ends, names = ends[[first for first, _ in groups]], [name for _, name in groups]
    centres = place(ends, names, (ink - low) / (high - low), size)
    rise = centres[:, 1] - ends[:, 1]
    feet = centres - np.column_stack([np.zeros_like(rise), 0.02 * np.sign(rise)])
    leaders = np.hstack([ends, feet])[np.abs(rise) > 0.07] * np.tile(high - low, 2) + np.tile(low, 2)
    x, y = (centres * (high - low) + low).T
    return styled(
        hv.Segments(leaders, STEP, group="Leader"),
        color=INK,
        bokeh={"line_width": 0.7},
        matplotlib={"linewidth": 0.5},
    ) * styled(
        hv.Labels((x, y, names), [I_XT, I_TY], "text", group="Layer"),
        bokeh={"text_color": INK, "text_font_size": "10pt"},
        matplotlib={"color": INK, "size": 10},
    )


def _ink(
    drawn: Sequence[NDArray[np.float64]], plane: xr.Dataset, box: Limits, size: tuple[float, float]
) -> NDArray[np.float64]:
    """Points along what a name should not cover: paths, their ends, the reference lines and labels."""
    (left, _), (bottom, top) = box
    i_xy, h_x = plane.attrs["I_XY"], plane.attrs["H_X"]
    x, y = np.linspace(left, h_x, 60), np.linspace(bottom, i_xy, 60)
    beside, over = x[: round(14 / size[0])], np.array([0.01, 0.02, 0.03, 0.04]) / size[1]
    words = np.array([(a, i_xy + b * (top - bottom)) for a in beside for b in over])
    along = np.linspace(0, 1, 400)
    paths = [np.column_stack([np.interp(along, np.linspace(0, 1, len(v)), v) for v in path.T]) for path in drawn]
    ends = [np.repeat(path[[0, -1]], 10, axis=0) for path in paths]
    lines = [np.column_stack([x, np.full_like(x, i_xy)]), np.column_stack([np.full_like(y, h_x), y])]
    return np.concatenate([words, *lines, *paths, *ends])
