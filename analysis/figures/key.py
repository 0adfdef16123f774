"""The key of a figure of several panels: one strip over all of them, the same on paper and on screen."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib import offsetbox
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ipstore.analysis.figures.frame import INK

__all__ = ["CHARACTER", "Entry", "key_html", "key_rows", "write_key"]

CHARACTER = 0.072
"""Inches of a character at 9 points."""


@dataclass(frozen=True)
class Entry:
    """A line of the key: a stroke, or a patch where it stands for an area, and what it means."""

    text: str
    colour: str
    dashed: bool = False
    area: bool = False


def key_rows(key: tuple[str, Sequence[Entry]], inches: float) -> list[tuple[str, list[Entry]]]:
    """Break the key into rows that fit; the first begins with what the entries are."""
    name, entries = key
    rows: list[tuple[str, list[Entry]]] = []
    room = 0.0
    for entry in entries:
        needed = 0.55 + CHARACTER * len(entry.text)
        if not rows or needed > room:
            rows.append(("" if rows else name, []))
            room = inches - (0.1 + CHARACTER * len(rows[-1][0]))
        rows[-1][1].append(entry)
        room -= needed
    return rows


def key_html(rows: list[tuple[str, list[Entry]]]) -> str:
    """Write the key for the screen."""
    swatch = (
        "<span style='display:inline-block;vertical-align:middle;width:22px;height:{height}px;"
        "border-top:{line}px {style} {colour};background:{fill};margin:0 5px 0 14px'></span>{text}"
    )
    return "<br>".join(
        f"<b>{escape(name)}</b>"
        + "".join(
            swatch.format(
                height=10 if entry.area else 0,
                line=0 if entry.area else 3,
                style="dashed" if entry.dashed else "solid",
                colour=entry.colour,
                fill=entry.colour if entry.area else "none",
                text=escape(entry.text),
            )
            for entry in entries
        )
        for name, entries in rows
    )


def write_key(axis: Any, rows: list[tuple[str, list[Entry]]], *, lift: float) -> float:
    """Write the key `lift` points above a matplotlib axis; give the points that it takes."""
    if not rows:
        return 0
    box = offsetbox.VPacker(children=[_key_row(*row) for row in rows], align="left", pad=0, sep=3)
    axis.add_artist(
        offsetbox.AnnotationBbox(
            box,
            (0, 1),
            (0, lift),
            xycoords="axes fraction",
            boxcoords="offset points",
            box_alignment=(0, 0),
            frameon=False,
            pad=0,
            annotation_clip=False,
        )
    )
    return 14.0 * len(rows) + 3


def _key_row(name: str, entries: list[Entry]) -> Any:
    children: list[Any] = []
    if name:
        children.append(offsetbox.TextArea(name, textprops={"size": 9, "color": INK, "weight": "bold"}))
    for entry in entries:
        area = offsetbox.DrawingArea(20, 8)
        if entry.area:
            area.add_artist(Rectangle((0, 0), 20, 8, facecolor=entry.colour, linewidth=0))
        else:
            stroke = Line2D([0, 20], [4, 4], color=entry.colour, linewidth=2.2)
            stroke.set_linestyle("dashed" if entry.dashed else "solid")
            area.add_artist(stroke)
        text = offsetbox.TextArea(entry.text, textprops={"size": 9, "color": INK})
        children.append(offsetbox.HPacker(children=[area, text], align="center", pad=0, sep=4))
    return offsetbox.HPacker(children=children, align="center", pad=0, sep=12)
