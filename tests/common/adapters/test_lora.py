"""The fused LoRA layer equals peft's, in outputs and gradients, and stays a peft layer."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from common.adapters.lora import FusedLoRALinear, adapted_linear, fuse_lora, unfuse_lora


class _Network(nn.Module):
    """Two layers with a bend between them, the second without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 20)
        self.second = nn.Linear(20, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


def _adapted(**settings) -> nn.Module:
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["first", "second"], **settings)
    model = get_peft_model(_Network(), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def _outputs_and_gradients(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    x = x.clone().requires_grad_()
    y = model(x)
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {**found, "x": x.grad, "y": y.detach()}


def test_outputs_and_all_gradients_equal_pefts():
    model, x = _adapted(), torch.randn(3, 5, 12)
    expected = _outputs_and_gradients(model, x)
    assert fuse_lora(model) == 2
    found = _outputs_and_gradients(model, x)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_names_and_state_dict_stay_pefts():
    model = _adapted()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fuse_lora(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_dropout_is_applied_to_what_a_sees_and_nothing_else():
    model, x = _adapted(lora_dropout=0.5), torch.randn(7, 12)
    torch.manual_seed(3)
    expected = _outputs_and_gradients(model, x)
    fuse_lora(model)
    torch.manual_seed(3)
    found = _outputs_and_gradients(model, x)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("state", ["disabled", "merged"])
def test_disabled_and_merged_layers_answer_as_pefts_do(state):
    model, x = _adapted().eval(), torch.randn(4, 12)
    with model.disable_adapter():
        plain = model(x)
    adapted = model(x)
    fuse_lora(model)
    if state == "merged":
        model.merge_adapter()
    if state == "disabled":
        with model.disable_adapter():
            torch.testing.assert_close(model(x), plain)
    torch.testing.assert_close(model(x), adapted, rtol=1e-5, atol=1e-5)


def test_an_unfused_model_is_pefts_again():
    model = _adapted()
    fuse_lora(model)
    assert unfuse_lora(model) == 2
    assert not any(isinstance(module, FusedLoRALinear) for module in model.modules())


def test_a_copy_of_a_fused_model_has_layers_of_its_own():
    model, x = _adapted(), torch.randn(2, 12)
    fuse_lora(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not torch.equal(model(x), twin(x))


def test_adapters_in_float32_train_under_a_base_in_bfloat16():
    model, x = _adapted(), torch.randn(64, 12)
    expected = _outputs_and_gradients(model, x)
    fuse_lora(model)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    found = _outputs_and_gradients(model, x.bfloat16())
    assert found["y"].dtype == torch.bfloat16
    for name, value in expected.items():
        if "lora" in name:
            assert found[name].dtype == torch.float32
            assert (found[name] - value).norm() < 0.02 * value.norm()


def test_only_the_trained_factor_receives_a_gradient():
    base = nn.Linear(6, 5).requires_grad_(False)
    a, b = torch.randn(2, 6, requires_grad=True), torch.randn(5, 2)
    adapted_linear(torch.randn(3, 6), base, a, b, scaling=2.0).sum().backward()
    assert a.grad is not None
    assert base.weight.grad is None


@pytest.mark.gpu
def test_many_tokens_without_gradients_are_read_through_a_merged_weight():
    base = nn.Linear(256, 256, bias=False, device="cuda").requires_grad_(False)
    a, b = torch.randn(8, 256, device="cuda"), torch.randn(256, 8, device="cuda")
    x = torch.randn(4096, 256, device="cuda")
    with torch.no_grad():
        found = adapted_linear(x, base, a, b, scaling=0.1)
    expected = adapted_linear(x, base, a, b, scaling=0.1)
    assert (found - expected).norm() < 1e-3 * expected.norm()
