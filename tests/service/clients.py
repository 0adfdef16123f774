"""What a browser says to the page's server, and hears from it, without a browser: for many at once."""

import asyncio
import json
import re
import time
from typing import Any, Self

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

__all__ = ["Client"]

SECONDS = 60
"""That anything may take: no verdict is about time."""


class Client:
    """A page that is fetched, and kept up to date by the server; nothing of it is drawn.

    Attributes
    ----------
    epoch : int or None
        The last that the page knows of.
    drawn : int
        Times that a table of a figure was replaced.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._sent = 0
        self._player: dict[str, Any] = {}
        self._told = asyncio.Condition()
        self.epoch: int | None = None
        self.drawn = 0

    @classmethod
    async def opened(cls, url: str) -> Self:
        """Fetch a page, and say that it is there."""
        client = cls(url)
        await client.fetch()
        await client.arrive()
        return client

    async def fetch(self) -> None:
        """Fetch the page and its document, and no more."""
        answer = await AsyncHTTPClient().fetch(self._url, request_timeout=SECONDS)
        found = re.search(r'"token":"([^"]+)"', answer.body.decode())
        assert found is not None
        base = self._url.partition("?")[0].rstrip("/")
        request = HTTPRequest(f"{base.replace('http', 'ws', 1)}/ws", headers={"Origin": base})
        self._line: WebSocketClientConnection = await websocket_connect(
            request, subprotocols=["bokeh", found[1]], max_message_size=2**28
        )
        assert (await self._hear())[0] == "ACK"
        await self._say("PULL-DOC-REQ", {})
        kind, document = await self._hear()
        assert kind == "PULL-DOC-REPLY", document
        self._look_at(document["doc"])

    async def arrive(self) -> None:
        """Say that the page is there, and hear from now on what changes in it."""
        values = {"type": "map", "entries": []}
        event = {"type": "event", "name": "document_ready", "values": values}
        await self._patch({"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": event})
        self._hearing = asyncio.create_task(self._follow())

    async def leave(self) -> None:
        """Close it, as a browser does."""
        self._line.close()
        await self._hearing

    async def knows(self, epoch: int) -> None:
        """Wait until the page has that epoch."""
        async with self._told:
            known = self._told.wait_for(lambda: self.epoch is not None and self.epoch >= epoch)
            await asyncio.wait_for(known, SECONDS)

    async def move(self, back: int = 1) -> float:
        """Move the slider so many steps from its end; give the seconds until a figure is told of it."""
        before, begun = self.drawn, time.perf_counter()
        value = max(0, self._player["end"] - back)
        await self._patch({"kind": "ModelChanged", "model": {"id": self._player["id"]}, "attr": "value", "new": value})
        async with self._told:
            await asyncio.wait_for(self._told.wait_for(lambda: self.drawn > before), SECONDS)
        return time.perf_counter() - begun

    async def _follow(self) -> None:
        while (heard := await self._hear())[0]:
            kind, content = heard
            assert kind != "ERROR", content
            async with self._told:
                for event in content.get("events", []):
                    self._take(event)
                self._told.notify_all()

    def _take(self, event: dict[str, Any]) -> None:
        if event["kind"] == "ColumnDataChanged":
            self.drawn += 1
        elif event["kind"] == "ModelChanged":
            if event["model"]["id"] == self._player.get("id"):
                self._player[event["attr"]] = event["new"]
            elif event["attr"] == "text":
                self._read(event["new"])

    def _read(self, words: Any) -> None:
        if found := re.match(r"epoch &lt;b&gt;[\d,]+&lt;/b&gt; of ([\d,]+)", str(words)):
            self.epoch = int(found[1].replace(",", ""))

    def _look_at(self, part: Any) -> None:
        """Look for the slider in a document, and for what it says of epochs."""
        if isinstance(part, dict):
            if part.get("type") == "object" and str(part.get("name")).endswith("Player"):
                self._player = {"id": part["id"], **part["attributes"]}
            self._read(part.get("text"))
            part = list(part.values())
        if isinstance(part, list):
            for each in part:
                self._look_at(each)

    async def _patch(self, *events: dict[str, Any]) -> None:
        await self._say("PATCH-DOC", {"events": events})

    async def _say(self, kind: str, content: dict[str, Any]) -> None:
        self._sent += 1
        for part in ({"msgid": str(self._sent), "msgtype": kind}, {}, content):
            await self._line.write_message(json.dumps(part))

    async def _hear(self) -> tuple[str, dict[str, Any]]:
        """Hear one message: header, metadata, content, and its buffers; an empty one if the server has ended."""
        header, _, content = [await self._line.read_message() for _ in range(3)]
        if content is None or header is None:
            return "", {}
        header = json.loads(header)
        for _ in range(2 * header.get("num_buffers", 0)):
            await self._line.read_message()
        return header["msgtype"], json.loads(content)
