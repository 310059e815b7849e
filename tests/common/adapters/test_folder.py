"""A folder is read only if it is whole, of a known kind, and of the base at hand."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from common.adapters.attach import attach_adapter, attach_new, save_adapter
from common.adapters.folder import adapter_digest, kind_of
from common.adapters.methods import Bottleneck, Full, LoRA, Prefix
from common.backbones import load_backbone
from common.errors import AdapterError
from tests.tiny_bert import make_tiny_bert


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def saved(base, tmp_path):
    """An adapter and its folder."""
    adapter = attach_new(base, LoRA(rank=2), seed=1)
    save_adapter(adapter, tmp_path / "lora")
    return adapter, tmp_path / "lora"


@pytest.mark.parametrize("method", [LoRA(), Prefix(4), Prefix(4, True), Bottleneck(), Full()])
def test_a_folder_says_its_kind(base, method, tmp_path):
    """As the method that wrote it."""
    save_adapter(attach_new(base, method), tmp_path / "made")
    assert kind_of(tmp_path / "made") == method.kind


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
