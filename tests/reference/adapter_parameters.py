"""Prints how many parameters published networks have and methods train, from built networks.

Run: python tests/reference/adapter_parameters.py
Each network is built by transformers on the meta device (no memory) with the sizes of its
published configuration; LoRA and prefix are attached by peft itself, with its own layer
names; bottlenecks are counted by building their two linear layers for each place.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM

from tests.common.adapters.published import PUBLISHED, config_of


def built(name: str) -> nn.Module:
    with torch.device("meta"):
        return AutoModel.from_config(config_of(name))


def trained(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def with_lora(name: str, rank: int, targets: list[str]) -> int:
    with torch.device("meta"):
        return trained(get_peft_model(built(name), LoraConfig(r=rank, target_modules=targets)))


def with_prefix(name: str, length: int) -> int:
    config = PrefixTuningConfig(num_virtual_tokens=length, task_type="FEATURE_EXTRACTION")
    own = config_of(name)
    config.num_layers, config.token_dim = own.num_hidden_layers, own.hidden_size  # DistilBERT's
    config.num_attention_heads = own.num_attention_heads
    with torch.device("meta"):
        return trained(get_peft_model(built(name), config))


def with_lm_head(name: str) -> int:
    with torch.device("meta"):
        return trained(AutoModelForCausalLM.from_config(config_of(name)))


def bottlenecks(name: str, size: int, places: int) -> int:
    config = config_of(name)
    down, up = nn.Linear(config.hidden_size, size), nn.Linear(size, config.hidden_size)
    return places * config.num_hidden_layers * (trained(down) + trained(up))


if __name__ == "__main__":
    for name, published in PUBLISHED.items():
        model = built(name)
        unused = sum(p.numel() for key, p in model.named_parameters() if "pooler." in key)
        counts = [
            trained(model) - unused,
            with_lora(name, 8, published.query_value),
            with_lora(name, 16, published.all_linear),
            bottlenecks(name, 64, 1),
            bottlenecks(name, 64, 2),
            with_prefix(name, 16) if published.takes_prefix else None,
            with_lm_head(name) - trained(model) if published.is_decoder else 0,
        ]
        print(f'    "{name}": ({", ".join(map(str, counts))}),')
