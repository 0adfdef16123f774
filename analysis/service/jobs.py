"""Analyses that were asked of a store's runs: done one after the other in a process of their own, seen by everybody."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import entry_points
from queue import SimpleQueue
from threading import Condition, Thread, current_thread
from typing import Any, Literal, get_args
from uuid import uuid4

from ipstore.analysis.estimators.registry import GROUP, available
from ipstore.analysis.plane import Split, Target
from ipstore.analysis.questions import About
from ipstore.analysis.scheduling import absolute
from ipstore.analysis.service.subscribers import Subscribers
from ipstore.analysis.service.workers import News, Order, Worker
from ipstore.errors import IpstoreError, ParameterError, UnknownNameError, WorkerError
from ipstore.format import check_store, find_run
from ipstore.parts import holders
from ipstore.places import Location, locate
from ipstore.reader import open_published, run_info

__all__ = ["Job", "Jobs", "State"]

State = Literal["waiting", "running", "following", "finished", "failed", "cancelled"]
"""Of a job: not begun; under way; done as far as its live run goes, and to be continued as that grows; over."""

_OVER = ("finished", "failed", "cancelled")
_KEPT = 100
"""Jobs that are over and still told of."""
_BEAT = 0.2
"""Seconds in which a worker is told that its job was cancelled."""
_PATIENCE = 5.0
"""Seconds that a worker has to leave off in good order before it is killed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """An analysis that was asked for, as it stood at one time.

    Attributes
    ----------
    id : str
    run : str
    question : str
        As the command line writes it: ``"binned:bins=30"``.
    about : {"information", "bound"}
    layers : tuple of str, optional
        None are all.
    every : int
    split : {"all", "train", "test"}
    target : {"labels", "output"}
    follow : bool
        Whether it goes on as long as its run does.
    state : {"waiting", "running", "following", "finished", "failed", "cancelled"}
    done, total : int
        Epochs that are stored, and of all; both 0 till the first are about to be.
    result : str or None
        Name of what it stored, once all of it is.
    message : str or None
        Why it failed, or what is to be said of its result.
    created : datetime
    started, ended : datetime or None
        When it was first worked on, and when it was over.
    """

    id: str
    run: str
    question: str
    about: About
    layers: tuple[str, ...] | None
    every: int
    split: Split
    target: Target
    follow: bool
    state: State = "waiting"
    done: int = 0
    total: int = 0
    result: str | None = None
    message: str | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in _OVER


@dataclass(eq=False)
class _Entry:
    job: Job
    order: Order
    asked: object
    """Equal for the same question."""
    has_grown: bool = False
    """Since it was begun."""


class Jobs:
    """Analyses of a store's runs, in the order in which they were asked for.

    All methods may be called from any thread.

    Parameters
    ----------
    store : path or URL
    workers : int
        How many are worked on at a time; each takes all processors that are idle.

    Raises
    ------
    ParameterError
        If there is no worker, or the URL is none of a store.
    """

    def __init__(self, store: Location, *, workers: int = 1) -> None:
        if workers < 1:
            raise ParameterError(f"workers must be a number of processes, 1 or more, but got {workers!r}")
        self._place = absolute(locate(store))
        self._most = workers
        self._condition = Condition()
        self._entries: dict[str, _Entry] = {}
        self._queue: deque[_Entry] = deque()
        self._idle = 0
        self._threads: list[Thread] = []
        self._closed = False
        self._subscribers: Subscribers[Job] = Subscribers()
        self._news: SimpleQueue[Job | None] = SimpleQueue()
        self._teller: Thread | None = None

    def ask(
        self,
        run: str,
        estimator: str = "binned",
        *,
        parameters: Mapping[str, Any] | None = None,
        layers: Sequence[str] | None = None,
        every: int = 1,
        split: Split = "all",
        target: Target = "labels",
        about: About = "information",
        follow: bool = False,
    ) -> Job:
        """Ask for an analysis, whose result is kept in the run.

        What does not depend on the estimator is checked before anything is begun, and so is all else if it is one that
        comes with ipstore. Others are imported by the worker alone: what is wrong with them makes the job fail.

        Parameters
        ----------
        run : str
        estimator : str
            One of `ipstore.analysis.estimators.available`, or ``module:object``.
        parameters : mapping, optional
            Of the estimator; one value of each.
        layers, every, split, target
            See `ipstore.analysis.analyze`.
        about : {"information", "bound"}
            Whether it is `ipstore.analysis.analyze` that is asked for, or `ipstore.analysis.analyze_bound`.
        follow : bool
            Go on as the run grows, as long as it is live.

        Returns
        -------
        Job
            One that is not over yet, if it is about the same question.

        Raises
        ------
        StoreNotFoundError, NotAStoreError, FormatVersionError, CorruptionError, UnreachableError
        UnknownNameError
            If there is no such run, estimator or layer.
        ParameterError, ActivationError
            If the question cannot be asked of that run.
        """
        given = dict(parameters or {})
        order = Order(str(self._place), run, estimator, given, layers, every, split, target, about)
        order, asked = self._check(order)
        with self._condition:
            if self._closed:
                raise ParameterError("the server is ending, so nothing more is analysed; start it again")
            for entry in self._entries.values():
                if entry.asked == asked and not entry.job.is_over:
                    if follow and not entry.job.follow:
                        self._change(entry, follow=True)
                    return entry.job
            words, chosen = (
                _question(estimator, order.parameters),
                None if layers is None else tuple(order.layers or ()),
            )
            job = Job(uuid4().hex, run, words, about, chosen, every, split, target, follow)
            entry = self._entries[job.id] = _Entry(job, order, asked)
            self._news.put(job)
            self._enqueue(entry)
            over = [key for key, each in self._entries.items() if each.job.is_over]
            for key in over[: max(0, len(over) - _KEPT)]:
                del self._entries[key]
            return job

    def cancel(self, id: str) -> Job:
        """Have a job not begun, or left off; what it has stored is kept, and asking again goes on from there.

        Raises
        ------
        UnknownNameError
            If there is none of that id.
        ParameterError
            If it is over.
        """
        with self._condition:
            if id not in self._entries:
                known = (key for key, each in self._entries.items() if not each.job.is_over)
                raise UnknownNameError("analysis", id, known, "it may be over for long")
            entry = self._entries[id]
            if entry.job.is_over:
                how = {"finished": "has finished", "failed": "has failed", "cancelled": "was cancelled"}
                raise ParameterError(
                    f"the analysis {entry.job.question!r} of run {entry.job.run!r} {how[entry.job.state]} already, so "
                    "there is nothing to cancel"
                )
            self._cancel(entry)
            return entry.job

    def all(self) -> list[Job]:
        """Give all jobs that are not over, and the last hundred that are; the newest first."""
        with self._condition:
            return [entry.job for entry in reversed(self._entries.values())]

    def run_changed(self, names: Iterable[str]) -> None:
        """Hear of runs that have grown, ended or gone, so that what follows them goes on.

        Parameters
        ----------
        names : iterable of str
            As the runs are stored; of a run in parts, those of its parts.
        """
        changed = set(names)
        with self._condition:
            for entry in self._entries.values():
                name = entry.job.run
                if not entry.job.follow or not any(each == name or each.startswith(f"{name}+") for each in changed):
                    continue
                if entry.job.state != "following":
                    entry.has_grown = True
                elif entry not in self._queue:
                    self._enqueue(entry)

    def subscribe(self, callback: Callable[[Job], None]) -> Callable[[], None]:
        """Have `callback` called with every job that has changed, in a thread of its own for all subscribers.

        Returns
        -------
        callable
            Ends that. May be called more than once.
        """
        with self._condition:
            if self._teller is None and not self._closed:
                self._teller = Thread(target=self._tell, name="ipstore-jobs-news", daemon=True)
                self._teller.start()
        return self._subscribers.add(callback)

    def close(self) -> None:
        """Cancel what is not over, and end the workers."""
        with self._condition:
            self._closed = True
            for entry in self._entries.values():
                if not entry.job.is_over:
                    self._cancel(entry)
            self._condition.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        self._news.put(None)
        if self._teller is not None and self._teller is not current_thread():
            self._teller.join(_PATIENCE)

    def _check(self, order: Order) -> tuple[Order, object]:
        """Give the order with values of their own types, and what is equal for the same question."""
        if order.about not in (words := get_args(About)):
            raise ParameterError(f"about must be one of {', '.join(map(repr, words))} but got {order.about!r}")
        if order.about == "bound" and (order.split, order.target) != ("all", "labels"):
            raise ParameterError(
                "the bound is that of all samples and the labels, so split must be 'all' and target 'labels', but got "
                f"{order.split!r} and {order.target!r}"
            )
        view = order.view
        check_store(self._place)
        # Of a run in parts the first: whether they fit together is for the worker, and takes as long as opening all.
        held = holders(self._place, order.run) or [find_run(self._place, order.run).name]
        tree = open_published(self._place / held[0])
        questions = [] if _is_other(order.estimator) else order.questions()
        inquiry = view.inquiry(tree, questions)
        layers = tuple(inquiry.subject.activations)
        settled: Any = sorted(order.parameters.items())
        for question, tasks in zip(questions, inquiry.tasks, strict=True):
            order = replace(order, parameters=question.estimator.check(order.parameters))
            settled = [sorted(task.params.items()) for task in tasks]
        asked = (order.run, order.estimator, repr(settled), layers, order.every, order.split, order.target, order.about)
        return replace(order, layers=None if order.layers is None else layers), asked

    def _enqueue(self, entry: _Entry) -> None:
        self._queue.append(entry)
        if len(self._queue) > self._idle and len(self._threads) < self._most:
            thread = Thread(target=self._work, name="ipstore-jobs", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._condition.notify()

    def _cancel(self, entry: _Entry) -> None:
        if entry in self._queue:
            self._queue.remove(entry)
        self._change(entry, state="cancelled", ended=datetime.now(UTC))

    def _change(self, entry: _Entry, **changes: Any) -> None:
        entry.job = replace(entry.job, **changes)
        self._news.put(entry.job)

    def _tell(self) -> None:
        while (job := self._news.get()) is not None:
            self._subscribers.tell(job)

    def _work(self) -> None:
        """Do one job after the other. This thread lives as long as its workers do."""
        worker: Worker | None = None
        while (entry := self._next()) is not None:
            try:
                if worker is None or not worker.is_alive:
                    worker = Worker()
                if not self._do(entry, worker):
                    worker = None
            except Exception as error:  # such as a process that cannot be started
                _log.exception("the analysis %s of run %s could not be done", entry.job.question, entry.job.run)
                self._end(entry, "failed", message=f"{type(error).__name__}: {error}")
        if worker is not None:
            worker.end(_PATIENCE)

    def _next(self) -> _Entry | None:
        with self._condition:
            self._idle += 1
            self._condition.wait_for(lambda: self._queue or self._closed)
            self._idle -= 1
            if self._closed:
                return None
            entry = self._queue.popleft()
            entry.has_grown = False
            self._change(entry, state="running", started=entry.job.started or datetime.now(UTC))
            return entry

    def _do(self, entry: _Entry, worker: Worker) -> bool:
        """Have a job done, and say whether the worker can do another."""
        before = self._standing(entry.job.run) if entry.job.follow else None
        worker.begin(entry.order)
        while True:
            try:
                news = worker.news(_BEAT)
            except WorkerError as error:
                self._end(entry, "failed", message=str(error))
                worker.end(0)
                return False
            if entry.job.state == "cancelled":
                worker.end(_PATIENCE)
                return False
            if news is not None and news.kind == "progress":
                with self._condition:
                    if entry.job.state == "running":
                        self._change(entry, done=news.done, total=news.total)
            elif news is not None:
                self._settle(entry, news, before)
                return True

    def _settle(self, entry: _Entry, news: News, before: object) -> None:
        """Take what became of a job; one that follows its run goes on if that does."""
        if news.kind == "failed":
            if news.trace:
                where = (entry.job.question, entry.job.run, news.trace)
                _log.error("the analysis %s of run %s failed:\n%s", *where)
            self._end(entry, "failed", message=news.words)
            return
        told = {"result": news.result, "message": news.words or None}
        after = self._standing(entry.job.run) if entry.job.follow else None
        if after is None or (after == before and not after[0]):
            self._end(entry, "finished", **told)
            return
        with self._condition:
            if entry.job.state == "running":
                self._change(entry, state="following", **told)
                if entry.has_grown or not after[0]:
                    self._enqueue(entry)

    def _end(self, entry: _Entry, state: State, **told: Any) -> None:
        with self._condition:
            if not entry.job.is_over:
                self._change(entry, state=state, ended=datetime.now(UTC), **told)

    def _standing(self, run: str) -> tuple[bool, object] | None:
        """Say whether a run is live, and at which commit; None if it cannot be told."""
        try:
            infos = [run_info(self._place / name) for name in holders(self._place, run)]
        except (IpstoreError, OSError) as error:
            _log.warning("whether run %s goes on cannot be told: %s", run, error)
            return None
        commits = [(info.attrs["created_at"], info.attrs["commit"]["sequence"]) for info in infos]
        return any(info.status == "live" for info in infos), commits


def _is_other(estimator: str) -> bool:
    """Whether an estimator comes from elsewhere, so that its code is not to be run here.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    if ":" in estimator:
        return True
    if estimator not in (known := available()):
        raise UnknownNameError("estimator", estimator, known)
    return estimator in entry_points(group=GROUP).names


def _question(estimator: str, parameters: Mapping[str, Any]) -> str:
    """Write a question as the command line does."""
    pairs = [f"{name}={_written(value)}" for name, value in parameters.items()]
    return f"{estimator}:{','.join(pairs)}" if pairs else estimator


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "..".join(map(_written, value))
    return "none" if value is None else str(value)
