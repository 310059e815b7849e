"""A model takes the one part of its kind, and says so where there is none or more."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import TaskError
from common.models.base import only_part
from common.task import Series, Task, Text


def test_the_one_part_of_the_kind_is_returned() -> None:
    task = Task({"a": Text("words"), "b": Series(np.ones(2))})
    assert only_part(task, Text) == Text("words")


def test_none_or_several_are_refused() -> None:
    with pytest.raises(TaskError, match="found 0"):
        only_part(Task({"a": Series(np.ones(2))}), Text)
    with pytest.raises(TaskError, match="found 2"):
        only_part(Task({"a": Text("x"), "b": Text("y")}), Text)
