"""Who is told of changes."""

import logging
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Subscribers"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Subscribers(Generic[_T]):
    """Callbacks that are told of something, one after the other; one that fails keeps nobody else from hearing of it.

    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._callbacks: dict[object, Callable[[_T], None]] = {}

    def __len__(self) -> int:
        return len(self._callbacks)

    def add(self, callback: Callable[[_T], None]) -> Callable[[], None]:
        """Tell `callback` of all that comes; give what ends that, which may be called more than once."""
        key = object()
        with self._lock:
            self._callbacks[key] = callback

        def leave() -> None:
            with self._lock:
                self._callbacks.pop(key, None)

        return leave

    def tell(self, news: _T) -> None:
        """Call all callbacks; what one of them raises is logged."""
        with self._lock:
            entries = list(self._callbacks.items())
        for key, callback in entries:
            if key not in self._callbacks:  # it has left while others were told
                continue
            try:
                callback(news)
            except Exception:
                _log.exception("a subscriber failed at %r", news)
