"""The information plane as trajectories: one path per layer, the mean over seeds, coloured by epoch."""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from ipstore.analysis.figures.bottleneck import under
from ipstore.analysis.figures.composing import Frame, framed
from ipstore.analysis.figures.epochs import EpochScale
from ipstore.analysis.figures.paths import draw_paths, thinned
from ipstore.analysis.figures.planes import SATURATION, limits, prepare, saturated, without_nan
from ipstore.analysis.figures.wording import count, heading, saturation_words

__all__ = ["information_plane"]


def information_plane(
    plane: xr.Dataset,
    layers: Sequence[str] | None = None,
    *,
    saturation: float = SATURATION,
    bound: xr.Dataset | None = None,
) -> Any:
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
    bound : Dataset, optional
        The information-bottleneck curve of the same p(y|x), I_XT, I_TY, beta and gap (point), as
        `ipstore.analysis.ib.curve` gives it: drawn under the paths, in its certified band.

    Returns
    -------
    holoviews.Overlay
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `plane` lacks variables, dimensions or attributes, or has no number in it; `bound` is no curve, or one of
        another p(y|x).
    UnknownNameError
        A layer that the plane does not have.

    References
    ----------
    Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, figures 2 and 3.
    """
    plane, seeds, notes = without_nan(prepare(plane, layers))
    box = limits(plane)
    curve, words = under(bound, plane)
    notes = [_key(plane), *words, *_saturation_note(plane, saturation), *notes]
    return framed(
        curve * draw_paths(plane, box, EpochScale(plane["epoch"].values), saturation),
        Frame(heading(plane, "Information plane", seeds), notes, box),
    )


def _key(plane: xr.Dataset) -> str:
    first, last = plane["epoch"].values[[0, -1]]
    line = "mean over seeds" if plane.sizes["seed"] > 1 else "the one seed"
    points = ""
    if plane.sizes["seed"] > 1:
        points = f" Small points: single seeds, at {count(len(thinned(plane)), 'epoch')}."
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
        f"Saturated (diamond): {saturation_words(plane, saturation)}, nearly every input in a cell of its own, so that "
        f"I(X;T) can tell no more. Here: {', '.join(words)}."
    ]
