"""JSON that describes no payload is refused; what is written is plain to read."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from common.errors import MessageError
from common.protocol.messages.envelope import Envelope
from common.task import ImageRequest, Task, Volume


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
