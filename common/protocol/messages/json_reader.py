"""Reading JSON that somebody else wrote: strict, and every fault a MessageError.

A key that stands twice, NaN, a number beyond a float and half a surrogate pair are no JSON
values here (RFC 8259, sections 4, 6 and 8.2 warn of each): two readers would understand
two messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from common.content import json_text, require_unicode
from common.errors import MessageError, TaskError, TooLargeError

__all__ = [
    "fields_of",
    "json_object",
    "number_of",
    "objects_of",
    "read_json",
    "reading_message",
    "typed",
]

T = TypeVar("T")


def read_json(text: bytes | str, *, subject: str, max_bytes: int) -> Any:
    """Returns the value of a JSON text.

    Args:
        text: UTF-8.
        subject: What it is, for the message.
        max_bytes: The largest that is taken.

    Raises:
        TooLargeError: The text is longer.
        MessageError: It is no JSON, or a key stands twice in one object.
    """
    if len(text) > max_bytes:
        raise TooLargeError(
            subject,
            expected=f"at most {max_bytes} bytes",
            found=str(len(text)),
            remedy="Send less at once, or use the Protobuf form.",
        )
    try:
        decoded = text if isinstance(text, str) else text.decode()
        return json.loads(decoded, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        found = f"a fault at character {error.pos}"
    except UnicodeDecodeError as error:
        found = f"no UTF-8 at byte {error.start}"
    except MessageError as error:
        found = error.found
    except RecursionError:
        found = "more levels than can be read"
    except ValueError:
        found = "a number of thousands of digits"
    raise MessageError(
        subject, expected="JSON", found=found, remedy="Send it as a JSON library writes it."
    )


def json_object(value: Any, subject: str) -> dict[str, Any]:
    """Returns a copy of a JSON object of which every part is a JSON value.

    Raises:
        MessageError: It is none.
    """
    found = _mapping(value, subject)
    with reading_message():
        copy: dict[str, Any] = json.loads(json_text(dict(found), subject))
    return copy


def fields_of(
    form: Any, subject: str, required: Sequence[str], optional: Sequence[str] = ()
) -> Mapping[str, Any]:
    """Returns an object that has every required key, and no other but the optional ones.

    Raises:
        MessageError: It is none.
    """
    found = _mapping(form, subject)
    absent = [key for key in required if key not in found]
    others = len(found.keys() - {*required, *optional})
    if absent or others:
        raise MessageError(
            subject,
            expected=f"an object with {', '.join(required) or 'no key required'}"
            + (f", and at most {', '.join(optional)} beside" if optional else ""),
            found="; ".join(
                ([f"no {', '.join(absent)}"] if absent else [])
                + ([f"{others} other keys"] if others else [])
            ),
            remedy="Correct the keys.",
        )
    return found


def objects_of(value: Any, subject: str) -> Mapping[str, Any]:
    """Returns an object of which each key is the name of something.

    Raises:
        MessageError: It is none.
    """
    found = _mapping(value, subject)
    for name in found:
        typed(name, str, f"names in {subject}")
    return found


def typed(value: Any, kind: type[T], subject: str) -> T:
    """Returns `value` where it is of type `kind`; true and false are no numbers.

    Raises:
        MessageError: It is of another, or a text that is no Unicode.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise MessageError(
            subject,
            expected=f"a JSON value of type {kind.__name__}",
            found=type(value).__name__,
            remedy="Give it as docs/protocol.md shows.",
        )
    if isinstance(value, str):
        with reading_message():
            require_unicode([value], subject)
    return value


def number_of(value: Any, subject: str) -> float:
    """Returns a JSON number as a float.

    Raises:
        MessageError: It is none, or beyond a float.
    """
    if isinstance(value, float):
        return value
    try:
        return float(typed(value, int, subject))
    except OverflowError:
        raise MessageError(
            subject,
            expected="a number below 2^1024",
            found="a larger one",
            remedy="Correct it.",
        ) from None


@contextmanager
def reading_message() -> Iterator[None]:
    """Says of a part that cannot be constructed that the message which holds it is at fault."""
    try:
        yield
    except TaskError as error:
        raise MessageError(
            error.subject, expected=error.expected, found=error.found, remedy=error.remedy
        ) from error


def _mapping(value: Any, subject: str) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else typed(value, dict, subject)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("a key that stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name}, which is no JSON")


def _refuse(found: str) -> NoReturn:
    raise MessageError("JSON", expected="JSON", found=found, remedy="Correct it.")
