"""Methods count what they would train, and say which networks they cannot tune, and why."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapters.anatomy import anatomy_of
from common.adapters.attach import attach_new, count_trained
from common.adapters.methods import Bottleneck, Full, LoRA, Prefix
from common.backbones import load_backbone, wrap_network
from common.errors import AdapterError
from tests.common.adapters.published import config_of
from tests.tiny_models import (
    DECODERS,
    ENCODERS,
    FAMILIES,
    make_tiny,
    tiny_config,
    tiny_swin_unetr,
    tiny_vit,
)

METHODS = {
    "lora": LoRA(rank=3),
    "lora all-linear": LoRA(rank=2, targets="all-linear"),
    "prefix": Prefix(4),
    "prefix zero gate": Prefix(5, zero_gate=True),
    "pfeiffer": Bottleneck(3),
    "houlsby": Bottleneck(5, "houlsby"),
    "parallel": Bottleneck(4, "parallel", scale=4.0),
    "full": Full(),
}

# Printed by tests/reference/adapter_parameters.py, which builds each network: the methods of
# COLUMNS, then the language-model head.
PRINTED = {
    "bert-base-uncased": (108891648, 294912, 2654208, 1189632, 2379264, 294912, 0),
    "all-MiniLM-L6-v2": (22565376, 73728, 663552, 297600, 595200, 73728, 0),
    "roberta-base": (124055040, 294912, 2654208, 1189632, 2379264, 294912, 0),
    "distilbert-base-uncased": (66362880, 147456, 1327104, 594816, 1189632, 147456, 0),
    "ModernBERT-base": (149014272, 540672, 3379200, 2180992, 4361984, 540672, 0),
    "deberta-v3-base": (183831552, 294912, 2654208, 1189632, 2379264, None, 0),
    "TinyLlama-1.1B": (1034512384, 1126400, 12615680, 5813632, 11627264, 180224, 65536000),
    "Llama-3.2-1B": (1235814400, 851968, 11272192, 4228096, 8456192, 262144, 0),
    "Qwen2-0.5B": (494032768, 540672, 8798208, 2775552, 5551104, 98304, 0),
    "Qwen3-0.6B": (596049920, 1146880, 10092544, 3700480, 7400960, 917504, 0),
}
COLUMNS = (
    Full(),
    LoRA(),
    LoRA(rank=16, targets="all-linear"),
    Bottleneck(),
    Bottleneck(variant="houlsby"),
    Prefix(),
)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    texts = {name: load_backbone(make_tiny(name, folder / name)) for name in FAMILIES}
    return {
        **texts,
        "vit": wrap_network(tiny_vit(), name="vit"),
        "swin_unetr": wrap_network(tiny_swin_unetr(), name="swin_unetr"),
    }


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", [*FAMILIES, "vit", "swin_unetr"])
def test_the_count_is_that_of_the_built_model(bases, family, name):
    """From the configuration alone, or a refusal by both."""
    method, base = METHODS[name], bases[family]
    source = base.model if family in ("vit", "swin_unetr") else base.model.config
    anatomy = anatomy_of(source)
    if method.refusal(anatomy):
        with pytest.raises(AdapterError):
            method.count_parameters(anatomy)
        with pytest.raises(AdapterError):
            attach_new(base, method)
        return
    adapter = attach_new(base, method)
    counted = method.count_parameters(anatomy)
    assert counted == adapter.n_parameters == count_trained(adapter.backbone.model) > 0


@pytest.mark.parametrize("name", PRINTED)
def test_published_networks_are_counted_from_their_configurations(name):
    """A billion parameters take no longer than a thousand."""
    anatomy = anatomy_of(config_of(name))
    *printed, lm_head = PRINTED[name]
    assert anatomy.n_lm_head_parameters == lm_head
    refused = [method.refusal(anatomy) is not None for method in COLUMNS]
    assert refused == [count is None for count in printed]
    taken = [(m, count) for m, count in zip(COLUMNS, printed, strict=True) if count]
    assert [m.count_parameters(anatomy) for m, _ in taken] == [count for _, count in taken]


@given(rank=st.integers(1, 64), family=st.sampled_from(FAMILIES))
def test_loras_count_grows_with_the_rank(rank, family):
    """In proportion, and "all-linear" is more than "attention"."""
    anatomy = anatomy_of(tiny_config(family))
    for targets in ("attention", "all-linear"):
        one = LoRA(rank=1, targets=targets).count_parameters(anatomy)
        assert LoRA(rank=rank, targets=targets).count_parameters(anatomy) == rank * one
    assert LoRA(targets="all-linear").count_parameters(anatomy) > LoRA().count_parameters(anatomy)


@given(
    heads=st.integers(1, 4),
    groups=st.integers(1, 4),
    head_dim=st.sampled_from([2, 4, 8]),
    length=st.integers(1, 20),
)
def test_a_prefix_has_keys_and_values_for_the_shared_heads_only(heads, groups, head_dim, length):
    """P x layers x 2 x kv heads x head width; a gate for each of all heads."""
    config = tiny_config(
        "llama",
        hidden_size=heads * groups * head_dim,
        num_attention_heads=heads * groups,
        num_key_value_heads=heads,
    )
    anatomy = anatomy_of(config)
    plain = length * 2 * 2 * heads * head_dim
    assert Prefix(length).count_parameters(anatomy) == plain
    gated = Prefix(length, zero_gate=True).count_parameters(anatomy)
    assert gated == plain + 2 * heads * groups


@pytest.mark.parametrize(
    ("family", "attention", "n_linear"),
    [
        ("bert", ("attention.self.query", "attention.self.value"), 6),
        ("roberta", ("attention.self.query", "attention.self.value"), 6),
        ("distilbert", ("attention.q_lin", "attention.v_lin"), 6),
        ("deberta-v2", ("attention.self.query_proj", "attention.self.value_proj"), 8),
        ("modernbert", ("attn.Wqkv",), 4),  # fused: the keys come along
        *((name, ("self_attn.q_proj", "self_attn.v_proj"), 7) for name in DECODERS),
    ],
)
def test_targets_stand_for_layers(family, attention, n_linear):
    """ "attention" is queries and values, "all-linear" every linear layer of a block."""
    anatomy = anatomy_of(tiny_config(family))
    assert tuple(x.name for x in LoRA().linears(anatomy)) == attention
    assert len(LoRA(targets="all-linear").linears(anatomy)) == n_linear


def test_targets_of_monai_networks_are_their_own_names():
    """MONAI's attention is fused as well; SwinUNETR's patch merging counts as linear."""
    vit, swin = anatomy_of(tiny_vit()), anatomy_of(tiny_swin_unetr())
    assert LoRA().names(vit) == LoRA().names(swin) == ("attn.qkv",)
    last = {name.split(".")[-1] for name in LoRA(targets="all-linear").names(vit)}
    assert last == {"qkv", "out_proj", "linear1", "linear2"}
    last = {name.split(".")[-1] for name in LoRA(targets="all-linear").names(swin)}
    assert last == {"qkv", "proj", "linear1", "linear2", "reduction"}


def test_named_targets_are_those_layers_alone():
    """By ending, or by whole name where an ending would fit two."""
    anatomy = anatomy_of(tiny_config("bert"))
    both = LoRA(targets=("dense",)).linears(anatomy)
    assert [x.name for x in both] == [
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ]
    assert [x.name for x in LoRA(targets=("output.dense",)).linears(anatomy)] == ["output.dense"]
    with pytest.raises(AdapterError, match="found q_proj"):
        LoRA(targets=("query", "q_proj")).count_parameters(anatomy)


@pytest.mark.parametrize("zero_gate", [True, False])
@pytest.mark.parametrize("family", ["deberta-v2", "vit", "swin_unetr"])
def test_no_prefix_where_attention_has_no_place_for_it(bases, family, zero_gate):
    """Neither kind; the alternatives are the other methods."""
    with pytest.raises(AdapterError, match=r"no place.*Take LoRA\(\) or Bottleneck"):
        attach_new(bases[family], Prefix(zero_gate=zero_gate))


def test_a_base_under_gradient_checkpointing_takes_every_method(tmp_path):
    """And is under it still: peft alone would refuse a prefix."""
    base = load_backbone(make_tiny("bert", tmp_path / "bert"))
    base.model.gradient_checkpointing_enable({"use_reentrant": False})
    for method in (Prefix(4), Prefix(4, zero_gate=True), LoRA(), Bottleneck(), Full()):
        model = attach_new(base, method).backbone.model
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


@pytest.mark.parametrize("family", [name for name in ENCODERS if name in ("bert", "roberta")])
def test_a_plain_prefix_takes_room_from_the_text(family):
    """P positions fewer of 32; none fewer with a gate; and no prefix that leaves no room."""
    anatomy = anatomy_of(tiny_config(family))
    assert Prefix(12).max_tokens(anatomy, 32) == 20
    assert Prefix(12).max_tokens(anatomy, 16) == 16  # the tokenizer's limit comes first
    assert Prefix(12, zero_gate=True).max_tokens(anatomy, 32) == 32
    with pytest.raises(AdapterError, match="no room"):
        Prefix(30).require(anatomy)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (LoRA, {"rank": 0}),
        (LoRA, {"alpha": 0}),
        (LoRA, {"dropout": 1.0}),
        (LoRA, {"targets": "everything"}),
        (LoRA, {"targets": ()}),
        (Prefix, {"n_virtual_tokens": 0}),
        (Bottleneck, {"size": 0}),
        (Bottleneck, {"variant": "serial"}),
        (Bottleneck, {"scale": 0.0}),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind, fields):
    """When they are made, with what would do."""
    with pytest.raises(AdapterError, match=str(next(iter(fields.values())) or "found")):
        kind(**fields)


def test_methods_are_values():
    """Frozen, compared by their settings, each with its name."""
    with pytest.raises(FrozenInstanceError):
        LoRA().rank = 3
    assert replace(LoRA(), rank=3) == LoRA(rank=3)
    assert [m.kind for m in (LoRA(), Prefix(), Bottleneck(), Full())] == [
        "lora",
        "prefix",
        "bottleneck",
        "full",
    ]
