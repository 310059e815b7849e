"""What cannot share the base, is damaged or is another's is refused; the rest keep serving."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.adapters.bank import AdapterBank
from common.adapters.methods import Bottleneck, LoRA, Prefix
from common.backbones import load_backbone
from common.errors import AdapterError
from tests.common.adapters.bank_rows import (
    TEXTS,
    WEIGHTS,
    largest_delta,
    made_batch,
    save_random,
    save_three_loras,
)
from tests.tiny_models import make_tiny


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_backbone(make_tiny("bert", tmp_path_factory.mktemp("bert") / "m"))


@pytest.fixture(scope="module")
def loras(bert, tmp_path_factory):
    return save_three_loras(bert, tmp_path_factory.mktemp("loras"))


def _reordered(data):
    """Returns a safetensors file with the tensors sorted by the ends of their names."""
    n_header = int.from_bytes(data[:8], "little")
    header, start = json.loads(data[8 : 8 + n_header]), 8 + n_header
    header.pop("__metadata__", None)
    moved, body = {}, b""
    for name in sorted(header, key=lambda name: (name.split(".lora_")[1], name)):
        first, end = header[name]["data_offsets"]
        moved[name] = {**header[name], "data_offsets": [len(body), len(body) + end - first]}
        body += data[start + first : start + end]
    encoded = json.dumps(moved).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + body


class TestRefusals:
    """A folder that is refused leaves the adapters before it serving."""

    @pytest.fixture
    def folder(self, loras, tmp_path):
        return shutil.copytree(loras["a"], tmp_path / "copy")

    def _refused(self, bert, loras, folder, match):
        bank = AdapterBank(bert, folders={"b": loras["b"]})
        with pytest.raises(AdapterError, match=match):
            bank.load("new", folder)
        assert bank.names == ("b",)
        bank.predict(TEXTS[:1], ["b"])

    def test_an_adapter_of_another_base_is_refused(self, loras, tmp_path):
        """The same architecture with other weights is another base."""
        other = load_backbone(make_tiny("bert", tmp_path / "other", seed=1))
        with pytest.raises(AdapterError, match="trained on"):
            AdapterBank(other, folders=loras)

    def test_damaged_weights_are_refused(self, bert, loras, folder):
        """Cut short, with bytes after the end, without a header, or empty."""
        whole = (folder / WEIGHTS).read_bytes()
        for damaged in (whole[:-4], whole + b"0000", b"PK" + whole, b"", whole[:8] + b"x"):
            (folder / WEIGHTS).write_bytes(damaged)
            self._refused(bert, loras, folder, "safetensors")

    def test_a_pickle_is_never_opened(self, bert, loras, folder):
        """peft would fall back to it."""
        (folder / WEIGHTS).rename(folder / "adapter_model.bin")
        self._refused(bert, loras, folder, "no adapter_model.safetensors")

    def test_an_unexpected_digest_is_refused(self, bert, loras, folder):
        """A registry that recorded a digest gets these files or none."""
        bank = AdapterBank(bert, folders={"b": loras["b"]})
        digest = bank.load("a", folder)
        bank.load("again", folder, digest=digest)
        with pytest.raises(AdapterError, match="digest"):
            bank.load("other", folder, digest="0" * 64)
        assert bank.names == ("a", "again", "b")

    def test_a_file_that_changes_after_it_was_loaded_is_refused_when_read(
        self, bert, loras, folder
    ):
        """One flipped bit; other adapters keep serving, and a reload takes the new file."""
        bank = AdapterBank(bert, folders={"a": folder, "b": loras["b"]})
        data = bytearray((folder / WEIGHTS).read_bytes())
        data[-1] ^= 1
        (folder / WEIGHTS).write_bytes(data)
        with pytest.raises(AdapterError, match="digest"):
            bank.predict(TEXTS[:2], ["a", "b"])
        bank.predict(TEXTS[:2], ["b", None])
        (folder / WEIGHTS).unlink()
        with pytest.raises(AdapterError, match="readable"):
            bank.predict(TEXTS[:1], ["a"])
        (folder / WEIGHTS).write_bytes(data)
        bank.load("a", folder)
        bank.predict(TEXTS[:1], ["a"])

    def test_tensors_that_do_not_fit_are_refused(self, bert, loras, folder):
        """A foreign layer, a foreign shape, a half pair, two types."""
        tensors = load_file(folder / WEIGHTS)
        first = next(name for name in tensors if "lora_A" in name)
        foreign = {**tensors, first.replace("query", "nothing"): tensors[first].clone()}
        wrong = {**tensors, first: torch.zeros(2, 17)}
        half = {name: x for name, x in tensors.items() if name != first}
        mixed = {**tensors, first: tensors[first].half()}
        for changed, match in (
            (foreign, "nothing"),
            (wrong, "17"),
            (half, "query"),
            (mixed, "F16"),
        ):
            save_file(changed, folder / WEIGHTS)
            self._refused(bert, loras, folder, match)

    def test_ranks_of_zero_and_single_numbers_are_refused(self, bert, loras, folder):
        """Neither has a scale, or a shape, to compute with."""
        tensors = load_file(folder / WEIGHTS)
        empty = {n: x[:0] if "lora_A" in n else x[:, :0].contiguous() for n, x in tensors.items()}
        for changed in (empty, {**tensors, "single": torch.tensor(1.0)}):
            save_file(changed, folder / WEIGHTS)
            self._refused(bert, loras, folder, "expected A")

    def test_a_file_in_another_order_gives_the_same_rows(self, bert, loras, folder):
        """All A before all B, as no writer of safetensors does but the format allows."""
        rewritten = _reordered((folder / WEIGHTS).read_bytes())
        (folder / WEIGHTS).write_bytes(rewritten)
        folders = {"other": folder, "b": loras["b"]}
        bank = AdapterBank(bert, folders={**folders, "a": loras["a"]})
        assert largest_delta(bank, bert, folders, ["other", "b", None, "other"]) <= 1e-5
        ids, mask = made_batch(bert, 2)
        mixed = [bank.hidden_states(ids, mask, names) for names in (["a", "b"], ["other", "b"])]
        assert (mixed[0] - mixed[1]).abs().max() <= 1e-6

    def test_options_that_change_the_formula_are_refused_by_name(self, bert, loras, folder):
        """Each would need weights of the adapter's own in the base, or another formula."""
        settings = json.loads((folder / "adapter_config.json").read_text())
        changes = {
            "modules_to_save": ["classifier"],
            "use_dora": True,
            "bias": "lora_only",
            "init_lora_weights": "pissa",
            "trainable_token_indices": [1],
            "lora_alpha": "much",
        }
        for option, value in changes.items():
            changed = json.dumps({**settings, option: value})
            (folder / "adapter_config.json").write_text(changed)
            self._refused(bert, loras, folder, option)

    def test_full_tuning_and_unknown_methods_are_refused(self, bert, loras, folder):
        """Full tuning has no base to share."""
        settings = json.loads((folder / "adapter_config.json").read_text())
        settings["peft_type"] = "IA3"
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        self._refused(bert, loras, folder, "IA3")
        (folder / "adapter_config.json").unlink()
        shutil.copy(folder / WEIGHTS, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        self._refused(bert, loras, folder, "full tuning")

    def test_every_option_of_peft_s_lora_is_known_here(self):
        """An upgrade of peft with a new option has to be looked at first."""
        from peft import LoraConfig

        from common.adapters.bank_layouts import _LORA_NEEDS

        harmless = {
            "alpha_pattern", "auto_mapping", "base_model_name_or_path", "corda_config",
            "ensure_weight_tying", "eva_config", "exclude_modules", "inference_mode",
            "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
            "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "peft_type",
            "peft_version", "qalora_group_size", "r", "rank_pattern", "revision",
            "target_modules", "task_type", "use_rslora", "velora_config",
        }  # fmt: skip
        assert set(LoraConfig().to_dict()) == harmless | set(_LORA_NEEDS)

    def test_a_base_without_a_way_in_for_prefixes_serves_the_rest(self, tmp_path):
        """DeBERTa-v2 takes LoRA; a prefix on it would be ignored in silence, so it is refused."""
        base = load_backbone(make_tiny("deberta-v2", tmp_path / "deberta"))
        lora = save_random(base, tmp_path / "lora", LoRA(rank=2))
        bank = AdapterBank(base, folders={"lora": lora})
        assert largest_delta(bank, base, {"lora": lora}, ["lora", None, "lora"]) <= 1e-5
        prefix = shutil.copytree(lora, tmp_path / "prefix")
        save_file({"prompt_embeddings": torch.zeros(3, 2 * 2 * 16)}, prefix / WEIGHTS)
        settings = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3}
        (prefix / "adapter_config.json").write_text(json.dumps(settings))
        with pytest.raises(AdapterError, match="relative positions"):
            bank.load("prefix", prefix)

    def test_prefixes_and_bottlenecks_of_other_shapes_are_refused(self, bert, tmp_path):
        """A prefix for 3 layers, a gate too many, a bottleneck without its way up."""
        prefix = save_random(bert, tmp_path / "prefix", Prefix(3, zero_gate=True))
        bottleneck = save_random(bert, tmp_path / "bottleneck", Bottleneck(size=2))
        bank = AdapterBank(bert, folders={"prefix": prefix, "bottleneck": bottleneck})
        tensors = load_file(prefix / WEIGHTS)
        wide = {**tensors, "prompt_embeddings": torch.zeros(3, 3 * 2 * 16)}
        gates = {**tensors, "prompt_gates": torch.zeros(3, 2)}
        more = {**tensors, "other": torch.zeros(1)}
        for changed in (wide, gates, more, {"prompt_gates": tensors["prompt_gates"]}):
            save_file(changed, prefix / WEIGHTS)
            with pytest.raises(AdapterError, match="prompt_embeddings"):
                bank.load("again", prefix)
        tensors = load_file(bottleneck / WEIGHTS)
        save_file({n: x for n, x in tensors.items() if "up.bias" not in n}, bottleneck / WEIGHTS)
        with pytest.raises(AdapterError, match="with biases"):
            bank.load("again", bottleneck)
        assert bank.names == ("bottleneck", "prefix")
