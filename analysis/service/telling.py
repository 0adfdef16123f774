"""What a page says when something fails: words for the person who looks at it, the trace for who runs the server."""

import logging

from ipstore.errors import IpstoreError

__all__ = ["failure_words"]

_log = logging.getLogger(__name__)


def failure_words(error: BaseException) -> str:
    """Say what failed; of an error that nobody foresaw, the server's log has the trace."""
    if isinstance(error, IpstoreError | OSError):
        return str(error)
    _log.error("something that a page asked for failed", exc_info=error)
    return f"This could not be shown: {type(error).__name__}: {error}. The log of the server has the details."
