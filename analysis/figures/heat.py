"""Rows of cells against the epoch, as one image: what many small plots would say, drawn at once."""

from importlib.util import find_spec
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.figures.epochs import EpochScale

__all__ = ["Rows", "extent", "image"]

_COLUMNS, _LINES = 120, 420
"""Of an image, where there are more cells: as many as a panel on screen has pixels, or half."""

_LARGE = 200_000
"""Cells from which on datashader takes the mean of those that share a pixel."""

_GAP = 0.06
"""Of a row, left white above it and under it."""

_PLAIN = 8
"""Lines of a row that has but one level."""


class Rows(NamedTuple):
    """What an image shows.

    Parameters
    ----------
    values : (row, level, epoch) float64
        Rows from the top down, levels from low to high; NaN is left white.
    epoch : (epoch,) int64
    unit : (row,) int64
        What stands in a row, for tooltips.
    level : (level,) float64 or None
        What a level stands for, for tooltips; None if there is but one.
    """

    values: NDArray[np.float64]
    epoch: NDArray[np.int64]
    unit: NDArray[np.int64]
    level: NDArray[np.float64] | None


def extent(limits: tuple[float, float], epochs: int) -> tuple[float, float]:
    """Widen the limits of a scale of several epochs so that the middle of the last column is the last epoch."""
    half = (limits[1] - limits[0]) / (_columns(epochs) - 1) / 2
    return limits[0] - half, limits[1] + half


def _columns(epochs: int) -> int:
    return min(_COLUMNS, 40 * epochs)


def image(rows: Rows, dimension: Any, scale: EpochScale, span: tuple[float, float], *, blank: bool = False) -> Any:
    """Draw rows of cells, row k between -k - 0.5 and -k + 0.5.

    Each column shows the epoch that is nearest on the scale. Where there are many cells, and datashader is there,
    a pixel is the mean of all whose middles lie in it, and else of one.

    Parameters
    ----------
    rows : Rows
    dimension : hv.Dimension
        Of the values.
    scale : EpochScale
    span : (float, float)
        Of the image along the scale, such as `extent` gives it.
    blank : bool
        Whether zeros, too, are left white.

    Returns
    -------
    holoviews.Image
        With value dimensions of that name, ``epoch``, ``unit`` and, if there are levels, ``level``.
    """
    values = rows.values if rows.level is not None else rows.values.repeat(_PLAIN, axis=1)
    number, levels, _ = values.shape
    gap = max(1, round(_GAP * levels))
    padded = np.full((number, levels + 2 * gap, len(rows.epoch)), np.nan)
    padded[:, gap:-gap] = values
    cells = padded[::-1].reshape(-1, len(rows.epoch))  # from the bottom up
    place = np.linspace(*span, 2 * _columns(len(rows.epoch)) + 1)[1::2]
    at = scale(rows.epoch)
    nearest = np.searchsorted((at[1:] + at[:-1]) / 2, place, side="right")
    line = np.arange(len(cells))
    if cells.size > _LARGE and find_spec("datashader") is not None:
        shown, line = _averaged(cells, at, place, span)
    else:
        shown = cells[:, nearest]
    if blank:
        shown = np.where(shown == 0, np.nan, shown)
    row, level = number - 1 - line // (levels + 2 * gap), np.clip(line % (levels + 2 * gap) - gap, 0, levels - 1)
    height = number / len(line)
    y = -number + 0.5 + height * (np.arange(len(line)) + 0.5)
    shape = shown.shape
    columns = [
        shown.astype(np.float32),
        np.broadcast_to(rows.epoch[nearest].astype(np.int32), shape),
        np.broadcast_to(rows.unit[row].astype(np.int16)[:, None], shape),
    ]
    names = [dimension, "epoch", "unit"]
    if rows.level is not None:
        columns.append(np.broadcast_to(rows.level[level].astype(np.float32)[:, None], shape))
        names.append("level")
    return hv.Image((place, y, *columns), [scale.dimension, "row"], names)


def _averaged(
    cells: NDArray[np.float64], at: NDArray[np.float64], place: NDArray[np.float64], span: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Let datashader take the means of the cells in each pixel; give them with the line of cells of each of theirs."""
    from holoviews.operation.datashader import rasterize

    lines = min(len(cells), _LINES)
    # By their middles: datashader puts the edges half way between these, and would do so with the middles of edges.
    mesh = hv.QuadMesh((at, np.arange(len(cells)) + 0.5, cells), ["x", "y"], "z")
    ranges = {"x_range": span, "y_range": (0.0, float(len(cells)))}
    drawn = rasterize(mesh, aggregator="mean", width=len(place), height=lines, dynamic=False, **ranges)
    found = drawn.dimension_values("z", flat=False)
    return found, np.floor((np.arange(lines) + 0.5) * len(cells) / lines).astype(np.int64)
