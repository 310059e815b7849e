"""Champion and challenger are compared on the same rows; chance does not decide."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from common.errors import InputError
from kits.finance.governance.comparison import compare_forecasts, compare_probabilities
from kits.finance.risk.linkage import read_linkage
from kits.finance.tasks import LINKAGE_FILE
from kits.finance.weights.calls import WINDOWS_DAYS, read_calls


def sample(seed=0, n=1200, noise=1.0):
    """Events, the true probabilities, and those of a model that sees less."""
    rng = np.random.default_rng(seed)
    signal, other = rng.normal(size=(2, n))
    event = rng.random(n) < 1 / (1 + np.exp(-(signal + other)))
    knowing = 1 / (1 + np.exp(-(signal + other)))
    seeing_less = 1 / (1 + np.exp(-0.85 * (signal + (1 - noise) * other)))
    return event, knowing, seeing_less, np.arange(n) // 3


def test_a_better_challenger_is_recognised():
    """Its measures agree with scikit-learn's, and each gain lies above zero."""
    event, knowing, seeing_less, company = sample()
    found = compare_probabilities(event, seeing_less, knowing, company, draws=2000)
    measures = {one.name: one for one in found.measures}
    for name, value in (
        ("brier", brier_score_loss),
        ("log_loss", log_loss),
        ("auc", roc_auc_score),
    ):
        assert measures[name].champion == pytest.approx(value(event, seeing_less))
        assert measures[name].challenger == pytest.approx(value(event, knowing))
        assert measures[name].gain.above_zero
    assert found.verdict == "challenger"
    assert (found.n_rows, found.n_clusters) == (1200, 400)


def test_exchanging_the_two_turns_every_gain_round():
    """Verdict and signs are those of the other model."""
    event, knowing, seeing_less, company = sample()
    there = compare_probabilities(event, seeing_less, knowing, company, draws=2000)
    back = compare_probabilities(event, knowing, seeing_less, company, draws=2000)
    assert back.verdict == "champion"
    for one, other in zip(there.measures, back.measures, strict=True):
        assert one.gain.value == pytest.approx(-other.gain.value)


def test_equal_models_are_undecided():
    """A model beside itself gains exactly nothing."""
    event, knowing, _, company = sample()
    found = compare_probabilities(event, knowing, knowing, company, draws=200)
    assert found.verdict == "undecided"
    assert all(one.gain.value == 0 for one in found.measures)


def test_the_interval_of_the_gain_is_that_of_scipy():
    """With a cluster to each row, up to the draws."""
    rng = np.random.default_rng(1)
    outcome = rng.normal(size=300)
    champion, challenger = outcome + rng.normal(size=300), outcome + 0.8 * rng.normal(size=300)
    found = compare_forecasts(outcome, champion, challenger, np.arange(300))
    gain = (champion - outcome) ** 2 - (challenger - outcome) ** 2
    theirs = bootstrap((gain,), np.mean, method="percentile", n_resamples=10_000, rng=2)
    ours = found.measures[0].gain
    assert ours.value == pytest.approx(gain.mean())
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.02)


def test_rows_of_one_company_are_not_taken_for_evidence_of_many():
    """The same rows in ten clusters have a wider interval than in 300."""
    rng = np.random.default_rng(3)
    shared = np.repeat(rng.normal(size=10), 30)
    outcome, champion = np.zeros(300), 1 + shared
    alone = compare_forecasts(outcome, champion, outcome + 1, np.arange(300)).measures[0].gain
    grouped = (
        compare_forecasts(outcome, champion, outcome + 1, np.arange(300) // 30).measures[0].gain
    )
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_comparison_can_be_written_as_json():
    """With its verdict."""
    event, knowing, seeing_less, company = sample(n=60)
    written = compare_probabilities(event, seeing_less, knowing, company, draws=50).to_json()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert written["verdict"] in {"champion", "challenger", "undecided"}


def test_rows_that_do_not_match_are_refused():
    """Other lengths, certainties, and what is no number."""
    event, knowing, seeing_less, company = sample(n=60)
    with pytest.raises(InputError):
        compare_probabilities(event, knowing[:-1], seeing_less, company)
    with pytest.raises(InputError, match="certainty"):
        compare_probabilities(event, np.where(event, 1.0, knowing), seeing_less, company)
    with pytest.raises(InputError, match="finite numbers"):
        compare_forecasts(knowing, seeing_less, np.full(60, np.nan), company)


def test_on_real_calls_the_ridge_beats_the_last_thirty_days(tandem_data):
    """275 calls that decided nothing: the champion stays."""
    calls = read_calls(tandem_data)
    calls = calls.at(calls.in_role("test"))
    coefficients = json.loads(LINKAGE_FILE.read_text())
    linkage = read_linkage(LINKAGE_FILE, adapter_digest=coefficients["adapter_digest"])
    last_thirty = calls.features[:, WINDOWS_DAYS.index(30)]
    found = compare_forecasts(
        calls.target, linkage.price_forecast(calls.features), last_thirty, calls.ticker
    )
    assert (found.n_rows, found.n_clusters) == (275, 272)
    assert found.verdict == "champion"
    assert all(one.gain.below_zero for one in found.measures)
