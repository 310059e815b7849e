"""Sibling projections of one input, computed as one product.

Query, key and value read the same hidden states, and so do the gate and up projections of
a gated feed-forward layer. Taken together they quantise and read their input once, and
their input's gradient is one product in place of a sum of several. Weights are stacked by
rows; A is stacked, and B becomes block-diagonal, so that each projection keeps its own
adapter: [y1, y2] = x [W1; W2]^T + (x [A1; A2]^T) diag(s1 B1, s2 B2)^T.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.adapters.float8 import Float8Linear
from common.adapters.lora import FusedLoRALinear, adapted_linear

__all__ = ["SIBLINGS", "JointProjection", "join_projections", "part_projections"]

# Names, within one module, of the projections that read the same input.
SIBLINGS = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("gate_proj", "up_proj"),
)


def join_projections(model: nn.Module) -> int:
    """Joins the fused LoRA projections of `model` that read the same input, in place.

    Call it where the weights will stay: each base weight becomes a view of a stacked one,
    and moving the model afterwards would part them.

    Returns:
        How many groups it made.
    """
    groups = [
        [getattr(module, name) for name in names]
        for module in list(model.modules())
        for names in SIBLINGS
        if all(hasattr(module, name) for name in names)
    ]
    fitting = [group for group in groups if _fit_together(group)]
    for group in fitting:
        JointProjection(group)
    return len(fitting)


def part_projections(model: nn.Module) -> None:
    """Lets every layer of `model` compute its own projection again."""
    for module in model.modules():
        if isinstance(module, FusedLoRALinear):
            module.joint = None


class JointProjection:
    """Computes all its members' outputs when the first is asked for, and hands them out.

    The outputs are held from the first member's call to the last one's, for one input.
    A member that is called with another input computes anew.
    """

    def __init__(self, members: Sequence[FusedLoRALinear]) -> None:
        self.members = list(members)
        self.sizes = [member.base_layer.out_features for member in members]
        self.base: nn.Linear | Float8Linear = _stack([member.base_layer for member in members])
        self.source: Tensor | None = None
        self.outputs: list[Tensor | None] = []
        for member in members:
            member.joint = self

    def output(self, member: FusedLoRALinear, x: Tensor) -> Tensor:
        """Returns the member's projection of `x`, `(..., out_features)`."""
        index = next(i for i, other in enumerate(self.members) if other is member)
        if self.source is not x or self.outputs[index] is None:
            self.source, self.outputs = x, list(self._compute(x))
        y = self.outputs[index]
        self.outputs[index] = None
        if all(left is None for left in self.outputs):
            self.source, self.outputs = None, []
        return y  # type: ignore[return-value]  # just computed where it was None

    def quantise(self, *, keep_transposed: bool = False) -> None:
        """Keeps the stacked weight in FP8, and the members' as parts of it."""
        if isinstance(self.base, Float8Linear):
            return
        self.base = Float8Linear(self.base.weight, self.base.bias, keep_transposed=keep_transposed)
        start = 0
        for member, size in zip(self.members, self.sizes, strict=True):
            member.base_layer = self.base.part(start, start + size)
            start += size

    def _compute(self, x: Tensor) -> Sequence[Tensor]:
        names = [member.active_adapters[0] for member in self.members]
        pairs = list(zip(self.members, names, strict=True))
        down = torch.cat([member.lora_A[name].weight for member, name in pairs])
        up = torch.block_diag(
            *(member.lora_B[name].weight * member.scaling[name] for member, name in pairs)
        )
        y = adapted_linear(x, self.base, down, up, scaling=1.0)
        outputs = y.split(self.sizes, dim=-1)
        # A small part (keys, values of grouped heads) that is kept for the backward pass
        # should not keep the whole product.
        return [
            out if size == self.sizes[0] else out.contiguous()
            for out, size in zip(outputs, self.sizes, strict=True)
        ]


def _fit_together(group: Sequence[nn.Module]) -> bool:
    if not all(isinstance(member, FusedLoRALinear) for member in group):
        return False
    bases = [member.base_layer for member in group]
    alike = {(b.in_features, b.bias is None, b.weight.dtype, b.weight.device) for b in bases}
    return all(type(base) is nn.Linear for base in bases) and len(alike) == 1


def _stack(bases: Sequence[nn.Linear]) -> nn.Linear:
    """Returns one layer with the rows of all, whose memory theirs become views of."""
    sizes = [base.out_features for base in bases]
    bias = None if bases[0].bias is None else torch.cat([base.bias for base in bases])
    stacked = nn.Linear(1, 1, bias=bias is not None, device="meta")
    stacked.in_features, stacked.out_features = bases[0].in_features, sum(sizes)
    weight = torch.cat([base.weight for base in bases])
    stacked.weight = nn.Parameter(weight, requires_grad=False)
    stacked.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    for base, rows in zip(bases, weight.split(sizes), strict=True):
        base.weight = nn.Parameter(rows, requires_grad=False)
    return stacked
