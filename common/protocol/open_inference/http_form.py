"""The Open Inference Protocol v2 in HTTP bodies: JSON, and JSON followed by raw tensors.

As in the protocol's specification/protocol/inference_rest.md and in the extension "binary
tensor data": a body of both says the length of its JSON in the header
Inference-Header-Content-Length, and each tensor whose bytes follow says how many they are in
its parameter `binary_data_size`. JSON is read by orjson, which takes RFC 8259 at its word: no
NaN, no lone surrogates, UTF-8 only, bounded depth.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from common.errors import MessageError, TooLargeError
from common.protocol.open_inference.inference import (
    InferRequest,
    InferResponse,
    InferTensor,
    tensor_from_raw,
    tensor_from_values,
    tensor_to_raw,
    tensor_to_values,
)

__all__ = [
    "HEADER_LENGTH",
    "OutputForms",
    "header_length",
    "inflated",
    "json_object",
    "request_from_http",
    "request_to_http",
    "response_from_http",
    "response_to_http",
]

HEADER_LENGTH = "Inference-Header-Content-Length"
_RAW_SIZE = "binary_data_size"
_RAW_OUTPUTS = "binary_data_output"
_NOT_SERVED = ("classification", "shared_memory_region")  # extensions of Triton's own
_WINDOW_BITS = {"gzip": 31, "deflate": 15}  # zlib's codes; HTTP's deflate is zlib's format


@dataclass(frozen=True)
class OutputForms:
    """Which outputs a response says as raw bytes, and which as JSON.

    Args:
        raw: The form of an output that is not asked for by name.
        by_name: Output name to whether it is raw.
    """

    raw: bool = False
    by_name: Mapping[str, bool] = field(default_factory=dict)

    def is_raw(self, name: str) -> bool:
        """Returns whether the output `name` is to be raw."""
        return self.by_name.get(name, self.raw)


def header_length(value: str | None, body_bytes: int) -> int | None:
    """Returns the length of a body's JSON, from the header; None where it is JSON throughout.

    Args:
        value: The header's value, if there is one.
        body_bytes: Length of the whole body.

    Raises:
        MessageError: It is no number between 2 and the body's length.
    """
    if value is None:
        return None
    written = value.strip()
    if not (written.isascii() and written.isdecimal() and len(written) < 16):
        length = -1
    else:
        length = int(written)
    if not 2 <= length <= body_bytes:
        raise MessageError(
            f"header {HEADER_LENGTH}",
            expected="a whole number from 2 to the length of the body",
            found="another value",
            remedy="Send the length of the JSON before the raw tensors, in bytes.",
        )
    return length


def inflated(body: memoryview, encoding: str, *, most_bytes: int) -> memoryview:
    """Returns a body as it was before `Content-Encoding`.

    Args:
        body: The body as it came.
        encoding: "gzip" or "deflate"; "" or "identity" for none.
        most_bytes: The largest outcome that is taken; no more than that is ever inflated.

    Raises:
        MessageError: The encoding is another, or the body is not of it.
        TooLargeError: The outcome is larger.
    """
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return body
    if name not in _WINDOW_BITS:
        raise _no_body("gzip, deflate or no content encoding", "another encoding")
    stream = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        whole = stream.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise _no_body(f"a body compressed as {name}", "one that is not") from error
    if len(whole) > most_bytes:
        raise TooLargeError(
            "request body",
            expected=f"at most {most_bytes} bytes when inflated",
            found="more",
            remedy="Send less at once, or ask for a higher limit.",
        )
    if not stream.eof or stream.unused_data:
        raise _no_body(f"one whole body compressed as {name}", "less or more than that")
    return memoryview(whole)


def json_object(body: bytes | memoryview) -> dict[str, Any]:
    """Returns the JSON object that `body` says.

    Raises:
        MessageError: It says none.
    """
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _no_body("a JSON object in UTF-8", "something that is no JSON") from None
    found: dict[str, Any] = _typed(read, dict, "body")
    return found


def request_from_http(
    body: bytes | memoryview,
    *,
    model_name: str,
    model_version: str = "",
    json_bytes: int | None = None,
) -> tuple[InferRequest, OutputForms]:
    """Reads an inference request and the forms in which its outputs are wanted.

    Args:
        body: The whole body, inflated. Raw tensors become views of it, without a copy.
        model_name: From the path.
        model_version: From the path; "" where it has none.
        json_bytes: Length of the JSON, from `header_length`.

    Raises:
        MessageError: The body is no request, or is cut short, or has bytes left over.
    """
    view = memoryview(body)
    head = json_object(view[:json_bytes])
    raw = _RawReader(view[len(view) if json_bytes is None else json_bytes :])
    listed = _objects(head, "inputs")
    inputs = tuple(_read_tensor(one, raw) for one in listed)
    raw.end()
    parameters = dict(_typed(head.get("parameters", {}), dict, "parameters"))
    all_raw = _typed(parameters.pop(_RAW_OUTPUTS, False), bool, _RAW_OUTPUTS)
    outputs = [(_name(one), _options(one)) for one in _objects(head, "outputs")]
    by_name = {
        name: _typed(options.get("binary_data", all_raw), bool, "binary_data")
        for name, options in outputs
    }
    request = InferRequest(
        model_name=model_name,
        model_version=model_version,
        inputs=inputs,
        id=_typed(head.get("id", ""), str, "id"),
        outputs=tuple(name for name, _ in outputs),
        parameters=parameters,
    )
    return request, OutputForms(all_raw, by_name)


def request_to_http(request: InferRequest) -> tuple[bytes, int]:
    """Writes a request, all tensors raw, and asks for raw outputs.

    Returns:
        The body, and the length of its JSON for the header.
    """
    head: dict[str, Any] = {"id": request.id} if request.id else {}
    head["parameters"] = {**request.parameters, _RAW_OUTPUTS: True}
    head["outputs"] = [{"name": name} for name in request.outputs]
    if not request.outputs:
        del head["outputs"]
    pieces = [tensor_to_raw(tensor) for tensor in request.inputs]
    head["inputs"] = [
        _described(tensor) | {"parameters": {_RAW_SIZE: len(piece)}}
        for tensor, piece in zip(request.inputs, pieces, strict=True)
    ]
    written = orjson.dumps(head)
    return b"".join([written, *pieces]), len(written)


def response_to_http(
    response: InferResponse, forms: OutputForms
) -> tuple[list[bytes | memoryview], int | None]:
    """Writes a response.

    Returns:
        The body in pieces, and the length of the first for the header; None where the body
        is JSON throughout.

    Raises:
        MessageError: JSON cannot say an output that is wanted so: NaN, or no UTF-8.
    """
    head: dict[str, Any] = {
        "model_name": response.model_name,
        "model_version": response.model_version,
    }
    if response.id:
        head["id"] = response.id
    if response.parameters:
        head["parameters"] = dict(response.parameters)
    head["outputs"], pieces = [], []
    for tensor in response.outputs:
        described = _described(tensor)
        if forms.is_raw(tensor.name):
            pieces.append(tensor_to_raw(tensor))
            described["parameters"] = {_RAW_SIZE: len(pieces[-1])}
        else:
            described["data"] = tensor_to_values(tensor)
        head["outputs"].append(described)
    written = orjson.dumps(head)
    return [written, *pieces], len(written) if pieces else None


def response_from_http(body: bytes, *, json_bytes: int | None = None) -> InferResponse:
    """Reads what `response_to_http` wrote.

    Raises:
        MessageError: The body is no response, or is cut short, or has bytes left over.
    """
    view = memoryview(body)
    head = json_object(view[:json_bytes])
    raw = _RawReader(view[len(view) if json_bytes is None else json_bytes :])
    outputs = tuple(_read_tensor(one, raw) for one in _objects(head, "outputs"))
    raw.end()
    return InferResponse(
        model_name=_typed(head.get("model_name"), str, "model_name"),
        model_version=_typed(head.get("model_version", ""), str, "model_version"),
        outputs=outputs,
        id=_typed(head.get("id", ""), str, "id"),
        parameters=_typed(head.get("parameters", {}), dict, "parameters"),
    )


class _RawReader:
    """Takes raw tensors off the end of a body, in their order."""

    def __init__(self, rest: memoryview) -> None:
        self._rest = rest

    def take(self, n_bytes: Any) -> memoryview:
        if type(n_bytes) is not int or not 0 <= n_bytes <= len(self._rest):
            raise _no_body(f"the raw tensors that {_RAW_SIZE} announces", "fewer bytes, or no size")
        piece, self._rest = self._rest[:n_bytes], self._rest[n_bytes:]
        return piece

    def end(self) -> None:
        if len(self._rest):
            raise _no_body("nothing after the raw tensors", f"{len(self._rest)} bytes more")


def _read_tensor(one: Mapping[str, Any], raw: _RawReader) -> InferTensor:
    name, options = _name(one), _options(one)
    datatype = _typed(one.get("datatype"), str, "datatype")
    shape = _typed(one.get("shape"), list, "shape")
    if _RAW_SIZE not in options:
        if "data" not in one:
            raise _no_body(f"data or {_RAW_SIZE} for each tensor", "neither")
        return tensor_from_values(name, datatype, shape, one["data"])
    if "data" in one:
        raise _no_body(f"data or {_RAW_SIZE} for each tensor", "both")
    return tensor_from_raw(name, datatype, shape, raw.take(options[_RAW_SIZE]))


def _described(tensor: InferTensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _objects(head: Mapping[str, Any], key: str) -> Sequence[dict[str, Any]]:
    listed = _typed(head.get(key, []), list, key)
    return [_typed(one, dict, f"element of {key}") for one in listed]


def _name(one: Mapping[str, Any]) -> str:
    return str(_typed(one.get("name"), str, "name"))


def _options(one: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = _typed(one.get("parameters", {}), dict, "parameters")
    for extension in _NOT_SERVED:
        if extension in options:
            raise MessageError(
                f"parameter {extension}",
                expected="tensors whole and in the body",
                found="an extension that is not served here",
                remedy="Leave the parameter out.",
            )
    return options


def _typed(value: Any, kind: type[Any], key: str) -> Any:
    if not isinstance(value, kind):
        raise _no_body(f"{key} as {_KINDS[kind]}", "another kind of value, or none")
    return value


_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}


def _no_body(expected: str, found: str) -> MessageError:
    return MessageError(
        "request body",
        expected=expected,
        found=found,
        remedy="See the Open Inference Protocol, and docs/serving.md.",
    )
