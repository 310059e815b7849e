"""The repeated blocks of a network: what is compiled, timed and converted one by one."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["recompute_blocks", "repeated_blocks"]


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """Returns the blocks that make up most of `network`, in order; none if it has no such.

    A transformer keeps its layers in a `ModuleList` of one class; of several lists (a
    SwinUNETR has one for each stage) all those are taken that are not inside another.
    Lists of less than a tenth of the network's numbers do not count. A `ModuleList`
    itself stands for its modules.
    """
    if isinstance(network, nn.ModuleList):
        return list(network)
    total = _size(network)
    blocks: list[nn.Module] = []
    inside: set[int] = set()
    for module in network.modules():
        if not isinstance(module, nn.ModuleList) or id(module) in inside or len(module) < 2:
            continue
        alike = len({type(child) for child in module}) == 1
        if alike and 10 * _size(module) >= total:
            blocks.extend(module)
            inside.update(id(inner) for inner in module.modules())
    return blocks


def recompute_blocks(network: nn.Module, *, keep_every: int = 4) -> int:
    """Recomputes blocks in the backward pass instead of keeping their activations.

    Chen et al. 2016, arXiv 1604.06174, without re-entrance, which frozen inputs and DDP
    need. Every fourth block is kept all the same: with a frozen base recomputing a block
    costs up to half of its step, and three quarters of the activations are enough.

    Args:
        network: A transformers model, or a peft model around one.
        keep_every: Every which block is kept; 0 for none.

    Returns:
        How many blocks are recomputed.
    """
    inner: Any = network
    while hasattr(inner, "get_base_model"):  # a PeftModel
        inner = inner.get_base_model()
    settings = {"use_reentrant": False}
    if hasattr(inner, "activation_checkpointing_enable"):
        inner.activation_checkpointing_enable(activation_checkpointing_kwargs=settings)
    else:  # its name in earlier transformers
        inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
    blocks = repeated_blocks(inner)
    kept = blocks[keep_every - 1 :: keep_every] if keep_every else []
    for block in kept:
        block.gradient_checkpointing = False  # type: ignore[assignment]  # transformers' flag
    return len(blocks) - len(kept)


def _size(module: nn.Module) -> int:
    """Returns how many numbers a module holds; a weight in FP8 is a buffer, no parameter."""
    return sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers()))
