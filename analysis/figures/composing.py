"""A figure in its frame; and what becomes of that where figures are laid over one another, ``a * b``.

HoloViews drops the options of an overlay that becomes a part of another: its title, its notes and its size. Options of
an element stay. So every figure has an element that carries them and, should the whole have no title, writes them by a
hook: those of one figure as they were, those of several one under another, each named by a letter that its layers
have, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import Any
from weakref import WeakKeyDictionary, ref

import holoviews as hv
from bokeh.models import ColumnDataSource
from bokeh.models.annotations import Title

from ipstore.analysis.figures.frame import (
    INK,
    NOTE_WIDTH,
    Carried,
    Limits,
    canvas,
    clear_carried,
    fitting,
    split_title,
    styled,
    typeset,
    write_below,
    write_notes,
    write_title,
)

__all__ = ["Frame", "framed"]

_SIZE = (880, 600)
_NONE = " "
"""A title that is none; without it HoloViews would make one of the epoch of a HoloMap's frame."""


@dataclass(frozen=True, eq=False)
class Frame:
    """What is around the elements of a figure.

    Parameters
    ----------
    title : str
        Its first line is the headline.
    notes : sequence of str
        What stands below.
    box : Limits
    legend : bool
        Whether one stands on the right.
    of : object
        Equal in all frames of a HoloMap, of which one at a time is shown.
    """

    title: str
    notes: Sequence[str]
    box: Limits
    legend: bool = False
    of: object = field(default_factory=object)


@dataclass(eq=False)
class _Page:
    """What the frames of one page of either backend have told so far."""

    frames: dict[object, Frame] = field(default_factory=dict)
    names: dict[object, tuple[list[ref[Any]], list[str]]] = field(default_factory=dict)
    """Of the layers of each: what shows them, held weakly since it knows the page, and the names."""


_PAGES: WeakKeyDictionary[Any, _Page] = WeakKeyDictionary()


def framed(elements: Any, frame: Frame) -> Any:
    """Put elements, an overlay whose first is no overlay itself, into a frame.

    Returns
    -------
    holoviews.Overlay
        With options for bokeh and matplotlib.
    """
    carrier, *others = [_named(element, frame) for element in elements]
    width, height = _SIZE
    carrier = styled(
        carrier.clone(),  # it may stand in other frames of a HoloMap, too
        title=_NONE,
        bokeh={"width": width, "height": height, "hooks": [_carry(frame)]},
        matplotlib={
            "fig_size": width / 4,
            "aspect": width / height,
            "hooks": [_carry(frame)],
        },  # percent of four inches
    )
    legend: dict[str, Any] = {"legend_position": "right"} if frame.legend else {}
    whole = styled(
        hv.Overlay([carrier, *others]),
        title=frame.title,
        xlim=frame.box[0],
        ylim=frame.box[1],
        show_legend=frame.legend,
        hooks=[typeset(frame.notes)],
        **legend,
        **canvas(width, height),
    )
    return whole.opts(fig_size=100, backend="matplotlib")


def _named(element: Any, frame: Frame) -> Any:
    """Have the names of the layers say of which figure they are, where there are several."""
    if element.label and not frame.legend:
        element = styled(element, show_legend=False, bokeh={}, matplotlib={})
    if not (isinstance(element, hv.Labels) and element.group == "Layer"):
        return element

    def hook(plot: Any, drawn: Any) -> None:
        page = _page(plot)
        shown = plot.handles["artist"] if plot.renderer.backend == "matplotlib" else [plot.handles["source"]]
        page.names[frame.of] = ([ref(each) for each in shown], [str(text) for text in drawn.dimension_values("text")])
        _name_layers(page)

    return styled(element, bokeh={"hooks": [hook]}, matplotlib={"hooks": [hook]})


def _name_layers(page: _Page) -> None:
    if len(page.frames) < 2:
        return
    for letter, of in zip(ascii_lowercase, page.frames, strict=False):
        if of not in page.names:
            continue
        held, names = page.names[of]
        shown = [each for each in (reference() for reference in held) if each is not None]
        texts = [f"{name} ({letter})" for name in names]
        for each in shown:
            if isinstance(each, ColumnDataSource):
                each.data["text"] = texts
            else:
                each.set_text(texts[shown.index(each)])


def _page(plot: Any) -> _Page:
    where = plot.handles["axis"] if plot.renderer.backend == "matplotlib" else plot.state
    return _PAGES.setdefault(where, _Page())


def _carry(frame: Frame) -> Any:
    """Tell the page of a frame, and write all that it has been told of, unless the page has a title by itself."""

    def hook(plot: Any, _: Any) -> None:
        page = _page(plot)
        if plot.renderer.backend == "bokeh" and plot.state.title.text.strip() and not page.frames:
            return
        page.frames[frame.of] = frame
        frames = list(page.frames.values())
        title = "\n".join(_apart([[each.title] for each in frames]))
        notes = _apart([each.notes for each in frames])
        if plot.renderer.backend == "bokeh":
            _write_on_screen(plot.state, title, notes)
        else:
            _write_on_paper(plot.handles["axis"], title, notes)
        _name_layers(page)

    return hook


def _write_on_screen(figure: Any, title: str, notes: Sequence[str]) -> None:
    figure.title.update(text=title, text_font_size="12pt", text_color=INK)
    split_title(figure, "10pt")
    for below in [each for each in figure.below if isinstance(each, Title)]:
        figure.below.remove(below)
    write_below(figure, notes)


def _write_on_paper(axis: Any, title: str, notes: Sequence[str]) -> None:
    clear_carried(axis)
    write_title(axis, title, kind=Carried)
    write_notes(axis, fitting(axis, notes, NOTE_WIDTH), kind=Carried)


def _apart(texts: Sequence[Sequence[str]]) -> list[str]:
    """Name what is said of each figure by its letter; what is said of all of them is said once."""
    if len(texts) == 1:
        return list(texts[0])
    shared = [text for text in texts[0] if all(text in other for other in texts)]
    lettered = zip(ascii_lowercase, texts, strict=False)
    return [*shared, *(f"({letter}) {text}" for letter, some in lettered for text in some if text not in shared)]
