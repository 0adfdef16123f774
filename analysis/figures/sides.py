"""Information planes side by side: trajectories on the same axes, with one colour scale of the epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ipstore.analysis.figures.epochs import EpochScale
from ipstore.analysis.figures.panels import Panel, Sheet, arrange
from ipstore.analysis.figures.paths import draw_paths
from ipstore.analysis.figures.planes import limits, saturated
from ipstore.analysis.figures.wording import kind, saturation_words, wrap

__all__ = ["Side", "side_by_side"]

_WIDTH, _HEIGHT = 3.9, 3.3  # inches of a panel's frame; a plane by itself has 7 by 4.6


@dataclass(frozen=True, eq=False)
class Side:
    """One panel.

    Parameters
    ----------
    plane : Dataset
        As `planes.without_nan` gives it.
    name : str
        What its notes begin with.
    title : str
        The first line over the panel.
    given : str
        The line below it, if there is one.
    facts : mapping of str to str
        What stands in the heading if all panels have it alike, and else over each; ``run`` in the headline, and
        ``bounds`` names I(X;Y) and H(X).
    notes : sequence of str
        About this panel alone.
    """

    plane: xr.Dataset
    name: str
    title: str
    given: str
    facts: Mapping[str, str]
    notes: Sequence[str]


def side_by_side(
    sides: Sequence[Side], saturation: float, *, title: str, details: Sequence[str] = (), notes: Sequence[str] = ()
) -> Any:
    """Draw the trajectories of several planes side by side.

    Parameters
    ----------
    sides : sequence of Side
    saturation : float
        Bits below H(X) within which the end of a path is marked as saturated.
    title : str
        The headline.
    details, notes : sequence of str
        What the heading says before the facts that all panels share, and the notes after those on the marks.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.
    """
    shown = [side.plane for side in sides]
    box = limits(*shown)
    colour = EpochScale(np.unique(np.concatenate([plane["epoch"].values for plane in shown])))
    shared = {name: words for name, words in sides[0].facts.items() if all(side.facts[name] == words for side in sides)}
    titles = [_title(side, [words for name, words in side.facts.items() if name not in shared]) for side in sides]
    rows = max(words.count("\n") for words in titles)
    columns = 2 if len(shown) == 4 else min(len(shown), 3)
    sheet = Sheet(columns, _WIDTH, _HEIGHT, above=0.45 + 0.18 * rows, titles=rows + 1)
    panels = []
    for i, (plane, words) in enumerate(zip(shown, titles, strict=True)):
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
        panels.append(Panel(paths, words, box, x=i + columns >= len(shown), y=i % columns == 0))
    return arrange(
        [*panels, *[None] * (-len(panels) % columns)],
        sheet,
        title=" · ".join([title, *([shared.pop("run")] if "run" in shared else [])]),
        details=[" · ".join([*details, *shared.values()])],
        notes=[
            f"{_key(shown)} Dashed: I(X;Y) and H(X).",
            *_saturation_note(shown, saturation),
            *_exact_note(shown),
            *notes,
            *(f"{side.name}: {note}" for side in sides for note in side.notes),
        ],
        colour=colour,
    )


def _title(side: Side, more: Sequence[str]) -> str:
    """Write what stands over a panel: its title, what was given, and what other panels do not share."""
    details = wrap([line for line in (side.given, " · ".join(more)) if line], int(_WIDTH / 0.072))
    return f"{side.title}\n{details}" if details else side.title


def _key(planes: Sequence[xr.Dataset]) -> str:
    points = " Small points: single seeds." if any(plane.sizes["seed"] > 1 for plane in planes) else ""
    if all(plane.sizes["epoch"] == 1 for plane in planes):
        return f"Large points: mean over seeds.{points}"
    return f"Line: mean over seeds, from the first epoch (hollow) to the last (filled).{points}"


def _saturation_note(planes: Sequence[xr.Dataset], saturation: float) -> list[str]:
    if not any(saturated(plane, saturation).any() for plane in planes):
        return []
    return [
        f"Saturated (diamond): {saturation_words(planes[0], saturation)}, so that it measures the resolution and not "
        "the layer."
    ]


def _exact_note(planes: Sequence[xr.Dataset]) -> list[str]:
    if not any(kind(plane, name) == "exact" for plane in planes for name in ("I_XT", "I_TY")):
        return []
    return ["Exact: of the variable that the estimator makes of a layer, such as its bins, not of the real numbers."]
