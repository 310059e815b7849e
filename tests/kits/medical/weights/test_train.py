"""The training command on made nodules, and the files that it left in the kit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from kits.medical.imaging.transforms import NetworkForm
from kits.medical.tasks import NODULE_NETWORK_FOLDER
from kits.medical.weights.card import write_card
from kits.medical.weights.fitting import Recipe, build_crops, fit_network, nodule_logits
from kits.medical.weights.lidc import LidcNodule, sources_digest
from kits.medical.weights.train import N_FOLDS, OutOfFold, assign_folds, measure


def _nodule(k: int) -> LidcNodule:
    """A disc in noise; every third nodule is wide and rated suspicious."""
    rng = np.random.default_rng(k)
    suspicious = k % 3 == 0
    radius = rng.uniform(9, 14) if suspicious else rng.uniform(3, 6)
    h, w = np.indices((128, 128))
    disc = (h - 64) ** 2 + (w - 64) ** 2 <= radius**2
    image = np.clip(np.where(disc, 150, 30) + rng.normal(0, 8, disc.shape), 0, 255)
    return LidcNodule(
        patient=f"P{k // 2:03d}",
        images=image.astype(np.uint8)[None],
        readers=(4 * disc).astype(np.uint8)[None],
        spacing_mm=0.7,
        diameter_mm=2 * radius * 0.7,
        malignancy=4.5 if suspicious else 1.5,
    )


@pytest.fixture(scope="module")
def nodules():
    return [_nodule(k) for k in range(48)]


def test_equal_seeds_give_equal_weights_and_the_fit_learns(nodules):
    """Two fits of four epochs agree in every weight; the wide discs score higher."""
    crops = build_crops(nodules, NetworkForm())
    recipe = dataclasses.replace(Recipe(), epochs=4, batch_size=16)
    first, second = (fit_network(crops, np.arange(48), recipe, device="cpu") for _ in range(2))
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert (a == b).all()
    logits = nodule_logits(first, crops, np.arange(48))
    suspicious = np.array([n.malignancy > 3 for n in nodules])
    assert logits[suspicious].mean() > logits[~suspicious].mean() + 0.1


def test_a_patient_is_in_one_fold_alone(nodules):
    fold = assign_folds(nodules, seed=0)
    for patient in {n.patient for n in nodules}:
        assert len({f for f, n in zip(fold, nodules, strict=True) if n.patient == patient}) == 1
    assert set(fold) == set(range(N_FOLDS))


def test_the_figures_of_a_score_that_is_the_area_equal_the_area(nodules):
    area = np.array([n.equivalent_diameter_mm for n in nodules])
    found = measure(nodules, OutOfFold(area, area, assign_folds(nodules, seed=0)), seed=0, draws=50)
    assert found["auc"]["network"] == found["auc"]["area"]
    assert found["auc_network_minus_area"]["value"] == 0
    assert found["mask_shift"]["mean_absolute_probability"] == 0


def test_the_stored_files_belong_together(tmp_path):
    """The card is what its metrics make, and is small enough for the repository."""
    for name in ("config.json", "metrics.json", "metrics-mask-only.json"):
        (tmp_path / name).write_bytes((NODULE_NETWORK_FOLDER / name).read_bytes())
    write_card(tmp_path)
    stored = (NODULE_NETWORK_FOLDER / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == stored
    assert "CC BY 3.0" in stored
    assert "Research use only" in stored
    assert (NODULE_NETWORK_FOLDER / "model.safetensors").stat().st_size < 5_000_000


def test_the_card_says_whether_the_network_beats_size():
    """The sentence follows the interval: its upper end must be below zero to say worse."""
    metrics = json.loads((NODULE_NETWORK_FOLDER / "metrics.json").read_text())
    gain = metrics["auc_network_minus_area"]
    beats = gain["low"] > 0
    stored = (NODULE_NETWORK_FOLDER / "README.md").read_text(encoding="utf-8")
    assert (
        "ranks better than the marked area alone" in stored.replace("not shown to rank", "")
    ) == beats


def test_the_config_names_the_data_that_trained_it(tandem_data):
    config = json.loads((NODULE_NETWORK_FOLDER / "config.json").read_text())
    try:
        assert config["data"] == sources_digest(tandem_data)
    except FileNotFoundError as error:
        pytest.skip(str(error))
