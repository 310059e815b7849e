"""Adapters leave the base alone, fit only their own base, and load as they were saved."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from common.adapters.attach import (
    adapter_digest,
    attach_adapter,
    attach_new,
    count_trained,
    save_adapter,
)
from common.adapters.methods import LoRA
from common.backbones import load_backbone
from common.errors import AdapterError
from tests.tiny_bert import make_tiny_bert

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


def test_a_saved_folder_names_no_place_on_this_machine(saved, tmp_path):
    """Configurations travel, so they hold the base's name and no path."""
    for path in saved[1].glob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_the_digest_follows_the_weights(saved, tmp_path):
    """Another head beside the adapter gives another digest."""
    from safetensors.numpy import save_file

    before = adapter_digest(saved[1])
    save_file({"weight": torch.ones(16).numpy()}, str(saved[1] / "head.safetensors"))
    assert adapter_digest(saved[1]) != before


def test_an_adapter_of_another_base_is_refused(saved, tmp_path):
    """The same architecture with other weights is another base."""
    other = load_backbone(make_tiny_bert(tmp_path / "other", seed=1))
    with pytest.raises(AdapterError, match="trained on"):
        attach_adapter(other, saved[1])


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "base.json"])
def test_a_missing_file_is_named(base, saved, name):
    """peft would fall back to a pickle; this refuses first."""
    (saved[1] / name).unlink()
    (saved[1] / "adapter_model.bin").write_bytes(b"not opened")
    with pytest.raises(AdapterError, match=name):
        attach_adapter(base, saved[1])


def test_damaged_files_are_refused(base, saved, tmp_path):
    """Truncated weights, foreign tensors, another method and broken JSON all raise."""
    from safetensors.torch import load_file, save_file

    folder = saved[1]
    config = json.loads((folder / "adapter_config.json").read_text())

    def damaged(number):
        return shutil.copytree(folder, tmp_path / f"damaged{number}")

    truncated = damaged(1) / "adapter_model.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:50])
    foreign = damaged(2) / "adapter_model.safetensors"
    tensors = load_file(foreign)
    tensors.popitem()
    save_file(tensors, foreign)
    (damaged(3) / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    (damaged(4) / "adapter_config.json").write_text("{")
    (damaged(5) / "base.json").write_text("[]")
    (damaged(6) / "adapter_config.json").write_text(json.dumps({**config, "r": 4}))
    for number in range(1, 7):
        with pytest.raises(AdapterError):
            attach_adapter(base, tmp_path / f"damaged{number}")
