"""Tensors, requests and responses of the Open Inference Protocol v2, apart from any transport.

The protocol is that of github.com/kserve/open-inference-protocol (specification/protocol,
2023). A tensor crosses the wire in one of two forms: *raw*, its elements in row-major order
and little-endian, each BYTES element behind its length in four bytes; or as *values*, a flat
or nested list. `http_form` and `grpc_form` beside this file read and write whole messages;
`tasks` says which tasks a request means, `results` which tensors say a model's results.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

from common.errors import MessageError
from common.task import Array

__all__ = [
    "DATATYPES",
    "InferRequest",
    "InferResponse",
    "InferTensor",
    "array_of",
    "tensor_from_raw",
    "tensor_from_values",
    "tensor_of",
    "tensor_to_raw",
    "tensor_to_values",
]

DATATYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype("u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
        "BF16": np.dtype(ml_dtypes.bfloat16),
        "BYTES": np.dtype(np.object_),
    }
)
"""The protocol's datatypes (section "Tensor Data Types") and ours; BYTES elements are `bytes`."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_MOST_DIMENSIONS = 16
_MOST_BYTES = 1 << 48  # no shape beyond it is looked at, so that no size overflows
_LENGTH_BYTES = 4  # before each BYTES element


@dataclass(frozen=True)
class InferTensor:
    """A named array of one of the protocol's datatypes.

    Args:
        name: Its name in the request or response.
        data: The elements in their shape; for BYTES an object array of `bytes`.

    Raises:
        MessageError: The protocol has no datatype for the array (complex numbers, dates).
    """

    name: str
    data: Array

    def __post_init__(self) -> None:
        if self.data.dtype not in _NAMES:
            raise MessageError(
                f"tensor {_short(self.name)}",
                expected=f"elements of {', '.join(DATATYPES)}",
                found=str(self.data.dtype),
                remedy="Convert the array to one of these types.",
            )

    @property
    def datatype(self) -> str:
        """The protocol's name of the elements' type."""
        return _NAMES[self.data.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.data.shape


@dataclass(frozen=True)
class InferRequest:
    """What is asked of a model.

    Args:
        model_name: Of which model.
        inputs: At least one tensor, names unique.
        model_version: Of which version; "" leaves the choice to the server.
        id: Given back in the response.
        outputs: Names of the outputs wanted; all of them where it is empty.
        parameters: JSON values.

    Raises:
        MessageError: There is no input, or a name occurs twice.
    """

    model_name: str
    inputs: tuple[InferTensor, ...]
    model_version: str = ""
    id: str = ""
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise MessageError(
                "inference request",
                expected="at least one input",
                found="none",
                remedy="Send the inputs that the model's metadata name.",
            )
        _require_unique([tensor.name for tensor in self.inputs], "input")
        _require_unique(self.outputs, "requested output")
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))


@dataclass(frozen=True)
class InferResponse:
    """What a model answered.

    Args:
        model_name: Which model.
        model_version: Which version of it.
        outputs: Its tensors, in the order asked for.
        id: That of the request.
        parameters: Provenance: booleans, whole numbers and texts.
    """

    model_name: str
    model_version: str
    outputs: tuple[InferTensor, ...]
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


def tensor_from_raw(
    name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview
) -> InferTensor:
    """Reads a tensor in raw form; apart from BYTES without a copy of its elements.

    Args:
        name: The tensor's name.
        datatype: A key of `DATATYPES`.
        shape: The length of each axis.
        raw: Exactly its elements. The array is a read-only view of it, not always aligned.

    Raises:
        MessageError: The datatype is unknown, an axis is none, or there are more or fewer
            bytes than datatype and shape say.
    """
    dtype = _dtype(name, datatype)
    n = _size(name, shape)
    if datatype == "BYTES":
        return InferTensor(name, _bytes_elements(name, n, memoryview(raw)).reshape(shape))
    if len(raw) != n * dtype.itemsize:
        raise _mismatch(name, f"{n * dtype.itemsize} bytes for {n} x {datatype}", len(raw), "bytes")
    if datatype == "BOOL" and n and np.frombuffer(raw, np.uint8).max() > 1:
        raise MessageError(
            f"tensor {_short(name)}",
            expected="bytes 0 and 1 for BOOL",
            found="another byte",
            remedy="Send one byte for each element, 0 for false and 1 for true.",
        )
    return InferTensor(name, np.frombuffer(raw, dtype).reshape(shape))


def tensor_from_values(name: str, datatype: str, shape: Sequence[int], values: Any) -> InferTensor:
    """Reads a tensor from a flat or nested list.

    Args:
        name: The tensor's name.
        datatype: A key of `DATATYPES`.
        shape: The length of each axis.
        values: Booleans for BOOL, whole numbers for integer types, any numbers for
            floating types, texts or bytes for BYTES; in row-major order.

    Raises:
        MessageError: The datatype is unknown, an axis is none, a value is of another type
            or does not fit it, or there are more or fewer than the shape says.
    """
    dtype = _dtype(name, datatype)
    n = _size(name, shape)
    flat = _flattened(values)
    if len(flat) != n:
        raise _mismatch(name, f"{n} values for its shape", len(flat), "values")
    if not set(map(type, flat)) <= _value_types(dtype):
        raise _no_values(name, datatype, "a value of another type")
    if datatype == "BYTES":
        return InferTensor(name, _encoded(name, flat).reshape(shape))
    try:
        with np.errstate(over="ignore"):
            data = np.array(flat, dtype)
    except OverflowError:
        raise _no_values(name, datatype, "a number beyond its range") from None
    if dtype.kind not in "biu" and not np.isfinite(data).all():
        raise _no_values(name, datatype, "a number beyond its range")
    return InferTensor(name, data.reshape(shape))


def tensor_to_raw(tensor: InferTensor) -> bytes | memoryview:
    """Returns the tensor in raw form: a view of a contiguous array's memory, or new bytes."""
    if tensor.datatype == "BYTES":
        pieces = []
        for element in tensor.data.reshape(-1):
            pieces += [len(element).to_bytes(_LENGTH_BYTES, "little"), element]
        return b"".join(pieces)
    contiguous = np.ascontiguousarray(tensor.data)
    return contiguous.reshape(-1).view(np.uint8).data


def tensor_to_values(tensor: InferTensor) -> list[Any]:
    """Returns the elements as a flat list of JSON values.

    Raises:
        MessageError: JSON cannot say an element: NaN, an infinity, bytes that are no UTF-8.
    """
    flat = tensor.data.reshape(-1)
    if tensor.datatype == "BYTES":
        try:
            return [element.decode() for element in flat]
        except UnicodeDecodeError:
            raise _no_json(tensor, "bytes that are no UTF-8") from None
    if flat.dtype.kind in "biu":
        return list(flat.tolist())
    numbers = flat.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise _no_json(tensor, "NaN or an infinity")
    return list(numbers.tolist())


def tensor_of(name: str, array: Array) -> InferTensor:
    """Returns a tensor of any array of ours; texts become BYTES in UTF-8.

    Raises:
        MessageError: The protocol has no datatype for it.
    """
    if array.dtype.kind in "OSU":
        flat = array.reshape(-1).tolist()
        if not set(map(type, flat)) <= {str, bytes}:
            raise _no_values(name, "BYTES", "objects of another type")
        return InferTensor(name, _encoded(name, flat).reshape(array.shape))
    little = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
    return InferTensor(name, array.astype(little, copy=False))


def array_of(tensor: InferTensor) -> Array:
    """Returns the array that `tensor_of` was given; BYTES have to be texts.

    Raises:
        MessageError: BYTES are no UTF-8, or end in NUL, which numpy's texts cannot hold.
    """
    if tensor.datatype != "BYTES":
        return tensor.data
    try:
        texts = [element.decode() for element in tensor.data.reshape(-1)]
    except UnicodeDecodeError:
        raise _no_values(tensor.name, "BYTES that are UTF-8", "other bytes") from None
    if any(text.endswith("\0") for text in texts):
        raise _no_values(tensor.name, "BYTES without NUL at the end", "one with it")
    return np.array(texts, dtype=np.str_).reshape(tensor.data.shape)


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    if datatype not in DATATYPES:
        raise MessageError(
            f"tensor {_short(name)}",
            expected=f"a datatype among {', '.join(DATATYPES)}",
            found=_short(datatype),
            remedy="Use one of these, in capitals.",
        )
    return DATATYPES[datatype]


def _size(name: str, shape: Sequence[int]) -> int:
    """Returns the number of elements, after a look at every axis."""
    bad = any(type(length) is not int or length < 0 for length in shape)
    if bad or len(shape) > _MOST_DIMENSIONS or math.prod(max(x, 1) for x in shape) > _MOST_BYTES:
        raise MessageError(
            f"shape of tensor {_short(name)}",
            expected=f"at most {_MOST_DIMENSIONS} whole numbers, 0 or more, of a size in memory",
            found=f"{len(shape)} that are not all such",
            remedy="Send the length of each axis; -1 stands in metadata only.",
        )
    return math.prod(shape)


def _bytes_elements(name: str, n: int, raw: memoryview) -> Array:
    elements = np.empty(n if n * _LENGTH_BYTES <= len(raw) else 0, np.object_)
    start, found = 0, 0
    while found < len(elements) and start + _LENGTH_BYTES <= len(raw):
        end = start + _LENGTH_BYTES + int.from_bytes(raw[start : start + _LENGTH_BYTES], "little")
        if end > len(raw):
            break
        elements[found] = bytes(raw[start + _LENGTH_BYTES : end])
        start, found = end, found + 1
    if found != n or start != len(raw):
        raise MessageError(
            f"tensor {_short(name)}",
            expected=f"{n} elements, each behind its length in four bytes, and nothing after them",
            found=f"{len(raw)} bytes that are not so",
            remedy="Send the whole tensor, with lengths in little-endian order.",
        )
    return elements


def _flattened(values: Any) -> list[Any]:
    level = values if isinstance(values, list) else [values]
    while level and set(map(type, level)) == {list}:
        level = list(chain.from_iterable(level))
    return level


def _value_types(dtype: np.dtype[Any]) -> set[type]:
    if dtype.kind == "b":
        return {bool}
    if dtype.kind in "iu":
        return {int}
    return {str, bytes} if dtype.kind == "O" else {int, float}


def _encoded(name: str, flat: Sequence[str | bytes]) -> Array:
    elements = np.empty(len(flat), np.object_)
    try:
        elements[:] = [x.encode() if isinstance(x, str) else x for x in flat]
    except UnicodeEncodeError:
        raise _no_values(name, "BYTES", "a lone surrogate") from None
    return elements


def _require_unique(names: Sequence[str], kind: str) -> None:
    (most, times), *_ = Counter(names).most_common(1) or [("", 0)]
    if times > 1:
        raise MessageError(
            f"{kind}s of an inference request",
            expected="each name once",
            found=f"{_short(most)} {times} times",
            remedy=f"Send each {kind} once.",
        )


def _mismatch(name: str, expected: str, found: int, of: str) -> MessageError:
    return MessageError(
        f"tensor {_short(name)}",
        expected=expected,
        found=f"{found} {of}",
        remedy="Send the whole tensor, and the shape that it has.",
    )


def _no_values(name: str, datatype: str, found: str) -> MessageError:
    return MessageError(
        f"tensor {_short(name)}",
        expected=f"values of datatype {datatype}",
        found=found,
        remedy="Send values of that type, or name the datatype that they have.",
    )


def _no_json(tensor: InferTensor, found: str) -> MessageError:
    return MessageError(
        f"output {_short(tensor.name)}",
        expected="elements that JSON can say",
        found=found,
        remedy="Ask for it with the parameter binary_data.",
    )


def _short(name: str) -> str:
    return repr(name[:40])
