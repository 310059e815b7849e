"""A step that is undone leaves nothing behind: parameters, moments, rates and buffers."""

from __future__ import annotations

import copy

import pytest
import torch

from common.protocol.gradients.snapshot import parameters_of, take_snapshot


@pytest.mark.parametrize("warm", [True, False], ids=["after a step", "before the first step"])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_training_after_a_rollback_goes_on_as_if_nothing_had_been(kind, warm):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.01)
    if warm:
        _step(model, optimizer, torch.randn(5, 3))
    twin = copy.deepcopy((model, optimizer))
    snapshot = take_snapshot([optimizer], model.buffers())
    optimizer.param_groups[0]["lr"] = 7.0
    _step(model, optimizer, torch.randn(5, 3))
    snapshot.restore()
    rows = torch.randn(5, 3)
    _step(model, optimizer, rows)
    _step(*twin, rows)
    for one, other in zip(model.state_dict().values(), twin[0].state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_moments_keep_their_type():
    """A bfloat16 parameter may have float32 moments, which load_state_dict would cast."""
    parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([parameter])
    optimizer.state[parameter] = {"exp_avg": torch.full((2,), 1 / 3)}
    snapshot = take_snapshot([optimizer])
    optimizer.state[parameter]["exp_avg"].zero_()
    snapshot.restore()
    assert torch.equal(optimizer.state[parameter]["exp_avg"], torch.full((2,), 1 / 3))


def test_the_gradient_is_dropped():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    snapshot = take_snapshot([optimizer])
    parameter.grad = torch.ones(2)
    snapshot.restore()
    assert parameter.grad is None
    assert parameters_of(optimizer)[0] is parameter


def _step(model, optimizer, rows):
    optimizer.zero_grad()
    model(rows).pow(2).sum().backward()
    optimizer.step()
