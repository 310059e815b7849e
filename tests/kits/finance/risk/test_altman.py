"""Scores are the published sums, and a missing figure is a reason, never a guess."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TableError
from kits.finance.risk.altman import altman_z, altman_z_double_prime, altman_z_prime
from kits.finance.risk.financial_statement import FinancialStatement, MarketValue

# Printed by tests/reference/credit_scores.py; the first is 5.46 in Hull's example.
EXPECTED_Z = 5.4571641791
EXPECTED_Z_PRIME = 4.8689328358
EXPECTED_Z_DOUBLE_PRIME = 5.6072201493

HULLS = FinancialStatement(
    currency="USD",
    period_end_date=date(2016, 12, 31),
    unit=1000.0,
    total_assets=670,
    total_liabilities=240,
    current_assets=400,
    current_liabilities=230,
    retained_earnings=300,
    ebit=60,
    sales=2200,
)
MARKET = MarketValue(380_000.0, "USD", date(2017, 1, 3))


def test_the_scores_are_the_published_sums() -> None:
    assert altman_z(HULLS, MARKET).value == pytest.approx(EXPECTED_Z, abs=1e-9)
    assert altman_z_prime(HULLS).value == pytest.approx(EXPECTED_Z_PRIME, abs=1e-9)
    assert altman_z_double_prime(HULLS).value == pytest.approx(EXPECTED_Z_DOUBLE_PRIME, abs=1e-9)


def test_the_constant_moves_score_and_limits_alike() -> None:
    plain = altman_z_double_prime(HULLS)
    bond = altman_z_double_prime(HULLS, emerging_market=True)
    assert bond.value - plain.value == pytest.approx(3.25)
    assert bond.safe_above - plain.safe_above == pytest.approx(3.25)
    assert bond.distress_below == pytest.approx(4.35)


amounts = st.floats(1, 1e9)


@given(amounts, amounts, amounts, st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.booleans())
def test_terms_add_up_and_zones_follow_their_limits(a, b, c, kept, ebit, emerging) -> None:
    statement = replace(
        HULLS, total_assets=a, total_liabilities=b, current_assets=min(a, c),
        current_liabilities=min(b, c), retained_earnings=kept, ebit=ebit,
    )  # fmt: skip
    score = altman_z_double_prime(statement, emerging_market=emerging)
    total = score.constant + math.fsum(term.contribution for term in score.terms)
    assert score.value == pytest.approx(total, rel=1e-12, abs=1e-12)
    below, above = score.value < score.distress_below, score.value > score.safe_above
    assert score.zone == ("distress" if below else "safe" if above else "grey")


@given(st.sampled_from([1.0, 1e3, 1e6]))
def test_the_unit_of_the_accounts_does_not_matter(unit: float) -> None:
    in_other_units = replace(HULLS, unit=unit)
    assert altman_z_double_prime(in_other_units).value == pytest.approx(EXPECTED_Z_DOUBLE_PRIME)


@pytest.mark.parametrize(
    "name", ["total_assets", "current_assets", "retained_earnings", "ebit", "total_liabilities"]
)
def test_an_absent_figure_is_named(name: str) -> None:
    with pytest.raises(TableError, match=f"Altman Z'': expected {name.replace('_', ' ')}"):
        altman_z_double_prime(replace(HULLS, **{name: None}))


def test_flows_of_a_quarter_are_refused() -> None:
    with pytest.raises(TableError, match="expected ebit of 12 months; found 3 months"):
        altman_z_double_prime(replace(HULLS, period_months=3))


def test_a_company_without_liabilities_has_no_score() -> None:
    with pytest.raises(TableError, match="liabilities above zero"):
        altman_z_prime(replace(HULLS, total_liabilities=0, current_liabilities=0))


@pytest.mark.parametrize(
    "market", [replace(MARKET, currency="EUR"), replace(MARKET, as_of_date=date(2016, 6, 30))]
)
def test_market_values_of_another_currency_or_an_earlier_day_are_refused(market) -> None:
    with pytest.raises(TableError, match="market value for Altman Z"):
        altman_z(HULLS, market)
