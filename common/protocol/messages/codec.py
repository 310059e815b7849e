"""Tasks and results at the borders: the dictionary form of a task, results as bytes at rest.

A result at rest is the same message that travels (link.proto): one codec, with every type
of number. Nothing is ever pickled, so reading a foreign buffer runs no code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import MessageError, MissingInputError, TaskError
from common.protocol.messages.link_message import message_from_bytes, message_to_bytes
from common.task import Array, Image, ImageRequest, Part, Result, Series, Task, Text

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
    _require_known(form, _KNOWN_KEYS, "task")
    parts: dict[str, Part] = {}
    if "text_prompt" in form:
        parts["text"] = Text(_require(form["text_prompt"], str, "text_prompt"))
    if "image" in form or "image_params" in form:
        parts["image"] = _image_part(form.get("image"), form.get("image_params", {}))
    if "series" in form:
        parts["series"] = _series_part(form["series"])
    kind = _require(form.get("type", "multimodal"), str, "type")
    if not set(parts) <= _PARTS_OF_TYPE.get(kind, set()):
        raise TaskError(
            "task",
            expected=f"a type among {', '.join(_PARTS_OF_TYPE)} that covers its parts",
            found=f"{kind if kind in _PARTS_OF_TYPE else 'another'} with parts {sorted(parts)}",
            remedy="Use type 'multimodal', or give only the parts of the type.",
        )
    return Task(parts, _require(form.get("parameters", {}), Mapping, "parameters"))


def _require(value: Any, kind: type[Any], key: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TaskError(
            f"task key {key}",
            expected=kind.__name__,
            found=type(value).__name__,
            remedy=f"Give {key} as {kind.__name__}.",
        )
    return value


def _require_known(form: Mapping[str, Any], known: Sequence[str], subject: str) -> None:
    others = len(set(form) - set(known))
    if others:
        raise TaskError(
            subject,
            expected=f"keys among {', '.join(known)}",
            found=f"{others} others",  # not their names: they may hold what should be a value
            remedy="Remove or rename them.",
        )


def _series_part(values: Any) -> Series:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
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
    _require_known(params, ("path", "resolution", "seed"), "task key image_params")
    resolution = _require(params.get("resolution", 256), int, "image_params.resolution")
    wanted = ImageRequest(resolution, _require(params.get("seed", 0), int, "image_params.seed"))
    source = image if image is not None else params.get("path")
    if source is None:
        return wanted
    if isinstance(source, str | Path):
        resized = "resolution" in params
        return Image(_load_picture(Path(source), wanted.resolution if resized else None))
    return Image(_pixels(source))


def _pixels(rows: Any) -> Array:
    try:
        pixels = np.asarray(rows)
    except (TypeError, ValueError, OverflowError):  # rows of different lengths, among others
        pixels = np.empty(0, object)
    if pixels.dtype.kind not in "biuf":
        raise TaskError(
            "task key image",
            expected="rows of equal length, of numbers",
            found="others",
            remedy="Give pixels H W or H W C.",
        )
    return pixels


def _load_picture(path: Path, resolution: int | None) -> Array:
    from PIL import Image as Picture

    try:
        is_there = path.is_file()
    except OSError:  # a name longer than any file's
        is_there = False
    if not is_there:
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
    except (OSError, SyntaxError, ValueError, Picture.DecompressionBombError) as error:
        raise TaskError(
            "picture",
            expected="a whole PNG, JPEG or other format that Pillow reads, of at most 178 Mpixel",
            found=f"a file that is none of them ({type(error).__name__})",
            remedy="Convert it to PNG; DICOM goes through the medical kit.",
        ) from error
