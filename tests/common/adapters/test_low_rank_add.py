"""A low-rank product added to a matrix, on a CPU and on a GPU."""

from __future__ import annotations

import pytest
import torch

from common.adapters.low_rank_add import add_low_rank


def _check(device: str, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    total = torch.randn(70, 200, device=device, dtype=dtype)
    left = torch.randn(70, 12, device=device, dtype=dtype)
    right = torch.randn(200, 5, device=device, dtype=dtype).t()  # strides of a transpose
    expected = total.double() + left[:, 3:8].double() @ right.double()
    found = add_low_rank(total, left, right, 3).double()
    assert (found - expected).norm() < tolerance * expected.norm()


def test_the_columns_from_first_on_are_multiplied():
    _check("cpu", torch.float32, 1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 1e-2)])
def test_the_kernel_adds_the_same_product(dtype, tolerance):
    _check("cuda", dtype, tolerance)
