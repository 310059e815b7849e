"""LoRA layers of a peft model, computed by one function instead of five.

peft takes y = x W^T + b, then t = x A^T, z = t B^T, z s and y + z: each is a step of its
own with a result that is written, read and, for the backward pass, kept (Hu et al. 2021,
arXiv 2106.09685, gives the formula). `fuse_lora` gives the layers of a peft model a
forward pass with the same result that

- takes the low-rank product first and lets the wide one add to it in place, so that no
  sum is a pass of its own, and does the same for the gradient of x;
- keeps x and t alone for the backward pass;
- takes the products in the type of x while A and B stay in their own, float32 in training;
- reads a base that is frozen in FP8 (`common.adapters.float8.Float8Linear`).

Modules, their names and the state dict are peft's; saving, merging and disabling work as
before. A layer that is not plain LoRA on a frozen linear layer falls back to peft's own
forward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from torch.nn import functional

from common.adapters.float8 import Float8Linear, backward_product, float8_product, quantise
from common.adapters.frozen import FrozenLinear, frozen_product, takes_onednn
from common.adapters.low_rank_add import add_low_rank

if TYPE_CHECKING:
    from common.adapters.joint import JointProjection

__all__ = ["FusedLoRALinear", "adapted_linear", "fuse_lora", "unfuse_lora"]


def fuse_lora(model: nn.Module) -> int:
    """Gives every LoRA linear layer of a peft model the fused forward pass, in place.

    Returns:
        How many layers it changed.
    """
    layers = [module for module in model.modules() if type(module) is PeftLinear]
    for layer in layers:
        layer.__class__ = FusedLoRALinear
    return len(layers)


def unfuse_lora(model: nn.Module) -> int:
    """Gives the layers peft's own forward pass back; returns how many it changed."""
    layers = [module for module in model.modules() if type(module) is FusedLoRALinear]
    for layer in layers:
        layer.__class__ = PeftLinear
    return len(layers)


class FusedLoRALinear(PeftLinear):  # type: ignore[misc]
    """peft's LoRA linear layer with the fused forward pass; made by `fuse_lora` only."""

    joint: JointProjection | None = None  # set where projections of one input are joined

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `(..., out_features)` for `x` of `(..., in_features)`."""
        name = self._fusible_adapter()
        if name is None or args or kwargs:
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        dropout = self.lora_dropout[name]
        plain = isinstance(dropout, nn.Identity) or not self.training
        if self.joint is not None and x.dtype is _working_type(x):
            return self.joint.output(self, x)
        return adapted_linear(
            x,
            self.base_layer,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            scaling=self.scaling[name],
            adapted=None if plain else dropout(x),
        )

    def _fusible_adapter(self) -> str | None:
        """Returns the one active adapter, if this layer is plain LoRA on a frozen base."""
        active = self.active_adapters
        base = self.base_layer
        if self.disable_adapters or self.merged or len(active) != 1 or self.fan_in_fan_out:
            return None
        name: str = active[0]
        if name not in self.lora_A or name in self.lora_variant or self.lora_bias[name]:
            return None
        frozen = type(base) is Float8Linear or (
            type(base) in (nn.Linear, FrozenLinear)
            and not base.weight.requires_grad
            and (base.bias is None or not base.bias.requires_grad)
        )
        return name if frozen else None


def adapted_linear(
    x: Tensor,
    base: nn.Linear | Float8Linear,
    lora_a: Tensor,
    lora_b: Tensor,
    *,
    scaling: float,
    adapted: Tensor | None = None,
) -> Tensor:
    """Returns x W^T + b + s (x A^T) B^T, shape `(..., out_features)`.

    Args:
        x: Input, `(..., in_features)`.
        base: The frozen layer with W and b; they receive no gradient.
        lora_a: A, `(rank, in_features)`.
        lora_b: B, `(out_features, rank)`.
        scaling: s, usually alpha / rank.
        adapted: What A sees in place of `x` (x after dropout), of its shape.
    """
    dtype = _working_type(x)
    x = x.to(dtype)
    down, up = lora_a.to(dtype), (lora_b * scaling).to(dtype)
    bias = None if base.bias is None else base.bias.to(dtype)
    if adapted is not None:
        adapted = adapted.to(dtype)
    y: Tensor
    if _pays_to_merge(x, base):
        return functional.linear(x, torch.addmm(base.weight.to(dtype), up, down), bias)
    if isinstance(base, Float8Linear):
        y = _AdaptedFloat8.apply(  # type: ignore[no-untyped-call]
            x, adapted, bias, down, up, *base.tensors()
        )
    else:
        y = _AdaptedDense.apply(  # type: ignore[no-untyped-call]
            x, adapted, bias, down, up, base.weight.to(dtype)
        )
    return y


def _working_type(x: Tensor) -> torch.dtype:
    device = x.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def _pays_to_merge(x: Tensor, base: nn.Linear | Float8Linear) -> bool:
    """Returns whether W + s B A, made for this call alone, is less work than two products.

    It is on a GPU that reads many tokens without a gradient: the low-rank product writes
    and reads `tokens x out_features`, the sum of the weights `out_features x in_features`.
    The result is that of a merged adapter, rounding included.
    """
    if not x.is_cuda or torch.is_grad_enabled() or isinstance(base, Float8Linear):
        return False
    n_tokens = x.numel() // x.shape[-1]
    return n_tokens * (base.in_features + 2 * base.out_features) > (
        3 * base.in_features * base.out_features
    )


class _AdaptedDense(torch.autograd.Function):
    """With u = dy (s B): dx = dy W + u A, dA = u^T x, d(sB) = dy^T t."""

    @staticmethod
    def forward(  # noqa: PLR0917  # autograd passes arguments by position
        ctx: Any,
        x: Tensor,
        adapted: Tensor | None,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        weight: Tensor,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        seen = rows if adapted is None else adapted.reshape(-1, x.shape[-1])
        t = seen @ down.t()  # [tokens, rank]
        ctx.save_for_backward(seen, t, down, up, weight)
        ctx.apart = adapted is not None
        y = _sum_of_products(rows, weight, bias, t, up)
        return y.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        seen, t, down, up, weight = ctx.saved_tensors
        dy = gradient.reshape(-1, gradient.shape[-1])
        u = dy @ up  # [tokens, rank]
        shape = (*gradient.shape[:-1], weight.shape[1])
        dx = d_adapted = None
        if ctx.needs_input_grad[0]:
            narrow = (None, None) if ctx.apart else (u, down.t())
            dx = _sum_of_products(dy, weight.t(), None, *narrow).view(shape)
        if ctx.needs_input_grad[1]:
            d_adapted = (u @ down).view(shape)
        d_down = u.t() @ seen if ctx.needs_input_grad[3] else None
        d_up = dy.t() @ t if ctx.needs_input_grad[4] else None
        return dx, d_adapted, None, d_down, d_up, None


class _AdaptedFloat8(torch.autograd.Function):
    """As `_AdaptedDense`, with x W^T and dy W in FP8 and the rest in the type of x.

    What is kept of x is its quantised copy, half as large; dA is taken from that.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  # autograd passes arguments by position
        ctx: Any,
        x: Tensor,
        adapted: Tensor | None,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        weight: Tensor,
        transposed: Tensor | None,
        scale: Tensor,
        unit: Tensor,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        quantised, rows_scale = quantise(rows)
        seen = quantised
        if adapted is not None:
            rows = seen = adapted.reshape(-1, x.shape[-1])
        t = rows @ down.t()  # [tokens, rank]
        ctx.save_for_backward(seen, rows_scale, t, down, up, weight, transposed, scale, unit)
        ctx.apart = adapted is not None
        y = float8_product(quantised, rows_scale, weight, scale, x.dtype)
        if bias is not None:
            y = y + bias
        return add_low_rank(y, t, up.t()).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        seen, rows_scale, t, down, up, *weight = ctx.saved_tensors
        dy = gradient.reshape(-1, gradient.shape[-1])
        u = dy @ up  # [tokens, rank]
        shape = (*gradient.shape[:-1], down.shape[1])
        dx = d_adapted = None
        if ctx.needs_input_grad[0]:
            dx = backward_product(dy, tuple(weight))
            dx = (dx if ctx.apart else add_low_rank(dx, u, down)).view(shape)
        if ctx.needs_input_grad[1]:
            d_adapted = (u @ down).view(shape)
        d_down = d_up = None
        if ctx.needs_input_grad[3]:
            scaled = u if ctx.apart else (u * rows_scale).to(u.dtype)
            d_down = scaled.t() @ seen.to(u.dtype)
        if ctx.needs_input_grad[4]:
            d_up = dy.t() @ t
        return dx, d_adapted, None, d_down, d_up, None, None, None, None


def _sum_of_products(
    rows: Tensor, weight: Tensor, bias: Tensor | None, t: Tensor | None, up: Tensor | None
) -> Tensor:
    """Returns rows weight^T + bias + t up^T, the last where there is one."""
    if takes_onednn(rows, weight):
        y = frozen_product(rows, weight, bias)
        return y if t is None or up is None else y.addmm_(t, up.t())
    if t is None or up is None:
        return functional.linear(rows, weight, bias)
    if rows.is_cuda:
        return add_low_rank(functional.linear(rows, weight, bias), t, up.t())
    # the wide product adds to the narrow one, which saves a pass over the sum
    narrow = t @ up.t() if bias is None else torch.addmm(bias, t, up.t())
    return add_low_rank(narrow, rows, weight.t())
