"""A safetensors file read whole: its header by hand, its tensors as one stretch of bytes.

The file is read into memory, never mapped (a file that shrinks under a map kills the
process), so that a digest can be taken of the very bytes that are used. The format is 8
bytes with the length of a JSON header, the header, and the tensors without gaps
(huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import torch

from common.adapters.folder import unfit

__all__ = ["Header", "read_bytes", "read_header"]

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Header:
    """What a safetensors file holds.

    Args:
        tensors: Name, shape and first element of each tensor, in the order of the file.
        dtype: Type of all of them.
        data_start: First byte of the first.
        n_elements: How many numbers there are in all.
    """

    tensors: tuple[tuple[str, tuple[int, ...], int], ...]
    dtype: torch.dtype
    data_start: int
    n_elements: int


def read_bytes(path: Path) -> bytearray:
    """Returns the bytes of a file.

    Raises:
        AdapterError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = bytearray(path.stat().st_size)
            n_read = file.readinto(data)
    except OSError as error:
        raise unfit(f"a readable {path.name}", type(error).__name__) from error
    return data[:n_read] if n_read != len(data) else data


def read_header(data: bytearray) -> Header:
    """Reads the header of a safetensors file.

    Raises:
        AdapterError: The bytes are no safetensors, too few or too many, or of several types.
    """
    try:
        (n_header,) = struct.unpack_from("<Q", data)
        entries = json.loads(bytes(data[8 : 8 + n_header]))
        entries.pop("__metadata__", None)
        ordered = sorted(entries.items(), key=lambda item: item[1]["data_offsets"][0])
        dtypes = {entry["dtype"] for _, entry in ordered}
        dtype = _DTYPES[dtypes.pop()]
        tensors, position = [], 0
        for name, entry in ordered:
            first, end = entry["data_offsets"]
            shape = tuple(int(size) for size in entry["shape"])
            if first != position or end - first != math.prod(shape) * dtype.itemsize:
                raise ValueError(name)
            tensors.append((name, shape, first // dtype.itemsize))
            position = end
        if dtypes or 8 + n_header + position != len(data):
            raise ValueError(position)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise unfit(
            f"whole safetensors of one of {', '.join(_DTYPES)}", "something else"
        ) from error
    return Header(tuple(tensors), dtype, 8 + n_header, position // dtype.itemsize)
