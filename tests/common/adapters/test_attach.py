"""Adapters leave the base alone, fit only their own base, and load as they were saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.adapters.anatomy import anatomy_of
from common.adapters.attach import (
    adapter_digest,
    attach_adapter,
    attach_new,
    count_trained,
    merge_adapter,
    save_adapter,
    starting_distance,
)
from common.adapters.heads import Head, load_head
from common.adapters.methods import Bottleneck, Full, LoRA, Prefix
from common.backbones import load_backbone, load_lm_head, wrap_network
from common.errors import AdapterError
from tests.tiny_bert import make_tiny_bert
from tests.tiny_models import FAMILIES, make_tiny, tiny_swin_unetr, tiny_vit

IDS = torch.tensor([[2, 5, 7, 6, 3]])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def saved(base, tmp_path):
    """An adapter with weights that are not zero, and its folder."""
    adapter = attach_new(base, LoRA(rank=2), seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.backbone.model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    save_adapter(adapter, tmp_path / "lora")
    return adapter, tmp_path / "lora"


def _states(model):
    with torch.inference_mode():
        return model(input_ids=IDS).last_hidden_state


def test_a_new_adapter_changes_nothing(base):
    """B is zero at first, so output equals the base's exactly."""
    adapter = attach_new(base, LoRA(rank=2))
    adapter.backbone.model.eval()
    assert torch.equal(_states(adapter.backbone.model), _states(base.model))


def test_parameters_are_counted_by_the_formula(base):
    """Query and value of 2 layers, r (in + out) each: 2 x 2 x 2 x (16 + 16) = 256."""
    adapter = attach_new(base, LoRA(rank=2))
    assert adapter.n_parameters == count_trained(adapter.backbone.model) == 256


def test_a_saved_adapter_loads_as_it_was(base, saved):
    """Output after loading equals the output before saving, and the base is untouched."""
    adapter, folder = saved
    before = _states(base.model)
    loaded = attach_adapter(base, folder)
    adapter.backbone.model.eval()
    assert torch.equal(_states(loaded.backbone.model), _states(adapter.backbone.model))
    assert torch.equal(_states(base.model), before)
    assert not torch.equal(_states(loaded.backbone.model), before)
    assert (loaded.name, loaded.n_parameters, loaded.digest) == (
        "lora",
        256,
        adapter_digest(folder),
    )
    assert count_trained(loaded.backbone.model) == 0


def test_base_and_adapter_share_their_tensors(base, saved):
    """Attaching costs the adapter's memory only."""
    loaded = attach_adapter(base, saved[1])
    own = {parameter.data_ptr() for parameter in base.model.parameters()}
    both = {parameter.data_ptr() for parameter in loaded.backbone.model.parameters()}
    assert own <= both


# Every method, on every family that takes it

METHODS = {
    "lora": LoRA(rank=3, alpha=5, dropout=0.1),
    "lora all-linear": LoRA(rank=2, targets="all-linear"),
    "lora named": LoRA(targets=("dense", "Wi", "down_proj", "lin1", "linear2")),
    "prefix": Prefix(4),
    "prefix zero gate": Prefix(5, zero_gate=True),
    "pfeiffer": Bottleneck(3),
    "houlsby": Bottleneck(5, "houlsby", "relu"),
    "parallel": Bottleneck(4, "parallel", scale=4.0),
    "full": Full(),
}
NETWORKS = {"vit": (tiny_vit, 16), "swin_unetr": (tiny_swin_unetr, 64)}


def _suits(method, base):
    """The method, with of its named targets those that the base has; None if it is refused."""
    anatomy = anatomy_of(base)
    if isinstance(method, LoRA) and isinstance(method.targets, tuple):
        found = tuple(t for t in method.targets if any(n.endswith(t) for n in anatomy.names))
        method = replace(method, targets=found)
    return None if method.refusal(anatomy) else method


def _outputs(base, model):
    """Outputs of two rows, one of them padded, or of two images."""
    with torch.inference_mode():
        if base.tokenizer is None:
            size = NETWORKS[base.name][1]
            images = torch.linspace(-1, 1, 2 * size * size).view(2, 1, size, size)
            outputs = model(images)
            return outputs[0] if isinstance(outputs, tuple) else outputs
        ids = torch.tensor([[4, 5, 7, 6, 9, 8], [4, 8, 9, 1, 1, 1]])
        mask = torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
        return model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]


def _trained(adapter, *, scale=0.3):
    """The adapter with its parameters moved from where they started, in evaluation mode."""
    drawn = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in adapter.backbone.model.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn(parameter.shape, generator=drawn))
    adapter.backbone.model.eval()
    return adapter


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    texts = {name: load_backbone(make_tiny(name, folder / name)) for name in FAMILIES}
    images = {name: wrap_network(make(), name=name) for name, (make, _) in NETWORKS.items()}
    return {**texts, **images}


@pytest.fixture(params=[*FAMILIES, *NETWORKS])
def any_base(bases, request):
    return bases[request.param]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_starts_at_its_base_but_a_plain_prefix(any_base, name):
    """LoRA, bottleneck, gated prefix and full: bit for bit."""
    method = _suits(METHODS[name], any_base)
    if method is None:
        pytest.skip("refused; see test_methods")
    adapter = attach_new(any_base, method)
    adapter.backbone.model.eval()
    before = _outputs(any_base, any_base.model)
    after = _outputs(any_base, adapter.backbone.model)
    assert torch.equal(after, before) == (name != "prefix")
    assert (starting_distance(adapter) > 0) == (name == "prefix")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_saved_and_loaded_as_it_was(any_base, name, tmp_path):
    """Outputs, settings, count and names; the base is as before, nothing is trainable."""
    method = _suits(METHODS[name], any_base)
    if method is None:
        pytest.skip("refused; see test_methods")
    before = _outputs(any_base, any_base.model)
    adapter = _trained(attach_new(any_base, method))
    wanted = _outputs(any_base, adapter.backbone.model)
    save_adapter(adapter, tmp_path / "made")
    loaded = attach_adapter(any_base, tmp_path / "made")
    assert torch.equal(_outputs(any_base, loaded.backbone.model), wanted)
    assert torch.equal(_outputs(any_base, any_base.model), before)
    assert not torch.allclose(wanted, before)
    named = isinstance(method, LoRA) and isinstance(method.targets, tuple)
    expected = replace(method, targets=loaded.method.targets) if named else method
    assert loaded.method == expected
    assert loaded.method.count_parameters(anatomy_of(any_base)) == loaded.n_parameters
    assert loaded.n_parameters == adapter.n_parameters
    assert loaded.backbone.max_tokens == adapter.backbone.max_tokens
    assert (loaded.name, loaded.digest) == ("made", adapter_digest(tmp_path / "made"))
    assert count_trained(loaded.backbone.model) == count_trained(any_base.model) == 0


@pytest.mark.parametrize("name", METHODS)
def test_every_trained_parameter_receives_a_gradient(any_base, name):
    """None is counted that the outputs do not depend on, and the base receives none."""
    method = _suits(METHODS[name], any_base)
    if method is None:
        pytest.skip("refused; see test_methods")
    model = _trained(attach_new(any_base, method)).backbone.model
    with torch.inference_mode(False), torch.enable_grad():
        if any_base.tokenizer is None:
            size = NETWORKS[any_base.name][1]
            outputs = model(torch.randn(2, 1, size, size))
            outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        else:
            outputs = model(input_ids=IDS, attention_mask=torch.ones_like(IDS))[0]
        outputs.pow(2).sum().backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is None for p in any_base.model.parameters())


@pytest.mark.parametrize("name", ["lora", "lora all-linear"])
def test_a_merged_lora_equals_the_unmerged(any_base, name):
    """Within float32 rounding; base and adapter stay as they were."""
    adapter = _trained(attach_new(any_base, METHODS[name]))
    before = _outputs(any_base, any_base.model)
    unmerged = _outputs(any_base, adapter.backbone.model)
    merged = merge_adapter(adapter)
    torch.testing.assert_close(_outputs(any_base, merged.model), unmerged, rtol=1e-4, atol=2e-5)
    assert torch.equal(_outputs(any_base, any_base.model), before)
    assert torch.equal(_outputs(any_base, adapter.backbone.model), unmerged)
    assert merged.digest not in (any_base.digest, "")
    assert not hasattr(merged.model, "peft_config")
    attach_new(merged, METHODS[name])  # a base like any other


@pytest.mark.parametrize("name", ["pfeiffer", "parallel", "prefix", "prefix zero gate"])
def test_what_is_not_linear_cannot_be_merged(bases, name):
    """The message says why, and what to do instead."""
    adapter = attach_new(bases["bert"], METHODS[name])
    with pytest.raises(AdapterError, match=r"adapter to merge.*Serve it unmerged.*LoRA"):
        merge_adapter(adapter)


@pytest.mark.parametrize("variant", ["pfeiffer", "houlsby"])
def test_a_linear_bottleneck_is_merged(any_base, variant):
    """Without a function between down and up it is an update of the weights."""
    adapter = _trained(attach_new(any_base, Bottleneck(3, variant, "linear")), scale=0.1)
    before = _outputs(any_base, any_base.model)
    unmerged = _outputs(any_base, adapter.backbone.model)
    merged = merge_adapter(adapter)
    torch.testing.assert_close(_outputs(any_base, merged.model), unmerged, rtol=1e-4, atol=5e-5)
    assert torch.equal(_outputs(any_base, any_base.model), before)


def test_merging_digests_follow_what_was_merged(base):
    """Other weights give another digest, the same weights the same."""
    first, second = (_trained(attach_new(base, LoRA()), scale=s) for s in (0.1, 0.2))
    assert merge_adapter(first).digest == merge_adapter(first).digest
    assert merge_adapter(first).digest != merge_adapter(second).digest


def test_tokenizer_head_base_and_revision_are_saved_with_an_adapter(base, tmp_path):
    """Everything that serving needs beside the base, and no place on this machine."""
    from transformers import AutoTokenizer

    known = replace(base, revision="a" * 40)
    head = Head("multi_label", np.eye(2, 16, dtype=np.float32), np.zeros(2, np.float32), ("a", "b"))
    folder = tmp_path / "made"
    save_adapter(attach_new(known, LoRA()), folder, head=head)
    saved = json.loads((folder / "base.json").read_text())
    assert saved == {"name": "tiny", "digest": base.digest, "revision": "a" * 40}
    assert load_head(folder, hidden_size=16).labels == ("a", "b")
    again = AutoTokenizer.from_pretrained(str(folder))
    assert again("risk may grow")["input_ids"] == base.tokenizer("risk may grow")["input_ids"]
    assert all(str(tmp_path) not in path.read_text() for path in folder.glob("*.json"))


def test_an_adapted_base_is_not_adapted_again(base):
    """Neither with a new adapter nor with a saved one."""
    with pytest.raises(AdapterError, match="merge_adapter"):
        attach_new(attach_new(base, LoRA()).backbone, LoRA())


def test_the_seed_draws_the_initial_values(base):
    """Same seed, same values; the caller's random numbers are left alone."""

    def first_values(seed):
        model = attach_new(base, LoRA(), seed=seed).backbone.model
        return next(p for p in model.parameters() if p.requires_grad).clone()

    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(first_values(1), first_values(1))
    assert not torch.equal(first_values(1), first_values(2))
    assert torch.equal(torch.rand(2), wanted)


@pytest.mark.parametrize("family", ["bert", "roberta", "llama"])
def test_a_plain_prefix_leaves_less_room(bases, family, tmp_path):
    """The adapted base says so, and a text of that length still runs."""
    base = bases[family]
    adapter = attach_new(base, Prefix(12))
    assert (base.max_tokens, adapter.backbone.max_tokens) == (32, 20)
    ids = torch.full((1, 20), 7)
    adapter.backbone.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    gated = attach_new(base, Prefix(12, zero_gate=True)).backbone
    ids = torch.full((1, 32), 7)
    gated.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert gated.max_tokens == 32


def test_the_kits_adapter_loads_as_it_always_did():
    """Its digest is the one that linkage.json pins; its weights give the stored count."""
    folder = Path(__file__).parents[3] / "kits/finance/weights/maec-lora"
    pinned = json.loads((folder / "linkage.json").read_text())["adapter_digest"]
    adapter = attach_adapter(load_backbone("minilm"), folder)
    assert adapter.digest == pinned
    assert adapter.method == LoRA(dropout=0.1)
    assert adapter.n_parameters == 73728


@pytest.mark.parametrize("name", [name for name in METHODS if name != "lora named"])
def test_a_padded_row_is_answered_as_if_it_came_alone(any_base, name):
    """Padding and neighbours change nothing, whatever the method."""
    method = _suits(METHODS[name], any_base)
    if method is None or any_base.tokenizer is None:
        pytest.skip("refused, or no rows of tokens")
    model = _trained(attach_new(any_base, method)).backbone.model
    together = _outputs(any_base, model)
    with torch.inference_mode():
        for ids, found in (([4, 5, 7, 6, 9, 8], together[:6]), ([4, 8, 9], together[6:])):
            row = torch.tensor([ids])
            alone = model(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state
            torch.testing.assert_close(found, alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lora", "prefix", "prefix zero gate", "pfeiffer", "full"])
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapted_language_model_keeps_its_head(name, tied, tmp_path):
    """A tied head is the adapted model's own embedding; one apart is the base's."""
    base = load_backbone(make_tiny("qwen3", tmp_path / "base", tied=tied))
    adapted = attach_new(base, METHODS[name]).backbone
    head = load_lm_head(adapted)
    assert torch.equal(head, load_lm_head(base))
    if tied:
        embedding = next(p for n, p in adapted.model.named_parameters() if "embed_tokens" in n)
        assert head is embedding
        assert head.requires_grad == (name == "full")


@pytest.mark.parametrize("later", [Full(), Prefix(2, zero_gate=True), Bottleneck(size=2)])
def test_a_later_adapter_takes_the_place_of_the_one_saved_before(base, saved, later):
    head = Head("regression", np.zeros((1, 16), np.float32), np.zeros(1, np.float32), max_tokens=8)
    save_adapter(saved[0], saved[1], head=head)
    save_adapter(attach_new(base, later), saved[1])
    assert attach_adapter(base, saved[1]).method == later
    assert not (saved[1] / "head.safetensors").exists()


def test_a_folder_with_a_model_of_somebody_else_is_left_alone(base, saved, tmp_path):
    folder = make_tiny_bert(tmp_path / "theirs")
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(AdapterError, match="another folder"):
        save_adapter(saved[0], folder)
    assert (folder / "model.safetensors").read_bytes() == before
