"""Scores agree with other libraries and keep their identities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from common.errors import InputError
from common.evaluation.metrics import (
    accuracy_ratio,
    area_difference,
    area_under_curve,
    brier_decomposition,
    brier_score,
    calibration_error_by_chance,
    expected_calibration_error,
    kolmogorov_smirnov,
    log_loss,
    pinball_loss,
    reliability,
)

# Printed by tests/reference/calibration_metrics.py.
EXPECTED_AUC = 0.8011456628
EXPECTED_AUC_STANDARD_ERROR = 0.0652290431
EXPECTED_AUC_DIFFERENCE = 0.2176759411
EXPECTED_DIFFERENCE_STANDARD_ERROR = 0.0693111874
EXPECTED_KOLMOGOROV_SMIRNOV = 0.4549918167
EXPECTED_BRIER = 0.1922645602
EXPECTED_PINBALL = 0.1783333333


def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The scores of the reference script: two with ties, and events."""
    random = np.random.default_rng(7)
    score = np.round(random.normal(size=60), 1)
    other = np.round(score + random.normal(size=60), 1)
    return score, other, random.random(60) < 1 / (1 + np.exp(1 - 1.5 * score))


probabilities = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.51, 0.9, 1.0]), st.booleans()),
    min_size=4,
    max_size=60,
)


def test_the_area_and_its_error_are_delongs() -> None:
    score, _, event = example()
    area = area_under_curve(score, event)
    assert area.value == pytest.approx(EXPECTED_AUC, abs=1e-9)
    assert area.standard_error == pytest.approx(EXPECTED_AUC_STANDARD_ERROR, abs=1e-9)
    assert area.high - area.low == pytest.approx(2 * 1.959964 * EXPECTED_AUC_STANDARD_ERROR)
    assert accuracy_ratio(score, event) == pytest.approx(2 * EXPECTED_AUC - 1)


def test_the_difference_of_two_areas_is_paired() -> None:
    score, other, event = example()
    gain = area_difference(score, other, event)
    assert gain.value == pytest.approx(EXPECTED_AUC_DIFFERENCE, abs=1e-9)
    assert gain.standard_error == pytest.approx(EXPECTED_DIFFERENCE_STANDARD_ERROR, abs=1e-9)
    assert gain.p_value < 0.01
    assert area_difference(score, score, event).p_value == 1.0


def test_the_interval_of_the_area_covers_the_truth_about_as_often_as_it_says() -> None:
    """Normal scores one apart: the true area is Phi(1 / sqrt 2)."""
    truth = 0.7602499389
    random = np.random.default_rng(1)
    event = np.repeat([True, False], [40, 80])
    covered = 0
    for _ in range(400):
        area = area_under_curve(random.normal(size=120) + event, event)
        covered += area.low <= truth <= area.high
    assert 365 <= covered <= 395  # 380 expected, sd 4.4


@given(probabilities)
def test_the_area_is_scikit_learns_whatever_the_ties(rows: list[tuple[float, bool]]) -> None:
    p, event = (np.array(column) for column in zip(*rows, strict=True))
    if min(event.sum(), (~event).sum()) < 2:
        return
    assert area_under_curve(p, event).value == pytest.approx(roc_auc_score(event, p))


@given(probabilities, st.integers(1, 12))
def test_the_parts_of_the_brier_score_add_up(rows: list[tuple[float, bool]], n_bins: int) -> None:
    p, event = (np.array(column) for column in zip(*rows, strict=True))
    parts = brier_decomposition(p, event, n_bins=n_bins)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bin
    assert total == pytest.approx(parts.brier, abs=1e-12)


@given(probabilities, st.randoms(use_true_random=False))
def test_the_calibration_error_does_not_depend_on_the_order_of_rows(rows, random) -> None:
    shuffled = random.sample(rows, len(rows))
    first, second = (
        expected_calibration_error(*zip(*some, strict=True)) for some in (rows, shuffled)
    )
    assert first == pytest.approx(second, abs=1e-12)
    assert 0 <= first <= 1


def test_other_scores_agree_with_other_libraries() -> None:
    score, _, event = example()
    u = 1 / (1 + np.exp(-score))
    assert kolmogorov_smirnov(score, event) == pytest.approx(EXPECTED_KOLMOGOROV_SMIRNOV, abs=1e-9)
    assert brier_score(u, event) == pytest.approx(EXPECTED_BRIER, abs=1e-9)
    assert log_loss(u, event) == pytest.approx(sklearn_log_loss(event, u))
    assert pinball_loss(score, 0.5, level=0.9) == pytest.approx(EXPECTED_PINBALL, abs=1e-9)


def test_the_quantile_itself_has_the_smallest_pinball_loss() -> None:
    values = np.random.default_rng(0).normal(size=2001)
    candidates = np.linspace(-3, 3, 121)
    losses = [pinball_loss(values, q, level=0.9) for q in candidates]
    assert candidates[int(np.argmin(losses))] == pytest.approx(np.quantile(values, 0.9), abs=0.05)


def test_a_certainty_that_failed_costs_infinity() -> None:
    assert log_loss([1.0, 0.5], [0, 1]) == math.inf


def test_bins_hold_equal_numbers_of_rows() -> None:
    p = np.random.default_rng(0).random(1000)
    table = reliability(p, p > 0.5, n_bins=8)
    assert table.count.tolist() == [125] * 8


def test_equal_probabilities_share_a_bin() -> None:
    table = reliability([0.2] * 7 + [0.8] * 3, [0, 1] * 5, n_bins=10)
    assert table.count.tolist() == [7, 3]


@settings(deadline=None)
@given(st.integers(0, 5))
def test_right_probabilities_have_about_the_error_that_chance_gives(seed: int) -> None:
    random = np.random.default_rng(seed)
    p = random.random(500)
    mean, bound = calibration_error_by_chance(p, draws=200)
    assert 0 < mean < bound
    wrong = expected_calibration_error(np.clip(p + 0.2, 0, 1), random.random(500) < p)
    assert wrong > bound


@pytest.mark.parametrize(
    ("score", "event", "fault"),
    [
        ([0.1, 0.2, 0.3], [0, 0, 0], "0 events and 3 others"),
        ([0.1, np.nan, 0.3], [0, 1, 0], "1 scores that are no finite numbers"),
        ([0.1, 0.2], [0, 1, 1], "shapes"),
        ([0.1, 0.2, 0.3], [0, 1, 2], "outcomes other than 0 and 1"),
        ([], [], "shapes"),
    ],
)
def test_what_cannot_be_scored_is_refused(score, event, fault) -> None:
    with pytest.raises(InputError, match=fault):
        area_under_curve(score, event)


def test_probabilities_outside_0_to_1_are_refused() -> None:
    with pytest.raises(InputError, match="1 outside"):
        brier_score([0.5, 1.2], [0, 1])
    with pytest.raises(InputError, match="quantile forecast"):
        pinball_loss([1.0, np.nan], 0.0, level=0.5)
