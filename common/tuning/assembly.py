"""From base, method and examples to the network that is trained, on its device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from common.adapters.attach import Adapter
from common.backbones import Backbone
from common.errors import TuningError
from common.tuning.blocks import recompute_blocks
from common.tuning.datasets import Examples
from common.tuning.objectives import TunedNetwork, lm_head_of, standardisation

__all__ = ["build_network", "checkpoint_blocks", "longest_input", "place_network"]


def build_network(adapter: Adapter, examples: Examples, *, seed: int) -> TunedNetwork:
    """Returns an adapter's network with an untrained head for the examples' task."""
    task, backbone = examples.task, adapter.backbone
    mean, scale = standardisation(examples.targets) if task == "regression" else (0.0, 1.0)
    return TunedNetwork(
        backbone.model,
        task,
        hidden_size=backbone.hidden_size,
        n_outputs=max(len(examples.labels), 1),
        lm_head=lm_head_of(backbone) if task == "causal_lm" else None,
        mean=mean,
        scale=scale,
        seed=seed,
    )


def longest_input(adapter: Adapter, max_tokens: int | None) -> int:
    """Returns how many tokens a window may have: what base and prefix leave, or fewer."""
    room = adapter.backbone.max_tokens
    return min(max_tokens or room, room)


def place_network(network: nn.Module, backbone: Backbone, device: torch.device) -> None:
    """Moves the network to its device, and leaves the base that it shares where it is."""
    if device.type == "cpu":
        return
    shared = {id(x) for x in (*backbone.model.parameters(), *backbone.model.buffers())}
    copies: dict[int, Tensor] = {}
    for module in network.modules():
        own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for name, tensor in own:
            if id(tensor) in shared and id(tensor) not in copies:
                copy = tensor.detach().to(device, copy=True)
                trained = tensor.requires_grad
                kept = nn.Parameter(copy, trained) if isinstance(tensor, nn.Parameter) else copy
                copies[id(tensor)] = kept
            if id(tensor) in copies:
                setattr(module, name, copies[id(tensor)])
    network.to(device)


def checkpoint_blocks(network: TunedNetwork) -> None:
    """Recomputes three blocks of four in the backward pass instead of keeping what they made."""
    inner: Any = network.model
    while hasattr(inner, "get_base_model"):  # a PeftModel
        inner = inner.get_base_model()
    if not getattr(inner, "supports_gradient_checkpointing", False):
        raise TuningError(
            "gradient checkpointing",
            expected="a model whose blocks transformers can run twice",
            found=type(inner).__name__,
            remedy="Leave gradient_checkpointing out, and lower micro_batch_size instead.",
        )
    inner.config.use_cache = False  # a block that is run twice must not fill a cache twice
    recompute_blocks(inner)
