"""The header of a safetensors file is read as safetensors itself reads it, or refused."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.adapters.weights_file import read_bytes, read_header
from common.errors import AdapterError


def test_tensors_are_where_the_header_says(tmp_path):
    """Names, shapes and numbers equal those of safetensors' own reader."""
    path = tmp_path / "x.safetensors"
    tensors = {"b": torch.randn(3, 4), "a.10": torch.randn(5), "a.2": torch.randn(2, 1)}
    save_file(tensors, path, metadata={"format": "pt"})
    data = read_bytes(path)
    header = read_header(data)
    flat = torch.frombuffer(data, dtype=header.dtype, offset=header.data_start)
    read = {
        name: flat[first : first + torch.Size(shape).numel()].view(shape)
        for name, shape, first in header.tensors
    }
    assert header.n_elements == len(flat) == 19
    expected = load_file(path)
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in read)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_read(tmp_path, dtype):
    """An adapter may be stored in 16 bits."""
    save_file({"a": torch.ones(2, 2, dtype=dtype)}, tmp_path / "x")
    assert read_header(read_bytes(tmp_path / "x")).dtype == dtype


def _file(header, n_bytes):
    encoded = json.dumps(header).encode()
    return bytearray(struct.pack("<Q", len(encoded)) + encoded + bytes(n_bytes))


@pytest.mark.parametrize(
    "data",
    [
        bytearray(),
        bytearray(b"PK" * 20),
        _file([], 0),
        _file({}, 0),
        _file({"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, 8),
        _file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, 4),
        _file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, 8),
        _file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 8),
        _file({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, 0),
        _file({"a": {"dtype": "F32", "shape": "1", "data_offsets": None}}, 4),
    ],
)
def test_anything_else_is_refused(data):
    """No header, foreign types, sizes that do not add up, gaps, bytes at the end."""
    with pytest.raises(AdapterError, match="safetensors"):
        read_header(data)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """The message names the file, not its place."""
    with pytest.raises(AdapterError, match="readable x") as caught:
        read_bytes(tmp_path / "x")
    assert str(tmp_path) not in str(caught.value)
