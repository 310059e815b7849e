"""Settings are checked, and those that decide the weights are in the fingerprint."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from common.adapters.methods import Bottleneck, Full, LoRA, Prefix
from common.errors import TuningError
from common.tuning import Trainer
from common.tuning.recipe import Recipe, default_learning_rate


def _fingerprint(recipe, method=None, epochs=3, pieces=("base", "data")):
    return recipe.fingerprint(method or LoRA(), epochs=epochs, pieces=pieces)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"learning_rate": 1e-3},
        {"batch_size": 8},
        {"precision": "bf16"},
        {"schedule": "cosine"},
        {"too_long": "chunk"},
        {"patience": None},
        {"evaluate_every": 7},
    ],
)
def test_what_decides_the_weights_is_in_the_fingerprint(change):
    assert _fingerprint(replace(Recipe(), **change)) != _fingerprint(Recipe())


@pytest.mark.parametrize(
    "change",
    [
        {"device": "cpu"},
        {"n_processes": 2},
        {"distributed_strategy": "ddp"},
        {"micro_batch_size": 2},
        {"gradient_checkpointing": True},
        {"checkpoint_every": 7},
        {"keep_checkpoints": 5},
    ],
)
def test_what_may_change_between_parts_of_a_run_is_not(change):
    assert _fingerprint(replace(Recipe(), **change)) == _fingerprint(Recipe())


def test_method_epochs_base_and_data_are_in_the_fingerprint():
    whole = _fingerprint(Recipe())
    assert _fingerprint(Recipe(), LoRA(rank=9)) != whole
    assert _fingerprint(Recipe(), Full()) != whole
    assert _fingerprint(Recipe(), epochs=4) != whole
    assert _fingerprint(Recipe(), pieces=("base", "other")) != whole
    assert _fingerprint(Recipe()) == whole


def test_a_trainer_has_every_setting_with_the_same_default():
    trainer, recipe = Trainer("minilm"), Recipe()
    for item in fields(Recipe):
        assert getattr(trainer, item.name) == getattr(recipe, item.name), item.name


def test_lora_learns_ten_times_as_fast_as_full_tuning():
    """Schulman and Thinking Machines Lab 2025, "LoRA Without Regret"."""
    for task in ("classification", "causal_lm"):
        full = default_learning_rate(Full(), task)
        assert default_learning_rate(LoRA(), task) == pytest.approx(10 * full)
    assert default_learning_rate(Prefix(), "regression") == 5e-3
    assert default_learning_rate(Bottleneck(), "causal_lm") == 3e-4


@pytest.mark.parametrize("change", [{"patience": 0}, {"keep_checkpoints": 0}, {"clip_norm": 0.0}])
def test_unusable_settings_are_refused(change):
    with pytest.raises(TuningError, match=f"^{next(iter(change))}: expected"):
        Recipe(**change)


@pytest.mark.parametrize("method", ["lora", LoRA, None])
def test_a_method_that_is_none_is_refused(method):
    with pytest.raises(TuningError, match="LoRA"):
        Recipe(method=method)
