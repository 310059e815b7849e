"""Products with frozen weights on a CPU, by the library that is faster there.

torch takes float32 products of linear layers with MKL. On AMD's processors oneDNN, which
torch carries as well, is faster: by 10 to 20% at the sizes of BERT base, 2 cores of an
EPYC with AVX-512. A frozen layer needs just two products, x W^T + b and dy W, so
`quicken_frozen` gives it a pass of its own that has oneDNN take both; the trained layers
keep torch's. The choice depends on the processor alone, never on a timing, so that a
resumed run takes the same route. Results differ from torch's by rounding.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FrozenLinear", "frozen_product", "quicken_frozen", "restore_frozen", "takes_onednn"]

_ROWS = 16


def quicken_frozen(model: nn.Module) -> int:
    """Gives the frozen linear layers of `model` the faster pass, in place.

    Their weights, names and state dict stay as they are. A layer that is later trained,
    moved to another device or to another type computes as before.

    Returns:
        How many layers it changed; 0 where torch's own products are as fast.
    """
    if not _on_amd():
        return 0
    layers = [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and not module.weight.requires_grad
        and (module.bias is None or not module.bias.requires_grad)
    ]
    for layer in layers:
        layer.__class__ = FrozenLinear
    return len(layers)


def restore_frozen(model: nn.Module) -> int:
    """Gives the layers torch's own pass back; returns how many it changed."""
    layers = [module for module in model.modules() if type(module) is FrozenLinear]
    for layer in layers:
        layer.__class__ = nn.Linear  # type: ignore[assignment]  # its own parent's class
    return len(layers)


class FrozenLinear(nn.Linear):
    """torch's linear layer with a frozen weight; made by `quicken_frozen` only."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(..., out_features)` for `x` of `(..., in_features)`."""
        if self.weight.requires_grad or not takes_onednn(x, self.weight):
            return super().forward(x)
        if x.requires_grad and torch.is_grad_enabled():
            y: Tensor = _FrozenProduct.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
                x, self.weight, self.bias
            )
            return y
        return frozen_product(x, self.weight, self.bias)


def takes_onednn(x: Tensor, weight: Tensor) -> bool:
    """Returns whether `frozen_product` is the faster route for these operands."""
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _on_amd()
    )


def frozen_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns x W^T + b through oneDNN, without a gradient.

    oneDNN compiles a kernel for every number of rows that it meets and keeps a thousand of
    them; a server's batches have any number. The rows are filled up with zeros to a
    multiple of 16, so that there are few kernels and its memory stays level.

    Args:
        x: `(..., in_features)`, float32 on the CPU.
        weight: `(out_features, in_features)`; a transposed view will do.
        bias: `(out_features,)`.
    """
    rows = x.reshape(-1, x.shape[-1])
    blank = -len(rows) % _ROWS
    if blank:
        rows = nn.functional.pad(rows, (0, 0, 0, blank))
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    if blank:
        product = product[:-blank]
    return product.view(*x.shape[:-1], weight.shape[0])


class _FrozenProduct(torch.autograd.Function):
    """With y = x W^T + b and W, b frozen: dx = dy W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return frozen_product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return frozen_product(gradient, weight.t()), None, None


@cache
def _on_amd() -> bool:
    """Returns whether this is an AMD processor and torch carries oneDNN's linear layer."""
    try:
        processor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    mkldnn: Any = torch.backends.mkldnn
    carried = mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return "AuthenticAMD" in processor and carried
