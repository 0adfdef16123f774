"""A server that tests ask, by clients that send what they are told to."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from typing import Any

import panel as pn

from ipstore.analysis.service import Server
from ipstore.places import Location

TOKEN = "correct-horse-battery"


def page() -> pn.viewable.Viewable:
    """What a browser of these tests sees."""
    return pn.pane.Markdown("# A page of the tests")


@contextmanager
def serving(store: Location, **options: Any) -> Iterator[Server]:
    """Serve a store on a free port for as long as the block lasts."""
    with Server(store, port=0, **options) as server:
        server.start(page)
        yield server


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(server: Server, path: str, method: str = "GET", host: str | None = None, **headers: str) -> Answer:
    """Ask the server for exactly that path; ``_`` stands for ``-`` in the name of a header."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host or f"127.0.0.1:{server.port}")
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def send(server: Server, request: bytes, ends: bool = False) -> bytes:
    """Send bytes, and nothing after them if it `ends`; give all that comes back till the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        line.sendall(request)
        if ends:
            line.shutdown(socket.SHUT_WR)
        found = bytearray()
        while piece := line.recv(2**16):
            found += piece
        return bytes(found)


def upgrade(server: Server, headers: Mapping[str, str] | None = None, path: str = "/ws") -> int:
    """Ask to open the page's websocket; give the status: 101 where it is opened."""
    lines = {
        "Host": f"127.0.0.1:{server.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    request = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        line.sendall(request.encode())
        return int(line.recv(2**16).split()[1])
