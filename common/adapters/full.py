"""Full tuning: a copy of the base with all weights trained, kept as a whole model folder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from common.adapters.anatomy import anatomy_of
from common.adapters.folder import read_tensors, unfit
from common.adapters.structure import UNUSED
from common.backbones import Backbone, load_lm_head

__all__ = ["load_whole", "save_whole", "whole_copy"]


def whole_copy(model: Any) -> Any:
    """Returns a copy of a network with tensors of its own, all trained but those never read."""
    whole = copy.deepcopy(model)
    for name, parameter in whole.named_parameters():
        parameter.requires_grad_(not _is_unused(name))
    return whole


def save_whole(backbone: Backbone, folder: Path) -> None:
    """Writes a whole model; a decoder whose head is apart is written with its head."""
    if not hasattr(backbone.model, "save_pretrained"):
        from safetensors.torch import save_file

        state = {name: x.contiguous() for name, x in backbone.model.state_dict().items()}
        save_file(state, str(folder / "model.safetensors"))
        return
    from transformers.utils import logging

    logging.disable_progress_bar()
    _with_lm_head(backbone).save_pretrained(str(folder))


def _with_lm_head(backbone: Backbone) -> Any:
    """Returns the model inside its causal-LM class, if it has a head that is not tied."""
    import torch
    from transformers import AutoModelForCausalLM

    model = backbone.model
    if backbone.folder is None or anatomy_of(model.config).n_lm_head_parameters == 0:
        return model
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(model.config)
    setattr(whole, whole.base_model_prefix, model)
    whole.lm_head.weight = torch.nn.Parameter(load_lm_head(backbone), requires_grad=False)
    return whole


def load_whole(model: Any, folder: Path) -> int:
    """Puts the weights of a model folder into `model`; returns how many parameters count.

    Raises:
        AdapterError: They do not fit, or a file is damaged.
    """
    tensors: dict[str, Any] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        tensors |= read_tensors(path)
    inner = getattr(model, "base_model_prefix", "") + "."
    named = {name.removeprefix(inner): x for name, x in tensors.items() if name != "lm_head.weight"}
    slots = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if {name: tuple(tensor.shape) for name, tensor in named.items()} != slots:
        raise unfit(f"{len(slots)} tensors that fit the base", f"{len(named)} others")
    model.load_state_dict(named, assign=True)
    return sum(x.numel() for name, x in model.named_parameters() if not _is_unused(name))


def _is_unused(name: str) -> bool:
    return any(part in name for part in UNUSED)
