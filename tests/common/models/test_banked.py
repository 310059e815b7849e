"""An adapter of a bank is a model like any other, and comes and goes with its files."""

from __future__ import annotations

import numpy as np
import pytest

from common.adapters.bank import AdapterBank
from common.adapters.methods import LoRA
from common.backbones import load_backbone
from common.errors import AdapterError
from common.models.banked import BankedText
from common.models.base import Model
from common.task import Task, Text
from tests.common.adapters.bank_rows import save_random
from tests.tiny_bert import make_tiny_bert


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "tiny"))


def test_it_answers_as_the_bank_does_and_names_the_adapter(base, tmp_path):
    folders = {
        name: save_random(base, tmp_path / name, LoRA(rank=2), seed=seed, scale=0.5)
        for seed, name in enumerate(("a", "b"))
    }
    bank = AdapterBank(base)
    one, other = (BankedText(bank, base, name, folder) for name, folder in folders.items())
    assert isinstance(one, Model)
    assert bank.names == ("a", "b")
    assert one.profile.adapter == "a"
    assert one.profile.adapter_digest != other.profile.adapter_digest
    tasks = [Task({"text": Text("risk of loss")}), Task({"text": Text("revenue growth")})]
    expected = bank.predict(["risk of loss", "revenue growth"], ["a", "a"])
    for found, wanted in zip(one.predict(tasks), expected, strict=True):
        assert np.array_equal(found.arrays["embedding"], wanted.arrays["embedding"])
    one.close()
    assert bank.names == ("b",)
    with pytest.raises(AdapterError):
        one.predict(tasks)


def test_made_again_it_takes_the_files_of_now(base, tmp_path):
    bank = AdapterBank(base)
    first = BankedText(bank, base, "a", save_random(base, tmp_path / "1", LoRA(rank=2)))
    second = BankedText(bank, base, "a", save_random(base, tmp_path / "2", LoRA(rank=2), seed=1))
    assert first.profile.adapter_digest != second.profile.adapter_digest
