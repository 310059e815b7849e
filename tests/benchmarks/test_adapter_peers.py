"""The peers that the bank is timed against do the same work: their outputs equal the bank's."""

from __future__ import annotations

import pytest

from benchmarks.adapter_peers import HotSwapSlots, PeftLRU, PeftModelOf
from benchmarks.lora_folders import write_lora_folders
from common.adapters.anatomy import anatomy_of
from common.adapters.bank import AdapterBank
from common.adapters.methods import LoRA
from common.backbones import load_backbone
from tests.common.adapters.bank_rows import made_batch
from tests.tiny_bert import make_tiny_bert

NAMES = (("a0", "a1", "a2"), ("a3", "a1", "a4"), ("a5", "a0", "a2"), ("a1", "a1", "a5"))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("bert") / "m"))


@pytest.mark.parametrize("targets", ["attention", "all-linear"])
def test_peers_give_what_the_bank_gives(base, tmp_path, targets):
    """Six adapters, three slots, batches that force every slot to change."""
    method = LoRA(rank=2, targets=targets)
    paths = write_lora_folders(base, anatomy_of(base), method, tmp_path, n=6, seed=0)
    folders = {path.name: path for path in paths}
    bank = AdapterBank(base, folders=folders, cache_bytes=3 * 5000)
    ids, mask = made_batch(base, 3)
    runs = [
        PeftLRU(base.model, folders, 3).run,
        HotSwapSlots(base.model, folders, 3).run,
        PeftModelOf(base.model, folders).adapter_names,
    ]
    plain = bank.hidden_states(ids, mask, [None] * 3)
    for names in NAMES:
        ours = bank.hidden_states(ids, mask, names)
        assert (ours - plain).abs().amax((1, 2)).min() > 1e-5
        for run in runs:
            assert (run(ids, mask, names) - ours).abs().max() <= 1e-5
