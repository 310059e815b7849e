"""Tensors of the protocol in both of their forms, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError, MessageError
from common.protocol.open_inference.inference import (
    DATATYPES,
    InferRequest,
    InferTensor,
    tensor_from_raw,
    tensor_from_values,
    tensor_of,
    tensor_to_raw,
    tensor_to_values,
)
from tests.common.protocol.open_inference_strategies import arrays, text_arrays


@given(arrays(min_side=0) | text_arrays)
def test_a_tensor_survives_the_way_through_raw_bytes(array):
    tensor = tensor_of("x", array)
    raw = bytes(tensor_to_raw(tensor))
    copy = tensor_from_raw("x", tensor.datatype, tensor.shape, raw)
    assert copy.data.dtype == tensor.data.dtype
    assert copy.shape == array.shape
    assert bytes(tensor_to_raw(copy)) == raw


@given(arrays() | text_arrays)
def test_a_tensor_survives_the_way_through_values(array):
    if array.dtype.kind not in "biuU" and not np.isfinite(array.astype(np.float64)).all():
        with pytest.raises(MessageError, match="NaN or an infinity"):
            tensor_to_values(tensor_of("x", array))
        return
    tensor = tensor_of("x", array)
    values = tensor_to_values(tensor)
    copy = tensor_from_values("x", tensor.datatype, tensor.shape, values)
    assert copy.data.dtype == tensor.data.dtype
    assert bytes(tensor_to_raw(copy)) == bytes(tensor_to_raw(tensor))


def test_triton_s_own_functions_read_and_write_the_same_bytes():
    """The peer's serialisation of the datatype that numpy has not."""
    from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

    words = np.array([b"", "größer".encode(), b"\x00\xff"], dtype=np.object_)
    raw = serialize_byte_tensor(words).item()
    assert bytes(tensor_to_raw(InferTensor("x", words))) == raw
    read = tensor_from_raw("x", "BYTES", [3], raw)
    assert list(read.data) == list(words) == list(deserialize_bytes_tensor(raw))


def test_raw_elements_are_a_view_that_nobody_can_write():
    raw = np.arange(6, dtype=np.float32).tobytes()
    data = tensor_from_raw("x", "FP32", [2, 3], raw).data
    assert np.shares_memory(data, np.frombuffer(raw, np.uint8))
    assert not data.flags.writeable


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP32", [2], b"\0" * 7),  # cut short
        ("FP32", [2], b"\0" * 12),  # too long
        ("FP33", [1], b"\0" * 4),
        ("fp32", [1], b"\0" * 4),
        ("FP32", [-1], b"\0" * 4),
        ("FP32", [True], b"\0" * 4),
        ("FP32", [1.0], b"\0" * 4),
        ("FP32", ["1"], b"\0" * 4),
        ("FP32", [1] * 17, b"\0" * 4),
        ("FP32", [0, 2**62, 2**62], b""),
        ("BOOL", [2], b"\x01\x02"),
        ("BYTES", [1], b"\x05\0\0\0abc"),
        ("BYTES", [1], b"\x01\0\0"),
        ("BYTES", [1], b"\x01\0\0\0ab"),
        ("BYTES", [2**40], b"\x01\0\0\0a"),
        ("BYTES", [1], b"\xff\xff\xff\xffabc"),
    ],
)
def test_raw_bytes_that_are_not_the_tensor_are_refused(datatype, shape, raw):
    with pytest.raises(MessageError):
        tensor_from_raw("x", datatype, shape, raw)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT8", [128]),
        ("UINT8", [-1]),
        ("INT32", [1.0]),
        ("INT32", [True]),
        ("BOOL", [1]),
        ("FP32", [1e300]),
        ("FP16", [70000]),
        ("FP64", [10**400]),
        ("FP32", ["1"]),
        ("FP32", [None]),
        ("FP32", [[1], 2]),
        ("FP32", {"a": 1}),
        ("BYTES", [1]),
        ("BYTES", ["\ud800"]),
        ("FP32", [1, 2]),
        ("FP32", []),
    ],
)
def test_values_of_another_type_or_number_are_refused(datatype, values):
    with pytest.raises(MessageError):
        tensor_from_values("x", datatype, [1], values)


def test_values_may_be_nested_as_the_shape_is():
    nested = tensor_from_values("x", "INT64", [2, 2], [[1, 2], [3, 4]])
    flat = tensor_from_values("x", "INT64", [2, 2], [1, 2, 3, 4])
    assert nested.data.tolist() == flat.data.tolist() == [[1, 2], [3, 4]]
    assert tensor_from_values("x", "FP64", [], 2).data.shape == ()


@given(st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(-2, 3), max_size=3), st.binary())
def test_any_bytes_are_read_or_refused_by_name(datatype, shape, raw):
    try:
        tensor = tensor_from_raw("x", datatype, shape, raw)
    except MessageError:
        return
    assert bytes(tensor_to_raw(tensor)) == raw


def test_arrays_without_a_datatype_are_refused():
    for array in (np.zeros(1, complex), np.zeros(1, "M8[s]"), np.array([1, None])):
        with pytest.raises(InputError):
            tensor_of("x", array)


def test_big_endian_arrays_are_turned():
    assert bytes(tensor_to_raw(tensor_of("x", np.array([1], ">u2")))) == b"\x01\0"


def test_a_request_has_inputs_and_each_name_once():
    one = InferTensor("x", np.zeros(1))
    with pytest.raises(MessageError, match="at least one input"):
        InferRequest("m", ())
    with pytest.raises(MessageError, match="'x' 2 times"):
        InferRequest("m", (one, one))
    with pytest.raises(MessageError, match="requested output"):
        InferRequest("m", (one,), outputs=("a", "b", "a"))
