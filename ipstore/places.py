"""Where stores lie: a folder of this machine, or a prefix of an object store. The rest of ipstore sees no difference.

What both promise: a key holds the whole of what was put there or nothing of it; a group's ``zarr.json`` is replaced in
one step, by its one writer alone; and what stood before that step is durable after it.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, Self

from ipstore.errors import ParameterError

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["DOCUMENT", "LEASE", "Lease", "Location", "Place", "Stamp", "Version", "locate"]

DOCUMENT = "zarr.json"
"""The key under which a group is published."""

LEASE = ".lease"
"""The key of the lease of a group."""

Version = Any
"""Which state of an object was read or written; None where a lease alone keeps other writers away."""

Stamp = Any
"""Of an object as it stands: another one as soon as it is replaced."""


class Lease(Protocol):
    """The right to write a group, held by one process at a time."""

    def check(self) -> None:
        """Refuse to go on if the lease was lost.

        Raises
        ------
        RunLockedError
        """

    def release(self) -> None:
        """Give it back."""


class Place(ABC):
    """A folder: of a store, of a group in it, of an array.

    Keys are paths below it, with ``/`` between their parts.
    """

    writers: int
    """How many chunks are best written at a time."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Last part of its path."""

    @property
    @abstractmethod
    def parent(self) -> Self:
        """What it lies in."""

    @abstractmethod
    def __truediv__(self, path: str) -> Self: ...

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def zarr(self) -> "Store":
        """Give the Zarr store whose root is this place, to read."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Read all of an object.

        Raises
        ------
        FileNotFoundError
        """

    @abstractmethod
    def read_version(self, key: str) -> tuple[bytes, Version]:
        """Read all of an object, and which version of it that is.

        Raises
        ------
        FileNotFoundError
        """

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Give the number of bytes of an object; None if there is none of that key."""

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        return self.size(key) is not None

    @abstractmethod
    def is_taken(self) -> bool:
        """Whether anything lies there."""

    @abstractmethod
    def sizes(self, below: str = "") -> dict[str, int]:
        """Give every key below a path, with its number of bytes."""

    @abstractmethod
    def groups(self) -> list[str]:
        """Name the groups that are published right below, sorted; what begins with a dot is none."""

    @abstractmethod
    def stamps(self) -> dict[str, Stamp]:
        """Give the groups that are published right below, each with the stamp of its document."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Give the room that is left; None where there is no telling."""

    @abstractmethod
    def begin(self) -> None:
        """Make the folder, where folders are made."""

    @abstractmethod
    def put(self, key: str, content: bytes, *, durable: bool = True) -> None:
        """Store an object, over one that is there; readers see the one or the other, whole.

        Parameters
        ----------
        key : str
        content : bytes
        durable : bool
            Whether it must survive a power cut when this returns, rather than after the next `publish`.
        """

    @abstractmethod
    def put_chunk(self, key: str, content: memoryview, *, over: bool) -> None:
        """Store a chunk that `publish` will make durable.

        Parameters
        ----------
        key : str
        content : memoryview
        over : bool
            Whether published epochs may lie in the chunk of that key, so that it must stay whole till it is replaced.
        """

    @abstractmethod
    def publish(self, document: bytes, version: Version) -> Version:
        """Make durable what was put, then put the group's ``zarr.json`` in one step.

        Parameters
        ----------
        document : bytes
        version
            Of the document that it replaces; None if there is none yet.

        Returns
        -------
        Version

        Raises
        ------
        RunLockedError
            If another writer has published since.
        """

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is none to delete."""

    @abstractmethod
    def remove(self) -> None:
        """Remove all that lies below, the published group first, in one step."""

    @abstractmethod
    def move(self, place: Self) -> None:
        """Move a group that is published, with all that lies below, to where nothing is."""

    @abstractmethod
    def lease(self) -> Lease:
        """Take the lease of the group.

        Raises
        ------
        RunLockedError
            If another process holds it; the message names that process.
        """

    @abstractmethod
    def is_leased(self) -> bool:
        """Whether some process is writing the group now."""


Location = str | os.PathLike[str] | Place
"""How a place is named: a path, a URL, or itself."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def locate(where: Location) -> Place:
    """Find the place that a path or a URL names.

    Parameters
    ----------
    where : path or str
        A path of this machine, ``s3://bucket/path``, ``gs://bucket/path``, ``az://container/path``, or
        ``https://host/path``, which can be read only. Endpoint, region and credentials are those of the environment:
        ``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID`` and so on.

    Raises
    ------
    ParameterError
        If the URL is none of these, or carries credentials.
    MissingPackageError
        If it is a URL and obstore is not installed.
    """
    if isinstance(where, Place):
        return where
    text = os.fspath(where)
    scheme = _SCHEME.match(text)
    if scheme is None:
        from ipstore.local import LocalPlace

        return LocalPlace.at(text)
    from ipstore.remote import SCHEMES, RemotePlace

    if scheme[1].lower() not in SCHEMES:
        raise ParameterError(
            f"a store is a path of this machine or a URL of {', '.join(f'{known}://' for known in SCHEMES)}, "
            f"but got {scheme[1]}://"
        )
    return RemotePlace.at(text)
