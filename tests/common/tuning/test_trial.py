"""A trial runs a real block as the network does, and leaves the network alone."""

from __future__ import annotations

import copy

import torch

from benchmarks.shapes import BERT_BASE, LLAMA_SMALL, build_encoder
from common.tuning.trial import capture_block_call, time_block

_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 128}


def test_the_call_that_is_captured_gives_the_blocks_own_output():
    llama = build_encoder(LLAMA_SMALL, num_hidden_layers=2, **_TINY)
    batch = {"input_ids": torch.arange(12)[None], "use_cache": False}
    with torch.no_grad():
        expected = llama(**batch, output_hidden_states=True).hidden_states[1]
        call = capture_block_call(llama, batch, llama.layers[0])
        torch.testing.assert_close(call.block(*call.args, **call.kwargs), expected)


def test_modes_weights_and_random_states_are_as_before():
    bert = build_encoder(BERT_BASE, num_hidden_layers=2, **_TINY).train()
    bert.embeddings.eval()
    weights = {name: tensor.clone() for name, tensor in bert.state_dict().items()}
    state = torch.get_rng_state()
    call = capture_block_call(bert, {"input_ids": torch.arange(9)[None]}, bert.encoder.layer[0])
    assert time_block(copy.deepcopy(call.block), call, torch.float32) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert bert.training
    assert not bert.embeddings.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in bert.state_dict().items())
    assert all(parameter.grad is None for parameter in bert.parameters())


def test_a_block_that_is_never_called_gives_none():
    bert = build_encoder(BERT_BASE, num_hidden_layers=2, **_TINY)
    other = torch.nn.Linear(2, 2)
    assert capture_block_call(bert, {"input_ids": torch.arange(9)[None]}, other) is None
