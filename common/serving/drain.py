"""Whether a server still takes requests, and how many are open.

On SIGTERM it turns: readiness is false at once and new requests get 503, so that a load
balancer sends them elsewhere, while those that are open finish.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import OverloadError

__all__ = ["Drain"]


class Drain:
    """The state of one server; any number of threads may use it.

    Args:
        retry_after_s: What those who are turned away are told.
    """

    def __init__(self, *, retry_after_s: float = 5.0) -> None:
        self._retry_after_s = retry_after_s
        self._lock = threading.Lock()
        self._open = 0
        self._begun = threading.Event()

    @property
    def draining(self) -> bool:
        """Whether new requests are turned away."""
        return self._begun.is_set()

    @property
    def open_requests(self) -> int:
        """Requests that were let in and are not answered yet."""
        return self._open

    def begin(self) -> None:
        """Turns new requests away from now on; safe in a signal handler."""
        self._begun.set()

    @contextmanager
    def passage(self) -> Iterator[None]:
        """Lets a request in and counts it as open inside the block.

        Raises:
            OverloadError: The server is draining.
        """
        if self.draining:
            raise OverloadError(
                "server",
                expected="one that takes requests",
                found="one that is stopping",
                remedy="Send the request again; another server or the next one takes it.",
                retry_after_s=self._retry_after_s,
            )
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
