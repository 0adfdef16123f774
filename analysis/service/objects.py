"""What lies in a store, to be sent piece by piece: read only, never outside of it, holding up no other request."""

import asyncio
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ipstore.local import LocalPlace
from ipstore.places import Place
from ipstore.reaching import reachable
from ipstore.remote import RemotePlace

__all__ = ["Item", "Listing", "Objects", "Part", "objects_of"]

_PIECE = 2**20
_PAGE = 1000

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,254}(?:/[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,254})*")
"""What ipstore puts into a store: so neither a lease, nor what is being written, nor ``..``, however it is written."""


class Item(NamedTuple):
    """An object.

    Parameters
    ----------
    key : str
    size : int
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
    pieces : async generator of bytes
        Fewer bytes if the object is cut short while it is read.
    """

    item: Item
    first: int
    length: int
    pieces: AsyncGenerator[bytes, None]


class Listing(NamedTuple):
    """Some of what lies below a folder: objects, and folders where only what is right below was asked for."""

    items: list[Item]
    folders: list[str]


class Objects(ABC):
    """The objects of a store."""

    async def find(self, key: str) -> Item:
        """Find an object.

        Raises
        ------
        FileNotFoundError
            If there is none, or it is none of the store.
        UnreachableError
        """
        return await self._find(_checked(key))

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
        ValueError
            If the object has none of these bytes.
        UnreachableError
            Also then: an object store does not tell the two apart, but `find` does.
        """
        return await self._read(_checked(key), first, last)

    def within(self, folder: str, deep: bool) -> AsyncIterator[Listing]:
        """List what lies below a folder, or right below it, a page at a time; none where there is no such folder."""
        return self._within(folder, deep) if not folder or _KEY.fullmatch(folder) else _nothing()

    @abstractmethod
    async def _find(self, key: str) -> Item: ...

    @abstractmethod
    async def _read(self, key: str, first: int | None, last: int | None) -> Part: ...

    @abstractmethod
    def _within(self, folder: str, deep: bool) -> AsyncIterator[Listing]: ...


def objects_of(place: Place) -> Objects:
    """Give the objects of a store."""
    if isinstance(place, LocalPlace):
        return _Files(place.path.absolute())
    if isinstance(place, RemotePlace):
        return _Remote(place)
    raise TypeError(f"objects are read from a folder or an object store, not from {place!r}")


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise FileNotFoundError(key)
    return key


async def _nothing() -> AsyncIterator[Listing]:
    return
    yield


class _Files(Objects):
    """Those of a folder. Nothing is read through a link, which may lead out of the store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def _find(self, key: str) -> Item:
        return await asyncio.to_thread(self._look, key)

    async def _read(self, key: str, first: int | None, last: int | None) -> Part:
        item, descriptor = await asyncio.to_thread(self._open, key)
        start, stop = (0, item.size) if last is None else (max(0, item.size - last), item.size)
        if first is not None:
            start, stop = first, item.size if last is None else min(last + 1, item.size)
        if start >= stop and (first, last) != (None, None):
            os.close(descriptor)
            raise ValueError(f"{key} has {item.size} bytes")
        return Part(item, start, stop - start, _pieces(descriptor, start, stop))

    async def _within(self, folder: str, deep: bool) -> AsyncIterator[Listing]:
        yield await asyncio.to_thread(self._list, folder, deep)

    def _look(self, key: str) -> Item:
        item, descriptor = self._open(key)
        os.close(descriptor)
        return item

    def _open(self, key: str) -> tuple[Item, int]:
        path = os.path.join(os.path.realpath(self._folder), key)
        try:
            if os.path.realpath(path) != path:
                raise FileNotFoundError(key)
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # which waits at no FIFO
        except (NotADirectoryError, IsADirectoryError):
            raise FileNotFoundError(key) from None
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            os.close(descriptor)
            raise FileNotFoundError(key)
        tag = f'"{about.st_ino:x}-{about.st_mtime_ns:x}-{about.st_size:x}"'
        return Item(key, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC), tag), descriptor

    def _list(self, folder: str, deep: bool) -> Listing:
        root = os.path.realpath(self._folder)
        items: list[Item] = []
        folders: list[str] = []
        waiting = [folder]
        if os.path.realpath(os.path.join(root, folder)) != os.path.join(root, folder).rstrip("/"):
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


async def _pieces(descriptor: int, start: int, stop: int) -> AsyncGenerator[bytes, None]:
    """Read a file, and close it; obstore would read for ever where a file has become shorter than it was."""
    try:
        while start < stop:
            piece = await asyncio.to_thread(os.pread, descriptor, min(_PIECE, stop - start), start)
            if not piece:
                return
            start += len(piece)
            yield piece
    finally:
        os.close(descriptor)


class _Remote(Objects):
    """Those of an object store, or of another web server; obstore reads them, on threads of its own."""

    def __init__(self, place: RemotePlace) -> None:
        self._store, self._prefix = place.store, place.path

    async def _find(self, key: str) -> Item:
        with reachable("the store"):
            return _item(await self._store.head_async(self._whole(key)), key)

    async def _read(self, key: str, first: int | None, last: int | None) -> Part:
        options: Any = {}
        if first is not None:
            options["range"] = {"offset": first} if last is None else (first, last + 1)
        elif last is not None:
            options["range"] = {"suffix": last}
        with reachable("the store"):
            found = await self._store.get_async(self._whole(key), options=options)
            start, stop = found.range
            return Part(_item(found.meta, key), start, stop - start, self._pieces(found))

    async def _pieces(self, found: Any) -> AsyncGenerator[bytes, None]:
        with reachable("the store"):
            async for piece in found.stream(min_chunk_size=_PIECE):
                yield bytes(piece)

    async def _within(self, folder: str, deep: bool) -> AsyncIterator[Listing]:
        prefix = self._whole(folder) or None
        with reachable("the store"):
            if deep:
                async for page in self._store.list(prefix, chunk_size=_PAGE):
                    yield self._listing(page, [])
            else:
                found = await self._store.list_with_delimiter_async(prefix)
                yield self._listing(found["objects"], found["common_prefixes"])

    def _listing(self, objects: Any, prefixes: Any) -> Listing:
        items = [_item(meta, self._inner(str(meta["path"])))._replace(tag="") for meta in objects]
        folders = [self._inner(str(prefix)) for prefix in prefixes]
        return Listing(
            [item for item in items if _KEY.fullmatch(item.key)], [each for each in folders if _KEY.fullmatch(each)]
        )

    def _whole(self, key: str) -> str:
        return "/".join(part for part in (self._prefix, key) if part)

    def _inner(self, path: str) -> str:
        return path[len(self._prefix) + 1 :] if self._prefix else path


def _item(meta: Any, key: str) -> Item:
    return Item(key, int(meta["size"]), meta["last_modified"], meta["e_tag"] or "")
