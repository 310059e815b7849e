"""The one form that content takes: arrays that nobody can write, one JSON text, one digest.

Equal content has equal bytes on every machine: C order, little-endian, sorted keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import TaskError

__all__ = [
    "Array",
    "array_digest",
    "digest_of",
    "file_digest",
    "json_text",
    "read_only",
    "require_unicode",
]

Array = npt.NDArray[Any]

_PIECE_BYTES = 1 << 20
_DEEPEST = 64  # levels of lists and objects; readers recurse, some of them a few times a level


def array_digest(array: Array, *facts: str) -> str:
    """Returns the sha256 of an array's type, shape and values, and of further facts.

    Args:
        array: As `read_only` leaves it; it is not copied.
        facts: What else tells it apart, such as a spacing.
    """
    # numpy's short form of a type that it does not know itself is its size alone: "<V2"
    dtype = str(array.dtype) if array.dtype.kind == "V" else array.dtype.str
    header = "|".join([dtype, str(array.shape), *facts])
    return digest_of(header.encode(), array.reshape(-1).view(np.uint8).data)


def digest_of(*pieces: bytes | memoryview) -> str:
    """Returns the sha256 of `pieces`, each preceded by its length, as 64 hex digits.

    Args:
        pieces: Bytes, or memory of them, which is not copied.
    """
    sha = hashlib.sha256()
    for piece in pieces:
        sha.update(len(piece).to_bytes(8, "big"))
        sha.update(piece)
    return sha.hexdigest()


def file_digest(path: Path) -> str:
    """Returns the sha256 of a file's bytes, as 64 hex digits; a large file is read in pieces."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            sha.update(piece)
    return sha.hexdigest()


def json_text(value: Any, subject: str) -> str:
    """Returns the one JSON text of a value: sorted keys, no spaces, Unicode as it is.

    Args:
        value: A JSON value; tuples count as lists.
        subject: What it is, for the message.

    Raises:
        TaskError: It is none: NaN or infinity, a key that is no text, an object of another
            type, a text that is no Unicode, or more than 64 levels.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        )
        text.encode()
        found = _structure_fault(value)
        if found is None:
            return text
    except (TypeError, ValueError, RecursionError) as error:
        found = f"another value ({type(error).__name__})"
    raise TaskError(
        subject,
        expected="JSON values: null, true, false, finite numbers, texts, lists, objects",
        found=found,
        remedy="Convert numpy numbers with .item(); keep arrays in parts or arrays.",
    )


def read_only(array: Array) -> Array:
    """Returns an array as tasks and results keep it: nobody can write to it any more.

    An array that already stands in C order and little-endian in the memory of a `bytes`
    object is taken as it is: nothing can change such memory. Any other is copied. Texts
    come as numpy's fixed-width `str`, as narrow as they can be.

    Raises:
        TaskError: It holds Python objects that are no texts.
    """
    if _lies_in_bytes(array):
        return array
    if array.dtype.hasobject or array.dtype.kind == "U":
        copy = _narrow_texts(array)
    else:
        copy = np.array(array, dtype=array.dtype.newbyteorder("<"), copy=True, order="C")
    copy.setflags(write=False)
    return copy


def require_unicode(texts: Iterable[str], subject: str) -> None:
    """Raises TaskError unless every text is Unicode, without halves of a surrogate pair."""
    try:
        for text in texts:
            if not text.isascii():
                text.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise TaskError(
            subject,
            expected="texts of Unicode characters",
            found=f"something else ({type(error).__name__})",
            remedy="Give str; decode it with errors='replace' if it may be damaged.",
        ) from None


def _structure_fault(value: Any) -> str | None:
    """Says what json.dumps let pass: keys that it turned into texts, and too many levels."""
    level = [value]
    for _ in range(_DEEPEST):
        objects = [one for one in level if isinstance(one, dict)]
        if not all(isinstance(key, str) for one in objects for key in one):
            return "keys that are no texts"
        inner = [*(one.values() for one in objects), *(one for one in level if _is_list(one))]
        level = [one for outer in inner for one in outer if isinstance(one, dict) or _is_list(one)]
        if not level:
            return None
    return f"more than {_DEEPEST} levels"


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _lies_in_bytes(array: Array) -> bool:
    """Says whether an array is as `read_only` leaves it, in memory that nobody can write."""
    flags, dtype = array.flags, array.dtype
    if flags.writeable or not (flags.c_contiguous and flags.aligned):
        return False
    if dtype.hasobject or dtype.kind == "U" or dtype.newbyteorder("<") != dtype:
        return False
    owner: Any = array
    while type(owner) is np.ndarray:
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return type(owner) is bytes


def _narrow_texts(array: Array) -> Array:
    texts = array
    if array.dtype.kind != "U":
        if not all(isinstance(value, str) and value[-1:] != "\0" for value in array.flat):
            raise TaskError(
                "array",
                expected="numbers, or texts only, none of which ends in NUL",
                found="other Python objects",
                remedy="Give an array of one numeric type, or of str without gaps.",
            )
        texts = np.array(array.tolist(), dtype=np.str_).reshape(array.shape)
    width = int(np.strings.str_len(texts).max(initial=1))
    return np.array(texts, dtype=f"<U{width}", copy=True, order="C")
