"""The published crops, paired with their ratings."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import MissingInputError
from kits.medical.weights.lidc import measure_match, read_nodules
from kits.medical.weights.masks import mask_styles, reader_mask, threshold_mask


@pytest.fixture(scope="module")
def nodules(tandem_data):
    try:
        return read_nodules(tandem_data)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_nearly_every_nodule_finds_its_rating(nodules, tandem_data):
    """At least 95% are paired, and the diameter, which took no part, agrees."""
    quality = measure_match(tandem_data, nodules)
    assert quality.matched >= 0.95 * quality.nodules
    assert quality.diameter_correlation > 0.95


def test_pairs_shuffled_within_their_patient_agree_less(nodules):
    """The order carries the pairing: it is not size across patients that agrees."""
    rng = np.random.default_rng(0)
    by_patient = {}
    for nodule in nodules:
        by_patient.setdefault(nodule.patient, []).append(nodule)
    several = [group for group in by_patient.values() if len(group) > 1]
    ours = np.array([n.equivalent_diameter_mm for g in several for n in g])
    paired = np.array([n.diameter_mm for g in several for n in g])
    shuffled = np.concatenate([rng.permutation([n.diameter_mm for n in g]) for g in several])
    assert np.corrcoef(ours, paired)[0, 1] > 0.95
    assert np.corrcoef(ours, shuffled)[0, 1] < 0.8


def test_a_crop_has_the_form_that_the_data_set_states(nodules):
    for nodule in nodules:
        assert nodule.images.shape == nodule.readers.shape
        assert 1 <= len(nodule.images) <= 3
        assert nodule.images.shape[1:] == (128, 128)
        assert nodule.readers.max() <= 4
        assert 0.4 < nodule.spacing_mm < 1.0
        assert 1 <= nodule.malignancy <= 5


def test_masks_of_every_style_hold_pixels_and_stay_near_the_readers(nodules):
    """The threshold's mask overlaps the readers' well on the median nodule."""
    overlaps = []
    for nodule in nodules[::5]:
        image, readers = nodule.images[0], nodule.readers[0]
        if not readers.any():
            continue
        assert all(style.any() for style in mask_styles(image, readers))
        ours, theirs = threshold_mask(image, readers), reader_mask(readers)
        overlaps.append(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    assert np.median(overlaps) > 0.75


def test_absent_data_are_named(tmp_path):
    with pytest.raises(MissingInputError, match="nodule_info"):
        read_nodules(tmp_path)
