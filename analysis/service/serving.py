"""All of the service, as ``ipstore serve`` runs it: the server, and the page that it gives."""

import threading
import warnings
import webbrowser
from collections.abc import Callable, Iterable

from ipstore.analysis.service.server import Server
from ipstore.places import Location

__all__ = ["serve"]


def serve(
    store: Location,
    *,
    port: int = 5006,
    address: str = "127.0.0.1",
    origins: Iterable[str] = (),
    token: str | None = None,
    open_browser: bool = False,
    on_ready: Callable[[Server], None] | None = None,
) -> None:
    """Serve a store until Ctrl-C or SIGTERM.

    Parameters
    ----------
    store : path or URL
    port : int
        0 takes one that is free.
    address : str
        That it listens on. Where other machines reach it, `origins` and `token` are needed.
    origins : iterable of str
        ``HOST`` or ``HOST:PORT`` by which browsers may call it, besides the names of this machine itself.
    token : str, optional
        That has to be shown; at least 16 characters.
    open_browser : bool
        Show the page in a browser of this machine.
    on_ready : callable, optional
        Called with the server once it answers.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError, UnreachableError
    ParameterError
        If others than this machine could ask without a token.
    AddressError
        If it cannot listen there.
    MissingPackageError
        If the packages of a server are not installed.
    """
    with Server(store, port=port, address=address, origins=origins, token=token) as server:
        # Which takes seconds: whatever is wrong is said before.
        from ipstore.analysis.service.page import build, warm_up
        from ipstore.analysis.service.service import Service

        def ready() -> None:
            if open_browser:  # by its plain URL: a command line, and so a token in it, is seen by every user
                threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
            if on_ready is not None:
                on_ready(server)

        # What is deprecated in a library that Panel or Bokeh calls is theirs to mend, and no reason for a page to fail.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="bokeh|panel")
        service = Service(store)
        try:
            warm_up(service)
            server.run(lambda: build(service), ready)
        finally:
            service.close()
