"""The units of a layer over the epochs: histograms, saturation, and the bins that they use."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
import xarray as xr
from holoviews.plotting.util import process_cmap
from numpy.typing import NDArray

from ipstore.analysis.figures.curves import band, curve, epoch_axis
from ipstore.analysis.figures.epochs import EpochScale
from ipstore.analysis.figures.frame import GREY, INK, styled
from ipstore.analysis.figures.heat import Rows, extent, image
from ipstore.analysis.figures.key import Entry
from ipstore.analysis.figures.over_epochs import middle
from ipstore.analysis.figures.panels import ColourBar, Panel, Sheet, arrange
from ipstore.analysis.figures.wording import count, estimator, listed, source
from ipstore.errors import ParameterError

__all__ = ["activations"]

_MOST = 12
"""Rows: more could not be told apart."""

_VARIABLES = {
    "counts": ("epoch", "unit", "bin"),
    "below": ("epoch", "seed"),
    "above": ("epoch", "seed"),
    "missing": ("epoch", "seed"),
    "bins_used": ("epoch", "seed", "unit"),
    "n_cells": ("epoch", "seed"),
}
_ATTRS = ("source_run", "layer", "samples", "estimator", "parameters")
_COUNTS: list[str] = process_cmap("viridis", 256)
_SHARES: list[str] = process_cmap("cividis", 256)


def activations(activity: xr.Dataset, units: Sequence[int] | None = None) -> Any:
    """Draw what the units of one layer do over the epochs, a row for each unit.

    From the left: the histograms of their activations, each row from the lowest value to the highest, coloured by the
    logarithm of the number of samples; the share of the samples at which a unit is saturated, or zero if it is a ReLU;
    the share of the bins that a unit uses under the estimator's rule; and the number of distinct codes of the layer,
    against the number of samples. Histograms hold the samples of all seeds, the others are means over the seeds.

    Parameters
    ----------
    activity : Dataset
        Of one layer, as `ipstore.analysis.layer_activity` gives it; may be lazy.
    units : sequence of int, optional
        Which units have a row, 12 at most. By default all, or, of more than 12, all in one row. Units that were chosen
        of so many stand under that row.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `activity` is of something else, or `units` are not in it or too many.
    """
    activity = _checked(activity)
    chosen = _chosen(activity, units)
    pooled = activity.sizes["unit"] > _MOST
    table = _Table(activity, chosen, pooled)
    shares = ["bins_used"] if activity.attrs.get("saturated") is None else ["saturation", "bins_used"]
    sheet = Sheet(len(shares) + 2, 2.15, max(2.8, 0.42 * table.rows), 0.2, beside=0.62, titles=2)
    scale, xlim = epoch_axis(activity["epoch"].values, sheet)
    if (epochs := activity.sizes["epoch"]) > 1:
        xlim = extent(scale.limits, epochs)  # images fill their frames
    panels = [table.histograms(scale, xlim), *(table.share(name, scale, xlim) for name in shares)]
    attrs = activity.attrs
    function = [f"activation: {attrs['function']}"] if "function" in attrs else []
    seeds = count(activity.sizes["seed"], "seed")
    return arrange(
        [*panels, _codes(activity, scale, xlim)],
        sheet,
        title=f"Activations of {attrs['layer']} · {source(activity)}",
        details=[" · ".join([*function, f"{attrs['samples']} samples", f"codes: {estimator(activity)}", seeds])],
        notes=_notes(activity, pooled),
        key=("share", [Entry(f"{k / 4:.0%}", _SHARES[k * 255 // 4], area=True) for k in range(5)]),
    )


class _Table(NamedTuple):
    """The panels with a row for each unit: of all units together, if there are many, and of those that are chosen."""

    activity: xr.Dataset
    chosen: list[int]
    pooled: bool

    @property
    def rows(self) -> int:
        return len(self.chosen) + self.pooled

    def histograms(self, scale: EpochScale, xlim: tuple[float, float]) -> Panel:
        counts = self.activity["counts"].astype(np.float64)
        values = self._rows(counts, counts.sum("unit"))
        most = max(10.0, float(values.max()))
        ticks = [(10.0**power, _short(10**power)) for power in range(int(np.log10(most)) + 1)]
        level = self.activity["bin"].values
        drawn = styled(
            self._image(values, "samples", scale, xlim, level),
            cmap=_COUNTS,
            clim=(1.0, most),
            logz=True,
            bokeh={
                "colorbar": True,
                "clabel": "",
                "cticks": ticks,
                "colorbar_opts": {"width": 10, "padding": 4, "bar_line_color": None},
                **self._hover(("value", "@level{0.000}"), ("samples", "@image{0,0}")),
            },
            matplotlib={"show_frame": False},
        )
        low, high = (float(self.activity[name].values[end]) for name, end in (("left", 0), ("right", -1)))
        title = f"samples by value\n{count(len(level), 'bin')}, {low:.3g} up to {high:.3g}"
        return self._panel(drawn, title, scale, xlim, y=True, bar=ColourBar((1.0, most), _COUNTS, ticks))

    def share(self, name: str, scale: EpochScale, xlim: tuple[float, float]) -> Panel:
        possible, of = _possible(self.activity)
        values, title = {
            "saturation": lambda: (self.activity["saturation"], f"saturated\n{self.activity.attrs['saturated']}"),
            "bins_used": lambda: (self.activity["bins_used"] / possible, f"bins used\n{of}"),
        }[name]()
        mean = values.mean("seed")
        drawn = styled(
            self._image(self._rows(mean, mean.mean("unit")), name, scale, xlim),
            cmap=_SHARES,
            clim=(0.0, 1.0),
            bokeh=self._hover(("share", "@image{0.0%}")),
            matplotlib={"show_frame": False},
        )
        return self._panel(drawn, title, scale, xlim, y=False)

    def _rows(self, values: xr.DataArray, all_units: xr.DataArray) -> NDArray[np.float64]:
        """Give values (epoch, unit, ...) as (row, level, epoch)."""
        parts = [values.sel(unit=self.chosen).values]
        if self.pooled:
            parts.insert(0, all_units.values[:, None])
        whole = np.concatenate(parts, axis=1)
        return whole.reshape(*whole.shape[:2], -1).transpose(1, 2, 0)

    def _image(
        self,
        values: NDArray[np.float64],
        name: str,
        scale: EpochScale,
        xlim: tuple[float, float],
        level: NDArray[np.float64] | None = None,
    ) -> Any:
        epochs = self.activity["epoch"].values
        unit = np.array([*([-1] if self.pooled else []), *self.chosen])
        return image(Rows(values, epochs, unit, level), hv.Dimension(name), scale, xlim, blank=level is not None)

    def _hover(self, *more: tuple[str, str]) -> dict[str, Any]:
        unit = ("unit (-1: all)" if self.pooled else "unit", "@unit")
        return {"tools": ["hover"], "hover_tooltips": [unit, ("epoch", "@epoch"), *more]}

    def _panel(self, drawn: Any, title: str, scale: EpochScale, xlim: tuple[float, float], **options: Any) -> Panel:
        names = [*(["all"] if self.pooled else []), *map(str, self.chosen)]
        rows = [(-k, name) for k, name in enumerate(names)]
        axes = {"xticks": scale.ticks, "xlabel": "epoch", "ylabel": "unit", "yticks": rows}
        return Panel(drawn, title, (xlim, (0.5 - self.rows, 0.5)), x=True, options=axes, **options)


def _checked(activity: Any) -> xr.Dataset:
    """Give what there is to draw, in memory, epochs ascending."""
    if not isinstance(activity, xr.Dataset):
        raise ParameterError(f"activations draws what `layer_activity` returned, but got a {type(activity).__name__}")
    missing = [
        name for name, dims in _VARIABLES.items() if name not in activity or set(activity[name].dims) != set(dims)
    ] + [name for name in _ATTRS if name not in activity.attrs]
    if missing:
        there = ", ".join(f"{name} {array.dims}" for name, array in activity.data_vars.items()) or "none"
        raise ParameterError(
            f"activations draws what `layer_activity` returned, with its attributes, but there is no "
            f"{listed(missing)}; the variables given are {there}. Give run.ip.layer_activity(layer), of one run"
        )
    if 0 in activity.sizes.values():
        raise ParameterError(
            f"there is nothing to draw: {dict(activity.sizes)}. Take at least one epoch, seed and unit"
        )
    names = [*_VARIABLES, *(["saturation"] if "saturation" in activity else [])]
    loaded: xr.Dataset = activity[names].sortby("epoch").compute()
    return loaded.transpose("epoch", "seed", "unit", "bin")


def _chosen(activity: xr.Dataset, units: Sequence[int] | None) -> list[int]:
    known = [int(unit) for unit in activity["unit"].values]
    if units is None:
        return known if len(known) <= _MOST else []
    absent = [str(unit) for unit in units if unit not in known]
    if absent or not 0 < len(units) <= _MOST or len(set(units)) < len(units):
        given = f"no unit {listed(absent)}" if absent else f"{len(units)} of them"
        raise ParameterError(
            f"units must name 1 to {_MOST} of the units {known[0]} to {known[-1]}, each once, but got {given}"
        )
    return [int(unit) for unit in units]


def _short(number: int) -> str:
    """Write a power of ten in three characters or four."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number // 10**power}{letter}"
    return str(number)


def _possible(activity: xr.Dataset) -> tuple[int, str]:
    """Give how many bins a unit can use, in words too; if the estimator knows no most, how many one did use."""
    if "bins_possible" in activity.attrs:
        possible = int(activity.attrs["bins_possible"])
        return possible, f"of {possible:,} bins"
    most = activity["bins_used"].max().item()
    used = int(most) if np.isfinite(most) else 1
    return used, f"of {used:,}, the most of a unit"


def _codes(activity: xr.Dataset, scale: EpochScale, xlim: tuple[float, float]) -> Panel:
    """Draw how many distinct codes the layer has, against how many there can be: as many as samples."""
    samples = float(activity.attrs["samples"])
    ylim = (-0.04 * samples, 1.14 * samples)
    cells = activity["n_cells"]
    dims = ["log_epoch", "n_cells"]
    words = f"{activity.attrs['samples']:,} samples"
    drawn = [
        styled(
            hv.Curve([(xlim[0], samples), (xlim[1], samples)], *dims, group="Reference"),
            bokeh={"color": GREY, "line_width": 1, "line_dash": "dashed"},
            matplotlib={"color": GREY, "linewidth": 0.8, "linestyle": "dashed"},
        ),
        styled(
            hv.Labels(
                [(xlim[0] + 0.02 * (xlim[1] - xlim[0]), 1.015 * samples, words)], dims, "text", group="Reference"
            ),
            bokeh={"text_color": GREY, "text_font_size": "8.5pt", "text_align": "left", "text_baseline": "bottom"},
            matplotlib={"color": GREY, "size": 8.5, "horizontalalignment": "left", "verticalalignment": "bottom"},
        ),
    ]
    if cells.notnull().any():
        if cells.sizes["seed"] > 1:
            low, high = middle(cells.to_dataset())
            drawn.append(band(low["n_cells"], high["n_cells"], scale, INK, alpha=0.2))
        drawn.append(curve(cells.mean("seed"), scale, INK, {"layer": activity.attrs["layer"]}))
    axes = {"xticks": scale.ticks, "xlabel": "epoch", "ylabel": " "}
    title = "distinct codes\nof the layer"
    return Panel(hv.Overlay(drawn), title, (xlim, ylim), x=True, y=True, grid=True, options=axes)


def _notes(activity: xr.Dataset, pooled: bool) -> list[str]:
    attrs, seeds = activity.attrs, activity.sizes["seed"]
    of = {"codes of bins": "the codes that the run stores", "rebuilt from weights": "activations rebuilt from weights"}
    what = of.get(attrs.get("activations", ""), "the activations")
    over = f"samples of {count(seeds, 'seed')} together" if seeds > 1 else "samples of the one seed"
    notes = [
        f"Left: how many {over} lie in each bin of {what}, every row from the lowest value to the highest, in colours "
        "of the logarithm; white: none.",
        ("The others: means over seeds; band: the middle 80% of the seeds. " if seeds > 1 else "")
        + "The axis of the epochs is log(1 + epoch)"
        + (
            f"; shown are {activity.sizes['epoch']} of {count(attrs['epochs_of_run'], 'epoch')}, each as far as it is "
            "the nearest."
            if activity.sizes["epoch"] < attrs.get("epochs_of_run", 0)
            else "."
        ),
    ]
    if pooled:
        notes.append(f"Row all: the {activity.sizes['unit']:,} units together; their means in the panels of shares.")
    return notes + _saturation_notes(activity) + _codes_note(activity) + _missing_notes(activity)


def _saturation_notes(activity: xr.Dataset) -> list[str]:
    if "no_saturation" in activity.attrs:
        return [f"Saturation is not shown: {activity.attrs['no_saturation']}."]
    if "saturation" not in activity or activity.attrs["saturated"] != "exactly 0":
        return []
    dead = (activity["saturation"].isel(epoch=-1) == 1).sum("seed")
    named = [
        f"{unit} in {int(number)} of {count(activity.sizes['seed'], 'seed')}"
        for unit, number in zip(dead["unit"].values, dead.values, strict=True)
        if number
    ]
    at = int(activity["epoch"].values[-1])
    some = [*named[:8], *([f"{len(named) - 8} more"] if len(named) > 8 else [])]
    return [f"Dead at epoch {at}, 0 on every sample: {f'unit {listed(some)}' if some else 'no unit of any seed'}."]


def _codes_note(activity: xr.Dataset) -> list[str]:
    mean = activity["n_cells"].mean("seed").dropna("epoch")
    if not mean.size:
        return ["Codes: none, as no seed has activations that the estimator takes."]
    said = [
        f"{mean.values[k]:,.4g} at epoch {int(mean['epoch'].values[k])}" for k in ([0, -1] if mean.size > 1 else [0])
    ]
    return [
        f"Distinct codes of the layer, mean over seeds: {' and '.join(said)}, of {activity.attrs['samples']:,} samples."
    ]


def _missing_notes(activity: xr.Dataset) -> list[str]:
    notes = []
    total = activity.attrs["samples"] * activity["n_cells"].size * activity.sizes["unit"]
    for name, words in (("below", "below"), ("above", "above")):
        if number := int(activity[name].sum()):
            notes.append(f"Outside the bins of the left panel, {words} them: {number / total:.2%} of the activations.")
    seeds = activity["seed"].values[(activity["missing"] > 0).any("epoch").values]
    if len(seeds):
        notes.append(
            f"NaN, as after divergence, in {count(len(seeds), 'seed')} ({', '.join(map(str, seeds))}): such "
            "activations are in no histogram, and such layers in no mean of bins or codes."
        )
    refused = activity["n_cells"].isnull() & (activity["missing"] == 0)
    if refused.any():
        notes.append(
            f"The estimator cannot take {int(refused.sum()):,} of {refused.size:,} layers, as with infinities."
        )
    return notes
