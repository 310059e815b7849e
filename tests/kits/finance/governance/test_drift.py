"""Two periods are told apart where they differ, and only there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.errors import InputError
from common.evaluation.drift import population_stability_index
from kits.finance.governance.drift import Period, drift_report
from kits.finance.risk.linkage import read_linkage
from kits.finance.tasks import LINKAGE_FILE
from kits.finance.weights.calls import WINDOWS_DAYS, read_calls


def period(name, *, seed, shift=0.0, level=0.0, n=3000, outcomes=True):
    """A period whose feature is shifted, and whose events are likelier than the model says."""
    rng = np.random.default_rng(seed)
    volatility = rng.normal(shift, 1, n)
    log_odds = -1 + volatility
    probability = 1 / (1 + np.exp(-log_odds))
    event = rng.random(n) < 1 / (1 + np.exp(-(log_odds + level)))
    features = {"volatility": volatility, "text": rng.normal(size=n)}
    return Period(name, features, probability, event if outcomes else None)


def test_two_draws_of_one_world_are_stable():
    """Nothing follows."""
    report = drift_report(period("2015", seed=0), period("2016", seed=1))
    assert report.action == "continue"
    assert [one.name for one in report.variables] == ["probability", "text", "volatility"]
    assert all(one.stability.band == "stable" for one in report.variables)
    assert report.calibration.p_value > 0.01


def test_a_shifted_input_is_recognised_and_the_other_is_not():
    """The index of each feature is that of common.evaluation."""
    before, after = period("2015", seed=0), period("2016", seed=1, shift=1.0)
    report = drift_report(before, after)
    found = {one.name: one.stability for one in report.variables}
    assert report.action == "review"
    assert found["volatility"].band == "shifted"
    assert found["text"].band == "stable"
    expected = population_stability_index(
        before.features["volatility"], after.features["volatility"], n_bins=10
    )
    assert found["volatility"].value == expected.value


def test_probabilities_that_mean_something_else_call_for_a_review():
    """Inputs alike, events likelier by 0.8 in log-odds: the change is recovered."""
    report = drift_report(period("2015", seed=0), period("2016", seed=1, level=0.8))
    assert report.variables[0].stability.band == "stable"
    assert report.action == "review"
    assert report.calibration.intercept_change == pytest.approx(0.8, abs=0.15)
    assert report.calibration.current_ratio > 1.3


def test_a_small_shift_is_to_be_watched():
    """An index between 0.10 and 0.25."""
    before, after = period("2015", seed=0), period("2016", seed=1)
    moved = {**after.features, "text": np.asarray(after.features["text"]) + 0.4}
    report = drift_report(before, Period("2016", moved, after.probability, after.event))
    assert {one.name: one.stability.band for one in report.variables}["text"] == "shifting"
    assert report.action == "watch"


def test_outcomes_that_are_not_known_yet_are_said_to_be():
    """The rest of the report stands."""
    report = drift_report(period("2015", seed=0), period("2016", seed=1, outcomes=False))
    assert report.calibration is None
    assert "not known yet" in report.calibration_note
    assert report.action == "continue"


def test_a_report_can_be_written_as_json():
    """What is no number becomes null."""
    before, after = period("2015", seed=0), period("2016", seed=1)
    flat = (
        {**before.features, "constant": np.ones(3000)},
        {**after.features, "constant": np.ones(3000)},
    )
    report = drift_report(
        Period("2015", flat[0], before.probability), Period("2016", flat[1], after.probability)
    )
    written = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert written["action"] == report.action
    assert written["variables"][1]["distance"]["wasserstein"] is None


def test_periods_that_cannot_be_compared_are_refused():
    """Other features, other lengths, no rows."""
    one = period("2015", seed=0)
    with pytest.raises(InputError, match="same features"):
        drift_report(one, Period("2016", {"volatility": one.probability}, one.probability))
    with pytest.raises(InputError, match="columns of one length"):
        Period("2016", {"volatility": [1.0, 2.0]}, [0.5])
    with pytest.raises(InputError, match="columns of one length"):
        Period("2016", {}, [])


def test_the_calls_of_late_2016_differ_from_those_before_in_their_past_volatility(tandem_data):
    """Real calls: an input has shifted, and the probabilities still mean what they meant."""
    calls = read_calls(tandem_data)
    coefficients = json.loads(LINKAGE_FILE.read_text())
    linkage = read_linkage(LINKAGE_FILE, adapter_digest=coefficients["adapter_digest"])
    log_odds = linkage.log_odds(linkage.price_forecast(calls.features))
    event = calls.target > linkage.event_threshold

    def role(name):
        rows = calls.in_role(name)
        features = {f"past_{w}": calls.features[rows, at] for at, w in enumerate(WINDOWS_DAYS)}
        return Period(name, features, 1 / (1 + np.exp(-log_odds[rows])), event[rows])

    report = drift_report(role("train"), role("test"))
    found = {one.name: one.stability for one in report.variables}
    assert found["past_60"].band == "shifted"
    assert found["past_60"].value == pytest.approx(0.354, abs=0.001)
    assert found["past_3"].band == "stable"
    assert report.calibration.p_value > 0.01
    assert report.action == "watch"
