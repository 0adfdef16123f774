"""What an object store or a web server answers that does not give what it was asked for."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ipstore.credentials import CREDENTIALS, netrc_path, web_headers
from ipstore.errors import AccessError, UnreachableError

__all__ = ["reachable"]

_ASKS_MACHINE = re.compile(r"/latest/api/token|/latest/meta-data|/computeMetadata/|/metadata/identity/")
"""Where a machine of a cloud asks that cloud for its credentials, when it was given none."""

_MISDIRECTED = "421 "
"""What a web server answers that is asked under a name which is not its own."""


@contextmanager
def reachable(place: Any) -> Iterator[None]:
    """Turn what an object store raises into `UnreachableError`; a conflict, or nothing there, is for the caller.

    Raises
    ------
    UnreachableError
        In its first line alone: what follows it repeats the request.
    AccessError
        If it is a web server that wants credentials, or others, or to be called by another name.
    """
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )

    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except BaseError as error:
        reason = re.sub(r"//[^/@\s]*@", "//", str(error).partition("\n")[0])
        url = str(getattr(place, "url", place))  # of an obstore store, or of a place
        status = reason.rpartition("status code: ")[2].strip(" :")
        refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or status.startswith(_MISDIRECTED)
        if refused and url.startswith(("https://", "http://")):
            raise AccessError(f"{url}: {_refusal(url, status)}") from None
        if _ASKS_MACHINE.search(reason):
            reason = f"no credentials were found ({reason}): set the environment, {CREDENTIALS}"
        raise UnreachableError(f"{place}: {reason}") from None


def _refusal(url: str, status: str) -> str:
    host, path = urlsplit(url).netloc, netrc_path()
    if status.startswith(_MISDIRECTED):
        return (
            f"the web server does not answer to the name {host} ({status}): call it by another, or where it is "
            f"`ipstore serve`, start that with --allow-origin {host}"
        )
    if web_headers(url):
        return f"the web server refuses what {path} holds for {host} ({status}): correct it there"
    return (
        f"the web server wants credentials ({status}): put a line into {path}, "
        f"`machine {host} login NAME password PASSWORD`; of `ipstore serve`, any name, and the token as the password"
    )
