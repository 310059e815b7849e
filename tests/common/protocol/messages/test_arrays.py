"""An array is read from just the bytes that its shape takes."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import MessageError, TooLargeError
from common.protocol.messages.arrays import (
    array_from_bytes,
    array_from_texts,
    bytes_of,
    dtype_name,
    texts_of,
)


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.zeros(2, "<f2"), "float16"),
        (np.zeros(2, bool), "bool"),
        (np.zeros(2, "M8[us]"), "datetime64[us]"),
        (np.array(["x"]), "str"),
    ],
)
def test_types_have_numpy_s_names(array, name):
    assert dtype_name(array) == name


def test_bfloat16_is_one_of_them():
    bits = np.array([0x3F80, 0x7FC0], "<u2").tobytes()  # 1 and NaN
    array = array_from_bytes("bfloat16", [2], bits)
    assert array.dtype.name == "bfloat16"
    assert float(array[0]) == 1.0
    assert np.isnan(array[1])
    assert bytes_of(array).tobytes() == bits


def test_a_number_alone_and_no_number_at_all_are_arrays_too():
    assert array_from_bytes("int16", [], b"\x05\x00")[()] == 5
    assert array_from_bytes("int16", [0, 3], b"").shape == (0, 3)


@pytest.mark.parametrize(
    ("shape", "n_bytes"),
    [([2], 7), ([2], 9), ([], 0), ([1 << 30, 1 << 30], 8), ([-1], 4), ([0, 1 << 40], 0)],
)
def test_a_shape_that_takes_other_bytes_is_refused(shape, n_bytes):
    with pytest.raises(MessageError):
        array_from_bytes("float32", shape, bytes(n_bytes))


def test_true_and_false_are_the_only_bool():
    with pytest.raises(MessageError, match="bytes 0 and 1"):
        array_from_bytes("bool", [2], b"\x01\x02")


def test_texts_come_back_in_their_shape():
    texts = np.array([["a", "bc"], ["", "é"]])
    assert np.array_equal(array_from_texts([2, 2], texts_of(texts)), texts)
    assert array_from_texts([0], []).dtype == np.dtype("<U1")


def test_texts_that_are_too_few_or_take_too_much_room_are_refused():
    with pytest.raises(MessageError, match="3 texts"):
        array_from_texts([3], ["a"])
    with pytest.raises(MessageError, match="NUL"):
        array_from_texts([1], ["a\0"])  # numpy would make it "a"
    with pytest.raises(TooLargeError):
        array_from_texts([1000], ["x" * 100_000, *[""] * 999])
