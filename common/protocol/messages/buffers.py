"""A protobuf message whose tensors lie in it as they are: one copy to write, none to read.

`Envelope.buffers` of link.proto is a repeated field at the top of the message, and the
wire format of protobuf lets a message be the joint of its pieces (protobuf.dev,
"Encoding": "Last One Wins", "Length-Delimited Records"). So the small part is left to the
protobuf library, and the tensors are put behind it here: that library itself would copy
each of them three times on the way out and twice on the way in. Any protobuf reader
understands the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import MessageError, TooLargeError

__all__ = ["LARGEST_HEAD_BYTES", "Extent", "join_message", "split_message"]

LARGEST_HEAD_BYTES = 1 << 24  # protobuf's objects take up to 50 times the bytes they come from

_PADDING = 14  # field numbers of link.proto
_BUFFERS = 15
_ALIGNMENT = 16  # bytes; memory of Python's `bytes` begins at such a multiple
_MOST_FIELDS = 1 << 16  # at the top of a message
_VARINT, _FIXED64, _RECORD, _FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True)
class Extent:
    """Where a buffer lies in its message.

    Args:
        offset: Of its first byte.
        size: In bytes.
    """

    offset: int
    size: int


def join_message(
    head: bytes, buffers: Sequence[bytes | memoryview], *, field: int = _BUFFERS
) -> bytes:
    """Returns one message: `head`, then each buffer.

    Args:
        head: The message without its buffers, serialized by protobuf.
        buffers: Bytes, or memory of them.
        field: Number of the field that holds them; in link.proto's they are aligned for any
            type of number, by a padding that other messages have not.

    Raises:
        TooLargeError: The head, the whole or the number of buffers is larger than readers take.
    """
    _require_head(len(head))
    if 2 * len(buffers) > _MOST_FIELDS - 64:  # each with its padding, beside the head's fields
        raise _too_many_fields()
    pieces: list[bytes | memoryview] = [head]
    position = len(head)
    for buffer in buffers:
        key = bytes([field << 3 | _RECORD]) + _varint(len(buffer))
        padding = _padding(position + len(key)) if field == _BUFFERS else b""
        pieces += [padding, key, buffer]
        position += len(padding) + len(key) + len(buffer)
    if position >= 1 << 31:
        raise TooLargeError(
            "message",
            expected="less than 2 GiB, which is protobuf's bound",
            found=f"{position} bytes",
            remedy="Send fewer or smaller arrays at a time.",
        )
    return b"".join(pieces)


def split_message(message: bytes, *, field: int = _BUFFERS) -> tuple[bytes, list[Extent]]:
    """Returns a message without its buffers, and where these lie in it.

    Args:
        message: Any bytes.
        field: Number of the field that holds them.

    Raises:
        MessageError: They are no protobuf message, or end too early.
        TooLargeError: The part without buffers, or the number of fields, is too large.
    """
    kept: list[bytes] = []
    extents: list[Extent] = []
    position = start = head_bytes = 0
    for _ in range(_MOST_FIELDS):
        if position == len(message):
            return b"".join(kept), extents
        start = position
        key, position = _read_varint(message, start)
        number, wire_type = key >> 3, key & 7
        if wire_type == _RECORD:
            size, position = _read_varint(message, position)
        elif wire_type == _VARINT:
            size, (_, position) = 0, _read_varint(message, position)
        elif wire_type in {_FIXED32, _FIXED64}:
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise _malformed(f"wire type {wire_type} at byte {start}")
        if size > len(message) - position:
            raise _malformed(f"{len(message) - position} of a field's bytes at byte {start}")
        if (number, wire_type) == (field, _RECORD):
            extents.append(Extent(position, size))
        elif (field, number) != (_BUFFERS, _PADDING):
            head_bytes += position + size - start
            _require_head(head_bytes)
            kept.append(message[start : position + size])
        position += size
    raise _too_many_fields()


def _padding(position: int) -> bytes:
    """Returns a field to skip, so that what follows `position` is aligned."""
    gap = -position % _ALIGNMENT
    if gap == 0:
        return b""
    if gap == 1:  # a field takes two bytes at least
        gap += _ALIGNMENT
    return bytes([_PADDING << 3 | _RECORD, gap - 2]) + bytes(gap - 2)


def _varint(number: int) -> bytes:
    """Returns a number as protobuf's base-128 varint."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Returns the varint at `position`, and where it ends."""
    number = 0
    for i, group in enumerate(message[position : position + 10]):
        number |= (group & 0x7F) << 7 * i
        if group < 0x80:
            return number, position + i + 1
    raise _malformed(f"an unfinished number at byte {position}")


def _require_head(n_bytes: int) -> None:
    if n_bytes > LARGEST_HEAD_BYTES:
        raise TooLargeError(
            "message",
            expected=f"at most {LARGEST_HEAD_BYTES} bytes beside its arrays",
            found="more",
            remedy="Send texts and tables in several messages.",
        )


def _too_many_fields() -> TooLargeError:
    return TooLargeError(
        "message",
        expected=f"fewer than {_MOST_FIELDS} fields at its top",
        found="more",
        remedy="Send fewer arrays at a time.",
    )


def _malformed(found: str) -> MessageError:
    return MessageError(
        "message",
        expected="a protobuf message, whole",
        found=found,
        remedy="Send the bytes as they were written.",
    )
