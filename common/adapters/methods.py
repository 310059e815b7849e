"""Ways to tune a frozen base, as data: LoRA, prefix, bottleneck adapters, all weights.

Each counts the parameters that it would train from the anatomy of a base alone, and says
before anything is built whether the base can take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from common.adapters.anatomy import Anatomy, Linear, Refusal
from common.errors import AdapterError

__all__ = ["Bottleneck", "Full", "LoRA", "Method", "Prefix"]

Targets = Literal["attention", "all-linear"]


class _Method:
    """What the methods have in common: they refuse what cannot take them."""

    kind: ClassVar[str]

    def refusal(self, anatomy: Anatomy) -> Refusal | None:
        """Returns why a network cannot take this method, if so."""
        if isinstance(self, Prefix):
            return _prefix_refusal(self, anatomy)
        return anatomy.refusals.get(self.kind)

    def require(self, anatomy: Anatomy) -> None:
        """Raises AdapterError, with reason and alternatives, if the network is refused."""
        refusal = self.refusal(anatomy)
        if refusal is not None:
            raise AdapterError(
                "tuning method",
                expected=f"one that {anatomy.family} can take",
                found=f"{self}: {refusal.reason}",
                remedy=f"Take {' or '.join(refusal.alternatives)}.",
            )


@dataclass(frozen=True)
class LoRA(_Method):
    """Low-rank updates of linear layers: W x + (alpha / r) B A x, B = 0 at first.

    Hu et al. 2021, arXiv 2106.09685, who adapt queries and values with r = 8 and a scale
    of 2 and initialise A as a linear layer is; "all-linear" as QLoRA (Dettmers et al.
    2023, arXiv 2305.14314).

    Args:
        rank: r.
        alpha: The scale is alpha / r.
        dropout: Dropout before A, in training.
        targets: "attention" (the layers of queries and values; where queries, keys and
            values come from one fused layer, as in ModernBERT's Wqkv and MONAI's qkv, that
            layer, so that keys are adapted too), "all-linear" (every linear layer of the
            blocks), or names or name endings of layers inside a block.
    """

    kind: ClassVar[str] = "lora"

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: Targets | tuple[str, ...] = "attention"

    def __post_init__(self) -> None:
        _require("LoRA's rank", self.rank >= 1, "1 or more", self.rank)
        _require("LoRA's alpha", self.alpha > 0, "more than 0", self.alpha)
        _require("LoRA's dropout", 0 <= self.dropout < 1, "0 or more, below 1", self.dropout)
        known = not isinstance(self.targets, str) or self.targets in ("attention", "all-linear")
        expected = '"attention", "all-linear" or a tuple of names'
        _require("LoRA's targets", bool(self.targets) and known, expected, self.targets)

    def linears(self, anatomy: Anatomy) -> tuple[Linear, ...]:
        """Returns the layers that it adapts.

        Raises:
            AdapterError: A name fits no layer.
        """
        return anatomy.linears_named(self.names(anatomy))

    def names(self, anatomy: Anatomy) -> tuple[str, ...]:
        """Returns the names inside a block, or their endings, that `targets` stands for."""
        if self.targets == "attention":
            return anatomy.query_value
        return anatomy.names if self.targets == "all-linear" else tuple(self.targets)

    def count_parameters(self, anatomy: Anatomy) -> int:
        """Returns the trained parameters: r (inputs + outputs) of each adapted layer."""
        return sum(x.count * self.rank * (x.n_in + x.n_out) for x in self.linears(anatomy))


@dataclass(frozen=True)
class Prefix(_Method):
    """Trained keys and values before those of the text, in every layer.

    Li and Liang 2021, arXiv 2101.00190, without their reparametrisation, as P-tuning v2
    (Liu et al. 2021, arXiv 2110.07602). Even keys and values of zero change the softmax, so
    a plain prefix starts away from its base. With `zero_gate` the prefix has a softmax of
    its own times tanh(gate), one gate of 0 per layer and head, and starts at the base
    (Zhang et al. 2023, arXiv 2303.16199).

    A plain prefix moves the text's positions by `n_virtual_tokens`, which leaves that many
    fewer for the text.

    Args:
        n_virtual_tokens: Length P of the prefix.
        zero_gate: Whether to start at the base, through our own attention route.
    """

    kind: ClassVar[str] = "prefix"

    n_virtual_tokens: int = 16
    zero_gate: bool = False

    def __post_init__(self) -> None:
        _require(
            "a prefix's virtual tokens",
            self.n_virtual_tokens >= 1,
            "1 or more",
            self.n_virtual_tokens,
        )

    def count_parameters(self, anatomy: Anatomy) -> int:
        """Returns the trained parameters: P keys and values per layer, and the gates.

        Raises:
            AdapterError: The base takes no prefix.
        """
        self.require(anatomy)
        key_values = 2 * anatomy.n_layers * anatomy.n_kv_heads * anatomy.head_dim
        gates = anatomy.n_layers * anatomy.n_heads * self.zero_gate
        return self.n_virtual_tokens * key_values + gates

    def max_tokens(self, anatomy: Anatomy, base_max_tokens: int) -> int:
        """Returns the longest text that still fits behind the prefix."""
        if self.zero_gate or anatomy.n_positions is None:
            return base_max_tokens
        return min(base_max_tokens, anatomy.n_positions - self.n_virtual_tokens)


@dataclass(frozen=True)
class Bottleneck(_Method):
    """Small networks between the blocks' parts: y + scale * up(activation(down(x))).

    Down and up have biases; up is zero at first, so that the network starts at its base.

    Args:
        size: Width of the bottleneck.
        variant: "pfeiffer": x = y is the output of the feed-forward part (Pfeiffer et al.
            2020, arXiv 2005.00247); "houlsby": that and the output of the attention
            (Houlsby et al. 2019, arXiv 1902.00751); "parallel": x is the input of the
            feed-forward part, y its output (He et al. 2021, arXiv 2110.04366, whose
            scale is 4).
        activation: Name of the activation between down and up, as transformers has it.
        scale: Factor of the adapter's output.
    """

    kind: ClassVar[str] = "bottleneck"

    size: int = 64
    variant: Literal["pfeiffer", "houlsby", "parallel"] = "pfeiffer"
    activation: str = "gelu"
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require("a bottleneck's size", self.size >= 1, "1 or more", self.size)
        variants = ("pfeiffer", "houlsby", "parallel")
        expected = " or ".join(variants)
        _require("a bottleneck's variant", self.variant in variants, expected, self.variant)
        _require("a bottleneck's scale", self.scale > 0, "more than 0", self.scale)

    def sites(self, anatomy: Anatomy) -> tuple[str, ...]:
        """Returns the names inside a block of the layers whose output it changes."""
        if self.variant == "houlsby":
            return (anatomy.attention_output, anatomy.feed_forward_output)
        return (anatomy.feed_forward_output,)

    def count_parameters(self, anatomy: Anatomy) -> int:
        """Returns the trained parameters: 2 h m + m + h of each site, h its width."""
        sites = [x for x in anatomy.linears if x.name in self.sites(anatomy)]
        m = self.size
        return sum(x.count * (2 * x.n_out * m + m + x.n_out) for x in sites)


@dataclass(frozen=True)
class Full(_Method):
    """All weights, in a copy of the base; a language model's own head is left as it is."""

    kind: ClassVar[str] = "full"

    def count_parameters(self, anatomy: Anatomy) -> int:
        """Returns the trained parameters: every one that the hidden states depend on."""
        return anatomy.n_parameters


Method = LoRA | Prefix | Bottleneck | Full


def _prefix_refusal(prefix: Prefix, anatomy: Anatomy) -> Refusal | None:
    if prefix.zero_gate or "prefix" in anatomy.refusals:
        return anatomy.refusals.get("prefix")
    if anatomy.n_positions is not None and anatomy.n_positions - prefix.n_virtual_tokens < 3:
        return Refusal(
            f"{prefix.n_virtual_tokens} virtual tokens leave no room for a text in its "
            f"{anatomy.n_positions} positions",
            ("a shorter prefix", "Prefix(zero_gate=True)"),
        )
    return None


def _require(subject: str, holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise AdapterError(
            subject, expected=expected, found=repr(found), remedy="Set it to such a value."
        )
