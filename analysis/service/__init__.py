"""The service: a store's runs in the browser, live ones among them, and over HTTP for programs.

`serve` is all of it, as ``ipstore serve`` runs it; `Server` serves any page beside the store. `docs/service.md` says
how to use them.
"""

from ipstore.analysis.service.server import Server
from ipstore.analysis.service.serving import serve

__all__ = ["Server", "serve"]
