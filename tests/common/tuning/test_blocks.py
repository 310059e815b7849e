"""The repeated blocks of a network, and how many of them are recomputed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.shapes import BERT_BASE, LLAMA_SMALL, build_encoder
from common.tuning.blocks import recompute_blocks, repeated_blocks
from common.tuning.float8 import freeze_in_float8

_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 128}


def test_a_transformers_layers_are_its_blocks():
    llama = build_encoder(LLAMA_SMALL, num_hidden_layers=3, **_TINY)
    bert = build_encoder(BERT_BASE, num_hidden_layers=2, **_TINY)
    assert repeated_blocks(llama) == list(llama.layers)
    assert repeated_blocks(bert) == list(bert.encoder.layer)


def test_blocks_stay_blocks_when_their_weights_become_buffers():
    llama = build_encoder(LLAMA_SMALL, num_hidden_layers=3, **_TINY).requires_grad_(False)
    freeze_in_float8(llama)
    assert repeated_blocks(llama) == list(llama.layers)


def test_a_network_without_a_list_of_alike_modules_has_none():
    assert repeated_blocks(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))) == []


@pytest.mark.parametrize(("keep_every", "recomputed"), [(4, 6), (0, 8)])
def test_every_fourth_block_keeps_its_activations(keep_every, recomputed):
    llama = build_encoder(LLAMA_SMALL, num_hidden_layers=8, **_TINY).train()
    tokens = torch.arange(12)[None]
    expected = llama(tokens, use_cache=False).last_hidden_state.sum()
    expected.backward()
    gradient = llama.layers[0].mlp.up_proj.weight.grad.clone()
    llama.zero_grad()
    assert recompute_blocks(llama, keep_every=keep_every) == recomputed
    llama(tokens, use_cache=False).last_hidden_state.sum().backward()
    torch.testing.assert_close(llama.layers[0].mlp.up_proj.weight.grad, gradient)
