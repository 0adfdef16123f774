"""Seeing what Python does on behalf of a store: which files it opens and changes, what it imports and unpickles."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Seen:
    """What was seen, in the order in which it happened.

    Attributes
    ----------
    read, changed : list of str
        Absolute paths, with every link resolved.
    imported : list of str
    unpickled : list of str
    started : list of str
        Events that begin a process or run code that was made from text.
    """

    read: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    unpickled: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)


_now: Seen | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    seen = _now
    if seen is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        (seen.changed if flags & _WRITING else seen.read).append(_real(arguments[0]))
    elif event in _CHANGES:
        seen.changed += [_real(path) for path in arguments[:2] if isinstance(path, str | bytes | os.PathLike)]
    elif event == "import":
        seen.imported.append(arguments[0])
    elif event == "pickle.find_class":
        seen.unpickled.append(".".join(map(str, arguments)))
    elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
        seen.started.append(f"{event} {arguments}")


def _real(path: "str | bytes | os.PathLike[str]") -> str:
    whole = os.fsdecode(path)
    # The last part itself may be a link that is removed or replaced; what it leads to then stays.
    return os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(whole))), os.path.basename(whole))


@contextmanager
def watching() -> Iterator[Seen]:
    """Note what happens inside; a hook of the interpreter cannot be taken away again, so it is put in once."""
    global _now
    if not getattr(sys, "_ipstore_tests_watch", False):
        sys.addaudithook(_note)
        sys._ipstore_tests_watch = True  # type: ignore[attr-defined]
    _now = seen = Seen()
    try:
        yield seen
    finally:
        _now = None
