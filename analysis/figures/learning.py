"""Loss and accuracy against the epoch: what networks learn of the samples they are trained on, and of the others."""

from collections.abc import Mapping
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from ipstore.analysis.figures.curves import band, curve, quantity_panels
from ipstore.analysis.figures.epochs import EpochScale, log_spaced
from ipstore.analysis.figures.key import Entry
from ipstore.analysis.figures.over_epochs import middle
from ipstore.analysis.figures.panels import Sheet, arrange
from ipstore.analysis.figures.planes import without_nan
from ipstore.analysis.figures.strokes import seed_lines
from ipstore.analysis.figures.wording import count, listed, source
from ipstore.errors import ParameterError

__all__ = ["training"]

_EPOCHS, _SEED_EPOCHS = 200, 120  # of a line, and of the line of a single seed: more than so wide a panel can show
_METRICS = ("loss", "accuracy")
_DIMS = ("epoch", "seed", "split")
_COLOURS = {"train": "#21618c", "test": "#c1121f"}

_Lines = Mapping[tuple[str, str], xr.DataArray]
"""By metric and split: (epoch, seed), at the epochs at which any seed has a number."""


def training(training: xr.Dataset, *, seeds: bool = False) -> Any:
    """Draw loss and accuracy against the epoch, on the samples of each split.

    Lines are means over seeds, in bands that hold the middle 80% of them. A seed is left out, and named, if it has no
    number where another seed has one. Of a long run at most 200 epochs are drawn, evenly spaced in log(1 + epoch).

    Parameters
    ----------
    training : Dataset
        loss, accuracy or both (epoch, seed, split), as a run has them under ``training``; may be lazy. Its attribute
        ``source_run``, if there is one, names the run. What is NaN throughout was not recorded, which a note says.
    seeds : bool
        Whether single seeds are drawn too, as thin lines.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `training` has neither loss nor accuracy, or no number in them.
    """
    metrics = _metrics(training)
    every, absent = _lines(metrics)
    lines, kept, notes = _complete(every)
    several = next(iter(lines.values())).sizes["seed"] > 1
    few = {key: one.isel(epoch=log_spaced(one["epoch"].values, _EPOCHS)) for key, one in lines.items()}
    means = {key: one.mean("seed") for key, one in few.items()}
    ends = {key: _ends(one) for key, one in few.items()} if several else {}
    single = {key: one.isel(epoch=log_spaced(one["epoch"].values, _SEED_EPOCHS)) for key, one in lines.items()}
    names = [name for name in _METRICS if any(metric == name for metric, _ in lines)]

    def draw(name: str, scale: EpochScale) -> Any:
        under, over = [], []
        for (metric, split), mean in means.items():
            if metric != name:
                continue
            colour = _COLOURS[split]
            if several:
                under.append(band(*ends[metric, split], scale, colour, alpha=0.25))
            if seeds:
                under.append(seed_lines(single[metric, split], hv.Dimension(name), scale, colour))
            over.append(curve(mean, scale, colour, {"split": split}, dashed=split == "test"))
        return hv.Overlay([*under, *over])

    sheet = Sheet(len(names), 4.4, 3.2, above=0.2, beside=0.75, titles=0)
    drawn: dict[str, list[xr.DataArray]] = {name: [] for name in names}
    for (metric, split), mean in means.items():
        drawn[metric] += [mean, *ends.get((metric, split), ()), *([single[metric, split]] if seeds else [])]
    longest = max(one.sizes["epoch"] for one in lines.values())
    shown = max(one.sizes["epoch"] for one in few.values())
    thinned = [f"Drawn: {shown} of {count(longest, 'epoch')}."] if shown < longest else []
    splits = list(dict.fromkeys(split for _, split in lines))
    labels = {name: _label(metrics[name]) for name in names}
    return arrange(
        quantity_panels(metrics, drawn, draw, sheet, labels=labels),
        sheet,
        title=" · ".join(["Training", *([source(training)] if "source_run" in training.attrs else [])]),
        details=[" · ".join([f"{listed(names).capitalize()} by split", kept])],
        notes=[
            f"Lines: {'means over seeds; bands: the middle 80% of the seeds' if several else 'the one seed'}"
            f"{'; thin: single seeds' if several and seeds else ''}. The axis of the epochs is log(1 + epoch).",
            *thinned,
            *([f"Not recorded: {listed(absent)}."] if absent else []),
            *notes,
        ],
        key=("", [Entry(f"{split} samples", _COLOURS[split], dashed=split == "test") for split in splits]),
    )


def _metrics(training: Any) -> xr.Dataset:
    """Give loss and accuracy (epoch, seed, split), as far as they are there, in memory, epochs ascending."""
    if not isinstance(training, xr.Dataset):
        raise ParameterError(
            f"training draws what a run has under training, run['training'].dataset, but got a "
            f"{type(training).__name__}"
        )
    names = [name for name in _METRICS if name in training and set(training[name].dims) == set(_DIMS)]
    known = [str(name) for name in training["split"].values] if "split" in training.coords else []
    if not names or not known or not set(known) <= _COLOURS.keys():
        there = ", ".join(f"{name} {array.dims}" for name, array in training.data_vars.items()) or "none"
        raise ParameterError(
            f"training draws loss and accuracy (epoch, seed, split) of the splits train and test, but the variables "
            f"given are {there}, and the splits {listed(known) or 'none'}. Give run['training'].dataset"
        )
    return training[names].transpose(*_DIMS).sortby("epoch").astype(np.float64).compute()


def _lines(metrics: xr.Dataset) -> tuple[_Lines, list[str]]:
    """Take the metrics apart, and name those of which there is no number."""
    lines, absent = {}, []
    for name, metric in metrics.data_vars.items():
        for one in metric.where(np.isfinite(metric)).transpose("split", ...):
            split = str(one["split"].item())
            one = one.drop_vars("split").dropna("epoch", how="all")
            if one.size:
                lines[str(name), split] = one
            else:
                absent.append(f"{split} {name}")
    if not lines:
        raise ParameterError(
            f"no number to draw in {listed([str(name) for name in metrics.data_vars])}: they are NaN or empty at all "
            f"{metrics.sizes['epoch']} epochs. A Recorder keeps what is given to its epoch(loss=..., accuracy=...)"
        )
    return lines, absent + [name for name in _METRICS if name not in metrics]


def _complete(lines: _Lines) -> tuple[_Lines, str, list[str]]:
    """Keep the seeds that have a number wherever any seed has one; see `planes.without_nan`."""
    cells = xr.concat(
        [one.rename("value").rename(epoch="cell").drop_vars("cell") for one in lines.values()], dim="cell"
    )
    plane, kept, notes = without_nan(cells.rename(cell="epoch").to_dataset())
    return {key: one.sel(seed=plane["seed"].values) for key, one in lines.items()}, kept, notes


def _ends(line: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    low, high = middle(line.to_dataset(name="value"))
    return low["value"].rename(line.name), high["value"].rename(line.name)


def _label(metric: xr.DataArray) -> str:
    """Name a metric with its unit, as far as the run says."""
    words, unit = str(metric.attrs.get("long_name", metric.name)), str(metric.attrs.get("units", "1"))
    return words if unit == "1" else f"{words} ({unit})"
