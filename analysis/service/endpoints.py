"""What programs read from the server: the store itself below ``/store``, and what it holds as JSON below ``/api``.

The store is read as from any web server, by ranges, and is listed by WebDAV, as obstore asks: so
``ipstore.open("http://host:5006/store")`` is the store. Nothing can be written.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from tornado.httputil import format_timestamp
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler

from ipstore.analysis.service import answers
from ipstore.analysis.service.logs import log, log_request
from ipstore.analysis.service.objects import Item, Listing, Objects, Part, objects_of
from ipstore.describing import as_json
from ipstore.errors import IpstoreError, ParameterError, UnknownNameError, UnreachableError
from ipstore.places import Place

__all__ = ["PATHS", "endpoints"]

PATHS = r"/(store|api)(/.*)?"
"""Which requests `endpoints` answers."""

_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")


def endpoints(place: Place) -> Application:
    """Make the part of the server that programs read.

    Parameters
    ----------
    place : Place
        A store.
    """
    about = {"place": place}
    return Application(
        [
            (r"/store(?:/.*)?", _Store, {"objects": objects_of(place)}),
            (r"/api/runs", _Api, {**about, "answer": answers.runs}),
            (r"/api/runs/([^/]+)", _Api, {**about, "answer": answers.run}),
            (r"/api/runs/([^/]+)/results/([^/]+)", _Api, {**about, "answer": answers.result}),
            (r"/api(?:/.*)?", _Api, {**about, "answer": None}),
        ],
        log_function=log_request,
    )


class _Reading(RequestHandler):
    """Answers what can be read, and refuses the rest."""

    SUPPORTED_METHODS: tuple[str, ...] = ("GET", "HEAD", "OPTIONS")

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")

    def options(self, *arguments: str) -> None:
        self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        self.set_status(204)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        self.explain(status_code, (kwargs.get("exc_info") or (None, None, None))[1])

    def explain(self, status: int, error: BaseException | None) -> None:
        """Write the body of an answer that something went wrong."""
        raise NotImplementedError

    def log_exception(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, IpstoreError):  # which says in a line what is wrong
            level = logging.INFO if _status(error) in (400, 404) else logging.WARNING
            log.log(level, "%s %s: %s", self.request.method, self.request.path, error)
        elif not isinstance(error, HTTPError | FileNotFoundError):
            log.error("%s %s failed", self.request.method, self.request.path, exc_info=error)


class _Store(_Reading):
    """An object of the store, or a list of those below a folder."""

    SUPPORTED_METHODS = ("GET", "HEAD", "OPTIONS", "PROPFIND")

    def initialize(self, objects: Objects) -> None:
        self._objects = objects

    @property
    def _key(self) -> str:
        """What was asked for; whatever cannot be a key is one that is not there."""
        return unquote(self.request.path[len("/store/") :], errors="replace")

    async def head(self) -> None:
        """Tell of an object."""
        try:
            item = await self._objects.find(self._key)
        except FileNotFoundError:
            raise HTTPError(404) from None
        self._tell(item)
        if not self._is_known(item):
            self.set_header("Content-Length", item.size)

    async def get(self) -> None:
        """Give an object, or a part of it."""
        try:
            part = await self._part()
        except FileNotFoundError:
            raise HTTPError(404) from None
        if part is None:
            return
        self._tell(part.item)
        self.set_header("Content-Length", part.length)
        if part.length < part.item.size:
            self.set_status(206)
            last = part.first + part.length - 1
            self.set_header("Content-Range", f"bytes {part.first}-{last}/{part.item.size}")
        await self._send(part)

    async def propfind(self) -> None:
        """List what lies below a folder, as WebDAV has it."""
        depth = self.request.headers.get("Depth", "infinity")
        if depth not in ("1", "infinity"):
            raise HTTPError(400, reason="Depth is 1 or infinity")
        folder = re.sub(r"(?<=[^/])/\Z", "", self._key)
        begun = False
        async for page in self._objects.within(folder, deep=depth == "infinity"):
            if not (page.items or page.folders):
                continue
            if not begun:
                begun = True
                self.set_status(207)
                self.set_header("Content-Type", 'application/xml; charset="utf-8"')
                self.write('<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n')
                self.write(_response(folder))
            self.write(_responses(page))
            await self.flush()
        if not begun:
            raise HTTPError(404)
        self.write("</D:multistatus>\n")

    def explain(self, status: int, error: BaseException | None) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status} {self._reason}\n")

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if isinstance(error, UnreachableError | OSError) and not self._headers_written:
            status_code = 503
        super().send_error(status_code, **kwargs)

    async def _part(self) -> Part | None:
        """Open what was asked for; None where the answer is that it is known already, or has no such part."""
        key, span = self._key, _span(self.request.headers.get("Range"))
        headers = self.request.headers
        if any(name in headers for name in ("If-None-Match", "If-Modified-Since", "If-Range")):
            item = await self._objects.find(key)
            if self._is_known(item):
                self._tell(item)
                return None
            if "If-Range" in headers and headers["If-Range"] not in (item.tag, format_timestamp(item.modified)):
                span = None
        if span is None:
            return await self._objects.read(key)
        first, last = span
        if span != (None, 0):
            try:
                return await self._objects.read(key, first, last)
            except (UnreachableError, ValueError):
                pass  # it may have no such bytes: which is so if it is found
        size = (await self._objects.find(key)).size
        if first is None:
            first, last = max(0, size - (last or 0)), size - 1
        if first >= size:
            self.set_status(416)
            self.set_header("Content-Range", f"bytes */{size}")
            return None
        return await self._objects.read(key, first, size - 1 if last is None else min(last, size - 1))

    def _tell(self, item: Item) -> None:
        is_document = item.key.endswith(".json")
        self.set_header("Content-Type", "application/json" if is_document else "application/octet-stream")
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Last-Modified", format_timestamp(item.modified))
        self.set_header("Cache-Control", "no-cache")  # a run grows: what is kept is asked after each time
        if item.tag:
            self.set_header("ETag", item.tag)

    def _is_known(self, item: Item) -> bool:
        """Answer that the client has the object already, if it says so."""
        if "If-None-Match" in self.request.headers:
            self.set_header("ETag", item.tag)
            known = bool(item.tag) and self.check_etag_header()
        else:
            since = _date(self.request.headers.get("If-Modified-Since", ""))
            known = since is not None and item.modified.replace(microsecond=0) <= since
        if known:
            self.set_status(304)
        return known

    def compute_etag(self) -> None:
        """Leave Tornado's own out, which is of a whole body."""

    async def _send(self, part: Part) -> None:
        sent = 0
        try:
            async with aclosing(part.pieces) as pieces:
                async for piece in pieces:
                    sent += len(piece)
                    self.write(piece)
                    await self.flush()
        except StreamClosedError:
            return  # nobody listens any more
        except (UnreachableError, OSError) as error:
            log.warning("%s: broken off after %d of %d bytes: %s", self.request.path, sent, part.length, error)
        if sent != part.length:
            self.detach().close()  # so that the client sees that it has not got all


class _Api(_Reading):
    """A document, as JSON."""

    def initialize(self, place: Place, answer: Callable[..., Any] | None) -> None:
        self._place, self._answer = place, answer

    async def get(self, *path: str) -> None:
        """Give it."""
        answer = self._answer
        if answer is None:
            raise HTTPError(404)
        query = {name: self.get_query_arguments(name) for name in self.request.query_arguments}
        text = await asyncio.to_thread(lambda: as_json(answer(self._place, *path, query)))
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-cache")
        self.finish(f"{text}\n")

    head = get

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        super().send_error(_status(error) or status_code, **kwargs)

    def explain(self, status: int, error: BaseException | None) -> None:
        if isinstance(error, IpstoreError):
            kind, message = error.kind, str(error).replace(str(self._place), self._place.name)
        elif _status(error) == 404:
            kind, message = "not-found", "what was asked for is no longer there"
        else:
            kind, message = _KINDS.get(status, "internal"), _MESSAGES.get(status, "the server failed; its log says how")
        self.set_header("Content-Type", "application/json")
        self.finish(f"{as_json({'error': {'kind': kind, 'message': message}})}\n")


_KINDS = {400: "parameter", 404: "not-found", 405: "usage"}
_MESSAGES = {
    400: "the request is not understood",
    404: "there is nothing; see /api/runs",
    405: "what is here can only be read, by GET",
}


def _status(error: BaseException | None) -> int | None:
    """Give the HTTP status that says the same as an error."""
    match error:
        case UnknownNameError() | FileNotFoundError():  # of which StoreNotFoundError is one
            return 404
        case ParameterError():
            return 400
        case UnreachableError():
            return 503
    return None


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None


def _span(header: str | None) -> tuple[int | None, int | None] | None:
    """Read the header Range; None where it asks for all, or for several parts at once, which are not given."""
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last = (int(match[name]) if match[name] else None for name in ("first", "last"))
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        return None
    return first, last


def _responses(page: Listing) -> str:
    items = [_response(item.key, _PROPERTIES.format(item.size, format_timestamp(item.modified))) for item in page.items]
    return "".join([*(_response(folder) for folder in page.folders), *items])


_PROPERTIES = "<D:resourcetype/><D:getcontentlength>{}</D:getcontentlength><D:getlastmodified>{}</D:getlastmodified>"
_FOLDER = (
    f"<D:resourcetype><D:collection/></D:resourcetype><D:getlastmodified>{format_timestamp(0)}</D:getlastmodified>"
)
"""obstore insists on a time, which folders of an object store do not have."""


def _response(key: str, properties: str = _FOLDER) -> str:
    """Write one answer of a list; a key has no letter that XML or a URL would have written otherwise."""
    href = f"/store/{key}" if key else "/store/"
    return (
        f"<D:response><D:href>{href}</D:href><D:propstat><D:prop>{properties}</D:prop>"
        "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n"
    )
