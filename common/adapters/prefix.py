"""Gated prefixes: trained keys and values that start at the base.

A prefix is trained keys and values that every token of a text may attend to, in every
layer (Li and Liang 2021, arXiv 2101.00190). A gated one is attended to in a softmax of its
own, times tanh(g), one g per layer and head, added to the attention over the text. At g = 0
it adds nothing, so that a new one leaves its base as it was, bit for bit (Zhang et al.
2023, arXiv 2303.16199, who gate the upper layers; here every layer has a prefix). It runs
under gradient checkpointing, which peft's own route through the cache cannot.

Tensors of a folder: `prompt_embeddings` `(P, layers * 2 * kv_heads * head_dim)`, as peft
lays them out (layer, then key or value, then head), and `prompt_gates` `(layers, heads)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from common.adapters.anatomy import anatomy_of
from common.adapters.prefix_attention import (
    CHILD,
    EMBEDDINGS,
    GATES,
    attention_modules,
    gated_attention,
    route_attention,
)
from common.errors import AdapterError

__all__ = [
    "GatedPrefix",
    "attach_gated_prefix",
    "gated_prefix_tensors",
    "load_gated_prefix",
    "prefix_distance",
]

_INITIAL_STD = 0.02  # as the embeddings that a prefix stands beside (BERT, arXiv 1810.04805)


class GatedPrefix(nn.Module):
    """The gated prefix of one layer.

    Args:
        n_virtual_tokens: Length P.
        n_heads: Heads of query.
        n_kv_heads: Heads of key and value.
        head_dim: Width of a head.
    """

    def __init__(self, n_virtual_tokens: int, n_heads: int, n_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        shape = (n_kv_heads, n_virtual_tokens, head_dim)
        self.key = nn.Parameter(torch.randn(shape) * _INITIAL_STD)
        self.value = nn.Parameter(torch.randn(shape) * _INITIAL_STD)
        self.gate = nn.Parameter(torch.zeros(n_heads))

    def forward(self, module: nn.Module, query: Tensor, scaling: float | None) -> Tensor:
        """Returns `(batch, tokens, heads, head_dim)` to be added to the attention's output."""
        key, value = (x.to(query.dtype)[None] for x in (self.key, self.value))
        gate = torch.tanh(self.gate).to(query.dtype)[None]
        return gated_attention(module, query, (key, value, gate), scaling)


def attach_gated_prefix(model: nn.Module, n_virtual_tokens: int) -> None:
    """Puts a new gated prefix on each attention module; only the prefixes stay trainable.

    Args:
        model: A structure copy of the base; changed in place.
        n_virtual_tokens: Length P of the prefix.

    Raises:
        AdapterError: The architecture takes no prefix.
    """
    route_attention(model)
    model.requires_grad_(False)
    anatomy, own = anatomy_of(model.config), next(model.parameters())
    sizes = (anatomy.n_heads, anatomy.n_kv_heads, anatomy.head_dim)
    for module in attention_modules(model):
        module.add_module(CHILD, GatedPrefix(n_virtual_tokens, *sizes).to(own.device))


def gated_prefix_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Returns the tensors of a folder for the gated prefixes of a model."""
    prefixes = _gated_prefixes(model)
    pairs = [torch.stack([p.key, p.value]) for p in prefixes]
    stacked = torch.stack(pairs).detach()  # [layers, 2, kv_heads, P, head_dim]
    embeddings = stacked.permute(3, 0, 1, 2, 4).flatten(1)
    gates = torch.stack([p.gate for p in prefixes]).detach()
    return {EMBEDDINGS: embeddings.contiguous(), GATES: gates}


def load_gated_prefix(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Writes a folder's tensors into the gated prefixes of a model.

    Raises:
        AdapterError: They have other shapes.
    """
    slots = gated_prefix_tensors(model)
    found = {name: tuple(x.shape) for name, x in tensors.items()}
    expected = {name: tuple(x.shape) for name, x in slots.items()}
    if found != expected:
        raise AdapterError(
            "prefix",
            expected=f"tensors {expected}",
            found=str(found)[:200],
            remedy="Load the base that base.json in the adapter's folder names.",
        )
    prefixes = _gated_prefixes(model)
    n_kv_heads, p, head_dim = prefixes[0].key.shape
    split = tensors[EMBEDDINGS].view(p, len(prefixes), 2, n_kv_heads, head_dim)
    pairs = split.permute(1, 2, 3, 0, 4)  # [layers, 2, kv_heads, P, head_dim]
    with torch.no_grad():
        for prefix, (key, value), gate in zip(prefixes, pairs, tensors[GATES], strict=True):
            prefix.key.copy_(key)
            prefix.value.copy_(value)
            prefix.gate.copy_(gate)


def prefix_distance(model: Any) -> float:
    """Returns how far a peft prefix model's hidden states are from its base's, at most.

    Args:
        model: A peft model with a prefix.

    Returns:
        Largest absolute difference over a text of 16 tokens spread over the vocabulary.
    """
    base = model.get_base_model()
    device = next(base.parameters()).device
    ids = torch.linspace(1, base.config.vocab_size - 1, 16, device=device).long()[None]
    mask = torch.ones_like(ids)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            prefixed = model(input_ids=ids, attention_mask=mask).last_hidden_state
            plain = base(input_ids=ids, attention_mask=mask).last_hidden_state
    finally:
        model.train(training)
    return float((prefixed - plain).abs().max())


def _gated_prefixes(model: nn.Module) -> list[GatedPrefix]:
    return [module.prefix for module in attention_modules(model)]
