"""A frozen layer in FP8: how near it is to the layer, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.adapters.float8 import FLOAT8, Float8Linear, backward_product, quantise
from common.errors import AdapterError


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def test_quantised_rows_keep_their_largest_value_whatever_its_size():
    rows = torch.randn(5, 64) * torch.tensor([1e-6, 1e-3, 1.0, 1e3, 1e6])[:, None]
    quantised, scale = quantise(rows)
    assert quantised.dtype == FLOAT8
    assert quantised.float().abs().amax(1).tolist() == [448.0] * 5
    for row, back in zip(rows, quantised.float() * scale, strict=True):
        assert _error(back, row) < 0.04  # three bits of mantissa: at most 1/16 an element


def test_rows_of_zeros_stay_zeros():
    quantised, scale = quantise(torch.zeros(3, 16))
    assert torch.isfinite(scale).all()
    assert not quantised.float().any()


@pytest.mark.parametrize("keep_transposed", [False, True])
def test_output_and_gradient_are_near_those_of_the_wide_layer(keep_transposed):
    torch.manual_seed(0)
    wide = nn.Linear(64, 48).requires_grad_(False)
    layer = Float8Linear(wide.weight, wide.bias, keep_transposed=keep_transposed)
    x, dy = torch.randn(4, 9, 64), torch.randn(4, 9, 48)
    left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, found = wide(left), layer(right)
    expected.backward(dy)
    found.backward(dy)
    assert _error(found, expected) < 0.05
    assert _error(right.grad, left.grad) < 0.05


def test_the_backward_product_is_that_of_the_kept_weight():
    torch.manual_seed(0)
    layer = Float8Linear(torch.randn(32, 16) * torch.logspace(-3, 3, 32)[:, None])
    dy = torch.randn(50, 32)
    expected = dy @ layer.dequantised(torch.float32)
    assert _error(backward_product(dy, layer.tensors()), expected) < 0.05


def test_the_weight_takes_one_byte_an_element_and_is_no_parameter():
    layer = Float8Linear(torch.randn(32, 16))
    assert layer.weight.element_size() == 1
    assert list(layer.parameters()) == []


def test_sizes_that_do_not_divide_by_16_are_refused():
    with pytest.raises(AdapterError, match="sizes that divide by 16; found 24 x 20"):
        Float8Linear(torch.randn(24, 20))
