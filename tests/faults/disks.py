"""File systems of a test's own: one whose power can be cut, and small ones that fill up."""

import fcntl
import os
import struct
import subprocess
from pathlib import Path

__all__ = ["Disk", "DiskNotPermitted", "cut_power", "fill"]

_GOING_DOWN = 0x8004587D  # _IOR('X', 125, __u32), as in linux/fs.h: the file system stops where it is
_NO_LOG_FLUSH = 2  # the journal in memory is lost too, as in a power cut


class DiskNotPermitted(Exception):
    """This process may not make loop devices or mount."""


class Disk:
    """An empty file system, mounted.

    Parameters
    ----------
    folder : Path
        For the mount point, and the image.
    kind : {"ext4", "tmpfs"}
    megabytes : int

    Attributes
    ----------
    root : Path
        Where it is mounted.

    Raises
    ------
    DiskNotPermitted
    """

    def __init__(self, folder: Path, kind: str = "ext4", megabytes: int = 64) -> None:
        self.root = folder / "disk"
        self.root.mkdir()
        self._image = folder / "image"
        self._mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs"]
        if kind == "ext4":
            with open(self._image, "wb") as file:
                file.truncate(megabytes * 2**20)
            _run("mkfs.ext4", "-q", str(self._image))
            self._mount = ["mount", "-t", "ext4", "-o", "loop", str(self._image)]
        self.mount()

    def mount(self) -> None:
        """Mount it, replaying the journal."""
        _run(*self._mount, str(self.root))

    def sync(self) -> None:
        """Write all that waits to be written."""
        _run("sync", "--file-system", str(self.root))

    def unmount(self) -> None:
        """Unmount it; after a power cut what was not on the disk is gone."""
        _run("umount", str(self.root))

    def remove(self) -> None:
        """Give back what the machine lent, whatever state it is in."""
        if self.root.is_mount():
            _run("umount", "--lazy", str(self.root))
        self._image.unlink(missing_ok=True)


def cut_power(root: Path) -> None:
    """Drop all that an ext4 file system has not written yet, journal included; every call fails from now on."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _GOING_DOWN, struct.pack("I", _NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


def fill(root: Path) -> Path:
    """Leave no byte free on a file system; give the file to remove."""
    ballast = root / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DiskNotPermitted(f"there is no {command[0]} here") from error
    except subprocess.CalledProcessError as error:
        raise DiskNotPermitted(f"{' '.join(command)}: {error.stderr.strip()}") from error
