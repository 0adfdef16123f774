"""What the server's log says of a request: never its query, in which a token may stand."""

from tornado.log import access_log
from tornado.web import RequestHandler

__all__ = ["log_request"]


def log_request(handler: RequestHandler) -> None:
    """Log a request that was answered; Tornado calls this."""
    status, request = handler.get_status(), handler.request
    log = access_log.info if status < 400 else access_log.warning if status < 500 else access_log.error
    log("%d %s %s (%s) %.0f ms", status, request.method, request.path, request.remote_ip, 1000 * request.request_time())
