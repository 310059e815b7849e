"""Every payload comes through Protobuf and through JSON as it was."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings

from common.errors import DeadlineError, MessageError
from common.protocol.messages import link_pb2
from common.protocol.messages.envelope import Envelope
from common.request import new_request
from common.task import Task, Text
from tests.common.protocol.made_messages import envelopes, same, tasks

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
    part = {"modality": "text", "text": "x"}
    form = {"version": 1, "kind": "task", "payload": {"parts": {"t": part}}}
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
