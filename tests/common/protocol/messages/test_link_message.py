"""A message is copied once, read in place, and believed in nothing that it claims."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from common.errors import MessageError, TooLargeError
from common.protocol.messages import link_pb2
from common.protocol.messages.envelope import Envelope
from common.task import Image, Task, Tensor, Text

TASK = Task({"text": Text("words")}, {"n": 1})


def test_arrays_are_read_in_place():
    pixels = np.arange(4 * 4 * 3, dtype=np.float32).reshape(4, 4, 3)
    message = Envelope(Task({"image": Image(pixels)})).to_bytes()
    read = Envelope.from_bytes(message).payload.parts["image"].pixels
    start = np.frombuffer(message, np.uint8).ctypes.data
    assert start <= read.ctypes.data < start + len(message)
    assert read.flags.aligned
    assert not read.flags.writeable


@pytest.fixture
def peak_bytes():
    """Says how much room a call takes at most, beyond what there was."""

    def measure(call, *arguments):
        tracemalloc.start()
        try:
            outcome = call(*arguments)
            return tracemalloc.get_traced_memory()[1], outcome
        finally:
            tracemalloc.stop()

    return measure


def test_writing_copies_an_array_once_and_reading_never(peak_bytes):
    envelope = Envelope(Task({"image": Image(np.ones((512, 512, 3), np.float32))}))
    size = 512 * 512 * 3 * 4
    writing, message = peak_bytes(envelope.to_bytes)
    reading, copy = peak_bytes(Envelope.from_bytes, message)
    assert size < writing < 1.02 * size
    assert reading < 0.02 * size
    assert copy.payload.digest() == envelope.payload.digest()


@pytest.mark.parametrize("shape", [[1 << 30], [1 << 24, 1 << 23], [0, 1 << 30, 1 << 17]])
def test_no_room_is_taken_on_the_word_of_a_shape(peak_bytes, shape):
    message = link_pb2.Envelope(version=1)
    array = message.task.parts.add(name="x").tensor
    array.dtype, array.buffer = "float32", 0
    array.shape.extend(shape)
    message.buffers.append(b"\0\0\0\0")

    def read():
        with pytest.raises(MessageError):
            Envelope.from_bytes(message.SerializeToString())

    assert peak_bytes(read)[0] < 1 << 20


def test_no_room_is_taken_on_the_word_of_a_length(peak_bytes):
    def read():
        with pytest.raises(MessageError, match="of a field's bytes"):
            Envelope.from_bytes(b"\x08\x01\x7a\xff\xff\xff\xff\x07few")

    assert peak_bytes(read)[0] < 1 << 20


def test_a_buffer_that_may_change_is_copied():
    message = bytearray(Envelope(Task({"x": Tensor(np.zeros(3))})).to_bytes())
    read = Envelope.from_bytes(message).payload.parts["x"].values
    message[-8:] = b"\xff" * 8
    assert read.tolist() == [0, 0, 0]


def test_a_message_larger_than_is_taken_is_refused_unread():
    message = Envelope(TASK).to_bytes()
    assert Envelope.from_bytes(message, max_bytes=len(message)).payload.digest() == TASK.digest()
    with pytest.raises(TooLargeError, match=f"at most {len(message) - 1} bytes"):
        Envelope.from_bytes(message, max_bytes=len(message) - 1)
    text = Envelope(TASK).to_text()
    with pytest.raises(TooLargeError):
        Envelope.from_text(text, max_bytes=len(text) - 1)


def test_texts_that_would_take_far_more_room_than_they_come_in_are_refused():
    """Fixed-width: one long text among many short ones makes all of them long."""
    message = link_pb2.Envelope(version=1)
    array = message.task.parts.add(name="x").tensor
    array.dtype = "str"
    array.shape.append(10_001)
    array.texts.extend(["x" * 100_000, *[""] * 10_000])
    with pytest.raises(TooLargeError, match="four for each character"):
        Envelope.from_bytes(message.SerializeToString())


def test_unknown_fields_of_a_later_writer_are_skipped():
    message = Envelope(TASK).to_bytes() + b"\xa2\x06\x03new"  # field 100
    assert Envelope.from_bytes(message).payload.digest() == TASK.digest()
