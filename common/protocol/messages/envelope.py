"""The envelope: one message between a client, a router and models.

An envelope says which version of the protocol it speaks, which request it belongs to, how
long its sender still waits, and carries one payload.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from common.content import require_unicode
from common.errors import MessageError
from common.protocol.messages.json_form import payload_from_json, payload_to_json
from common.protocol.messages.json_reader import fields_of, read_json, reading_message, typed
from common.protocol.messages.link_message import (
    LARGEST_MESSAGE_BYTES,
    VERSION,
    message_from_bytes,
    message_to_bytes,
    require_version,
)
from common.protocol.messages.payloads import (
    KINDS,
    GradientFrame,
    LinkedAnswer,
    PartAnswer,
    Payload,
    SessionDelta,
    TransactionRecord,
    kind_of,
    require_identifier,
)
from common.request import RequestContext, is_trace_id

__all__ = [
    "LARGEST_MESSAGE_BYTES",
    "VERSION",
    "Envelope",
    "GradientFrame",
    "LinkedAnswer",
    "PartAnswer",
    "Payload",
    "SessionDelta",
    "TransactionRecord",
]

_LATEST_MS = (1 << 53) - 1  # the largest whole number that every JSON reader takes exactly


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

    payload: Payload
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    deadline_ms: int | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        require_version(self.version)
        kind_of(self.payload)
        require_identifier(self.id, "message id")
        if not isinstance(self.trace_id, str) or not is_trace_id(self.trace_id):
            raise MessageError(
                "trace id",
                expected="32 lower-case hexadecimal digits, not all zero",
                found="something else",
                remedy="Leave it out, or send that of a W3C traceparent.",
            )
        waits = self.deadline_ms
        if waits is not None and not (type(waits) is int and 0 <= waits <= _LATEST_MS):
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
        deadline_ms = None if math.isinf(left_s) else min(int(left_s * 1000), _LATEST_MS)
        return cls(payload, message_id or secrets.token_hex(16), request.trace_id, deadline_ms)

    @property
    def kind(self) -> str:
        """What it carries, in the protocol's word: "task", "result", "answer", ..."""
        return kind_of(self.payload)

    def request(self) -> RequestContext:
        """Returns the request that it belongs to; its deadline counts from now."""
        if self.deadline_ms is None:
            return RequestContext(self.trace_id)
        return RequestContext(self.trace_id, time.monotonic() + self.deadline_ms / 1000)

    def to_bytes(self) -> bytes:
        """Returns the Protobuf form, an `Envelope` of link.proto; arrays are copied once.

        Raises:
            MessageError: The payload holds something that the protocol has not.
            TooLargeError: It is larger than any reader takes.
        """
        return message_to_bytes(
            self.payload, id=self.id, trace_id=self.trace_id, deadline_ms=self.deadline_ms
        )

    @classmethod
    def from_bytes(cls, message: bytes, *, max_bytes: int = LARGEST_MESSAGE_BYTES) -> Envelope:
        """Returns the envelope of a Protobuf message; its arrays are views that keep it alive.

        Args:
            message: Any bytes.
            max_bytes: The largest message that is taken.

        Raises:
            MessageError: The bytes are no envelope of this version.
            TooLargeError: They are too many, or would take too much room.
        """
        header, payload = message_from_bytes(message, max_bytes=max_bytes)
        given = {field: getattr(header, field) for field in ("id", "trace_id")}
        return cls(
            payload,
            **{field: value for field, value in given.items() if value},
            deadline_ms=header.deadline_ms if header.HasField("deadline_ms") else None,
            version=header.version,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON form.

        Raises:
            MessageError: The payload holds something that the protocol has not.
        """
        return {
            "version": self.version,
            "id": self.id,
            "trace_id": self.trace_id,
            "deadline_ms": self.deadline_ms,
            "kind": self.kind,
            "payload": payload_to_json(self.payload),
        }

    @classmethod
    def from_json(cls, form: Any) -> Envelope:
        """Returns the envelope that `to_json` described; ids that are absent are drawn.

        Raises:
            MessageError: It describes none of this version.
            TooLargeError: It would take too much room.
        """
        required = ("version", "kind", "payload")
        found = fields_of(form, "envelope", required, ("id", "trace_id", "deadline_ms"))
        require_version(found["version"])
        kind = KINDS.get(typed(found["kind"], str, "kind"))
        if kind is None:
            raise MessageError(
                "envelope",
                expected=f"a kind among {', '.join(KINDS)}",
                found="another",
                remedy="Send one of these.",
            )
        optional = {key: found[key] for key in ("id", "trace_id", "deadline_ms") if key in found}
        return cls(payload_from_json(kind, found["payload"]), **optional)

    def to_text(self) -> bytes:
        """Returns the JSON form as UTF-8.

        Raises:
            MessageError: The payload holds something that the protocol has not.
        """
        text = json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":"))
        with reading_message():
            require_unicode([text], "payload")
        return text.encode()

    @classmethod
    def from_text(cls, text: bytes | str, *, max_bytes: int = LARGEST_MESSAGE_BYTES) -> Envelope:
        """Returns the envelope in a JSON text, read strictly (see `messages.json_reader`).

        Raises:
            MessageError: The text is no envelope of this version.
            TooLargeError: It is too long, or would take too much room.
        """
        return cls.from_json(read_json(text, subject="envelope", max_bytes=max_bytes))
