"""The Open Inference Protocol v2 in Protobuf messages; `open_inference.proto` names them.

Requests are read in both forms of the protocol, raw and typed lists; responses are raw, which
every client reads and which FP16 and BF16 need. Raw contents stay where they lie in the
message (`common.protocol.messages.buffers`): the protobuf library would copy each several times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from common.errors import MessageError
from common.protocol.messages.buffers import join_message, split_message
from common.protocol.open_inference import open_inference_pb2 as pb2
from common.protocol.open_inference.inference import (
    InferRequest,
    InferResponse,
    InferTensor,
    tensor_from_raw,
    tensor_from_values,
    tensor_to_raw,
)

__all__ = [
    "parameters_of",
    "request_from_message",
    "request_to_message",
    "response_from_message",
    "response_to_message",
]

_RAW_INPUTS, _RAW_OUTPUTS = 7, 6  # fields of ModelInferRequest and ModelInferResponse
M = TypeVar("M", bound=Message)
# Datatype -> the list of InferTensorContents that holds its elements.
_LISTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def request_from_message(message: bytes) -> InferRequest:
    """Reads a serialised `ModelInferRequest`.

    Raises:
        MessageError: The bytes are no such message, or a tensor in it is not as it says.
    """
    read, raw = _read(pb2.ModelInferRequest, message, _RAW_INPUTS)
    return InferRequest(
        model_name=read.model_name,
        model_version=read.model_version,
        inputs=_tensors(read.inputs, raw),
        id=read.id,
        outputs=tuple(_requested(output) for output in read.outputs),
        parameters=parameters_of(read.parameters),
    )


def request_to_message(request: InferRequest) -> bytes:
    """Writes a `ModelInferRequest`, all tensors raw.

    Raises:
        MessageError: A parameter is neither boolean, number nor text.
    """
    message = pb2.ModelInferRequest(
        model_name=request.model_name, model_version=request.model_version, id=request.id
    )
    for name in request.outputs:
        message.outputs.add(name=name)
    _write(message.parameters, request.parameters)
    for tensor in request.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    raw = [tensor_to_raw(tensor) for tensor in request.inputs]
    return join_message(message.SerializeToString(), raw, field=_RAW_INPUTS)


def response_to_message(response: InferResponse) -> bytes:
    """Writes a `ModelInferResponse`, all outputs raw.

    Raises:
        MessageError: A parameter is neither boolean, number nor text.
    """
    message = pb2.ModelInferResponse(
        model_name=response.model_name, model_version=response.model_version, id=response.id
    )
    _write(message.parameters, response.parameters)
    for tensor in response.outputs:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    raw = [tensor_to_raw(tensor) for tensor in response.outputs]
    return join_message(message.SerializeToString(), raw, field=_RAW_OUTPUTS)


def response_from_message(message: bytes) -> InferResponse:
    """Reads a serialised `ModelInferResponse`.

    Raises:
        MessageError: The bytes are no such message, or a tensor in it is not as it says.
    """
    read, raw = _read(pb2.ModelInferResponse, message, _RAW_OUTPUTS)
    return InferResponse(
        model_name=read.model_name,
        model_version=read.model_version,
        outputs=_tensors(read.outputs, raw),
        id=read.id,
        parameters=parameters_of(read.parameters),
    )


def parameters_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the plain values of a message's parameters; one without a value is left out."""
    found = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is not None:
            found[name] = getattr(parameter, kind)
    return found


def _read(kind: type[M], message: bytes, field: int) -> tuple[M, list[memoryview]]:
    """Returns a message without its raw contents, and these as views."""
    head, extents = split_message(message, field=field)
    whole = memoryview(message)
    try:
        read = kind.FromString(head)
    except DecodeError:
        raise _no_message(f"a {kind.DESCRIPTOR.name}", "bytes that are none") from None
    return read, [whole[one.offset : one.offset + one.size] for one in extents]


def _write(parameters: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        kind = {bool: "bool_param", str: "string_param", float: "double_param"}.get(type(value))
        if type(value) is int and -(1 << 63) <= value < 1 << 64:
            kind = "int64_param" if value < 1 << 63 else "uint64_param"
        if kind is None:
            raise _no_message("parameters that are booleans, numbers or texts", "another kind")
        setattr(parameters[name], kind, value)


def _tensors(described: Any, raw: Any) -> tuple[InferTensor, ...]:
    if not raw:
        return tuple(_from_contents(one) for one in described)
    if len(raw) != len(described):
        raise _no_message("raw contents for every tensor or for none", "some of them")
    if any(one.HasField("contents") for one in described):
        raise _no_message("raw contents or typed contents", "both")
    return tuple(
        tensor_from_raw(one.name, one.datatype, tuple(one.shape), piece)
        for one, piece in zip(described, raw, strict=True)
    )


def _from_contents(one: Any) -> InferTensor:
    """Reads a tensor from the one list that its datatype has; the others have to be empty."""
    filled = {field.name for field, _ in one.contents.ListFields()}
    expected = _LISTS.get(one.datatype)
    if expected is None and filled:
        raise _no_message(f"raw contents for datatype {one.datatype[:16]!r}", "typed contents")
    if filled - {expected}:
        raise _no_message(f"{expected} for datatype {one.datatype}", "another list of contents")
    values = list(getattr(one.contents, expected)) if expected else []
    return tensor_from_values(one.name, one.datatype, tuple(one.shape), values)


def _requested(output: Any) -> str:
    if "classification" in output.parameters or "shared_memory_region" in output.parameters:
        raise _no_message("outputs whole and in the message", "an extension that is not served")
    return str(output.name)


def _no_message(expected: str, found: str) -> MessageError:
    return MessageError(
        "inference message",
        expected=expected,
        found=found,
        remedy="See the Open Inference Protocol, and docs/serving.md.",
    )
