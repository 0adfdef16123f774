"""Every error that ipstore raises on purpose.

::

    IpstoreError
    ├── ParameterError (ValueError)             kind "parameter"     a value outside what is allowed
    ├── UnknownNameError (LookupError)          kind "unknown-name"  a task, layer, estimator or figure that is none
    ├── NotAStoreError (ValueError)             kind "not-a-store"   a path that holds something else
    ├── StoreNotFoundError (FileNotFoundError)  kind "not-found"     no store, run or result there
    ├── FormatVersionError (ValueError)         kind "format"        written by a newer ipstore
    ├── RunExistsError (FileExistsError)        kind "exists"        a run of that name is there already
    ├── RunLockedError (BlockingIOError)        kind "locked"        another process is writing this run
    ├── ResumeError (ValueError)                kind "resume"        the run cannot be continued as asked
    ├── SpaceError (OSError)                    kind "space"         the run would not fit on the disk
    ├── StoreWriteError (OSError)               kind "write"         writing failed; the last commit stands
    ├── UnreachableError (ConnectionError)      kind "unreachable"   an object store or a scheduler that does not answer
    │   ├── ListingError                        kind "listing"       a web server that does not list its folders
    │   └── AccessError (PermissionError)       kind "access"        a web server that asks for other credentials
    ├── AddressError (OSError)                  kind "address"       an address or port that cannot be listened on
    ├── CorruptionError (ValueError)            kind "corrupt"       stored bytes are not what was written
    ├── ActivationError (ValueError)            kind "activation"    activations that an estimator cannot take
    ├── EstimatorError (RuntimeError)           kind "estimator"     an estimator that failed at its work
    ├── MissingPackageError (ImportError)       kind "package"       a package that is not installed
    └── WorkerError (RuntimeError)              kind "worker"        a training process ended early

Each is also the builtin error that a caller would expect, and carries a stable ``kind``.
A message says what was given, what is allowed, and what to do next.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

__all__ = [
    "AccessError",
    "ActivationError",
    "AddressError",
    "CorruptionError",
    "EstimatorError",
    "FormatVersionError",
    "IpstoreError",
    "ListingError",
    "MissingPackageError",
    "NotAStoreError",
    "ParameterError",
    "ResumeError",
    "RunExistsError",
    "RunLockedError",
    "SpaceError",
    "StoreNotFoundError",
    "StoreWriteError",
    "UnknownNameError",
    "UnreachableError",
    "WorkerError",
]


class IpstoreError(Exception):
    """Base of every error that ipstore raises on purpose."""

    kind: ClassVar[str] = "error"


class ParameterError(IpstoreError, ValueError):
    """A value outside what is allowed."""

    kind = "parameter"


class UnknownNameError(IpstoreError, LookupError):
    """A name that is not among those that exist.

    Parameters
    ----------
    what : str
        What was named: "task", "layer", "estimator", ...
    name : str
        The name that was given.
    known : iterable of str
        The names that exist; the message gives the nearest, then all.
    reason : str, optional
        Why there is none, where that is known.
    """

    kind = "unknown-name"

    def __init__(self, what: str, name: str, known: Iterable[str], reason: str = "") -> None:
        names = sorted(known)
        nearest = get_close_matches(name, names, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        why = f": {reason}" if reason else ""
        super().__init__(f"there is no {what} {name!r}{why}.{hint} Known: {', '.join(names) or 'none'}")


class NotAStoreError(IpstoreError, ValueError):
    """A path that holds something other than an ipstore store."""

    kind = "not-a-store"


class StoreNotFoundError(IpstoreError, FileNotFoundError):
    """No store, run or result is there."""

    kind = "not-found"


class FormatVersionError(IpstoreError, ValueError):
    """The store was written in a format that this version does not know."""

    kind = "format"


class RunExistsError(IpstoreError, FileExistsError):
    """A run of that name is there already."""

    kind = "exists"


class RunLockedError(IpstoreError, BlockingIOError):
    """Another process holds the lease of this run."""

    kind = "locked"


class ResumeError(IpstoreError, ValueError):
    """The run cannot be continued as asked."""

    kind = "resume"


class SpaceError(IpstoreError, OSError):
    """The run would not fit in the free space."""

    kind = "space"


class StoreWriteError(IpstoreError, OSError):
    """Writing failed; what was committed before stays readable."""

    kind = "write"


class UnreachableError(IpstoreError, ConnectionError):
    """An object store or a scheduler does not answer, or refuses."""

    kind = "unreachable"


class ListingError(UnreachableError):
    """A web server does not list what lies in its folders."""

    kind = "listing"


class AccessError(UnreachableError, PermissionError):
    """A web server asks for credentials, for others than it was given, or to be called by another name."""

    kind = "access"


class AddressError(IpstoreError, OSError):
    """An address or a port that cannot be listened on."""

    kind = "address"


class CorruptionError(IpstoreError, ValueError):
    """Stored bytes are not what was written."""

    kind = "corrupt"


class ActivationError(IpstoreError, ValueError):
    """Activations that an estimator cannot take."""

    kind = "activation"


class EstimatorError(IpstoreError, RuntimeError):
    """An estimator that raised an error while it worked.

    Parameters
    ----------
    estimator : str
        Its name.
    question : int
        Which of the questions that were asked together.
    where : str
        What it worked on: "layer 'layer2'".
    reason : str
        What it raised.
    """

    kind = "estimator"

    def __init__(self, estimator: str, question: int, where: str, reason: str) -> None:
        super().__init__(estimator, question, where, reason)  # so that it can be sent between processes
        self.estimator, self.question, self.where, self.reason = estimator, question, where, reason

    def __str__(self) -> str:
        return f"estimator {self.estimator!r} failed on {self.where}: {' '.join(self.reason.split())}"


class MissingPackageError(IpstoreError, ImportError):
    """A package that is not installed."""

    kind = "package"


class WorkerError(IpstoreError, RuntimeError):
    """A training process ended early."""

    kind = "worker"
