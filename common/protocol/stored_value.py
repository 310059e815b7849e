"""Values at rest in sessions and journals: JSON as text, results as bytes of the codec."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

from common.errors import InputError, MessageError, StoreError, TandemError, TooLargeError
from common.protocol.messages.codec import result_from_bytes, result_to_bytes
from common.task import Result

__all__ = ["StoredValue", "Value", "read_value", "store_value"]

Value = Any  # a JSON value (None, bool, int, float, str, list, dict with text keys) or a Result
Kind = Literal["json", "result"]


@dataclass(frozen=True)
class StoredValue:
    """A value as it lies in a table.

    Args:
        kind: How to read it: "json" or "result".
        content: UTF-8 text of JSON, or the codec's buffer.
    """

    kind: Kind
    content: bytes


def store_value(value: Value, *, limit_bytes: int) -> StoredValue:
    """Returns `value` as it is stored.

    Raises:
        MessageError: It is neither a Result nor JSON that reads back equal (a tuple, a
            number as a key and NaN do not).
        TooLargeError: It takes more than `limit_bytes`.
    """
    try:
        stored = (
            StoredValue("result", result_to_bytes(value))
            if isinstance(value, Result)
            else StoredValue("json", _json(value))
        )
    except InputError:
        raise  # the codec has said what it refuses
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise MessageError(
            "value",
            expected="a Result, or a JSON value that reads back equal",
            found=f"{type(value).__name__} that is none ({type(error).__name__})",
            remedy="Use lists in place of tuples, texts as keys, None in place of NaN.",
        ) from None  # the first error's text may quote the value
    if len(stored.content) > limit_bytes:
        raise TooLargeError(
            "value",
            expected=f"at most {limit_bytes} bytes",
            found=str(len(stored.content)),
            remedy="Store less, or keep large arrays in files and store their digests.",
        )
    return stored


def read_value(kind: str, content: bytes) -> Value:
    """Returns the value that `store_value` stored.

    Raises:
        StoreError: The content is damaged, or of a kind that is not known here.
    """
    try:
        if kind == "result":
            return result_from_bytes(content)
        if kind == "json":
            return json.loads(content)
    except (TandemError, ValueError, RecursionError) as error:
        raise _damaged(f"{len(content)} bytes ({type(error).__name__})") from None
    raise _damaged("another kind")


def _json(value: Value) -> bytes:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    if json.loads(text) != value:
        raise ValueError
    return text.encode()


def _damaged(found: str) -> StoreError:
    return StoreError(
        "stored value",
        expected=f"content of kind {' or '.join(get_args(Kind))}",
        found=found,
        remedy="Restore the file, or delete the session or transaction it belongs to.",
    )
