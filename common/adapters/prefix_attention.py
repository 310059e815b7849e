"""The route by which prefixes reach a model's attention, and the prefixes of rows.

It is transformers' own `AttentionInterface`: models that ask it for their attention can
take a prefix, whatever their mask, cache or checkpointing; `route_attention` finds those
that do not. The text's part is computed as "sdpa" does. A trained prefix lies on each
attention module (`common.adapters.prefix`); the bank instead names the prefix of each row
for the length of one pass (`prefixed_rows`).

A joint prefix, as peft trains it, shares one softmax with the text, whose positions begin
at P, its length. A gated one has a softmax of its own, and the positions stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from common.adapters.anatomy import anatomy_of
from common.errors import AdapterError

__all__ = [
    "CHILD",
    "EMBEDDINGS",
    "GATES",
    "Attention",
    "PrefixRows",
    "PrefixWeights",
    "attention_modules",
    "prefixed_rows",
    "route_attention",
    "shifted_positions",
]

EMBEDDINGS = "prompt_embeddings"
GATES = "prompt_gates"
CHILD = "prefix"  # where an attention module has its trained prefix, called with an Attention

_ROUTE = "tandem_prefix"
_LAYER = "prefix_layer"  # the number of its layer, set on each attention module


@dataclass(frozen=True, eq=False)
class PrefixWeights:
    """A stored prefix.

    Args:
        keys: `(layers, kv_heads, P, head_dim)`.
        values: Likewise.
        gates: tanh of the gates, `(layers, heads)`; None for a joint prefix.
    """

    keys: Tensor
    values: Tensor
    gates: Tensor | None

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], *, n_kv_heads: int, head_dim: int) -> PrefixWeights:
        """Reads the tensors of a folder."""
        embeddings = tensors[EMBEDDINGS]
        split = embeddings.view(len(embeddings), -1, 2, n_kv_heads, head_dim)
        keys, values = split.permute(2, 1, 3, 0, 4)  # each [layers, kv_heads, P, head_dim]
        gates = torch.tanh(tensors[GATES]) if GATES in tensors else None
        return cls(keys, values, gates)

    @property
    def n_virtual_tokens(self) -> int:
        """Length P."""
        return int(self.keys.shape[2])


@dataclass(frozen=True, eq=False)
class PrefixRows:
    """Consecutive rows of a batch with prefixes of one form and length.

    Args:
        first: The first row.
        weights: The prefix of each row, in order.
    """

    first: int
    weights: Sequence[PrefixWeights]

    @property
    def end(self) -> int:
        """The row after the last."""
        return self.first + len(self.weights)

    def layer(self, number: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns key and value `(rows, kv_heads, P, head_dim)` and gate `(rows, heads)`."""
        keys = torch.stack([w.keys[number] for w in self.weights]).to(like)
        values = torch.stack([w.values[number] for w in self.weights]).to(like)
        if self.weights[0].gates is None:
            return keys, values, None
        gates = [w.gates[number] for w in self.weights if w.gates is not None]
        return keys, values, torch.stack(gates).to(like)


def route_attention(model: nn.Module) -> int:
    """Lets a transformers model take prefixes, and numbers its attention modules.

    Args:
        model: A structure copy of the base (its configuration is changed).

    Returns:
        Its number of attention layers.

    Raises:
        AdapterError: The architecture computes its attention elsewhere.
    """
    _register()
    config: Any = model.config
    before = getattr(config, "_attn_implementation", None)
    config._attn_implementation = _ROUTE
    seen: list[nn.Module] = []
    token = _SEEN.set(seen)
    own = next(model.parameters())
    try:
        with torch.no_grad():
            model(input_ids=torch.ones(1, 2, dtype=torch.long, device=own.device))
    finally:
        _SEEN.reset(token)
    if not seen or len(seen) != anatomy_of(config).n_layers:
        config._attn_implementation = before
        raise AdapterError(
            "base for a prefix",
            expected="an attention that transformers' AttentionInterface gives",
            found=f"{config.model_type}, which computes its own",
            remedy="Take LoRA() or Bottleneck().",
        )
    for number, module in enumerate(seen):
        setattr(module, _LAYER, number)
    return len(seen)


@contextmanager
def prefixed_rows(rows: Sequence[PrefixRows]) -> Iterator[None]:
    """Gives rows of a batch their prefixes in this thread, for as long as it is open.

    The model must have been through `route_attention`. Rows with a joint prefix must come
    with the positions that `shifted_positions` returns.

    Args:
        rows: Runs of rows that do not overlap, in order.
    """
    token = _ROWS.set(tuple(rows))
    try:
        yield
    finally:
        _ROWS.reset(token)


def shifted_positions(config: Any, input_ids: Tensor, shifts: Tensor) -> Tensor:
    """Returns the positions of tokens behind joint prefixes, as peft's cache makes them.

    Args:
        config: The model's configuration.
        input_ids: `(batch, tokens)`.
        shifts: `(batch,)`, the length of each row's prefix; 0 for none.

    Returns:
        `(batch, tokens)`: the position from the row's start, or in RoBERTa the number of
        tokens that are not padding so far, plus the shift.
    """
    if config.model_type in _COUNTING:
        real = input_ids.ne(config.pad_token_id).long()
        return (real.cumsum(1) + shifts[:, None]) * real + int(config.pad_token_id)
    steps = torch.arange(input_ids.shape[1], device=input_ids.device)
    return steps[None] + shifts[:, None]


_COUNTING = (
    "roberta",
    "xlm-roberta",
    "camembert",
)  # positions count the tokens that are no padding
_SEEN: ContextVar[list[nn.Module] | None] = ContextVar("attention_modules", default=None)
_ROWS: ContextVar[tuple[PrefixRows, ...]] = ContextVar("prefixed_rows", default=())


def _register() -> None:
    """Names the route to transformers; again does no harm."""
    AttentionInterface.register(_ROUTE, _attention)
    AttentionMaskInterface.register(_ROUTE, sdpa_mask)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Computes attention as `sdpa` does, and with the prefixes that modules or rows have.

    Args:
        module: The attention module.
        query: `(batch, heads, tokens, head_dim)`.
        key: `(batch, kv_heads, tokens, head_dim)`.
        value: Likewise.
        attention_mask: `(batch or 1, 1, tokens, tokens)` booleans, or None.
        **options: scaling, dropout, is_causal and others, as transformers passes them.

    Returns:
        `(batch, tokens, heads, head_dim)` and None.
    """
    text = Attention(module, query, key, value, attention_mask, options)
    if (prefix := getattr(module, CHILD, None)) is not None:
        return prefix(text), None
    if (seen := _SEEN.get()) is not None:
        seen.append(module)
        return text.attend(), None
    if not (runs := _ROWS.get()):
        return text.attend(), None
    parts, done = [], 0
    for run in runs:
        if run.first > done:
            parts.append(text.rows(done, run.first).attend())
        parts.append(_with_prefix(text.rows(run.first, run.end), run))
        done = run.end
    if done < len(query):
        parts.append(text.rows(done, len(query)).attend())
    return torch.cat(parts), None


@dataclass(frozen=True, eq=False)
class Attention:
    """One call of an attention module, as transformers makes it."""

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    options: Mapping[str, Any]

    def rows(self, first: int, end: int) -> Attention:
        """Returns the same for some rows of the batch."""
        query, key, value = (x[first:end] for x in (self.query, self.key, self.value))
        mask = self.mask
        if mask is not None and len(mask) > 1:
            mask = mask[first:end]
        return replace(self, query=query, key=key, value=value, mask=mask)

    def attend(self) -> Tensor:
        """Returns the attention over the text, `(rows, tokens, heads, head_dim)`."""
        result: Tensor = sdpa_attention_forward(
            self.module, self.query, self.key, self.value, self.mask, **self.options
        )[0]
        return result

    def attend_gated(self, keys: Tensor, values: Tensor, gates: Tensor) -> Tensor:
        """Returns the attention over the text plus that over a gated prefix.

        Args:
            keys: `(rows or 1, kv_heads, P, head_dim)`.
            values: Likewise.
            gates: tanh of the gates, `(rows or 1, heads)`.
        """
        keys, values = (x.expand(len(self.query), -1, -1, -1) for x in (keys, values))
        scaling = self.options.get("scaling")
        prefix: Tensor = sdpa_attention_forward(
            self.module, self.query, keys, values, None, scaling=scaling, is_causal=False
        )[0]
        return self.attend() + prefix * gates[:, None, :, None]

    def attend_jointly(self, keys: Tensor, values: Tensor) -> Tensor:
        """Returns the attention over a prefix and the text in one softmax.

        A causal window counts the prefix as text, as it does in peft.

        Args:
            keys: `(rows or 1, kv_heads, P, head_dim)`.
            values: Likewise.
        """
        length = keys.shape[2]
        joint = replace(
            self,
            key=torch.cat([keys.expand(len(self.query), -1, -1, -1), self.key], 2),
            value=torch.cat([values.expand(len(self.query), -1, -1, -1), self.value], 2),
        )
        if self._is_triangular and not self._window_cuts(length):
            # P more queries make the mask a triangle, which needs no mask and has fast kernels
            query = nn.functional.pad(self.query, (0, 0, length, 0))
            return replace(joint, query=query).attend()[:, length:]
        if self.mask is None and not self._is_causal:
            return joint.attend()
        mask = self._explicit_mask()
        seen = self._seen_prefix(length).to(mask.device).expand(*mask.shape[:3], -1)
        if mask.dtype != torch.bool:
            lowest = torch.finfo(mask.dtype).min
            seen = torch.zeros_like(seen, dtype=mask.dtype).masked_fill(~seen, lowest)
        return replace(joint, mask=torch.cat([seen, mask], 3)).attend()

    @property
    def _is_causal(self) -> bool:
        causal = self.options.get("is_causal")
        return bool(getattr(self.module, "is_causal", True) if causal is None else causal)

    @property
    def _is_triangular(self) -> bool:
        """Whether no mask is given, and a triangle over the text is meant."""
        n_query = self.query.shape[2]
        return self.mask is None and self._is_causal and 1 < n_query == self.key.shape[2]

    def _window_cuts(self, length: int) -> bool:
        """Whether a causal window is shorter than prefix and text."""
        window = self.options.get("sliding_window")
        return self._is_causal and window is not None and window < length + self.key.shape[2]

    def _explicit_mask(self) -> Tensor:
        """Returns the mask `(rows, 1, tokens, tokens)` that None stands for."""
        n_rows, _, n_query, _ = self.query.shape
        n_key = self.key.shape[2]
        if self.mask is not None:
            return self.mask.expand(n_rows, -1, -1, -1)
        mask = torch.ones(n_query, n_key, dtype=torch.bool, device=self.query.device)
        if self._is_causal:
            mask = mask.tril(n_key - n_query)
        return mask.expand(n_rows, 1, -1, -1)

    def _seen_prefix(self, length: int) -> Tensor:
        """Returns which tokens see which part of the prefix, `(1, 1, tokens, P)`."""
        n_query, n_key = self.query.shape[2], self.key.shape[2]
        seen = torch.ones(n_query, length, dtype=torch.bool, device=self.query.device)
        if self._window_cuts(length):
            # token i stands at P + i and sees what stands above P + i - window
            first = length + n_key - n_query - int(self.options["sliding_window"]) + 1
            seen = seen.triu(first)
        return seen[None, None]


def _with_prefix(text: Attention, run: PrefixRows) -> Tensor:
    """Returns the attention of rows that all have prefixes of one form."""
    keys, values, gates = run.layer(int(getattr(text.module, _LAYER)), text.key)
    if gates is None:
        return text.attend_jointly(keys, values)
    return text.attend_gated(keys, values, gates)


def attention_modules(model: nn.Module) -> list[Any]:
    """Returns the attention modules in the order of their layers."""
    numbered = [module for module in model.modules() if hasattr(module, _LAYER)]
    return sorted(numbered, key=lambda module: int(getattr(module, _LAYER)))
