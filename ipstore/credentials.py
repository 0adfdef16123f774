"""Where credentials come from: the environment for an object store, the file netrc for a web server.

A URL does not carry them, because URLs end up in logs and in what is stored. The file netrc is the one that curl, git
and requests read: ``~/.netrc``, or the one that the environment names in ``NETRC``.
"""

import base64
import os
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlsplit

from ipstore.errors import ParameterError

__all__ = ["CREDENTIALS", "netrc_path", "web_headers"]

CREDENTIALS = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME and "
    "AZURE_STORAGE_ACCOUNT_KEY, or AWS_SKIP_SIGNATURE=true, GOOGLE_SKIP_SIGNATURE=true, AZURE_SKIP_SIGNATURE=true"
)
"""What the environment of an object store may hold, for messages."""


def netrc_path() -> Path:
    """Say where the file netrc is looked for."""
    named = os.environ.get("NETRC")
    return Path(named) if named else Path("~/.netrc").expanduser()


def web_headers(url: str) -> dict[str, str]:
    """Give the headers by which a web server knows who asks.

    Parameters
    ----------
    url : str
        ``https://host[:port]/...``. An entry ``machine host:port`` is preferred to ``machine host``; the entry
        ``default`` is for hosts that are not named, so no store is read with it.

    Returns
    -------
    dict of str to str
        Empty where there is no file, or no entry for that host.

    Raises
    ------
    ParameterError
        If the file cannot be read.
    """
    path = netrc_path()
    try:
        entries = netrc(str(path)).hosts
    except FileNotFoundError:
        return {}
    except NetrcParseError as error:
        raise ParameterError(f"{path}, line {error.lineno}: {error.msg}; see `man netrc`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"{path}, where credentials for {urlsplit(url).netloc} may be, is not read: {error}"
        ) from None
    parts = urlsplit(url)
    entry = entries.get(parts.netloc) or entries.get(parts.hostname or "")
    if entry is None:
        return {}
    login, _, password = entry
    return {"Authorization": f"Basic {base64.b64encode(f'{login}:{password}'.encode()).decode()}"}
