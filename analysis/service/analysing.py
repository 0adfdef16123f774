"""The tab in which a person asks for an analysis, and sees what became of all that were asked for."""

from collections.abc import Callable
from html import escape
from itertools import product
from typing import TYPE_CHECKING, Any

import panel as pn

from ipstore.analysis.estimators.registry import available, get
from ipstore.analysis.questions import expand, read
from ipstore.analysis.service.jobs import Job
from ipstore.analysis.service.telling import failure_words
from ipstore.errors import IpstoreError, ParameterError

if TYPE_CHECKING:
    from ipstore.analysis.service.service import Service

__all__ = ["AnalyseTab"]

_ABOUT = {"information plane": "information", "distance to the bound": "bound"}
_UNDER_WAY = ("waiting", "running", "following")
_SHOWN = 20


class AnalyseTab:
    """Choose an estimator, press, watch it go.

    Parameters
    ----------
    service : Service
    runs : callable
        Gives the runs that a person has chosen.
    next_tick : callable
        Has something done in the turn of this page's browser.
    """

    def __init__(
        self,
        service: "Service",
        runs: Callable[[], tuple[str, ...]],
        next_tick: Callable[[Callable[[], None]], None],
    ) -> None:
        self._service, self._jobs, self._runs, self._next = service, service.jobs, runs, next_tick
        wide: dict[str, Any] = {"sizing_mode": "stretch_width"}
        self.estimator = pn.widgets.Select(label="Estimator", options=list(available()), value="binned", width=240)
        self.other = pn.widgets.TextInput(label="or your own", placeholder="module:object", width=200)
        self.about = pn.widgets.RadioButtonGroup(label="Question", options=_ABOUT, value="information")
        self.every = pn.widgets.TextInput(label="Every so many epochs", value="1", width=160)
        self.split = pn.widgets.Select(label="Samples", options=["all", "train", "test"], width=120)
        self.follow = pn.widgets.Checkbox(label="keep up with a run that is still training", value=True)
        self.ask = pn.widgets.Button(label="Analyse", color="primary", width=140)
        self.message = pn.pane.Alert("", alert_type="danger", visible=False, **wide)
        self._summary = pn.pane.HTML("", **wide)
        self._parameters = pn.FlexBox(**wide)
        self._list = pn.Column(**wide)
        self._boxes: list[pn.widgets.TextInput] = []
        self._rows: dict[Any, _Row] = {}
        self.estimator.param.watch(lambda _: self._choose(), "value")
        self.ask.on_click(lambda _: self._ask())
        self._choose()
        self.body = pn.Column(
            pn.FlexBox(self.estimator, self.other, self.every, self.split, align_items="flex-end", **wide),
            self._summary,
            self._parameters,
            pn.FlexBox(self.about, self.follow, self.ask, align_items="center", gap="16px", **wide),
            self.message,
            pn.pane.HTML("<h3>Analyses</h3>"),
            self._list,
            **wide,
        )
        self.show()

    def show(self) -> None:
        """Show what became of all that were asked for, in any browser."""
        jobs = self._jobs.all()[:_SHOWN]
        rows = {job.id: self._rows.get(job.id) or _Row(lambda job=job: self._cancel(job)) for job in jobs}  # type: ignore[misc]  # a default binds it
        for job in jobs:
            rows[job.id].show(job)
        if list(rows) != list(self._rows):
            self._list[:] = [row.body for row in rows.values()]
        self._rows = rows

    def _choose(self) -> None:
        """Offer the parameters of an estimator."""
        try:
            chosen = get(self.estimator.value)
        except Exception as error:  # one of somebody's own can raise anything as it is imported
            self._say(failure_words(error))
            return
        self._summary.object = f"{escape(chosen.summary)}. <i>{escape(chosen.reference)}</i>"
        self._boxes = [
            pn.widgets.TextInput(
                label=each.name,
                placeholder=_written(chosen.defaults[each.name]),
                description=f"{each.description}: {each.allowed}",
                width=170,
            )
            for each in chosen.parameters
        ]
        self._parameters[:] = self._boxes

    def _ask(self) -> None:
        try:
            if not self._runs():
                raise ParameterError("choose a run first, on the left")
            asked = {"every": _whole(self.every.value or ""), "split": self.split.value, "about": self.about.value}
            questions = list(product(self._runs(), self._questions()))
        except (IpstoreError, OSError) as error:
            self._say(str(error))
            return
        follow = self.follow.value

        def ask() -> None:
            for run, (estimator, parameters) in questions:
                self._jobs.ask(run, estimator, parameters=parameters, follow=follow, **asked)

        def done(found: Any) -> None:
            self._say(failure_words(found) if isinstance(found, BaseException) else "")

        self._service.submit(ask, done, self._next)  # it reads the runs

    def _questions(self) -> list[tuple[str, dict[str, Any]]]:
        """Give what is asked; several values of a parameter are several questions."""
        given = {box.label: box.value.strip() for box in self._boxes if box.value and box.value.strip()}
        if other := (self.other.value or "").strip():
            return [(other, {})]  # only its own process imports it
        words = ",".join(f"{name}={value}" for name, value in given.items())
        name, parameters = read(f"{self.estimator.value}:{words}" if words else self.estimator.value)
        _, questions = expand(name, parameters, self.about.value)
        return [(name, dict(question.params)) for question in questions]

    def _cancel(self, job: Job) -> None:
        try:
            self._jobs.cancel(job.id)
        except IpstoreError as error:  # it ended meanwhile
            self._say(str(error))
        self.show()

    def _say(self, words: str) -> None:
        self.message.object, self.message.visible = escape(words, quote=False), bool(words)


class _Row:
    """One analysis: what was asked, how far it is, and a button to end it."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._words = pn.pane.HTML("", sizing_mode="stretch_width", min_width=300)
        self._bar = pn.indicators.Progress(value=0, max=100, width=220, active=False)
        self._button = pn.widgets.Button(label="Cancel", width=90)
        self._button.on_click(lambda _: cancel())
        self.body = pn.Row(self._words, self._bar, self._button, sizing_mode="stretch_width")

    def show(self, job: Job) -> None:
        """Say how far it is."""
        about = " · bound" if job.about == "bound" else ""
        words = f"<b>{escape(job.run)}</b> · {escape(job.question)}{about}: {job.state}"
        if job.state in _UNDER_WAY and job.total:
            words += f", {job.done} of {job.total} epochs"
        if job.message:
            words += f"<br><span style='color:#a40000'>{escape(job.message)}</span>"
        elif job.result:
            words += f" · stored as {escape(job.result)}"
        self._words.object = words
        self._bar.value = round(100 * job.done / job.total) if job.total else 0
        self._bar.visible = self._button.visible = job.state in _UNDER_WAY


def _written(value: Any) -> str:
    return "none" if value is None else str(value)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ParameterError(f"every must be a number of epochs, 1 or more, but got {text!r}") from None
