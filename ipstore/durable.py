"""Files that are whole or absent, also after a kill and a power cut."""

import ctypes
import fcntl
import mmap
import os
from pathlib import Path

__all__ = ["replace_file", "sync_directory", "sync_filesystem", "write_past_cache"]

_DIRECT = getattr(os, "O_DIRECT", 0)


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


def write_past_cache(path: Path, content: memoryview, *, durable: bool = False) -> None:
    """Write a file without filling the page cache with it, on file systems that know how.

    Parameters
    ----------
    path : Path
    content : memoryview
        Beginning at a page's border in memory. What is not a whole number of pages goes through the cache all the same.
    durable : bool
        Whether it must survive a power cut when this returns.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        descriptor = os.open(path, flags | (0 if len(content) % mmap.PAGESIZE else _DIRECT), 0o666)
    except OSError:
        descriptor = os.open(path, flags, 0o666)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
            if content:  # the disk is nearly full, and what is left may begin amid a page
                fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~_DIRECT)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
