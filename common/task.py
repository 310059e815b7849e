"""What goes into a model and what comes out: tasks, their parts, results, provenance.

Everything here is frozen and valid once constructed; arrays are made read-only, in C order
and little-endian, so that equal content has equal bytes on every machine. Axis order:
images `H W` or `H W C`, volumes `D H W`, series `T`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

from common.content import (
    Array,
    array_digest,
    digest_of,
    json_text,
    read_only,
    require_unicode,
)
from common.errors import TaskError

__all__ = [
    "Array",
    "Image",
    "ImageRequest",
    "Part",
    "Provenance",
    "Result",
    "Series",
    "Table",
    "Task",
    "Tensor",
    "Text",
    "Volume",
    "digest_of",
]


def _spacing(spacing_mm: Sequence[float]) -> tuple[float, float, float]:
    try:
        d, h, w = (float(value) for value in spacing_mm)
    except (TypeError, ValueError, OverflowError):
        d = h = w = math.nan
    if not (math.isfinite(d + h + w) and min(d, h, w) > 0):
        raise TaskError(
            "volume part",
            expected="a spacing of three millimetres above 0",
            found="something else",
            remedy="Give spacing_mm in the order D, H, W.",
        )
    return d, h, w


def _require_dimensions(array: Array, allowed: tuple[int, ...], subject: str) -> None:
    if array.ndim not in allowed or array.size == 0:
        raise TaskError(
            subject,
            expected=f"a non-empty array of {' or '.join(map(str, allowed))} dimensions",
            found=f"shape {array.shape}",
            remedy="Give the array in the axis order of common.task.",
        )


@dataclass(frozen=True)
class Text:
    """Plain text in one language (`language` is a BCP 47 tag)."""

    modality: ClassVar[str] = "text"
    text: str
    language: str = "en"

    def __post_init__(self) -> None:
        require_unicode([self.text, self.language], "text part")

    @cached_property
    def content_digest(self) -> str:
        """The sha256 of language and text, taken once."""
        return digest_of(self.language.encode(), self.text.encode())


@dataclass(frozen=True)
class Image:
    """One picture: `pixels` `(H, W)` or `(H, W, C)`."""

    modality: ClassVar[str] = "image"
    pixels: Array

    def __post_init__(self) -> None:
        _require_dimensions(self.pixels, (2, 3), "image part")
        object.__setattr__(self, "pixels", read_only(self.pixels))

    @cached_property
    def content_digest(self) -> str:
        """The sha256 of type, shape and values, taken once."""
        return array_digest(self.pixels)


@dataclass(frozen=True)
class ImageRequest:
    """A picture that a model has to make at `resolution` x `resolution` pixels."""

    modality: ClassVar[str] = "image_request"
    resolution: int
    seed: int = 0

    def __post_init__(self) -> None:
        whole = isinstance(self.resolution, int) and isinstance(self.seed, int)
        if not (whole and 1 <= self.resolution <= 8192 and -(1 << 63) <= self.seed < 1 << 63):
            raise TaskError(
                "image request",
                expected="a resolution of 1 to 8192 pixels and a seed of 64 bits, whole numbers",
                found=f"{self.resolution!r:.20} and {self.seed!r:.20}",
                remedy="Set image_params.resolution and seed within these bounds.",
            )

    @cached_property
    def content_digest(self) -> str:
        """The sha256 of resolution and seed."""
        return digest_of(f"{int(self.resolution)}:{int(self.seed)}".encode())


@dataclass(frozen=True)
class Volume:
    """A stack of slices: `voxels` `(D, H, W)` with `spacing_mm` in the same order."""

    modality: ClassVar[str] = "volume"
    voxels: Array
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _require_dimensions(self.voxels, (3,), "volume part")
        object.__setattr__(self, "spacing_mm", _spacing(self.spacing_mm))
        object.__setattr__(self, "voxels", read_only(self.voxels))

    @cached_property
    def content_digest(self) -> str:
        """The sha256 of type, shape and values, taken once."""
        return array_digest(self.voxels, repr(self.spacing_mm))


@dataclass(frozen=True)
class Series:
    """A regular time series: `values` `(T,)` or `(T, K)`, oldest first."""

    modality: ClassVar[str] = "series"
    values: Array

    def __post_init__(self) -> None:
        _require_dimensions(self.values, (1, 2), "series part")
        object.__setattr__(self, "values", read_only(self.values))

    @cached_property
    def content_digest(self) -> str:
        """The sha256 of type, shape and values, taken once."""
        return array_digest(self.values)


@dataclass(frozen=True)
class Table:
    """Named columns of equal length."""

    modality: ClassVar[str] = "table"
    columns: Mapping[str, Array]

    def __post_init__(self) -> None:
        shapes = {column.shape for column in self.columns.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise TaskError(
                "table part",
                expected="columns of one dimension and one length",
                found=f"shapes {sorted(shapes)[:3]}",
                remedy="Give every column the same number of rows.",
            )
        require_unicode(self.columns, "names of a table's columns")
        frozen = {name: read_only(column) for name, column in self.columns.items()}
        object.__setattr__(self, "columns", MappingProxyType(frozen))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Table, (dict(self.columns),))  # a mapping proxy cannot be copied or carried

    @cached_property
    def content_digest(self) -> str:
        """The sha256 of the columns' names, types and values, taken once."""
        pieces = []
        for name in sorted(self.columns):
            pieces += [name.encode(), array_digest(self.columns[name]).encode()]
        return digest_of(*pieces)


@dataclass(frozen=True)
class Tensor:
    """An array without a modality of its own, such as an embedding."""

    modality: ClassVar[str] = "tensor"
    values: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", read_only(self.values))

    @cached_property
    def content_digest(self) -> str:
        """The sha256 of type, shape and values, taken once."""
        return array_digest(self.values)


Part = Text | Image | ImageRequest | Volume | Series | Table | Tensor


@dataclass(frozen=True)
class Task:
    """Named parts for one or more models, and what is wanted of them.

    Args:
        parts: Part name to part; names are free ("text", "image", "second_image").
        parameters: Options for the models, JSON values only; part of the cache key.
    """

    parts: Mapping[str, Part]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parts:
            raise TaskError(
                "task",
                expected="at least one part",
                found="none",
                remedy="Add a text, image, volume, series, table or tensor part.",
            )
        require_unicode(self.parts, "names of a task's parts")
        # read back: a copy of its own all the way down
        parameters = json.loads(self.parameters_json) if self.parameters else {}
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))
        object.__setattr__(self, "parameters", MappingProxyType(parameters))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Task, (dict(self.parts), dict(self.parameters)))

    @cached_property
    def parameters_json(self) -> str:
        """The parameters as the one JSON text that `json_text` gives them."""
        return json_text(dict(self.parameters), "task parameters") if self.parameters else "{}"

    def digest(self) -> str:
        """Returns the sha256 of the task's parts and parameters."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        # Cache key and provenance both ask for it, and a volume takes a while to hash.
        pieces = []
        for name in sorted(self.parts):
            part = self.parts[name]
            pieces += [name.encode(), part.modality.encode(), part.content_digest.encode()]
        pieces.append(self.parameters_json.encode())
        return digest_of(*pieces)


@dataclass(frozen=True)
class Result:
    """What one model returns for one task.

    Args:
        values: JSON values, by name.
        arrays: Numeric arrays, by name; read-only.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_unicode(self.arrays, "names of a result's arrays")
        frozen = {name: read_only(array) for name, array in self.arrays.items()}
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))
        object.__setattr__(self, "arrays", MappingProxyType(frozen))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Result, (dict(self.values), dict(self.arrays)))


@dataclass(frozen=True)
class Provenance:
    """Where an answer comes from.

    Args:
        model: Name of the model.
        model_digest: sha256 of its weights and configuration.
        adapter: Name of the adapter on it, if any.
        adapter_digest: sha256 of the adapter's files, if any.
        input_digest: sha256 of the task that was answered.
        software: Package name to version.
    """

    model: str
    model_digest: str
    input_digest: str
    adapter: str | None = None
    adapter_digest: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values only, keys in a stable order."""
        return {
            "model": self.model,
            "model_digest": self.model_digest,
            "adapter": self.adapter,
            "adapter_digest": self.adapter_digest,
            "input_digest": self.input_digest,
            "software": dict(sorted(self.software.items())),
        }
