"""The repeated blocks of a network: what is compiled, timed and converted one by one."""

from __future__ import annotations

from torch import nn

__all__ = ["repeated_blocks"]


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """Returns the blocks that make up most of `network`, in order; none if it has no such.

    A transformer keeps its layers in a `ModuleList` of one class; of several lists (a
    SwinUNETR has one for each stage) all those are taken that are not inside another.
    Lists of less than a tenth of the network's parameters do not count. A `ModuleList`
    itself stands for its modules.
    """
    if isinstance(network, nn.ModuleList):
        return list(network)
    total = sum(parameter.numel() for parameter in network.parameters())
    blocks: list[nn.Module] = []
    inside: set[int] = set()
    for module in network.modules():
        if not isinstance(module, nn.ModuleList) or id(module) in inside or len(module) < 2:
            continue
        alike = len({type(child) for child in module}) == 1
        held = sum(parameter.numel() for parameter in module.parameters())
        if alike and 10 * held >= total:
            blocks.extend(module)
            inside.update(id(inner) for inner in module.modules())
    return blocks
