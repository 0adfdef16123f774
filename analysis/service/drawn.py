"""What a page draws of a plane or of a training record: arrays of numbers, made once for all browsers."""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.figures.epochs import log_spaced
from ipstore.analysis.figures.frame import Limits
from ipstore.analysis.figures.placing import merge
from ipstore.analysis.figures.planes import finite, limits, prepare, without_nan

__all__ = ["Columns", "Lines", "Trajectories", "on_scale"]

Columns = dict[str, Any]
"""Of a table that a browser draws: equally long, by name."""

_STEPS = 400
"""Epochs at which a line bends at most."""


_CROWDED = (0.35, 0.9)
"""Width and height of a frame whose names come together as those of the one on a page do."""

_NOWHERE = np.array([np.nan])


def on_scale(epoch: Any) -> Any:
    """Give the place of an epoch on the axis of epochs, log10(1 + epoch)."""
    return np.log10(1.0 + np.asarray(epoch, np.float64))


@dataclass(frozen=True)
class Trajectories:
    """Every network of a plane at every epoch, and the mean over seeds.

    Attributes
    ----------
    layers : tuple of str
    epochs, seeds : (epoch,), (seed,) int64
    I_XT, I_TY : (epoch, seed, layer) float64
        In bits; NaN where there is no estimate.
    path : (2, step, layer) float64
        The mean of both over seeds, at the epochs `steps`.
    steps : (step,) int64
    ends : Limits
        Least and greatest of I_XT, and of I_TY.
    box : Limits
        Of the axes: all of it lies inside, with the reference lines, and there is room for more.
    notes : tuple of str
        What was left out.
    attrs : dict
        What the plane says of itself.
    """

    layers: tuple[str, ...]
    epochs: NDArray[np.int64]
    seeds: NDArray[np.int64]
    I_XT: NDArray[np.float64]
    I_TY: NDArray[np.float64]
    path: NDArray[np.float64]
    steps: NDArray[np.int64]
    ends: Limits
    box: Limits
    notes: tuple[str, ...]
    attrs: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, plane: xr.Dataset) -> Self:
        """Take a plane apart.

        Raises
        ------
        ParameterError
            If it lacks I(X;T) or I(T;Y), or holds no number.
        """
        prepared = prepare(plane)
        prepared = prepared.isel(epoch=finite(prepared).any(["seed", "layer"]).values)
        whole, _, notes = without_nan(prepared)
        steps = log_spaced(whole["epoch"].values, _STEPS)
        mean = whole.isel(epoch=steps).mean("seed")
        return cls(
            tuple(map(str, prepared["layer"].values)),
            prepared["epoch"].values,
            prepared["seed"].values,
            prepared["I_XT"].values,
            prepared["I_TY"].values,
            np.stack([mean["I_XT"].values, mean["I_TY"].values]),
            prepared["epoch"].values[steps],
            (_ends(prepared["I_XT"].values), _ends(prepared["I_TY"].values)),
            _opened(limits(prepared)),
            tuple(notes),
            dict(plane.attrs),
        )

    def fits(self, box: Limits) -> bool:
        """Whether all of it lies inside these axes."""
        return all(
            low <= least and greatest <= high for (low, high), (least, greatest) in zip(box, self.ends, strict=True)
        )

    def at(self, epoch: int) -> int:
        """Find the position of the last epoch that is no later than `epoch`, or the first of all."""
        return max(0, int(np.searchsorted(self.epochs, epoch, side="right")) - 1)

    def paths(self, layers: Collection[str]) -> Columns:
        """Give one line for each of `layers`."""
        shown = [place for place, layer in enumerate(self.layers) if layer in layers]
        names = [self.layers[place] for place in shown]
        return {
            "xs": [self.path[0, :, place] for place in shown],
            "ys": [self.path[1, :, place] for place in shown],
            "layer": names,
            "color": names,
        }

    def steps_of(self, layers: Collection[str]) -> Columns:
        """Give the points at which the lines of `layers` bend."""
        shown = [place for place, layer in enumerate(self.layers) if layer in layers]
        names = np.repeat([self.layers[place] for place in shown], len(self.steps)).tolist()
        return {
            "I_XT": self.path[0][:, shown].T.ravel(),
            "I_TY": self.path[1][:, shown].T.ravel(),
            "layer": names,
            "epoch": np.tile(self.steps, len(shown)),
        }

    def snapshot(self, epoch: int, layers: Collection[str]) -> Columns:
        """Give a point for each seed and each of `layers` at the epoch, or at the last before it."""
        position = self.at(epoch)
        shown = [place for place, layer in enumerate(self.layers) if layer in layers]
        names = [self.layers[place] for place in shown for _ in self.seeds]
        return {
            "I_XT": self.I_XT[position][:, shown].T.ravel(),
            "I_TY": self.I_TY[position][:, shown].T.ravel(),
            "layer": names,
            "color": names,
            "seed": np.tile(self.seeds, len(shown)),
            "epoch": np.full(len(names), self.epochs[position]),
        }

    def names_at(self, epoch: int, layers: Collection[str]) -> Columns:
        """Give the name of each of `layers` where the median of its seeds is; those at one place together."""
        position = self.at(epoch)
        shown = [place for place, layer in enumerate(self.layers) if layer in layers]
        middle = np.array(
            [[_median(values[position, :, place]) for values in (self.I_XT, self.I_TY)] for place in shown]
        ).reshape(-1, 2)
        left, right = np.array(self.box).T
        there = np.flatnonzero(np.isfinite(middle).all(1))
        names = [self.layers[shown[place]] for place in there]
        groups = merge((middle[there] - left) / (right - left), names, _CROWDED)
        at = there[[place for place, _ in groups]]
        return {"I_XT": middle[at, 0], "I_TY": middle[at, 1], "layer": [names for _, names in groups]}

    def seed_at(self, seed: int | None, epoch: int, layers: Collection[str]) -> Columns:
        """Give the points of one seed, or none."""
        found = self.snapshot(epoch, layers)
        chosen = found["seed"] == (-1 if seed is None else seed)
        return {"I_XT": found["I_XT"][chosen], "I_TY": found["I_TY"][chosen]}


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.nanmin(values)), float(np.nanmax(values))


def _opened(box: Limits) -> Limits:
    """Give an axis room on which there is nothing but zero, as where all labels are the same."""
    (left, right), (bottom, top) = (ends if ends[0] < ends[1] else (-0.05, 1.0) for ends in box)
    return (left, right), (bottom, top)


def _median(values: NDArray[np.float64]) -> float:
    there = values[np.isfinite(values)]
    return float(np.median(there)) if there.size else np.nan


@dataclass(frozen=True)
class Lines:
    """A quantity against the epoch: the mean over seeds and the middle of them, for each of some series.

    Attributes
    ----------
    series : tuple of str
        Layers, or splits.
    seeds : (seed,) int64
    epochs : (step,) int64
    values : (step, seed, series) float64
    mean, low, high : (step, series) float64
        Over the seeds that are numbers; low and high hold the middle four fifths.
    """

    series: tuple[str, ...]
    seeds: NDArray[np.int64]
    epochs: NDArray[np.int64]
    values: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, array: xr.DataArray, along: str) -> Self:
        """Take an array (epoch, seed, `along`) apart, at 400 log-spaced epochs at most; epochs without a number go."""
        array = array.transpose("epoch", "seed", along).dropna("epoch", how="all")
        array = array.isel(epoch=log_spaced(array["epoch"].values, _STEPS))
        values = array.values.astype(np.float64)
        there = np.isfinite(values)
        number = np.maximum(there.sum(1), 1)
        mean = np.where(there.any(1), np.where(there, values, 0).sum(1) / number, np.nan)
        low, high = _middle(np.where(there, values, np.nan))
        series = tuple(map(str, array[along].values))
        return cls(series, array["seed"].values, array["epoch"].values, values, mean, low, high)

    @property
    def place(self) -> NDArray[np.float64]:
        """Of each epoch, on the axis: (step,) float64."""
        place: NDArray[np.float64] = on_scale(self.epochs)
        return place

    def frame(self, logarithmic: bool) -> Limits:
        """Give the ends of axes that hold all series, with room for their names on the right."""
        left, right = float(self.place[0]), float(self.place[-1])
        drawn = np.stack([self.low, self.high])
        drawn = drawn[np.isfinite(drawn) & (drawn > 0 if logarithmic else True)]
        if drawn.size == 0:
            return (left, left + 1.3), (0.1, 1.0)
        bottom, top = (float(end) for end in (drawn.min(), drawn.max()))
        if logarithmic:
            room = (top / bottom) ** 0.08 if top > bottom else 2.0
            heights = bottom / room, top * room
        else:
            room = 0.08 * (top - bottom) or 0.5
            heights = bottom - room, top + room
        return (left, left + 1.3 * ((right - left) or 1.0)), heights

    def lines(self, shown: Sequence[str]) -> Columns:
        """Give the mean of each of the series that are shown."""
        return self._each(shown, lambda place: (self.place, self.mean[:, place]))

    def bands(self, shown: Sequence[str]) -> Columns:
        """Give the middle of the seeds of each: an outline, to be filled."""
        return self._each(
            shown,
            lambda place: (
                np.concatenate([self.place, self.place[::-1]]),
                np.concatenate([self.low[:, place], self.high[::-1, place]]),
            ),
        )

    def names(self, shown: Sequence[str], logarithmic: bool) -> Columns:
        """Give the name of each of the series that are shown, where its mean ends; those at one place together."""
        height = _log if logarithmic else _as_it_is
        ends = {name: end for name in self.series if name in shown if (end := self._end(name)) is not None}
        there = np.array(list(ends.values())).reshape(-1, 2)
        drawn = height(np.stack([self.low, self.high]))
        bottom, top = np.nanmin(drawn), np.nanmax(drawn)
        frame = np.column_stack([np.zeros(len(there)), (height(there[:, 1]) - bottom) / ((top - bottom) or 1.0)])
        groups = merge(frame, list(ends), (1.0, 0.4))
        at = [place for place, _ in groups]
        return {"epoch_place": there[at, 0], "value": there[at, 1], "series": [names for _, names in groups]}

    def crossings(self, epochs: Mapping[str, float], shown: Sequence[str]) -> Columns:
        """Give an upright line for each of the series that are shown and have a crossing, as high as all of them."""
        names = [name for name in self.series if name in shown and np.isfinite(epochs.get(name, np.nan))]
        if not names:
            return self.of_seed(None, shown)
        span = np.array([np.nanmin(self.low), np.nanmax(self.high)])
        places = [np.full(2, on_scale(epochs[name])) for name in names]
        return {"xs": places, "ys": [span] * len(names), "series": names, "color": names}

    def _end(self, name: str) -> NDArray[np.float64] | None:
        """Find the last number of a series."""
        values = self.mean[:, self.series.index(name)]
        there = np.flatnonzero(np.isfinite(values))
        return np.array([self.place[there[-1]], values[there[-1]]]) if there.size else None

    def of_seed(self, seed: int | None, shown: Sequence[str]) -> Columns:
        """Give the lines of one seed, or none."""
        at = np.flatnonzero(self.seeds == (-1 if seed is None else seed))
        if not at.size:
            names = list(self.series[:1])  # HoloViews draws no table without a row
            return {"xs": [_NOWHERE] * len(names), "ys": [_NOWHERE] * len(names), "series": names, "color": names}
        return self._each(shown, lambda place: (self.place, self.values[:, at[0], place]))

    def _each(self, shown: Sequence[str], outline: Callable[[int], tuple[Any, Any]]) -> Columns:
        names = [name for name in self.series if name in shown]
        lines = [outline(self.series.index(name)) for name in names]
        return {"xs": [x for x, _ in lines], "ys": [y for _, y in lines], "series": names, "color": names}


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give logarithms, and nothing for what has none."""
    result: NDArray[np.float64] = np.log(values, where=values > 0, out=np.full_like(values, np.nan))
    return result


def _as_it_is(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values


def _middle(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the tenth and the ninetieth percentile over seeds, of those that are numbers."""
    if np.isfinite(values).all():  # NumPy is a hundred times slower where it looks for NaN
        low, high = np.quantile(values, (0.1, 0.9), axis=1)
        return low, high
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # they are NaN, then
        low, high = np.nanquantile(values, (0.1, 0.9), axis=1)
    return low, high
