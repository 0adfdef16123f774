"""The page: what one browser sees of a store."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import panel as pn
from bokeh.document import Document

from ipstore.analysis.service.activity_tab import ActivityTab
from ipstore.analysis.service.analysing import AnalyseTab
from ipstore.analysis.service.choice import Choice, Drawn, gather, is_plane, layers_of, result_words
from ipstore.analysis.service.listing import RunsTab
from ipstore.analysis.service.tabs import BoundTab, DynamicsTab, PlaneTab, Tab
from ipstore.analysis.service.telling import failure_words

if TYPE_CHECKING:
    from ipstore.analysis.service.following import Change
    from ipstore.analysis.service.service import Service

__all__ = ["Page", "build", "warm_up"]

NO_SEED = "none"
_PATIENCE = 0.3
"""Seconds: meanwhile no other browser is served."""
_FIRST = "binned"
_WRAPPED = ".bk-input-group { display: flex; flex-wrap: wrap; }"
_STATUS = {"live": "● live", "finished": "finished", "interrupted": "interrupted", "stopped": "stopped without a word"}


def build(service: "Service") -> pn.template.BootstrapTemplate:
    """Build the page that a browser asks for, with the choice that its address names."""
    arguments = pn.state.session_args.items()
    asked = {name: [value.decode("utf-8", "replace") for value in values] for name, values in arguments}
    return Page(service, asked).template


def warm_up(service: "Service") -> None:
    """Draw a page that nobody sees: the libraries take seconds for their first, and the run is read by then."""
    page = Page(service, {}, patience=None)
    page.template.server_doc(Document())
    page.close()


class Page:
    """What one browser sees, and what it does.

    Parameters
    ----------
    service : Service
        What all browsers share.
    asked : mapping of str to list of str
        What the address names: ``run`` (several may be), ``epoch``, ``seed``, ``tab``.
    patience : float or None
        Seconds in which what is at hand is read, so that the page comes with its figures; None waits for them.
    """

    def __init__(self, service: "Service", asked: dict[str, list[str]], patience: float | None = _PATIENCE) -> None:
        self._service = service
        self._document = pn.state.curdoc
        self._drawn = Drawn()
        self._choice = Choice()
        self._loading = self._again = False
        self._quiet = self._is_away = self._had_problems = self._jobs_changed = False
        self._is_there, self._is_due, self._rested_at = self._document is None, False, 0.0
        self._turns: deque[Callable[[], None]] = deque()
        self._widgets()
        self._tabs: dict[str, Tab] = {
            "Plane": PlaneTab(self.tapped),
            "Dynamics": DynamicsTab(),
            "Bound": BoundTab(),
            "Activations": ActivityTab(service, self._next),
        }
        self._listing = RunsTab(lambda names: self._chose(runs=tuple(names), results=None))
        self._analyse = AnalyseTab(service, lambda: self._choice.runs, self._next)
        bodies = {name: tab.body for name, tab in self._tabs.items()}
        bodies |= {"Analyse": self._analyse.body, "Runs": self._listing.body}
        self._names = list(bodies)
        self._stale = set(bodies)
        self.tabs = pn.Tabs(*bodies.items(), sizing_mode="stretch_width")
        self.tabs.param.watch(lambda _: self._draw(), "active")
        self.template = pn.template.BootstrapTemplate(
            title=f"ipstore · {service.name}",
            sidebar=[self.runs, self.status, self.follow, self.results, self.layers, self.seed],
            main=[self.message, self._empty, self._at, self.player, self.tabs],
            header_background="#1d3557",
            sidebar_width=320,
            busy_indicator=None,  # what takes a while is done beside its loop, and is said where it will appear
        )
        self._subscribed = [
            service.following.subscribe(self._changed),
            service.jobs.subscribe(lambda _: self._hear_of_jobs()),
            service.count_page(),
        ]
        if self._document is not None:
            self._document.on_session_destroyed(lambda _: self.close())
            pn.state.onload(self._arrived)
        self._begin(asked, patience)

    @property
    def is_loading(self) -> bool:
        """Whether something is being read for it."""
        return self._loading

    @property
    def has_nothing_estimated(self) -> bool:
        """Whether it says that there is no estimate of what was chosen."""
        return bool(self._empty.visible)

    def panels(self, tab: str) -> list[Any]:
        """Give the figures of a tab."""
        return list(self._tabs[tab].body)

    def close(self) -> None:
        """Let go of the store."""
        for unsubscribe in self._subscribed:
            unsubscribe()
        self._subscribed.clear()

    def _widgets(self) -> None:
        wide: dict[str, Any] = {"sizing_mode": "stretch_width"}
        self.runs = pn.widgets.MultiChoice(label="Runs", placeholder="choose one or several", **wide)
        self.results = pn.widgets.MultiChoice(label="Estimates", max_items=4, placeholder="none is stored", **wide)
        self.layers = pn.widgets.CheckBoxGroup(label="Layers", inline=True, stylesheets=[_WRAPPED], **wide)
        self.seed = pn.widgets.Select(label="Seed to follow", options=[NO_SEED], value=NO_SEED, **wide)
        self.player = pn.widgets.DiscretePlayer(
            options=[0],
            interval=120,
            show_loop_controls=False,
            show_value=False,
            visible=False,
            **wide,
        )
        self._at = pn.pane.HTML("", styles={"font-size": "15px"}, margin=(4, 10, 0, 10))
        self.status = pn.pane.HTML("", **wide)
        self.message = pn.pane.Alert("", alert_type="warning", visible=False, **wide)
        self.follow = pn.widgets.Checkbox(label="estimate new epochs as they come", value=True, visible=False, **wide)
        self._words = pn.pane.Markdown("", **wide)
        self.first = pn.widgets.Button(label=f"Estimate with {_FIRST}", color="primary", width=220)
        self._empty = pn.Column(self._words, self.first, visible=False, **wide)
        self.runs.param.watch(lambda _: self._chose(runs=tuple(self.runs.value), results=None), "value")
        self.results.param.watch(lambda _: self._chose(results=tuple(self.results.value)), "value")
        self.layers.param.watch(lambda _: self._chose_layers(), "value")
        self.seed.param.watch(lambda _: self._moved(), "value")
        self.player.param.watch(lambda _: self._moved(), "value")
        self.follow.param.watch(lambda _: self._keep_up(), "value")
        self.first.on_click(lambda _: self._estimate_first())

    # What comes from the store

    def _begin(self, asked: dict[str, list[str]], patience: float | None) -> None:
        """Choose what the address names, or the run that is most worth seeing."""
        known = self._service.following.runs
        wrong = [f"There is no run {name!r} in this store." for name in asked.get("run", []) if name not in known]
        chosen = [name for name in asked.get("run", []) if name in known]
        if not chosen and known:
            chosen = [self._service.most_worth_seeing()]
        numbers: dict[str, int | None] = {"epoch": None, "seed": None}
        for name in numbers:
            for text in asked.get(name, []):
                try:
                    numbers[name] = int(text)
                except ValueError:
                    wrong.append(f"{name} must be a whole number but the address says {text!r}.")
        for name in asked.get("tab", []):
            if name in self._names:
                self.tabs.active = self._names.index(name)
            else:
                wrong.append(f"There is no tab {name!r}: there are {', '.join(self._names)}.")
        self._say(" ".join(wrong))
        self._choice = Choice(tuple(chosen), epoch=numbers["epoch"], seed=numbers["seed"])
        self._list_runs()
        self._load(patience)

    def _list_runs(self) -> None:
        known = self._service.following.runs
        here = [name for name in self._choice.runs if name in known]
        self._quietly(self.runs, options=sorted(known), value=here)
        self._renew("Runs")
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
        elif self._is_away:
            self._say("")
        self._is_away = bool(change.problem)
        if not self._choice.runs and self._service.following.runs:
            self._choice = replace(self._choice, runs=(self._service.most_worth_seeing(),))
        chosen = set(self._choice.runs)
        if change.new or change.gone or not chosen:
            self._list_runs()
        else:
            self._renew("Runs")
        if (change.new | change.changed) & chosen:
            self._follow()

    def _follow(self) -> None:
        """Read what has grown, after a pause: all pages share a loop, half of which is left to what people do."""
        pause = self._rested_at - time.monotonic()
        if self._document is None or pause <= 0:
            self._load()
        elif not self._is_due:
            self._is_due = True
            self._document.add_timeout_callback(self._fall_due, math.ceil(1000 * pause))

    def _fall_due(self) -> None:
        self._is_due = False
        self._load()

    def _load(self, patience: float | None = 0) -> None:
        """Read what the choice shows, beside the loop that serves the browsers; once more if it changes meanwhile."""
        if self._loading:
            self._again = True
            return
        self._loading, self._again = True, False
        choice = self._choice
        work = partial(gather, self._service.holdings, choice)
        self._service.submit(work, partial(self._show, choice), self._next, patience)

    def _show(self, choice: Choice, found: Drawn | BaseException) -> None:
        begun = time.monotonic()
        try:
            self._list_runs()
            if isinstance(found, BaseException):
                self._say(failure_words(found))
            elif not self._again and choice.runs == self._choice.runs:
                self._take(found)
        except Exception as error:  # the page stays alive, whatever it is
            self._say(failure_words(error))
        finally:
            self._loading = False
            ended = time.monotonic()
            self._rested_at = ended + 2 * (ended - begun) * self._service.pages
        if self._again or choice.runs != self._choice.runs:
            self._load()

    def _take(self, found: Drawn) -> None:
        """Show what was read, unless the runs are gone: then what was drawn of them stays."""
        if found.problems or self._had_problems:
            self._say(" ".join(found.problems))
        self._had_problems = bool(found.problems)
        if found.problems and not found.recorded:
            return
        self._drawn = found
        self._fill()
        self._stale |= set(self._tabs)
        self._draw()

    def _draw(self) -> None:
        """Draw the tab that is seen, if it shows something older; the others are drawn when they are."""
        name = self._seen
        if name not in self._stale:
            return
        self._stale.remove(name)
        if name == "Runs":
            following = self._service.following
            self._listing.show(following.runs, following.problems, self._choice.runs)
        elif name == "Analyse":
            self._analyse.show()
        else:
            self._tabs[name].show(self._drawn, self._choice, self.epoch)

    def _renew(self, name: str) -> None:
        """Draw a tab anew, now if it is seen."""
        self._stale.add(name)
        if name == self._seen:
            self._draw()

    def _hear_of_jobs(self) -> None:
        """Hear of an analysis, in another thread; what comes before the browser's turn is shown in one."""
        if not self._jobs_changed:
            self._jobs_changed = True
            self._next(self._take_jobs)

    def _take_jobs(self) -> None:
        self._jobs_changed = False
        self._renew("Analyse")

    @property
    def _seen(self) -> str:
        """Name of the tab that is seen."""
        return self._names[self.tabs.active]

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
        self._quietly(self.layers, options=list(found.layers), value=layers_of(choice, found.layers))
        seeds = [NO_SEED, *found.seeds]
        self._quietly(self.seed, options=seeds, value=choice.seed if choice.seed in found.seeds else NO_SEED)
        epochs = list(found.epochs)
        if epochs:
            followed = choice.epoch is None or choice.epoch not in epochs
            self._quietly(self.player, options=epochs, visible=True)
            self._quietly(self.player, value=epochs[-1] if followed else choice.epoch)
            self._tell_epoch()
        self._empty.visible = bool(choice.runs) and not found.shown
        self._words.object = (
            f"### No estimate of {' and '.join(choice.runs)} is stored yet\n\n"
            "The one below is quick; *Analyse* offers others."
        )
        self._keep_up()

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
        self._tell_epoch()
        for tab in self._drawn_tabs():
            tab.move(self.epoch, seed)

    def _tell_epoch(self) -> None:
        self._at.object = f"epoch <b>{self.epoch:,}</b> of {self._drawn.epochs[-1]:,}" if self._drawn.epochs else ""

    def _estimate_first(self) -> None:
        for run in self._choice.runs:
            self._ask(run, _FIRST)

    def _keep_up(self) -> None:
        """Have what is shown of live runs continued as they grow, unless a person does not want that."""
        runs = self._service.following.runs
        live = [run for run in self._choice.runs if run in runs and runs[run].status == "live"]
        self._quietly(self.follow, visible=bool(live))
        if not self.follow.value:
            return
        # An analysis that was asked for, by any page, goes on by itself; till it has stored something, of which it is.
        asked_for = {(job.run, job.result) for job in self._service.jobs.all() if job.follow and not job.is_over}
        for run, name in self._drawn.shown:
            attrs = self._drawn.results[run, name]
            if run not in live or asked_for & {(run, name), (run, None)}:
                continue
            if attrs["commit"]["epochs"] * attrs["every"] < runs[run].attrs["commit"]["epochs"]:
                asked = {key: attrs[key] for key in ("parameters", "layers", "every", "split", "target")}
                self._ask(run, attrs["estimator"], **asked)

    def _ask(self, run: str, estimator: str, **asked: Any) -> None:
        work = partial(self._service.jobs.ask, run, estimator, follow=True, **asked)
        self._service.submit(work, self._asked, self._next)

    def _asked(self, found: Any) -> None:
        if isinstance(found, BaseException):
            self._say(failure_words(found))

    def tapped(self, seed: int | None, epoch: int) -> None:
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
        elif self._subscribed:  # else the browser has left
            # Bokeh's callback is a cycle: what was read for this turn would stay in memory with it for long.
            self._turns.append(what)
            self._document.add_next_tick_callback(self._turn)

    def _turn(self) -> None:
        """Do what is next, once the browser has the page: Panel drops what changes while it fetches that."""
        if self._is_there and self._turns:
            self._turns.popleft()()

    def _arrived(self) -> None:
        self._is_there = True
        for _ in range(len(self._turns)):
            self._next(self._turns.popleft())
