"""What all browsers of a server share: the store, as it is followed, read and analysed."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from ipstore.analysis.service.following import Following
from ipstore.analysis.service.holdings import Holdings
from ipstore.analysis.service.jobs import Jobs
from ipstore.places import Location, locate
from ipstore.reader import RunInfo

__all__ = ["Service"]

_READERS = 2
"""Threads that read for the pages."""

_T = TypeVar("_T")


class Service:
    """A store that is served.

    Parameters
    ----------
    store : path or URL

    Attributes
    ----------
    following : Following
    holdings : Holdings
    jobs : Jobs

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """

    def __init__(self, store: Location) -> None:
        place = locate(store)
        self.shown, self.name = str(place), place.name
        self.following = Following(place)
        self.following.look()
        self.holdings = Holdings(place)
        self.jobs = Jobs(place)
        self._pages: set[object] = set()
        self._readers = ThreadPoolExecutor(_READERS, "ipstore-page")
        self._unsubscribe = self.following.subscribe(lambda change: self.jobs.run_changed(change.changed | change.gone))

    def most_worth_seeing(self) -> str:
        """Name the run that a page shows first: a live one, else the newest that has a result, else the newest."""

        def worth(info: RunInfo) -> tuple[bool, bool, datetime]:
            return info.status == "live", bool(info.results), datetime.fromisoformat(info.attrs["commit"]["time"])

        runs = self.following.runs
        return max(runs, key=lambda name: worth(runs[name]))

    @property
    def pages(self) -> int:
        """Number of pages that are open."""
        return len(self._pages)

    def count_page(self) -> Callable[[], None]:
        """Count a page, until what this gives is called."""
        page = object()
        self._pages.add(page)
        return lambda: self._pages.discard(page)

    def submit(
        self,
        work: Callable[[], _T],
        done: Callable[[_T | BaseException], Any],
        turn: Callable[[Callable[[], None]], Any],
        patience: float | None = 0,
    ) -> None:
        """Do something that takes a while beside the loop that serves the browsers.

        Parameters
        ----------
        work : callable
            Reads and calculates. It draws nothing: HoloViews and Bokeh are for one thread.
        done : callable
            Called with what `work` gave, or raised.
        turn : callable
            Has something done in the turn of a browser; called in another thread, with a call of `done`.
        patience : float or None
            Seconds in which `done` is called here and now, if `work` takes no longer; None waits for it.
        """
        future = self._readers.submit(work)
        if patience != 0:
            wait([future], patience)
        if future.done():
            done(_outcome(future))
        else:
            future.add_done_callback(lambda future: turn(partial(done, _outcome(future))))

    def close(self) -> None:
        """End its threads and processes."""
        self._unsubscribe()
        self.following.close()
        self.jobs.close()
        self._readers.shutdown(cancel_futures=True)


def _outcome(future: Future[Any]) -> Any:
    if future.cancelled():
        return CancelledError("the server is ending")
    return future.exception() or future.result()
