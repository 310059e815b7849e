"""Folders of random LoRA adapters for one base, as peft writes them, without building models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from common.adapters.anatomy import Anatomy
from common.adapters.methods import LoRA
from common.backbones import Backbone

__all__ = ["write_lora_folders"]


def write_lora_folders(
    backbone: Backbone, anatomy: Anatomy, method: LoRA, folder: Path, *, n: int, seed: int
) -> list[Path]:
    """Writes `n` adapters whose A and B are drawn at random, and returns their folders.

    Args:
        backbone: The base that they are for.
        anatomy: Its anatomy.
        method: Rank, alpha and targets.
        folder: Where to write.
        n: How many.
        seed: Seed of the weights; B is not zero, so that every adapter matters.
    """
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file

    targets = anatomy.pattern(method.names(anatomy))
    settings = LoraConfig(r=method.rank, lora_alpha=method.alpha, target_modules=targets)
    shapes = _shapes(backbone, method, anatomy)
    generator = torch.Generator().manual_seed(seed)
    folders = [folder / f"a{number}" for number in range(n)]
    for path in folders:
        path.mkdir(parents=True)
        settings.save_pretrained(str(path))
        tensors = {
            name: 0.02 * torch.randn(*shape, generator=generator) for name, shape in shapes.items()
        }
        save_file(tensors, str(path / "adapter_model.safetensors"), metadata={"format": "pt"})
        base = {"name": backbone.name, "digest": backbone.digest, "revision": None}
        (path / "base.json").write_text(json.dumps(base), encoding="utf-8")
    return folders


def _shapes(backbone: Backbone, method: LoRA, anatomy: Anatomy) -> dict[str, Sequence[int]]:
    """Returns name and shape of every A and B, of the layers that peft would take."""
    import re

    pattern = re.compile(anatomy.pattern(method.names(anatomy)))
    shapes: dict[str, Sequence[int]] = {}
    for name, module in backbone.model.named_modules():
        if pattern.fullmatch(name):
            shapes[f"base_model.model.{name}.lora_A.weight"] = (method.rank, module.in_features)
            shapes[f"base_model.model.{name}.lora_B.weight"] = (module.out_features, method.rank)
    return shapes
