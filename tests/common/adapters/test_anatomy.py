"""An anatomy read from a configuration is that of the network which it builds."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.adapters.anatomy import anatomy_of
from common.backbones import load_backbone
from common.errors import AdapterError
from tests.tiny_models import (
    DECODERS,
    FAMILIES,
    make_tiny,
    model_of,
    tiny_config,
    tiny_swin_unetr,
    tiny_vit,
)

UNUSED = ("pooler.", "norm_cross_attn.")


def built(config):
    """The network of a configuration, without its language-model head, and that head's size."""
    with torch.device("meta"):
        whole = model_of(config)
    base = whole.base_model if config.model_type in DECODERS else whole
    size = sum(p.numel() for p in base.parameters())
    return base, sum(p.numel() for p in whole.parameters()) - size


def linears_of(network, blocks):
    """Name inside a block, sizes, bias and count of every linear layer in the blocks."""
    found = {}
    for path, module in network.named_modules():
        inside = re.fullmatch(rf"{blocks}\.(.+)", path)
        if inside and isinstance(module, nn.Linear):
            bias = module.bias is not None
            key = (inside.group(1), module.in_features, module.out_features, bias)
            found[key] = found.get(key, 0) + 1
    return found


def used_parameters(network):
    named = network.named_parameters()
    return sum(p.numel() for name, p in named if not any(part in name for part in UNUSED))


def agree(anatomy, network):
    """Raises unless `anatomy` describes `network` in every number."""
    stated = {(x.name, x.n_in, x.n_out, x.bias): x.count for x in anatomy.linears}
    assert stated == linears_of(network, anatomy.blocks)
    assert anatomy.n_parameters == used_parameters(network)
    names = set(anatomy.names)
    assert {*anatomy.query_value, anatomy.attention_output} <= names
    assert {anatomy.feed_forward_input, anatomy.feed_forward_output} <= names


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=8, deadline=None)
@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([2, 4, 6]),
    head_dim=st.sampled_from([2, 4, 10]),
    inner=st.integers(3, 40),
    words=st.integers(10, 60),
    positions=st.integers(8, 40),
)
def test_an_anatomy_is_that_of_the_built_network(
    family, layers, heads, head_dim, inner, words, positions
):
    """Every linear layer, and every parameter that the hidden states depend on."""
    changes = {
        "hidden_size": heads * head_dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_dim" if family == "distilbert" else "intermediate_size": inner,
        "max_position_embeddings": positions,
    }
    if family == "distilbert":
        changes["dim"] = changes.pop("hidden_size")
        changes["n_layers"] = changes.pop("num_hidden_layers")
        changes["n_heads"] = changes.pop("num_attention_heads")
    config = tiny_config(family, vocab_size=words, **changes)
    agree(anatomy_of(config), built(config)[0])


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"num_key_value_heads": 1}),
        ("llama", {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True}),
        ("llama", {"head_dim": 6}),
        ("qwen3", {"num_key_value_heads": 4, "attention_bias": True, "head_dim": 2}),
        ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True}),
        # DeBERTa-v3's settings (arXiv 2111.09543), then a narrow embedding and a convolution
        (
            "deberta-v2",
            {"share_att_key": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm",
             "position_biased_input": False, "type_vocab_size": 0},
        ),
        ("deberta-v2", {"embedding_size": 12, "conv_kernel_size": 3, "pos_att_type": ["c2p"]}),
        ("deberta-v2", {"relative_attention": False, "type_vocab_size": 2}),
    ],
)  # fmt: skip
def test_variants_of_an_architecture_are_counted_too(family, changes):
    """Grouped-query heads, head widths of their own, biases, DeBERTa's many settings."""
    config = tiny_config(family, **changes)
    agree(anatomy_of(config), built(config)[0])


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_costs_nothing(family, tied):
    """An untied one costs vocabulary x hidden size."""
    config = tiny_config(family, tied=tied)
    assert anatomy_of(config).n_lm_head_parameters == built(config)[1]
    assert (built(config)[1] == 0) == tied


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin_unetr])
def test_monai_networks_are_read_from_the_module(make):
    """They have no configuration; stages of SwinUNETR differ in width."""
    network = make()
    agree(anatomy_of(network), network)


def test_heads_are_those_of_the_attention():
    """Qwen3's heads may be wider than hidden size / heads; keys and values have fewer."""
    anatomy = anatomy_of(tiny_config("qwen3"))
    assert (anatomy.n_heads, anatomy.n_kv_heads, anatomy.head_dim) == (4, 2, 8)
    assert anatomy_of(tiny_vit()).head_dim == 8


def test_roberta_has_fewer_positions_than_rows():
    """It counts from the padding id + 1, and the base says so too."""
    assert anatomy_of(tiny_config("roberta")).n_positions == 32
    assert anatomy_of(tiny_config("roberta", max_position_embeddings=20)).n_positions == 18


def test_a_model_and_its_base_have_the_anatomy_of_their_configuration(tmp_path):
    """Configuration, model and backbone may all be given."""
    base = load_backbone(make_tiny("llama", tmp_path / "llama"))
    wanted = anatomy_of(base.model.config)
    assert anatomy_of(base) == anatomy_of(base.model) == wanted
    assert wanted.hidden_size == base.hidden_size


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pattern_fits_the_named_layers_of_every_block_and_nothing_else(family):
    """Neither a pooler nor a layer of the same name elsewhere, with and without a wrapper."""
    config = tiny_config(family)
    network, anatomy = built(config)[0], anatomy_of(config)
    for names in (anatomy.query_value, anatomy.names, (anatomy.feed_forward_output,)):
        pattern = anatomy.pattern(names)
        paths = [path for path, _ in network.named_modules() if re.fullmatch(pattern, path)]
        assert len(paths) == sum(x.count for x in anatomy.linears if x.name in names)
        assert anatomy.matched(pattern) == tuple(n for n in anatomy.names if n in names)
        assert all(re.fullmatch(pattern, f"model.{path}") for path in paths)


def test_an_unknown_layer_is_refused_with_the_known_ones():
    """The message lists the names to choose from."""
    with pytest.raises(AdapterError, match=r"attn\.Wqkv.*found query"):
        anatomy_of(tiny_config("modernbert")).linears_named(("query",))


def test_an_unknown_architecture_is_refused():
    """With the families that are known."""
    from transformers import T5Config

    with pytest.raises(AdapterError, match=r"one of bert.*found t5"):
        anatomy_of(T5Config())
    with pytest.raises(AdapterError, match="found Linear"):
        anatomy_of(nn.Linear(2, 2))


def test_counting_loads_no_framework():
    """Methods and anatomies are data: torch stays out."""
    program = (
        "import sys, common.adapters.methods, common.adapters.anatomy, common.adapters.heads;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'peft', 'monai')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
