"""Every measure that figures allow is there; the others are there as reasons."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from common.errors import TableError
from kits.finance.disclosures.facts import read_facts
from kits.finance.disclosures.statements import statement_values
from kits.finance.risk.credit import (
    MarketEquity,
    MarketValue,
    altman_z_double_prime,
    credit_measures,
    statement_from_filing,
)
from tests.kits.finance.risk.test_ohlson import TROUBLED

EXPECTED_APPLE_2024 = 1.8710225662  # printed by tests/reference/credit_scores.py

WHOLE = replace(
    TROUBLED, retained_earnings=-30, ebit=-10, sales=600, short_term_debt=80, long_term_debt=200
)


def market(n_days: int = 253, currency: str = "USD") -> MarketEquity:
    daily = 120e6 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.02, n_days)))
    last = MarketValue(float(daily[-1]), currency, date(2017, 2, 1))
    return MarketEquity(daily=daily, last=last, risk_free_rate=0.01)


def test_whole_figures_give_every_measure() -> None:
    measures = credit_measures(WHOLE, market=market(), price_index_1968=500.0)
    assert dict(measures.refused) == {}
    assert measures.z_double_prime == altman_z_double_prime(WHOLE)
    assert measures.merton is not None
    assert measures.naive is not None
    assert measures.merton.default_point == 180e6
    assert measures.merton.distance_to_default == pytest.approx(
        measures.naive.distance_to_default, abs=1.5
    )


def test_what_is_absent_is_a_reason() -> None:
    measures = credit_measures(replace(WHOLE, ebit=None, long_term_debt=None), market=market(200))
    assert measures.z_double_prime is None
    assert measures.ohlson is None
    assert set(measures.refused) == {
        "z", "z_prime", "z_double_prime", "z_double_prime_emerging", "ohlson", "merton", "naive",
    }  # fmt: skip
    assert "expected ebit; found no such figure" in measures.refused["z_double_prime"]
    assert "long term debt" in measures.refused["merton"]
    without_market = credit_measures(WHOLE)
    assert set(without_market.refused) == {"z", "ohlson", "merton", "naive"}


def test_currencies_are_never_mixed() -> None:
    measures = credit_measures(WHOLE, market=market(currency="GBP"))
    for name in ("z", "merton", "naive"):
        assert "expected USD" in measures.refused[name]


def test_market_values_end_with_the_last_one() -> None:
    with pytest.raises(TableError, match="end with the last one"):
        replace(market(), last=MarketValue(1.0, "USD", date(2017, 2, 1)))


def test_a_real_10_k_gives_the_score_that_its_printed_figures_give(
    tandem_data: Path, tmp_path: Path
) -> None:
    packed = tandem_data / "finance" / "filings_samples" / "Apple.10-K.html.gz"
    if not packed.is_file():
        pytest.skip("the sample filing of Apple is absent")
    path = tmp_path / "Apple.10-K.html"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    statement = statement_from_filing(statement_values(read_facts(path)))
    score = altman_z_double_prime(statement)
    assert (statement.currency, statement.period_months) == ("USD", 12)
    assert statement.sources["ebit"] == "us-gaap:OperatingIncomeLoss"
    assert score.value == pytest.approx(EXPECTED_APPLE_2024, abs=1e-9)
    assert score.zone == "grey"
