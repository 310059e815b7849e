"""A message that fits together in no other way is read; any other is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.errors import MessageError
from common.protocol.messages import link_pb2
from common.protocol.messages.envelope import Envelope, LinkedAnswer, PartAnswer, SessionDelta
from common.task import Provenance, Result, Table, Task, Tensor


@pytest.mark.parametrize(
    "payload",
    [
        Task({"x": Tensor(np.zeros(2, complex))}),
        Task({"x": Tensor(np.zeros(2, np.longdouble))}),
        Task({"x": Tensor(np.array([b"bytes"]))}),
        Task({"x": Tensor(np.zeros(2, [("a", "f4")]))}),
        Task({"x": Table({"a": np.array(["\ud800"])})}),
        Result({"v": math.inf}),
        Result({"v": {1, 2}}),
        Result({"v": np.float32(1)}),
        SessionDelta("s", 0, {"a": math.nan}),
        LinkedAnswer("d", {"t": PartAnswer(Result(), Provenance("\ud800", "d", "d"))}),
    ],
)
def test_what_the_protocol_has_not_is_refused_on_writing(payload):
    for write in (Envelope(payload).to_bytes, Envelope(payload).to_text):
        with pytest.raises(MessageError):
            write()


def _message():
    message = link_pb2.Envelope(version=1)
    array = message.task.parts.add(name="x").tensor
    array.dtype, array.buffer = "float32", 0
    array.shape.append(1)
    message.buffers.append(b"\0\0\0\0")
    return message


def _changed(change):
    message = _message()
    change(message, message.task.parts[0].tensor)
    return message.SerializeToString()


FAULTY_MESSAGES = [
    lambda message, array: setattr(message, "version", 0),
    lambda message, array: setattr(message, "version", 2),
    lambda message, array: message.ClearField("task"),
    lambda message, array: message.ClearField("buffers"),
    lambda message, array: message.buffers.append(b""),
    lambda message, array: setattr(array, "buffer", 7),
    lambda message, array: array.ClearField("buffer"),
    lambda message, array: array.texts.append("x"),
    lambda message, array: setattr(array, "dtype", "str"),
    lambda message, array: setattr(array, "dtype", "complex64"),
    lambda message, array: setattr(array, "dtype", "float64"),
    lambda message, array: array.shape.append(1 << 63),
    lambda message, array: array.shape.extend([1 << 40, 1 << 40]),
    lambda message, array: message.task.parts.add(name="x").text.SetInParent(),
    lambda message, array: message.task.parts.add(name="y"),
    lambda message, array: message.task.parts.add(name="y").tensor.CopyFrom(array),
    lambda message, array: setattr(message.task, "parameters_json", "[]"),
    lambda message, array: setattr(message.task, "parameters_json", '{"a": 1, "a": 1}'),
    lambda message, array: setattr(message, "id", "a b"),
    lambda message, array: setattr(message, "trace_id", "x"),
    lambda message, array: setattr(message, "deadline_ms", (1 << 64) - 1),
]


@pytest.mark.parametrize("change", FAULTY_MESSAGES, ids=range(len(FAULTY_MESSAGES)))
def test_a_faulty_message_is_refused(change):
    Envelope.from_bytes(_message().SerializeToString())  # which is taken as it is
    with pytest.raises(MessageError):
        Envelope.from_bytes(_changed(change))
