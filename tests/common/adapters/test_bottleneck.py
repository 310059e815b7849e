"""Bottleneck adapters are a method of peft like its own, and start exactly at their base."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from peft import AutoPeftModel, PeftModel, get_peft_model

from common.adapters.anatomy import anatomy_of
from common.adapters.bottleneck import PEFT_VERSIONS, BottleneckConfig, BottleneckLayer, register
from common.adapters.methods import Bottleneck
from common.errors import AdapterError
from tests.tiny_models import DECODERS, model_of, tiny_config, tiny_swin_unetr, tiny_vit

VARIANTS = ["pfeiffer", "houlsby", "parallel"]
FAMILIES = ["bert", "roberta", "modernbert", "distilbert", "deberta-v2", "llama", "qwen2", "qwen3"]
IDS = torch.tensor([[2, 5, 7, 6, 3], [2, 9, 3, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])

register()


def _text_model(family):
    torch.manual_seed(0)
    return model_of(tiny_config(family)).eval()


def _output(model):
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=MASK)[0]


def _randomise(model, seed=1):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bottleneck_" in name:
                parameter.normal_(std=0.3)
    return model


def _adapted(model, **settings):
    return get_peft_model(copy.deepcopy(model), BottleneckConfig(size=4, **settings)).eval()


def test_the_pinned_peft_is_one_of_those_tested():
    assert peft.__version__.startswith(PEFT_VERSIONS)
    register()  # a second time does no harm


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_adapter_changes_no_bit(family, variant):
    model = _text_model(family)
    adapted = _adapted(model, variant=variant)
    assert torch.equal(_output(adapted), _output(model))
    counted = Bottleneck(size=4, variant=variant).count_parameters(anatomy_of(model.config))
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == counted
    assert not torch.equal(_output(_randomise(adapted)), _output(model))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("make", "shape"), [(tiny_vit, (1, 1, 16, 16)), (tiny_swin_unetr, (1, 1, 64, 64))]
)
def test_monai_networks_take_it(make, shape, variant):
    network, image = make().eval(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    adapted = _adapted(network, variant=variant)
    with torch.no_grad():
        outputs = [network(image), adapted(image), _randomise(adapted)(image)]
    first = [output[0] if isinstance(output, tuple) else output for output in outputs]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


@pytest.mark.parametrize("variant", ["pfeiffer", "parallel"])
def test_it_computes_the_published_formula(variant):
    """y + s up(f(down(x))) at the last layer's output, x = y or the feed-forward input."""
    model = _text_model("bert")
    adapted = _randomise(_adapted(model, variant=variant, activation="relu", scale=4.0))
    layer = adapted.base_model.model.encoder.layer[1]
    seen = {}
    layer.intermediate.dense.register_forward_pre_hook(lambda _, x: seen.update(source=x[0]))
    layer.output.dense.register_forward_hook(lambda _, x, y: seen.update(x=x[0], y=y))
    _output(adapted)
    site = layer.output.dense
    base = site.base_layer(seen["x"])
    read = base if variant == "pfeiffer" else seen["source"]
    down, up = site.bottleneck_down["default"], site.bottleneck_up["default"]
    hidden = torch.relu(read @ down.weight.T + down.bias)
    expected = base + 4 * (hidden @ up.weight.T + up.bias)
    torch.testing.assert_close(seen["y"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_folder_gives_the_same_model_back(tmp_path, variant):
    model = _text_model("bert")
    model.save_pretrained(tmp_path / "base")
    adapted = _randomise(_adapted(model, variant=variant))
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "adapter").eval()
    assert torch.equal(_output(again), _output(adapted))
    assert torch.equal(_output(AutoPeftModel.from_pretrained(tmp_path / "adapter")), _output(again))


def test_transformers_loads_it_too(tmp_path):
    model = _text_model("bert")
    adapted = _randomise(_adapted(model))
    adapted.save_pretrained(tmp_path)
    model.load_adapter(str(tmp_path))
    assert torch.equal(_output(model), _output(adapted))


def test_several_adapters_are_added_set_disabled_and_deleted():
    model = _text_model("llama")
    adapted = _randomise(_adapted(model))
    first = _output(adapted)
    adapted.add_adapter("second", BottleneckConfig(size=6, variant="parallel"))
    assert torch.equal(_output(adapted), first)
    adapted.set_adapter("second")
    assert torch.equal(_output(adapted), _output(model))
    assert torch.equal(_output(_randomise(adapted, 2)), _output(adapted))
    with adapted.disable_adapter():
        assert torch.equal(_output(adapted), _output(model))
    adapted.set_adapter("default")
    adapted.delete_adapter("second")
    assert "second" not in adapted.peft_config
    assert not any("second" in name for name, _ in adapted.named_parameters())


@pytest.mark.parametrize("variant", ["pfeiffer", "houlsby"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_linear_adapter_is_folded_into_its_layer_and_out_again(family, variant):
    """Llama's layers have no bias; folding gives them one."""
    model = _text_model(family)
    adapted = _randomise(_adapted(model, variant=variant, activation="linear", scale=0.5))
    unmerged = _output(adapted)
    adapted.merge_adapter(safe_merge=True)
    torch.testing.assert_close(_output(adapted), unmerged, atol=2e-5, rtol=1e-4)
    adapted.unmerge_adapter()
    assert torch.equal(_output(adapted), unmerged)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(_output(merged), unmerged, atol=2e-5, rtol=1e-4)
    assert not any(isinstance(module, BottleneckLayer) for module in merged.modules())


@pytest.mark.parametrize(
    "settings", [{}, {"variant": "parallel"}, {"variant": "parallel", "activation": "linear"}]
)
def test_an_adapter_that_cannot_be_folded_is_refused_and_nothing_changes(settings):
    adapted = _randomise(_adapted(_text_model("bert"), **settings))
    before = _output(adapted)
    with pytest.raises(AdapterError, match="LoRA"):
        adapted.merge_adapter()
    with pytest.raises(AdapterError, match="AdapterBank"):
        adapted.merge_and_unload()
    assert torch.equal(_output(adapted), before)


def test_unloading_gives_the_base_back_and_keeps_no_hook():
    model = _text_model("bert")
    adapted = _randomise(_adapted(model, variant="parallel"))
    unloaded = adapted.unload()
    assert torch.equal(_output(unloaded), _output(model))
    assert not any(module._forward_pre_hooks for module in unloaded.modules())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["bert", "modernbert", *DECODERS])
def test_gradients_are_the_same_under_checkpointing(family, variant):
    gradients = []
    for checkpointing in (False, True):
        adapted = _randomise(_adapted(_text_model(family), variant=variant)).train()
        for module in adapted.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            adapted.base_model.model.gradient_checkpointing_enable({"use_reentrant": False})
        adapted(input_ids=IDS, attention_mask=MASK)[0].square().mean().backward()
        gradients.append([p.grad for p in adapted.parameters() if p.requires_grad])
        layers = [m for m in adapted.modules() if isinstance(m, BottleneckLayer)]
        assert all(layer._source is None for layer in layers)
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-5)


def test_a_copy_reads_its_own_feed_forward_part():
    adapted = _randomise(_adapted(_text_model("bert"), variant="parallel"))
    twin = copy.deepcopy(adapted)
    assert torch.equal(_output(twin), _output(adapted))
    hooks = [h for m in twin.modules() for h in m._forward_pre_hooks.values()]
    layers = {id(m) for m in twin.modules()}
    assert all(id(hook.__self__) in layers for hook in hooks)


def test_a_bfloat16_base_keeps_adapters_in_float32():
    model = _text_model("llama").to(torch.bfloat16)
    adapted = _adapted(model)
    types = {p.dtype for name, p in adapted.named_parameters() if "bottleneck_" in name}
    assert types == {torch.float32}
    assert _output(adapted).dtype == torch.bfloat16
    assert torch.equal(_output(adapted), _output(model))


def test_an_adapter_for_each_row_is_refused_where_peft_would_give_all_one():
    adapted = _randomise(_adapted(_text_model("bert")))
    with pytest.raises(AdapterError, match="AdapterBank"):
        adapted(input_ids=IDS, attention_mask=MASK, adapter_names=["__base__", "default"])
    assert _output(adapted).isfinite().all()


@pytest.mark.parametrize(
    "settings",
    [{"variant": "serial"}, {"activation": "nothing"}, {"size": 0}, {"scale": 0.0}],
)
def test_settings_that_cannot_be_used_are_refused(settings):
    with pytest.raises(AdapterError, match="expected"):
        BottleneckConfig(**settings)


def test_another_peft_is_refused(monkeypatch):
    monkeypatch.setattr(peft, "__version__", "0.99.0")
    with pytest.raises(AdapterError, match=r"0\.21\.x"):
        register()
