"""Which layers FP8 takes: frozen ones to keep, trained ones to multiply."""

from __future__ import annotations

import pytest
import torch

from benchmarks.shapes import LLAMA_SMALL, build_encoder
from common.adapters.float8 import Float8Linear
from common.tuning.float8 import divisible_by_16, freeze_in_float8, train_in_float8

_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 128}


def _llama(**changes):
    return build_encoder(LLAMA_SMALL, num_hidden_layers=2, **{**_TINY, **changes})


def test_frozen_layers_of_the_blocks_are_replaced_and_answer_nearly_alike():
    llama = _llama().requires_grad_(False)
    tokens = torch.arange(20)[None]
    expected = llama(tokens).last_hidden_state
    assert freeze_in_float8(llama) == 14
    found = llama(tokens).last_hidden_state
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_trained_layers_and_those_of_odd_sizes_stay():
    llama = _llama(intermediate_size=72).requires_grad_(False)
    llama.layers[0].self_attn.q_proj.weight.requires_grad_()
    freeze_in_float8(llama)
    kinds = {name for name, module in llama.named_modules() if isinstance(module, Float8Linear)}
    assert "layers.0.self_attn.q_proj" not in kinds
    assert "layers.1.self_attn.q_proj" in kinds
    assert not any("mlp" in name for name in kinds)
    assert not divisible_by_16(llama.layers[0].mlp.up_proj)


@pytest.mark.gpu
def test_full_tuning_keeps_the_names_of_its_weights():
    llama = _llama()
    before = list(llama.state_dict())
    assert train_in_float8(llama) == 14
    assert list(llama.state_dict()) == before
