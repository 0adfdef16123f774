"""Small multiples: panels of equal size in rows, under one heading with one key, over one set of footnotes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import holoviews as hv
from matplotlib import cm, colors
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from ipstore.analysis.figures.epochs import EPOCH_COLOURS, EpochScale
from ipstore.analysis.figures.frame import GREY, INK, Limits, split_title, styled, write_notes, write_title
from ipstore.analysis.figures.key import CHARACTER, Entry, key_html, key_rows, write_key
from ipstore.analysis.figures.wording import wrap

__all__ = ["ColourBar", "Panel", "Sheet", "arrange", "sheet_of"]

_GRID = "#e8e8e8"
_GAP = 0.16  # inches between panels that share an axis

_Hook = Callable[[Any, Any], None]


@dataclass(frozen=True)
class Sheet:
    """How panels lie on the page; lengths in inches, a hundred pixels each on screen.

    Parameters
    ----------
    columns : int
    width, height : float
        Of a panel's frame.
    above : float
        Room between the rows.
    beside : float
        Room between the columns.
    titles : int
        Lines of the titles of the first row.
    """

    columns: int
    width: float
    height: float
    above: float
    beside: float = _GAP
    titles: int = 1

    @property
    def inches(self) -> float:
        """Width of all panels."""
        return self.columns * (self.width + self.beside) - self.beside

    def characters(self, points: float = 9) -> int:
        """Give the number of characters of a line of text across all panels."""
        return max(40, int((self.inches + 0.5) / CHARACTER * 9 / points))


def sheet_of(columns: int, *, above: float) -> Sheet:
    """Give panels a size at which `columns` of them fill a page, never too small to read."""
    width = {1: 4.6, 2: 3.5}.get(columns, max(1.75, 9.4 / columns - _GAP))
    return Sheet(columns, width, min(2.8, max(1.75, 0.75 * width)), above)


@dataclass(frozen=True)
class ColourBar:
    """A logarithmic scale of colours, beside a panel on paper; on screen the element has its own.

    Parameters
    ----------
    limits : (float, float)
    colours : list of str
    ticks : list of (float, str)
    """

    limits: tuple[float, float]
    colours: list[str]
    ticks: list[tuple[float, str]]

    def __call__(self, plot: Any, _: Any) -> None:
        """Draw it, as a hook of matplotlib."""
        axis = plot.handles["axis"]
        beside = axis.inset_axes((1.03, 0, 0.05, 1))
        scale = cm.ScalarMappable(colors.LogNorm(*self.limits), colors.ListedColormap(self.colours))
        bar = plot.state.colorbar(scale, cax=beside)
        bar.set_ticks([at for at, _ in self.ticks], labels=[text for _, text in self.ticks], fontsize=8)
        bar.ax.minorticks_off()


@dataclass(frozen=True, eq=False)
class Panel:
    """One panel.

    Parameters
    ----------
    elements : HoloViews overlay
    title : str
        Its first line is written strong.
    limits : Limits
    x, y : bool
        Whether the axes have numbers and names; where a panel below or on the left has them, they need none.
    grid : bool
        Whether there is a faint grid.
    options : dict
        More options, of either backend.
    bar : ColourBar, optional
    """

    elements: Any
    title: str
    limits: Limits
    x: bool
    y: bool
    grid: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    bar: ColourBar | None = None

    def styled(self, sheet: Sheet, hooks: Sequence[_Hook]) -> Any:
        """Give the elements all options that a panel of `sheet` has, and `hooks` under matplotlib."""
        return styled(
            self.elements,
            title=self.title.replace("{", "{{").replace("}", "}}"),  # HoloViews formats a title
            xlim=self.limits[0],
            ylim=self.limits[1],
            show_legend=False,
            show_grid=self.grid,
            **self.options,
            bokeh={
                "hooks": [_finish],
                "frame_width": round(100 * sheet.width),
                "frame_height": round(100 * sheet.height),
                "toolbar": None,
                "fontsize": {"title": "10pt", "labels": "10pt", "ticks": "9pt"},
                "gridstyle": {"grid_line_color": _GRID},
                "xaxis": "bottom" if self.x else "bare",
                "yaxis": "left" if self.y else "bare",
                "backend_opts": {
                    "plot.min_border_right": round(100 * sheet.beside),
                    "title.text_color": INK,
                    "xaxis.axis_label_text_font_style": "normal",
                    "yaxis.axis_label_text_font_style": "normal",
                    "xaxis.minor_tick_line_color": None,
                    "yaxis.minor_tick_line_color": None,
                },
            },
            matplotlib={
                "fontsize": {"title": 10, "labels": 10, "ticks": 9},
                "hooks": [_finish, _outer(self.x, self.y, self.grid), *([self.bar] if self.bar else []), *hooks],
            },
        )


def _outer(x: bool, y: bool, grid: bool) -> _Hook:
    """Take numbers and names from inner axes.

    HoloViews keeps the options of an element for as long as that lives, so no hook may hold elements, as a method of
    `Panel` would: none of them would ever go.
    """

    def hook(plot: Any, _: Any) -> None:
        axis = plot.handles["axis"]
        axis.set_axisbelow(True)
        if grid:
            axis.grid(color=_GRID, linewidth=0.6)
        axis.tick_params(labelbottom=x, labelleft=y)
        axis.xaxis.label.set_visible(x)
        axis.yaxis.label.set_visible(y)

    return hook


def arrange(
    panels: Sequence[Panel | None],
    sheet: Sheet,
    *,
    title: str,
    details: Sequence[str],
    notes: Sequence[str],
    key: tuple[str, Sequence[Entry]] = ("", ()),
    colour: EpochScale | None = None,
    linked: bool = True,
) -> Any:
    """Lay panels out.

    Parameters
    ----------
    panels : sequence of Panel or None
        Row by row; None where a place is left empty.
    sheet : Sheet
    title : str
        The headline.
    details, notes : sequence of str
        What stands under the headline and, small, under the panels. On screen the notes stand over the key: a
        HoloViews layout has nothing below.
    key : str and sequence of Entry
        What the entries are, as "bins", and the entries.
    colour : EpochScale, optional
        Of which a colour bar stands beside the panels on paper.
    linked : bool
        Whether panels of the same quantities have one scale on screen, and move together; else each has its own.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.
    """
    rows = -(-len(panels) // sheet.columns)
    lines = wrap(details, sheet.characters())
    below = wrap(notes, sheet.characters(8))
    keys = key_rows(key, sheet.inches)
    inches = (sheet.inches, rows * (sheet.height + sheet.above) - sheet.above)
    hooks: list[list[_Hook]] = [[] for _ in panels]
    hooks[0] += [_sizing(inches), _header(f"{title}\n{lines}", keys, sheet)]
    hooks[(rows - 1) * sheet.columns].append(_footer(below))
    if colour is not None:
        hooks[sheet.columns - 1].append(_colour_bar(colour, sheet))
    placed = [
        hv.Empty() if panel is None else panel.styled(sheet, own) for panel, own in zip(panels, hooks, strict=True)
    ]
    layout = hv.Layout(placed).cols(sheet.columns)
    return layout.opts(
        backend="bokeh",
        title=_html(title, lines, key_html(keys), below).replace("{", "{{").replace("}", "}}"),
        toolbar="right",
        shared_axes=linked,
        fontsize={"title": "12pt"},
    ).opts(
        backend="matplotlib",
        sublabel_format="",
        fig_inches=inches,
        fig_bounds=(0, 0, 1, 1),
        hspace=sheet.beside / sheet.width,
        vspace=sheet.above / sheet.height,
    )


class _Size(PlaceHolderLayoutEngine):
    """Keep a figure of matplotlib at its size.

    HoloViews gives a layout another height at the end, one that grows with the heading and shrinks with every
    place that is left empty.
    """

    def __init__(self, inches: tuple[float, float]) -> None:
        super().__init__(adjust_compatible=True, colorbar_gridspec=True)
        self.inches = inches

    def execute(self, fig: Any) -> None:
        fig.set_size_inches(self.inches)


def _sizing(inches: tuple[float, float]) -> _Hook:
    def hook(plot: Any, _: Any) -> None:
        plot.state.set_layout_engine(_Size(inches))

    return hook


def _finish(plot: Any, _: Any) -> None:
    """Write the first line of a panel's title strong and the others small."""
    if plot.renderer.backend == "matplotlib":
        axis = plot.handles["axis"]
        write_title(axis, axis.get_title(), size=10)
        axis.set_title("")
    else:
        split_title(plot.state, "9pt")
        plot.state.title.standoff = 2
        plot.state.sizing_mode = None  # "fixed", as HoloViews has it, warns where the frame alone is sized


def _html(title: str, lines: str, key: str, notes: str) -> str:
    """Write the heading, the notes and the key for the screen."""
    parts = [
        (f"color:{INK};font-size:10pt", escape(lines).replace("\n", "<br>")),
        (f"color:{GREY};font-size:8.5pt", escape(notes).replace("\n", "<br>")),
        (f"color:{INK};font-size:10pt;margin:6px 0", key),
    ]
    return escape(title) + "".join(
        f"<div style='font-weight:normal;line-height:1.35;{style}'>{text}</div>" for style, text in parts if text
    )


def _header(title: str, keys: list[tuple[str, list[Entry]]], sheet: Sheet) -> _Hook:
    """Write the heading and the key over the first panel, by a hook of matplotlib."""

    def hook(plot: Any, _: Any) -> None:
        axis = plot.handles["axis"]
        lift = 13.0 * sheet.titles + 14
        write_title(axis, title, lift=lift + write_key(axis, keys, lift=lift))

    return hook


def _footer(notes: str) -> _Hook:
    def hook(plot: Any, _: Any) -> None:
        write_notes(plot.handles["axis"], notes)

    return hook


def _colour_bar(colour: EpochScale, sheet: Sheet) -> _Hook:
    """Draw a colour bar along all rows, by a hook of matplotlib."""

    def hook(plot: Any, _: Any) -> None:
        figure = plot.state
        colours = cm.ScalarMappable(colors.Normalize(*colour.limits), colors.ListedColormap(EPOCH_COLOURS))
        axis = figure.add_axes((1 + 0.2 / sheet.inches, 0, 0.16 / sheet.inches, 1))
        bar = figure.colorbar(colours, cax=axis)
        bar.set_ticks([at for at, _ in colour.ticks], labels=[text for _, text in colour.ticks], fontsize=9)
        bar.set_label("epoch", fontsize=10)

    return hook
