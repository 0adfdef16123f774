"""Where layers end in the information plane, at every value of a setting: the paper's figure 6."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
import xarray as xr
from holoviews.plotting.util import process_cmap
from numpy.typing import NDArray

from ipstore.analysis.figures.along import Along, along
from ipstore.analysis.figures.bars import bar_words, error_bar
from ipstore.analysis.figures.bottleneck import under
from ipstore.analysis.figures.composing import Frame, framed
from ipstore.analysis.figures.frame import GREY, I_TY, I_XT, INK, STEP, reference_lines, styled
from ipstore.analysis.figures.paths import layer_names
from ipstore.analysis.figures.planes import SATURATION, finite, limits, saturated
from ipstore.analysis.figures.wording import count, heading, listed, saturation_words
from ipstore.errors import ParameterError

__all__ = ["converged"]

_TICKS = 24  # of a colour bar: more would print over one another


class _End(NamedTuple):
    """One layer at the last epoch of one value."""

    layer: str
    place: int  # of the value
    value: str
    epoch: int
    I_XT: float
    I_TY: float
    bars: NDArray[np.float64]  # (I_XT and I_TY, low and high)
    saturated: bool


def converged(
    plane: xr.Dataset,
    layers: Sequence[str] | None = None,
    *,
    saturation: float = SATURATION,
    bound: xr.Dataset | None = None,
) -> Any:
    """Draw where every layer ends at each value along an axis of a sweep: one line per layer, through the values.

    A point is the mean over seeds at the last epoch of the run at that value, its colour the value, with error bars in
    both directions.

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY (axis, epoch, seed, layer), in bits, at two values or more, with the attrs of `information_plane`:
        as `ipstore.analysis.sweep` puts planes together. NaN where the run at a value has no such layer, epoch or seed.
    layers : sequence of str, optional
        Which layers; all by default.
    saturation : float
        A layer whose mean I(X;T) lies within so many bits of H(X) is marked as saturated.
    bound : Dataset, optional
        The information-bottleneck curve of the same p(y|x), drawn under the layers; see `information_plane`.

    Returns
    -------
    holoviews.Overlay
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `plane` has no such axis or several, fewer than two values along it, or is no information plane; `bound` is no
        curve of its p(y|x).
    UnknownNameError
        A layer that the plane does not have.

    References
    ----------
    Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, figure 6.
    """
    apart = along(plane, layers, "converged")
    last, lost = zip(*(_last(one) for one in apart.planes), strict=True)
    ends = [
        end
        for place, (value, one) in enumerate(zip(apart.values, last, strict=True))
        for end in _ends(place, value, one, saturation)
    ]
    names = [str(name) for name in plane["layer"].values if any(end.layer == name for end in ends)]
    lines = {name: np.array([(end.I_XT, end.I_TY) for end in ends if end.layer == name]) for name in names}
    first = last[0]
    box = limits(*last)
    curve, words = under(bound, first)
    crosses = _crosses(ends)
    inked = hv.Points(np.array([bar for end in ends for bar in end.bars.T]), [I_XT, I_TY])
    notes = [
        _key(last),
        *words,
        *_saturation_note(ends, saturation, apart),
        *apart.notes,
        *_lost_note(apart, lost),
    ]
    title = heading(first, f"Converged layers along {apart.axis}", _seeds([one.sizes["seed"] for one in last]))
    return framed(
        curve
        * reference_lines(first, box)
        * _lines(ends, names)
        * crosses
        * _points(ends, apart)
        * layer_names(lines, inked, first, box),
        Frame(title, notes, box),
    )


def _last(plane: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    """Give the last epoch of a plane, of the seeds that have a number there in every layer, and the others."""
    end = plane.isel(epoch=[-1])
    there = finite(end).all(["epoch", "layer"]).values
    if not there.any():
        raise ParameterError(
            f"at the last epoch, {int(end['epoch'][0])}, no seed has a number in every layer; choose earlier epochs, "
            "as with plane.sel(epoch=slice(0, 100)), or other layers"
        )
    return end.isel(seed=np.flatnonzero(there)), [str(seed) for seed in end["seed"].values[~there]]


def _ends(place: int, value: str, plane: xr.Dataset, saturation: float) -> list[_End]:
    full = saturated(plane, saturation).isel(epoch=0)
    epoch = int(plane["epoch"][0])
    found = []
    for layer in plane["layer"].values:
        seeds = plane.sel(layer=layer).isel(epoch=0, drop=True)
        x, y = seeds["I_XT"], seeds["I_TY"]
        bars = np.stack([error_bar(x), error_bar(y)])
        found.append(
            _End(str(layer), place, value, epoch, float(x.mean()), float(y.mean()), bars, bool(full.sel(layer=layer)))
        )
    return found


def _lines(ends: Sequence[_End], names: Sequence[str]) -> Any:
    """Join the ends of each layer, in the order of the values."""
    steps = []
    for name in names:
        own = [end for end in ends if end.layer == name]
        steps += [(a.I_XT, a.I_TY, b.I_XT, b.I_TY, name) for a, b in pairwise(own)]
    return styled(
        hv.Segments(steps, STEP, "layer", group="Layers"),
        color=GREY,
        bokeh={"line_width": 1.2, "line_cap": "round"},
        matplotlib={"linewidth": 1},
    )


def _crosses(ends: Sequence[_End]) -> Any:
    bars = []
    for end in ends:
        (left, right), (low, high) = end.bars
        bars += [(left, end.I_TY, right, end.I_TY), (end.I_XT, low, end.I_XT, high)]
    return styled(
        hv.Segments(bars, STEP, group="Interval"),
        color=INK,
        bokeh={"line_width": 0.9},
        matplotlib={"linewidth": 0.7},
    )


def _points(ends: Sequence[_End], apart: Along) -> Any:
    """Mark the means: a diamond where the layer is saturated, the colour the place of the value."""
    number = len(apart.values)
    colours = process_cmap("viridis", 256)[:236]  # the lightest yellow is lost on white
    shades = [colours[round(i * (len(colours) - 1) / max(number - 1, 1))] for i in range(number)]
    every = -(-number // _TICKS)
    ticks = [(i, value) for i, value in enumerate(apart.values) if i % every == 0 or i == number - 1]
    place = hv.Dimension("place", label=apart.axis)
    overlay: list[Any] = []
    for full, shape, symbol in ((False, "circle", "o"), (True, "diamond", "D")):
        rows = [
            (end.I_XT, end.I_TY, end.place, end.layer, end.value, end.epoch) for end in ends if end.saturated == full
        ]
        if not rows:
            continue
        overlay.append(
            styled(
                hv.Points(rows, [I_XT, I_TY], [place, "layer", "value", "epoch"], group="End"),
                color="place",
                cmap=shades,
                clim=(-0.5, number - 0.5),
                colorbar=not overlay,
                bokeh={
                    "marker": shape,
                    "size": 13 if full else 9,
                    "line_color": INK,
                    "line_width": 0.8,
                    "cticks": [*ticks[:-1], (number - 1, f"{apart.axis} {apart.values[-1]}")],
                    "clabel": "",  # bokeh writes it beside the foot of the bar; the end of the scale says it
                    "tools": ["hover"],
                    "hover_tooltips": [
                        "layer",
                        (apart.axis, "@value"),
                        "epoch",
                        ("I(X;T)", "@I_XT{0.000}"),
                        ("I(T;Y)", "@I_TY{0.000}"),
                    ],
                },
                matplotlib={
                    "marker": symbol,
                    "s": 42,
                    "edgecolor": INK,
                    "linewidth": 0.7,
                    "clabel": apart.axis,
                    "cbar_ticks": ticks,
                },
            )
        )
    return hv.Overlay(overlay)


def _seeds(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return count(low, "seed") if low == high else f"{low} to {high} seeds"


def _key(last: Sequence[xr.Dataset]) -> str:
    epochs = sorted({int(one["epoch"][0]) for one in last})
    when = (
        f"at epoch {epochs[0]}" if len(epochs) == 1 else f"at the last epoch of each run, {epochs[0]} to {epochs[-1]}"
    )
    fewest = min(one.sizes["seed"] for one in last)
    if max(one.sizes["seed"] for one in last) == 1:
        return f"Points: the one seed, {when}. Lines join the values of a layer in their order."
    bars = (
        f"crosses: {bar_words(fewest)}" if fewest > 1 else "crosses: 95% BCa bootstrap interval, or range of few seeds"
    )
    return f"Points: means over seeds, {when}; {bars}. Lines join the values of a layer in their order."


def _saturation_note(ends: Sequence[_End], saturation: float, apart: Along) -> list[str]:
    words = []
    for layer in dict.fromkeys(end.layer for end in ends):
        own = [end for end in ends if end.layer == layer]
        full = [end.value for end in own if end.saturated]
        if len(full) == len(own):
            words.append(f"{layer} throughout")
        elif full:
            words.append(f"{layer} at {listed(full)}")
    if not words:
        return []
    return [
        f"Saturated (diamond): {saturation_words(apart.planes[0], saturation)}, so that it measures the resolution and "
        f"not the layer: {'; '.join(words)}."
    ]


def _lost_note(apart: Along, lost: Sequence[list[str]]) -> list[str]:
    words = [f"{', '.join(seeds)} at {value}" for value, seeds in zip(apart.values, lost, strict=True) if seeds]
    return [f"Left out: seeds with NaN at the end, as after divergence: {'; '.join(words)}."] if words else []
