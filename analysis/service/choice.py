"""What one browser looks at: which runs and results, and where in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from ipstore.analysis.figures.wording import estimator
from ipstore.analysis.ib.standing import curve_of
from ipstore.analysis.service.drawn import Lines, Trajectories
from ipstore.analysis.service.holdings import Holdings
from ipstore.errors import IpstoreError

__all__ = ["Choice", "Drawn", "Result", "gather", "is_plane", "layers_of", "result_words"]

Result = tuple[str, str]
"""A run, and the name of a result of it."""

_RECORDED = ("loss", "accuracy", "grad_mean_norm", "grad_std_norm")
_MOST = 4
"""Planes side by side."""


@dataclass(frozen=True)
class Choice:
    """What a person has chosen.

    Attributes
    ----------
    runs : tuple of str
    results : tuple of Result, or None
        None before a person has chosen: then those that say most.
    layers : tuple of str, or None
        None: all.
    epoch : int or None
        None: the last.
    seed : int or None
        The one that is followed through every view.
    """

    runs: tuple[str, ...] = ()
    results: tuple[Result, ...] | None = None
    layers: tuple[str, ...] | None = None
    epoch: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Drawn:
    """All that the views of a choice draw.

    Attributes
    ----------
    results : mapping of Result to attributes
        Of all results of the runs that were chosen.
    shown : tuple of Result
        Those whose planes are drawn.
    planes, curves, bounds : mappings
        Of these: what is drawn of them, the bottleneck curve if one is stored for the run; and, of runs, results about
        the bound.
    recorded : mapping of (run, quantity) to Lines
    crossings : mapping of run to mapping of layer to float
        The epoch at which the median seed passes from drift to diffusion.
    estimated : mapping of (Result, quantity) to Lines
    problems : tuple of str
        Why something that was chosen is not here.
    """

    results: Mapping[Result, Mapping[str, Any]] = field(default_factory=dict)
    shown: tuple[Result, ...] = ()
    planes: Mapping[Result, Trajectories] = field(default_factory=dict)
    curves: Mapping[str, xr.Dataset] = field(default_factory=dict)
    bounds: Mapping[str, xr.Dataset] = field(default_factory=dict)
    recorded: Mapping[tuple[str, str], Lines] = field(default_factory=dict)
    crossings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    estimated: Mapping[tuple[Result, str], Lines] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of the planes and of the training, in the order of the network."""
        named = [plane.layers for plane in self.planes.values()]
        named += [lines.series for (_, quantity), lines in self.recorded.items() if quantity.endswith("norm")]
        return tuple(dict.fromkeys(name for names in sorted(named, key=len, reverse=True) for name in names))

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs of the planes, or of the training where there is none: 400 at most."""
        epochs = [plane.steps for plane in self.planes.values()]
        if not epochs:
            epochs = [lines.epochs for lines in self.recorded.values()]
        return tuple(map(int, np.unique(np.concatenate(epochs)))) if epochs else ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of what is drawn."""
        drawn: list[Any] = [*self.planes.values(), *self.recorded.values()]
        return tuple(sorted({int(seed) for each in drawn for seed in each.seeds}))


def gather(holdings: Holdings, choice: Choice) -> Drawn:
    """Read what a choice shows; what cannot be read is named, and the rest is there."""
    problems: list[str] = []
    results: dict[Result, Mapping[str, Any]] = {}
    recorded: dict[tuple[str, str], Lines] = {}
    crossings: dict[str, Mapping[str, float]] = {}
    for run in choice.runs:
        try:
            results |= {(run, name): attrs for name, attrs in holdings.results(run).items()}
            lines = {(run, quantity): holdings.recorded(run, quantity) for quantity in _RECORDED}
            recorded |= {key: found for key, found in lines.items() if found is not None and found.epochs.size}
            crossings[run] = holdings.crossings(run)
        except (IpstoreError, OSError) as error:
            problems.append(f"{run}: {error}")
    shown = _shown(choice, results)
    planes: dict[Result, Trajectories] = {}
    estimated: dict[tuple[Result, str], Lines] = {}
    for key in shown:
        try:
            planes[key] = holdings.trajectories(*key)
            found = {(key, quantity): holdings.estimated(*key, quantity) for quantity in ("I_XT", "I_TY")}
            estimated |= {each: lines for each, lines in found.items() if lines is not None}
        except (IpstoreError, OSError) as error:
            problems.append(f"{key[0]}, {result_words(results[key])}: {error}")
    bounds, curves = {}, {}
    for run, name in results:
        if results[run, name].get("about") == "bound" and run not in bounds:
            try:
                bounds[run] = holdings.result(run, name)
                curves[run] = curve_of(bounds[run])
            except (IpstoreError, OSError) as error:
                problems.append(f"{run}, {name}: {error}")
    return Drawn(results, tuple(planes), planes, curves, bounds, recorded, crossings, estimated, tuple(problems))


def _shown(choice: Choice, results: Mapping[Result, Mapping[str, Any]]) -> list[Result]:
    """Choose what is drawn where a person has not: of each run its plane of most epochs."""
    planes = {key: attrs for key, attrs in results.items() if is_plane(attrs) and attrs["commit"]["epochs"] > 0}
    if choice.results is not None:
        return [key for key in choice.results if key in planes][:_MOST]
    first = []
    for run in choice.runs:
        own = [key for key in planes if key[0] == run]
        if own:
            first.append(max(own, key=lambda key: planes[key]["commit"]["epochs"]))
    return first[:_MOST]


def is_plane(attrs: Mapping[str, Any]) -> bool:
    """Whether a result is an information plane with an axis for each of the two."""
    asked = attrs.get("about", "information"), attrs.get("target", "labels")
    return asked == ("information", "labels")


def result_words(attrs: Mapping[str, Any]) -> str:
    """Say what a result answers: "binned (bins=30, rule=equal), every 10 epochs"."""
    words = [estimator(xr.Dataset(attrs=dict(attrs)))]
    if attrs.get("about", "information") != "information":
        words.insert(0, str(attrs["about"]))
    if attrs.get("every", 1) != 1:
        words.append(f"every {attrs['every']} epochs")
    if attrs.get("split", "all") != "all":
        words.append(f"{attrs['split']} samples")
    if attrs.get("target", "labels") != "labels":
        words.append("of the network's own answer")
    return ", ".join(words)


def layers_of(choice: Choice, known: Sequence[str]) -> list[str]:
    """Give the layers that are shown, of those that there are."""
    return [layer for layer in known if choice.layers is None or layer in choice.layers]
