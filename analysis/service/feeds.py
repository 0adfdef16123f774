"""Elements of a figure on a page whose data change without the figure being drawn again.

HoloViews takes 50 ms to draw one element of a figure anew, and a page with a slider has ten: it draws each once, and
what changes then goes straight to the table that the browser draws from, in one.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakMethod

from bokeh.models import ColumnDataSource
from bokeh.models.annotations import Span

from ipstore.analysis.figures.frame import Limits
from ipstore.analysis.service.drawn import Columns

__all__ = ["Cursor", "Feed", "Frame", "weakly"]


def weakly(hook: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Give a hook that does not keep alive what its method is of.

    HoloViews keeps the options of an element for as long as that lives: a hook that leads to the element, or to a plot
    of it, would keep both for ever, and a page that was closed with them.
    """
    held = WeakMethod(hook)

    def weak(plot: Any, element: Any) -> None:
        if (method := held()) is not None:
            method(plot, element)

    return weak


class Feed:
    """The table of one element of a figure.

    Parameters
    ----------
    on_tap : callable, optional
        Called with the positions of the rows that a person selects.
    """

    def __init__(self, on_tap: Callable[[list[int]], None] | None = None) -> None:
        self._on_tap = on_tap
        self._source: ColumnDataSource | None = None

    def hook(self, plot: Any, _: Any) -> None:
        """Take the table of an element as HoloViews draws it: one of its ``hooks``."""
        source = plot.handles["source"]
        if source is not self._source:
            self._source = source
            if self._on_tap is not None:
                source.selected.on_change("indices", lambda _, __, chosen: self._tapped(chosen))

    def send(self, columns: Columns) -> None:
        """Replace what is drawn."""
        if self._source is not None:
            self._source.selected.indices = []
            self._source.data = columns

    @property
    def columns(self) -> Columns:
        """What is drawn."""
        return {} if self._source is None else dict(self._source.data)

    def _tapped(self, chosen: list[int]) -> None:
        if chosen and self._on_tap is not None:
            self._on_tap(list(chosen))


class Frame:
    """The ends of a figure's axes, and its ticks: they move with what is drawn, unless a person has moved them."""

    def __init__(self) -> None:
        self._plot: Any = None
        self._limits: Limits | None = None

    def hook(self, plot: Any, _: Any) -> None:
        """Take the axes of a figure as HoloViews draws it: one of its ``hooks``."""
        self._plot = plot

    def begin(self, limits: Limits) -> None:
        """Say where the axes end in the figure as it is drawn first."""
        self._limits = limits

    def send(self, limits: Limits, ticks: Sequence[tuple[float, str]]) -> None:
        """Move the axes."""
        if self._plot is None or limits == self._limits:
            return
        before, self._limits = self._limits, limits
        for name, old, new in zip(("x_range", "y_range"), before or (None, None), limits, strict=True):
            axis = self._plot.handles[name]
            ends = dict(zip(("reset_start", "reset_end"), new, strict=True))
            if old is None or (axis.start, axis.end) == old:
                ends |= {"start": new[0], "end": new[1]}
            axis.update(**ends)
        places = {float(place): label for place, label in ticks}
        axis = self._plot.handles["xaxis"]
        axis.ticker.ticks = list(places)  # of a new ticker Bokeh would look for in all models of the page
        axis.major_label_overrides = places


class Cursor:
    """A line across a figure at one place of its horizontal axis."""

    def __init__(self) -> None:
        self._place = 0.0
        self._span = self._new(self._place)

    @staticmethod
    def _new(place: float) -> Span:
        return Span(location=place, dimension="height", line_color="#222222", line_width=1, line_dash="dotted")

    def hook(self, plot: Any, _: Any) -> None:
        """Put it into a figure as HoloViews draws it: one of its ``hooks``."""
        if self._span not in plot.state.center:
            self._span = self._new(self._place)
            plot.state.add_layout(self._span)

    def move(self, place: float) -> None:
        """Move it."""
        self._place = self._span.location = place
