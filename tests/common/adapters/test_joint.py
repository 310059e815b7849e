"""Projections joined on an FP8 base equal the same ones taken one by one."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from common.adapters.float8 import Float8Linear
from common.adapters.joint import join_projections
from common.adapters.lora import fuse_lora


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(32, 64, bias=False)
        self.k_proj = nn.Linear(32, 16, bias=False)
        self.v_proj = nn.Linear(32, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.q_proj(x).sin(), self.k_proj(x).cos(), self.v_proj(x)], -1)


def _adapted(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj"], lora_dropout=dropout)
    model = get_peft_model(_Attention(), config)
    fuse_lora(model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    for module in model.modules():
        if hasattr(module, "base_layer"):
            module.base_layer = Float8Linear(module.base_layer.weight)
    return model


def _gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    x = x.clone().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in model.parameters() if p.requires_grad)]


def test_outputs_and_gradients_are_those_of_the_single_projections():
    model, x = _adapted(), torch.randn(3, 7, 32)
    expected = _gradients(model, x)
    assert join_projections(model) == 1
    for found, value in zip(_gradients(model, x), expected, strict=True):
        # where a sum's last bit tips a value over to the next FP8 number, it moves by 1/16
        assert (found - value).norm() < 0.01 * value.norm()


def test_the_names_of_the_state_stay():
    model = _adapted()
    before = list(model.state_dict())
    join_projections(model)
    assert list(model.state_dict()) == before


def test_a_projection_that_is_asked_for_another_input_computes_anew():
    model = _adapted()
    join_projections(model)
    attention = model.get_base_model()
    one, other = torch.randn(2, 32), torch.randn(2, 32)
    attention.q_proj(one)
    found = attention.k_proj(other)
    torch.testing.assert_close(found, _adapted().get_base_model().k_proj(other))


def test_projections_with_dropout_stay_apart():
    assert join_projections(_adapted(dropout=0.1)) == 0
