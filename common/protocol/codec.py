"""Tasks and results at the borders: the dictionary form of a task, results as bytes at rest.

A result at rest is the same message that travels (link.proto): one codec, with every type
of number. Nothing is ever pickled, so reading a foreign buffer runs no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import MessageError, MissingInputError, TaskError
from common.protocol.link_message import message_from_bytes, message_to_bytes
from common.task import Image, ImageRequest, Part, Result, Series, Task, Text

__all__ = ["result_from_bytes", "result_to_bytes", "task_from_dict"]

_LARGEST_RESULT_BYTES = (1 << 31) - 1
_KNOWN_KEYS = ("type", "text_prompt", "image", "image_params", "series", "parameters")
_PARTS_OF_TYPE = {
    "multimodal": {"text", "image", "series"},
    "text": {"text"},
    "image": {"image"},
    "series": {"series"},
}


def result_to_bytes(result: Result) -> bytes:
    """Returns `result` as one message of link.proto; its arrays are copied once.

    Raises:
        MessageError: A value is no JSON, or an array of a type that the protocol has not.
    """
    return message_to_bytes(result)


def result_from_bytes(buffer: bytes) -> Result:
    """Returns the result that `result_to_bytes` wrote; its arrays are views of `buffer`.

    Raises:
        MessageError: The buffer is not such a result.
    """
    _, payload = message_from_bytes(buffer, max_bytes=_LARGEST_RESULT_BYTES)
    if isinstance(payload, Result):
        return payload
    raise MessageError(
        "stored result",
        expected="a message that carries a result",
        found=type(payload).__name__,
        remedy="Delete the store that it comes from; results are computed again.",
    )


def task_from_dict(form: Mapping[str, Any]) -> Task:
    """Returns the task that a plain dictionary describes.

    Keys: `type` ("multimodal", "text", "image", "series"), `text_prompt` (str), `image`
    (array `H W` or `H W C`, or a file name), `image_params` (`resolution` in pixels, and
    either `path` of a picture to load at that resolution or `seed` for a model that makes
    one), `series` (numbers, oldest first), `parameters` (JSON options for the models).

    Raises:
        TaskError: A key is unknown, a part is missing for the type, or a value is unusable.
        MissingInputError: A picture that is named is not there.
    """
    unknown = sorted(set(form) - set(_KNOWN_KEYS))
    if unknown:
        raise TaskError(
            "task",
            expected=f"keys among {', '.join(_KNOWN_KEYS)}",
            found=f"also {', '.join(unknown)}",
            remedy="Remove or rename them.",
        )
    parts: dict[str, Part] = {}
    if "text_prompt" in form:
        parts["text"] = Text(_require(form["text_prompt"], str, "text_prompt"))
    if "image" in form or "image_params" in form:
        parts["image"] = _image_part(form.get("image"), form.get("image_params", {}))
    if "series" in form:
        parts["series"] = _series_part(form["series"])
    kind = form.get("type", "multimodal")
    if kind not in _PARTS_OF_TYPE or not set(parts) <= _PARTS_OF_TYPE[kind]:
        raise TaskError(
            "task",
            expected=f"a type among {', '.join(_PARTS_OF_TYPE)} that covers its parts",
            found=f"type {kind!r} with parts {sorted(parts)}",
            remedy="Use type 'multimodal', or give only the parts of the type.",
        )
    return Task(parts, _require(form.get("parameters", {}), Mapping, "parameters"))


def _require(value: Any, kind: type[Any], key: str) -> Any:
    if not isinstance(value, kind):
        raise TaskError(
            f"task key {key}",
            expected=kind.__name__,
            found=type(value).__name__,
            remedy=f"Give {key} as {kind.__name__}.",
        )
    return value


def _series_part(values: Any) -> Series:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.size == 0 or not np.isfinite(numbers).all():
        raise TaskError(
            "task key series",
            expected="finite numbers, oldest first",
            found="none, or values that are no finite numbers",
            remedy="Give a list of numbers without gaps.",
        )
    return Series(numbers)


def _image_part(image: Any, image_params: Any) -> Image | ImageRequest:
    params = _require(image_params, Mapping, "image_params")
    unknown = sorted(set(params) - {"path", "resolution", "seed"})
    if unknown:
        raise TaskError(
            "task key image_params",
            expected="keys among path, resolution, seed",
            found=f"also {', '.join(unknown)}",
            remedy="Remove or rename them.",
        )
    resolution = params.get("resolution")
    if resolution is not None:
        resolution = _require(resolution, int, "image_params.resolution")
    source = image if image is not None else params.get("path")
    if source is None:
        seed = _require(params.get("seed", 0), int, "image_params.seed")
        return ImageRequest(resolution or 256, seed=seed)
    if isinstance(source, str | Path):
        return Image(_load_picture(Path(source), resolution))
    return Image(_pixels(source))


def _pixels(rows: Any) -> np.ndarray[Any, Any]:
    try:
        pixels = np.asarray(rows)
    except ValueError:  # rows of different lengths
        pixels = np.empty(0, object)
    if pixels.dtype.kind not in "biuf":
        raise TaskError(
            "task key image",
            expected="rows of equal length, of numbers",
            found="others",
            remedy="Give pixels H W or H W C.",
        )
    return pixels


def _load_picture(path: Path, resolution: int | None) -> np.ndarray[Any, Any]:
    from PIL import Image as Picture
    from PIL import UnidentifiedImageError

    if not path.is_file():
        raise MissingInputError(
            "picture",
            expected="an image file",
            found="no file of that name",
            remedy="Check image_params.path.",
        )
    try:
        with Picture.open(path) as picture:
            plain = picture if picture.mode in {"L", "RGB"} else picture.convert("RGB")
            if resolution is not None:
                plain = plain.resize((resolution, resolution))
            return np.asarray(plain)
    except UnidentifiedImageError as error:
        raise TaskError(
            "picture",
            expected="PNG, JPEG or another format that Pillow reads",
            found="a file that is none of them",
            remedy="Convert it to PNG; DICOM goes through the medical kit.",
        ) from error
