"""What flows from one step of a graph to another: classes, and shapes of arrays."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, Union, get_args, get_origin

import numpy as np

from common.errors import TaskError
from common.models.base import Shape
from common.routing.answer import Answer
from common.task import Image, ImageRequest, Part, Result, Series, Table, Tensor, Text, Volume

__all__ = ["Kind", "fits", "mismatch", "shape_of"]


@dataclass(frozen=True)
class Kind:
    """The classes that a value may have, and the shape of its array.

    Args:
        classes: At least one; `object` for any.
        shape: None where any shape will do, or where it has none.
    """

    classes: tuple[type, ...]
    shape: Shape | None = None

    @classmethod
    def of_hint(cls, hint: Any) -> Self:
        """Returns what a type hint means: a class, a union, or `Annotated[class, shape]`.

        Raises:
            TaskError: It is none of these.
        """
        if get_origin(hint) is Annotated:
            inner, *marks = get_args(hint)
            shape = next((mark for mark in marks if isinstance(mark, tuple)), None)
            return cls(cls.of_hint(inner).classes, shape)
        if hint is Any:
            return cls((object,))
        if hint is None:
            return cls((types.NoneType,))
        if get_origin(hint) in {Union, types.UnionType}:
            members = [cls.of_hint(member).classes for member in get_args(hint)]
            return cls(tuple(one for several in members for one in several))
        plain = get_origin(hint) or hint
        if not isinstance(plain, type):
            raise TaskError(
                "type of a step or input",
                expected="a class, a union of classes, or Annotated[class, shape]",
                found=f"an object of type {type(hint).__name__}",
                remedy="Name a part of common.task, Result, Answer or another class.",
            )
        return cls((plain,))

    @classmethod
    def of_value(cls, value: Any) -> Self:
        """Returns the class and shape that a value has."""
        if isinstance(value, np.ndarray):
            return cls((np.ndarray,), value.shape)
        return cls((type(value),), shape_of(value) if isinstance(value, Part) else None)

    @classmethod
    def of_arrays(cls, shapes: Sequence[Shape]) -> Self:
        """Returns the kind of an array that has one of `shapes`: what all of them agree on."""
        if not shapes or len({len(shape) for shape in shapes}) > 1:
            return cls((Tensor,))
        axes = [set(sizes) for sizes in zip(*shapes, strict=True)]
        return cls((Tensor,), tuple(x.pop() if len(x) == 1 else None for x in axes))

    def __str__(self) -> str:
        names = " or ".join(one.__name__ for one in self.classes)
        if self.shape is None:
            return names
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{names} of shape ({sizes})"


def mismatch(given: Kind, taken: Kind) -> str | None:
    """Returns what is given where something else is taken; None where it fits.

    An `Answer` may be taken as its `Result`, and an int as a float.
    """
    allowed = (*taken.classes, Answer) if Result in taken.classes else taken.classes
    allowed = (*allowed, int) if float in allowed else allowed
    classes_fit = all(issubclass(one, allowed) for one in given.classes)
    shapes_fit = given.shape is None or taken.shape is None or fits(given.shape, taken.shape)
    return None if classes_fit and shapes_fit else f"{given} is given where {taken} is taken"


def fits(shape: Shape, wanted: Shape) -> bool:
    """Returns whether every axis has the size wanted; None on either side fits any size."""
    return len(shape) == len(wanted) and all(
        have is None or want is None or have == want
        for have, want in zip(shape, wanted, strict=True)
    )


def shape_of(part: Part) -> tuple[int, ...] | None:
    """Returns the shape of a part's array; a table's rows and columns; None for a text."""
    match part:
        case Text():
            return None
        case ImageRequest():
            return (part.resolution, part.resolution)
        case Image():
            return part.pixels.shape
        case Volume():
            return part.voxels.shape
        case Table():
            return (len(next(iter(part.columns.values()))), len(part.columns))
        case Series() | Tensor():
            return part.values.shape
