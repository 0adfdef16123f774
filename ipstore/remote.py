"""A store in an object store: S3 and what speaks like it, Google Cloud Storage, Azure; or on a web server, to be read.

An object is put whole or not at all, so nothing is written aside. What a lock is on a disk is here a lease with an end,
which its holder renews; a holder that stalled past the end finds the group's document changed, because a put that
names the version it replaces (``If-Match``) fails, and stops.
"""

import hashlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from ipstore.credentials import CREDENTIALS, netrc_path, web_headers
from ipstore.errors import (
    AccessError,
    ListingError,
    MissingPackageError,
    ParameterError,
    RunLockedError,
    UnreachableError,
)
from ipstore.places import DOCUMENT, LEASE, Place, Stamp, Version
from ipstore.reaching import reachable
from ipstore.schema import is_name

__all__ = ["SCHEMES", "RemotePlace"]

SCHEMES = ("s3", "gs", "az", "https", "http")
"""What a URL may begin with. Over ``https`` and ``http`` a store can be read, not written."""

_READ_ONLY = ("https", "http")
_LEASE_SECONDS = 120.0
_RENEW_SECONDS = 15.0
_ATTEMPT_SECONDS, _RETRY_SECONDS = 30.0, 45.0
"""Of one attempt of a request, and of all in which it may be begun again: a put ends well before a lease does."""

_ENDPOINTS = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
    *("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "GOOGLE_BASE_URL"),
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class RemotePlace(Place):
    """A prefix of an object store.

    Parameters
    ----------
    store : obstore.store.ObjectStore
        With the connections, which all places below a URL share.
    root : str
        URL of that store, without credentials.
    path : str
        Below it; empty for all of it.
    """

    store: Any
    root: str
    path: str
    writers = 8  # a put waits for the network, not for the processor

    @classmethod
    def at(cls, url: str) -> Self:
        """Give the place of a URL; see `ipstore.places.locate`."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        shown = f"{parts.scheme}://{host}{parts.path}"
        if parts.username or parts.password or parts.query or parts.fragment:
            web = parts.scheme in _READ_ONLY
            instead = f"put them into {netrc_path()}" if web else f"set the environment, {CREDENTIALS}"
            raise ParameterError(
                f"the URL {shown} came with credentials, or with a part after ? or #, which would end up in logs and "
                f"stores: leave them out, and {instead}"
            )
        if not host:
            raise ParameterError(
                f"the URL {shown} names no bucket, container or host: give one, as in s3://bucket/path"
            )
        root = f"{parts.scheme}://{host}"
        path = unquote(parts.path) if parts.scheme in _READ_ONLY else parts.path
        return cls(_connect(root), root, re.sub("/+", "/", path).strip("/"))

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Self:
        """What it lies in."""
        return type(self)(self.store, self.root, self.path.rpartition("/")[0])

    def __truediv__(self, path: str) -> Self:
        return type(self)(self.store, self.root, self._key(path))

    def __str__(self) -> str:
        return f"{self.root}/{self.path}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _place_again, (type(self), self.root, self.path)

    def zarr(self) -> Store:
        """Give the Zarr store whose root is this prefix, to read.

        It can be pickled, for workers on other machines, and takes no credentials with it: they are taken anew from
        the environment, or the file netrc, where it is unpickled.
        """
        return _Objects(f"{self.root}/{quote(self.path)}")

    def read(self, key: str) -> bytes:
        """Read all of an object."""
        return self.read_version(key)[0]

    def read_version(self, key: str) -> tuple[bytes, Version]:
        """Read all of an object, and which version of it that is."""
        with reachable(self):
            found = self.store.get(self._key(key))
            return bytes(found.bytes()), _version(found.meta)

    def size(self, key: str) -> int | None:
        """Give the number of bytes of an object."""
        try:
            with reachable(self):
                return int(self.store.head(self._key(key))["size"])
        except FileNotFoundError:
            return None

    def is_taken(self) -> bool:
        """Whether any object lies below; not, as far as one can see, where nothing is listed."""
        try:
            with self._listing():
                return any(page for page in self.store.list(self.path or None, chunk_size=1))
        except ListingError:
            return False

    def sizes(self, below: str = "") -> dict[str, int]:
        """Give every key below a path, with its number of bytes."""
        start = len(self.path) + 1 if self.path else 0
        with self._listing():
            pages = self.store.list(self._key(below) or None, chunk_size=1000)
            return {str(found["path"])[start:]: int(found["size"]) for page in pages for found in page}

    def groups(self) -> list[str]:
        """Name the groups that are published right below, sorted."""
        names = self._folders()
        there = self._each(lambda name: self.exists(f"{name}/{DOCUMENT}"), names)
        return sorted(name for name, is_there in zip(names, there, strict=True) if is_there)

    def stamps(self) -> dict[str, Stamp]:
        """Give the groups that are published right below, each with the version of its document."""
        names = self._folders()
        found = self._each(lambda name: self._stamp(f"{name}/{DOCUMENT}"), names)
        return {name: stamp for name, stamp in zip(names, found, strict=True) if stamp is not None}

    def free_bytes(self) -> None:
        """Give None: an object store does not say."""

    def begin(self) -> None:
        """Refuse what can only be read; an object store has no folders to make."""
        if self._is_read_only:
            written = ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme not in _READ_ONLY)
            raise ParameterError(f"{self} can be read, not written: a store is written at {written} or in a folder")

    def put(self, key: str, content: bytes, *, durable: bool = True) -> None:
        """Put an object."""
        self._put(key, content, "overwrite")

    def put_chunk(self, key: str, content: memoryview, *, over: bool) -> None:
        """Put an object."""
        self._put(key, content, "overwrite")

    def publish(self, document: bytes, version: Version) -> Version:
        """Put the document in place of the version that is known, and of no other."""
        return self._put_if(DOCUMENT, document, version)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        doomed = [self._key(key) for key in keys]
        with reachable(self):
            try:
                if doomed:
                    self.store.delete(doomed)
            except FileNotFoundError:  # as Azure says of one that is gone; it may have left the others
                for key in doomed:
                    with suppress(FileNotFoundError):
                        self.store.delete(key)

    def remove(self) -> None:
        """Delete the group's document, then all else; the lease last."""
        self.delete([DOCUMENT] if self.exists(DOCUMENT) else [])
        self.delete(key for key in self.sizes() if key != LEASE)
        self.delete([LEASE] if self.exists(LEASE) else [])

    def move(self, place: Self) -> None:
        """Copy each object, the group's document last, then remove the group here."""
        keys = [key for key in self.sizes() if key not in (DOCUMENT, LEASE)]
        self._each(lambda key: self._copy(key, place), keys)
        self._copy(DOCUMENT, place)
        self.remove()

    def lease(self) -> "_TimedLease":
        """Take the object ``.lease``, and renew it."""
        self.begin()
        return _TimedLease(self)

    def is_leased(self) -> bool:
        """Whether the object ``.lease`` was renewed within its time."""
        return not self._is_read_only and _read_lease(self)[1] > 0

    @property
    def _is_read_only(self) -> bool:
        return self.root.startswith(_READ_ONLY)

    @contextmanager
    def _listing(self) -> Iterator[None]:
        """Say of a web server that does not list what lies in a folder (few do, by WebDAV) that this is why."""
        try:
            with reachable(self):
                yield
        except UnreachableError as error:
            if isinstance(error, AccessError) or not self._is_read_only:
                raise
            status = str(error).rpartition("status code: ")[2].strip(" :")
            raise ListingError(
                f"the web server does not list what lies in {self} ({status}): name a run that is there, after the "
                "store's URL or by --run"
            ) from None

    def _folders(self) -> list[str]:
        """Name what may be groups right below."""
        with self._listing():
            prefixes = self.store.list_with_delimiter(self.path or None)["common_prefixes"]
        names = [str(prefix).rpartition("/")[2] for prefix in prefixes]
        return [name for name in names if is_name(name)]

    def _stamp(self, key: str) -> Stamp:
        """Tell an object from those that it replaces or is replaced by; None if there is none of that key."""
        try:
            with reachable(self):
                if self._is_read_only:  # a web server's versions may be no more than a time, to the second
                    return hashlib.sha256(self.read(key)).digest()
                meta = self.store.head(self._key(key))
                return _version(meta), meta["last_modified"], int(meta["size"])
        except FileNotFoundError:
            return None

    def _key(self, key: str) -> str:
        return "/".join(part for part in (self.path, key) if part)

    def _put(self, key: str, content: bytes | memoryview, mode: Any) -> Version:
        with reachable(self):
            return _version(self.store.put(self._key(key), content, mode=mode, use_multipart=False))

    def _put_if(self, key: str, content: bytes, version: Version) -> Version:
        """Put an object in place of a version, or where there is none.

        Where the answer is lost, only the object itself can tell whether the put was done.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            try:
                return self._put(key, content, "create" if version is None else version)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                pass
            except UnreachableError:  # one that took too long is not begun again by obstore, as others are
                if time.monotonic() > deadline:
                    raise
            try:
                stored, found = self.read_version(key)
            except FileNotFoundError:
                stored, found = b"", None
            if stored == content:
                return found
            if found != version:
                raise RunLockedError(
                    f"{self / key} was changed by another writer in the meantime, so this one stops; what the other "
                    "published stands"
                )

    def _copy(self, key: str, place: Self) -> None:
        with reachable(self):
            self.store.copy(self._key(key), place._key(key))

    def _each(self, work: Callable[[str], _T], keys: Iterable[str]) -> list[_T]:
        with ThreadPoolExecutor(self.writers) as pool:
            return list(pool.map(work, keys))


class _Objects(ObjectStore[Any]):
    """The same for Zarr; a server that does not answer is an `UnreachableError` there too, in a Dask task as well."""

    def __init__(self, url: str) -> None:
        super().__init__(_connect(url), read_only=True)
        self._url = url

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._url,)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        with reachable(self.store):
            return await super().get(key, prototype, byte_range)


class _TimedLease:
    """A lease that ends some time after it was last renewed; a thread renews it.

    Nothing is written by a holder that could not renew it for so long that a put might end after the lease does.
    """

    def __init__(self, place: RemotePlace) -> None:
        self._place = place
        self._token = uuid.uuid4().hex
        self._lost: RunLockedError | None = None
        lease, remaining, version = _read_lease(place)
        if remaining > 0:
            raise RunLockedError(
                f"{place.name!r} is being written by {lease.get('holder', 'another process')}; wait for it to end, or "
                f"stop it, and try again. If it has ended without a word, its lease does in {remaining:.0f} s"
            )
        self._renewals = 0
        self._renewed = time.monotonic()
        self._version = place._put_if(LEASE, self._content(), version)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="ipstore-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Refuse to go on if the lease was lost, or could not be renewed for too long."""
        if self._lost is not None:
            raise self._lost
        usable = _LEASE_SECONDS - _ATTEMPT_SECONDS - _RETRY_SECONDS
        silent = time.monotonic() - self._renewed
        if silent > usable:
            raise RunLockedError(
                f"the lease of {self._place} could not be renewed for {silent:.0f} s, so another writer may soon take "
                "it, and this one stops: continue the run when the object store can be reached again"
            )

    def release(self) -> None:
        """Say that the lease is free, unless it is another's by now."""
        self._ended.set()
        self._thread.join()
        if self._lost is None:
            try:
                self._place._put_if(LEASE, self._content(released=True), self._version)
            except (RunLockedError, UnreachableError):
                return  # it was taken, or was removed with the group; or it ends by itself

    def _content(self, **more: Any) -> bytes:
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        lease = {"holder": holder, "seconds": _LEASE_SECONDS, "token": self._token, "renewals": self._renewals, **more}
        return json.dumps(lease).encode()

    def _renew(self) -> None:
        while not self._ended.wait(_RENEW_SECONDS):
            self._renewals += 1
            begun = time.monotonic()
            try:
                try:
                    self._version = self._place._put_if(LEASE, self._content(), self._version)
                except RunLockedError:
                    lease, _, version = _read_lease(self._place)
                    if lease.get("token") != self._token:
                        raise
                    # An earlier renewal was done after all, though nobody answered.
                    self._version = self._place._put_if(LEASE, self._content(), version)
                self._renewed = begun
            except RunLockedError as error:
                self._lost = error
                return
            except UnreachableError:
                continue  # `check` refuses once this has lasted too long


def _connect(url: str) -> Any:
    """Make an obstore store whose root is a URL."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise MissingPackageError(f"the store {url} needs obstore: pip install obstore") from error
    options: Any = {"timeout": timedelta(seconds=_ATTEMPT_SECONDS)}
    endpoints = [os.environ.get(name, "") for name in _ENDPOINTS] if not url.startswith(_READ_ONLY) else [url]
    if any(endpoint.startswith("http://") for endpoint in endpoints):
        options["allow_http"] = True
    if url.startswith(_READ_ONLY) and (headers := web_headers(url)):
        options["default_headers"] = headers
    retry: Any = {"retry_timeout": timedelta(seconds=_RETRY_SECONDS)}
    with reachable(url):
        return from_url(url, client_options=options, retry_config=retry)


def _place_again(kind: type[RemotePlace], root: str, path: str) -> RemotePlace:
    return kind(_connect(root), root, path)


def _read_lease(place: RemotePlace) -> tuple[dict[str, Any], float, Version]:
    """Read the lease of a group: what it says, in how many seconds it ends, and its version.

    Zero seconds or less, if nobody holds it. Clocks may differ: a lease that is taken too early for that reason does
    no harm to what is published, as its former holder fails at its next renewal or commit.
    """
    try:
        with reachable(place):
            found = place.store.get(place._key(LEASE))
            content, meta = bytes(found.bytes()), found.meta
    except FileNotFoundError:
        return {}, 0.0, None
    try:
        lease = json.loads(content)
        seconds = 0.0 if lease.get("released") else float(lease["seconds"])
    except (ValueError, TypeError, KeyError, AttributeError):
        lease, seconds = {}, _LEASE_SECONDS  # not one that ipstore wrote: rather wait than write
    age = (datetime.now(UTC) - meta["last_modified"]).total_seconds() - 1  # it tells whole seconds
    return lease, seconds and seconds - max(age, 0), _version(meta)


def _version(meta: Any) -> Version:
    return {key: meta[key] for key in ("e_tag", "version") if meta.get(key) is not None}
