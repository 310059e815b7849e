"""A mixed batch equals its rows run alone; heads answer, and names come and go under load."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.adapters.anatomy import anatomy_of
from common.adapters.attach import Adapter, count_trained, save_adapter, sharing_copy
from common.adapters.bank import AdapterBank
from common.adapters.methods import Bottleneck, LoRA, Prefix
from common.backbones import load_backbone
from common.errors import AdapterError, InputError, TaskError
from tests.common.adapters.bank_rows import (
    FAMILIES,
    TEXTS,
    largest_delta,
    made_batch,
    save_random,
    save_three_loras,
)
from tests.tiny_models import make_tiny


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, tmp_path_factory):
    return load_backbone(make_tiny(request.param, tmp_path_factory.mktemp(request.param) / "m"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_backbone(make_tiny("bert", tmp_path_factory.mktemp("bert") / "m"))


@pytest.fixture(scope="module")
def loras(bert, tmp_path_factory):
    return save_three_loras(bert, tmp_path_factory.mktemp("loras"))


class TestMixedBatches:
    def test_rows_equal_themselves_run_alone(self, base, tmp_path):
        """Ranks, targets and scales differ from row to row; some rows take no adapter."""
        folders = {
            "qv": save_random(base, tmp_path / "qv", LoRA(rank=2), seed=1),
            "qv too": save_random(base, tmp_path / "qv2", LoRA(rank=2, alpha=3), seed=2),
            "wide": save_random(base, tmp_path / "wide", LoRA(rank=5, dropout=0.5), seed=3),
            "all": save_random(base, tmp_path / "all", LoRA(rank=3, targets="all-linear"), seed=4),
        }
        bank = AdapterBank(base, folders=folders)
        names = ["all", None, "qv", "wide", "qv too", None, "qv", "all"]
        assert largest_delta(bank, base, folders, names) <= 1e-5

    def test_bottlenecks_of_three_variants_and_lora_share_a_batch(self, base, tmp_path):
        """Each row equals itself run alone through peft's layers."""
        methods = {
            "pfeiffer": Bottleneck(size=4),
            "scaled": Bottleneck(size=4, scale=2.5),
            "houlsby": Bottleneck(size=3, variant="houlsby", activation="relu"),
            "parallel": Bottleneck(size=4, variant="parallel", scale=4.0),
            "lora": LoRA(rank=2, targets="all-linear"),
        }
        folders = {
            name: save_random(base, tmp_path / name, method, seed=seed)
            for seed, (name, method) in enumerate(methods.items())
        }
        bank = AdapterBank(base, folders=folders)
        names = ["houlsby", "pfeiffer", None, "parallel", "lora", "scaled", "parallel", "pfeiffer"]
        assert largest_delta(bank, base, folders, names) <= 1e-5
        assert largest_delta(bank, base, folders, ["parallel"] * 5) <= 1e-5

    def test_every_method_shares_one_batch(self, base, tmp_path):
        """LoRA, prefixes of both forms and two lengths, a bottleneck, and the base."""
        methods = {
            "lora": LoRA(rank=2, targets="all-linear"),
            "gated": Prefix(3, zero_gate=True),
            "bottleneck": Bottleneck(size=4),
        }
        if Prefix(3).refusal(anatomy_of(base)) is None:
            methods |= {"prefix": Prefix(3), "again": Prefix(3), "long": Prefix(5)}
        folders = {
            name: save_random(base, tmp_path / name, method, seed=seed, scale=0.5)
            for seed, (name, method) in enumerate(methods.items())
        }
        for name in ("lora", "bottleneck"):
            folders[name] = save_random(base, tmp_path / f"mild {name}", methods[name])
        bank = AdapterBank(base, folders=folders)
        names = [*folders, None, *reversed(folders), None, "gated"]
        assert largest_delta(bank, base, folders, names) <= 1e-5
        ids, mask = made_batch(base, len(names))
        plain = bank.hidden_states(ids, mask, [None] * len(names))
        moved = (bank.hidden_states(ids, mask, names) - plain).abs().amax((1, 2))
        assert all((x > 1e-3) == (name is not None) for x, name in zip(moved, names, strict=True))

    def test_one_adapter_for_all_rows_and_long_runs_equal_too(self, bert, loras):
        """These take other routes through the layers."""
        bank = AdapterBank(bert, folders=loras)
        for names in (["a"] * 6, ["a"] * 4 + ["b"] * 4, ["a"], [None] * 3, ["a", None] * 4):
            assert largest_delta(bank, bert, loras, names) <= 1e-5

    def test_adapters_change_their_rows(self, bert, loras):
        """The comparisons above would also hold for a bank that ignores its adapters."""
        bank = AdapterBank(bert, folders=loras)
        ids, mask = made_batch(bert, 2)
        assert not torch.allclose(
            bank.hidden_states(ids, mask, ["a", "b"]), bank.hidden_states(ids, mask, [None, "a"])
        )

    def test_the_base_is_left_alone(self, bert, loras):
        """Not a tensor, a module or a setting of it changes, and the bank shares its tensors."""
        before = {name: tensor.clone() for name, tensor in bert.model.state_dict().items()}
        modules = [type(module) for module in bert.model.modules()]
        bank = AdapterBank(bert, folders=loras)
        bank.predict(TEXTS[:2], ["a", None])
        assert [type(module) for module in bert.model.modules()] == modules
        assert all(torch.equal(x, before[n]) for n, x in bert.model.state_dict().items())
        own = {parameter.data_ptr() for parameter in bank._model.parameters()}
        assert own == {parameter.data_ptr() for parameter in bert.model.parameters()}

    def test_rank_stabilised_scales_and_patterns_are_peft_s(self, bert, tmp_path):
        """alpha / sqrt(r), and alpha and rank by layer."""
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=3,
            lora_alpha=5,
            use_rslora=True,
            rank_pattern={"layer.1.attention.self.query": 2},
            alpha_pattern={"value": 7},
            target_modules=["query", "value"],
        )
        model = get_peft_model(sharing_copy(bert.model), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_()
        folder = tmp_path / "rs"
        n = count_trained(model)
        save_adapter(Adapter(replace(bert, model=model), "rs", "", n, LoRA(rank=3)), folder)
        bank = AdapterBank(bert, folders={"rs": folder})
        assert largest_delta(bank, bert, {"rs": folder}, ["rs", None, "rs"]) <= 1e-5

    @pytest.mark.gpu
    def test_rows_on_a_gpu_equal_themselves_run_alone(self, base, tmp_path):
        """In float32 as peft's rows on the same GPU, in bfloat16 as the bank's own rows."""
        if not torch.cuda.is_available():
            pytest.skip("needs an accelerator")
        methods = {
            "lora": LoRA(rank=2, targets="all-linear"),
            "gated": Prefix(3, zero_gate=True),
            "bottleneck": Bottleneck(size=4, variant="parallel"),
        }
        folders = {n: save_random(base, tmp_path / n, method) for n, method in methods.items()}
        names = ["lora", None, "gated", "bottleneck", "lora", None]
        on_gpu = replace(base, model=copy.deepcopy(base.model).cuda())
        bank = AdapterBank(base, folders=folders, device="cuda")
        assert largest_delta(bank, on_gpu, folders, names) <= 1e-5
        half = AdapterBank(base, folders=folders, device="cuda", dtype=torch.bfloat16)
        ids, mask = made_batch(base, len(names))
        mixed = half.hidden_states(ids, mask, names)
        for row, name in enumerate(names):
            n = int(mask[row].sum())
            single = half.hidden_states(ids[row : row + 1, :n], mask[row : row + 1, :n], [name])
            assert (mixed[row, :n] - single[0]).abs().max() <= 0.1

    def test_bfloat16_equals_itself_run_alone(self, bert, loras):
        """Against the same bank's single rows; eight bits of mantissa allow 0.05."""
        bank = AdapterBank(bert, folders=loras, dtype=torch.bfloat16)
        ids, mask = made_batch(bert, 4)
        ids, mask = ids[:, :8], mask[:, :8] | 1
        names = ["a", "headed", None, "b"]
        mixed = bank.hidden_states(ids, mask, names)
        assert mixed.dtype == torch.bfloat16
        for row, name in enumerate(names):
            single = bank.hidden_states(ids[row : row + 1], mask[row : row + 1], [name])
            assert (mixed[row] - single[0]).abs().max() <= 0.05
            exact = AdapterBank(bert, folders=loras).hidden_states(ids, mask, names)
        assert (mixed.float() - exact).abs().max() <= 0.3
        assert next(bert.model.parameters()).dtype == torch.float32


class TestPredict:
    def test_heads_answer_their_rows_and_other_rows_are_embedded(self, bert, loras):
        """A row's result is that of its adapter's head, as if it had come alone."""
        bank = AdapterBank(bert, folders=loras)
        names = ["headed", None, "a", "headed"]
        texts = [TEXTS[0], TEXTS[1], TEXTS[1], TEXTS[2]]
        results = bank.predict(texts, names)
        for text, name, result in zip(texts, names, results, strict=True):
            (single,) = bank.predict([text], [name])
            if name == "headed":
                assert result.values["label"] in ("up", "down")
                difference = result.values["probability"] - single.values["probability"]
                assert abs(difference) <= 2e-6
            else:
                embedding = result.arrays["embedding"]
                assert np.abs(embedding - single.arrays["embedding"]).max() <= 1e-6
                assert np.linalg.norm(embedding) == pytest.approx(1)

    def test_base_rows_are_what_the_text_encoder_gives(self, bert):
        """One meaning of `embedding` in the house."""
        from common.models.text import TextEncoder
        from common.task import Task, Text

        (expected,) = TextEncoder(bert).predict([Task({"text": Text(TEXTS[3])})])
        (found,) = AdapterBank(bert).predict([TEXTS[3]], [None])
        assert np.allclose(found.arrays["embedding"], expected.arrays["embedding"], atol=1e-6)

    def test_a_long_text_follows_its_head_s_policy_and_else_the_bank_s(self, bert, loras):
        """The head refuses above 8 tokens; the base reads 60 words in windows of 32 tokens."""
        bank = AdapterBank(bert, folders=loras)
        long = "risk " * 60
        with pytest.raises(TaskError, match="at most 8 tokens"):
            bank.predict([TEXTS[0], TEXTS[3]], [None, "headed"])
        assert bank.predict([long], ["a"])[0].arrays["embedding"].shape == (16,)
        with pytest.raises(TaskError, match="at most 32 tokens"):
            AdapterBank(bert, folders=loras, too_long="refuse").predict([long], ["a"])

    def test_a_prefix_leaves_less_room(self, bert, tmp_path):
        """31 tokens fit the base and a gated prefix, and not behind a plain one of 3."""
        gated = save_random(bert, tmp_path / "gated", Prefix(3, zero_gate=True))
        plain = save_random(bert, tmp_path / "plain", Prefix(3))
        bank = AdapterBank(bert, folders={"gated": gated, "plain": plain}, too_long="refuse")
        text = " ".join(["risk"] * 29)
        bank.predict([text, text], [None, "gated"])
        with pytest.raises(TaskError, match="at most 29 tokens"):
            bank.predict([text], ["plain"])

    def test_more_rows_than_one_batch_holds_come_back_in_order(self, bert, loras):
        """900 rows of 11 tokens are run in two batches."""
        bank = AdapterBank(bert, folders=loras)
        texts = ["revenue cost risk growth debt market sales loss profit"] * 900
        results = bank.predict(texts, ["a", None, "b"] * 300)
        singles = [bank.predict([texts[0]], [name])[0] for name in ("a", None, "b")]
        for row in (0, 1, 2, 450, 451, 452, 897, 898, 899):
            expected = singles[row % 3].arrays["embedding"]
            assert np.abs(results[row].arrays["embedding"] - expected).max() <= 1e-6

    def test_unknown_names_are_refused_before_any_work(self, bert, loras):
        """No weights are read for the row whose name is known."""
        bank = AdapterBank(bert, folders=loras)
        with pytest.raises(AdapterError, match="'absent'") as caught:
            bank.predict(TEXTS[:2], ["a", "absent"])
        assert "Load it first" in caught.value.remedy
        assert bank.counts().misses == 0

    def test_there_is_one_name_for_each_row(self, bert, loras):
        """Too few names, none at all and rows beyond the room raise."""
        bank = AdapterBank(bert, folders=loras)
        with pytest.raises(InputError, match="1 names"):
            bank.predict(TEXTS[:2], ["a"])
        with pytest.raises(InputError, match="0 rows"):
            bank.predict([], [])
        with pytest.raises(InputError, match="at most 32 tokens"):
            bank.hidden_states(torch.ones(1, 40).long(), torch.ones(1, 40).long(), ["a"])

    def test_an_empty_text_is_refused(self, bert):
        """It has no words to average."""
        with pytest.raises(TaskError, match="empty"):
            AdapterBank(bert).predict([" "], [None])


class TestLoading:
    def test_a_loaded_adapter_serves_and_an_unloaded_one_does_not(self, bert, loras):
        """Names come and go; the same name can take another folder."""
        bank = AdapterBank(bert)
        bank.load("one", loras["a"])
        first = bank.predict(TEXTS[:1], ["one"])[0].arrays["embedding"]
        bank.load("one", loras["b"])
        second = bank.predict(TEXTS[:1], ["one"])[0].arrays["embedding"]
        assert not np.allclose(first, second)
        bank.unload("one")
        assert bank.names == ()
        assert bank.counts().n_bytes == 0
        with pytest.raises(AdapterError, match="one"):
            bank.predict(TEXTS[:1], ["one"])
        with pytest.raises(AdapterError, match="one"):
            bank.unload("one")

    def test_more_adapters_than_the_cache_holds_are_served(self, bert, loras):
        """A cache of one adapter, or of none, changes the reads and not the results."""
        roomy = AdapterBank(bert, folders=loras)
        n_bytes = 2 * 2 * 2 * 2 * 16 * 4  # query and value of 2 layers, A and B, r = 2
        names = ["a", "b", "headed", None]
        texts = [TEXTS[0]] * 4
        expected = roomy.predict(texts, names)
        for budget in (n_bytes, 0):
            bank = AdapterBank(bert, folders=loras, cache_bytes=budget)
            for _ in range(3):
                for one, other in zip(bank.predict(texts, names), expected, strict=True):
                    assert one.values == other.values
                    assert all(np.array_equal(x, other.arrays[n]) for n, x in one.arrays.items())
            assert bank.counts().n_bytes <= budget
            assert bank.counts().misses > 3

    def test_requests_keep_their_adapters_while_others_load_and_unload(self, bert, loras):
        """Three threads ask, one swaps what a name means and takes names out: no wrong answer."""
        bank = AdapterBank(bert, folders={**loras, "swapped": loras["a"]}, cache_bytes=3000)
        answers = {
            name: bank.predict([TEXTS[1]], [name])[0].arrays["embedding"] for name in ("a", "b")
        }
        stop, faults = threading.Event(), []

        def ask():
            results = bank.predict([TEXTS[1]] * 4, ["a", "swapped", "b", None])
            a, swapped, b, _ = (result.arrays["embedding"] for result in results)
            distances = [np.abs(swapped - x).max() for x in answers.values()]
            rows = [np.abs(a - answers["a"]).max(), np.abs(b - answers["b"]).max()]
            if max(*rows, min(distances)) > 1e-5:
                faults.append("a row took another's adapter, or a mixture")

        def swap():
            bank.load("swapped", loras["b"])
            bank.load("coming", loras["headed"])
            bank.load("swapped", loras["a"])
            bank.unload("coming")

        def repeat(work):
            try:
                while not stop.is_set():
                    work()
            except Exception as error:  # noqa: BLE001  # any is a fault
                faults.append(repr(error))
                stop.set()

        threads = [threading.Thread(target=repeat, args=(work,)) for work in (ask, ask, ask, swap)]
        for thread in threads:
            thread.start()
        stop.wait(2)
        stop.set()
        for thread in threads:
            thread.join(20)
        assert faults == []


def test_one_text_is_not_read_letter_by_letter(bert):
    bank = AdapterBank(bert)
    with pytest.raises(InputError, match="a list of texts"):
        bank.predict("risk", [None] * 4)
    bank.close()
