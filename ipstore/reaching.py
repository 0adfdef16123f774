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


@contextmanager
def reachable(place: Any) -> Iterator[None]:
    """Turn what an object store raises into `UnreachableError`; a conflict, or nothing there, is for the caller.

    Raises
    ------
    UnreachableError
        In its first line alone: what follows it repeats the request.
    AccessError
        If it is a web server that wants credentials, or others.
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
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) and url.startswith(("https://", "http://")):
            raise _refused(url, reason.rpartition("status code: ")[2].strip(" :")) from None
        if _ASKS_MACHINE.search(reason):
            reason = f"no credentials were found ({reason}): set the environment, {CREDENTIALS}"
        raise UnreachableError(f"{place}: {reason}") from None


def _refused(url: str, status: str) -> AccessError:
    host, path = urlsplit(url).netloc, netrc_path()
    if web_headers(url):
        return AccessError(f"{url}: the web server refuses what {path} holds for {host} ({status}): correct it there")
    return AccessError(
        f"{url}: the web server wants credentials ({status}): put a line into {path}, "
        f"`machine {host} login NAME password PASSWORD`; of `ipstore serve`, any name, and the token as the password"
    )
