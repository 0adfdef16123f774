"""What the server's log says of a request: never its query, in which a token may stand.

It has a logger of its own, because Tornado's are silent as soon as anything imports distributed.
"""

import logging

from tornado.web import RequestHandler

__all__ = ["log", "log_request"]

log = logging.getLogger("ipstore.service")


def log_request(handler: RequestHandler) -> None:
    """Log a request that was answered; Tornado calls this."""
    status, request = handler.get_status(), handler.request
    level = logging.ERROR if status >= 500 else logging.WARNING if status in (401, 403, 421) else logging.INFO
    words = (status, request.method, request.path, request.remote_ip, 1000 * request.request_time())
    log.log(level, "%d %s %s (%s) %.0f ms", *words)
