"""FP8 training: a frozen base kept in FP8, or every product of a full tuning in FP8.

Under adapters the base's weights are quantised once and the wider copy is dropped
(`common.adapters.float8`), since nothing will ever change them. Full tuning keeps its
weights and quantises them in each product, with torchao (extra `gpu`). The output layer,
the embeddings and everything outside the repeated blocks stay as they are.
"""

from __future__ import annotations

from torch import nn

from common.adapters.float8 import Float8Linear
from common.adapters.frozen import FrozenLinear
from common.errors import MissingExtraError
from common.tuning.blocks import repeated_blocks

__all__ = ["divisible_by_16", "freeze_in_float8", "train_in_float8"]


def freeze_in_float8(network: nn.Module, *, keep_transposed: bool = False) -> int:
    """Replaces the frozen linear layers in the blocks of `network` by FP8 ones, in place.

    Layers that have a size that does not divide by 16, or that are trained, stay.

    Args:
        network: A network with adapters, its base frozen.
        keep_transposed: Whether to keep a transposed copy of each weight, for speed.

    Returns:
        How many layers it replaced.
    """
    n_replaced = 0
    for block in repeated_blocks(network):
        for parent in list(block.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear) and _can_freeze(child):
                    layer = Float8Linear(child.weight, child.bias, keep_transposed=keep_transposed)
                    setattr(parent, name, layer)
                    n_replaced += 1
    return n_replaced


def train_in_float8(network: nn.Module) -> int:
    """Lets torchao take every product of the blocks' trained linear layers in FP8, in place.

    Weights, their names and the optimiser stay as they are. It pays only when compiled.

    Returns:
        How many layers it converted.

    Raises:
        MissingExtraError: torchao is not installed.
    """
    try:
        from torchao.float8 import convert_to_float8_training
    except ImportError as error:
        raise MissingExtraError(
            "FP8 training",
            expected="the package torchao",
            found="none",
            remedy="Install it with: pip install 'tandem-kits[gpu]'.",
        ) from error
    n_converted = 0
    for block in repeated_blocks(network):
        fitting = {name for name, module in block.named_modules() if divisible_by_16(module)}
        convert_to_float8_training(
            block, module_filter_fn=lambda _, name, fitting=fitting: name in fitting
        )
        n_converted += len(fitting)
    return n_converted


def divisible_by_16(module: nn.Module) -> bool:
    """Returns whether `module` is a linear layer of sizes that FP8 products take."""
    if not isinstance(module, nn.Linear) or type(module) not in (nn.Linear, FrozenLinear):
        return False
    return not (module.in_features % 16 or module.out_features % 16)


def _can_freeze(module: nn.Module) -> bool:
    return divisible_by_16(module) and not any(p.requires_grad for p in module.parameters())
