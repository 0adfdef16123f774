"""The server: a store's page for browsers, and its endpoints for programs, at one address."""

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from html import escape
from importlib.util import find_spec
from typing import Any, Self

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.routing import AnyMatches, PathMatches, Rule, RuleRouter

from ipstore.analysis.service.access import Access, Gate, bracketed
from ipstore.analysis.service.endpoints import PATHS, endpoints
from ipstore.analysis.service.logs import log, log_request
from ipstore.errors import AddressError, IpstoreError, MissingPackageError, ParameterError
from ipstore.format import check_store, split_run
from ipstore.places import Location

__all__ = ["Server"]

_LARGEST_REQUEST = 2**20
"""Bytes of a body: nothing is uploaded but by websocket."""

_REASONS = {
    errno.EADDRINUSE: "another process listens there: stop it, or give another port; --port 0 takes one that is free",
    errno.EACCES: "this user may not listen there: give a port from 1024 on",
    errno.EADDRNOTAVAIL: "it is no address of this machine",
}


class Server:
    """A server of a store, which listens from the start and answers as soon as it runs.

    Parameters
    ----------
    store : path or URL
    port : int
        0 takes one that is free.
    address : str
        That it listens on.
    origins : iterable of str
        Names by which browsers may call it; see `Access`.
    token : str, optional
        That has to be shown.

    Attributes
    ----------
    port : int
        That it listens on.
    url : str
        Of the page.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, UnreachableError
    ParameterError
        If others than this machine could ask without a token, or the path names a run.
    AddressError
        If it cannot listen there.
    MissingPackageError
        If the packages of a server are not installed.
    """

    def __init__(
        self,
        store: Location,
        *,
        port: int = 5006,
        address: str = "127.0.0.1",
        origins: Iterable[str] = (),
        token: str | None = None,
    ) -> None:
        given = tuple(origins)
        self._access = Access(address, given, token)
        place, run = split_run(store)
        if run is not None:
            raise ParameterError(f"{str(store)!r} is a run; give its store, {str(place)!r}: its page shows every run")
        check_store(place)
        _need_packages()
        self._place, self._address = place, address
        self._socket = _listen(address, port)
        self.port = int(self._socket.getsockname()[1])
        self.url = self._access.url(self.port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def run(self, page: Callable[[], Any], on_ready: Callable[[], Any] | None = None) -> None:
        """Answer until `stop` is called, or, in the main thread, until Ctrl-C or SIGTERM.

        Parameters
        ----------
        page : callable
            Makes what one browser sees, a Panel object.
        on_ready : callable, optional
            Called once it answers.
        """
        try:
            asyncio.run(self._answer(page, on_ready))
        finally:
            self._loop = None
            self._socket.close()

    def start(self, page: Callable[[], Any]) -> None:
        """Answer in a thread of its own; this returns once it does."""
        ready = threading.Event()
        failed: list[Exception] = []

        def work() -> None:
            try:
                self.run(page, ready.set)
            except Exception as error:
                if ready.is_set():
                    log.exception("the server failed")
                failed.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=work, name="ipstore-server", daemon=True)
        self._thread.start()
        ready.wait()
        if failed:
            raise failed[0]

    def stop(self) -> None:
        """Stop it, and listen no longer; once it is stopped, this does nothing."""
        loop, stopped = self._loop, self._stopped
        if loop is None or stopped is None:
            self._socket.close()
        else:
            with suppress(RuntimeError):  # its loop has just ended by itself
                loop.call_soon_threadsafe(stopped.set)
        if self._thread is not None:
            self._thread.join()

    async def _answer(self, page: Callable[[], Any], on_ready: Callable[[], Any] | None) -> None:
        from bokeh.server.server import BaseServer

        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        pages = _pages(page, self._access.hosts(self.port), f"ipstore-{self.port}")
        routes = RuleRouter([Rule(PathMatches(PATHS), endpoints(self._place)), Rule(AnyMatches(), pages)])
        http = HTTPServer(Gate(self._access, self.port, routes), max_body_size=_LARGEST_REQUEST)
        server = BaseServer(IOLoop.current(), pages, http)
        http.add_socket(self._socket)
        server.start()
        signals = _stop_on_signals(self._loop, self._stopped.set)
        try:
            if on_ready is not None:
                on_ready()
            await self._stopped.wait()
        finally:
            for each in signals:
                self._loop.remove_signal_handler(each)
            server.stop()
            await http.close_all_connections()


def _need_packages() -> None:
    missing = [name for name in ("datashader", "panel", "tornado") if find_spec(name) is None]
    if missing:
        raise MissingPackageError(f"a server needs {', '.join(missing)}: pip install 'ipstore[serve]'")


def _listen(address: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise ParameterError(f"a port is 0 to 65535, where 0 takes one that is free, but got {port}")
    try:
        found = socket.getaddrinfo(address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, where = min(found, key=lambda each: each[0])  # IPv4, if the name means both
        listening = socket.create_server(where, family=family)
    except OSError as error:  # socket.gaierror too
        reason = _REASONS.get(error.errno or 0, error.strerror)
        raise AddressError(f"cannot listen on {bracketed(address)}:{port}: {reason}") from error
    listening.setblocking(False)
    return listening


def _pages(page: Callable[[], Any], hosts: frozenset[str], cookie: str) -> Any:
    """Make the part of the server that browsers see: Bokeh's, as Panel extends it."""
    import panel as pn
    from bokeh.server.tornado import BokehTornado
    from panel.io.application import build_applications
    from panel.io.resources import COMPONENT_PATH, DIST_DIR
    from panel.io.server import ComponentResourceHandler

    def one() -> Any:  # a function, which is called for each browser; any other callable would be shown
        try:
            return page()
        except Exception as error:
            log.exception("the page failed")
            reason = str(error) if isinstance(error, IpstoreError) else "the server's log says why"
            return pn.pane.Alert(escape(f"There is no page to be shown: {reason}"), alert_type="danger")

    return BokehTornado(
        build_applications({"/": one}, title="ipstore"),
        extra_websocket_origins=sorted(hosts),
        # The files of Panel's own components; its handler would import any module that a URL names.
        extra_patterns=[(rf"/{COMPONENT_PATH}(panel[./].*)", ComponentResourceHandler, {})],
        ico_path=str(DIST_DIR / "images" / "favicon.ico"),
        # Bokeh writes the request into the page, where a token must not stand.
        exclude_headers=["Authorization", "Cookie"],
        exclude_cookies=[cookie],
        log_function=log_request,
    )


def _stop_on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> list[signal.Signals]:
    """Have Ctrl-C and SIGTERM stop the server, if this is the thread that they come to."""
    if threading.current_thread() is not threading.main_thread():
        return []
    handled = [signal.SIGINT, signal.SIGTERM]
    for each in handled:
        loop.add_signal_handler(each, stop)
    return handled
