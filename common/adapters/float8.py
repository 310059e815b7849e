"""A frozen linear layer kept in eight-bit floating point, through which gradients flow.

The weight is quantised once, to e4m3 with one scale for each output, and the wider copy
is let go. The input of the forward product and the gradient in the backward product are
quantised as they come, with one scale for each token from its largest magnitude
(Micikevicius et al. 2022, arXiv 2209.05433, with one scale per tensor). Both are e4m3: the
wider range of e5m2 costs a bit of precision that a gradient with its own scale does not
need. The backward product sums over outputs, so the weight's scales are put on the
gradient before it is quantised: dx = q(dy s_w) q(W). One scale per row costs nothing over
one per tensor on a Hopper GPU, and its maximum is found where the row is made.

On a device with FP8 matrix units (compute capability 8.9 or higher) the products run on
them; elsewhere they are taken in float32 from the same quantised numbers, which is slow
and serves tests.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from common.errors import AdapterError

__all__ = [
    "FLOAT8",
    "Float8Linear",
    "Float8Weight",
    "backward_product",
    "float8_product",
    "quantise",
]

# Weight (out, in), its transpose or None, scales (1, out), ones (1, in).
Float8Weight = tuple[Tensor, Tensor | None, Tensor, Tensor]
FLOAT8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(FLOAT8).max  # 448


def quantise(values: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a matrix in e4m3 and the scales `(rows, 1)` that its rows are to be given."""
    largest = values.abs().amax(-1, keepdim=True).float()  # [rows, 1]
    scale = largest.clamp(min=1e-12) / _LARGEST
    scaled = (values.float() * scale.reciprocal()).clamp(-_LARGEST, _LARGEST)
    return scaled.to(FLOAT8), scale


def float8_product(
    left: Tensor, left_scale: Tensor, right: Tensor, right_scale: Tensor, dtype: torch.dtype
) -> Tensor:
    """Returns `left @ right.T` of two quantised matrices in `dtype`.

    Args:
        left: `(rows, inner)` in e4m3, contiguous.
        left_scale: Its rows' scales, `(rows, 1)`.
        right: `(columns, inner)` in e4m3, contiguous; both of its sizes divide by 16.
        right_scale: Its rows' scales, `(1, columns)`.
        dtype: Type of the product, `(rows, columns)`.
    """
    if left.is_cuda:
        return torch._scaled_mm(
            left,
            right.t(),
            scale_a=left_scale,
            scale_b=right_scale,
            out_dtype=dtype,
            use_fast_accum=True,
        )
    return ((left.float() @ right.float().t()) * (left_scale * right_scale)).to(dtype)


class Float8Linear(nn.Module):
    """A frozen linear layer, y = x W^T + b, with W in e4m3.

    Args:
        weight: The weight to quantise, `(out_features, in_features)`, both divisible by 16.
        bias: The bias, `(out_features,)`, kept in its own type.
        keep_transposed: Whether to keep a second, transposed copy for the backward
            product, which saves transposing the weight in every step.

    Raises:
        AdapterError: A size does not divide by 16.
    """

    weight: Tensor
    weight_scale: Tensor
    unit_scale: Tensor
    weight_transposed: Tensor | None
    bias: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, *, keep_transposed: bool = False
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        if self.out_features % 16 or self.in_features % 16:
            raise AdapterError(
                "FP8 layer",
                expected="sizes that divide by 16",
                found=f"{self.out_features} x {self.in_features}",
                remedy="Leave this layer in its own precision.",
            )
        quantised, scale = quantise(weight.detach())
        self.register_buffer("weight", quantised)
        self.register_buffer("weight_scale", scale.t().contiguous())  # [1, out_features]
        self.register_buffer("unit_scale", torch.ones_like(scale[:1]).repeat(1, self.in_features))
        transposed = quantised.t().contiguous() if keep_transposed else None
        self.register_buffer("weight_transposed", transposed)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(..., out_features)` for `x` of `(..., in_features)`."""
        y: Tensor = _Float8Product.apply(x, *self.tensors())  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def tensors(self) -> Float8Weight:
        """Returns what the products in both directions need."""
        return self.weight, self.weight_transposed, self.weight_scale, self.unit_scale

    def part(self, start: int, stop: int) -> Float8Linear:
        """Returns a layer of rows `start` to `stop`, which shares this one's memory."""
        part = Float8Linear.__new__(Float8Linear)
        nn.Module.__init__(part)
        part.out_features, part.in_features = stop - start, self.in_features
        part.register_buffer("weight", self.weight[start:stop])
        part.register_buffer("weight_scale", self.weight_scale[:, start:stop])
        part.register_buffer("unit_scale", self.unit_scale)
        part.register_buffer("weight_transposed", None)
        part.register_buffer("bias", None if self.bias is None else self.bias[start:stop])
        return part

    def dequantised(self, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """Returns the weight as the products see it, `(out_features, in_features)`."""
        return (self.weight.float() * self.weight_scale.t()).to(dtype)

    def extra_repr(self) -> str:
        """Names the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, e4m3"


def backward_product(dy: Tensor, weight: Float8Weight) -> Tensor:
    """Returns dy W, `(rows, in_features)`, of `dy` `(rows, out_features)`."""
    quantised, transposed, scale, unit = weight
    if transposed is None:
        transposed = quantised.t().contiguous()
    rows, rows_scale = quantise(dy * scale)
    return float8_product(rows, rows_scale, transposed, unit, dy.dtype)


class _Float8Product(torch.autograd.Function):
    """y = x W^T in the forward pass and dx = dy W in the backward pass, both in FP8."""

    @staticmethod
    def forward(  # noqa: PLR0917  # autograd passes arguments by position
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        transposed: Tensor | None,
        scale: Tensor,
        unit: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(weight, transposed, scale, unit)
        rows, rows_scale = quantise(x.reshape(-1, x.shape[-1]))
        y = float8_product(rows, rows_scale, weight, scale, x.dtype)
        return y.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        dx = backward_product(gradient.reshape(-1, gradient.shape[-1]), ctx.saved_tensors)
        return dx.view(*gradient.shape[:-1], dx.shape[-1]), None, None, None, None
