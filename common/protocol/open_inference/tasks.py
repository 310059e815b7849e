"""Which tasks an inference request of the Open Inference Protocol v2 means.

A model takes one modality, and its inputs are named after it:

    text            BYTES [n] or [n, 1]: n texts in UTF-8; parameter `language` (BCP 47)
    image           [H, W] or [H, W, C], any numbers
    volume          [D, H, W]; parameter `spacing_mm`, three numbers or "3.0,0.7,0.7"
    series          [T] or [T, K], oldest first
    tensor          any shape
    image_request   whole numbers [2]: resolution and seed
    table           each input is a column [n] or [n, 1] of one table; BYTES are texts

One more axis than stated, in front, makes a batch: a task for each row. Where the shape alone
does not say so ([N, H, W] might be one picture of W channels), the parameter `batch` does.
Other parameters become the tasks' parameters, those in the JSON text `task_parameters` too.

A request for a whole task (modality None) names each part: "image:scan" is an image part
"scan", "table:prices:close" a column; `language:scan` and `spacing_mm:scan` are theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from common.errors import MessageError
from common.protocol.open_inference.inference import InferRequest, InferTensor, array_of, tensor_of
from common.task import (
    Array,
    Image,
    ImageRequest,
    Part,
    Series,
    Table,
    Task,
    Tensor,
    Text,
    Volume,
)

__all__ = ["INPUTS", "request_of", "tasks_of"]

INPUTS: Mapping[str, tuple[tuple[str, str, tuple[int, ...]], ...]] = {
    "image": (("image", "FP32", (-1, -1, -1)),),
    "image_request": (("image_request", "INT64", (2,)),),
    "series": (("series", "FP64", (-1,)),),
    "table": (),
    "tensor": (("tensor", "FP32", (-1,)),),
    "text": (("text", "BYTES", (-1,)),),
    "volume": (("volume", "FP32", (-1, -1, -1)),),
}
"""Modality -> its inputs as metadata show them: name, a usual datatype, shape (-1: any length)."""

_DIMENSIONS = {"image": (2, 3), "image_request": (1,), "series": (1, 2), "volume": (3,)}
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_TASK_PARAMETERS = "task_parameters"
_NOT_SERVED = ("priority", "sequence_id", "sequence_start", "sequence_end")  # Triton's own


def tasks_of(request: InferRequest, modality: str | None) -> list[Task]:
    """Returns the tasks that a request means.

    Args:
        request: The request; its tensors are checked, their meaning is not.
        modality: What the model takes; None for a task of named parts.

    Raises:
        MessageError: An input is missing, unknown or of another shape or datatype than the
            modality has, or a parameter is not served or of no use.
        TaskError: A part cannot be what it is said to be.
    """
    options = _Options(request.parameters)
    named = _named_parts(request, modality)
    rows = {name: _part_rows(kind, name, found, options) for name, (kind, found) in named.items()}
    counts = {len(parts) for parts in rows.values()}
    if len(counts) != 1 or 0 in counts:
        raise _misfit("inputs", "one row or more, as many in each input", "none, or unequal ones")
    parameters = options.rest()
    return [
        Task({name: parts[row] for name, parts in rows.items()}, parameters)
        for row in range(counts.pop())
    ]


def request_of(task: Task, *, model_name: str) -> InferRequest:
    """Returns the request that means `task`, its parts named (`tasks_of` with None reads it).

    Raises:
        MessageError: The protocol has no datatype for an array in it.
    """
    inputs: list[InferTensor] = []
    parameters: dict[str, Any] = {}
    for name, part in task.parts.items():
        label = f"{part.modality}:{quote(name, safe='')}"
        if isinstance(part, Text):
            parameters[f"language:{name}"] = part.language
        if isinstance(part, Volume):
            parameters[f"spacing_mm:{name}"] = ",".join(map(repr, map(float, part.spacing_mm)))
        if isinstance(part, Table):
            for column, data in part.columns.items():
                inputs.append(tensor_of(f"{label}:{quote(column, safe='')}", data))
        else:
            inputs.append(tensor_of(label, _array_of(part)))
    if task.parameters:
        parameters[_TASK_PARAMETERS] = json.dumps(dict(task.parameters), sort_keys=True)
    return InferRequest(model_name, tuple(inputs), parameters=parameters)


class _Options:
    """A request's parameters; those that say how to read its inputs are taken out."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._left = dict(parameters)
        self._taken: set[str] = set()
        for name in _NOT_SERVED:
            if self._left.get(name):
                raise _misfit(f"parameter {name}", "none: it is not served", "a value")
            self._left.pop(name, None)
        self._left.pop("timeout", None)  # the server has read it
        self.batch = self._left.pop("batch", None)
        if self.batch is not None and not isinstance(self.batch, bool):
            raise _misfit("parameter batch", "true or false", "another value")

    def take(self, name: str, part: str, default: Any) -> Any:
        """Returns the parameter `name:part`, or else `name`."""
        self._taken |= {name, f"{name}:{part}"}
        return self._left.get(f"{name}:{part}", self._left.get(name, default))

    def rest(self) -> dict[str, Any]:
        """Returns the tasks' own parameters."""
        rest = {name: value for name, value in self._left.items() if name not in self._taken}
        document = rest.pop(_TASK_PARAMETERS, None)
        if document is None:
            return rest
        try:
            more = json.loads(document)
        except (TypeError, ValueError, RecursionError):
            more = None
        if not isinstance(more, dict):
            raise _misfit(f"parameter {_TASK_PARAMETERS}", "a JSON object as text", "another")
        return rest | more


_Found = Mapping[str, Array]  # column -> array; a part that is no table has the one column ""


def _named_parts(
    request: InferRequest, modality: str | None
) -> dict[str, tuple[str, dict[str, Array]]]:
    """Returns part name -> modality and arrays."""
    if modality == "table":
        return {"table": ("table", {tensor.name: tensor.data for tensor in request.inputs})}
    if modality is not None:
        if [tensor.name for tensor in request.inputs] != [modality]:
            given = ", ".join(repr(tensor.name[:40]) for tensor in request.inputs[:4])
            raise _misfit("inputs", f"the one input {modality!r}", given)
        return {modality: (modality, {"": request.inputs[0].data})}
    named: dict[str, tuple[str, dict[str, Array]]] = {}
    for tensor in request.inputs:
        kind, *names = tensor.name.split(":")
        if kind not in INPUTS or len(names) != (2 if kind == "table" else 1):
            raise _misfit("inputs", "names as <modality>:<part>", repr(tensor.name[:40]))
        part, column = names[0], names[1] if len(names) > 1 else ""
        known, found = named.setdefault(unquote(part), (kind, {}))
        if known != kind or unquote(column) in found:
            raise _misfit("inputs", "one modality for each part", "two")
        found[unquote(column)] = tensor.data
    return named


def _part_rows(kind: str, name: str, found: _Found, options: _Options) -> list[Part]:
    if kind == "table":
        return [Table({column: _column(column, data) for column, data in found.items()})]
    data = found[""]
    if kind == "text":
        language = options.take("language", name, "en")
        if not (isinstance(language, str) and _LANGUAGE.fullmatch(language)):
            raise _misfit("parameter language", "a BCP 47 tag", "another value")
        return [Text(text, language) for text in _texts(name, data)]
    if kind == "tensor":
        return _tensor_rows(array_of(InferTensor(name, data)), batch=bool(options.batch))
    if data.dtype.kind == "O":
        raise _misfit(f"input {name[:40]!r}", "numbers", "BYTES")
    rows = _rows(kind, data, batch=options.batch)
    if kind == "volume":
        spacing_mm = _spacing(options.take("spacing_mm", name, (1.0, 1.0, 1.0)))
        return [Volume(row, spacing_mm) for row in rows]
    if kind == "image_request":
        return [_image_request(row) for row in rows]
    return [Image(row) if kind == "image" else Series(row) for row in rows]


def _tensor_rows(values: Array, *, batch: bool) -> list[Part]:
    if not batch:
        return [Tensor(values)]
    if values.ndim == 0:
        raise _misfit("input 'tensor'", "an axis of rows in front, as batch says", "none")
    return [Tensor(row) for row in values]


def _rows(kind: str, data: Array, *, batch: bool | None) -> Array:
    """Returns the rows of a batch, or the one row, by their number of dimensions."""
    allowed = _DIMENSIONS[kind]
    is_batch = data.ndim > max(allowed) if batch is None else batch
    if data.ndim - is_batch not in allowed:
        plain = " or ".join(map(str, allowed))
        raise _misfit(f"input {kind!r}", f"{plain} axes, or one more for a batch", f"{data.ndim}")
    return data if is_batch else data[None]


def _texts(name: str, data: Array) -> list[str]:
    if data.dtype.kind != "O" or data.ndim not in {1, 2} or data.shape[1:] not in {(), (1,)}:
        raise _misfit(f"input {name[:40]!r}", "BYTES of shape [n] or [n, 1]", "another tensor")
    try:
        return [element.decode() for element in data.reshape(-1)]
    except UnicodeDecodeError:
        raise _misfit(f"input {name[:40]!r}", "texts in UTF-8", "other bytes") from None


def _column(name: str, data: Array) -> Array:
    if data.ndim not in {1, 2} or data.shape[1:] not in {(), (1,)}:
        raise _misfit(f"column {name[:40]!r}", "the shape [n] or [n, 1]", f"{data.ndim} axes")
    return array_of(InferTensor(name, data.reshape(-1)))


def _spacing(value: Any) -> tuple[float, float, float]:
    try:
        numbers = [float(x) for x in (value.split(",") if isinstance(value, str) else value)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 3 or not all(0 < number < 1e6 for number in numbers):
        raise _misfit("parameter spacing_mm", 'three numbers above 0, as "3.0,0.7,0.7"', "others")
    return (numbers[0], numbers[1], numbers[2])


def _image_request(row: Array) -> ImageRequest:
    if row.shape != (2,) or row.dtype.kind not in "iu":
        raise _misfit("input 'image_request'", "two whole numbers", "another tensor")
    return ImageRequest(int(row[0]), int(row[1]))


def _array_of(part: Part) -> Array:
    if isinstance(part, Text):
        return np.array([part.text.encode()], dtype=np.object_)
    if isinstance(part, ImageRequest):
        return np.array([part.resolution, part.seed], dtype=np.int64)
    if isinstance(part, Image):
        return part.pixels
    if isinstance(part, Volume):
        return part.voxels
    return part.values  # type: ignore[union-attr]  # a series or a tensor: tables came before


def _misfit(subject: str, expected: str, found: str) -> MessageError:
    return MessageError(
        subject,
        expected=expected,
        found=found,
        remedy="See the model's metadata, and docs/serving.md for how inputs are read.",
    )
