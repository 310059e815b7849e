"""Training finds a signal that is there, and the saved model gives it again."""

from __future__ import annotations

import numpy as np
import pytest

from common.adapters.attach import save_adapter
from common.backbones import load_backbone
from common.models.text import load_regressor
from common.task import Task, Text
from kits.finance.weights.regression import Recipe, fit_regressor
from tests.tiny_bert import make_tiny_bert

RECIPE = Recipe(
    rank=2, dropout=0.0, learning_rate=2e-2, calls_per_step=8, passages_per_call=2, epochs=6,
    max_tokens=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "tiny"))


def simulated_calls(n=64):
    """Calls of three passages; those that speak of risk have a high target."""
    rng = np.random.default_rng(0)
    risky = rng.random(n) < 0.5
    words = [("risk debt loss" if r else "growth profit sales") for r in risky]
    return [[f"{w} {w}", f"{w} quarter", f"we {w}"] for w in words], np.where(risky, 0.4, -0.4)


def test_a_signal_in_the_words_is_learnt_and_survives_saving(base, tmp_path):
    """Held-out correlation is high, and the saved model's scores rank the calls alike."""
    passages, target = simulated_calls()
    tokens = [base.tokenizer(texts)["input_ids"] for texts in passages]
    fitted = fit_regressor(
        base, tokens, target, train=np.arange(48), selection=np.arange(48, 64),
        recipe=RECIPE, seed=0, device="cpu",
    )  # fmt: skip
    assert max(fitted.selection_history) > 0.9
    assert fitted.epoch == 1 + int(np.argmax(fitted.selection_history))
    assert fitted.n_trained == 256 + 17
    save_adapter(fitted.adapter, tmp_path / "out", head=fitted.head)
    model = load_regressor(base, tmp_path / "out")
    signals = [
        np.mean([r.values["score"] for r in model.predict([Task({"t": Text(t)}) for t in texts])])
        for texts in passages[48:]
    ]
    assert np.corrcoef(signals, target[48:])[0, 1] == pytest.approx(
        max(fitted.selection_history), abs=1e-3
    )
