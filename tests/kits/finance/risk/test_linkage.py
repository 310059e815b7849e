"""Log-odds are the sum of baseline, price part and text part, exactly."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import AdapterError, InputError
from common.task import Provenance
from kits.finance.disclosures.document import Disclosure, Section, read_document
from kits.finance.disclosures.language import LanguageReading, PassageScore
from kits.finance.markets.volatility import past_log_volatility
from kits.finance.risk.linkage import (
    Linkage,
    assess_text,
    link,
    read_linkage,
)
from kits.finance.risk.score import logit
from kits.finance.weights.calls import WINDOWS_DAYS, read_calls

LINKAGE = Linkage(
    windows_days=(3, 7),
    price_intercept=-1.0,
    price_coefficients=(0.2, 0.5),
    price_centre=-4.0,
    text_weight=0.6,
    text_centre=0.01,
    text_percentiles=tuple(np.linspace(-0.5, 0.5, 101)),
    calibration_intercept=15.0,
    calibration_slope=4.0,
    event_threshold=-3.7,
    mse_gain_interval=(0.001, 0.002),
    adapter_digest="a" * 64,
)
TEXT = "We may face risk. Debt grows in the market. Sales were good this quarter."


def prices(seed=0, n=60):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, n)))
    dates = np.datetime64("2016-01-04") + np.arange(n)
    history = SimpleNamespace(close=close, dates=dates, digest="d", notes=("one note",))
    forecast = SimpleNamespace(
        model="har",
        horizon_days=30,
        quantile_levels=(0.5,),
        daily_volatility_quantiles=np.full((30, 1), 0.02),
        period_volatility_quantiles=(0.02,),
        period_volatility_mean=0.02,
    )
    tail = SimpleNamespace(
        level=0.99, value_at_risk=0.04, expected_shortfall=0.05, method="historical"
    )
    return SimpleNamespace(history=history, har=forecast, garch=forecast, tail=tail)


@pytest.fixture
def disclosure(tmp_path):
    (tmp_path / "call.txt").write_text(TEXT, encoding="utf-8")
    document = read_document(tmp_path / "call.txt")
    return Disclosure(document, "transcript", (Section("call", "Call", 0, len(TEXT)),))


def reading(*scores):
    starts = [0, 18, 44]
    ends = [17, 43, len(TEXT)]
    passages = tuple(
        PassageScore(a, b, "call", s) for a, b, s in zip(starts, ends, scores, strict=True)
    )
    provenance = Provenance(model="m", model_digest="d", input_digest="i")
    return LanguageReading(passages, 3, ("call",), (), provenance, 0)


@given(st.tuples(*[st.floats(-1, 1)] * 3), st.integers(0, 50))
def test_reasons_add_up_to_the_log_odds(scores, seed):
    """Baseline + price + text = logit(p) = a + b (price forecast + w (s - s0))."""
    document = SimpleNamespace(text=TEXT, digest="d", source_span=lambda a, b: (a, b))
    disclosure = SimpleNamespace(document=document, form="transcript", notes=())
    market = prices(seed)
    result = link(disclosure, reading(*scores), market, LINKAGE, ticker="ABC")
    x = past_log_volatility(market.history, LINKAGE.windows_days)
    forecast = -1.0 + 0.2 * x[0] + 0.5 * x[1] + 0.6 * (np.mean(scores) - 0.01)
    total = result.baseline_log_odds + sum(r.contribution for r in result.reasons)
    assert total == pytest.approx(15.0 + 4.0 * forecast, abs=1e-9)
    assert total == pytest.approx(logit(result.event_probability), abs=1e-6)
    assert result.score == pytest.approx(100 * result.event_probability)
    assert result.volatility_linked == pytest.approx(math.exp(forecast))
    text = result.reasons[1]
    assert sum(e.contribution for e in text.evidence) == pytest.approx(text.contribution)
    assert sum(e.contribution for e in result.text.evidence) == pytest.approx(result.text.value)


def test_a_side_that_is_switched_off_moves_nothing(disclosure):
    """Without text the score is that of prices; without prices it starts from the typical one."""
    said, market = reading(0.1, -0.4, 0.9), prices()
    both = link(disclosure, said, market, LINKAGE, ticker="ABC")
    alone = link(disclosure, said, market, LINKAGE, ticker="ABC", sides="prices")
    assert alone.event_probability == both.event_probability_prices_only
    assert alone.volatility_linked == both.volatility_prices_only
    text = link(disclosure, said, market, LINKAGE, ticker="ABC", sides="text")
    assert text.reasons[0].contribution == 0.0
    assert text.reasons[1].contribution == both.reasons[1].contribution
    assert text.volatility_prices_only == pytest.approx(math.exp(LINKAGE.price_centre))
    for result in (alone, text):
        assert any("switched off" in note for note in result.notes)
    assert not any("switched off" in note for note in both.notes)


def test_a_fitted_interval_is_told(disclosure):
    """It lies around the linked volatility, by one factor on either side; without a fit none."""
    linkage = replace(LINKAGE, interval_radius=0.4, interval_calls=362)
    result = link(disclosure, reading(0.1, 0.2, 0.3), prices(), linkage, ticker="ABC")
    low, high = linkage.interval(math.log(result.volatility_linked))
    assert low * high == pytest.approx(result.volatility_linked**2)
    assert high / low == pytest.approx(math.exp(0.8))
    assert any("90% interval" in note and "362 calls" in note for note in result.notes)
    assert LINKAGE.interval(-4.0) is None


def test_evidence_quotes_the_document(disclosure):
    """Each quotation is the text between its offsets, the farthest first."""
    result = link(disclosure, reading(0.1, -0.4, 0.3), prices(), LINKAGE, ticker="ABC")
    for evidence in result.reasons[1].evidence:
        assert disclosure.document.text[evidence.start : evidence.end] == evidence.sentence
        assert disclosure.document.source[evidence.source_start : evidence.source_end] == (
            evidence.sentence
        )
    assert [e.start for e in result.reasons[1].evidence] == [18, 44, 0]
    assert "one note" in result.notes


def test_without_prices_there_is_no_probability(disclosure):
    """The text part stands alone, and a note says why."""
    result = assess_text(disclosure, reading(0.1, 0.2, 0.3), LINKAGE, ticker="ABC")
    assert result.event_probability is result.score is result.market is result.as_of is None
    assert result.text.value == pytest.approx(0.19)
    assert result.text.percentile == pytest.approx(70)
    assert "No market part could be computed" in result.notes[0]
    assert result.text.evidence
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text_weight": 0.0}, "its weight"),
        ({"mse_gain_interval": (-0.001, 0.002)}, "does not exclude zero"),
    ],
)
def test_text_that_adds_nothing_is_said_to(disclosure, change, said):
    """The note gives the reason; with no weight the score is that of prices alone."""
    linkage = replace(LINKAGE, **change)
    result = link(disclosure, reading(0.1, 0.2, 0.3), prices(), linkage, ticker="ABC")
    assert any("no measurable accuracy" in note and said in note for note in result.notes)
    if linkage.text_weight == 0:
        assert result.event_probability == result.event_probability_prices_only


def test_text_that_helps_carries_no_such_note(disclosure):
    """The notes stay silent when the interval excludes zero."""
    result = link(disclosure, reading(0.1, 0.2, 0.3), prices(), LINKAGE, ticker="ABC")
    assert not any("no measurable accuracy" in note for note in result.notes)


def test_a_filing_is_outside_the_text_model_s_domain(disclosure):
    """A note says so for 10-K and 10-Q."""
    filing = replace(disclosure, form="10-K")
    result = assess_text(filing, reading(0.1, 0.2, 0.3), LINKAGE, ticker="ABC")
    assert any("outside its domain" in note for note in result.notes)


def test_an_assessment_that_does_not_add_up_is_refused(disclosure):
    """A changed probability, score or baseline cannot be constructed."""
    result = link(disclosure, reading(0.1, 0.2, 0.3), prices(), LINKAGE, ticker="ABC")
    for change in (
        {"event_probability": 0.5},
        {"score": 50.0},
        {"baseline_log_odds": None},
        {"reasons": ()},
    ):
        with pytest.raises(InputError):
            replace(result, **change)


def test_json_repeats_and_holds_every_part(disclosure):
    """Equal input gives equal JSON, which survives a round trip."""
    first, second = (
        link(disclosure, reading(0.1, 0.2, 0.3), prices(), LINKAGE, ticker="ABC").to_json()
        for _ in range(2)
    )
    assert first == second == json.loads(json.dumps(first, allow_nan=False))
    assert list(first)[:3] == ["ticker", "as_of", "form"]
    assert first["as_of"] == "2016-03-03"


def test_past_volatility_equals_the_labels_of_real_calls(tandem_data):
    """The features of `assess` are those that the linkage was fitted on, to 1e-5."""
    import pandas as pd

    calls = read_calls(tandem_data)
    table = pd.read_parquet(tandem_data / "finance" / "us_prices" / "prices_2010_2017.parquet")
    groups = dict(iter(table.groupby("ticker", observed=True)))
    rows = [row for row in range(0, len(calls), 97) if calls.ticker[row] in groups]
    for row in rows:
        group = groups[calls.ticker[row]].sort_values("date")
        close = group.close[group.date <= pd.Timestamp(calls.day[row])].to_numpy(float)
        found = past_log_volatility(SimpleNamespace(close=close), WINDOWS_DAYS)
        np.testing.assert_allclose(found, calls.features[row], atol=1e-5)
    assert len(rows) > 15


def test_coefficients_travel_through_json(tmp_path):
    """Written and read again they are equal; those of another text model are refused."""
    path = tmp_path / "linkage.json"
    path.write_text(json.dumps(LINKAGE.to_json()))
    assert read_linkage(path, adapter_digest="a" * 64) == LINKAGE
    older = {k: v for k, v in LINKAGE.to_json().items() if not k.startswith("interval")}
    path.write_text(json.dumps(older))
    assert read_linkage(path, adapter_digest="a" * 64) == LINKAGE
    with pytest.raises(AdapterError, match="coefficients of adapter"):
        read_linkage(path, adapter_digest="b" * 64)
    path.write_text("{}")
    with pytest.raises(AdapterError, match="KeyError"):
        read_linkage(path, adapter_digest="a" * 64)
    with pytest.raises(AdapterError, match="FileNotFoundError"):
        read_linkage(tmp_path / "absent.json", adapter_digest="a" * 64)
