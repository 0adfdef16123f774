"""The page: what one browser sees of a store."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import panel as pn

from ipstore.analysis.service.analysing import AnalyseTab
from ipstore.analysis.service.choice import Choice, Drawn, gather, is_plane, result_words
from ipstore.analysis.service.listing import RunsTab
from ipstore.analysis.service.tabs import DynamicsTab, PlaneTab, Tab

if TYPE_CHECKING:
    from ipstore.analysis.service.following import Change
    from ipstore.analysis.service.service import Service

__all__ = ["Page", "build"]

_log = logging.getLogger(__name__)

NO_SEED = "none"
_STATUS = {"live": "● live", "finished": "finished", "interrupted": "interrupted", "stopped": "stopped without a word"}


def build(service: "Service") -> pn.template.BootstrapTemplate:
    """Build the page that a browser asks for, with the choice that its address names."""
    asked = {name: [value.decode("utf-8", "replace") for value in values] for name, values in _arguments().items()}
    return Page(service, asked).template


def _arguments() -> dict[str, list[bytes]]:
    return dict(pn.state.session_args)


class Page:
    """What one browser sees, and what it does.

    Parameters
    ----------
    service : Service
        What all browsers share.
    asked : mapping of str to list of str
        What the address names: ``run`` (several may be), ``epoch``, ``seed``.
    """

    def __init__(self, service: "Service", asked: dict[str, list[str]]) -> None:
        self._service = service
        self._document = pn.state.curdoc
        self._drawn = Drawn()
        self._choice = Choice()
        self._loading = self._again = False
        self._quiet = False
        self._widgets()
        self._tabs: dict[str, Tab] = {"Plane": PlaneTab(self._tapped), "Dynamics": DynamicsTab()}
        self._stale = set(self._tabs)
        self._listing = RunsTab(lambda names: self._chose(runs=tuple(names), results=None))
        self._analyse = AnalyseTab(service.jobs, lambda: self._choice.runs)
        self.tabs = pn.Tabs(
            *((name, tab.body) for name, tab in self._tabs.items()),
            ("Analyse", self._analyse.body),
            ("Runs", self._listing.body),
            sizing_mode="stretch_width",
        )
        self.tabs.param.watch(lambda _: self._draw(), "active")
        self.template = pn.template.BootstrapTemplate(
            title=f"ipstore · {service.name}",
            sidebar=[self.runs, self.status, self.results, self.layers, self.seed],
            main=[self.message, self._empty, self.player, self.tabs],
            header_background="#1d3557",
            sidebar_width=320,
        )
        self._subscribed = [
            service.following.subscribe(self._changed),
            service.jobs.subscribe(lambda *_: self._next(self._analyse.show)),
        ]
        if self._document is not None:
            self._document.on_session_destroyed(lambda _: self.close())
        self._begin(asked)

    def close(self) -> None:
        """Let go of the store."""
        for unsubscribe in self._subscribed:
            unsubscribe()

    def _widgets(self) -> None:
        wide: dict[str, Any] = {"sizing_mode": "stretch_width"}
        self.runs = pn.widgets.MultiChoice(name="Runs", placeholder="choose one or several", **wide)
        self.results = pn.widgets.MultiChoice(name="Estimates", max_items=4, placeholder="none is stored", **wide)
        self.layers = pn.widgets.CheckBoxGroup(name="Layers", inline=True, **wide)
        self.seed = pn.widgets.Select(name="Seed to follow", options=[NO_SEED], value=NO_SEED, **wide)
        self.player = pn.widgets.DiscretePlayer(
            name="epoch", options=[0], value=0, interval=120, show_loop_controls=False, visible=False, **wide
        )
        self.status = pn.pane.HTML("", **wide)
        self.message = pn.pane.Alert("", alert_type="warning", visible=False, **wide)
        self._empty = pn.pane.Markdown("", visible=False, **wide)
        self.runs.param.watch(lambda _: self._chose(runs=tuple(self.runs.value), results=None), "value")
        self.results.param.watch(lambda _: self._chose(results=tuple(self.results.value)), "value")
        self.layers.param.watch(lambda _: self._chose_layers(), "value")
        self.seed.param.watch(lambda _: self._moved(), "value")
        self.player.param.watch(lambda _: self._moved(), "value")

    # What comes from the store

    def _begin(self, asked: dict[str, list[str]]) -> None:
        """Choose what the address names, or the run that is most worth seeing."""
        known = self._service.following.runs
        unknown = [name for name in asked.get("run", []) if name not in known]
        chosen = [name for name in asked.get("run", []) if name in known]
        if unknown:
            self._say(f"There is no run {', '.join(map(repr, unknown))} in this store.")
        if not chosen and known:
            chosen = [self._service.most_worth_seeing()]
        self._choice = Choice(runs=tuple(chosen))
        self._list_runs()
        self._load()

    def _list_runs(self) -> None:
        known = self._service.following.runs
        here = [name for name in self._choice.runs if name in known]
        self._quietly(self.runs, options=sorted(known), value=here)
        self._listing.show(known, self._service.following.problems, here)
        lines = []
        for name in self._choice.runs:
            if name in known:
                info = known[name]
                commit = info.attrs["commit"]
                last = commit.get("last_epoch")
                lines.append(
                    f"<b>{escape(name)}</b>: {_STATUS.get(info.status, info.status)}, "
                    f"{'no epoch yet' if last is None else f'epoch {last:,}'}, {len(info.attrs['seeds'])} seeds"
                )
            else:
                lines.append(f"<b>{escape(name)}</b>: gone from the store; what was drawn of it stays")
        self.status.object = "<br>".join(lines) or "This store holds no run yet: the first appears here by itself."

    def _changed(self, change: "Change") -> None:
        """Hear from the follower, in its thread."""
        self._next(partial(self._take_change, change))

    def _take_change(self, change: "Change") -> None:
        if change.problem:
            self._say(f"{change.problem} What was drawn stays; the page goes on by itself once the store is back.")
        elif self.message.visible:
            self._say("")
        if not self._choice.runs and self._service.following.runs:
            self._choice = replace(self._choice, runs=(self._service.most_worth_seeing(),))
        self._list_runs()
        if (change.new | change.changed) & set(self._choice.runs):
            self._load()

    def _load(self) -> None:
        """Read what the choice shows, beside the loop that serves the browsers; once more if it changes meanwhile."""
        if self._loading:
            self._again = True
            return
        self._loading, self._again = True, False
        choice = self._choice
        self._service.submit(partial(gather, self._service.holdings, choice), partial(self._loaded, choice))

    def _loaded(self, choice: Choice, found: Drawn | BaseException) -> None:
        self._next(partial(self._show, choice, found))

    def _show(self, choice: Choice, found: Drawn | BaseException) -> None:
        self._loading = False
        if self._again or choice.runs != self._choice.runs:
            self._load()
            return
        if isinstance(found, BaseException):
            _log.error("a page could not be drawn", exc_info=found)
            self._say(f"This could not be drawn: {type(found).__name__}: {found}")
            return
        kept = [run for run in choice.runs if any(of == run for of, _ in found.recorded)]
        if choice.runs and not kept and self._drawn.recorded and found.problems:
            return  # the run is gone: what was drawn of it stays
        self._drawn = found
        if found.problems:
            self._say(" ".join(found.problems))
        self._fill()
        self._stale = set(self._tabs)
        self._draw()

    def _draw(self) -> None:
        """Draw the tab that is seen, if it shows something older; the others are drawn when they are."""
        name = self._seen
        if name in self._stale:
            self._stale.remove(name)
            self._tabs[name].show(self._drawn, self._choice, self.epoch)

    @property
    def _seen(self) -> str:
        """Name of the tab that is seen."""
        return [*self._tabs, "Analyse", "Runs"][self.tabs.active]

    def _drawn_tabs(self) -> Iterator[Tab]:
        """Give the tabs that show the choice as it is, the one that is seen before the others."""
        first = sorted(self._tabs, key=lambda name: name != self._seen)
        return (self._tabs[name] for name in first if name not in self._stale)

    def _fill(self) -> None:
        """Offer what there is to choose from."""
        found, choice = self._drawn, self._choice
        several = len(choice.runs) > 1
        options = {
            (f"{key[0]} · " if several else "") + result_words(attrs): key
            for key, attrs in found.results.items()
            if is_plane(attrs)
        }
        self._quietly(self.results, options=options, value=list(found.shown))
        layers = list(found.layers)
        self._quietly(
            self.layers, options=layers, value=[n for n in layers if choice.layers is None or n in choice.layers]
        )
        seeds = [NO_SEED, *found.seeds]
        self._quietly(self.seed, options=seeds, value=choice.seed if choice.seed in found.seeds else NO_SEED)
        epochs = list(found.epochs)
        if epochs:
            followed = choice.epoch is None or choice.epoch not in epochs
            self._quietly(self.player, options=epochs, visible=True)
            self._quietly(self.player, value=epochs[-1] if followed else choice.epoch)
        self._empty.visible = bool(choice.runs) and not found.shown
        self._empty.object = (
            "### No estimate of this run is stored yet\n\nAsk for one in *Analyse*, or run "
            f"`ipstore analyze {self._service.shown}/{' '.join(choice.runs[:1])}`."
        )

    # What a person does

    @property
    def epoch(self) -> int:
        """The epoch that is shown."""
        return int(self.player.value or 0)

    def _chose(self, **changes: Any) -> None:
        if not self._quiet:
            self._choice = replace(self._choice, **changes)
            self._list_runs()
            self._load()

    def _chose_layers(self) -> None:
        if not self._quiet:
            self._choice = replace(self._choice, layers=tuple(self.layers.value))
            for tab in self._drawn_tabs():
                tab.choose(self.layers.value)

    def _moved(self) -> None:
        if self._quiet:
            return
        epochs = self._drawn.epochs
        seed = None if self.seed.value == NO_SEED else int(self.seed.value)
        last = not epochs or self.epoch == epochs[-1]
        self._choice = replace(self._choice, epoch=None if last else self.epoch, seed=seed)
        for tab in self._drawn_tabs():
            tab.move(self.epoch, seed)

    def _tapped(self, seed: int | None, epoch: int) -> None:
        """Follow the seed and the epoch of a point through every view."""
        epochs = self._drawn.epochs
        nearest = min(epochs, key=lambda each: abs(each - epoch))
        self._quietly(self.player, value=nearest)
        if seed is not None:
            self._quietly(self.seed, value=seed)
        self._moved()

    # How

    def _say(self, words: str) -> None:
        self.message.object, self.message.visible = escape(words, quote=False), bool(words)

    def _quietly(self, widget: Any, **values: Any) -> None:
        """Set a widget without hearing of it as if a person had."""
        self._quiet = True
        try:
            widget.param.update(**values)
        finally:
            self._quiet = False

    def _next(self, what: Callable[[], None]) -> None:
        """Do something in the turn of this page's browser, from any thread."""
        if self._document is None:
            what()
        else:
            self._document.add_next_tick_callback(what)
