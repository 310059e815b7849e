"""Where an adapter's tensors lie in its weights file, and what in it is multiplied by its scale.

LoRA's scale is alpha / r (Hu et al. 2021, arXiv 2106.09685) or alpha / sqrt(r)
(rank-stabilised LoRA, Kalajdzievski 2023, arXiv 2312.03732).
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

from transformers.activations import ACT2FN

from common.adapters.anatomy import Anatomy, anatomy_of
from common.adapters.bank_layers import BottleneckLayout, Layout, LoraLayout, PrefixLayout, Slot
from common.adapters.folder import CONFIG, Kind, unfit
from common.adapters.methods import Prefix
from common.adapters.prefix_attention import EMBEDDINGS, GATES
from common.adapters.weights_file import Header
from common.errors import AdapterError

__all__ = ["Factors", "Layouts", "lora_scale", "require_plain_lora"]

Factors = tuple[tuple[int, int, float], ...]
_L = TypeVar("_L", bound=Layout)

_LORA = re.compile(r"base_model\.model\.(?P<site>.+)\.lora_(?P<side>[AB])\.weight")
_BOTTLENECK = re.compile(
    r"base_model\.model\.(?P<site>.+)\.bottleneck_(?P<part>(?:down|up)\.(?:weight|bias))"
)
_BLOCK = re.compile(r"(?:.*?\.)??\d+(?=\.)")

# peft's options that change what LoRA computes beyond W x + s B A x, and what each must be.
_LORA_NEEDS: Mapping[str, Sequence[object]] = {
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),  # others move the base
    **dict.fromkeys(
        (
            "alora_invocation_tokens",
            "arrow_config",
            "fan_in_fan_out",
            "kasa_config",
            "layer_replication",
            "lora_bias",
            "modules_to_save",
            "monteclora_config",
            "target_parameters",
            "trainable_token_indices",
            "use_bdlora",
            "use_dora",
            "use_qalora",
        ),
        (None, False, [], {}),
    ),
}


@dataclass
class Layouts:
    """The layouts of one base's adapters; those that can be stacked share one.

    Args:
        config: The base's configuration.
        linears: Inputs and outputs of each of its linear layers, by name.
    """

    config: Any
    linears: Mapping[str, tuple[int, int]]
    _known: dict[tuple[object, ...], Layout] = field(default_factory=dict)

    def find(
        self, kind: Kind, settings: Mapping[str, Any], header: Header
    ) -> tuple[Layout, Factors]:
        """Returns the layout of an adapter, and start, end and factor of what its scale meets.

        Args:
            kind: Its method.
            settings: Its `adapter_config.json`.
            header: What its weights file holds.

        Raises:
            AdapterError: The tensors do not fit the base, or an option is one that rows
                of a shared base cannot have.
        """
        if kind == "bottleneck":
            return self._bottleneck(settings, header)
        if kind == "prefix":
            return self._prefix(settings, header), ()
        return self._lora(settings, header)

    def _lora(self, settings: Mapping[str, Any], header: Header) -> tuple[Layout, Factors]:
        require_plain_lora(settings)
        layout = self._known.get(("lora", header.tensors))
        if not isinstance(layout, LoraLayout):
            layout = LoraLayout(*_lora_sites(header, self.linears))
            layout = self._shared(("lora", header.tensors), layout)
        scaled = [
            (up, lora_scale(settings, site, up.shape[1])) for site, (_, up) in layout.sites.items()
        ]
        return layout, _factors(layout, scaled)

    def _bottleneck(self, settings: Mapping[str, Any], header: Header) -> tuple[Layout, Factors]:
        variant, activation, scale = _bottleneck_settings(settings)
        key = ("bottleneck", variant == "parallel", activation, header.tensors)
        layout = self._known.get(key)
        if not isinstance(layout, BottleneckLayout):
            blocks, sites = _bottleneck_sites(header, self.linears)
            sources = self._sources(sites) if variant == "parallel" else {}
            made = BottleneckLayout(blocks, sites, sources, ACT2FN[activation])
            layout = self._shared(key, made)
        scaled = [(up, scale) for slots in layout.sites.values() for up in slots[2:]]
        return layout, _factors(layout, scaled)

    def _prefix(self, settings: Mapping[str, Any], header: Header) -> PrefixLayout:
        if settings.get("modules_to_save"):
            raise _own_weights("modules_to_save")
        layout = self._known.get(("prefix", header.tensors))
        if isinstance(layout, PrefixLayout):
            return layout
        anatomy = self.anatomy
        slots = {
            name: Slot(0, first, _rows_and_columns(shape)) for name, shape, first in header.tensors
        }
        embeddings, gates = slots.get(EMBEDDINGS), slots.get(GATES)
        width = anatomy.n_layers * 2 * anatomy.n_kv_heads * anatomy.head_dim
        fits = embeddings is not None and embeddings.shape[1] == width
        fits &= gates is None or gates.shape == (anatomy.n_layers, anatomy.n_heads)
        if embeddings is None or not fits or len(slots) != 1 + (gates is not None):
            raise unfit(f"{EMBEDDINGS} (P, {width}), and {GATES} if it is gated", "other tensors")
        Prefix(embeddings.shape[0], gates is not None).require(anatomy)
        blocks = ((0, header.n_elements),)
        made = PrefixLayout(blocks, embeddings, gates, anatomy.n_kv_heads, anatomy.head_dim)
        return self._shared(("prefix", header.tensors), made)

    def _shared(self, key: tuple[object, ...], layout: _L) -> _L:
        """Keeps a layout; where a thread was faster, returns that one's."""
        known = self._known.setdefault(key, layout)
        return known if isinstance(known, type(layout)) else layout

    def _sources(self, sites: Iterable[str]) -> dict[str, str]:
        """Returns for the end of each feed-forward part its first layer."""
        anatomy = self.anatomy
        first, last = anatomy.feed_forward_input, anatomy.feed_forward_output
        sources = {site: site.removesuffix(last) + first for site in sites}
        for site, source in sources.items():
            if not site.endswith(last) or source not in self.linears:
                raise unfit("a parallel adapter at the end of a feed-forward part", site)
        return sources

    @cached_property
    def anatomy(self) -> Anatomy:
        """The base's build."""
        return anatomy_of(self.config)


def _factors(layout: Layout, scaled: Iterable[tuple[Slot, float]]) -> Factors:
    starts = [layout.blocks[slot.block][0] for slot, _ in scaled]
    return tuple(
        (start + slot.start, start + slot.end, factor)
        for start, (slot, factor) in zip(starts, scaled, strict=True)
        if factor != 1.0
    )


def _block_slots(header: Header) -> tuple[dict[str, Slot], tuple[tuple[int, int], ...]]:
    """Returns each tensor's slot, and the blocks: a layer's tensors, which stand together.

    A file in another order, which safetensors itself does not write, is one block.
    """
    layers = [
        match.group() if (match := _BLOCK.match(name)) else "" for name, _, _ in header.tensors
    ]
    starts = [
        first
        for number, (_, _, first) in enumerate(header.tensors)
        if number == 0 or layers[number] != layers[number - 1]
    ]
    if len(starts) != len(set(layers)):
        starts = [0]
    blocks = tuple(pairwise((*starts, header.n_elements)))
    slots: dict[str, Slot] = {}
    for name, shape, first in header.tensors:
        block = bisect_right(starts, first) - 1
        slots[name] = Slot(block, first - starts[block], _rows_and_columns(shape))
    return slots, blocks


def _rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0] if shape else 1, math.prod(shape[1:]))


def _lora_sites(
    header: Header, linears: Mapping[str, tuple[int, int]]
) -> tuple[tuple[tuple[int, int], ...], dict[str, tuple[Slot, Slot]]]:
    slots, blocks = _block_slots(header)
    sides: dict[str, dict[str, Slot]] = {}
    for name, slot in slots.items():
        match = _LORA.fullmatch(name)
        if match is None or match["site"] not in linears:
            raise unfit("A and B of linear layers of the base", _place(name))
        sides.setdefault(match["site"], {})[match["side"]] = slot
    for site, pair in sides.items():
        n_in, n_out = linears[site]
        shapes = tuple(pair[side].shape for side in sorted(pair))
        r = shapes[0][0]
        if len(pair) != 2 or r < 1 or shapes != ((r, n_in), (n_out, r)):
            raise unfit(f"A (r, {n_in}) and B ({n_out}, r) for {site}", f"shapes {shapes}")
    return blocks, {site: (pair["A"], pair["B"]) for site, pair in sides.items()}


def _bottleneck_sites(
    header: Header, linears: Mapping[str, tuple[int, int]]
) -> tuple[tuple[tuple[int, int], ...], dict[str, tuple[Slot, Slot, Slot, Slot]]]:
    slots, blocks = _block_slots(header)
    found: dict[str, dict[str, Slot]] = {}
    for name, slot in slots.items():
        match = _BOTTLENECK.fullmatch(name)
        if match is None or match["site"] not in linears:
            raise unfit("bottlenecks at linear layers of the base", _place(name))
        found.setdefault(match["site"], {})[match["part"]] = slot
    for site, parts in found.items():
        h = linears[site][1]
        m = parts["down.weight"].shape[0] if "down.weight" in parts else 0
        expected = {
            "down.weight": (m, h), "down.bias": (m, 1), "up.weight": (h, m), "up.bias": (h, 1)
        }  # fmt: skip
        if {part: slot.shape for part, slot in parts.items()} != expected:
            raise unfit(f"down (m, {h}) and up ({h}, m) with biases for {site}", "other shapes")
    names = ("down.weight", "down.bias", "up.weight", "up.bias")
    return blocks, {
        site: (parts[names[0]], parts[names[1]], parts[names[2]], parts[names[3]])
        for site, parts in found.items()
    }


def _bottleneck_settings(settings: Mapping[str, Any]) -> tuple[str, str, float]:
    """Returns variant, activation and scale."""
    if settings.get("modules_to_save"):
        raise _own_weights("modules_to_save")
    variant, activation = settings.get("variant"), settings.get("activation")
    scale = settings.get("scale")
    known = variant in ("pfeiffer", "houlsby", "parallel") and activation in ACT2FN
    if not known or not isinstance(scale, int | float):
        raise unfit(f"variant, activation and scale in {CONFIG}", "other settings")
    return str(variant), str(activation), float(scale)


def _place(tensor_name: str) -> str:
    return f"a tensor for {tensor_name.removeprefix('base_model.model.')[:80]}"


def require_plain_lora(settings: Mapping[str, Any]) -> None:
    """Raises AdapterError unless LoRA's settings mean W x + s B A x and nothing else."""
    for option, allowed in _LORA_NEEDS.items():
        value = settings.get(option, allowed[0])
        if value not in allowed:
            raise _own_weights(option)


def lora_scale(settings: Mapping[str, Any], site: str, rank: int) -> float:
    """Returns alpha / r, or alpha / sqrt(r); alpha by layer where the settings say so.

    Args:
        settings: LoRA's settings, as peft has them.
        site: Name of the layer in the base.
        rank: r of that layer.

    Raises:
        AdapterError: There is no usable alpha.
    """
    try:
        patterns = settings.get("alpha_pattern") or {}
        own = [a for key, a in patterns.items() if re.match(rf"(.*\.)?({key})$", site)]
        alpha = float((own or [settings["lora_alpha"]])[0])
        return alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank
    except (KeyError, TypeError, ValueError, re.error) as error:
        raise unfit(f"lora_alpha in {CONFIG}", type(error).__name__) from error


def _own_weights(option: str) -> AdapterError:
    return AdapterError(
        "adapter",
        expected=f"one without {option}, since the bank's rows share the base's weights",
        found=f"{option} in {CONFIG}",
        remedy="Train it without that option, or serve it as a base of its own.",
    )
