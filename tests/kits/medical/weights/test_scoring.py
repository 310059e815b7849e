"""Figures whose values are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from kits.medical.weights.scoring import (
    Calibration,
    auc,
    bootstrap_by_group,
    brier,
    expected_calibration_error,
    fit_platt,
)


def test_auc_counts_pairs_in_the_right_order():
    """Of 2 x 3 pairs four are in order and one is tied: 4.5 / 6."""
    scores = np.array([3.0, 1.0, 0.0, 1.0, 2.0])
    labels = np.array([True, True, False, False, False])
    assert auc(scores, labels) == pytest.approx(4.5 / 6)


def test_auc_of_one_class_is_not_a_number():
    assert np.isnan(auc(np.array([1.0, 2.0]), np.array([True, True])))


def test_platt_recovers_the_map_that_made_the_outcomes():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20000)
    labels = rng.random(20000) < expit(0.5 * logits - 1.0)
    found = fit_platt(logits, labels)
    assert (found.slope, found.intercept) == pytest.approx((0.5, -1.0), abs=0.05)
    probabilities = found.probability(logits)
    assert expected_calibration_error(probabilities, labels) < 0.02
    assert brier(probabilities, labels) < brier(Calibration(1, 0).probability(logits), labels)


def test_the_bootstrap_draws_whole_groups():
    """Ten equal rows in one group carry no more certainty than one."""
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=40), 10)
    groups = [f"p{k // 10}" for k in range(400)]
    found = bootstrap_by_group(lambda rows: float(values[rows].mean()), groups, draws=500)
    assert found.low < found.value < found.high
    assert found.high - found.low > 3 * values.std() / np.sqrt(400)
