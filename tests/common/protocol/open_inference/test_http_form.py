"""Requests and responses in HTTP bodies; broken ones are refused before anything is inflated."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError, TooLargeError
from common.protocol.open_inference.http_form import (
    OutputForms,
    header_length,
    inflated,
    json_object,
    request_from_http,
    response_from_http,
    response_to_http,
)
from common.protocol.open_inference.inference import InferResponse, InferTensor

TENSOR = {"name": "x", "datatype": "FP32", "shape": [2]}


def body(*tensors: dict, raw: bytes = b"", **members) -> tuple[bytes, int]:
    head = json.dumps({"inputs": list(tensors), **members}).encode()
    return head + raw, len(head)


def read(content: bytes, json_bytes: int | None = None):
    return request_from_http(content, model_name="m", json_bytes=json_bytes)


def test_a_request_as_the_specification_shows_it():
    """Its example of a request with JSON tensors."""
    content, _ = body(
        {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
        {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True]},
        id="42",
        outputs=[{"name": "output0"}],
    )
    with pytest.raises(MessageError, match="3 values"):
        read(content)
    request, forms = read(content.replace(b"[true]", b"[true, false, true]"))
    assert request.id == "42"
    assert request.outputs == ("output0",)
    assert [tensor.datatype for tensor in request.inputs] == ["UINT32", "BOOL"]
    assert not forms.is_raw("output0")


def test_raw_tensors_follow_the_json_in_their_order():
    numbers, words = np.array([1.5, 2.5], np.float32), b"\x02\0\0\0hi"
    content, json_bytes = body(
        TENSOR | {"parameters": {"binary_data_size": 8}},
        {"name": "y", "datatype": "INT64", "shape": [1], "data": [7]},
        {"name": "z", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
        raw=numbers.tobytes() + words,
        parameters={"binary_data_output": True, "horizon": 3},
        outputs=[{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}],
    )
    request, forms = read(content, json_bytes)
    assert request.inputs[0].data.tolist() == [1.5, 2.5]
    assert request.inputs[2].data.tolist() == [b"hi"]
    assert request.parameters == {"horizon": 3}
    assert [forms.is_raw(name) for name in ("a", "b", "c")] == [False, True, True]


@pytest.mark.parametrize(
    ("tensor", "raw"),
    [
        (TENSOR | {"parameters": {"binary_data_size": 8}}, b"\0" * 7),  # truncated
        (TENSOR | {"parameters": {"binary_data_size": 8}}, b"\0" * 9),  # bytes left over
        (TENSOR | {"parameters": {"binary_data_size": 4}}, b"\0" * 4),  # not its shape
        (TENSOR | {"parameters": {"binary_data_size": -8}}, b"\0" * 8),
        (TENSOR | {"parameters": {"binary_data_size": "8"}}, b"\0" * 8),
        (TENSOR | {"parameters": {"binary_data_size": 8}, "data": [1, 2]}, b"\0" * 8),
        (TENSOR, b""),  # neither data nor a size
        (TENSOR | {"parameters": {"shared_memory_region": "r"}}, b""),
        ({"name": 1, "datatype": "FP32", "shape": [2], "data": [1, 2]}, b""),
        ({"name": "x", "datatype": 1, "shape": [2], "data": [1, 2]}, b""),
        ({"name": "x", "datatype": "FP32", "shape": 2, "data": [1, 2]}, b""),
        ({"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2], "parameters": 1}, b""),
    ],
)
def test_tensors_that_are_not_as_they_say_are_refused(tensor, raw):
    content, json_bytes = body(tensor, raw=raw)
    with pytest.raises(MessageError):
        read(content, json_bytes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"inputs": []}',
        b'{"inputs": [1]}',
        b'{"inputs": {}}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [NaN]}]}',
        b'{"inputs": [{"name": "\\ud800", "datatype": "FP32", "shape": [1], "data": [1]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}], "id": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_bodies_that_are_no_request_are_refused(content):
    with pytest.raises(MessageError):
        read(content)


@given(st.binary(max_size=60), st.integers(0, 70))
def test_any_body_is_read_or_refused_by_name(content, json_bytes):
    with pytest.raises(MessageError):
        read(content, header_length(str(json_bytes), len(content)))


@pytest.mark.parametrize("value", ["", "-1", "1", "0", "1e2", "11", "²", "9" * 30])
def test_a_header_length_out_of_range_is_refused(value):
    with pytest.raises(MessageError, match="Inference-Header-Content-Length"):
        header_length(value, 10)


def test_the_header_length_is_that_of_the_json():
    assert header_length(" 10 ", 10) == 10
    assert header_length(None, 10) is None


@pytest.mark.parametrize(
    ("encoding", "press"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
class TestInflated:
    def test_the_body_is_what_it_was(self, encoding, press):
        assert bytes(inflated(memoryview(press(b"abc")), encoding, most_bytes=3)) == b"abc"

    def test_no_more_than_the_bound_is_inflated(self, encoding, press):
        bomb = memoryview(press(bytes(10_000_000)))
        with pytest.raises(TooLargeError, match="at most 1000 bytes"):
            inflated(bomb, encoding, most_bytes=1000)

    def test_less_or_more_than_one_body_is_refused(self, encoding, press):
        whole = press(b"abc" * 100)
        for wrong in (whole[:-1], whole + b"x", b"abc", b""):
            with pytest.raises(MessageError):
                inflated(memoryview(wrong), encoding, most_bytes=1000)


def test_other_encodings_are_refused():
    assert bytes(inflated(memoryview(b"abc"), "Identity", most_bytes=1)) == b"abc"
    with pytest.raises(MessageError, match="gzip, deflate"):
        inflated(memoryview(b"abc"), "br", most_bytes=10)


def test_a_response_says_each_output_in_the_form_asked_for():
    outputs = (
        InferTensor("a", np.array([1.5, 2.5], np.float16)),
        InferTensor("b", np.array([b"hi"], np.object_)),
    )
    response = InferResponse("m", "1", outputs, id="7", parameters={"trace_id": "t"})
    pieces, length = response_to_http(response, OutputForms(by_name={"a": True}))
    head = json.loads(pieces[0])
    assert length == len(pieces[0])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 4}
    assert head["outputs"][1]["data"] == ["hi"]
    assert response_from_http(b"".join(pieces), json_bytes=length).outputs[0].data.tolist() == [
        1.5,
        2.5,
    ]
    assert response_to_http(response, OutputForms())[1] is None


def test_what_json_cannot_say_is_refused_with_the_way_out():
    for data in (np.array([np.inf]), np.array([b"\xff"], np.object_)):
        response = InferResponse("m", "1", (InferTensor("a", data),))
        with pytest.raises(MessageError, match="binary_data"):
            response_to_http(response, OutputForms())
        response_to_http(response, OutputForms(raw=True))


def test_json_is_an_object():
    assert json_object(b'{"a": 1}') == {"a": 1}
    with pytest.raises(MessageError):
        json_object(b"3")
