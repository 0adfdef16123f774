"""A store in a folder of this machine, or of a file system that is mounted on it."""

import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from ipstore.durable import replace_file, sync_directory, sync_filesystem, write_past_cache
from ipstore.errors import RunLockedError, StoreWriteError
from ipstore.places import DOCUMENT, LEASE, Place, Stamp
from ipstore.schema import is_name

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["LocalPlace"]

_REMOVED = ".removed"
_TEMPORARY = re.compile(rf"\.{re.escape(DOCUMENT)}\.[0-9]+\.tmp")


@dataclass(frozen=True)
class LocalPlace(Place):
    """A folder.

    Parameters
    ----------
    path : Path
    """

    path: Path
    writers = 2  # one puts a shard together while the other waits for the disk

    @classmethod
    def at(cls, path: str) -> Self:
        """Give the place of that path."""
        return cls(Path(path))

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.path.name

    @property
    def parent(self) -> Self:
        """What it lies in."""
        return type(self)(self.path.parent)

    def __truediv__(self, path: str) -> Self:
        return type(self)(self.path / path)

    def __str__(self) -> str:
        return str(self.path)

    def zarr(self) -> "Store":
        """Give the Zarr store whose root is this folder, to read."""
        from zarr.storage import LocalStore

        return LocalStore(self.path, read_only=True)

    def read(self, key: str) -> bytes:
        """Read all of a file."""
        return (self.path / key).read_bytes()

    def read_version(self, key: str) -> tuple[bytes, None]:
        """Read all of a file; the lease alone keeps other writers away."""
        return self.read(key), None

    def size(self, key: str) -> int | None:
        """Give the number of bytes of a file."""
        file = self.path / key
        return file.stat().st_size if file.is_file() else None

    def is_taken(self) -> bool:
        """Whether there is a file, or a folder with more than what was left of a document by a killed writer."""
        if not self.path.is_dir():
            return self.path.exists()
        return any(not _TEMPORARY.fullmatch(entry.name) for entry in self.path.iterdir())

    def sizes(self, below: str = "") -> dict[str, int]:
        """Give every file below a path, with its number of bytes."""
        found, folders = {}, [below]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self.path / folder) as entries:
                    for entry in entries:
                        key = f"{folder}/{entry.name}" if folder else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(key)
                        else:
                            found[key] = entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # nothing is there, or a writer has just put its temporary file in place
        return found

    def groups(self) -> list[str]:
        """Name the groups that are published right below, sorted; what has no name of one is none."""
        return sorted(self.stamps())

    def stamps(self) -> dict[str, Stamp]:
        """Give the groups that are published right below, each with its document's file: a new one is put in place."""
        found: dict[str, Stamp] = {}
        try:
            names = [name for name in os.listdir(self.path) if is_name(name)]
        except (FileNotFoundError, NotADirectoryError):
            return found
        for name in names:
            try:
                about = os.stat(f"{self.path}/{name}/{DOCUMENT}")
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            found[name] = about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size
        return found

    def free_bytes(self) -> int:
        """Give the room on the file system."""
        return shutil.disk_usage(self.path).free

    def begin(self) -> None:
        """Make the folder, and clear away what a removal that was killed has left of another in its place."""
        self._refuse_links()
        for left in self.path.parent.glob(f".{self.name}.*{_REMOVED}"):
            shutil.rmtree(left, ignore_errors=True)  # unless its own process is at it still
        if not self.path.is_dir():
            self.path.mkdir(parents=True, exist_ok=True)
            sync_directory(self.path.parent)

    def put(self, key: str, content: bytes, *, durable: bool = True) -> None:
        """Put a file in place in one step."""
        file = self.path / key
        if not file.parent.is_dir():
            os.stat(self.path)  # a group that is gone is not begun anew
            file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, content, durable=durable)

    def put_chunk(self, key: str, content: memoryview, *, over: bool) -> None:
        """Write a chunk past the page cache; one to be replaced stands till the new one is on the disk."""
        file = self.path / key
        if not over:
            write_past_cache(file, content)
            return
        aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        write_past_cache(aside, content, durable=True)
        os.replace(aside, file)

    def publish(self, document: bytes, version: None) -> None:
        """Sync the file system, then put the document in place."""
        sync_filesystem(self.path)
        replace_file(self.path / DOCUMENT, document)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files."""
        for key in keys:
            (self.path / key).unlink(missing_ok=True)

    def remove(self) -> None:
        """Move the folder out of sight in one step, then delete it."""
        doomed = self.path.with_name(f".{self.name}.{os.getpid()}{_REMOVED}")
        os.rename(self.path, doomed)
        shutil.rmtree(doomed)

    def move(self, place: Self) -> None:
        """Rename the folder."""
        os.rename(self.path, place.path)
        sync_directory(place.path.parent)

    def lease(self) -> "_FileLease":
        """Lock the file ``.lease`` of the group.

        Raises
        ------
        StoreWriteError
            If a link lies in the group, through which a writer would write elsewhere.
        """
        self._refuse_links()
        return _FileLease(self.path)

    def is_leased(self) -> bool:
        """Whether some process has locked the file ``.lease``."""
        try:
            with open(self.path / LEASE) as file:
                return not _flock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def _refuse_links(self) -> None:
        """Refuse to write where a link leads elsewhere; a store or a run may itself lie behind one."""
        results = self.path.parent
        inside_a_run = results.name == "results" and not (results / DOCUMENT).exists()
        links = [path for path in (results, self.path) if path.is_symlink()] if inside_a_run else []
        folders = [self.path] if self.path.is_dir() else []
        while folders and not links:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        links.append(Path(entry))
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry))
        if links:
            raise StoreWriteError(
                f"{str(links[0])!r} is a link, and nothing is written through one inside a run: put in its place what "
                "it leads to, or link the whole run"
            )


class _FileLease:
    """A lock that the kernel frees when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._file = open(folder / LEASE, "a+")  # noqa: SIM115 - held open for as long as the lease is
        while not _flock(self._file, fcntl.LOCK_EX):
            # Either a writer holds the file, or a reader is looking, for a moment, whether one does.
            if not _flock(self._file, fcntl.LOCK_SH):
                self._file.seek(0)
                holder = self._file.read().strip() or "another process"
                self._file.close()
                raise RunLockedError(
                    f"{folder.name!r} is being written by {holder}; wait for it to end, or stop it, and try again"
                )
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def check(self) -> None:
        """Do nothing: a lock is not lost while its file is open."""

    def release(self) -> None:
        """Unlock the file."""
        self._file.close()


def _flock(file: IO[str], operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
