"""The shipped model card says what the training command measured, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

from common.adapters.attach import adapter_digest
from kits.finance.risk.linkage import read_linkage
from kits.finance.tasks import ADAPTER_FOLDER, LINKAGE_FILE
from kits.finance.weights.card import model_card

METRICS = json.loads((ADAPTER_FOLDER / "metrics.json").read_text(encoding="utf-8"))


def test_the_shipped_card_is_the_one_that_the_command_writes():
    """No figure was typed in by hand."""
    linkage = read_linkage(LINKAGE_FILE, adapter_digest=METRICS["adapter_digest"])
    card = (ADAPTER_FOLDER / "README.md").read_text(encoding="utf-8")
    assert card == model_card(METRICS, linkage)
    assert "CC BY-SA 4.0" in card


def test_coefficients_metrics_and_adapter_belong_together():
    """All three carry the digest of the files beside them."""
    assert METRICS["adapter_digest"] == adapter_digest(ADAPTER_FOLDER)
    read_linkage(LINKAGE_FILE, adapter_digest=adapter_digest(ADAPTER_FOLDER))


def test_the_weights_are_small():
    """All files together stay under 1 MB."""
    assert sum(path.stat().st_size for path in ADAPTER_FOLDER.iterdir()) < 1e6


def test_the_verdict_follows_the_figures():
    """A proven gain, an unproven one and no weight are three different sentences."""
    linkage = read_linkage(LINKAGE_FILE, adapter_digest=METRICS["adapter_digest"])
    proven = replace(linkage, text_weight=0.5, mse_gain_interval=(0.001, 0.002))
    unproven = replace(proven, mse_gain_interval=(-0.001, 0.002))
    unweighted = replace(linkage, text_weight=0.0)
    assert "beyond chance" in model_card(METRICS, proven)
    assert "does\nnot exclude zero" in model_card(METRICS, unproven)
    assert "has no weight" in model_card(METRICS, unweighted)
