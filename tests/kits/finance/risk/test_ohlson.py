"""O is the published sum, in dollars of 1968."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date

import pytest

from common.errors import TableError
from kits.finance.risk.financial_statement import FinancialStatement
from kits.finance.risk.ohlson import ohlson_o

EXPECTED_O = -0.9139527971  # printed by tests/reference/credit_scores.py

TROUBLED = FinancialStatement(
    currency="USD",
    period_end_date=date(2016, 12, 31),
    unit=1e6,
    total_assets=500,
    total_liabilities=450,
    current_assets=200,
    current_liabilities=160,
    net_income=-20,
    net_income_before=-5,
    funds_from_operations=9,
)


def test_the_score_is_the_published_sum() -> None:
    score = ohlson_o(TROUBLED, price_index_1968=500.0)
    assert score.value == pytest.approx(EXPECTED_O, abs=1e-9)
    total = score.constant + math.fsum(term.contribution for term in score.terms)
    assert score.value == pytest.approx(total)
    assert score.probability_of_failure == pytest.approx(1 / (1 + math.exp(-EXPECTED_O)))
    assert [term.name for term in score.terms] == [
        "SIZE", "TLTA", "WCTA", "CLCA", "OENEG", "NITA", "FUTL", "INTWO", "CHIN",
    ]  # fmt: skip


def test_the_unit_is_honoured_by_size() -> None:
    thousand_times_smaller = ohlson_o(replace(TROUBLED, unit=1e3), price_index_1968=500.0)
    assert thousand_times_smaller.value - EXPECTED_O == pytest.approx(0.407 * math.log(1000))


def test_a_company_whose_income_is_twice_zero_has_no_change() -> None:
    flat = ohlson_o(replace(TROUBLED, net_income=0, net_income_before=0), price_index_1968=500.0)
    assert flat.terms[-1].ratio == 0


def test_negative_equity_lowers_the_score_of_its_dummy_as_in_the_paper() -> None:
    sunk = ohlson_o(replace(TROUBLED, total_liabilities=600), price_index_1968=500.0)
    assert sunk.terms[4].contribution == -1.72


@pytest.mark.parametrize(
    ("change", "index", "fault"),
    [
        ({"currency": "EUR"}, 500.0, "US dollars"),
        ({}, 0.0, "above zero"),
        ({"net_income_before": None}, 500.0, "net income before"),
        ({"current_assets": 0}, 500.0, "current assets above zero"),
        ({"period_months": 9}, 500.0, "9 months"),
    ],
)
def test_what_the_model_cannot_read_is_refused(change, index, fault) -> None:
    with pytest.raises(TableError, match=fault):
        ohlson_o(replace(TROUBLED, **change), price_index_1968=index)
