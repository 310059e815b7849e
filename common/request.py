"""The request that is being served: its trace id, its deadline, and whether it is still wanted.

The context travels with the thread that serves a request (a context variable) and, as two
plain values, to other processes. A model that works in several batches calls
`check_wanted()` between them: so a deadline and a cancellation reach work under way.
"""

from __future__ import annotations

import math
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from common.errors import DeadlineError, InputError

__all__ = [
    "RequestContext",
    "check_wanted",
    "current_request",
    "is_trace_id",
    "new_request",
    "serving",
]

_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")  # W3C Trace Context, section 3.2.2.3


@dataclass(frozen=True)
class RequestContext:
    """Who asks, and until when the answer is wanted.

    Args:
        trace_id: 32 hexadecimal digits (W3C Trace Context).
        deadline_s: Moment of `time.monotonic()` in this process; infinite without one.
        given_up: Set when nobody waits for the answer any more.
        idempotency_key: Of the model call under way, equal for every attempt of it: a model
            that changes something does so once for each key. Empty outside a call.
    """

    trace_id: str
    deadline_s: float = math.inf
    given_up: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)
    idempotency_key: str = ""

    def remaining_s(self) -> float:
        """Returns the seconds left, at least 0; infinite without a deadline."""
        return max(0.0, self.deadline_s - time.monotonic())

    def give_up(self) -> None:
        """Says that nobody waits any more: the work ends at its next `check_wanted`."""
        self.given_up.set()

    def check(self) -> None:
        """Raises where the answer is no longer wanted.

        Raises:
            DeadlineError: The deadline has passed, or the caller gave up.
        """
        if self.given_up.is_set():
            raise DeadlineError(
                "request",
                expected="a caller who waits for the answer",
                found="that the caller gave up",
                remedy="Send the request again if it is still wanted.",
            )
        if time.monotonic() >= self.deadline_s:
            raise DeadlineError(
                "request",
                expected="an answer before the deadline",
                found="that the deadline has passed",
                remedy="Allow more time, or send less at once.",
            )


_current: ContextVar[RequestContext | None] = ContextVar("tandem_request", default=None)


def is_trace_id(text: str) -> bool:
    """Returns whether `text` is 32 lower-case hexadecimal digits, not all zero."""
    return _TRACE_ID.fullmatch(text) is not None


def new_request(*, timeout_s: float | None = None, trace_id: str | None = None) -> RequestContext:
    """Returns a context that begins now.

    Args:
        timeout_s: Seconds until the deadline; none without it.
        trace_id: 32 lower-case hexadecimal digits, not all zero; drawn without it.

    Raises:
        InputError: The trace id or the timeout is none.
    """
    if trace_id is not None and not is_trace_id(trace_id):
        raise InputError(
            "trace id",
            expected="32 lower-case hexadecimal digits, not all zero",
            found=f"{len(trace_id)} characters that are none",
            remedy="Leave it out, or send a W3C traceparent.",
        )
    if timeout_s is not None and not (math.isfinite(timeout_s) and timeout_s > 0):
        raise InputError(
            "timeout",
            expected="a finite number of seconds above 0",
            found=str(timeout_s),
            remedy="Leave it out for no deadline.",
        )
    deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
    return RequestContext(trace_id or secrets.token_hex(16), deadline_s)


def current_request() -> RequestContext:
    """Returns the context of the request that this thread serves; a new one outside any."""
    return _current.get() or new_request()


@contextmanager
def serving(request: RequestContext) -> Iterator[RequestContext]:
    """Makes `request` the current one of this thread inside the block."""
    token = _current.set(request)
    try:
        yield request
    finally:
        _current.reset(token)


def check_wanted() -> None:
    """Ends work whose request is over; outside a request it does nothing.

    Raises:
        DeadlineError: The deadline has passed, or the caller gave up.
    """
    request = _current.get()
    if request is not None:
        request.check()
