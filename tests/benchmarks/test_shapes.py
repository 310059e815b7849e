"""The shapes have the sizes of the models that they are named after."""

from __future__ import annotations

import pytest
import torch

from benchmarks.shapes import LLAMA_SMALL, SHAPES, build_causal_lm, draw_tokens


@pytest.mark.parametrize(
    ("name", "millions"),
    [("llama-1.1b", 1034.5), ("llama-3b", 2917.0), ("bert-base", 109.5), ("minilm-l6", 22.7)],
)
def test_the_bare_networks_have_their_models_parameters(name, millions):
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(SHAPES[name].config())
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=1e-3)


def test_weights_and_tokens_depend_on_the_seed_alone():
    tiny = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    one, same, other = (build_causal_lm(LLAMA_SMALL, seed=seed, **tiny) for seed in (0, 0, 1))
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    tokens = draw_tokens(LLAMA_SMALL, batch=2, length=5)
    assert torch.equal(tokens, draw_tokens(LLAMA_SMALL, batch=2, length=5))
    assert tokens.min() >= 100
