"""A site's model in federated rounds: the base with what is agreed on, and a LoRA on it.

A base is never written. What earlier rounds agreed on is added to a copy of those of its
weights that change (`base_with`); what this round trains is a LoRA on that copy, new or
going on from an average (`start_from`). `update_from` reads what was trained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from common.adapters.attach import Adapter, attach_new, sharing_copy
from common.adapters.methods import LoRA
from common.backbones import Backbone
from common.errors import AdapterError
from common.protocol.gradients.frames import array_of
from common.protocol.gradients.lora_update import Factors, LoraUpdate
from common.task import digest_of

__all__ = ["base_with", "start_from", "update_from"]

_PEFT = "base_model.model."


def base_with(backbone: Backbone, update: LoraUpdate | None) -> Backbone:
    """Returns a base with `update` in its weights; weights without one are shared.

    The sum is rounded to the type of the weights. In bfloat16 that can swallow most of a
    small update: aggregation is exact only on a base in float32.

    Args:
        backbone: The base, without an adapter; it is not changed.
        update: What to add; nothing before the first round.

    Raises:
        AdapterError: The update is of layers or shapes that the base has not.
    """
    if update is None:
        return backbone
    weights = {layer: _weight(backbone.model, layer) for layer in update.layers}
    for layer, factors in update.layers.items():
        if weights[layer] is None or tuple(weights[layer].shape) != factors.shape:
            raise _unfit(f"a linear layer {layer} with {factors.shape} weights")
    model = sharing_copy(backbone.model, but={id(weight) for weight in weights.values()})
    with torch.no_grad():
        for layer, factors in update.layers.items():
            weight = model.get_submodule(layer).weight
            weight.copy_((weight.double() + factors.product().to(weight.device)).to(weight))
    pieces = [
        piece
        for name, tensor in sorted(update.tensors().items())
        for piece in (name.encode(), array_of(tensor.float()).tobytes())
    ]
    digest = digest_of(backbone.digest.encode(), *pieces)
    return replace(backbone, model=model, name=f"{backbone.name}+round", digest=digest)


def start_from(backbone: Backbone, method: LoRA, update: LoraUpdate) -> Adapter:
    """Attaches a LoRA that starts with the factors of `update`, ready to be trained.

    Args:
        backbone: The base; it is not changed.
        method: LoRA of the update's rank and layers; its scale is taken out of B again.
        update: What to start from, as the average of the last round.

    Raises:
        AdapterError: The update is of other layers, or another rank.
    """
    adapter = attach_new(backbone, method)
    layers = _lora_layers(adapter)
    if set(layers) != set(update.layers):
        raise _unfit(f"LoRA on the {len(update.layers)} layers of the update")
    with torch.no_grad():
        for layer, factors in update.layers.items():
            module = layers[layer]
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            if a.shape != factors.a.shape or b.shape != factors.b.shape:
                raise _unfit(f"LoRA of rank {factors.rank} on {factors.shape} weights in {layer}")
            a.copy_(factors.a)
            b.copy_(factors.b / module.scaling["default"])
    return adapter


def update_from(adapter: Adapter) -> LoraUpdate:
    """Returns what an attached LoRA has learnt, in memory of its own.

    Raises:
        AdapterError: The adapter is no LoRA.
    """
    return LoraUpdate(
        {
            layer: Factors(
                module.lora_A["default"].weight.detach().float().cpu().clone(),
                module.lora_B["default"].weight.detach().float().cpu() * module.scaling["default"],
            )
            for layer, module in _lora_layers(adapter).items()
        }
    )


def _lora_layers(adapter: Adapter) -> dict[str, Any]:
    if not isinstance(adapter.method, LoRA):
        raise _unfit("a LoRA adapter")
    return {
        name.removeprefix(_PEFT): module
        for name, module in adapter.backbone.model.named_modules()
        if hasattr(module, "lora_A") and hasattr(module, "scaling")
    }


def _weight(model: Any, layer: str) -> Any:
    """Returns a linear layer's weight, `(n_out, n_in)`; other layers may keep it transposed."""
    try:
        module = model.get_submodule(layer)
    except AttributeError:
        return None
    return module.weight if isinstance(module, torch.nn.Linear) else None


def _unfit(expected: str) -> AdapterError:
    return AdapterError(
        "LoRA update",
        expected=expected,
        found="another base or adapter",
        remedy="Use the base, rank and targets that all sites train with.",
    )
