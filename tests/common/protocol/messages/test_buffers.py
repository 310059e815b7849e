"""Tensors lie in a message as they are, aligned, and nothing that a length claims is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError, TooLargeError
from common.protocol.messages import link_pb2
from common.protocol.messages.buffers import LARGEST_HEAD_BYTES, join_message, split_message

HEAD = link_pb2.Envelope(version=1, id="x").SerializeToString()


@given(st.binary(max_size=40).map(lambda text: HEAD + b"\xa2\x06" + bytes([len(text)]) + text))
def test_a_head_alone_comes_back(head):
    assert split_message(join_message(head, [])) == (head, [])


@given(st.integers(0, 40), st.lists(st.binary(max_size=300), max_size=4))
def test_buffers_come_back_aligned_and_protobuf_reads_them(id_length, contents):
    head = link_pb2.Envelope(version=1, id="x" * id_length).SerializeToString()
    message = join_message(head, [memoryview(one) for one in contents])
    found, extents = split_message(message)
    assert found == head
    assert [message[one.offset : one.offset + one.size] for one in extents] == contents
    assert all(one.offset % 16 == 0 for one in extents)
    assert list(link_pb2.Envelope.FromString(message).buffers) == contents


@given(st.binary(max_size=60))
def test_any_bytes_are_split_or_refused(message):
    try:
        head, extents = split_message(message)
    except MessageError:
        return
    assert len(head) + sum(one.size for one in extents) <= len(message)


@pytest.mark.parametrize(
    "message",
    [
        b"\x7a",  # a buffer's key alone
        b"\x7a\x05abc",  # 5 bytes claimed, 3 there
        b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # 2^64 - 1 claimed
        b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a varint of 11 bytes
        b"\x0d\x00\x00\x00",  # three of a fixed32's bytes
        b"\x0b\x0c",  # a group, which proto3 has not
        b"\x0f",  # wire type 7
    ],
)
def test_a_malformed_message_is_refused_with_its_place(message):
    with pytest.raises(MessageError, match="at byte"):
        split_message(message)


def test_a_head_larger_than_is_taken_is_refused():
    field = b"\x0a" + b"\x80\x80\x80\x08" + bytes(LARGEST_HEAD_BYTES)
    with pytest.raises(TooLargeError, match="beside its arrays"):
        split_message(field)
    with pytest.raises(TooLargeError, match="beside its arrays"):
        join_message(field, [])


def test_more_fields_than_are_taken_are_refused():
    with pytest.raises(TooLargeError, match="fields at its top"):
        split_message(b"\x7a\x00" * 70_000)
    with pytest.raises(TooLargeError, match="fields at its top"):
        join_message(b"", [b""] * 33_000)
    assert len(split_message(join_message(HEAD, [b"x"] * 32_000))[1]) == 32_000
