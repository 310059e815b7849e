"""LoRA adapters of several sites on one tiny base, for the tests of federated rounds."""

from __future__ import annotations

import torch

from common.adapters.attach import attach_new, save_adapter
from common.adapters.methods import LoRA
from common.protocol.gradients.lora_update import Factors, LoraUpdate

N_SAMPLES = (10, 30, 60)


def random_update(seed, *, ranks=(3, 3), head=False):
    """Two layers of 5 x 7 and 4 x 6."""
    torch.manual_seed(seed)
    shapes = {"block.query": (5, 7), "block.value": (4, 6)}
    layers = {
        name: Factors(torch.randn(rank, n_in), torch.randn(n_out, rank))
        for (name, (n_out, n_in)), rank in zip(shapes.items(), ranks, strict=True)
    }
    values = {"weight": torch.randn(2, 5), "bias": torch.randn(2)} if head else {}
    return LoraUpdate(layers, values)


def weighted_mean(updates, n_samples):
    """The mean of products at full rank, `(n_out, n_in)` float64 by layer."""
    return {
        layer: sum(
            n / sum(n_samples) * (u.layers[layer].b.double() @ u.layers[layer].a.double())
            for u, n in zip(updates, n_samples, strict=True)
        )
        for layer in updates[0].layers
    }


def distance(update, products):
    """The largest difference of any weight."""
    return max(
        float((update.layers[layer].product() - product).abs().max())
        for layer, product in products.items()
    )


def random_adapter(backbone, folder, seed, *, method=LoRA(rank=2), head=None):  # noqa: B008
    """Saves an adapter with weights that are not zero."""
    adapter = attach_new(backbone, method, seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.backbone.model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2)
    save_adapter(adapter, folder, head=head)
    return adapter
