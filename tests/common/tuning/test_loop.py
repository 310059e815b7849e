"""The schedule, the seeds and the groups of the optimiser."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.tuning.loop import (
    LoopSettings,
    OneProcess,
    build_optimizer,
    learning_rate_at,
    seed_step,
)


def _settings(**changes):
    return LoopSettings(**{"epochs": 1, "batch_size": 4, "learning_rate": 1.0, **changes})


def test_the_rate_rises_and_falls_linearly():
    settings = _settings(warmup_share=0.2)
    rates = [learning_rate_at(step, 10, settings) for step in range(10)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2:] == pytest.approx([1 - k / 8 for k in range(8)])


def test_the_rate_falls_as_a_cosine():
    """transformers' get_cosine_schedule_with_warmup, one step earlier in the warm-up."""
    from transformers import get_cosine_schedule_with_warmup

    settings = _settings(warmup_share=0.2, schedule="cosine")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 2, 10)
    for step in range(10):
        if step >= 2:
            assert learning_rate_at(step, 10, settings) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_a_constant_rate_stays():
    settings = _settings(warmup_share=0.0, schedule="constant")
    assert {learning_rate_at(step, 10, settings) for step in range(10)} == {1.0}


def test_biases_and_norms_do_not_decay():
    network = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    network[0].weight.requires_grad_(True)
    optimizer = build_optimizer(network, _settings(weight_decay=0.1))
    decay = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert decay[id(network[0].weight)] == 0.1
    assert {decay[id(p)] for p in (network[0].bias, network[1].weight, network[1].bias)} == {0.0}


def test_frozen_parameters_are_no_business_of_the_optimiser():
    network = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 1))
    optimizer = build_optimizer(network, _settings())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_a_step_draws_the_same_whenever_it_is_made():
    settings, drawn = _settings(), {}
    with torch.random.fork_rng():
        for step, rank in ((0, 0), (1, 0), (0, 1), (0, 0), (1, 0)):
            seed_step(settings, step, rank)
            drawn.setdefault((step, rank), []).append(torch.rand(2).tolist())
    assert drawn[0, 0][0] == drawn[0, 0][1]
    assert drawn[1, 0][0] == drawn[1, 0][1]
    assert len({tuple(values[0]) for values in drawn.values()}) == 3


def test_one_process_is_alone():
    ranks, network = OneProcess(torch.device("cpu")), nn.Linear(1, 1)
    assert ranks.wrap(network) is network
    assert ranks.total([1.0, 2.0]) == [1.0, 2.0]
    assert ranks.agree("x") == "x"
    ranks.wait()
