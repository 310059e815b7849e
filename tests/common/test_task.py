"""Tasks are frozen, and their digest changes exactly when their content does."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TaskError
from common.task import (
    Image,
    ImageRequest,
    Result,
    Series,
    Table,
    Task,
    Text,
    Volume,
    digest_of,
)


def test_digest_of_matches_its_definition() -> None:
    import hashlib

    expected = hashlib.sha256(b"\0" * 7 + b"\2" + b"ab" + b"\0" * 7 + b"\1" + b"c").hexdigest()
    assert digest_of(b"ab", b"c") == expected


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_pieces_never_run_into_each_other(a: list[bytes], b: list[bytes]) -> None:
    assert (digest_of(*a) == digest_of(*b)) == (a == b)


@given(st.text(), st.text())
def test_texts_differ_exactly_when_digests_do(a: str, b: str) -> None:
    assert (Task({"t": Text(a)}).digest() == Task({"t": Text(b)}).digest()) == (a == b)


def test_dtype_shape_name_modality_and_parameters_count() -> None:
    values = np.arange(4.0)
    base = Task({"x": Series(values)})
    others = [
        Task({"y": Series(values)}),
        Task({"x": Series(values.astype(np.float32))}),
        Task({"x": Series(values.reshape(2, 2))}),
        Task({"x": Image(values.reshape(2, 2))}),
        Task({"x": Series(values)}, {"horizon": 2}),
        Task({"x": Table({"a": values})}),
    ]
    assert len({task.digest() for task in [base, *others]}) == len(others) + 1


def test_memory_order_does_not_count() -> None:
    values = np.arange(6.0).reshape(2, 3)
    assert (
        Task({"x": Image(values)}).digest()
        == Task({"x": Image(np.asfortranarray(values))}).digest()
    )


def test_arrays_are_copies_that_cannot_be_written() -> None:
    values = np.zeros(3)
    part = Series(values)
    values[0] = 1.0
    assert part.values[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        part.values[0] = 2.0


@pytest.mark.parametrize(
    "build",
    [
        lambda: Task({}),
        lambda: Image(np.zeros(3)),
        lambda: Image(np.zeros((0, 3))),
        lambda: Volume(np.zeros((3, 3))),
        lambda: ImageRequest(0),
        lambda: ImageRequest(100_000),
        lambda: Table({"a": np.zeros(2), "b": np.zeros(3)}),
    ],
)
def test_unusable_parts_cannot_be_constructed(build: object) -> None:
    with pytest.raises(TaskError):
        build()  # type: ignore[operator]


@pytest.mark.parametrize(
    "task",
    [
        Task({"t": Text("x"), "v": Volume(np.arange(8.0).reshape(2, 2, 2))}, {"n": [1, 2]}),
        Task({"t": Table({"day": np.array(["a", "bc"]), "close": np.arange(2.0)})}),
    ],
)
def test_a_task_is_the_same_in_another_process_of_the_program(task: Task) -> None:
    carried = pickle.loads(pickle.dumps(task))  # noqa: S301  # our own bytes
    assert carried.digest() == task.digest()
    with pytest.raises(TypeError):
        carried.parts["t"] = Text("y")


def test_a_result_is_the_same_in_another_process_of_the_program() -> None:
    result = Result({"label": "high"}, {"scores": np.array([1, 2], np.float16)})
    carried = pickle.loads(pickle.dumps(result))  # noqa: S301  # our own bytes
    assert carried.values == result.values
    assert carried.arrays["scores"].dtype == np.float16
    assert not carried.arrays["scores"].flags.writeable
