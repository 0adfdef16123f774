"""The tab of what the units of a layer do: read for the layer that is looked at, when it is looked at."""

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import panel as pn

from ipstore.analysis import figures
from ipstore.analysis.activity import layer_activity
from ipstore.analysis.service.choice import Choice, Drawn
from ipstore.analysis.service.telling import failure_words

if TYPE_CHECKING:
    from ipstore.analysis.service.service import Service

__all__ = ["ActivityTab"]

_EPOCHS = 40
"""That are read of a run, of all its seeds or of the one that is followed."""


class ActivityTab:
    """Histograms of a layer's units, where they saturate, and how many bins they fill.

    Parameters
    ----------
    service : Service
    next_tick : callable
        Has something done in the turn of this page's browser.
    """

    def __init__(self, service: "Service", next_tick: Callable[[Callable[[], None]], None]) -> None:
        self._service, self._next = service, next_tick
        self.layer = pn.widgets.Select(label="Layer", width=240)
        self._words = pn.pane.HTML("", sizing_mode="stretch_width")
        self._figure = pn.Column(sizing_mode="stretch_width")
        self.body = pn.Column(self.layer, self._words, self._figure, sizing_mode="stretch_width")
        self._asked: tuple[Any, ...] = ()
        self._run, self._sequence = "", 0
        self._seed: int | None = None
        self.layer.param.watch(lambda _: self._ask(), "value")

    def show(self, drawn: Drawn, choice: Choice, epoch: int) -> None:
        """Draw the first of the runs that were chosen."""
        self._run, self._seed = (choice.runs or ("",))[0], choice.seed
        runs = self._service.following.runs
        self._sequence = runs[self._run].attrs["commit"]["sequence"] if self._run in runs else 0
        layers = list(runs[self._run].attrs["layers"]) if self._run in runs else []
        if layers != self.layer.options:
            self.layer.param.update(options=layers, value=layers[-1] if layers else None)
        self._ask()

    def choose(self, layers: Sequence[str]) -> None:
        """Change nothing: it shows a layer of its own."""

    def move(self, epoch: int, seed: int | None) -> None:
        """Show this seed alone, or all."""
        if seed != self._seed:
            self._seed = seed
            self._ask()

    def _ask(self) -> None:
        run, layer, seed = self._run, self.layer.value, self._seed
        asked = (run, layer, seed, self._sequence)
        if not run or layer is None or asked == self._asked:
            return
        self._asked = asked
        self._words.object = f"<i>reading {escape(layer)} of {escape(run)}</i>"

        def read() -> Any:
            tree = self._service.holdings.tree(run)
            found = layer_activity(tree, layer, epochs=_EPOCHS, seeds=None if seed is None else [seed])
            return found.compute()

        self._service.submit(read, partial(self._draw, asked), self._next)

    def _draw(self, asked: tuple[Any, ...], found: Any) -> None:
        if asked != self._asked:
            return  # something else was asked for meanwhile
        if isinstance(found, BaseException):
            self._words.object = escape(failure_words(found))
        else:
            self._words.object = ""
            self._figure[:] = [pn.pane.HoloViews(figures.activations(found), linked_axes=False)]
