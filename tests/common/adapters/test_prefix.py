"""Prefixes inside the attention equal peft's, mix by rows, and start at the base if gated."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model

from common.adapters.anatomy import anatomy_of
from common.adapters.methods import Prefix
from common.adapters.prefix import (
    attach_gated_prefix,
    attach_prefix,
    compute_in_attention,
    gated_prefix_tensors,
    load_gated_prefix,
    load_prefix,
    prefix_distance,
)
from common.adapters.prefix_attention import (
    EMBEDDINGS,
    GATES,
    PrefixRows,
    PrefixWeights,
    prefixed_rows,
    route_attention,
    shifted_positions,
)
from common.errors import AdapterError
from tests.tiny_models import model_of, tiny_config

GATED = ["bert", "roberta", "modernbert", "distilbert", "llama", "qwen2", "qwen3"]
JOINT = ["bert", "roberta", "llama", "qwen2", "qwen3"]
IDS = torch.tensor([[5, 7, 6, 4, 9], [8, 9, 6, 1, 1], [7, 7, 5, 6, 1], [9, 6, 1, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
LEFT = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]])
MASKS = [MASK, LEFT, torch.ones_like(MASK), None]
P = 3


def _model(family, **changes):
    torch.manual_seed(0)
    model = model_of(tiny_config(family, **changes)).eval()
    return getattr(model, "model", model) if family in ("llama", "qwen2", "qwen3") else model


def _states(model, rows=slice(None), **options):
    with torch.no_grad():
        output = model(input_ids=IDS[rows], attention_mask=MASK[rows], **options)
    return output.last_hidden_state * MASK[rows].unsqueeze(-1)


def _peft(model, seed=0):
    config = PrefixTuningConfig(num_virtual_tokens=P, task_type="FEATURE_EXTRACTION")
    torch.manual_seed(seed)
    prefixed = get_peft_model(copy.deepcopy(model), config).eval()
    torch.nn.init.normal_(prefixed.prompt_encoder["default"].embedding.weight)
    return prefixed


def _without_dropout(model):
    for module in model.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "attention_probs_dropout_prob"):
            if hasattr(module, name):
                setattr(module, name, 0.0)
    return model


def _inside(prefixed):
    """peft's model, taking our route."""
    inside = copy.deepcopy(prefixed)
    compute_in_attention(inside)
    return inside


def _weights(model, tensors):
    anatomy = anatomy_of(model.config)
    return PrefixWeights.of(tensors, n_kv_heads=anatomy.n_kv_heads, head_dim=anatomy.head_dim)


def _routed(model):
    routed = copy.deepcopy(model)
    assert route_attention(routed) == anatomy_of(model.config).n_layers
    return routed


def _gated(model, seed=0, gate=0.7):
    gated = copy.deepcopy(model)
    torch.manual_seed(seed)
    attach_gated_prefix(gated, P)
    for name, parameter in gated.named_parameters():
        if name.endswith("prefix.gate"):
            torch.nn.init.normal_(parameter, std=gate) if gate else None
        elif ".prefix." in name:
            torch.nn.init.normal_(parameter)
    return gated


@pytest.mark.parametrize("family", JOINT)
def test_a_prefix_that_peft_trained_gives_what_peft_gives(family):
    model = _model(family)
    prefixed = _peft(model)
    weights = _weights(model, {EMBEDDINGS: prefixed.get_prompt_embedding_to_save("default")})
    shifts = torch.full((4,), P)
    with prefixed_rows([PrefixRows(0, [weights] * 4)]):
        ours = _states(_routed(model), position_ids=shifted_positions(model.config, IDS, shifts))
    torch.testing.assert_close(ours, _states(prefixed), atol=1e-6, rtol=1e-5)
    assert (ours - _states(model)).abs().max() > 1e-2


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        *((family, {}) for family in JOINT),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
    ],
)
def test_a_model_of_peft_gives_the_same_inside_the_attention(family, changes, mask):
    """Padding on either side, no mask, windows; its gradient too."""
    prefixed = _peft(_model(family, **changes))
    given = {"input_ids": IDS, "attention_mask": mask}
    outputs, gradients = [], []
    for model in (prefixed, _inside(prefixed)):
        _without_dropout(model)
        states = model(**given).last_hidden_state
        states = states if mask is None else states * mask.unsqueeze(-1)
        states.square().mean().backward()
        outputs.append(states.detach())
        gradients.append(model.prompt_encoder["default"].embedding.weight.grad)
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-7, rtol=1e-4)
    assert gradients[0].abs().sum() > 0


@pytest.mark.parametrize("family", GATED)
def test_a_plain_prefix_trains_under_checkpointing_inside_the_attention(family):
    """On DistilBERT and ModernBERT as well, which ignore peft's cache."""
    gradients = []
    for checkpointing in (False, True):
        model = _model(family)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(2)
        inside = attach_prefix(model, P)
        _without_dropout(inside)
        on = {getattr(m, "gradient_checkpointing", False) for m in inside.base_model.modules()}
        assert checkpointing == (True in on)
        inside(input_ids=IDS, attention_mask=MASK).last_hidden_state.square().mean().backward()
        gradients.append(inside.prompt_encoder["default"].embedding.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)
    assert gradients[0].abs().sum() > 0


def test_a_prefix_inside_the_attention_is_saved_and_read_by_peft(tmp_path):
    model = _model("llama")
    inside = _inside(_peft(model))
    inside.save_pretrained(tmp_path)
    again = load_prefix(copy.deepcopy(model), tmp_path).eval()
    assert torch.equal(_states(again), _states(inside))
    stock = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path).eval()
    torch.testing.assert_close(_states(stock), _states(inside), atol=1e-6, rtol=1e-5)
    with inside.disable_adapter():
        assert torch.equal(_states(inside), _states(model))
    torch.testing.assert_close(_states(stock), _states(inside), atol=1e-6, rtol=1e-5)


def test_a_second_prefix_inside_the_attention_is_set_like_any_adapter():
    """Of another length, and the first comes back."""
    inside = _inside(_peft(_model("bert")))
    first = _states(inside)
    config = PrefixTuningConfig(num_virtual_tokens=P + 2, task_type="FEATURE_EXTRACTION")
    inside.add_adapter("second", config)
    inside.set_adapter("second")
    assert not torch.allclose(_states(inside), first)
    inside.set_adapter("default")
    assert torch.equal(_states(inside), first)


def test_a_prefix_that_a_network_gives_is_refused_inside_the_attention():
    config = PrefixTuningConfig(
        num_virtual_tokens=P, task_type="FEATURE_EXTRACTION", prefix_projection=True
    )
    with pytest.raises(AdapterError, match="prefix_projection"):
        compute_in_attention(get_peft_model(_model("bert"), config))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_blocks_with_a_prefix_compile_whole(family, inside):
    """Without a break in the graph, and to the same states."""
    model = _model(family)
    prefixed = _inside(_peft(model)) if inside else _gated(model)
    expected = _states(prefixed)
    base = prefixed.base_model if inside else prefixed
    for block in base.layers if family == "llama" else base.encoder.layer:
        block.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(_states(prefixed), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", JOINT)
def test_rows_with_either_form_and_without_one_keep_to_themselves(family):
    """Base, joint, gated, joint in one batch equal each model alone."""
    model = _model(family)
    first, second = _peft(model), _peft(model, seed=1)
    gated = _gated(model)
    embeddings = [m.get_prompt_embedding_to_save("default") for m in (first, second)]
    joint = [_weights(model, {EMBEDDINGS: x}) for x in embeddings]
    runs = [
        PrefixRows(1, [joint[0]]),
        PrefixRows(2, [_weights(model, gated_prefix_tensors(gated))]),
        PrefixRows(3, [joint[1]]),
    ]
    positions = shifted_positions(model.config, IDS, torch.tensor([0, P, 0, P]))
    with prefixed_rows(runs):
        mixed = _states(_routed(model), position_ids=positions)
    for row, alone in enumerate([model, first, gated, second]):
        expected = _states(alone, slice(row, row + 1))
        torch.testing.assert_close(mixed[row : row + 1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", GATED)
def test_a_gate_of_zero_leaves_the_base_bit_for_bit(family):
    model = _model(family)
    gated = _gated(model, gate=0)
    trained = [p for p in gated.parameters() if p.requires_grad]
    counted = Prefix(P, zero_gate=True).count_parameters(anatomy_of(model.config))
    assert sum(p.numel() for p in trained) == counted
    for mask in MASKS:
        given = {"input_ids": IDS, "attention_mask": mask}
        assert torch.equal(gated(**given)[0], model(**given)[0])
    torch.manual_seed(5)
    dropped = gated.train()(IDS, MASK)[0]
    torch.manual_seed(5)
    assert torch.equal(dropped, model.train()(IDS, MASK)[0])
    model.eval()
    assert not torch.equal(_states(_gated(model)), _states(model))


def test_the_gated_form_is_the_published_one():
    """softmax(q K) V + tanh(g) softmax(q K_p) V_p, for the first layer of a BERT."""
    model = _gated(_model("bert"))
    attention = model.encoder.layer[0].attention.self
    seen = {}
    attention.register_forward_hook(lambda _, x, y: seen.update(x=x[0], y=y[0]))
    with torch.no_grad():
        model(input_ids=IDS[:1], attention_mask=MASK[:1])
        heads, width = 2, 8
        q, k, v = (
            layer(seen["x"]).view(1, 5, heads, width).transpose(1, 2)
            for layer in (attention.query, attention.key, attention.value)
        )
        prefix = attention.prefix
        own = torch.softmax(q @ k.mT / width**0.5, -1) @ v
        extra = torch.softmax(q @ prefix.key[None].mT / width**0.5, -1) @ prefix.value[None]
        expected = own + torch.tanh(prefix.gate)[None, :, None, None] * extra
    torch.testing.assert_close(seen["y"], expected.transpose(1, 2).flatten(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", GATED)
def test_gated_tensors_come_back_from_a_folder(family):
    model = _model(family)
    gated = _gated(model)
    tensors = gated_prefix_tensors(gated)
    assert set(tensors) == {EMBEDDINGS, GATES}
    again = _gated(model, seed=9)
    load_gated_prefix(again, tensors)
    assert torch.equal(_states(again), _states(gated))
    with pytest.raises(AdapterError, match="tensors"):
        load_gated_prefix(again, {EMBEDDINGS: tensors[EMBEDDINGS]})


@pytest.mark.parametrize("family", GATED)
def test_a_gated_prefix_trains_under_checkpointing(family):
    gradients = []
    for checkpointing in (False, True):
        gated = _without_dropout(_gated(_model(family)))
        if checkpointing:
            gated.gradient_checkpointing_enable({"use_reentrant": False})
        gated(input_ids=IDS, attention_mask=MASK).last_hidden_state.square().mean().backward()
        gradients.append([p.grad for p in gated.parameters() if p.requires_grad])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain.abs().sum() > 0
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_padding_on_the_left_is_padding_too(family):
    """A row's states do not depend on the padding before it, positions given."""
    gated = _gated(_model(family))
    ids = torch.tensor([[1, 1, 5, 7, 6]])
    mask = torch.tensor([[0, 0, 1, 1, 1]])
    positions = torch.tensor([[0, 0, 0, 1, 2]])
    with torch.no_grad():
        left = gated(input_ids=ids, attention_mask=mask, position_ids=positions)
        alone = gated(input_ids=ids[:, 2:], attention_mask=mask[:, 2:])
    torch.testing.assert_close(
        left.last_hidden_state[:, 2:], alone.last_hidden_state, atol=1e-5, rtol=0
    )


def test_bfloat16_keeps_its_type():
    model = _model("llama").to(torch.bfloat16)
    assert _states(_gated(model)).dtype == torch.bfloat16


def test_an_architecture_that_ignores_the_route_is_refused():
    model = _model("deberta-v2")
    with pytest.raises(AdapterError, match="LoRA"):
        route_attention(model)
    assert _states(model).isfinite().all()


def test_a_new_prefix_of_peft_says_how_far_it_starts_from_its_base():
    prefixed = _peft(_model("bert"))
    assert prefix_distance(prefixed) > 1e-3
    assert prefix_distance(_inside(prefixed)) == pytest.approx(prefix_distance(prefixed), abs=1e-5)
