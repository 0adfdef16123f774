"""``ipstore serve``: a store in the browser, and over HTTP."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ipstore.cli.output import say

if TYPE_CHECKING:
    from ipstore.analysis.service import Server

__all__ = ["serve"]

_TOKEN = "IPSTORE_SERVE_TOKEN"


def serve(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A store.")],
    port: Annotated[int, typer.Option(help="To listen on; 0 takes one that is free.")] = 5006,
    address: Annotated[str, typer.Option(help="To listen on; by default, this machine alone can ask.")] = "127.0.0.1",
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST[:PORT]", help="A name by which browsers may call the server; may be repeated."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help=f"That must be shown to read anything. Better set it as {_TOKEN}: a command line is seen by every "
            "user of the machine.",
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
) -> None:
    """Show a store in the browser, live, and analyse it there.

    Programs read the same server: the store itself below /store, as in `ipstore.open("http://HOST:PORT/store")`, and
    runs and results as JSON below /api/runs. Ctrl-C stops it.
    """
    from ipstore.analysis.service import serve as serve_store

    def ready(server: "Server") -> None:
        say(f"{store} is at {server.url}; Ctrl-C stops the server")

    serve_store(
        store,
        port=port,
        address=address,
        origins=allow_origin or (),
        token=token or os.environ.get(_TOKEN) or None,
        open_browser=open_browser,
        on_ready=ready,
    )
    say("stopped")
