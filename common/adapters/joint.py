"""LoRA projections of one input on an FP8 base, computed together.

Query, key and value read the same hidden states, and so do the gate and up projections of
a gated feed-forward layer. Together they quantise their input once, take one low-rank
product x [A1; A2]^T in place of several, and add to the gradient of x once. Each keeps its
own weight and its own gradient of the output, so nothing is stacked or cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.adapters.float8 import Float8Linear, backward_product, float8_product, quantise
from common.adapters.lora import FusedLoRALinear
from common.adapters.low_rank_add import add_low_rank

__all__ = ["SIBLINGS", "JointProjection", "join_projections"]

# Names, within one module, of the projections that read the same input.
SIBLINGS = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("gate_proj", "up_proj"),
)
_WEIGHT = 4  # tensors of one FP8 weight


def join_projections(model: nn.Module) -> int:
    """Joins the LoRA projections in `model` that read one input and have an FP8 base, in place.

    Returns:
        How many groups it made.
    """
    n_groups = 0
    for module in model.modules():
        children = dict(module.named_children())
        for names in SIBLINGS:
            members = [children.get(name) for name in names]
            fitting = [m for m in members if isinstance(m, FusedLoRALinear) and _fits(m)]
            if len(fitting) == len(names):
                JointProjection(fitting)
                n_groups += 1
    return n_groups


class JointProjection:
    """Computes all its members' outputs when the first is asked for, and hands them out.

    The outputs are held from the first member's call to the last one's, for one input.
    A member that is called with another input computes anew.
    """

    def __init__(self, members: Sequence[FusedLoRALinear]) -> None:
        self.members = list(members)
        self.source: Tensor | None = None
        self.outputs: list[Tensor | None] = []
        for member in members:
            member.joint = self

    def output(self, member: FusedLoRALinear, x: Tensor) -> Tensor:
        """Returns the member's projection of `x`, `(..., out_features)`."""
        place = next(i for i, other in enumerate(self.members) if other is member)
        if self.source is not x or self.outputs[place] is None:
            self.source, self.outputs = x, list(self._compute(x))
        y = self.outputs[place]
        self.outputs[place] = None
        if all(left is None for left in self.outputs):
            self.source, self.outputs = None, []
        return y  # type: ignore[return-value]  # just computed where it was None

    def _compute(self, x: Tensor) -> Sequence[Tensor]:
        downs, ups, weights = [], [], []
        for member in self.members:
            name = member.active_adapters[0]
            downs.append(member.lora_A[name].weight)
            ups.append((member.lora_B[name].weight * member.scaling[name]).to(x.dtype))
            weights.extend(member.base_layer.tensors())
        down = torch.cat(downs).to(x.dtype)  # [sum of ranks, in_features]
        outputs: Sequence[Tensor] = _JointFloat8.apply(  # type: ignore[no-untyped-call]
            x, down, len(ups), *ups, *weights
        )
        return outputs


def _fits(member: FusedLoRALinear) -> bool:
    plain = all(isinstance(dropout, nn.Identity) for dropout in member.lora_dropout.values())
    return plain and type(member.base_layer) is Float8Linear and member.base_layer.bias is None


class _JointFloat8(torch.autograd.Function):
    """y_i = x W_i^T + t_i (s B_i)^T with [t_1, ...] = x [A_1; ...]^T, for all i."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Tensor, count: int, *tensors: Any) -> tuple[Tensor, ...]:
        ups, weights = tensors[:count], tensors[count:]
        rows = x.reshape(-1, x.shape[-1])
        quantised, rows_scale = quantise(rows)
        t = rows @ down.t()  # [tokens, sum of ranks]
        ctx.save_for_backward(quantised, rows_scale, t, down, *tensors)
        ctx.count = count
        outputs, first = [], 0
        for i, up in enumerate(ups):
            weight, _, scale, _ = weights[_WEIGHT * i : _WEIGHT * (i + 1)]
            y = float8_product(quantised, rows_scale, weight, scale, x.dtype)
            y = add_low_rank(y, t, up.t(), first)
            first += up.shape[1]
            outputs.append(y.view(*x.shape[:-1], weight.shape[0]))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        quantised, rows_scale, t, down, *tensors = ctx.saved_tensors
        ups, weights = tensors[: ctx.count], tensors[ctx.count :]
        flat = [gradient.reshape(-1, gradient.shape[-1]) for gradient in gradients]
        u = torch.cat([dy @ up for dy, up in zip(flat, ups, strict=True)], dim=1)
        dx = None
        if ctx.needs_input_grad[0]:
            for i, dy in enumerate(flat):
                part = backward_product(dy, tuple(weights[_WEIGHT * i : _WEIGHT * (i + 1)]))
                dx = add_low_rank(part, u, down) if dx is None else dx + part
            dx = dx.view(*gradients[0].shape[:-1], down.shape[1])  # type: ignore[union-attr]
        d_down = None
        if ctx.needs_input_grad[1]:
            d_down = (u * rows_scale).to(u.dtype).t() @ quantised.to(u.dtype)
        parts = t.split([up.shape[1] for up in ups], dim=1)
        d_ups = [dy.t() @ part for dy, part in zip(flat, parts, strict=True)]
        return dx, d_down, None, *d_ups, *([None] * len(weights))
