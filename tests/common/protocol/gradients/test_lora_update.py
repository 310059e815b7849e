"""Updates go through frames and folders, and what a folder holds is what the base gets."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from common.adapters.attach import attach_adapter, merge_adapter
from common.adapters.bank import AdapterBank
from common.adapters.folder import adapter_digest
from common.adapters.heads import Head, load_head
from common.adapters.methods import Bottleneck, LoRA
from common.backbones import load_backbone
from common.errors import AdapterError, MessageError
from common.protocol.gradients.aggregation import combined, fedex_average, stacked
from common.protocol.gradients.lora_update import (
    Factors,
    LoraUpdate,
    read_update,
    update_frame,
    update_of,
    write_update,
)
from common.protocol.messages.payloads import GradientFrame
from tests.common.protocol.lora_sites import (
    N_SAMPLES,
    distance,
    random_adapter,
    random_update,
    weighted_mean,
)
from tests.tiny_bert import make_tiny_bert

IDS = torch.tensor([[2, 5, 7, 6, 3]])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory):
    """Three sites' adapters with heads, of ranks 2, 2 and 2, two of them scaled otherwise."""
    root = tmp_path_factory.mktemp("sites")
    methods = (LoRA(rank=2), LoRA(rank=2, alpha=2), LoRA(rank=2, alpha=3))
    for i, method in enumerate(methods):
        head = Head("regression", np.full((1, 16), i), np.full(1, i), max_tokens=20 + i)
        random_adapter(base, root / f"site{i}", i, method=method, head=head)
    return [root / f"site{i}" for i in range(3)]


class TestFolders:
    """peft's format in and out."""

    def test_products_are_those_that_merging_adds(self, base, folders):
        update = read_update(folders[1])
        merged = merge_adapter(attach_adapter(base, folders[1])).model
        for layer, factors in update.layers.items():
            added = merged.get_submodule(layer).weight - base.model.get_submodule(layer).weight
            assert torch.allclose(factors.product().float(), added, atol=1e-6)
        assert set(update.head) == {"weight", "bias"}

    @pytest.mark.parametrize("form", ["stacked", "fedex"])
    def test_the_aggregate_serves_as_any_adapter(self, base, folders, tmp_path, form):
        """Its hidden states are those of the base with the mean at full rank added."""
        updates = [read_update(folder) for folder in folders]
        mean = weighted_mean(updates, N_SAMPLES)
        aggregate = (
            stacked(updates, n_samples=N_SAMPLES)
            if form == "stacked"
            else fedex_average(updates, n_samples=N_SAMPLES).whole()
        )
        kept = [parameter.clone() for parameter in base.model.parameters()]
        write_update(aggregate, tmp_path / "all", like=folders[0])
        assert distance(read_update(tmp_path / "all"), mean) < 1e-6
        adapter = attach_adapter(base, tmp_path / "all")
        expected = _with_added(base.model, mean)
        with torch.inference_mode():
            found = adapter.backbone.model(input_ids=IDS).last_hidden_state
        assert torch.allclose(found, expected, atol=1e-5)
        for before, after in zip(kept, base.model.parameters(), strict=True):
            assert torch.equal(before, after)

    def test_the_bank_serves_it_beside_a_sites_own(self, base, folders, tmp_path):
        updates = [read_update(folder) for folder in folders]
        write_update(stacked(updates, n_samples=N_SAMPLES), tmp_path / "all", like=folders[0])
        bank = AdapterBank(base, folders={"all": tmp_path / "all", "one": folders[0]})
        results = bank.predict(["we may default", "we may default"], adapters=["all", "one"])
        assert results[0].values["score"] != results[1].values["score"]

    def test_a_head_is_written_with_its_record(self, folders, tmp_path):
        updates = [read_update(folder) for folder in folders]
        write_update(stacked(updates, n_samples=N_SAMPLES), tmp_path / "all", like=folders[1])
        head = load_head(tmp_path / "all", hidden_size=16)
        assert head.weight == pytest.approx(np.full((1, 16), 0.3 * 1 + 0.6 * 2), abs=1e-6)
        assert (head.task, head.max_tokens) == ("regression", 21)

    def test_alpha_may_be_chosen(self, folders, tmp_path):
        """A site goes on training with its own scale."""
        update = read_update(folders[0])
        write_update(update, tmp_path / "all", like=folders[0], alpha=16)
        settings = json.loads((tmp_path / "all" / "adapter_config.json").read_text())
        assert (settings["r"], settings["lora_alpha"]) == (2, 16)
        assert adapter_digest(tmp_path / "all")
        again = read_update(tmp_path / "all")
        assert distance(again, {k: v.product() for k, v in update.layers.items()}) < 1e-6

    def test_a_folder_may_be_written_over_itself(self, folders, tmp_path):
        write_update(read_update(folders[0]), tmp_path / "all", like=folders[0])
        update = read_update(tmp_path / "all")
        write_update(combined([update, update]), tmp_path / "all", like=tmp_path / "all")
        twice = {layer: 2 * factors.product() for layer, factors in update.layers.items()}
        assert distance(read_update(tmp_path / "all"), twice) < 1e-6

    def test_a_head_that_is_left_out_does_not_stay(self, folders, tmp_path):
        update = read_update(folders[0])
        write_update(update, tmp_path / "all", like=folders[0])
        headless = LoraUpdate(update.layers)
        write_update(headless, tmp_path / "all", like=tmp_path / "all")
        assert read_update(tmp_path / "all").head == {}

    def test_a_sites_other_files_stay_with_it(self, folders, tmp_path):
        (folders[0] / "patients.csv").write_text("private")
        write_update(read_update(folders[0]), tmp_path / "all", like=folders[0])
        (folders[0] / "patients.csv").unlink()
        names = {path.name for path in (tmp_path / "all").iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors", "base.json"} <= names
        assert "vocab.txt" in names or "tokenizer.json" in names
        assert "patients.csv" not in names

    def test_layers_of_smaller_rank_are_filled(self, folders, tmp_path):
        update = read_update(folders[0])
        layers = dict(update.layers)
        name = next(iter(layers))
        layers[name] = Factors(layers[name].a[:1], layers[name].b[:, :1])
        uneven = LoraUpdate(layers, update.head)
        write_update(uneven, tmp_path / "all", like=folders[0])
        products = {layer: factors.product() for layer, factors in layers.items()}
        assert distance(read_update(tmp_path / "all"), products) < 1e-6

    def test_other_layers_and_other_methods_are_refused(self, base, folders, tmp_path):
        with pytest.raises(AdapterError):
            write_update(random_update(0), tmp_path / "all", like=folders[0])
        assert not (tmp_path / "all").exists()
        random_adapter(base, tmp_path / "bottleneck", 0, method=Bottleneck(size=2))
        with pytest.raises(AdapterError) as caught:
            read_update(tmp_path / "bottleneck")
        assert caught.value.found == "bottleneck"

    def test_an_option_that_adds_more_is_refused(self, folders, tmp_path):
        write_update(read_update(folders[0]), tmp_path / "all", like=folders[0])
        path = tmp_path / "all" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": True}))
        with pytest.raises(AdapterError) as caught:
            read_update(tmp_path / "all")
        assert "use_dora" in caught.value.found


class TestFrames:
    """GradientFrame in and out."""

    def test_an_update_comes_back_bit_for_bit(self):
        update = random_update(0, head=True)
        frame = update_frame(update, round=2, site="north", n_samples=7)
        back = update_of(frame)
        assert (frame.round, frame.site, frame.n_samples) == (2, "north", 7)
        for name, tensor in update.tensors().items():
            assert torch.equal(back.tensors()[name], tensor)

    @pytest.mark.parametrize(
        "tensors",
        [
            {},
            {"x.lora_A": np.zeros((2, 3))},
            {"x.weight": np.zeros((2, 3))},
            {"x.lora_A": np.zeros((2, 3)), "x.lora_B": np.zeros((3, 4))},
            {"x.lora_A": np.zeros(3), "x.lora_B": np.zeros((3, 1))},
        ],
    )
    def test_a_frame_of_something_else_is_refused(self, tensors):
        with pytest.raises(MessageError):
            update_of(GradientFrame(0, "a", 1, tensors))


def _with_added(model, products):
    import copy

    changed = copy.deepcopy(model)
    with torch.inference_mode():
        for layer, product in products.items():
            changed.get_submodule(layer).weight += product.float()
        return changed(input_ids=IDS).last_hidden_state
