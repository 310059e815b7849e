"""LoRA adapters on a frozen base: make, save and attach them as peft folders.

A folder holds peft's `adapter_config.json` and `adapter_model.safetensors`, and
`base.json` with the name and digest of the base that it was trained on. An adapter for
another base is refused.

LoRA: h = W x + (alpha / r) B A x, with B = 0 at first (Hu et al. 2021, arXiv 2106.09685).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.backbones import Backbone
from common.errors import AdapterError
from common.task import digest_of

__all__ = [
    "Adapter",
    "adapter_digest",
    "attach_adapter",
    "attach_new_lora",
    "count_trained",
    "save_adapter",
]

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_BASE = "base.json"


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter attached to a base.

    Args:
        backbone: The base with the adapter in its `model`; it shares the base's tensors.
        name: The folder's name.
        digest: sha256 of the adapter's files; empty while it is being trained.
        n_parameters: How many parameters the adapter has.
    """

    backbone: Backbone
    name: str
    digest: str
    n_parameters: int


def attach_adapter(backbone: Backbone, folder: Path) -> Adapter:
    """Attaches the LoRA adapter in `folder` to `backbone`, frozen, in evaluation mode.

    Args:
        backbone: The base that the adapter was trained on; it is not changed.
        folder: A folder that `save_adapter` wrote.

    Raises:
        AdapterError: A file is absent or damaged, the adapter is no LoRA, it was trained
            on another base, or its tensors do not fit the base.
    """
    from peft import PeftModel
    from peft.utils import get_peft_model_state_dict

    _require_files(folder)
    _require_base(folder, backbone)
    _require_lora(folder)
    tensors = _read_tensors(folder / _WEIGHTS)
    try:
        model = PeftModel.from_pretrained(_sharing_copy(backbone.model), str(folder))
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise _unfit("tensors and targets that fit the base", type(error).__name__) from error
    slots = get_peft_model_state_dict(model, save_embedding_layers=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in slots.items()}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
        raise _unfit(f"{len(shapes)} tensors that fit the base", f"{len(tensors)} others")
    return Adapter(
        backbone=replace(backbone, model=model.eval().requires_grad_(False)),
        name=folder.resolve().name,
        digest=adapter_digest(folder),
        n_parameters=sum(tensor.numel() for tensor in tensors.values()),
    )


def attach_new_lora(
    backbone: Backbone,
    *,
    rank: int = 8,
    alpha: int = 16,
    dropout: float = 0.0,
    target_modules: Sequence[str] = ("query", "value"),
    seed: int = 0,
) -> Adapter:
    """Attaches an untrained LoRA adapter, which leaves the base's output unchanged.

    Args:
        backbone: The base; it is not changed.
        rank: Rank r of the update.
        alpha: Its scale is alpha / r.
        dropout: Dropout before A, in training.
        target_modules: Name endings of the linear layers to adapt.
        seed: Seed of A's initial values.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(target_modules)
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(_sharing_copy(backbone.model), config)
    return Adapter(replace(backbone, model=model), "untrained", "", count_trained(model))


def save_adapter(adapter: Adapter, folder: Path) -> None:
    """Writes the adapter and the digest of its base to `folder`."""
    model, backbone = adapter.backbone.model, adapter.backbone
    model.peft_config["default"].base_model_name_or_path = backbone.name
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    base = {"name": backbone.name, "digest": backbone.digest}
    (folder / _BASE).write_text(json.dumps(base, indent=2) + "\n", encoding="utf-8")


def count_trained(model: Any) -> int:
    """Returns how many parameters of `model` receive gradients."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def adapter_digest(folder: Path) -> str:
    """Returns the sha256 over the adapter's configuration, base and every safetensors file."""
    names = sorted({_CONFIG, _BASE, *(path.name for path in folder.glob("*.safetensors"))})
    pieces = [piece for name in names for piece in (name.encode(), (folder / name).read_bytes())]
    return digest_of(*pieces)


def _sharing_copy(model: Any) -> Any:
    """Copies a module's structure but not its tensors, so that the base is never rewired."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _require_files(folder: Path) -> None:
    absent = [name for name in (_CONFIG, _WEIGHTS, _BASE) if not (folder / name).is_file()]
    if absent:
        raise _unfit(f"a folder with {_CONFIG}, {_WEIGHTS}, {_BASE}", f"no {', '.join(absent)}")


def _require_base(folder: Path, backbone: Backbone) -> None:
    trained_on = _read_json(folder / _BASE).get("digest")
    if trained_on != backbone.digest:
        raise AdapterError(
            "adapter",
            expected=f"one trained on {backbone.name} ({backbone.digest[:12]}...)",
            found=f"one trained on {str(trained_on)[:12]}...",
            remedy="Load the base that base.json in the adapter's folder names.",
        )


def _require_lora(folder: Path) -> None:
    kind = _read_json(folder / _CONFIG).get("peft_type")
    if kind != "LORA":
        raise _unfit("peft_type LORA", repr(kind))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise _unfit(f"JSON in {path.name}", "something else") from error
    if not isinstance(content, dict):
        raise _unfit(f"a JSON object in {path.name}", type(content).__name__)
    return content


def _read_tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(str(path))
    except SafetensorError as error:
        raise _unfit(f"safetensors in {path.name}", "a damaged file") from error
    return tensors


def _unfit(expected: str, found: str) -> AdapterError:
    return AdapterError(
        "adapter",
        expected=expected,
        found=found,
        remedy="Restore the adapter's folder from where it came, or train it again.",
    )
