"""Every payload comes through Protobuf and through JSON as it was; anything else is refused."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings

from common.errors import DeadlineError, MessageError, TooLargeError
from common.protocol import link_pb2
from common.protocol.envelope import (
    Envelope,
    GradientFrame,
    LinkedAnswer,
    PartAnswer,
    SessionDelta,
    TransactionRecord,
)
from common.request import new_request
from common.task import (
    Image,
    ImageRequest,
    Provenance,
    Result,
    Table,
    Task,
    Tensor,
    Text,
    Volume,
)
from tests.common.protocol.messages import envelopes, same, tasks

TASK = Task({"text": Text("words")}, {"n": 1})


@settings(deadline=None)
@given(envelopes)
def test_an_envelope_comes_through_protobuf_as_it_was(envelope):
    assert same(Envelope.from_bytes(envelope.to_bytes()), envelope)


@settings(deadline=None)
@given(envelopes)
def test_an_envelope_comes_through_json_as_it_was(envelope):
    assert same(Envelope.from_text(envelope.to_text()), envelope)


@settings(deadline=None)
@given(tasks)
def test_a_task_keeps_its_digest_on_either_way(task):
    message = Envelope(task)
    for copy in (Envelope.from_bytes(message.to_bytes()), Envelope.from_text(message.to_text())):
        assert copy.payload.digest() == task.digest()


@settings(deadline=None, max_examples=30)
@given(envelopes)
def test_any_protobuf_reader_understands_it(envelope):
    whole = link_pb2.Envelope.FromString(envelope.to_bytes())
    assert whole.id == envelope.id
    assert whole.WhichOneof("payload") == envelope.kind
    again = Envelope.from_bytes(whole.SerializeToString())  # with buffers where it puts them
    assert same(again, envelope)


@settings(deadline=None, max_examples=30)
@given(envelopes)
def test_a_message_cut_short_is_refused(envelope):
    message = envelope.to_bytes()
    for size in {0, 1, len(message) // 2, len(message) - 1}:
        with pytest.raises(MessageError):
            Envelope.from_bytes(message[:size])


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


def test_a_message_carries_on_its_request():
    request = new_request(timeout_s=60)
    envelope = Envelope.of_request(TASK, request)
    assert envelope.trace_id == request.trace_id
    assert 0 < envelope.deadline_ms <= 60_000
    assert envelope.request().remaining_s() <= 60
    assert Envelope.of_request(TASK, new_request()).request().deadline_s == math.inf


def test_a_deadline_that_has_passed_is_late_at_once():
    with pytest.raises(DeadlineError):
        Envelope(TASK, deadline_ms=0).request().check()


def test_ids_are_drawn_where_a_client_leaves_them_out():
    form = {"version": 1, "kind": "task", "payload": {"parts": {"t": _text("x")}}}
    one, other = Envelope.from_json(form), Envelope.from_json(form)
    assert one.id != other.id
    assert one.payload.parts["t"] == Text("x", "en")
    bare = link_pb2.Envelope(version=1)
    bare.task.parts.add(name="t").text.text = "x"
    assert Envelope.from_bytes(bare.SerializeToString()).payload.parts["t"] == Text("x", "en")


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "../../etc/passwd"},
        {"id": "a\nb"},
        {"id": 3},
        {"trace_id": "0" * 32},
        {"trace_id": "A" * 32},
        {"deadline_ms": -1},
        {"deadline_ms": 1.5},
        {"deadline_ms": True},
        {"version": 2},
        {"payload": {"text": "x"}},
    ],
)
def test_an_unusable_field_cannot_be_constructed(fields):
    with pytest.raises(MessageError):
        Envelope(**{"payload": TASK, **fields})


@pytest.mark.parametrize(
    "build",
    [
        lambda: SessionDelta("../x", 0),
        lambda: SessionDelta("s", -1),
        lambda: SessionDelta("s", 1.0),
        lambda: SessionDelta("s", 0, {"a": 1}, ("a",)),
        lambda: SessionDelta("s", 0, {"\ud800": 1}),
        lambda: TransactionRecord("t", "step", "done", "key", math.nan),
        lambda: TransactionRecord("t", 3, "done", "key", 0.0),
        lambda: GradientFrame(-1, "site", 1, {}),
        lambda: GradientFrame(0, "a/b", 1, {}),
        lambda: GradientFrame(0, "site", 1 << 63, {}),
    ],
)
def test_unusable_payloads_cannot_be_constructed(build):
    with pytest.raises(MessageError):
        build()


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


def _text(text):
    return {"modality": "text", "text": text}


def _array(**changes):
    return {"dtype": "float32", "shape": [1], "data": "AAAAAA=="} | changes


def _task(part):
    return {"version": 1, "kind": "task", "payload": {"parts": {"p": part}}}


def _tensor(**changes):
    return _task({"modality": "tensor", "values": _array(**changes)})


FAULTY_FORMS = [
    None,
    [],
    {},
    {"version": 1},
    {"version": "1", "kind": "task", "payload": {}},
    {"version": 1.0, "kind": "task", "payload": {}},
    {"version": True, "kind": "task", "payload": {}},
    {"version": 2, "kind": "task", "payload": {}},
    {"version": 1, "kind": "poem", "payload": {}},
    {"version": 1, "kind": [], "payload": {}},
    {"version": 1, "kind": "task", "payload": {}},
    {"version": 1, "kind": "task", "payload": {"parts": {}}},
    {"version": 1, "kind": "task", "payload": {"parts": {"p": _text("x")}, "extra": 1}},
    {"version": 1, "kind": "task", "payload": {"parts": {"p": _text("x")}, "parameters": [1]}},
    _task(3),
    _task({"modality": "poem"}),
    _task({"modality": ["text"]}),
    _task(_text(3)),
    _task(_text("\ud800")),
    _task(_text("x") | {"language": None}),
    _task({"modality": "image_request", "resolution": 0}),
    _task({"modality": "image_request", "resolution": 2.0}),
    _task({"modality": "image_request", "resolution": 4, "seed": 1 << 64}),
    _task({"modality": "image", "pixels": _array()}),
    _task({"modality": "table", "columns": {}}),
    _task(
        {"modality": "table", "columns": {"a": _array(), "b": _array(shape=[], data="AAAAAA==")}}
    ),
    _task({"modality": "volume", "voxels": _array(shape=[1, 1, 1]), "spacing_mm": [1, 1]}),
    _task({"modality": "volume", "voxels": _array(shape=[1, 1, 1]), "spacing_mm": [1, 0, 1]}),
    _task({"modality": "volume", "voxels": _array(shape=[1, 1, 1]), "spacing_mm": [1, 10**400, 1]}),
    _tensor(dtype="complex64"),
    _tensor(dtype="object"),
    _tensor(dtype=3),
    _tensor(shape=[2]),
    _tensor(shape=[-1]),
    _tensor(shape=[1.0]),
    _tensor(shape=[True]),
    _tensor(shape=[1 << 62, 1 << 62]),
    _tensor(shape=[0, 1 << 31]),
    _tensor(shape=[1] * 33),
    _tensor(shape="1"),
    _tensor(data="AAAAAA"),
    _tensor(data="AAAA AA=="),
    _tensor(data="AAAAAA==AA"),
    _tensor(data="é"),
    _tensor(data=None),
    _tensor(dtype="bool", data="Ag=="),
    _tensor(texts=["x"]),
    _task({"modality": "tensor", "values": {"dtype": "str", "shape": [2], "texts": ["x"]}}),
    _task({"modality": "tensor", "values": {"dtype": "str", "shape": [1], "texts": [1]}}),
    {"version": 1, "kind": "result", "payload": {"values": {"a": math.nan}}},
    {"version": 1, "kind": "result", "payload": {"values": []}},
    {"version": 1, "kind": "session_delta", "payload": {"session_id": "s"}},
    {
        "version": 1,
        "kind": "session_delta",
        "payload": {"session_id": "s", "base_version": 0, "changes": {"a": 1}},
    },
    {
        "version": 1,
        "kind": "transaction_record",
        "payload": {
            "transaction_id": "t",
            "step": "s",
            "state": "done",
            "idempotency_key": "k",
            "time": 10**400,
        },
    },
]


@pytest.mark.parametrize("form", FAULTY_FORMS, ids=range(len(FAULTY_FORMS)))
def test_a_faulty_json_form_is_refused(form):
    with pytest.raises(MessageError):
        Envelope.from_json(form)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", "character 0"),
        (b"\xff", "no UTF-8 at byte 0"),
        (b'{"version": 1,', "character 14"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": NaN}', "NaN"),
        (b"[" * 100_000, "levels"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"version": 1, "kind": "task", "payload": {}, "secret": 5}', "1 other keys"),
    ],
)
def test_a_faulty_text_is_refused_with_its_place_and_none_of_its_content(text, found):
    with pytest.raises(MessageError, match=found) as caught:
        Envelope.from_text(text)
    assert "secret" not in str(caught.value)


def test_numbers_and_levels_that_other_readers_would_read_otherwise_are_refused():
    for value in ("1e999", "[" * 70 + "]" * 70):
        text = f'{{"version": 1, "kind": "result", "payload": {{"values": {{"a": {value}}}}}}}'
        with pytest.raises(MessageError):
            Envelope.from_text(text)


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


def test_json_is_plain_to_read():
    task = Task({"v": Volume(np.zeros((1, 1, 2), np.uint8), (2, 1, 1)), "r": ImageRequest(64)})
    form = json.loads(Envelope(task, id="m1", trace_id="a" * 32, deadline_ms=250).to_text())
    assert form == {
        "version": 1,
        "id": "m1",
        "trace_id": "a" * 32,
        "deadline_ms": 250,
        "kind": "task",
        "payload": {
            "parts": {
                "v": {
                    "modality": "volume",
                    "voxels": {"dtype": "uint8", "shape": [1, 1, 2], "data": "AAA="},
                    "spacing_mm": [2.0, 1.0, 1.0],
                },
                "r": {"modality": "image_request", "resolution": 64, "seed": 0},
            },
            "parameters": {},
        },
    }
