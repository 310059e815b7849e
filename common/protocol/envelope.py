"""The envelope: one message between a client, a router and models.

An envelope says which version of the protocol it speaks, which request it belongs to, how
long its sender still waits, and carries one payload.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import ClassVar

from common.errors import MessageError
from common.protocol.payloads import (
    GradientFrame,
    LinkedAnswer,
    PartAnswer,
    Payload,
    SessionDelta,
    TransactionRecord,
    require_identifier,
)
from common.request import RequestContext
from common.task import Result, Task

__all__ = [
    "VERSION",
    "Envelope",
    "GradientFrame",
    "LinkedAnswer",
    "PartAnswer",
    "Payload",
    "SessionDelta",
    "TransactionRecord",
]

VERSION = 1
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")  # W3C Trace Context, section 3.2.2.3


@dataclass(frozen=True)
class Envelope:
    """One message.

    Args:
        payload: What it carries.
        id: Of this message; its answer repeats it.
        trace_id: 32 lower-case hexadecimal digits (W3C Trace Context), the same from the
            client to every model.
        deadline_ms: Milliseconds that the sender still waited when it sent this; None
            without a deadline. A span, not a moment: clocks of two machines differ.
        version: Of the protocol; no other than `VERSION` is taken.

    Raises:
        MessageError: The version is another, or a field cannot be used.
    """

    KINDS: ClassVar[dict[str, type[Payload]]] = {
        "task": Task,
        "result": Result,
        "answer": LinkedAnswer,
        "session_delta": SessionDelta,
        "transaction_record": TransactionRecord,
        "gradient_frame": GradientFrame,
    }

    payload: Payload
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    deadline_ms: int | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise MessageError(
                "envelope",
                expected=f"version {VERSION} of the protocol",
                found=f"version {self.version!r:.20}",
                remedy="Use a client of this server's version.",
            )
        require_identifier(self.id, "message id")
        if not isinstance(self.trace_id, str) or not _TRACE_ID.fullmatch(self.trace_id):
            raise MessageError(
                "trace id",
                expected="32 lower-case hexadecimal digits, not all zero",
                found="something else",
                remedy="Leave it out, or send that of a W3C traceparent.",
            )
        waits = self.deadline_ms
        if waits is not None and not (type(waits) is int and 0 <= waits < 1 << 53):
            raise MessageError(
                "deadline",
                expected="whole milliseconds from 0, below 2^53, or none",
                found=type(waits).__name__,
                remedy="Send how long you still wait, not a moment.",
            )

    @classmethod
    def of_request(
        cls, payload: Payload, request: RequestContext, *, message_id: str | None = None
    ) -> Envelope:
        """Returns an envelope that carries on `request`: its trace id and what time is left."""
        left_s = request.remaining_s()
        deadline_ms = None if math.isinf(left_s) else int(left_s * 1000)
        return cls(payload, message_id or secrets.token_hex(16), request.trace_id, deadline_ms)

    @property
    def kind(self) -> str:
        """What it carries, in the protocol's word: a key of `KINDS`."""
        return next(kind for kind, one in self.KINDS.items() if isinstance(self.payload, one))

    def request(self) -> RequestContext:
        """Returns the request that it belongs to; its deadline counts from now."""
        if self.deadline_ms is None:
            return RequestContext(self.trace_id)
        return RequestContext(self.trace_id, time.monotonic() + self.deadline_ms / 1000)
