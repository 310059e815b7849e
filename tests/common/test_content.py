"""Equal content has one form: arrays that nobody can write, one JSON text, one digest."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

from common.content import array_digest, json_text, read_only
from common.errors import TaskError
from common.task import Result, Table, Task, Tensor, Text, Volume
from tests.common.protocol.made_messages import json_objects, numeric_arrays

BYTES = np.arange(6, dtype=np.float32).tobytes()


@given(numeric_arrays())
def test_an_array_keeps_its_values_and_cannot_be_written(array):
    kept = read_only(array)
    assert not kept.flags.writeable
    assert kept.flags.c_contiguous
    assert kept.dtype == array.dtype.newbyteorder("<")
    same_order = np.ascontiguousarray(array).astype(kept.dtype)
    assert kept.shape == array.shape
    assert kept.tobytes() == same_order.tobytes()


@pytest.mark.parametrize("source", [BYTES, memoryview(BYTES)])
def test_memory_of_bytes_is_adopted(source):
    array = np.frombuffer(source, np.float32).reshape(2, 3)
    assert read_only(array) is array


@pytest.mark.parametrize(
    "array",
    [
        np.frombuffer(bytearray(BYTES), np.float32),
        np.frombuffer(memoryview(bytearray(BYTES)).toreadonly(), np.float32),
        np.frombuffer(BYTES, np.float32)[::2],
        np.frombuffer(b"\0" + BYTES, np.float32, offset=1),
        np.frombuffer(BYTES, ">f4"),
        np.frombuffer(BYTES, "<U2"),
    ],
)
def test_memory_that_may_change_or_has_another_form_is_copied(array):
    kept = read_only(array)
    assert kept is not array
    assert not np.shares_memory(kept, array)


def test_a_read_only_view_of_an_array_that_can_be_written_is_copied():
    owner = np.zeros(3)
    view = owner[:]
    view.setflags(write=False)
    kept = read_only(view)
    owner[0] = 1
    assert kept.tolist() == [0, 0, 0]


def test_the_order_of_bytes_does_not_count():
    big, little = np.array([1.5, 2], ">f4"), np.array([1.5, 2], "<f4")
    assert Task({"x": Tensor(big)}).digest() == Task({"x": Tensor(little)}).digest()


def test_types_that_numpy_has_not_count():
    bits = np.zeros(2, np.uint8)
    dtypes = [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.uint8]
    assert len({array_digest(bits.view(dtype)) for dtype in dtypes}) == 3


def test_texts_in_a_table_have_one_form_whatever_held_them():
    columns = [["a", "bcd"], np.array(["a", "bcd"], "U9"), np.array(["a", "bcd"], "O")]
    arrays = [np.asarray(one) for one in columns]
    arrays.append(np.array(["a", "bcd"], np.dtypes.StringDType()))
    assert len({Table({"c": one}).content_digest for one in arrays}) == 1
    assert {read_only(one).dtype for one in arrays} == {np.dtype("<U3")}


@pytest.mark.parametrize(
    "build",
    [
        lambda: Table({"c": np.array(["a", None], "O")}),
        lambda: Table({"c": np.array(["a\0"], "O")}),
        lambda: Table({"c": np.zeros(())}),
        lambda: Table({"c": np.zeros((2, 2))}),
        lambda: Tensor(np.array([{}], "O")),
        lambda: Text("\ud800"),
        lambda: Task({"\ud800": Text("x")}),
        lambda: Task({"x": Text("x")}, {"v": np.float32(1)}),
        lambda: Task({"x": Text("x")}, {1: "number as a key"}),
        lambda: Task({"x": Text("x")}, {"v": float("inf")}),
        lambda: Volume(np.zeros((1, 1, 1)), (1.0, 1.0)),
        lambda: Volume(np.zeros((1, 1, 1)), (1.0, 1.0, -1.0)),
        lambda: Volume(np.zeros((1, 1, 1)), (1.0, 1.0, float("nan"))),
        lambda: Result(arrays={1: np.zeros(1)}),
    ],
)
def test_what_has_no_such_form_cannot_be_constructed(build):
    with pytest.raises(TaskError):
        build()


@given(json_objects)
def test_a_json_text_is_the_same_however_the_value_was_made(value):
    text = json_text(value, "value")
    assert json.loads(text) == value
    assert json_text(dict(reversed(value.items())), "value") == text


@pytest.mark.parametrize("levels", [64, 65])
def test_levels_are_counted(levels):
    value = json.loads("[" * levels + "]" * levels)
    if levels == 64:
        assert json_text(value, "value")
    else:
        with pytest.raises(TaskError, match="more than 64 levels"):
            json_text(value, "value")


def test_a_task_s_parameters_are_its_own_all_the_way_down():
    inner = [1]
    task = Task({"x": Text("x")}, {"list": inner})
    digest = task.digest()
    inner.append(2)
    assert task.parameters["list"] == [1]
    assert Task({"x": Text("x")}, {"list": [1]}).digest() == digest
