"""Prefixes: trained keys and values in every layer, with a gate of zero or as peft has them.

A prefix is trained keys and values that every token of a text may attend to, in every
layer (Li and Liang 2021, arXiv 2101.00190). A gated one is attended to in a softmax of its
own, times tanh(g), one g per layer and head, added to the attention over the text. At g = 0
it adds nothing, so that a new one leaves its base as it was, bit for bit (Zhang et al.
2023, arXiv 2303.16199, who gate the upper layers; here every layer has a prefix).

Both run inside the attention (`common.adapters.prefix_attention`). peft's own route puts a
plain prefix into a cache of keys and values, which a block under gradient checkpointing
cannot read twice and some encoders do not read at all; `compute_in_attention` keeps peft's
model, its parameters and its files, and takes the other route to the same output.

Tensors of a folder: `prompt_embeddings` `(P, layers * 2 * kv_heads * head_dim)`, as peft
lays them out (layer, then key or value, then head), and with a gate `prompt_gates`
`(layers, heads)`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import (
    PeftConfig,
    PeftModel,
    PeftModelForFeatureExtraction,
    PrefixTuningConfig,
    get_peft_model,
)
from torch import Tensor, nn

from common.adapters.anatomy import anatomy_of
from common.adapters.prefix_attention import (
    CHILD,
    EMBEDDINGS,
    GATES,
    Attention,
    attention_modules,
    route_attention,
    shifted_positions,
)
from common.errors import AdapterError

__all__ = [
    "AttentionPrefixModel",
    "GatedPrefix",
    "attach_gated_prefix",
    "attach_prefix",
    "compute_in_attention",
    "gated_prefix_tensors",
    "load_gated_prefix",
    "load_prefix",
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

    def forward(self, text: Attention) -> Tensor:
        """Returns the attention over text and prefix, `(batch, tokens, heads, head_dim)`."""
        keys, values = (x.to(text.query.dtype)[None] for x in (self.key, self.value))
        gates = torch.tanh(self.gate).to(text.query.dtype)[None]
        return text.attend_gated(keys, values, gates)


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


class AttentionPrefixModel(PeftModelForFeatureExtraction):  # type: ignore[misc]  # peft ships no types
    """peft's model with a plain prefix, computed inside the attention.

    Parameters, files, several adapters and `disable_adapter` are peft's own; the output is
    too, and `token_type_ids` and gradient checkpointing work, which peft leaves out.
    """

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Returns what the base does, behind the prefix.

        Args:
            input_ids: `(batch, tokens)`.
            attention_mask: `(batch, tokens)`; all of them without it.
            position_ids: Positions of the text, from 0; counted without it.
            **options: What else the base takes, but a cache of an earlier text.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **options}
        if self._adapters_disabled:
            return self.base_model(position_ids=position_ids, **given)
        encoder = self.prompt_encoder[self.active_adapter]
        for module in attention_modules(self.base_model):
            getattr(module, CHILD).encoder = encoder
        length = len(encoder.embedding.weight)
        if position_ids is None:
            shifts = torch.full((len(input_ids),), length, device=input_ids.device)
            position_ids = shifted_positions(self.base_model.config, input_ids, shifts)
        else:
            position_ids = position_ids + length
        return self.base_model(position_ids=position_ids, **given)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Gives the base alone, for as long as it is open (peft's fails without a head)."""
        modules = attention_modules(self.base_model)
        prefixes = [getattr(module, CHILD) for module in modules]
        for module in modules:
            delattr(module, CHILD)
        self._adapters_disabled = True
        try:
            yield
        finally:
            self._adapters_disabled = False
            for module, prefix in zip(modules, prefixes, strict=True):
                setattr(module, CHILD, prefix)


def compute_in_attention(model: PeftModelForFeatureExtraction) -> None:
    """Makes a prefix model of peft an `AttentionPrefixModel`, in place.

    Args:
        model: peft's model for the task type FEATURE_EXTRACTION, with a plain prefix.

    Raises:
        AdapterError: The architecture takes no prefix, or the prefix comes from a network
            of its own (`prefix_projection`) that is still being trained.
    """
    anatomy = anatomy_of(model.base_model.config)
    encoder = model.prompt_encoder[model.active_adapter]
    if hasattr(encoder, "transform"):
        raise AdapterError(
            "prefix",
            expected="keys and values that are trained themselves",
            found="prefix_projection, a network that gives them",
            remedy="Train without prefix_projection, or load the saved prefix for inference.",
        )
    route_attention(model.base_model)
    for number, module in enumerate(attention_modules(model.base_model)):
        setattr(module, CHILD, _JointPrefix(encoder, number, anatomy.n_kv_heads))
    model.__class__ = AttentionPrefixModel


def attach_prefix(model: nn.Module, n_virtual_tokens: int) -> AttentionPrefixModel:
    """Puts a new plain prefix before a base, as peft builds it; only the prefix is trainable.

    It is drawn with BERT's initializer_range (Devlin et al. 2018, arXiv 1810.04805); peft
    draws with 1, which starts farther from the base.

    Args:
        model: A structure copy of the base; changed in place.
        n_virtual_tokens: Length P of the prefix.

    Raises:
        AdapterError: The architecture takes no prefix.
    """
    anatomy = anatomy_of(model.config)
    config = PrefixTuningConfig(
        task_type="FEATURE_EXTRACTION",
        num_virtual_tokens=n_virtual_tokens,
        num_layers=anatomy.n_layers,
        num_attention_heads=anatomy.n_kv_heads,
        token_dim=anatomy.n_kv_heads * anatomy.head_dim,
    )
    with _while_peft_builds(model):
        adapted: AttentionPrefixModel = get_peft_model(model, config)
    nn.init.normal_(adapted.prompt_encoder["default"].embedding.weight, std=_INITIAL_STD)
    compute_in_attention(adapted)
    return adapted


def load_prefix(model: nn.Module, folder: Path) -> AttentionPrefixModel:
    """Puts the plain prefix in a folder of peft before a base.

    Args:
        model: A structure copy of the base; changed in place.
        folder: peft's `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
        AdapterError: The architecture takes no prefix.
    """
    config = PeftConfig.from_pretrained(str(folder))
    config.task_type = "FEATURE_EXTRACTION"
    with _while_peft_builds(model):
        adapted: AttentionPrefixModel = PeftModel.from_pretrained(model, str(folder), config=config)
    compute_in_attention(adapted)
    return adapted


def prefix_distance(model: Any) -> float:
    """Returns how far a peft prefix model's hidden states are from its base's, at most.

    Args:
        model: A peft model with a prefix, computed by either route.

    Returns:
        Largest absolute difference over a text of 16 tokens spread over the vocabulary.
    """
    base = model.get_base_model()
    device = next(base.parameters()).device
    ids = torch.linspace(1, base.config.vocab_size - 1, 16, device=device).long()[None]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            prefixed = model(**given).last_hidden_state
            routed = isinstance(model, AttentionPrefixModel)
            with model.disable_adapter() if routed else nullcontext():
                plain = base(**given).last_hidden_state
    finally:
        model.train(training)
    return float((prefixed - plain).abs().max())


@contextmanager
def _while_peft_builds(model: nn.Module) -> Iterator[None]:
    """Switches off gradient checkpointing, which peft refuses, and a warning it causes itself."""
    flag = "gradient_checkpointing"
    modules = [module for module in model.modules() if getattr(module, flag, False)]
    for module in modules:
        setattr(module, flag, False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            yield
    finally:
        for module in modules:
            setattr(module, flag, True)


class _JointPrefix:
    """One layer's part of a prefix that lies whole in peft's encoder.

    No module of its own, so that the parameter has one name and one place.
    """

    def __init__(self, encoder: nn.Module, layer: int, n_kv_heads: int) -> None:
        self.encoder = encoder
        self.layer = layer
        self.n_kv_heads = n_kv_heads

    def __call__(self, text: Attention) -> Tensor:
        embeddings: Any = self.encoder.embedding
        head_dim = text.key.shape[-1]
        whole = embeddings.weight.view(len(embeddings.weight), -1, 2, self.n_kv_heads, head_dim)
        own = whole[:, self.layer].to(text.key.dtype)  # [P, 2, kv_heads, head_dim]
        keys, values = own.permute(1, 2, 0, 3)[:, None]  # each [1, kv_heads, P, head_dim]
        return text.attend_jointly(keys, values)


def _gated_prefixes(model: nn.Module) -> list[GatedPrefix]:
    return [module.prefix for module in attention_modules(model)]
