"""Each curve is the published one; the choice rests on rows that it was not fitted on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from common.errors import InputError
from common.evaluation.calibration import (
    calibration_from_json,
    choose_calibration,
    fit_beta,
    fit_isotonic,
    fit_platt,
    grouped_folds,
)
from common.evaluation.logistic import sigmoid
from common.evaluation.metrics import expected_calibration_error
from tests.common.evaluation.test_metrics import example

# Printed by tests/reference/calibration_metrics.py.
EXPECTED_PLATT = (-1.363294, 1.450322)
EXPECTED_BETA = (-1.99956, 0.98897, 1.83952)
EXPECTED_ISOTONIC = [0.01612903, 0.11111111, 0.22222222, 0.30952381, 0.98387097]

FITS = {"platt": fit_platt, "beta": fit_beta, "isotonic": fit_isotonic}


def simulated(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are twice too large, and one too high."""
    random = np.random.default_rng(seed)
    true = random.normal(-1, 1.2, n)
    return 2 * true + 1, random.random(n) < sigmoid(true)


def test_platt_and_beta_are_the_maxima_that_an_optimiser_finds() -> None:
    score, _, event = example()
    platt, beta = fit_platt(score, event), fit_beta(score, event)
    assert (platt.intercept, platt.slope) == pytest.approx(EXPECTED_PLATT, abs=1e-5)
    assert (beta.intercept, beta.a, beta.b) == pytest.approx(EXPECTED_BETA, abs=1e-4)


def test_isotonic_is_scikit_learns_within_its_bounds() -> None:
    score, _, event = example()
    curve = fit_isotonic(score, event)
    assert curve.probability([-2.0, -0.55, 0.0, 0.85, 3.0]) == pytest.approx(
        EXPECTED_ISOTONIC, abs=1e-7
    )


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 2))
def test_isotonic_equals_scikit_learn_on_any_rows(seed: int, decimals: int) -> None:
    random = np.random.default_rng(seed)
    score = np.round(random.normal(size=80), decimals)
    event = random.random(80) < 0.4
    if score.min() == score.max() or not 10 <= event.sum() <= 70:
        return
    peer = IsotonicRegression(y_min=1 / 82, y_max=81 / 82, out_of_bounds="clip").fit(score, event)
    at = np.linspace(-3, 3, 50)
    assert fit_isotonic(score, event).probability(at) == pytest.approx(peer.predict(at), abs=1e-9)


def test_platt_recovers_a_stretch_and_a_shift() -> None:
    """True log-odds are s / 2 - 1 / 2."""
    platt = fit_platt(*simulated(40_000))
    assert (platt.intercept, platt.slope) == pytest.approx((-0.5, 0.5), abs=0.03)


@pytest.mark.parametrize("method", FITS)
def test_every_curve_is_monotone_and_reads_back_from_json(method: str) -> None:
    curve = FITS[method](*simulated(500))
    at = np.linspace(-40, 40, 400)
    p = curve.probability(at)
    assert (np.diff(p) >= 0).all()
    assert ((p >= 0) & (p <= 1)).all()
    again = calibration_from_json(json.loads(json.dumps(curve.to_json())))
    assert again == curve


@pytest.mark.parametrize("method", ["platt", "beta"])
def test_a_score_that_ranks_the_wrong_way_gives_everyone_the_base_rate(method: str) -> None:
    score, event = simulated(2000)
    p = FITS[method](-score, event).probability([-3.0, 0.0, 3.0])
    assert p == pytest.approx([event.mean()] * 3, abs=0.002)


@pytest.mark.parametrize(
    ("centre", "width"), [(-1, 1e-6), (-1, 1e-3), (0, 1e3), (50, 1), (-900, 1)]
)
def test_scores_of_any_width_are_calibrated(centre: float, width: float) -> None:
    """A model that hardly tells anybody apart makes the beta curve's terms nearly equal."""
    random = np.random.default_rng(0)
    score = centre + width * random.normal(size=500)
    choice = choose_calibration(score, random.random(500) < 0.3)
    assert np.isfinite(choice.calibration.probability(score)).all()


def test_the_choice_mends_probabilities_on_rows_of_their_own() -> None:
    choice = choose_calibration(*simulated())
    score, event = simulated(seed=1)
    before = expected_calibration_error(sigmoid(score), event)
    after = expected_calibration_error(choice.calibration.probability(score), event)
    assert choice.method != "as it is"
    assert choice.log_losses[choice.method] == min(choice.log_losses.values())
    assert after < 0.03 < before


def test_right_log_odds_are_left_as_they_are() -> None:
    score, event = simulated(20_000)
    choice = choose_calibration((score - 1) / 2, event, methods=["as it is", "isotonic"])
    assert choice.method == "as it is"


def test_folds_keep_groups_whole_and_share_events_out() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(100, size=1000)
    event = random.random(1000) < 0.1
    fold = grouped_folds(event, groups, folds=5, seed=0)
    assert all(len(set(fold[groups == g])) == 1 for g in np.unique(groups))
    assert min(event[fold == part].sum() for part in range(5)) >= 5


@pytest.mark.parametrize(
    ("score", "event", "fault"),
    [
        (np.arange(40.0), np.zeros(40), "0 events and 40 others"),
        (np.ones(40), np.arange(40) % 2, "40 equal ones"),
        (np.append(np.arange(39.0), np.nan), np.arange(40) % 2, "no finite numbers"),
        (np.arange(12.0), np.arange(12) % 2, "6 events and 6 others"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(score, event, fault) -> None:
    with pytest.raises(InputError, match=fault):
        choose_calibration(score, event)


def test_unknown_methods_too_few_groups_and_bent_curves_are_refused() -> None:
    score, event = simulated(200)
    with pytest.raises(InputError, match="calibration methods"):
        choose_calibration(score, event, methods=["spline"])
    with pytest.raises(InputError, match="folds"):
        choose_calibration(score, event, groups=np.zeros(200))
    falling = {"method": "isotonic", "log_odds": [0.0, 1.0], "probabilities": [0.9, 0.1]}
    for written in ({"method": "spline"}, {"method": "platt", "slope": 1.0}, falling):
        with pytest.raises(InputError, match="calibration"):
            calibration_from_json(written)
