"""total + left @ right for a low rank, as one pass over `total` on a GPU.

The matrix library's product of rank 16 runs at about half the memory's speed, and a
compiler that meets it copies `total` first, since it keeps no matrix product in place.
This Triton kernel reads each element once and writes it once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._triton import has_triton

__all__ = ["add_low_rank"]

_ROWS, _COLUMNS, _WARPS = 64, 128, 4  # of the tile that one program adds to
_ON_GPU = torch.cuda.is_available() and has_triton()


def add_low_rank(total: Tensor, left: Tensor, right: Tensor, first: int = 0) -> Tensor:
    """Returns total + left[:, first : first + rank] @ right, possibly in the memory of `total`.

    Args:
        total: `(rows, columns)`, contiguous; not to be used afterwards.
        left: `(rows, first + rank or more)`.
        right: `(rank, columns)`, all three in one type.
        first: Column of `left` to begin with.
    """
    if _ON_GPU and total.is_cuda and right.shape[0] <= 128:
        summed: Tensor = torch.ops.tandem.add_low_rank(total, left, right, first)
        return summed
    left = left[:, first : first + right.shape[0]]
    if torch.compiler.is_compiling():
        return total + left @ right
    return total.addmm_(left, right)


def _define() -> Any:
    """Registers the operator with PyTorch, in a process that sees a GPU."""
    import triton  # type: ignore[import-not-found]  # comes with torch where there is a GPU
    import triton.language as tl  # type: ignore[import-not-found]
    from torch.library import triton_op, wrap_triton

    @triton.jit  # type: ignore[untyped-decorator]
    def kernel(  # type: ignore[no-untyped-def]  # noqa: PLR0917  # a kernel's arguments
        total, left, right, result, n_rows, n_columns, rank, first, left_row, left_rank,
        right_rank, right_column, padded: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(1) * rows + tl.arange(0, rows)
        column = tl.program_id(0) * columns + tl.arange(0, columns)
        inner = tl.arange(0, padded)
        inside = (row[:, None] < n_rows) & (column[None, :] < n_columns)
        place = row[:, None].to(tl.int64) * n_columns + column[None, :]
        sums = tl.load(total + place, mask=inside, other=0.0)
        a = tl.load(
            left + row[:, None] * left_row + (first + inner[None, :]) * left_rank,
            mask=(row[:, None] < n_rows) & (inner[None, :] < rank),
            other=0.0,
        )
        b = tl.load(
            right + inner[:, None] * right_rank + column[None, :] * right_column,
            mask=(inner[:, None] < rank) & (column[None, :] < n_columns),
            other=0.0,
        )
        sums = sums.to(tl.float32) + tl.dot(a, b)
        tl.store(result + place, sums.to(result.dtype.element_ty), mask=inside)

    @triton_op("tandem::add_low_rank", mutates_args={})
    def operator(total: Tensor, left: Tensor, right: Tensor, first: int) -> Tensor:
        n_rows, n_columns = total.shape
        rank = right.shape[0]
        result = torch.empty_like(total)
        padded = max(16, triton.next_power_of_2(rank))
        grid = (triton.cdiv(n_columns, _COLUMNS), triton.cdiv(n_rows, _ROWS))
        wrap_triton(kernel)[grid](
            total, left, right, result, n_rows, n_columns, rank, first, left.stride(0),
            left.stride(1), right.stride(0), right.stride(1),
            padded=padded, rows=_ROWS, columns=_COLUMNS, num_warps=_WARPS,
        )  # fmt: skip
        return result

    return operator


_OPERATOR = _define() if _ON_GPU else None
