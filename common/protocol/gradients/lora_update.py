"""A LoRA update as numbers: A and B of each layer, from and to adapter folders and frames.

The update of a layer is the product B A, `(n_out, n_in)`, with B `(n_out, r)` and A
`(r, n_in)` (Hu et al. 2021, arXiv 2106.09685). LoRA's scale alpha / r is multiplied into
B when it is read, so that updates of any rank and scale can be added.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from common.adapters.folder import (
    BASE,
    CONFIG,
    WEIGHTS,
    kind_of,
    read_json,
    read_tensors,
    remove_saved,
    unfit,
    write_settings,
)
from common.adapters.heads import HEAD, load_head, save_head
from common.errors import AdapterError, MessageError
from common.protocol.gradients.frames import frame_of, tensors_of
from common.protocol.messages.payloads import GradientFrame

__all__ = ["Factors", "LoraUpdate", "read_update", "update_frame", "update_of", "write_update"]

_TENSOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
_IN_FRAME = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])")
_HEAD = "head."
# The base's name and the tokenizer; whatever else lies in a site's folder stays there.
_KEPT = (
    BASE,
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template.jinja",
)


@dataclass(frozen=True, eq=False)
class Factors:
    """The update of one layer, B A.

    Args:
        a: A, `(r, n_in)`.
        b: B with the scale in it, `(n_out, r)`.

    Raises:
        MessageError: The shapes do not go together.
    """

    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        fits = self.a.ndim == self.b.ndim == 2 and self.a.shape[0] == self.b.shape[1] > 0
        if not fits:
            raise MessageError(
                "LoRA update",
                expected="A (r, n_in) and B (n_out, r) of one rank for each layer",
                found=f"{tuple(self.a.shape)} and {tuple(self.b.shape)}",
                remedy="Send both factors of every layer as the adapter holds them.",
            )

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)` of the layer."""
        return self.b.shape[0], self.a.shape[1]

    def product(self) -> Tensor:
        """Returns B A in float64, `(n_out, n_in)`."""
        return self.b.double() @ self.a.double()


@dataclass(frozen=True, eq=False)
class LoraUpdate:
    """What an adapter changes in its base.

    Args:
        layers: Layer name in the base to its update.
        head: The head trained with it, by tensor name ("weight", "bias"); empty without
            one. These are values, not changes.
    """

    layers: Mapping[str, Factors]
    head: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", MappingProxyType(dict(sorted(self.layers.items()))))
        object.__setattr__(self, "head", MappingProxyType(dict(self.head)))

    @property
    def rank(self) -> int:
        """The largest rank of its layers."""
        return max((factors.rank for factors in self.layers.values()), default=0)

    def tensors(self) -> dict[str, Tensor]:
        """Returns everything by name: `<layer>.lora_A`, `<layer>.lora_B`, `head.<tensor>`."""
        named = {f"{_HEAD}{name}": tensor for name, tensor in self.head.items()}
        for layer, factors in self.layers.items():
            named[f"{layer}.lora_A"], named[f"{layer}.lora_B"] = factors.a, factors.b
        return named

    def is_finite(self) -> bool:
        """Tells whether all its numbers are finite."""
        return all(bool(torch.isfinite(x).all()) for x in self.tensors().values())


def read_update(folder: Path) -> LoraUpdate:
    """Reads the LoRA adapter in `folder`, as peft or `save_adapter` wrote it.

    Raises:
        AdapterError: It is none, damaged, or computes more than W x + s B A x (DoRA, biases,
            modules of its own).
    """
    from common.adapters.bank_layouts import lora_scale, require_plain_lora

    if kind_of(folder) != "lora":
        raise unfit("a LoRA adapter", kind_of(folder))
    settings = read_json(folder / CONFIG)
    require_plain_lora(settings)
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(folder / WEIGHTS).items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise unfit("A and B of linear layers", "other tensors")
        sides.setdefault(match["layer"], {})[match["side"]] = tensor.float()
    layers = {}
    for layer, pair in sides.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[:1] != pair["B"].shape[1:]:
            raise unfit("A (r, n_in) and B (n_out, r) of each layer", "other shapes")
        scale = lora_scale(settings, layer, pair["A"].shape[0])
        layers[layer] = Factors(pair["A"], pair["B"] * scale)
    head = read_tensors(folder / HEAD) if (folder / HEAD).is_file() else {}
    return LoraUpdate(layers, head)


def write_update(
    update: LoraUpdate, folder: Path, *, like: Path, alpha: float | None = None
) -> None:
    """Writes `update` as a LoRA adapter that peft, `attach_adapter` and the bank load.

    The base is named by digest and never written: whatever the update holds (a residual
    included) is in the factors, whose rank grows with it. Layers of smaller rank are
    filled with zeros, which changes nothing.

    Args:
        update: What to write.
        folder: Where; made if it is not there. An adapter saved there earlier gives way.
        like: Folder of one of the adapters that it comes from: base, tokenizer, targets
            and head are as there.
        alpha: LoRA's alpha in the folder; the rank without it, which makes the scale 1.

    Raises:
        AdapterError: It changes other layers than `like`, or the folder holds another model.
    """
    from safetensors.torch import save_file

    layers = set(read_update(like).layers)
    if set(update.layers) != layers:
        raise AdapterError(
            "LoRA update",
            expected=f"the {len(layers)} layers of the adapter that it is like",
            found=f"{len(update.layers)}, or others",
            remedy="Name the folder of an adapter of the same targets.",
        )
    rank = update.rank
    scale = (alpha or rank) / rank
    tensors = {}
    for layer, factors in update.layers.items():
        filled = _filled(factors, rank)
        prefix = f"base_model.model.{layer}.lora_"
        tensors[f"{prefix}A.weight"] = filled.a.float().contiguous()
        tensors[f"{prefix}B.weight"] = (filled.b.float() / scale).contiguous()
    settings = read_json(like / CONFIG) | {
        "r": rank,
        "lora_alpha": alpha or rank,
        "use_rslora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    head = load_head(like, hidden_size=update.head["weight"].shape[1]) if update.head else None
    folder.mkdir(parents=True, exist_ok=True)
    remove_saved(folder)
    if folder.resolve() != like.resolve():
        for path in sorted(path for pattern in _KEPT for path in like.glob(pattern)):
            shutil.copyfile(path, folder / path.name)
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    write_settings(settings, folder)
    if head is not None:
        weight, bias = (update.head[name].float().numpy() for name in ("weight", "bias"))
        save_head(replace(head, weight=weight, bias=bias), folder)


def update_frame(
    update: LoraUpdate,
    *,
    round: int,  # noqa: A002  # the frame's own word
    site: str,
    n_samples: int,
) -> GradientFrame:
    """Returns `update` as the frame with which a site sends it."""
    return frame_of(update.tensors(), round=round, site=site, n_samples=n_samples)


def update_of(frame: GradientFrame) -> LoraUpdate:
    """Returns the update in a frame; its numbers may be NaN.

    Raises:
        MessageError: The frame holds no LoRA update, or shapes that do not go together.
    """
    sides: dict[str, dict[str, Tensor]] = {}
    head: dict[str, Tensor] = {}
    for name, tensor in tensors_of(frame).items():
        match = _IN_FRAME.fullmatch(name)
        if match is not None:
            sides.setdefault(match["layer"], {})[match["side"]] = tensor.float()
        elif name.startswith(_HEAD):
            head[name.removeprefix(_HEAD)] = tensor.float()
        else:
            raise _no_update("tensors of other names")
    if not sides or any(set(pair) != {"A", "B"} for pair in sides.values()):
        raise _no_update("no layer, or one without A or B")
    layers = {layer: Factors(pair["A"], pair["B"]) for layer, pair in sides.items()}
    return LoraUpdate(layers, head)


def _filled(factors: Factors, rank: int) -> Factors:
    """Returns the same product at a larger rank."""
    missing = rank - factors.rank
    pad = torch.nn.functional.pad
    return Factors(pad(factors.a, (0, 0, 0, missing)), pad(factors.b, (0, missing)))


def _no_update(found: str) -> MessageError:
    return MessageError(
        "gradient frame",
        expected="<layer>.lora_A and <layer>.lora_B for each layer, and head.<tensor>",
        found=found,
        remedy="Make the frame with update_frame().",
    )
