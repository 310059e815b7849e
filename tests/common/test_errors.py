"""The error tree is the one that its docstring draws."""

from __future__ import annotations

import inspect
import pickle

import pytest

from common import errors


def kinds() -> list[type[errors.TandemError]]:
    return [getattr(errors, name) for name in errors.__all__]


def test_all_names_are_public_and_sorted() -> None:
    classes = {n: o for n, o in vars(errors).items() if inspect.isclass(o)}
    defined = [n for n, o in classes.items() if issubclass(o, Exception)]
    assert sorted(defined) == errors.__all__


@pytest.mark.parametrize("kind", kinds())
def test_the_drawing_names_every_error_under_its_parent(kind: type[errors.TandemError]) -> None:
    drawing = inspect.getdoc(errors) or ""
    lines = drawing.splitlines()
    row = next(i for i, line in enumerate(lines) if kind.__name__ in line.split("(")[0])
    indent = len(lines[row]) - len(lines[row].lstrip("│├└─ "))
    if kind is errors.TandemError:
        assert indent == 0
        return
    parent = next(
        line for line in reversed(lines[:row]) if len(line) - len(line.lstrip("│├└─ ")) < indent
    )
    assert kind.__mro__[1].__name__ in parent


@pytest.mark.parametrize("kind", kinds())
def test_an_error_keeps_its_facts_through_pickling(kind: type[errors.TandemError]) -> None:
    error = kind("price table", expected="500 rows", found="3", remedy="Give more rows.")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(copy) is kind
    assert (copy.subject, copy.expected, copy.found) == ("price table", "500 rows", "3")
    assert str(copy) == "price table: expected 500 rows; found 3. Give more rows."


def test_facts_of_a_kind_of_its_own_survive_pickling() -> None:
    error = errors.OverloadError(
        "queue", expected="room", found="64 requests", remedy="Wait.", retry_after_s=2.5
    )
    error.add_note("on the second rank")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert copy.retry_after_s == 2.5
