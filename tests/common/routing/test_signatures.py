"""What a plain function takes and gives is read from it, or said beside it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np
import pytest

from common.errors import TaskError
from common.routing.kinds import Kind
from common.routing.signatures import signature_of
from common.task import Result, Tensor, Text


def read(function, known=("a", "b"), sources=None, types=None):
    return signature_of(function, known=known, sources=sources or {}, types=types or {})


def joined(a: Result, b: Annotated[Tensor, (3,)], c: int = 0) -> Text:
    return Text("x")


def test_parameters_name_sources_and_annotations_say_kinds():
    signature = read(joined)
    assert signature.takes == {
        "a": ("a", Kind((Result,))),
        "b": ("b", Kind((Tensor,), (3,))),
    }
    assert signature.gives == Kind((Text,))


def test_a_default_gives_way_where_there_is_a_source():
    assert read(joined, known=("a", "b", "c")).takes["c"] == ("c", Kind((int,)))
    assert read(joined, sources={"c": "a.size"}).takes["c"] == ("a.size", Kind((int,)))


def test_sources_and_types_may_be_said_beside_it():
    types = {"x": Text, "return": Any}
    signature = read(lambda x: x, sources={"x": "a"}, types=types)
    assert signature.takes == {"x": ("a", Kind((Text,)))}
    assert signature.gives == Kind((object,))


def test_what_a_partial_has_filled_in_is_not_taken():
    filled = partial(joined, b=Tensor(np.ones(3)))
    assert set(read(filled, known=("a",)).takes) == {"a"}


def test_a_class_gives_itself_and_an_object_is_what_its_call_says():
    class Sum:
        def __init__(self, a: int, b: int) -> None: ...

        def __call__(self, a: float) -> float: ...

    assert read(Sum).gives == Kind((Sum,))
    assert read(Sum(1, 2)).takes == {"a": ("a", Kind((float,)))}


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (lambda a: a, "no type of a"),
        (lambda *a: a, "no type of a"),
        (max, "no signature"),
        (5, "not a callable"),
    ],
)
def test_what_cannot_be_read_is_refused(function, fault):
    with pytest.raises(TaskError, match=fault):
        read(function)


def test_parameters_that_cannot_be_given_by_name_are_refused():
    with pytest.raises(TaskError, match="by name"):
        read(lambda a, /: a, types={"a": int, "return": int})
