"""Who may ask: the token, and the names under which the server answers.

Everything that is asked passes here first, at the one `Gate`: pages, their files and websockets, the store, the API.

A server without a token listens to this machine alone. That keeps other machines out, but not the web pages which a
browser of this machine shows: one that has its own name resolve to 127.0.0.1 would read along. So a request must also
call the server by a name that is allowed, and come from a page of such a name if it comes from one.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import Router
from tornado.web import Application, RequestHandler

from ipstore.analysis.service.logs import log_request
from ipstore.errors import ParameterError

__all__ = ["Access", "Answer", "Gate", "bracketed", "is_loopback"]

_SHORTEST = 16
_TOKEN = re.compile(rf"[!-~]{{{_SHORTEST},}}")
_HOST = re.compile(r"(?:https?://)?(?P<name>[A-Za-z0-9](?:[A-Za-z0-9_.-]*)|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?/?")
_PORT = re.compile(r":[0-9]+\Z")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def is_loopback(address: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


class Answer(NamedTuple):
    """What is answered in place of what was asked for."""

    status: int
    text: str
    headers: Mapping[str, str]


class Access:
    """Who may ask a server.

    Parameters
    ----------
    address : str
        That it listens on.
    origins : iterable of str
        ``HOST`` or ``HOST:PORT`` by which browsers may call it, besides the names of this machine itself; without a
        port, that of the server, and none, as behind a proxy.
    token : str, optional
        That has to be shown.

    Raises
    ------
    ParameterError
        If others than this machine could ask without a token, or the server would answer to no name they know.
    """

    def __init__(self, address: str, origins: Iterable[str] = (), token: str | None = None) -> None:
        given = tuple(origins)
        names = tuple(_canonical(each) for each in given)
        if not is_loopback(address) and not (names and token):
            raise ParameterError(
                f"on the address {address!r} other machines can ask, so the server needs a token, and the names by "
                "which they call it: set IPSTORE_SERVE_TOKEN (or --token), and give --allow-origin HOST[:PORT], "
                f"which may be repeated; got {'a token' if token else 'no token'} and "
                f"{', '.join(given) or 'no origin'}. On 127.0.0.1, the default, it needs neither"
            )
        elsewhere = [name for name in names if not is_loopback(_PORT.sub("", name).strip("[]"))]
        if elsewhere and not token:
            raise ParameterError(
                f"as {elsewhere[0]} the server is called from elsewhere, so it needs a token: set IPSTORE_SERVE_TOKEN "
                "(or --token)"
            )
        if token is not None and not _TOKEN.fullmatch(token):
            raise ParameterError(
                f"a token is at least {_SHORTEST} letters, digits and signs of ASCII, but got {len(token)} characters: "
                'make one with `python -c "import secrets; print(secrets.token_urlsafe())"`'
            )
        self.token = token
        self._address = address
        self._names = names
        self._own = {*_LOOPBACK, *([bracketed(address)] if is_loopback(address) else [])}

    def hosts(self, port: int) -> frozenset[str]:
        """Give the names, each with its port, by which a server on that port may be called."""
        either = [name for name in self._names if not _PORT.search(name)]
        served = {f"{name}:{port}" for name in {*self._own, *either}}
        return frozenset({*map(_with_port, self._names), *map(_with_port, served)})

    def url(self, port: int) -> str:
        """Give the URL of a server on that port, by the first name that it was given."""
        name = self._names[0] if self._names else bracketed(self._address)
        return f"http://{name if _PORT.search(name) else f'{name}:{port}'}/"


class Gate(Router):
    """Lets in who may ask, and answers all others itself.

    Parameters
    ----------
    access : Access
    port : int
        Of the server.
    inside : Router
        What answers those who may.
    """

    def __init__(self, access: Access, port: int, inside: Router) -> None:
        self._hosts = access.hosts(port)
        self._token = access.token
        self._cookie = f"ipstore-{port}"
        self._inside = inside
        self._outside = Application(log_function=log_request)

    @property
    def cookie(self) -> str:
        """Name of the cookie by which a browser is known again; other servers of the same host have others."""
        return self._cookie

    def find_handler(self, request: HTTPServerRequest, **kwargs: object) -> HTTPMessageDelegate | None:
        """Find what answers a request."""
        answer = self.judge(request)
        if answer is None:
            return self._inside.find_handler(request, **kwargs)
        return self._outside.get_handler_delegate(request, _Doorkeeper, {"answer": answer})

    def judge(self, request: HTTPServerRequest) -> Answer | None:
        """Say what is answered to a request that is not let in; None for one that is."""
        if _with_port(request.host) not in self._hosts:
            return Answer(
                421,
                f"This server does not answer to the name {request.host[:100]!r}: start it with --allow-origin NAME.",
                {},
            )
        origin = request.headers.get("Origin")
        if origin is not None and _with_port(origin.partition("://")[2]) not in self._hosts:
            return Answer(403, "Pages of another server may not ask this one: see --allow-origin.", {})
        if self._token is None:
            return None
        is_page = request.path == "/" and request.method == "GET"
        shown = request.query_arguments.get("token", []) if is_page else []
        if shown:
            return self._enter(request) if all(map(self._is_token, shown)) else _UNKNOWN
        if self._has_cookie(request):
            return None
        if not self._has_credentials(request):
            return _UNKNOWN
        # A browser that asked for the token as a password does not show it when it opens a websocket.
        return self._enter(request) if is_page and "text/html" in request.headers.get("Accept", "") else None

    def _enter(self, request: HTTPServerRequest) -> Answer:
        """Give a browser its cookie, and the same page by a URL without the token."""
        query = urlencode([pair for pair in parse_qsl(request.query, keep_blank_values=True) if pair[0] != "token"])
        behind_tls = "https" in (request.protocol, request.headers.get("X-Forwarded-Proto"))
        headers = {
            "Set-Cookie": f"{self._cookie}={self._cookie_value}; HttpOnly; SameSite=Strict; Path=/"
            + ("; Secure" if behind_tls else ""),
            "Referrer-Policy": "no-referrer",
        }
        page = f"./?{query}" if query else "./"  # relative: a proxy may have put the page under a path
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            # Who follows a link of another site is not known by a strict cookie till a page of this one sends them on.
            return Answer(200, "The page follows.", {"Refresh": f"0; url={page}", **headers})
        return Answer(302, "", {"Location": page, **headers})

    @property
    def _cookie_value(self) -> str:
        return hmac.new((self._token or "").encode(), self._cookie.encode(), hashlib.sha256).hexdigest()

    def _has_cookie(self, request: HTTPServerRequest) -> bool:
        cookie = request.cookies.get(self._cookie)
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._cookie_value.encode())

    def _has_credentials(self, request: HTTPServerRequest) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(given.strip().encode())
        if scheme.lower() != "basic":
            return False
        try:
            _, colon, password = base64.b64decode(given.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        return bool(colon) and self._is_token(password)

    def _is_token(self, given: bytes) -> bool:
        return hmac.compare_digest(given, (self._token or "").encode())


_UNKNOWN = Answer(
    401,
    "A token is needed: as the password, with any user name.",
    {"WWW-Authenticate": 'Basic realm="token", charset="UTF-8"'},
)


class _Doorkeeper(RequestHandler):
    """Gives an answer, whatever the request and its method."""

    def initialize(self, answer: Answer) -> None:
        self._answer = answer

    def prepare(self) -> None:
        self._give()

    def write_error(self, status_code: int, **kwargs: object) -> None:
        self._give()  # for a method that Tornado does not know, before it prepares anything

    def _give(self) -> None:
        self.set_status(self._answer.status)
        for name, value in self._answer.headers.items():
            self.set_header(name, value)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.finish(f"{self._answer.text}\n" if self._answer.text else None)


def _canonical(origin: str) -> str:
    """Read ``HOST``, ``HOST:PORT`` or a URL of no more than these."""
    match = _HOST.fullmatch(origin)
    if match is None or int((match["port"] or ":0")[1:]) > 65535:
        raise ParameterError(f"--allow-origin is HOST or HOST:PORT, such as gpu-box:5006, but got {origin!r}")
    return f"{match['name'].lower()}{match['port'] or ''}"


def _with_port(host: str) -> str:
    """Add the port to a name that comes without; that of https is as good as that of http."""
    host = host.lower()
    return f"{host}:80" if not _PORT.search(host) else re.sub(r":443\Z", ":80", host)


def bracketed(address: str) -> str:
    """Write an address as a URL has it."""
    return f"[{address}]" if ":" in address else address
