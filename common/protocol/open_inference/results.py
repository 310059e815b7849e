"""Which output tensors of the Open Inference Protocol v2 say a model's results.

Every output has the rows in front. An array keeps its name where all rows agree in its shape
and type, else each row has its own, "row0:name", ...; JSON values are the output `values`, a
JSON text for each row; those that are numbers, booleans or texts in every row are outputs of
their own, too. An array with a name that means one of these comes as "array:name".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.errors import MessageError, ModelError
from common.protocol.open_inference.inference import InferResponse, InferTensor, array_of, tensor_of
from common.task import Array, Result

__all__ = ["VALUES", "outputs_of", "results_of", "select_outputs"]

VALUES = "values"
_TAKEN = re.compile(r"array:|row\d+:")
_ROW = re.compile(r"row(\d+):(.*)", re.S)


def outputs_of(results: Sequence[Result]) -> tuple[InferTensor, ...]:
    """Returns the tensors that say `results`, the rows in front.

    Raises:
        ModelError: A result holds values that are no JSON, or an array without a datatype.
    """
    try:
        return (*_array_outputs(results), *_value_outputs(results))
    except (MessageError, TypeError, ValueError) as error:
        raise ModelError(
            "model",
            expected="results of JSON values and arrays that the protocol has datatypes for",
            found=f"others ({type(error).__name__})",
            remedy="Call it through the link interface, or mend the model.",
        ) from error


def select_outputs(
    outputs: Sequence[InferTensor], wanted: Sequence[str]
) -> tuple[InferTensor, ...]:
    """Returns the outputs that were asked for, in that order; all where none was.

    Raises:
        MessageError: The model has no output of a name.
    """
    if not wanted:
        return tuple(outputs)
    by_name = {tensor.name: tensor for tensor in outputs}
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        raise MessageError(
            "requested outputs",
            expected=f"names among {', '.join(repr(name[:40]) for name in by_name)}",
            found=repr(unknown[0][:40]),
            remedy="Ask for outputs that the model has, or for none by name.",
        )
    return tuple(by_name[name] for name in wanted)


def results_of(response: InferResponse) -> list[Result]:
    """Returns the results that `outputs_of` wrote.

    Raises:
        MessageError: The outputs are not as it writes them.
    """
    by_name = {tensor.name: array_of(tensor) for tensor in response.outputs}
    if VALUES not in by_name:
        raise _no_results("response", f"an output {VALUES!r}")
    try:
        values = [json.loads(document) for document in by_name.pop(VALUES)]
        keys = {key for row in values for key in row}
    except (TypeError, ValueError):
        raise _no_results(f"output {VALUES!r}", "a JSON object for each row") from None
    arrays: list[dict[str, Array]] = [{} for _ in values]
    for name, data in by_name.items():
        if name in keys:
            continue  # a value, which `values` says already
        own = _ROW.fullmatch(name)
        if own is None:
            for row, found in zip(arrays, data, strict=False):
                row[name.removeprefix("array:")] = np.asarray(found)
        elif int(own[1]) < len(arrays):
            arrays[int(own[1])][own[2]] = data
    return [Result(value, array) for value, array in zip(values, arrays, strict=True)]


def _array_outputs(results: Sequence[Result]) -> list[InferTensor]:
    taken = {VALUES, *(key for result in results for key in result.values)}
    outputs = []
    for name in sorted({name for result in results for name in result.arrays}):
        rows = [result.arrays.get(name) for result in results]
        whole = [row for row in rows if row is not None]
        if len(whole) == len(rows) and len({_form(row) for row in whole}) == 1:
            label = f"array:{name}" if name in taken or _TAKEN.match(name) else name
            stacked = whole[0][None] if len(whole) == 1 else np.stack(whole)
            outputs.append(tensor_of(label, stacked))
        else:
            named = [(f"row{i}:{name}", row) for i, row in enumerate(rows) if row is not None]
            outputs += [tensor_of(label, row) for label, row in named]
    return outputs


def _form(array: Array) -> tuple[tuple[int, ...], str]:
    return array.shape, "texts" if array.dtype.kind == "U" else str(array.dtype)


def _value_outputs(results: Sequence[Result]) -> list[InferTensor]:
    documents = [
        json.dumps(dict(result.values), sort_keys=True, allow_nan=False).encode()
        for result in results
    ]
    outputs = [InferTensor(VALUES, _objects(documents))]
    for key in results[0].values if results else ():
        column = _column([result.values.get(key) for result in results])
        if key != VALUES and column is not None:
            outputs.append(tensor_of(key, column))
    return outputs


def _column(values: Sequence[Any]) -> Array | None:
    """Returns the values of all rows as one array; None where they are not of one plain kind."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return _objects([text.encode() for text in values])
    if kinds == {int} and all(-(1 << 63) <= number < 1 << 63 for number in values):
        return np.array(values, np.int64)
    if kinds in ({bool}, {float}):
        return np.array(values, np.bool_ if kinds == {bool} else np.float64)
    return None


def _objects(elements: Sequence[bytes]) -> Array:
    held = np.empty(len(elements), np.object_)
    held[:] = elements
    return held


def _no_results(subject: str, expected: str) -> MessageError:
    return MessageError(
        subject,
        expected=expected,
        found="another",
        remedy="Read only responses of this server's models.",
    )
