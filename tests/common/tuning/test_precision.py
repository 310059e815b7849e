"""The precision chosen is possible here and the fastest; the network is left as it was."""

from __future__ import annotations

import logging

import pytest
import torch

from benchmarks.shapes import LLAMA_SMALL, build_encoder
from common.adapters.float8 import Float8Linear
from common.adapters.lora import FusedLoRALinear
from common.adapters.methods import LoRA
from common.tuning import precision
from common.tuning.precision import PrecisionChoice, apply_precision, choose_precision

_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 128}
_BATCH = {"input_ids": torch.arange(12)[None], "use_cache": False}


def _network(*, full: bool = False):
    from peft import LoraConfig, get_peft_model

    llama = build_encoder(LLAMA_SMALL, num_hidden_layers=2, **_TINY)
    if full:
        return llama.requires_grad_(True)
    return get_peft_model(llama, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))


def _choose(requested, network):
    return choose_precision(
        requested, network=network, batch=_BATCH, device="cpu", method=LoRA(rank=4)
    )


@pytest.fixture
def cpu_with_bf16(monkeypatch):
    """A processor that multiplies bfloat16; this one does too, only slowly."""
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)


def test_fp32_needs_no_trial():
    assert _choose("fp32", _network()) == PrecisionChoice("fp32", False, "fp32 was asked for.")


def test_fp8_on_a_cpu_falls_back_with_a_logged_reason(caplog):
    with caplog.at_level(logging.WARNING):
        choice = _choose("fp8", _network())
    assert choice.name in {"fp32", "bf16"}
    assert "no FP8 matrix units" in choice.reason
    assert choice.reason in caplog.text


@pytest.mark.usefixtures("cpu_with_bf16")
def test_the_fastest_candidate_is_taken():
    choice = _choose("auto", _network())
    assert set(choice.measured) == {"fp32", "bf16"}
    fastest = min(choice.measured.values())
    assert choice.measured[choice.name] <= fastest / 0.98


@pytest.mark.usefixtures("cpu_with_bf16")
@pytest.mark.parametrize("full", [False, True])
def test_the_trial_changes_neither_weights_nor_random_state(full):
    network = _network(full=full)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    _choose("auto", network)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_bf16_narrows_copies_of_the_frozen_weights_only():
    network = _network()
    shared = [p for p in network.parameters() if not p.requires_grad]
    apply_precision(network, PrecisionChoice("bf16", False, ""))
    assert all(parameter.dtype == torch.float32 for parameter in shared)
    kinds = {p.requires_grad: p.dtype for p in network.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    output = network(**_BATCH).last_hidden_state
    output.float().sum().backward()
    assert output.dtype == torch.bfloat16


def test_full_tuning_in_bf16_keeps_float32_weights_under_autocast():
    network = apply_precision(_network(full=True), PrecisionChoice("bf16", False, ""))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    states = {}
    hook = network.layers[0].mlp.up_proj.register_forward_hook(
        lambda _module, _args, output: states.update(up=output)
    )
    network(**_BATCH).last_hidden_state.sum().backward()
    hook.remove()
    assert states["up"].dtype == torch.bfloat16


def test_fp8_keeps_the_base_in_fp8_and_trains_the_adapter():
    network = apply_precision(_network(), PrecisionChoice("fp8", False, ""))
    adapted = [module for module in network.modules() if isinstance(module, FusedLoRALinear)]
    assert all(isinstance(module.base_layer, Float8Linear) for module in adapted)
    network(**_BATCH).last_hidden_state.float().square().sum().backward()
    trained = [p for name, p in network.named_parameters() if "lora_B" in name]
    assert all(parameter.grad.abs().sum() > 0 for parameter in trained)


def test_fp32_leaves_outputs_as_they_were():
    network = _network().eval()
    expected = network(**_BATCH).last_hidden_state
    apply_precision(network, PrecisionChoice("fp32", False, ""))
    torch.testing.assert_close(network(**_BATCH).last_hidden_state, expected)
