"""One array on the wire: the name of its type, its shape, and its bytes or its texts.

Bytes are little-endian and in C order, so that reading them copies nothing. The names of
types are numpy's; bfloat16 is that of `ml_dtypes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from common.content import read_only
from common.errors import MessageError, TooLargeError
from common.task import Array

__all__ = ["TEXTS", "array_from_bytes", "array_from_texts", "bytes_of", "dtype_name", "texts_of"]

TEXTS = "str"  # the name of an array of texts, whatever their length

_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
        *(f"datetime64[{unit}]" for unit in ("D", "s", "ms", "us", "ns")),
    )
} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MOST_DIMENSIONS = 32
_LARGEST_TEXTS_BYTES = 1 << 26  # numpy gives each text of an array the room of the longest


def dtype_name(array: Array) -> str:
    """Returns the protocol's name of an array's type.

    Raises:
        MessageError: The protocol has none: complex, extended precision, bytes, records.
    """
    if array.dtype.kind == "U":
        return TEXTS
    name = _NAMES.get(array.dtype)
    if name is None:
        raise MessageError(
            "array",
            expected=f"a type among {', '.join(_DTYPES)}, {TEXTS}",
            found=str(array.dtype),
            remedy="Convert it: a complex array to two real ones, dates to datetime64[ns].",
        )
    return name


def bytes_of(array: Array) -> memoryview:
    """Returns the memory of a numeric array as bytes, without a copy.

    Args:
        array: As tasks and results hold it: C order, little-endian.
    """
    return array.reshape(-1).view(np.uint8).data


def texts_of(array: Array) -> list[str]:
    """Returns the texts of an array in C order.

    Raises:
        MessageError: One is no Unicode.
    """
    texts: list[str] = array.reshape(-1).tolist()
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise MessageError(
            "array of texts",
            expected="Unicode characters",
            found="half a surrogate pair",
            remedy="Decode the texts with errors='replace'.",
        ) from None
    return texts


def array_from_bytes(
    dtype: str, shape: Sequence[int], message: bytes, *, offset: int = 0, size: int | None = None
) -> Array:
    """Returns the array that `size` bytes of `message` hold, as a view of them.

    Args:
        dtype: The protocol's name of its type.
        shape: Its shape; nothing of that size is allocated.
        message: What the bytes lie in; never changed.
        offset: Of the first byte.
        size: How many bytes; up to the end of `message` without it.

    Raises:
        MessageError: The type is unknown, or the shape does not take just these bytes.
    """
    found = _DTYPES.get(dtype)
    if found is None:
        raise MessageError(
            "array",
            expected=f"a type among {', '.join(_DTYPES)}",
            found="another name",
            remedy="Send it as one of these types.",
        )
    n_bytes = len(message) - offset if size is None else size
    count = _count(shape)
    if count * found.itemsize != n_bytes:
        raise MessageError(
            "array",
            expected=f"{_few(count * found.itemsize)} bytes for its shape and type {dtype}",
            found=f"{n_bytes}",
            remedy="Send the whole array, or correct its shape.",
        )
    if count == 0:
        return np.empty(tuple(shape), found)
    flat = np.frombuffer(message, np.uint8, count=n_bytes, offset=offset)
    if dtype == "bool" and flat.max() > 1:
        raise MessageError(
            "array",
            expected="bytes 0 and 1 for type bool",
            found="others",
            remedy="Send it as uint8 if it holds numbers.",
        )
    return flat.view(found).reshape(tuple(shape))


def array_from_texts(shape: Sequence[int], texts: Sequence[str]) -> Array:
    """Returns the array of `texts`, in C order.

    Raises:
        MessageError: The shape does not take just these texts, or one ends in NUL, which
            numpy would drop.
        TooLargeError: In numpy's fixed width they would take more than 64 MiB.
    """
    count = _count(shape)
    if count != len(texts) or any(text[-1:] == "\0" for text in texts):
        raise MessageError(
            "array",
            expected=f"{_few(count)} texts for its shape, none of which ends in NUL",
            found=f"{len(texts)}, or such an end",
            remedy="Send all of them, or correct the shape.",
        )
    width = max(map(len, texts), default=1)
    if width * count * 4 > _LARGEST_TEXTS_BYTES:
        raise TooLargeError(
            "array of texts",
            expected=f"at most {_LARGEST_TEXTS_BYTES} bytes at four for each character",
            found=f"{count} texts of up to {width} characters",
            remedy="Send long texts as text parts of their own.",
        )
    return read_only(np.array(texts, dtype=np.str_).reshape(tuple(shape)))


def _count(shape: Sequence[int]) -> int:
    """Returns how many elements a shape has; numpy itself would overflow."""
    whole = all(type(size) is int and 0 <= size < 1 << 31 for size in shape)
    if not whole or len(shape) > _MOST_DIMENSIONS or math.prod(filter(None, shape)) >= 1 << 48:
        raise MessageError(
            "array",
            expected=f"a shape of at most {_MOST_DIMENSIONS} sizes from 0, below 2^31 each and "
            "2^48 together",
            found=f"{len(shape)} sizes, others among them",
            remedy="Correct the shape.",
        )
    return math.prod(shape)


def _few(number: int) -> str:
    return str(number) if number < 1 << 63 else "too many"
