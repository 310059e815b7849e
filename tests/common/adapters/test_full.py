"""Full tuning works on a copy of the weights, and its folder is a base of its own."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from common.adapters.attach import attach_adapter, attach_new, merge_adapter, save_adapter
from common.adapters.methods import Full
from common.backbones import load_backbone, load_lm_head
from common.errors import AdapterError
from tests.tiny_bert import make_tiny_bert
from tests.tiny_models import DECODERS, make_tiny

IDS = torch.tensor([[4, 5, 7, 6, 9, 8]])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "tiny"))


def _states(model):
    with torch.inference_mode():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state


def _moved(adapter):
    """The adapter with other weights than its base."""
    with torch.no_grad():
        for parameter in adapter.backbone.model.parameters():
            parameter.mul_(1.5)
    return adapter


def test_full_tuning_leaves_the_base_alone_and_keeps_its_type(base):
    """It has tensors of its own, in the base's type, all but the unread pooler trained."""
    base16 = replace(base, model=copy.deepcopy(base.model).bfloat16())
    model = attach_new(base16, Full()).backbone.model
    own = {p.data_ptr() for p in model.parameters()}
    assert not own & {p.data_ptr() for p in base16.model.parameters()}
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"pooler.dense.weight", "pooler.dense.bias"}
    assert merge_adapter(attach_new(base, Full())).model is not base.model


@pytest.mark.parametrize("family", ["bert", *DECODERS])
@pytest.mark.parametrize("tied", [True, False])
def test_a_fully_tuned_folder_is_a_base_of_its_own(family, tied, tmp_path):
    """It loads by itself, with its tokenizer and, for a language model, its head."""
    if family == "bert" and tied:
        pytest.skip("no language-model head")
    whole = make_tiny(family, tmp_path / "base", tied=tied)
    base = load_backbone(whole)
    adapter = _moved(attach_new(base, Full()))
    save_adapter(adapter, tmp_path / "tuned")
    alone = load_backbone(tmp_path / "tuned")
    wanted = _states(adapter.backbone.model)
    assert torch.equal(_states(alone.model), wanted)
    assert alone.count_tokens(["risk and debt"]) == base.count_tokens(["risk and debt"])
    if family in DECODERS:
        assert torch.equal(load_lm_head(alone), load_lm_head(adapter.backbone))
        assert torch.equal(load_lm_head(alone), load_lm_head(base)) != tied


def test_a_fully_tuned_folder_of_another_shape_is_refused(base, tmp_path):
    """Weights that do not fit, or are damaged."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "full"
    save_adapter(attach_new(base, Full()), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors.popitem()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(AdapterError, match="tensors that fit"):
        attach_adapter(base, folder)
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(AdapterError, match="damaged"):
        attach_adapter(base, folder)
