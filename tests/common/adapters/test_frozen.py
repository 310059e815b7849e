"""Frozen products through oneDNN: torch's results, on any processor."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.adapters import frozen
from common.adapters.frozen import FrozenLinear, quicken_frozen, restore_frozen


@pytest.fixture(autouse=True)
def on_amd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the route on other processors too: it is right there, if not faster."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch carries no oneDNN")
    monkeypatch.setattr(frozen, "_on_amd", lambda: True)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24, bias=False))
    return layers.requires_grad_(False)


@pytest.mark.parametrize("shape", [(5, 24), (3, 7, 24), (2, 3, 4, 24)])
def test_output_and_gradient_are_those_of_torch(shape: tuple[int, ...]) -> None:
    layers = network()
    x = torch.randn(shape, requires_grad=True)
    expected = layers(x)
    weights = torch.randn_like(expected)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), x)
    assert quicken_frozen(layers) == 2
    output = layers(x)
    (gradient,) = torch.autograd.grad((output * weights).sum(), x)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-6)


def test_a_strided_input_and_gradient_are_read_rightly() -> None:
    layers = network()
    x = torch.randn(4, 24, 6).transpose(1, 2).requires_grad_(True)
    expected = layers(x).transpose(0, 1).contiguous().square().sum()
    (expected_gradient,) = torch.autograd.grad(expected, x)
    quicken_frozen(layers)
    output = layers(x).transpose(0, 1).contiguous().square().sum()
    (gradient,) = torch.autograd.grad(output, x)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-5)


def test_a_trained_layer_keeps_torchs_pass() -> None:
    layers = network()
    layers[0].requires_grad_(True)
    assert quicken_frozen(layers) == 1
    assert type(layers[0]) is nn.Linear
    layers[2].requires_grad_(True)  # unfrozen afterwards: it must receive its gradient
    layers(torch.randn(2, 24)).sum().backward()
    assert layers[2].weight.grad is not None


def test_names_and_tensors_stay_and_the_pass_can_be_given_back() -> None:
    layers = network()
    before = dict(layers.state_dict())
    quicken_frozen(layers)
    assert isinstance(layers[0], FrozenLinear)
    assert list(layers.state_dict()) == list(before)
    assert restore_frozen(layers) == 2
    assert type(layers[0]) is nn.Linear


def test_other_types_compute_as_before() -> None:
    layers = network().double()
    x = torch.randn(3, 24, dtype=torch.float64)
    expected = layers(x)
    quicken_frozen(layers)
    torch.testing.assert_close(layers(x), expected, rtol=0, atol=0)


def test_another_processor_keeps_torchs_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "_on_amd", lambda: False)
    assert quicken_frozen(network()) == 0


def test_any_number_of_rows_is_filled_up_to_few_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN keeps a kernel for each number of rows: a server's memory grew with them."""
    seen: set[int] = set()
    pad = nn.functional.pad

    def watched(rows: torch.Tensor, fill: tuple[int, ...]) -> torch.Tensor:
        filled = pad(rows, fill)
        seen.add(len(filled))
        return filled

    monkeypatch.setattr(nn.functional, "pad", watched)
    layer = network()[0]
    for n_rows in range(40):
        x = torch.randn(n_rows, 24)
        expected = layer(x)
        layer.__class__ = FrozenLinear
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6)
        layer.__class__ = nn.Linear
    assert seen == {16, 32, 48}
