"""Random adapters, batches of tokens, and rows run alone: what the bank's tests share."""

from __future__ import annotations

import numpy as np
import torch

from common.adapters.attach import attach_adapter, attach_new, save_adapter
from common.adapters.heads import Head
from common.adapters.methods import LoRA

FAMILIES = ("bert", "roberta", "modernbert", "llama", "qwen2", "qwen3")
WEIGHTS = "adapter_model.safetensors"
TEXTS = ("revenue growth", "we may not", "debt", "risk of loss in the quarter, year 2009")


def save_random(base, folder, method, *, seed=0, head=None, scale=0.1):
    """Saves an adapter of `method` whose weights are all random.

    At a scale of 0.3 peft itself is 1.8e-4 away from its own result in float64 here.
    """
    adapter = attach_new(base, method, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.backbone.model.parameters():
            if parameter.requires_grad:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    save_adapter(adapter, folder, head=head)
    return folder


def alone(base, folder, ids, mask):
    """Returns one row's last hidden states through `attach_adapter`, or the base's."""
    model = attach_adapter(base, folder).backbone.model if folder else base.model
    device = next(model.parameters()).device
    inputs = {"input_ids": ids[None].to(device), "attention_mask": mask[None].to(device)}
    with torch.inference_mode():
        return model(**inputs).last_hidden_state[0]


def made_batch(base, n_rows, *, seed=0, longest=12):
    """Returns token ids and mask of rows of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    n_words = base.model.config.vocab_size
    ids = torch.randint(5, n_words, (n_rows, longest), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(n_rows):
        mask[row, longest - row % 4 :] = 0
    pad = int(base.tokenizer.pad_token_id)
    return torch.where(mask == 1, ids, torch.full_like(ids, pad)), mask


def largest_delta(bank, base, folders, names, *, seed=0):
    """Returns the largest distance of a mixed batch from its rows run alone."""
    ids, mask = made_batch(base, len(names), seed=seed)
    mixed = bank.hidden_states(ids, mask, names)
    deltas = [0.0]
    for row, name in enumerate(names):
        n = int(mask[row].sum())
        expected = alone(base, folders[name] if name else None, ids[row, :n], mask[row, :n])
        deltas.append((mixed[row, :n] - expected).abs().max().item())
    return max(deltas)


def save_three_loras(base, root):
    """Saves three LoRA adapters of a 16-unit base: two of one layout, and one with a head."""
    weight = np.ones((2, 16)) * [[1.0], [-1.0]]
    head = Head("classification", weight, np.zeros(2), ("up", "down"), 8)
    return {
        "a": save_random(base, root / "a", LoRA(rank=2), seed=1),
        "b": save_random(base, root / "b", LoRA(rank=2), seed=2),
        "headed": save_random(base, root / "headed", LoRA(rank=3), seed=3, head=head),
    }
