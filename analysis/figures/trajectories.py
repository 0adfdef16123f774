"""The information plane as trajectories: one path per layer, the mean over seeds, coloured by epoch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.figures.frame import (
    I_TY,
    I_XT,
    INK,
    SATURATION,
    STEP,
    canvas,
    count,
    heading,
    limits,
    log_spaced,
    prepare,
    reference_lines,
    saturated,
    styled,
    typeset,
)
from ipstore.analysis.figures.placing import merge, place

__all__ = ["information_plane"]

_PATH_EPOCHS = 400  # a path bends visibly in far fewer; more only makes the file heavier
_POINTS = 6000  # faint points in all: about 0.5 MB of html

_COLOURS = hv.plotting.util.process_cmap("plasma", 256)[:225]  # the lightest yellow is lost on white


def information_plane(plane: xr.Dataset, layers: Sequence[str] | None = None, *, saturation: float = SATURATION) -> Any:
    """Draw the trajectory of every layer through the information plane.

    A path is the mean over the seeds without a NaN, its colour the epoch on the scale log(1 + epoch); faint
    points are single seeds. Paths are drawn at 400 log-spaced epochs at most, points at fewer.

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY (epoch, seed, layer), in bits, with the attrs estimator, parameters, labels, I_XY, H_X
        and source_run that every analysis gives it.
    layers : sequence of str, optional
        Which layers; all by default.
    saturation : float
        A layer whose mean I(X;T) lies within so many bits of H(X) is marked as saturated: nearly every input
        has a cell of its own, so I(X;T) measures the resolution and not the layer.

    Returns
    -------
    holoviews.Overlay
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `plane` lacks variables, dimensions or attributes, or has no number in it.
    UnknownNameError
        A layer that the plane does not have.

    References
    ----------
    Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, figures 2 and 3.
    """
    plane, seeds, notes = _without_nan(prepare(plane, layers))
    epochs = plane["epoch"].values
    colour = _EpochColour(epochs)
    curves = _curves(plane, saturation)
    points = _points(plane, colour)
    notes = [
        _key(plane),
        *_saturation_note(plane, saturation),
        *notes,
    ]
    xlim, ylim = limits(plane)
    return styled(
        reference_lines(plane)
        * points
        * _paths(curves, colour)
        * _markers(curves, colour)
        * _names(curves, points, plane),
        title=heading(plane, "Information plane", seeds),
        xlim=xlim,
        ylim=ylim,
        show_legend=False,
        hooks=[typeset(notes)],
        **canvas(880, 600),
    )


class _Curve(NamedTuple):
    """The mean of one layer at the epochs that are drawn."""

    layer: str
    epoch: NDArray[np.int64]
    I_XT: NDArray[np.float64]
    I_TY: NDArray[np.float64]
    saturated: NDArray[np.bool_]


class _EpochColour:
    """Colour by log(1 + epoch), so that epoch 0 has a place, under the name and the ticks of the epochs."""

    def __init__(self, epochs: NDArray[np.int64]) -> None:
        first, last = int(epochs[0]), int(epochs[-1])
        self.dimension = hv.Dimension("log_epoch", label="epoch")
        self.limits = (self(first), self(last)) if first < last else (0.0, self(max(last, 1)))
        powers = [first, *(10**k for k in range(len(str(last))))]
        # A power of ten too near the last epoch would print over it.
        ticks = [e for e in powers if first <= e and self(e) < self(last) - 0.06 * np.ptp(self.limits)]
        shown = list(dict.fromkeys([*ticks, last]))
        self.ticks = [(self(epoch), str(epoch)) for epoch in shown]
        self.named_ticks = [(self(e), f"epoch {e}" if e in (first, last) else str(e)) for e in shown]

    def __call__(self, epoch: Any) -> Any:
        return np.log10(1.0 + epoch)

    @property
    def options(self) -> dict[str, Any]:
        return {"color": self.dimension.name, "cmap": _COLOURS, "clim": self.limits}


def _without_nan(plane: xr.Dataset) -> tuple[xr.Dataset, str, list[str]]:
    """Keep the seeds that are numbers throughout: else the mean would jump where a seed drops out."""
    finite = plane["I_XT"].notnull()
    complete = finite.all(["epoch", "layer"])
    every, kept = plane.sizes["seed"], int(complete.sum())
    cells = f"NaN in {int((~finite).sum()):,} of {finite.size:,} cells"
    if kept == every:
        return plane, count(every, "seed"), []
    if kept == 0:
        note = f"Every seed has NaN cells ({cells}): each mean is over the seeds that are numbers at that epoch."
        return plane, count(every, "seed"), [note]
    names = ", ".join(str(seed) for seed in plane["seed"].values[~complete.values])
    note = f"Left out: {count(every - kept, 'seed')} with NaN, as after divergence ({names}); {cells}."
    return plane.isel(seed=complete.values), f"{kept} of {count(every, 'seed')}", [note]


def _curves(plane: xr.Dataset, saturation: float) -> list[_Curve]:
    mean = plane.mean("seed")
    full = saturated(plane, saturation)
    curves = []
    for layer in plane["layer"].values:
        one = mean.sel(layer=layer).dropna("epoch")
        one = one.isel(epoch=log_spaced(one["epoch"].values, _PATH_EPOCHS))
        epoch = one["epoch"].values
        at = full.sel(layer=layer, epoch=epoch).values
        curves.append(_Curve(str(layer), epoch, one["I_XT"].values, one["I_TY"].values, at))
    return curves


def _key(plane: xr.Dataset) -> str:
    first, last = plane["epoch"].values[[0, -1]]
    line = "mean over seeds" if plane.sizes["seed"] > 1 else "the one seed"
    points = ""
    if plane.sizes["seed"] > 1:
        points = f" Small points: single seeds, at {count(len(_thinned(plane)), 'epoch')}."
    if first == last:
        return f"Large points: {line}, at epoch {first}.{points}"
    return f"Line: {line}, from epoch {first} (hollow) to epoch {last} (filled).{points}"


def _saturation_note(plane: xr.Dataset, saturation: float) -> list[str]:
    times = saturated(plane, saturation).sum("epoch")
    every = plane.sizes["epoch"]
    words = [
        f"{layer} throughout" if number == every else f"{layer} at {number} of {every} epochs"
        for layer, number in zip(times["layer"].values, times.values, strict=True)
        if number > 0
    ]
    if not words:
        return []
    return [
        f"Saturated (diamond): mean I(X;T) within {saturation:g} bits of H(X), nearly every input in a cell "
        f"of its own; I(X;T) can rise no further. Here: {', '.join(words)}."
    ]


def _thinned(plane: xr.Dataset) -> NDArray[np.int64]:
    """Positions of the epochs at which single seeds are drawn."""
    number = max(8, _POINTS // (plane.sizes["seed"] * plane.sizes["layer"]))
    return log_spaced(plane["epoch"].values, number)


def _points(plane: xr.Dataset, colour: _EpochColour) -> Any:
    few = plane.isel(epoch=_thinned(plane))
    x, y, epoch = (a.values.ravel() for a in xr.broadcast(few["I_XT"], few["I_TY"], few["epoch"]))
    finite = ~np.isnan(x)
    points = hv.Points((x[finite], y[finite], colour(epoch[finite])), [I_XT, I_TY], colour.dimension, group="Seeds")
    return styled(
        points,
        **colour.options,
        alpha=0.25,
        bokeh={"size": 3, "line_color": None},
        matplotlib={"s": 5, "linewidth": 0},
    )


def _paths(curves: list[_Curve], colour: _EpochColour) -> Any:
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
        **colour.options,
        colorbar=True,
        bokeh={
            "line_width": 2.5,
            "line_cap": "round",
            "cticks": colour.named_ticks,
            "clabel": "",  # bokeh writes it beside the foot of the bar; the ends of the scale say it
            "tools": ["hover"],
            "hover_tooltips": [
                "layer",
                "epoch",
                ("I(X;T)", "@I_XT_end{0.000} bits"),
                ("I(T;Y)", "@I_TY_end{0.000} bits"),
            ],
        },
        matplotlib={"linewidth": 2.2, "cbar_ticks": colour.ticks, "hooks": [_round_caps]},
    )


def _round_caps(plot: Any, _: Any) -> None:
    """Join the segments without gaps; HoloViews has an option for it under bokeh only."""
    plot.handles["artist"].set_capstyle("round")


def _markers(curves: list[_Curve], colour: _EpochColour) -> Any:
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
            fill = colour.options if filled else {"color": "white"}
            overlay.append(
                styled(
                    points,
                    **fill,
                    bokeh={"marker": shape, "size": 14 if full else 9, "line_color": INK, "line_width": 1.2},
                    matplotlib={"marker": symbol, "s": 45, "edgecolor": INK, "linewidth": 1},
                )
            )
    return hv.Overlay(overlay)


def _names(curves: list[_Curve], points: Any, plane: xr.Dataset) -> Any:
    """Write each layer's name beside the end of its path, with a leader where it had to move away."""
    low, high = np.array(limits(plane)).T
    ink = np.concatenate([_ink(curves, plane), points.array([0, 1])])
    ends = (np.array([(c.I_XT[-1], c.I_TY[-1]) for c in curves]) - low) / (high - low)
    groups = merge(ends, [c.layer for c in curves])
    groups.sort(key=lambda group: -ends[group[0], 0])  # the margin on the right leaves the least choice
    ends, names = ends[[first for first, _ in groups]], [name for _, name in groups]
    centres = place(ends, names, (ink - low) / (high - low))
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


def _ink(curves: list[_Curve], plane: xr.Dataset) -> NDArray[np.float64]:
    """Points along what a name should not cover: paths, their ends, the reference lines and labels."""
    (left, _), (bottom, top) = limits(plane)
    i_xy, h_x = plane.attrs["I_XY"], plane.attrs["H_X"]
    x, y = np.linspace(left, h_x, 60), np.linspace(bottom, i_xy, 60)
    words = np.array([(a, i_xy + b * (top - bottom)) for a in x[:14] for b in (0.01, 0.02, 0.03, 0.04)])
    along = np.linspace(0, 1, 400)
    paths = [
        np.column_stack([np.interp(along, np.linspace(0, 1, len(v)), v) for v in (c.I_XT, c.I_TY)]) for c in curves
    ]
    ends = [np.repeat(path[[0, -1]], 10, axis=0) for path in paths]
    lines = [np.column_stack([x, np.full_like(x, i_xy)]), np.column_stack([np.full_like(y, h_x), y])]
    return np.concatenate([words, *lines, *paths, *ends])
