"""What a store holds, looked at again and again: by one thread of the server, for all browsers."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Condition, Event, Thread, current_thread
from time import monotonic
from types import MappingProxyType
from typing import NamedTuple

from ipstore.analysis.service.subscribers import Subscribers
from ipstore.errors import IpstoreError, ParameterError, StoreNotFoundError, UnreachableError
from ipstore.format import check_store
from ipstore.places import Location, Stamp, locate
from ipstore.reader import RunInfo, run_info

__all__ = ["Change", "Following"]

_IDLE = 10
"""Times as long as a look took, at least, no other is begun: a slow store is not kept busy by being looked at."""
_PATIENCE = 5.0
"""Seconds that `close` waits for a look that is under way."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """What differs from the look before.

    Attributes
    ----------
    new : frozenset of str
        Runs that are there now, and were not.
    changed : frozenset of str
        Those with another commit or another status, with a result more, less or of another commit, with another problem
        or with none any more; also one that has taken the place of another of its name.
    gone : frozenset of str
        Those that are there no more.
    problem : str or None
        Why the store cannot be read, now.
    """

    new: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    problem: str | None = None


class _Known(NamedTuple):
    """A run as it was when it was last read."""

    stamp: Stamp
    info: RunInfo | None
    problem: str | None

    @property
    def told(self) -> object:
        """What makes a change; without the stamp of the run's document, whose lease may have been taken or freed."""
        return self.info, self.problem, self.stamp and self.stamp[1]


@dataclass(frozen=True)
class _Seen:
    """All that was seen, at one time."""

    runs: Mapping[str, RunInfo] = field(default_factory=lambda: MappingProxyType({}))
    problems: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    problem: str | None = None
    version: int = 0


class Following:
    """The runs of a store as they come, grow and go.

    A look reads the documents that were replaced since the one before, and of all others asks the file system, or the
    object store, no more than whether they were. All methods may be called from any thread.

    Parameters
    ----------
    store : path or URL
    every : float
        Seconds between two looks, at least; there are none while nobody is subscribed. After a look that took long it
        is ten times as long as that took.

    Raises
    ------
    ParameterError
        If `every` is not positive, or the URL is none of a store.
    """

    def __init__(self, store: Location, every: float = 1.0) -> None:
        if not every > 0:
            raise ParameterError(f"every must be a positive number of seconds but got {every!r}")
        self._place = locate(store)
        self._every = every
        self._known: dict[str, _Known] = {}
        self._seen = _Seen()
        self._subscribers: Subscribers[Change] = Subscribers()
        self._condition = Condition()
        self._thread: Thread | None = None
        self._asked = self._answered = 0
        self._due = 0.0
        self._closed = Event()

    @property
    def runs(self) -> Mapping[str, RunInfo]:
        """The runs by name, as they were when they could last be read. What was given does not change any more."""
        return self._seen.runs

    @property
    def problems(self) -> Mapping[str, str]:
        """Runs that cannot be read now, each with why; one that never could is not among `runs`."""
        return self._seen.problems

    @property
    def problem(self) -> str | None:
        """Why the store cannot be read now; None if it can. All else stays as it was last seen."""
        return self._seen.problem

    @property
    def version(self) -> int:
        """Number of changes that were seen."""
        return self._seen.version

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Have `callback` called at every change, in the thread that looks; the first look comes at once.

        Returns
        -------
        callable
            Ends that. May be called more than once.
        """
        with self._condition:
            if not self._subscribers:
                self._due = 0.0
            leave = self._subscribers.add(callback)
            self._wake()
        return leave

    def look(self) -> None:
        """Look now, and wait until that is done; called from a callback, do not wait."""
        with self._condition:
            self._asked += 1
            ticket = self._asked
            self._wake()
            if current_thread() is not self._thread:
                self._condition.wait_for(lambda: self._answered >= ticket or self._closed.is_set())

    def close(self) -> None:
        """Look no more; nobody is told of anything after this."""
        with self._condition:
            self._closed.set()
            self._condition.notify_all()
            thread = self._thread
        if thread is not None and thread is not current_thread():
            thread.join(_PATIENCE)

    def _wake(self) -> None:
        if self._thread is None and not self._closed.is_set():
            self._thread = Thread(target=self._follow, name="ipstore-following", daemon=True)
            self._thread.start()
        self._condition.notify_all()

    def _follow(self) -> None:
        while True:
            with self._condition:
                while not self._closed.is_set() and self._asked == self._answered:
                    left = self._due - monotonic() if self._subscribers else None
                    if left is not None and left <= 0:
                        break
                    self._condition.wait(left)
                if self._closed.is_set():
                    return
                asked = self._asked
            began = monotonic()
            try:
                change = self._look()
            except Exception as error:  # whatever it is, it must not be the end of following
                change = self._failed(f"{type(error).__name__}: {error}")
                if change is not None:
                    _log.exception("looking at %s failed", self._place)
            ended = monotonic()
            with self._condition:
                self._answered = asked
                self._due = ended + max(self._every, _IDLE * (ended - began))
                self._condition.notify_all()
                if self._closed.is_set():
                    return
            if change is not None:
                self._subscribers.tell(change)

    def _look(self) -> Change | None:
        try:
            check_store(self._place)
            documents = self._place.stamps()
            with ThreadPoolExecutor(self._place.writers) as pool:
                found = dict(zip(documents, pool.map(self._look_at, documents, documents.values()), strict=True))
        except (IpstoreError, OSError) as error:
            return self._failed(str(error))
        before, self._known = self._known, {name: known for name, known in found.items() if known is not None}
        change = Change(
            frozenset(self._known.keys() - before.keys()),
            frozenset(name for name in self._known.keys() & before if self._known[name].told != before[name].told),
            frozenset(before.keys() - self._known.keys()),
        )
        if self._seen.problem is None and not (change.new or change.changed or change.gone):
            return None
        self._seen = _Seen(
            MappingProxyType({name: each.info for name, each in sorted(self._known.items()) if each.info is not None}),
            MappingProxyType(
                {name: each.problem for name, each in sorted(self._known.items()) if each.problem is not None}
            ),
            None,
            self._seen.version + 1,
        )
        return change

    def _look_at(self, name: str, document: Stamp) -> _Known | None:
        """Give a run as it stands; None if it has gone in the meantime.

        Raises
        ------
        IpstoreError, OSError
            If it is the store that does not answer.
        """
        place, known = self._place / name, self._known.get(name)
        info = None if known is None else known.info
        stamp: Stamp = None
        try:
            # Taken before the run is read: what is replaced in between is read again by the next look.
            stamp = (document, place.is_leased()), (place / "results").stamps()
            if known is not None and known.stamp == stamp:
                return known
            return _Known(stamp, run_info(place), None)
        except StoreNotFoundError:  # of the run, or of a result of it: the next look will tell
            return None if known is None else known._replace(stamp=None)
        except UnreachableError as error:
            check_store(self._place)
            return _Known(None, info, str(error))
        except (IpstoreError, OSError) as error:
            return _Known(stamp, info, str(error))

    def _failed(self, problem: str) -> Change | None:
        if problem == self._seen.problem:
            return None
        self._seen = replace(self._seen, problem=problem, version=self._seen.version + 1)
        return Change(problem=problem)
