"""The information plane under several estimators, side by side on the same axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ipstore.analysis.figures.epochs import EpochScale
from ipstore.analysis.figures.panels import Panel, Sheet, arrange
from ipstore.analysis.figures.paths import draw_paths
from ipstore.analysis.figures.planes import SATURATION, limits, load, prepare, saturated, split, without_nan
from ipstore.analysis.figures.wording import estimator, kind, kind_words, label_words, listed, wrap
from ipstore.errors import ParameterError

__all__ = ["compare"]

_WIDTH, _HEIGHT = 3.9, 3.3  # inches of a panel's frame; a plane by itself has 7 by 4.6


def compare(*planes: xr.Dataset, layers: Sequence[str] | None = None, saturation: float = SATURATION) -> Any:
    """Draw the trajectories of several planes side by side: as many answers to the same question.

    All panels have the same axes and one colour scale of the epochs; each is titled by its estimator, its
    parameters and what its numbers are: exact, a bound or an estimate.

    Parameters
    ----------
    *planes : Dataset
        Two or more, each with I_XT and I_TY (epoch, seed, layer), in bits, and its attrs; see `information_plane`.
        One with a grid of parameters counts as one for each of its points.
    layers : sequence of str, optional
        Which layers; all by default.
    saturation : float
        A layer whose mean I(X;T) lies within so many bits of H(X) is marked as saturated.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        Fewer than two planes; one of them has no I(X;T), or is no information plane.
    UnknownNameError
        A layer that a plane does not have.
    """
    every = [one for plane in load(*planes) for one in split(plane)]
    if len(every) < 2:
        raise ParameterError(
            f"compare sets planes side by side and needs two or more, but got {len(every)}; give one for each "
            "estimator, as compare(binned, kde), or one with a grid of a parameter"
        )
    _refuse_halves(every)
    prepared = [(*without_nan(prepare(plane, layers)), estimator(plane)) for plane in every]
    shown = [plane for plane, *_ in prepared]
    box = limits(*shown)
    colour = EpochScale(np.unique(np.concatenate([plane["epoch"].values for plane in shown])))
    facts = [
        {
            "run": f"run {plane.attrs['source_run']}",
            "bounds": f"{label_words(plane)}, H(X) = {float(plane.attrs['H_X']):.4g} bits",
            "seeds": seeds,
        }
        for plane, seeds, *_ in prepared
    ]
    shared = {name: words for name, words in facts[0].items() if all(other[name] == words for other in facts)}
    titles = [
        _title(plane, [words for name, words in own.items() if name not in shared])
        for plane, own in zip(shown, facts, strict=True)
    ]
    rows = max(title.count("\n") for title in titles)
    columns = 2 if len(shown) == 4 else min(len(shown), 3)
    sheet = Sheet(columns, _WIDTH, _HEIGHT, above=0.45 + 0.18 * rows, titles=rows + 1)
    panels = []
    for i, (plane, title) in enumerate(zip(shown, titles, strict=True)):
        paths = draw_paths(
            plane,
            box,
            colour,
            saturation,
            colour_bar=["bokeh"] if i == columns - 1 else [],  # on paper it stands along all rows
            words="bounds" not in shared,
            share=1 / len(shown),
            size=(_WIDTH / 7, _HEIGHT / 4.6),
        )
        panels.append(Panel(paths, title, box, x=i + columns >= len(shown), y=i % columns == 0))
    return arrange(
        [*panels, *[None] * (-len(panels) % columns)],
        sheet,
        title=" · ".join(["Information plane, side by side", *([shared["run"]] if "run" in shared else [])]),
        details=[" · ".join(words for name, words in shared.items() if name != "run")],
        notes=[
            f"{_key(shown)} Dashed: I(X;Y) and H(X).",
            *_saturation_note(shown, saturation),
            *_exact_note(shown),
            *(f"{name}: {note}" for _, _, notes, name in prepared for note in notes),
        ],
        colour=colour,
    )


def _refuse_halves(planes: Sequence[Any]) -> None:
    """Refuse planes of which one axis is missing."""
    for name, other in (("I_XT", "I_TY"), ("I_TY", "I_XT")):
        without = [plane for plane in planes if isinstance(plane, xr.Dataset) and name not in plane and other in plane]
        if without:
            names = listed(sorted({repr(plane.attrs.get("estimator", "one plane")) for plane in without}))
            raise ParameterError(
                f"compare draws I_XT against I_TY, but of the planes given, those of {names} have {other} only; leave "
                f"them out, or draw {other} alone, over a grid of a parameter, with `sensitivity`"
            )


def _title(plane: xr.Dataset, more: Sequence[str]) -> str:
    """Name the estimator and the kind of its numbers; under it the parameters, and what other panels do not share."""
    name, _, given = estimator(plane).partition(" (")
    first = " · ".join(words for words in (name, kind_words(plane)) if words)
    details = wrap([line for line in (given.removesuffix(")"), " · ".join(more)) if line], int(_WIDTH / 0.072))
    return f"{first}\n{details}" if details else first


def _key(planes: Sequence[xr.Dataset]) -> str:
    points = " Small points: single seeds." if any(plane.sizes["seed"] > 1 for plane in planes) else ""
    if all(plane.sizes["epoch"] == 1 for plane in planes):
        return f"Large points: mean over seeds.{points}"
    return f"Line: mean over seeds, from the first epoch (hollow) to the last (filled).{points}"


def _saturation_note(planes: Sequence[xr.Dataset], saturation: float) -> list[str]:
    if not any(saturated(plane, saturation).any() for plane in planes):
        return []
    return [
        f"Saturated (diamond): mean I(X;T) within {saturation:g} bits of H(X), so that it measures the resolution and "
        "not the layer."
    ]


def _exact_note(planes: Sequence[xr.Dataset]) -> list[str]:
    if not any(kind(plane, name) == "exact" for plane in planes for name in ("I_XT", "I_TY")):
        return []
    return ["Exact: of the variable that the estimator makes of a layer, such as its bins, not of the real numbers."]
