from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers

DESCRIPTOR: _descriptor.FileDescriptor

class Envelope(_message.Message):
    __slots__ = (
        "answer",
        "buffers",
        "deadline_ms",
        "gradient_frame",
        "id",
        "padding",
        "result",
        "session_delta",
        "task",
        "trace_id",
        "transaction_record",
        "version",
    )
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    SESSION_DELTA_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_RECORD_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FRAME_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    version: int
    id: str
    trace_id: str
    deadline_ms: int
    task: Task
    result: Result
    answer: Answer
    session_delta: SessionDelta
    transaction_record: TransactionRecord
    gradient_frame: GradientFrame
    padding: bytes
    buffers: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(
        self,
        version: int | None = ...,
        id: str | None = ...,
        trace_id: str | None = ...,
        deadline_ms: int | None = ...,
        task: Task | _Mapping | None = ...,
        result: Result | _Mapping | None = ...,
        answer: Answer | _Mapping | None = ...,
        session_delta: SessionDelta | _Mapping | None = ...,
        transaction_record: TransactionRecord | _Mapping | None = ...,
        gradient_frame: GradientFrame | _Mapping | None = ...,
        padding: bytes | None = ...,
        buffers: _Iterable[bytes] | None = ...,
    ) -> None: ...

class Array(_message.Message):
    __slots__ = ("buffer", "dtype", "name", "shape", "texts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    BUFFER_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    buffer: int
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(
        self,
        name: str | None = ...,
        dtype: str | None = ...,
        shape: _Iterable[int] | None = ...,
        buffer: int | None = ...,
        texts: _Iterable[str] | None = ...,
    ) -> None: ...

class Text(_message.Message):
    __slots__ = ("language", "text")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    text: str
    language: str
    def __init__(self, text: str | None = ..., language: str | None = ...) -> None: ...

class ImageRequest(_message.Message):
    __slots__ = ("resolution", "seed")
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    resolution: int
    seed: int
    def __init__(self, resolution: int | None = ..., seed: int | None = ...) -> None: ...

class Volume(_message.Message):
    __slots__ = ("spacing_mm", "voxels")
    VOXELS_FIELD_NUMBER: _ClassVar[int]
    SPACING_MM_FIELD_NUMBER: _ClassVar[int]
    voxels: Array
    spacing_mm: _containers.RepeatedScalarFieldContainer[float]
    def __init__(
        self,
        voxels: Array | _Mapping | None = ...,
        spacing_mm: _Iterable[float] | None = ...,
    ) -> None: ...

class Table(_message.Message):
    __slots__ = ("columns",)
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[Array]
    def __init__(self, columns: _Iterable[Array | _Mapping] | None = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("image", "image_request", "name", "series", "table", "tensor", "text", "volume")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: Text
    image: Array
    image_request: ImageRequest
    volume: Volume
    series: Array
    table: Table
    tensor: Array
    def __init__(
        self,
        name: str | None = ...,
        text: Text | _Mapping | None = ...,
        image: Array | _Mapping | None = ...,
        image_request: ImageRequest | _Mapping | None = ...,
        volume: Volume | _Mapping | None = ...,
        series: Array | _Mapping | None = ...,
        table: Table | _Mapping | None = ...,
        tensor: Array | _Mapping | None = ...,
    ) -> None: ...

class Task(_message.Message):
    __slots__ = ("parameters_json", "parts")
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    parameters_json: str
    def __init__(
        self,
        parts: _Iterable[Part | _Mapping] | None = ...,
        parameters_json: str | None = ...,
    ) -> None: ...

class Result(_message.Message):
    __slots__ = ("arrays", "values_json")
    VALUES_JSON_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    values_json: str
    arrays: _containers.RepeatedCompositeFieldContainer[Array]
    def __init__(
        self,
        values_json: str | None = ...,
        arrays: _Iterable[Array | _Mapping] | None = ...,
    ) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("adapter", "adapter_digest", "input_digest", "model", "model_digest", "software")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    INPUT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_digest: str
    adapter: str
    adapter_digest: str
    input_digest: str
    software: _containers.RepeatedCompositeFieldContainer[Package]
    def __init__(
        self,
        model: str | None = ...,
        model_digest: str | None = ...,
        adapter: str | None = ...,
        adapter_digest: str | None = ...,
        input_digest: str | None = ...,
        software: _Iterable[Package | _Mapping] | None = ...,
    ) -> None: ...

class Package(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: str | None = ..., version: str | None = ...) -> None: ...

class PartAnswer(_message.Message):
    __slots__ = ("cached", "name", "provenance", "reason", "rejected", "result")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    name: str
    result: Result
    provenance: Provenance
    reason: str
    rejected: _containers.RepeatedScalarFieldContainer[str]
    cached: bool
    def __init__(
        self,
        name: str | None = ...,
        result: Result | _Mapping | None = ...,
        provenance: Provenance | _Mapping | None = ...,
        reason: str | None = ...,
        rejected: _Iterable[str] | None = ...,
        cached: bool | None = ...,
    ) -> None: ...

class Answer(_message.Message):
    __slots__ = ("input_digest", "parts")
    INPUT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    input_digest: str
    parts: _containers.RepeatedCompositeFieldContainer[PartAnswer]
    def __init__(
        self,
        input_digest: str | None = ...,
        parts: _Iterable[PartAnswer | _Mapping] | None = ...,
    ) -> None: ...

class Change(_message.Message):
    __slots__ = ("json", "key", "result")
    KEY_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    key: str
    json: str
    result: Result
    def __init__(
        self,
        key: str | None = ...,
        json: str | None = ...,
        result: Result | _Mapping | None = ...,
    ) -> None: ...

class SessionDelta(_message.Message):
    __slots__ = ("author", "base_version", "changes", "removed", "session_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    base_version: int
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    removed: _containers.RepeatedScalarFieldContainer[str]
    author: str
    def __init__(
        self,
        session_id: str | None = ...,
        base_version: int | None = ...,
        changes: _Iterable[Change | _Mapping] | None = ...,
        removed: _Iterable[str] | None = ...,
        author: str | None = ...,
    ) -> None: ...

class TransactionRecord(_message.Message):
    __slots__ = ("idempotency_key", "state", "step", "time", "transaction_id")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    step: str
    state: str
    idempotency_key: str
    time: float
    def __init__(
        self,
        transaction_id: str | None = ...,
        step: str | None = ...,
        state: str | None = ...,
        idempotency_key: str | None = ...,
        time: float | None = ...,
    ) -> None: ...

class GradientFrame(_message.Message):
    __slots__ = ("n_samples", "round", "site", "tensors")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    N_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    round: int
    site: str
    n_samples: int
    tensors: _containers.RepeatedCompositeFieldContainer[Array]
    def __init__(
        self,
        round: int | None = ...,
        site: str | None = ...,
        n_samples: int | None = ...,
        tensors: _Iterable[Array | _Mapping] | None = ...,
    ) -> None: ...
