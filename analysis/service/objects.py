"""What lies in a store, to be sent piece by piece: read only, never outside of it, holding up no other request.

obstore reads folders and object stores alike, on threads of its own.
"""

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ipstore.local import LocalPlace
from ipstore.places import Place
from ipstore.reaching import reachable
from ipstore.remote import RemotePlace

__all__ = ["Item", "Listing", "Objects", "Part"]

_PIECE = 2**20
_PAGE = 1000

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,254}(?:/[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,254})*")
"""What ipstore puts into a store: so neither a lease, nor what is being written, nor ``..``, however it is written."""


class Item(NamedTuple):
    """An object, or a part of one.

    Parameters
    ----------
    key : str
    size : int
        Bytes of all of it.
    modified : datetime
    tag : str
        Another one as soon as the object is replaced; empty in a listing, and where the place has none.
    """

    key: str
    size: int
    modified: datetime
    tag: str


class Part(NamedTuple):
    """A part of an object, being read.

    Parameters
    ----------
    item : Item
        The object as it is now, which may be another than was found before.
    first, length : int
        Its bytes.
    pieces : async iterator of bytes
    """

    item: Item
    first: int
    length: int
    pieces: AsyncIterator[bytes]


class Listing(NamedTuple):
    """Some of what lies below a folder: objects, and folders where only what is right below was asked for."""

    items: list[Item]
    folders: list[str]


class Objects:
    """The objects of a store.

    Parameters
    ----------
    place : Place
    """

    def __init__(self, place: Place) -> None:
        self._folder: Path | None = None
        self._store: Any
        if isinstance(place, LocalPlace):
            from obstore.store import LocalStore

            self._folder = place.path.absolute()
            self._store, self._prefix = LocalStore(self._folder), ""
        elif isinstance(place, RemotePlace):
            self._store, self._prefix = place.store, place.path
        else:
            raise TypeError(f"objects are read from a folder or an object store, not from {place!r}")

    async def find(self, key: str) -> Item:
        """Find an object.

        Raises
        ------
        FileNotFoundError
            If there is none, or it is none of the store.
        UnreachableError
        """
        await self._check(key)
        with reachable("the store"):
            return _item(await self._store.head_async(self._whole(key)), key)

    async def read(self, key: str, first: int | None = None, last: int | None = None) -> Part:
        """Read an object, or a part of it.

        Parameters
        ----------
        key : str
        first, last : int, optional
            Bytes of a part: from the one to the other and including it, or to the end; without the first, as many
            as `last` says, at the end.

        Raises
        ------
        FileNotFoundError
        UnreachableError
            Also if the object has none of these bytes; there is no telling the two apart but by `find`.
        """
        await self._check(key)
        span: Any = None
        if first is not None:
            span = {"offset": first} if last is None else (first, last + 1)
        elif last is not None:
            span = {"suffix": last}
        with reachable("the store"):
            found = await self._store.get_async(self._whole(key), options={"range": span} if span else None)
            start, end = found.range
            return Part(_item(found.meta, key), start, end - start, _pieces(found))

    async def within(self, below: str, deep: bool) -> AsyncIterator[Listing]:
        """List what lies below a folder, or right below it, a page at a time; none where there is no such folder."""
        if below and not _KEY.fullmatch(below):
            return
        if self._folder is not None:
            yield await asyncio.to_thread(_listed, self._folder, below, deep)
            return
        with reachable("the store"):
            prefix = self._whole(below) or None
            if not deep:
                found = await self._store.list_with_delimiter_async(prefix)
                folders = [self._inner(str(each)) for each in found["common_prefixes"]]
                yield Listing(self._items(found["objects"]), [each for each in folders if _KEY.fullmatch(each)])
                return
            async for page in self._store.list(prefix, chunk_size=_PAGE):
                yield Listing(self._items(page), [])

    async def _check(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            raise FileNotFoundError(key)
        if self._folder is not None:
            await asyncio.to_thread(_check_file, self._folder, key)

    def _whole(self, key: str) -> str:
        return "/".join(part for part in (self._prefix, key) if part)

    def _inner(self, path: str) -> str:
        return path[len(self._prefix) + 1 :] if self._prefix else path

    def _items(self, page: Any) -> list[Item]:
        items = [_item(meta, self._inner(str(meta["path"]))) for meta in page]
        return [item for item in items if _KEY.fullmatch(item.key)]


async def _pieces(found: Any) -> AsyncIterator[bytes]:
    with reachable("the store"):
        async for piece in found.stream(min_chunk_size=_PIECE):
            yield bytes(piece)


def _item(meta: Any, key: str) -> Item:
    return Item(key, int(meta["size"]), meta["last_modified"], meta["e_tag"] or "")


def _check_file(folder: Path, key: str) -> None:
    """Refuse what is no file, or lies behind a link, which may lead out of the store.

    Raises
    ------
    FileNotFoundError
    """
    root = os.path.realpath(folder)
    path = os.path.join(root, key)
    try:
        is_file = stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        is_file = False
    if not is_file or os.path.realpath(path) != path:
        raise FileNotFoundError(key)


def _listed(folder: Path, below: str, deep: bool) -> Listing:
    """List a folder of this machine; a link is passed over, as it is not read through."""
    root = os.path.realpath(folder)
    items: list[Item] = []
    folders: list[str] = []
    waiting = [below]
    if os.path.realpath(os.path.join(root, below)) != os.path.join(root, below).rstrip("/"):
        return Listing([], [])
    while waiting:
        within = waiting.pop()
        try:
            with os.scandir(os.path.join(root, within)) as entries:
                for entry in entries:
                    key = f"{within}/{entry.name}" if within else entry.name
                    if not _KEY.fullmatch(key):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        (waiting if deep else folders).append(key)
                    elif entry.is_file(follow_symlinks=False):
                        about = entry.stat(follow_symlinks=False)
                        items.append(Item(key, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC), ""))
        except (FileNotFoundError, NotADirectoryError):
            continue  # nothing is there, or no more
    return Listing(items, folders)
