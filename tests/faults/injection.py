"""Something happens at a chosen call that a process makes of the file system; calls are answered with an error.

`at_call` watches from inside Python: every call that changes something below a folder is counted, and before the one
that was chosen the process is killed, the power is cut, or an error takes the call's place. `answer` has the kernel
answer some calls, of all threads: with an error, or with a success that did nothing.
"""

import ctypes
import itertools
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["answer", "at_call", "can_answer", "fail_with", "kill"]

_PLACES: dict[str, list[tuple[int, int | None]]] = {
    # of a path among the arguments of an audit event, and of the descriptor of the folder it is relative to
    "os.mkdir": [(0, 2)],
    "os.remove": [(0, 1)],
    "os.rmdir": [(0, 1)],
    "os.rename": [(0, 2), (1, 3)],
    "os.truncate": [(0, None)],
}
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def at_call(
    folder: Path, number: int, act: Callable[[], None], action: Callable[..., Any], *, only: str = "", **options: Any
) -> int:
    """Do an action, and `act` before its call of that number; give how many calls there were.

    Parameters
    ----------
    folder : Path
        Counted are the calls that change something below it.
    number : int
        From 1.
    act : callable
        If it raises, the call is not made.
    action : callable
        Given the `options`.
    only : str
        Count the calls of one kind only: "open", "os.write", "os.fsync", "syncfs", "os.rename", ...
    """
    below = f"{folder.resolve()}{os.sep}"
    numbers = itertools.count(1)
    count = 0

    def meet(what: str, paths: Iterable[str]) -> None:
        nonlocal count
        if only in ("", what) and any(f"{path}{os.sep}".startswith(below) for path in paths):
            count = next(numbers)
            if count == number:
                act()

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike) and arguments[2] & _CHANGES:
            meet(event, [os.path.abspath(arguments[0])])
        elif event in _PLACES:
            meet(event, _paths(arguments, _PLACES[event]))
        elif event == "ctypes.dlsym" and arguments[1] == "syncfs":
            meet("syncfs", [below])

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def watch(descriptor: int, *rest: Any) -> Any:
            meet(f"os.{call.__name__}", [os.readlink(f"/proc/self/fd/{descriptor}")])
            return call(descriptor, *rest)

        return watch

    os.write, os.fsync = watched(os.write), watched(os.fsync)  # Python tells of all calls but these
    sys.addaudithook(hear)
    action(**options)
    return count


def _paths(arguments: tuple[Any, ...], places: Iterable[tuple[int, int | None]]) -> Iterator[str]:
    for path, folder in places:
        descriptor = -1 if folder is None else arguments[folder]
        base = os.getcwd() if descriptor == -1 else os.readlink(f"/proc/self/fd/{descriptor}")
        if not isinstance(arguments[path], int):
            yield os.path.join(base, os.fsdecode(arguments[path]))


def kill() -> None:
    """End this process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail_with(code: int) -> None:
    """Fail a call."""
    raise OSError(code, os.strerror(code))


_NUMBERS = {
    "x86_64": {"fsync": 74, "fdatasync": 75, "rename": 82, "renameat": 264, "syncfs": 306, "renameat2": 316},
    "aarch64": {"fsync": 82, "fdatasync": 83, "renameat": 38, "syncfs": 267, "renameat2": 276},
}
_SECCOMP = {"x86_64": 317, "aarch64": 277}


def can_answer() -> bool:
    """Whether `answer` knows this kernel's calls."""
    return sys.platform == "linux" and platform.machine() in _NUMBERS


def answer(calls: Iterable[str], code: int) -> None:
    """Have the kernel answer these calls of this process from now on, in all threads, without making them.

    Parameters
    ----------
    calls : iterable of str
    code : int
        The error; 0 is success.
    """
    known = _NUMBERS[platform.machine()]
    numbers = [known[call] for call in calls if call in known]
    # A classic BPF program: load the call's number, compare it with each, and return what to do.
    program = [(0x20, 0, 0, 0)]
    program += [(0x15, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    program += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | code)]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(filters)))
    library = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_filter, all_threads = 38, 1, 1
    if library.prctl(no_new_privileges, 1, 0, 0, 0) or library.syscall(
        _SECCOMP[platform.machine()], set_filter, all_threads, described
    ):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")
