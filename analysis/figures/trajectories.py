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
    count,
    footnotes,
    heading,
    limits,
    log_spaced,
    prepare,
    reference_lines,
    saturated,
    styled,
)
from ipstore.analysis.figures.placing import merge, place

__all__ = ["information_plane"]

_PATH_EPOCHS = 400  # a path bends visibly in far fewer; more only makes the file heavier
_POINTS = 6000  # faint points in all: about 0.5 MB of html

_COLOURS = hv.plotting.util.process_cmap("plasma", 256)[:225]  # the lightest yellow is lost on white


def information_plane(
    plane: xr.Dataset, layers: Sequence[str] | None = None, *, saturation: float = SATURATION
) -> Any:
    """Draw the trajectory of every layer through the information plane.

    A path is the mean over the seeds without a NaN, its colour the epoch on the scale log(1 + epoch); faint
    points are single seeds. Paths are drawn at 400 log-spaced epochs at most, points at fewer.

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY (epoch, seed, layer), in bits, as `information_plane` of an analysis gives it, with its attrs
        estimator, parameters, labels, I_XY, H_X and source_run.
    layers : sequence of str, optional
        Which layers; all by default.
    saturation : float
        A layer whose mean I(X;T) lies within so many bits of H(X) is marked as saturated: nearly every input has
        a cell of its own, so I(X;T) measures the resolution and not the layer.

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
    plane = prepare(plane, layers)
    used, seeds, notes = _without_nan(plane)
    curves = _curves(used, saturation)
    drawn = used["epoch"].values
    xlim, ylim = limits(plane)
    colour = _EpochColour(drawn)
    first, last = drawn[0], drawn[-1]
    notes = [
        f"Line: mean over seeds, from epoch {first} (hollow) to epoch {last} (filled). Points: single seeds.",
        *_saturation_note(used, saturation),
        *notes,
    ]
    return styled(
        reference_lines(plane)
        * _points(used, colour)
        * _paths(curves, colour)
        * _markers(curves, colour)
        * _names(curves, plane),
        title=heading(plane, "Information plane", seeds),
        xlim=xlim,
        ylim=ylim,
        show_legend=False,
        hooks=[footnotes(notes)],
        bokeh={"width": 880, "height": 600, "toolbar": "right"},
        matplotlib={"fig_inches": (8.8, 6), "aspect": "auto"},
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
        self.ticks = [(self(epoch), str(epoch)) for epoch in dict.fromkeys([*ticks, last])]

    def __call__(self, epoch: Any) -> Any:
        return np.log10(1.0 + epoch)

    @property
    def options(self) -> dict[str, Any]:
        return {"color": self.dimension.name, "cmap": _COLOURS, "clim": self.limits}


def _without_nan(plane: xr.Dataset) -> tuple[xr.Dataset, str, list[str]]:
    """Keep the seeds that are numbers throughout: a mean over changing seeds would jump where one drops out."""
    finite = np.isfinite(plane["I_XT"] + plane["I_TY"])
    complete = finite.all(["epoch", "layer"])
    every, kept = plane.sizes["seed"], int(complete.sum())
    cells = f"NaN in {int((~finite).sum()):,} of {finite.size:,} cells"
    if kept == every:
        return plane, count(every, "seed"), []
    if kept == 0:
        note = f"Every seed has NaN cells ({cells}): each mean is over the seeds that are numbers at that epoch."
        return plane, count(every, "seed"), [note]
    names = ", ".join(str(seed) for seed in plane["seed"].values[~complete.values])
    note = f"Left out: {count(every - kept, 'seed')} with NaN cells, as after divergence ({cells}): seed {names}."
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


def _saturation_note(plane: xr.Dataset, saturation: float) -> list[str]:
    share = saturated(plane, saturation).mean("epoch")
    words = [
        f"{layer} throughout" if part == 1 else f"{layer} in {max(part, 0.01):.0%} of the epochs"
        for layer, part in zip(share["layer"].values, share.values, strict=True)
        if part > 0
    ]
    if not words:
        return []
    return [
        f"Diamond: saturated, mean I(X;T) within {saturation:g} bits of H(X); nearly every input has a cell of its "
        f"own, so I(X;T) could not be higher. {'; '.join(words)}."
    ]


def _points(plane: xr.Dataset, colour: _EpochColour) -> Any:
    number = max(8, _POINTS // (plane.sizes["seed"] * plane.sizes["layer"]))
    few = plane.isel(epoch=log_spaced(plane["epoch"].values, number))
    x, y, epoch = (a.values.ravel() for a in xr.broadcast(few["I_XT"], few["I_TY"], few["epoch"]))
    finite = np.isfinite(x + y)
    points = hv.Points(
        (x[finite], y[finite], colour(epoch[finite])), [I_XT, I_TY], colour.dimension, group="Seeds"
    )
    return styled(
        points,
        **colour.options,
        alpha=0.25,
        bokeh={"size": 3, "line_color": None},
        matplotlib={"s": 5, "linewidth": 0},
    )


def _paths(curves: list[_Curve], colour: _EpochColour) -> Any:
    data = [
        {"I_XT": c.I_XT, "I_TY": c.I_TY, "log_epoch": colour(c.epoch), "epoch": c.epoch, "layer": c.layer}
        for c in curves
    ]
    return styled(
        hv.Path(data, [I_XT, I_TY], [colour.dimension, "epoch", "layer"], group="Mean"),
        **colour.options,
        colorbar=True,
        bokeh={
            "line_width": 2.5,
            "line_cap": "round",
            "cticks": colour.ticks,
            "tools": ["hover"],
            "hover_tooltips": ["layer", "epoch", "I_XT", "I_TY"],
        },
        matplotlib={"linewidth": 2.2, "cbar_ticks": colour.ticks},
    )


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
                    bokeh={"marker": shape, "size": 12 if full else 9, "line_color": INK, "line_width": 1.2},
                    matplotlib={"marker": symbol, "s": 45, "edgecolor": INK, "linewidth": 1},
                )
            )
    return hv.Overlay(overlay)


def _names(curves: list[_Curve], plane: xr.Dataset) -> Any:
    """Write each layer's name beside the end of its path, with a leader where it had to move away."""
    low, high = np.array(limits(plane)).T
    ends = (np.array([(c.I_XT[-1], c.I_TY[-1]) for c in curves]) - low) / (high - low)
    groups = merge(ends, [c.layer for c in curves])
    ends = ends[[first for first, _ in groups]]
    names = [name for _, name in groups]
    centres = place(ends, names, (_ink(curves, plane) - low) / (high - low))
    far = np.abs(centres - ends)[:, 1] > 0.07
    leaders = np.hstack([ends, centres])[far] * np.tile(high - low, 2) + np.tile(low, 2)
    x, y = (centres * (high - low) + low).T
    return styled(
        hv.Segments(leaders, [I_XT, I_TY, "I_XT_end", "I_TY_end"], group="Leader"),
        color=INK,
        bokeh={"line_width": 0.7},
        matplotlib={"linewidth": 0.5},
    ) * styled(
        hv.Labels((x, y, names), [I_XT, I_TY], "text", group="Layer"),
        bokeh={"text_color": INK, "text_font_size": "10pt"},
        matplotlib={"color": INK, "size": 10},
    )


def _ink(curves: list[_Curve], plane: xr.Dataset) -> NDArray[np.float64]:
    """Points along everything that a name should not cover: paths, their ends, and the reference lines."""
    (left, right), (bottom, top) = limits(plane)
    along = np.linspace(0, 1, 100)
    horizontal = np.column_stack([left + along * (right - left), np.full(100, plane.attrs["I_XY"])])
    vertical = np.column_stack([np.full(100, plane.attrs["H_X"]), bottom + along * (top - bottom)])
    paths = [np.column_stack([c.I_XT, c.I_TY]) for c in curves]
    ends = [np.repeat(path[[0, -1]], 10, axis=0) for path in paths]
    return np.concatenate([horizontal, vertical, *paths, *ends])
