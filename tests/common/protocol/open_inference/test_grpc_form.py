"""Requests and responses in Protobuf, beside tritonclient in the same process."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError
from common.protocol.open_inference import open_inference_pb2 as pb2
from common.protocol.open_inference.grpc_form import (
    parameters_of,
    request_from_message,
    request_to_message,
)
from common.protocol.open_inference.inference import InferRequest, InferTensor


def message(**members) -> bytes:
    return pb2.ModelInferRequest(model_name="m", **members).SerializeToString()


def test_our_messages_stand_beside_tritonclient_s():
    """Both register `inference.ModelInferRequest`; ours in a pool of its own."""
    from google.protobuf import descriptor_pool
    from tritonclient.grpc import service_pb2

    theirs = service_pb2.ModelInferRequest(model_name="m", id="1")
    theirs.inputs.add(name="x", datatype="INT8", shape=[1]).contents.int_contents.append(3)
    theirs.parameters["k"].string_param = "v"
    read = request_from_message(theirs.SerializeToString())
    assert read.inputs[0].data.tolist() == [3]
    assert read.parameters == {"k": "v"}
    assert pb2.DESCRIPTOR.pool is not descriptor_pool.Default()


@pytest.mark.parametrize(
    ("datatype", "contents", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-1, 1]),
        ("INT32", "int_contents", [-1, 1]),
        ("INT64", "int64_contents", [-(2**63), 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 1]),
        ("UINT32", "uint_contents", [0, 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, 1.5]),
        ("FP64", "fp64_contents", [0.1, 1.5]),
        ("BYTES", "bytes_contents", [b"", b"\xff"]),
    ],
)
def test_each_datatype_has_its_list(datatype, contents, values):
    tensor = {"name": "x", "datatype": datatype, "shape": [2], "contents": {contents: values}}
    assert request_from_message(message(inputs=[tensor])).inputs[0].data.tolist() == values


@pytest.mark.parametrize(
    ("inputs", "raw"),
    [
        ([{"name": "x", "datatype": "FP32", "shape": [1]}], []),  # no contents at all
        ([{"name": "x", "datatype": "FP32", "shape": [2]}], [b"\0" * 4]),
        ([{"name": "x", "datatype": "FP32", "shape": [-1]}], [b"\0" * 4]),
        ([{"name": "x", "datatype": "FP33", "shape": [1]}], [b"\0" * 4]),
        ([{"name": "x", "datatype": "FP32", "shape": [1]}], [b"\0" * 4, b""]),
        (
            [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": [1],
                    "contents": {"fp32_contents": [1]},
                }
            ],
            [b"\0" * 4],
        ),
        (
            [{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp64_contents": [1]}}],
            [],
        ),
        (
            [{"name": "x", "datatype": "FP16", "shape": [1], "contents": {"fp32_contents": [1]}}],
            [],
        ),
        (
            [{"name": "x", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [300]}}],
            [],
        ),
        ([{"name": "x", "datatype": "FP16", "shape": [1]}], []),
        ([], []),
    ],
)
def test_tensors_that_are_not_as_they_say_are_refused(inputs, raw):
    with pytest.raises(MessageError):
        request_from_message(message(inputs=inputs, raw_input_contents=raw))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused_by_name(content):
    try:
        request_from_message(content)
    except MessageError:
        return
    pytest.fail("random bytes with an input in them")


def test_parameters_keep_their_types():
    values = {"b": True, "i": -3, "u": 2**63, "d": 0.5, "s": "x"}
    request = InferRequest("m", (InferTensor("x", np.zeros(1)),), parameters=values)
    read = request_from_message(request_to_message(request)).parameters
    assert dict(read) == values
    assert [type(read[key]) for key in values] == [bool, int, int, float, str]
    with pytest.raises(MessageError, match="booleans, numbers or texts"):
        request_to_message(InferRequest("m", request.inputs, parameters={"l": [1]}))
    assert parameters_of({"empty": pb2.InferParameter()}) == {}


def test_extensions_that_are_not_served_are_refused():
    request = pb2.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    request.outputs.add(name="y").parameters["classification"].int64_param = 3
    with pytest.raises(MessageError, match="not served"):
        request_from_message(request.SerializeToString())
