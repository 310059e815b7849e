"""The build of a network as adapters see it: sizes, linear layers, places, limits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from common.errors import AdapterError

__all__ = ["UNUSED", "Anatomy", "Linear", "Refusal", "Role"]

Role = Literal["attention", "feed_forward"]

UNUSED = ("pooler.", "norm_cross_attn.")  # parameters that the hidden states do not depend on


@dataclass(frozen=True)
class Linear:
    """A linear layer that every block, or every block of a stage, has.

    Args:
        name: Dotted name inside a block ("attention.self.query").
        n_in: Inputs.
        n_out: Outputs.
        role: The part of the block that it belongs to.
        count: How many the network has of this name and size.
        bias: Whether it has a bias.
    """

    name: str
    n_in: int
    n_out: int
    role: Role
    count: int
    bias: bool

    @property
    def n_parameters(self) -> int:
        """Parameters of all `count` layers."""
        return self.count * (self.n_in * self.n_out + self.bias * self.n_out)


@dataclass(frozen=True)
class Refusal:
    """Why a network does not take a method, and what it takes instead."""

    reason: str
    alternatives: tuple[str, ...]


@dataclass(frozen=True)
class Anatomy:
    """The build of a network.

    Args:
        family: transformers' `model_type`, or "vit" and "swin_unetr" for MONAI's.
        hidden_size: Width of the last hidden state; of the first stage for SwinUNETR.
        n_layers: Blocks.
        n_heads: Heads of query; of the first stage for SwinUNETR.
        n_kv_heads: Heads of key and value, fewer with grouped-query attention.
        head_dim: Width of a head.
        n_parameters: All parameters that the hidden states depend on.
        n_lm_head_parameters: What a separate language-model head adds; 0 where it is the
            input embedding (tied), and where there is none.
        blocks: Regular expression of a block's dotted name.
        linears: The linear layers of the blocks.
        query_value: Names that carry queries and values. Where one fused layer gives
            queries, keys and values (ModernBERT, MONAI), it is that layer: its update
            then reaches the keys as well.
        attention_output: Linear layer whose output leaves the attention.
        feed_forward_input: First linear layer of the feed-forward part.
        feed_forward_output: Linear layer whose output leaves the feed-forward part.
        n_positions: Longest input, special tokens included; None where it is not fixed.
        refusals: Per method, or variant of one, why it cannot be had here.
    """

    family: str
    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_parameters: int
    n_lm_head_parameters: int
    blocks: str
    linears: tuple[Linear, ...]
    query_value: tuple[str, ...]
    attention_output: str
    feed_forward_input: str
    feed_forward_output: str
    n_positions: int | None = None
    refusals: Mapping[str, Refusal] = field(default_factory=dict)

    def linears_named(self, names: Sequence[str]) -> tuple[Linear, ...]:
        """Returns the layers with one of `names`, or whose name ends in one after a dot.

        A name that is whole stands for itself alone: "output.dense" of BERT does not stand
        for its "attention.output.dense".

        Raises:
            AdapterError: A name fits no layer.
        """
        chosen = {name: self._chosen(name) for name in names}
        if unknown := [name for name, layers in chosen.items() if not layers]:
            raise AdapterError(
                "adapter targets",
                expected=f"names of linear layers of {self.family}: {', '.join(self.names)}",
                found=", ".join(unknown),
                remedy='Name some of these, or take "attention" or "all-linear".',
            )
        wanted = {name for layers in chosen.values() for name in layers}
        return tuple(x for x in self.linears if x.name in wanted)

    def _chosen(self, name: str) -> list[str]:
        if name in self.names:
            return [name]
        return [whole for whole in self.names if _ends(whole, name)]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the linear layers inside a block, each once, in the order of the block."""
        return tuple(dict.fromkeys(linear.name for linear in self.linears))

    def pattern(self, names: Sequence[str]) -> str:
        """Returns a regular expression of the dotted names of these layers in every block.

        It fits nothing outside the blocks, such as a pooler, and both the bare network and
        one inside a wrapper with a head.
        """
        inside = dict.fromkeys(linear.name for linear in self.linears_named(names))
        choices = "|".join(name.replace(".", r"\.") for name in inside)
        return rf"(?:.*\.)?{self.blocks}\.(?:{choices})"

    def matched(self, targets: str | Sequence[str]) -> tuple[str, ...]:
        """Returns the names inside a block that peft's `target_modules` would adapt."""
        if not isinstance(targets, str):
            return tuple(n for n in self.names if any(_ends(n, target) for target in targets))
        sample = re.sub(r"\(\?:[^()]*\)\?", "", self.blocks).replace(r"\d+", "0")
        block = sample.replace("\\", "")
        return tuple(n for n in self.names if re.fullmatch(targets, f"{block}.{n}"))


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")
