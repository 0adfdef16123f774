"""Drift and diffusion: the mean of the mini-batch gradients and its noise against the epoch, on logarithmic scales."""

import warnings
from collections.abc import Sequence
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from ipstore.analysis.figures.curves import axis_limits, band, curve, curve_panels, sheet_of_layers
from ipstore.analysis.figures.epochs import EpochScale, log_spaced
from ipstore.analysis.figures.frame import INK, styled
from ipstore.analysis.figures.key import Entry
from ipstore.analysis.figures.panels import arrange
from ipstore.analysis.figures.planes import finite, without_nan
from ipstore.analysis.figures.wording import count, listed
from ipstore.errors import ParameterError, UnknownNameError

__all__ = ["gradients"]

_EPOCHS = 200
_SEEDS = (0.1, 0.9)
_CROSSINGS = (0.1, 0.5, 0.9)
_NORMS = ("grad_mean_norm", "grad_std_norm", "weight_norm")
_WORDS = {"mean": "mean", "std": "standard deviation"}
_COLOURS = {"mean": "#21618c", "std": "#c1121f"}
_SPAN = "#dddddd"


def gradients(
    training: xr.Dataset, layers: Sequence[str] | None = None, *, crossing: xr.DataArray | None = None
) -> Any:
    """Draw the norms of the mean and of the standard deviation of the mini-batch gradients, by the norm of the weights.

    One column per layer with a common scale, both axes logarithmic (that of the epochs in log(1 + epoch)): means over
    the seeds without a NaN, in bands that hold the middle 80% of those seeds. While the mean is larger the weights
    drift; where the standard deviation is, they diffuse.

    Parameters
    ----------
    training : Dataset
        grad_mean_norm, grad_std_norm and weight_norm (epoch, seed, layer), as a run has them under ``training``; its
        attribute ``source_run``, if there is one, names the run.
    layers : sequence of str, optional
        Which layers; all by default.
    crossing : DataArray (seed, layer), optional
        Epochs at which drift gives way to diffusion, NaN where a seed has none: a line marks their median over the
        seeds that are drawn, and a stripe the middle 80%.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `training` has no such norms, or none after epoch 0; `crossing` is not of these seeds and layers.
    UnknownNameError
        A layer that is not there.

    References
    ----------
    Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, figure 4.
    """
    ratios = _ratios(training, layers)
    moving = finite(ratios).any(["epoch", "seed"]).values
    without = [str(name) for name in ratios["layer"].values[~moving]]
    ratios, seeds, notes = without_nan(ratios.isel(layer=moving))
    names = [str(name) for name in ratios["layer"].values]
    several = ratios.sizes["seed"] > 1
    few = ratios.isel(epoch=log_spaced(ratios["epoch"].values, _EPOCHS))
    lines = _positive(few.mean("seed"))
    low, high = (_positive(_quantile(few, level)) for level in _SEEDS)
    marks = None if crossing is None else _checked(crossing, ratios)

    def draw(_: str, layer: str, scale: EpochScale) -> Any:
        bands, strokes = [], []
        for name in _WORDS:
            one, below, above = (part[name].sel(layer=layer).rename("gradient") for part in (lines, low, high))
            if not one.notnull().any():
                continue
            words = {"layer": layer, "of": _WORDS[name]}
            strokes.append(curve(one, scale, _COLOURS[name], words, dashed=name == "std"))
            if several and (below + above).notnull().any():
                bands.append(band(below, above, scale, _COLOURS[name], alpha=0.33))
        under = [] if marks is None else _mark(marks.sel(layer=layer).dropna("seed").values, scale, ylim)
        return hv.Overlay([*under, *bands, *strokes])

    parts = [lines, low, high] if several else [lines]
    drawn = [array for part in parts for array in part.data_vars.values() if array.notnull().any()]
    ylim = axis_limits(ratios, "gradient", drawn)
    run = f" · run {training.attrs['source_run']}" if "source_run" in training.attrs else ""
    return arrange(
        curve_panels(ratios, {"gradient": drawn}, draw),
        sheet_of_layers(names),
        title=f"Gradients: drift and diffusion{run}",
        details=[f"Mini-batch gradients of each epoch, by the norm of the layer's weights · {seeds}"],
        notes=[
            f"Lines: {'means over seeds; bands: the middle 80% of the seeds' if several else 'the one seed'}. Epoch 0 "
            "has no gradients. The axis of the epochs is log(1 + epoch).",
            *_crossing_note(marks),
            *_zero_note(ratios, lines),
            *([f"Without gradients of their own: {listed(without)}."] if without else []),
            *notes,
        ],
        key=("", _key(lines, marks)),
    )


def _ratios(training: xr.Dataset, layers: Sequence[str] | None) -> xr.Dataset:
    """Give mean and std (epoch, seed, layer) by the weight norm, in memory, from the first epoch that has gradients."""
    if not isinstance(training, xr.Dataset):
        raise ParameterError(
            f"gradients draws what a run has under training, run['training'].dataset, but got a "
            f"{type(training).__name__}"
        )
    dims = {"epoch", "seed", "layer"}
    missing = [name for name in _NORMS if name not in training or set(training[name].dims) != dims]
    if missing:
        there = ", ".join(f"{name} {array.dims}" for name, array in training.data_vars.items()) or "none"
        raise ParameterError(
            f"gradients draws grad_mean_norm, grad_std_norm and weight_norm (epoch, seed, layer), but there is no "
            f"{listed(missing)} among the variables given: {there}. Give run['training'].dataset; a run that was "
            "recorded without gradient statistics has none"
        )
    if layers is not None:
        known = [str(name) for name in training["layer"].values]
        for name in layers:
            if name not in known:
                raise UnknownNameError("layer", name, known)
        training = training.sel(layer=list(layers))
    norms = training[list(_NORMS)].transpose("epoch", "seed", "layer").sortby("epoch").astype(np.float64).compute()
    weights = norms["weight_norm"].where(norms["weight_norm"] > 0)
    ratios = xr.Dataset({"mean": norms["grad_mean_norm"] / weights, "std": norms["grad_std_norm"] / weights})
    ratios = ratios.isel(epoch=finite(ratios).any(["seed", "layer"]).values)
    if not ratios["mean"].size or not (ratios["mean"].max() > 0):
        raise ParameterError(
            f"no epoch has a gradient larger than 0; the epochs given are {_range(training['epoch'].values)}. Give at "
            "least one that was trained and captured, after epoch 0"
        )
    return ratios


def _range(epochs: Any) -> str:
    return f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else ", ".join(map(str, epochs)) or "none"


def _positive(values: xr.Dataset) -> xr.Dataset:
    """Keep what a logarithmic scale can show."""
    return values.where(values > 0)


def _quantile(values: xr.Dataset, level: float) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # where no seed is a number there is no band
        return values.quantile(level, "seed").drop_vars("quantile")


def _checked(crossing: xr.DataArray, ratios: xr.Dataset) -> xr.DataArray:
    """Give the epochs (seed, layer) of the seeds and layers that are drawn."""
    if not isinstance(crossing, xr.DataArray) or set(crossing.dims) != {"seed", "layer"}:
        given = crossing.dims if isinstance(crossing, xr.DataArray) else f"a {type(crossing).__name__}"
        raise ParameterError(f"crossing must be a DataArray of epochs (seed, layer) but got {given}")
    for name in ("seed", "layer"):
        absent = [str(value) for value in ratios[name].values if value not in crossing[name].values]
        if absent:
            raise ParameterError(f"crossing lacks {name} {', '.join(absent)}, which the figure draws; give one of all")
    return crossing.sel(seed=ratios["seed"].values, layer=ratios["layer"].values).compute()


def _mark(epochs: Any, scale: EpochScale, ylim: tuple[float, float]) -> list[Any]:
    """Draw the median of some epochs and the range of the middle 80% of them, from one end of the axis to the other."""
    if not len(epochs):
        return []
    low, middle, high = scale(np.quantile(epochs, _CROSSINGS))
    dims = [scale.dimension, "gradient", "log_epoch_end", "gradient_end"]
    return [
        styled(
            hv.Rectangles([(low, ylim[0], high, ylim[1])], dims, group="Crossings"),
            color=_SPAN,
            bokeh={"line_width": 0},
            matplotlib={"linewidth": 0},
        ),
        styled(
            hv.Segments([(middle, ylim[0], middle, ylim[1])], dims, group="Crossing"),
            color=INK,
            bokeh={"line_width": 1.4},
            matplotlib={"linewidth": 1},
        ),
    ]


def _key(lines: xr.Dataset, marks: xr.DataArray | None) -> list[Entry]:
    entries = [
        Entry(f"norm of the {words}", _COLOURS[name], dashed=name == "std")
        for name, words in _WORDS.items()
        if lines[name].notnull().any()
    ]
    if marks is not None and marks.notnull().any():
        entries += [Entry("crossing: median", INK), Entry("80% of the seeds that cross", _SPAN, area=True)]
    return entries


def _crossing_note(marks: xr.DataArray | None) -> list[str]:
    if marks is None:
        return []
    words = (
        "Crossing from drift to diffusion: where the mean first is smaller than the standard deviation after the early "
        "maximum of their ratio"
    )
    if not marks.notnull().any():
        return [f"{words}: no seed has one."]
    said = []
    for layer in marks["layer"].values:
        epochs = marks.sel(layer=layer).dropna("seed").values
        crossed = f"{len(epochs)} of {count(marks.sizes['seed'], 'seed')}"
        low, middle, high = np.quantile(epochs, _CROSSINGS) if len(epochs) else [np.nan] * 3
        words_of = f"{middle:.4g} ({low:.4g} to {high:.4g}), {crossed}" if len(epochs) else "none"
        said.append(f"{layer}: {words_of}")  # a layer may be called 8
    return [f"{words}. Median epoch (middle 80%) of the seeds that cross: {'; '.join(said)}."]


def _zero_note(ratios: xr.Dataset, lines: xr.Dataset) -> list[str]:
    notes = []
    for name, words in _WORDS.items():
        nowhere = [str(layer) for layer in ratios["layer"].values if not lines[name].sel(layer=layer).notnull().any()]
        if len(nowhere) == ratios.sizes["layer"] and name == "std":
            notes.append(
                "The standard deviation is 0 throughout and has no place on a logarithmic scale: with one batch in an "
                "epoch (full batch) there is no noise."
            )
        elif nowhere:
            notes.append(f"The {words} is 0 throughout, and not drawn, in {listed(nowhere)}.")
    return notes
