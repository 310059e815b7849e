"""Kinds say what a step takes and gives, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TaskError
from common.routing.answer import Answer
from common.routing.kinds import Kind, fits, mismatch, shape_of
from common.task import Image, ImageRequest, Result, Series, Table, Tensor, Text, Volume


def test_hints_are_classes_unions_and_shapes():
    assert Kind.of_hint(Text).classes == (Text,)
    assert Kind.of_hint(Text | Image).classes == (Text, Image)
    assert Kind.of_hint(Annotated[Tensor, (None, 3)]) == Kind((Tensor,), (None, 3))
    assert Kind.of_hint(Mapping[str, float]).classes == (Mapping,)
    assert Kind.of_hint(Any).classes == (object,)
    assert Kind.of_hint(None).classes == (type(None),)
    assert str(Kind.of_hint(Annotated[Tensor | Image, (None, 3)])) == (
        "Tensor or Image of shape (any, 3)"
    )
    with pytest.raises(TaskError, match="type of a step"):
        Kind.of_hint("Text")


@pytest.mark.parametrize(
    ("given_hint", "taken_hint", "fit"),
    [
        (Text, Text, True),
        (Text, Text | Image, True),
        (Text | Image, Text, False),
        (Text, Any, True),
        (Any, Text, False),
        (Answer, Result, True),
        (Result, Answer, False),
        (int, float, True),
        (float, int, False),
        (Annotated[Tensor, (3,)], Tensor, True),
        (Tensor, Annotated[Tensor, (3,)], True),
        (Annotated[Tensor, (3,)], Annotated[Tensor, (4,)], False),
        (Annotated[Tensor, (None,)], Annotated[Tensor, (4,)], True),
        (Annotated[Tensor, (4, 4)], Annotated[Tensor, (4,)], False),
    ],
)
def test_what_is_given_fits_what_is_taken(given_hint, taken_hint, fit):
    fault = mismatch(Kind.of_hint(given_hint), Kind.of_hint(taken_hint))
    assert (fault is None) == fit


def test_a_value_has_its_class_and_shape():
    assert Kind.of_value(Tensor(np.zeros((2, 3)))) == Kind((Tensor,), (2, 3))
    assert Kind.of_value(np.zeros(4)) == Kind((np.ndarray,), (4,))
    assert Kind.of_value("x") == Kind((str,))


def test_arrays_of_several_models_agree_on_what_is_equal():
    assert Kind.of_arrays([(3, 4), (3, 5)]) == Kind((Tensor,), (3, None))
    assert Kind.of_arrays([(3,), (3, 5)]) == Kind((Tensor,))
    assert Kind.of_arrays([]) == Kind((Tensor,))


def test_the_shape_of_each_part():
    assert shape_of(Text("x")) is None
    assert shape_of(ImageRequest(8)) == (8, 8)
    assert shape_of(Image(np.zeros((2, 3)))) == (2, 3)
    assert shape_of(Volume(np.zeros((2, 3, 4)))) == (2, 3, 4)
    assert shape_of(Series(np.zeros(5))) == (5,)
    assert shape_of(Tensor(np.zeros(()))) == ()
    assert shape_of(Table({"a": np.zeros(4), "b": np.zeros(4)})) == (4, 2)


SHAPES = st.lists(st.none() | st.integers(1, 3), max_size=3).map(tuple)


@given(SHAPES, SHAPES)
def test_fitting_is_symmetric_and_unknown_sizes_fit_all(a, b):
    assert fits(a, b) == fits(b, a)
    assert fits(a, a)
    assert fits(a, (None,) * len(a))
