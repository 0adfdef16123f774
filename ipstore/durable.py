"""Files that are whole or absent, also after a kill and a power cut."""

import ctypes
import fcntl
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ipstore.errors import RunLockedError

__all__ = ["Lease", "replace_file", "replace_json", "sync_directory", "sync_filesystem"]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(path: Path) -> None:
    """Make everything written to the file system of `path` durable: one call for thousands of chunk files.

    Linux has ``syncfs``; elsewhere every file system is synced.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put `content` at `path` in one step: readers see the old file or the new one.

    Parameters
    ----------
    path : Path
    content : bytes
    durable : bool
        Whether the new file must survive a power cut when this returns.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def replace_json(path: Path, document: Mapping[str, Any], *, durable: bool = True) -> None:
    """Put a JSON document at `path` in one step; see `replace_file`."""
    replace_file(path, json.dumps(document, indent=1, allow_nan=False).encode(), durable=durable)


class Lease:
    """The right to write a group, held by one process at a time.

    The kernel frees it when the process ends, however it ends.

    Parameters
    ----------
    folder : Path
        The group; the lease is its file ``.lease``.

    Raises
    ------
    RunLockedError
        If another process holds it; the message names that process.
    """

    def __init__(self, folder: Path) -> None:
        self._file = open(folder / ".lease", "a+")  # noqa: SIM115 - held open for as long as the lease is
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

    def release(self) -> None:
        """Give the lease back."""
        self._file.close()

    @staticmethod
    def is_held(folder: Path) -> bool:
        """Whether some process is writing the group in `folder` now."""
        try:
            with open(folder / ".lease") as file:
                return not _flock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False


def _flock(file: IO[str], operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
