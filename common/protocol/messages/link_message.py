"""One message of link.proto as bytes: a payload, and what an envelope says around it."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from common.errors import MessageError, TooLargeError
from common.protocol.messages import link_pb2
from common.protocol.messages.buffers import join_message, split_message
from common.protocol.messages.payloads import KINDS, Payload, kind_of
from common.protocol.messages.protobuf_form import Buffers, read_payload, write_payload

__all__ = [
    "LARGEST_MESSAGE_BYTES",
    "VERSION",
    "message_from_bytes",
    "message_to_bytes",
    "require_version",
]

VERSION = 1
LARGEST_MESSAGE_BYTES = 1 << 28  # where the caller names no bound of its own


def message_to_bytes(payload: Payload, **header: Any) -> bytes:
    """Returns a payload as an `Envelope` of link.proto; its arrays are copied once.

    Args:
        payload: What it carries.
        header: The envelope's other fields, where there are any.

    Raises:
        MessageError: The payload holds something that the protocol has not.
        TooLargeError: It is larger than any reader takes.
    """
    message = link_pb2.Envelope(version=VERSION, **header)
    buffers: list[memoryview] = []
    write_payload(payload, getattr(message, kind_of(payload)), buffers)
    return join_message(message.SerializeToString(), buffers)


def message_from_bytes(
    message: bytes, *, max_bytes: int = LARGEST_MESSAGE_BYTES
) -> tuple[Any, Payload]:
    """Returns the header of a message, and its payload, whose arrays are views of `message`.

    Args:
        message: Any bytes; a bytearray or memoryview is copied, since it may change.
        max_bytes: The largest message that is taken.

    Raises:
        MessageError: The bytes are no message of this version.
        TooLargeError: They are too many, or would take too much room.
    """
    if len(message) > max_bytes:
        raise TooLargeError(
            "message",
            expected=f"at most {max_bytes} bytes",
            found=str(len(message)),
            remedy="Send less at once.",
        )
    whole = message if type(message) is bytes else bytes(message)
    head, extents = split_message(whole)
    try:
        header = link_pb2.Envelope.FromString(head)
    except DecodeError:
        raise MessageError(
            "message",
            expected="an Envelope of link.proto",
            found=f"{len(whole)} bytes that are none",
            remedy="Send the bytes as they were written.",
        ) from None
    require_version(header.version)
    kind = header.WhichOneof("payload")
    if kind is None:
        raise MessageError(
            "message",
            expected=f"a payload among {', '.join(KINDS)}",
            found="none",
            remedy="Send one of these.",
        )
    return header, read_payload(KINDS[kind], getattr(header, kind), Buffers(whole, extents))


def require_version(version: object) -> None:
    """Raises MessageError where a message is of another version of the protocol."""
    if type(version) is not int or version != VERSION:
        raise MessageError(
            "envelope",
            expected=f"version {VERSION} of the protocol",
            found=f"version {version}" if type(version) is int else type(version).__name__,
            remedy="Use a client of this server's version.",
        )
