"""`speed.training` runs, and its sides start from where they say."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed import _count_multiplied, training
from benchmarks.speed_sides import our_side, peer_side, work_of
from common.tuning.precision import PrecisionChoice

_ENTRY = {"shape": "llama-15m", "batch": 2, "length": 16}


def test_ours_starts_from_the_peers_weights_and_takes_the_same_steps():
    work = work_of(_ENTRY, "cpu", 1)
    peer = peer_side("peer", work, adapters="fp32", learning_rate=1e-3)
    choice = PrecisionChoice("fp32", False, "")
    ours = our_side("ours", work, choice, learning_rate=1e-3, start=peer.network)
    for _ in range(3):
        torch.testing.assert_close(ours.step(), peer.step(), rtol=1e-4, atol=1e-4)


def test_a_tied_embedding_counts_once_as_the_output_layer():
    tied = _count_multiplied(work_of(_ENTRY, "cpu", 1))
    block = 384 * 384 * 2 + 384 * 128 * 2 + 3 * 384 * 1024 + 3 * 384
    assert tied == 8192 * 384 + block


@pytest.mark.slow
def test_a_quick_run_gives_every_side_its_rows():
    outcome = training(None, quick=True)
    times = {row.name: row.value for row in outcome.rows if row.metric == "step time"}
    automatic = times.pop("lora auto")
    assert {"peer lora", "lora fp32", "lora fp32 checkpointed", "bottleneck fp32"} <= set(times)
    assert automatic in times.values()  # it is one of them, not a network of its own
    assert {"lora_ratio", "checkpoint_memory_ratio", "auto_ratio", "loss_ratio_200"} <= set(
        outcome.headlines
    )
