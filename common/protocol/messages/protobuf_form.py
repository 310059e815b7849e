"""Payloads as messages of link.proto, their arrays beside them in the order of use.

Reading never raises anything but MessageError and TooLargeError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from common.content import json_text
from common.errors import InputError, MessageError
from common.protocol.messages.arrays import (
    TEXTS,
    array_from_bytes,
    array_from_texts,
    bytes_of,
    dtype_name,
    texts_of,
)
from common.protocol.messages.buffers import LARGEST_HEAD_BYTES, Extent
from common.protocol.messages.json_reader import json_object, read_json, reading_message
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

__all__ = ["Buffers", "read_payload", "write_payload"]

T = TypeVar("T")


class Buffers:
    """The buffers of a message that was received; each belongs to one array.

    Args:
        message: The whole message.
        extents: Where the buffers lie in it.
    """

    def __init__(self, message: bytes, extents: Sequence[Extent]) -> None:
        self._message = message
        self._extents = extents
        self._unused = set(range(len(extents)))

    def take(self, index: int) -> tuple[bytes, Extent]:
        """Returns the message and where buffer `index` lies in it.

        Raises:
            MessageError: There is none, or another array has taken it.
        """
        if index not in self._unused:
            raise MessageError(
                "array",
                expected=f"a buffer of its own among {len(self._extents)}",
                found="one that is absent, or belongs to another array",
                remedy="Send each array's buffer once.",
            )
        self._unused.remove(index)
        return self._message, self._extents[index]

    def require_empty(self) -> None:
        """Raises MessageError where a buffer belongs to no array."""
        if self._unused:
            raise MessageError(
                "message",
                expected="buffers that belong to an array each",
                found=f"{len(self._unused)} more",
                remedy="Send no others.",
            )


def write_payload(payload: Payload, message: Any, buffers: list[memoryview]) -> None:
    """Writes a payload into a message of its own type.

    Args:
        payload: What to write.
        message: An empty message of link_pb2.
        buffers: The bytes of its arrays are added here; none is copied.

    Raises:
        MessageError: It holds something that the protocol has not.
    """
    try:
        _WRITERS[type(payload)](payload, message, buffers)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise MessageError(
            "payload",
            expected="fields of the types that common.task and messages.payloads name",
            found=f"another ({type(error).__name__})",
            remedy="Construct it with these types.",
        ) from None


def read_payload(kind: type[Payload], message: Any, buffers: Buffers) -> Payload:
    """Returns the payload of type `kind` in a message.

    Raises:
        MessageError: It holds none.
        TooLargeError: An array's texts take too much room.
    """
    with reading_message():
        payload: Payload = _READERS[kind](message, buffers)
    buffers.require_empty()
    return payload


def _write_array(array: Array, message: Any, buffers: list[memoryview]) -> None:
    message.dtype = dtype_name(array)
    message.shape.extend(array.shape)
    if message.dtype == TEXTS:
        message.texts.extend(texts_of(array))
    else:
        message.buffer = len(buffers)
        buffers.append(bytes_of(array))


def _read_array(message: Any, buffers: Buffers) -> Array:
    dtype, shape = message.dtype, list(message.shape)
    has_buffer = message.HasField("buffer")
    if has_buffer == (dtype == TEXTS) or (has_buffer and message.texts):
        raise MessageError(
            "array",
            expected="a buffer, or texts where the dtype is str",
            found="none of them, or both",
            remedy="Send one of them.",
        )
    if dtype == TEXTS:
        return array_from_texts(shape, list(message.texts))
    whole, extent = buffers.take(message.buffer)
    return array_from_bytes(dtype, shape, whole, offset=extent.offset, size=extent.size)


def _write_arrays(arrays: Mapping[str, Array], messages: Any, buffers: list[memoryview]) -> None:
    for name, array in arrays.items():
        _write_array(array, messages.add(name=name), buffers)


def _read_arrays(messages: Any, subject: str, buffers: Buffers) -> dict[str, Array]:
    return _by_name(((one.name, _read_array(one, buffers)) for one in messages), subject)


def _write_task(task: Task, message: Any, buffers: list[memoryview]) -> None:
    for name, part in task.parts.items():
        _write_part(part, message.parts.add(name=name), buffers)
    if task.parameters:
        message.parameters_json = task.parameters_json


def _read_task(message: Any, buffers: Buffers) -> Task:
    parts = ((one.name, _read_part(one, buffers)) for one in message.parts)
    return Task(
        _by_name(parts, "task's parts"), _read_object(message.parameters_json, "task's parameters")
    )


def _write_part(part: Part, message: Any, buffers: list[memoryview]) -> None:
    if isinstance(part, Text):
        message.text.text, message.text.language = part.text, part.language
    elif isinstance(part, ImageRequest):
        message.image_request.resolution = int(part.resolution)
        message.image_request.seed = int(part.seed)
    elif isinstance(part, Volume):
        _write_array(part.voxels, message.volume.voxels, buffers)
        message.volume.spacing_mm.extend(part.spacing_mm)
    elif isinstance(part, Table):
        _write_arrays(part.columns, message.table.columns, buffers)
    else:
        _, field = ARRAY_PARTS[part.modality]
        _write_array(getattr(part, field), getattr(message, part.modality), buffers)


def _read_part(message: Any, buffers: Buffers) -> Part:
    modality = message.WhichOneof("content")
    if modality is None:
        raise MessageError(
            "part",
            expected="a text, image, image_request, volume, series, table or tensor",
            found="none",
            remedy="Send one, or update this program if the sender is of a later version.",
        )
    content = getattr(message, modality)
    if modality == "text":
        return Text(content.text, content.language if content.HasField("language") else "en")
    if modality == "image_request":
        return ImageRequest(content.resolution, seed=content.seed)
    if modality == "volume":
        return Volume(_read_array(content.voxels, buffers), tuple(content.spacing_mm))
    if modality == "table":
        return Table(_read_arrays(content.columns, "table's columns", buffers))
    kind, _ = ARRAY_PARTS[modality]
    return kind(_read_array(content, buffers))


def _write_result(result: Result, message: Any, buffers: list[memoryview]) -> None:
    message.SetInParent()  # a result without values is one all the same
    if result.values:
        with reading_message():
            message.values_json = json_text(dict(result.values), "result's values")
    _write_arrays(result.arrays, message.arrays, buffers)


def _read_result(message: Any, buffers: Buffers) -> Result:
    values = json_object(_read_object(message.values_json, "result's values"), "result's values")
    return Result(values, _read_arrays(message.arrays, "result's arrays", buffers))


def _write_answer(answer: LinkedAnswer, message: Any, buffers: list[memoryview]) -> None:
    message.input_digest = answer.input_digest
    for name, part in answer.parts.items():
        one = message.parts.add(
            name=name, reason=part.reason, rejected=part.rejected, cached=part.cached
        )
        _write_result(part.result, one.result, buffers)
        _write_provenance(part.provenance, one.provenance)


def _read_answer(message: Any, buffers: Buffers) -> LinkedAnswer:
    parts = (
        (
            one.name,
            PartAnswer(
                _read_result(one.result, buffers),
                _read_provenance(one.provenance),
                reason=one.reason,
                rejected=tuple(one.rejected),
                cached=one.cached,
            ),
        )
        for one in message.parts
    )
    return LinkedAnswer(message.input_digest, _by_name(parts, "answer's parts"))


def _write_provenance(provenance: Provenance, message: Any) -> None:
    message.model = provenance.model
    message.model_digest = provenance.model_digest
    message.input_digest = provenance.input_digest
    if provenance.adapter is not None:
        message.adapter = provenance.adapter
    if provenance.adapter_digest is not None:
        message.adapter_digest = provenance.adapter_digest
    for name, version in sorted(provenance.software.items()):
        message.software.add(name=name, version=version)


def _read_provenance(message: Any) -> Provenance:
    return Provenance(
        model=message.model,
        model_digest=message.model_digest,
        input_digest=message.input_digest,
        adapter=message.adapter if message.HasField("adapter") else None,
        adapter_digest=message.adapter_digest if message.HasField("adapter_digest") else None,
        software=_by_name(((one.name, one.version) for one in message.software), "software"),
    )


def _write_delta(delta: SessionDelta, message: Any, buffers: list[memoryview]) -> None:
    message.session_id = delta.session_id
    message.base_version = delta.base_version
    message.author = delta.author
    message.removed.extend(delta.removed)
    for key, value in delta.changes.items():
        change = message.changes.add(key=key)
        if isinstance(value, Result):
            _write_result(value, change.result, buffers)
        else:
            with reading_message():
                change.json = json_text(value, "change")


def _read_delta(message: Any, buffers: Buffers) -> SessionDelta:
    changes = ((one.key, _read_change(one, buffers)) for one in message.changes)
    return SessionDelta(
        session_id=message.session_id,
        base_version=message.base_version,
        changes=_by_name(changes, "session delta's changes"),
        removed=tuple(message.removed),
        author=message.author or "client",
    )


def _read_change(message: Any, buffers: Buffers) -> Any:
    if message.WhichOneof("value") == "result":
        return _read_result(message.result, buffers)
    value = read_json(message.json, subject="change", max_bytes=LARGEST_HEAD_BYTES)
    return json_object({"value": value}, "change")["value"]


def _write_record(record: TransactionRecord, message: Any, _: list[memoryview]) -> None:
    for field in ("transaction_id", "step", "state", "idempotency_key", "time"):
        setattr(message, field, getattr(record, field))


def _read_record(message: Any, _: Buffers) -> TransactionRecord:
    return TransactionRecord(
        transaction_id=message.transaction_id,
        step=message.step,
        state=message.state,
        idempotency_key=message.idempotency_key,
        time=message.time,
    )


def _write_frame(frame: GradientFrame, message: Any, buffers: list[memoryview]) -> None:
    message.round, message.site, message.n_samples = frame.round, frame.site, frame.n_samples
    _write_arrays(frame.tensors, message.tensors, buffers)


def _read_frame(message: Any, buffers: Buffers) -> GradientFrame:
    return GradientFrame(
        round=message.round,
        site=message.site,
        n_samples=message.n_samples,
        tensors=_read_arrays(message.tensors, "gradient frame's tensors", buffers),
    )


def _read_object(text: str, subject: str) -> Any:
    value = read_json(text or "{}", subject=subject, max_bytes=LARGEST_HEAD_BYTES)
    if not isinstance(value, dict):
        raise MessageError(
            subject, expected="an object", found=type(value).__name__, remedy="Send an object."
        )
    return value


def _by_name(pairs: Iterable[tuple[str, T]], subject: str) -> dict[str, T]:
    listed = list(pairs)
    found = dict(listed)
    if len(found) != len(listed):
        raise MessageError(
            subject,
            expected="each name once",
            found="a name that stands twice",
            remedy="Name each differently.",
        )
    return found


_WRITERS: dict[type[Payload], Callable[[Any, Any, list[memoryview]], None]] = {
    Task: _write_task,
    Result: _write_result,
    LinkedAnswer: _write_answer,
    SessionDelta: _write_delta,
    TransactionRecord: _write_record,
    GradientFrame: _write_frame,
}
_READERS: dict[type[Payload], Callable[[Any, Buffers], Any]] = {
    Task: _read_task,
    Result: _read_result,
    LinkedAnswer: _read_answer,
    SessionDelta: _read_delta,
    TransactionRecord: _read_record,
    GradientFrame: _read_frame,
}
