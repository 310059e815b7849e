"""Payloads as JSON values: the twin of link.proto, in the same words.

An array is `{"dtype": "float32", "shape": [2], "data": "<base64>"}`, its bytes little-endian
and in C order; an array of texts has `"dtype": "str"` and `"texts"` in place of `"data"`.
Reading never raises anything but MessageError and TooLargeError.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from common.errors import MessageError
from common.protocol.messages.arrays import (
    TEXTS,
    array_from_bytes,
    array_from_texts,
    bytes_of,
    dtype_name,
    texts_of,
)
from common.protocol.messages.json_reader import (
    fields_of,
    json_object,
    number_of,
    objects_of,
    reading_message,
    typed,
)
from common.protocol.messages.payloads import (
    ARRAY_PARTS,
    GradientFrame,
    LinkedAnswer,
    PartAnswer,
    Payload,
    SessionDelta,
    TransactionRecord,
)
from common.task import (
    Array,
    ImageRequest,
    Part,
    Provenance,
    Result,
    Table,
    Task,
    Text,
    Volume,
)

__all__ = [
    "array_from_json",
    "array_to_json",
    "payload_from_json",
    "payload_to_json",
    "result_from_json",
    "result_to_json",
    "task_from_json",
    "task_to_json",
]

Spacing = tuple[float, float, float]  # Volume itself checks that there are three


def array_to_json(array: Array) -> dict[str, Any]:
    """Returns an array as a JSON object.

    Raises:
        MessageError: The protocol has no name for its type, or a text is no Unicode.
    """
    form = {"dtype": dtype_name(array), "shape": list(array.shape)}
    if form["dtype"] == TEXTS:
        return form | {"texts": texts_of(array)}
    return form | {"data": b64encode(bytes_of(array)).decode()}


def array_from_json(form: Any) -> Array:
    """Returns the array that `array_to_json` described.

    Raises:
        MessageError: It describes none.
        TooLargeError: Its texts take too much room.
    """
    is_text = isinstance(form, Mapping) and form.get("dtype") == TEXTS
    content = "texts" if is_text else "data"
    found = fields_of(form, "array", ("dtype", "shape", content))
    dtype, shape = typed(found["dtype"], str, "array's dtype"), found["shape"]
    sizes = [typed(size, int, "array's shape") for size in typed(shape, list, "array's shape")]
    if is_text:
        texts = [typed(text, str, "array's texts") for text in typed(found[content], list, "array")]
        return array_from_texts(sizes, texts)
    try:
        data = b64decode(typed(found["data"], str, "array's data"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MessageError(
            "array's data",
            expected="base64 with its padding (RFC 4648 section 4)",
            found=f"something else ({type(error).__name__})",
            remedy="Encode the array's bytes anew.",
        ) from None
    return array_from_bytes(dtype, sizes, data)


def task_to_json(task: Task) -> dict[str, Any]:
    """Returns a task as a JSON object: `parts` by name, each with its `modality`; `parameters`.

    Raises:
        MessageError: An array is of a type that the protocol has not.
    """
    return {
        "parts": {name: _part_to_json(part) for name, part in task.parts.items()},
        "parameters": json.loads(task.parameters_json),
    }


def task_from_json(form: Any) -> Task:
    """Returns the task that `task_to_json` described; it has the same digest.

    Raises:
        MessageError: It describes none.
        TooLargeError: Texts in a table take too much room.
    """
    found = fields_of(form, "task", ("parts",), ("parameters",))
    parts = objects_of(found["parts"], "task's parts")
    parameters = json_object(found.get("parameters", {}), "task's parameters")
    with reading_message():
        return Task({name: _part_from_json(part) for name, part in parts.items()}, parameters)


def result_to_json(result: Result) -> dict[str, Any]:
    """Returns a result as a JSON object: `values`, and `arrays` by name.

    Raises:
        MessageError: A value is no JSON, or an array of a type that the protocol has not.
    """
    return {
        "values": json_object(result.values, "result's values"),
        "arrays": {name: array_to_json(array) for name, array in result.arrays.items()},
    }


def result_from_json(form: Any) -> Result:
    """Returns the result that `result_to_json` described.

    Raises:
        MessageError: It describes none.
        TooLargeError: An array's texts take too much room.
    """
    found = fields_of(form, "result", (), ("values", "arrays"))
    arrays = objects_of(found.get("arrays", {}), "result's arrays")
    values = json_object(found.get("values", {}), "result's values")
    with reading_message():
        return Result(values, {name: array_from_json(array) for name, array in arrays.items()})


def payload_to_json(payload: Payload) -> dict[str, Any]:
    """Returns any payload as a JSON object.

    Raises:
        MessageError: It holds something that the protocol has not.
    """
    return _WRITERS[type(payload)](payload)


def payload_from_json(kind: type[Payload], form: Any) -> Payload:
    """Returns the payload of type `kind` that `payload_to_json` described.

    Raises:
        MessageError: It describes none.
        TooLargeError: An array's texts take too much room.
    """
    payload: Payload = _READERS[kind](form)
    return payload


def _part_to_json(part: Part) -> dict[str, Any]:
    form: dict[str, Any] = {"modality": part.modality}
    if isinstance(part, Text):
        return form | {"text": part.text, "language": part.language}
    if isinstance(part, ImageRequest):
        return form | {"resolution": int(part.resolution), "seed": int(part.seed)}
    if isinstance(part, Volume):
        return form | {"voxels": array_to_json(part.voxels), "spacing_mm": list(part.spacing_mm)}
    if isinstance(part, Table):
        columns = {name: array_to_json(column) for name, column in part.columns.items()}
        return form | {"columns": columns}
    _, field = ARRAY_PARTS[part.modality]
    return form | {field: array_to_json(getattr(part, field))}


def _part_from_json(form: Any) -> Part:
    modality = form.get("modality") if isinstance(form, Mapping) else None
    if modality == "text":
        found = fields_of(form, "text part", ("modality", "text"), ("language",))
        text, language = found["text"], found.get("language", "en")
        return Text(typed(text, str, "text"), typed(language, str, "language"))
    if modality == "image_request":
        found = fields_of(form, "image request", ("modality", "resolution"), ("seed",))
        return ImageRequest(
            typed(found["resolution"], int, "resolution"), typed(found.get("seed", 0), int, "seed")
        )
    if modality == "volume":
        found = fields_of(form, "volume part", ("modality", "voxels", "spacing_mm"))
        sizes = typed(found["spacing_mm"], list, "spacing")
        spacing_mm = cast("Spacing", tuple(number_of(one, "spacing") for one in sizes))
        return Volume(array_from_json(found["voxels"]), spacing_mm)
    if modality == "table":
        found = fields_of(form, "table part", ("modality", "columns"))
        columns = objects_of(found["columns"], "table's columns")
        return Table({name: array_from_json(column) for name, column in columns.items()})
    kind, field = ARRAY_PARTS.get(modality, (None, "")) if isinstance(modality, str) else (None, "")
    if kind is None:
        raise MessageError(
            "part",
            expected="a modality among text, image, image_request, volume, series, table, tensor",
            found="another",
            remedy="Send one of these.",
        )
    return kind(array_from_json(fields_of(form, "part", ("modality", field))[field]))


def _answer_to_json(answer: LinkedAnswer) -> dict[str, Any]:
    return {
        "input_digest": answer.input_digest,
        "parts": {
            name: {
                "result": result_to_json(part.result),
                "provenance": part.provenance.to_json(),
                "reason": part.reason,
                "rejected": list(part.rejected),
                "cached": part.cached,
            }
            for name, part in answer.parts.items()
        },
    }


def _answer_from_json(form: Any) -> LinkedAnswer:
    found = fields_of(form, "answer", ("input_digest", "parts"))
    parts = objects_of(found["parts"], "answer's parts")
    return LinkedAnswer(
        typed(found["input_digest"], str, "input digest"),
        {name: _part_answer_from_json(part) for name, part in parts.items()},
    )


def _part_answer_from_json(form: Any) -> PartAnswer:
    keys = ("result", "provenance", "reason", "rejected", "cached")
    found = fields_of(form, "part's answer", keys)
    return PartAnswer(
        result_from_json(found["result"]),
        _provenance_from_json(found["provenance"]),
        reason=typed(found["reason"], str, "reason"),
        rejected=_texts(found["rejected"], "rejected"),
        cached=typed(found["cached"], bool, "cached"),
    )


def _provenance_from_json(form: Any) -> Provenance:
    required, optional = ("model", "model_digest", "input_digest"), ("adapter", "adapter_digest")
    found = fields_of(form, "provenance", (*required, "software"), optional)
    software = objects_of(found["software"], "software")
    given = {key: found[key] for key in optional if found.get(key) is not None}
    return Provenance(
        **{key: typed(found[key], str, key) for key in required},
        **{key: typed(value, str, key) for key, value in given.items()},
        software={name: typed(version, str, "version") for name, version in software.items()},
    )


def _delta_to_json(delta: SessionDelta) -> dict[str, Any]:
    changes = {
        key: {"result": result_to_json(value)}
        if isinstance(value, Result)
        else {"json": json_object({"value": value}, "change")["value"]}
        for key, value in delta.changes.items()
    }
    return {
        "session_id": delta.session_id,
        "base_version": delta.base_version,
        "changes": changes,
        "removed": list(delta.removed),
        "author": delta.author,
    }


def _delta_from_json(form: Any) -> SessionDelta:
    required = ("session_id", "base_version")
    found = fields_of(form, "session delta", required, ("changes", "removed", "author"))
    changes = objects_of(found.get("changes", {}), "session delta's changes")
    return SessionDelta(
        session_id=found["session_id"],
        base_version=found["base_version"],
        changes={key: _change_from_json(change) for key, change in changes.items()},
        removed=_texts(found.get("removed", []), "removed"),
        author=found.get("author", "client"),
    )


def _change_from_json(form: Any) -> Any:
    if isinstance(form, Mapping) and "result" in form:
        return result_from_json(fields_of(form, "change", ("result",))["result"])
    value = fields_of(form, "change", ("json",))["json"]
    return json_object({"value": value}, "change")["value"]


def _record_to_json(record: TransactionRecord) -> dict[str, Any]:
    return {
        "transaction_id": record.transaction_id,
        "step": record.step,
        "state": record.state,
        "idempotency_key": record.idempotency_key,
        "time": float(record.time),
    }


def _record_from_json(form: Any) -> TransactionRecord:
    keys = ("transaction_id", "step", "state", "idempotency_key", "time")
    found = fields_of(form, "transaction record", keys)
    return TransactionRecord(**{**found, "time": number_of(found["time"], "time")})


def _frame_to_json(frame: GradientFrame) -> dict[str, Any]:
    return {
        "round": frame.round,
        "site": frame.site,
        "n_samples": frame.n_samples,
        "tensors": {name: array_to_json(tensor) for name, tensor in frame.tensors.items()},
    }


def _frame_from_json(form: Any) -> GradientFrame:
    found = fields_of(form, "gradient frame", ("round", "site", "n_samples", "tensors"))
    tensors = objects_of(found["tensors"], "gradient frame's tensors")
    return GradientFrame(
        round=found["round"],
        site=found["site"],
        n_samples=found["n_samples"],
        tensors={name: array_from_json(tensor) for name, tensor in tensors.items()},
    )


def _texts(value: Any, subject: str) -> tuple[str, ...]:
    found: Sequence[Any] = typed(value, list, subject)
    return tuple(typed(text, str, subject) for text in found)


_WRITERS: dict[type[Payload], Callable[[Any], dict[str, Any]]] = {
    Task: task_to_json,
    Result: result_to_json,
    LinkedAnswer: _answer_to_json,
    SessionDelta: _delta_to_json,
    TransactionRecord: _record_to_json,
    GradientFrame: _frame_to_json,
}
_READERS: dict[type[Payload], Callable[[Any], Any]] = {
    Task: task_from_json,
    Result: result_from_json,
    LinkedAnswer: _answer_from_json,
    SessionDelta: _delta_from_json,
    TransactionRecord: _record_from_json,
    GradientFrame: _frame_from_json,
}
