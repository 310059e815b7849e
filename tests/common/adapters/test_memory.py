"""The memory estimate: the published bytes per parameter and per token."""

from __future__ import annotations

import pytest

from common.adapters.anatomy import anatomy_of
from common.adapters.memory import GIB, estimate_memory
from common.adapters.methods import Full, LoRA
from tests.tiny_models import tiny_config

BYTES_PER_TRAINED_PARAMETER = 16  # Rajbhandari et al. 2019, arXiv 1910.02054, section 3.1
BYTES_PER_TOKEN_AND_UNIT = 34  # Korthikanti et al. 2022, arXiv 2205.05198, section 4.1


@pytest.fixture
def bert():
    return anatomy_of(tiny_config("bert", hidden_size=16, intermediate_size=64))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_full_tuning_takes_sixteen_bytes_for_each_parameter(bert, precision: str) -> None:
    found = estimate_memory(Full(), bert, n_tokens=1, precision=precision)
    state = found.weights_gib + found.gradients_gib + found.optimiser_gib
    assert state * GIB == pytest.approx(BYTES_PER_TRAINED_PARAMETER * bert.n_parameters)


def test_a_block_of_berts_widths_keeps_the_published_bytes(bert) -> None:
    found = estimate_memory(Full(), bert, n_tokens=10, precision="bf16")
    units = 10 * bert.n_layers * bert.hidden_size
    assert found.activations_gib * GIB == pytest.approx(BYTES_PER_TOKEN_AND_UNIT * units)


def test_checkpointing_keeps_the_inputs_and_one_block(bert) -> None:
    plain, checkpointed = (
        estimate_memory(
            Full(), bert, n_tokens=10, precision="bf16", gradient_checkpointing=checkpointing
        ).activations_gib
        for checkpointing in (False, True)
    )
    inputs = 10 * bert.n_layers * bert.hidden_size * 2 / GIB
    assert checkpointed == pytest.approx(inputs + plain / bert.n_layers)


def test_a_frozen_base_costs_its_weights_alone(bert) -> None:
    lora = LoRA(rank=2)
    trained = lora.count_parameters(bert)
    found = estimate_memory(lora, bert, n_tokens=1)
    assert found.weights_gib * GIB == pytest.approx(4 * (bert.n_parameters + trained))
    assert found.gradients_gib * GIB == pytest.approx(4 * trained)
    assert found.total_gib == pytest.approx(
        found.weights_gib + found.gradients_gib + found.optimiser_gib + found.activations_gib
    )


def test_a_separate_language_model_head_is_counted() -> None:
    tied, separate = (anatomy_of(tiny_config("llama", tied=tied)) for tied in (True, False))
    lighter, heavier = (estimate_memory(LoRA(), a, n_tokens=1) for a in (tied, separate))
    extra = 4 * separate.n_lm_head_parameters / GIB
    assert heavier.weights_gib - lighter.weights_gib == pytest.approx(extra)
