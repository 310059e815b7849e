"""Tensors pass through frames without a bit being changed."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError
from common.protocol.gradients.frames import array_of, frame_of, tensor_of, tensors_of
from common.protocol.messages.payloads import GradientFrame

TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool)


@given(
    st.sampled_from(TYPES),
    st.lists(st.integers(0, 3), max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_any_tensor_comes_back_as_it_was(dtype, shape, seed):
    torch.manual_seed(seed)
    tensor = (torch.randn(shape) * 10).to(dtype)
    frame = frame_of({"x": tensor}, round=0, site="a", n_samples=1)
    back = tensors_of(frame)["x"]
    assert back.dtype is dtype
    assert back.shape == tensor.shape
    assert torch.equal(back, tensor)


def test_bfloat16_is_bfloat16_on_both_sides():
    array = array_of(torch.tensor([1 / 3, float("nan"), float("inf")], dtype=torch.bfloat16))
    assert array.dtype == ml_dtypes.bfloat16
    assert np.isnan(array[1].astype(float))


def test_a_frame_has_memory_of_its_own():
    tensor = torch.zeros(2)
    frame = frame_of({"x": tensor}, round=0, site="a", n_samples=1)
    tensor += 1
    back = tensors_of(frame)["x"]
    back += 1
    assert frame.tensors["x"].tolist() == [0.0, 0.0]


def test_text_is_no_tensor():
    frame = GradientFrame(0, "a", 1, {"x": np.array(["a"])})
    with pytest.raises(MessageError) as caught:
        tensors_of(frame)
    assert "<U1" in caught.value.found


def test_a_transposed_tensor_keeps_its_order():
    tensor = torch.arange(6.0).view(2, 3).t()
    assert torch.equal(tensor_of(array_of(tensor)), tensor)
