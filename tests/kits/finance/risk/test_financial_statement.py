"""A statement that was constructed can be used."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from common.errors import TableError
from kits.finance.disclosures.fact_table import Period
from kits.finance.disclosures.statements import StatementValue, StatementValues
from kits.finance.risk.financial_statement import (
    FinancialStatement,
    MarketValue,
    statement_from_filing,
)

DAY = date(2016, 12, 31)
YEAR, INSTANT = Period(date(2016, 1, 1), DAY), Period(None, DAY)


def line(name: str, amount: int, period: Period, unit: str = "USD") -> StatementValue:
    return StatementValue(name, Decimal(amount), unit, period, f"us-gaap:{name}", ())


def filing(**changes: StatementValue) -> StatementValues:
    lines = {
        "assets_total": line("Assets", 900, INSTANT),
        "liabilities_total": line("Liabilities", 500, INSTANT),
        "operating_income": line("OperatingIncomeLoss", 70, YEAR),
        **changes,
    }
    return StatementValues(DAY, lines, {})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(TableError) as caught:
        FinancialStatement(
            currency="dollars", period_end_date=DAY, unit=0.0, total_assets=-1.0,
            current_liabilities=5.0, total_liabilities=3.0, ebit=float("nan"),
        )  # fmt: skip
    for fault in (
        "no ISO 4217 code",
        "a unit of 0",
        "total_assets not above zero",
        "current_liabilities above total_liabilities",
        "ebit is no finite number",
    ):
        assert fault in caught.value.found


def test_equity_is_stated_or_assets_less_liabilities() -> None:
    statement = FinancialStatement(
        currency="EUR", period_end_date=DAY, unit=1e6, total_assets=9, total_liabilities=5
    )
    assert statement.equity(measure="a test") == 4e6
    assert replace(statement, book_equity=3.5).equity(measure="a test") == 3.5e6


def test_a_filings_lines_become_figures_with_their_sources() -> None:
    statement = statement_from_filing(filing())
    assert statement.figure("ebit", measure="a test") == 70
    assert statement.sources["ebit"] == "us-gaap:OperatingIncomeLoss"
    assert (statement.currency, statement.period_months) == ("USD", 12)
    both = filing(
        income_before_tax=line("PreTax", 60, YEAR), interest_expense=line("Interest", 8, YEAR)
    )
    assert statement_from_filing(both).ebit == 68
    assert statement_from_filing(both).sources["ebit"] == "us-gaap:PreTax + us-gaap:Interest"


def test_flows_of_nine_months_keep_their_length() -> None:
    nine = Period(date(2016, 4, 1), DAY)
    lines = filing(operating_income=line("OperatingIncomeLoss", 50, nine))
    assert statement_from_filing(lines).period_months == 9


def test_mixed_currencies_and_lengths_are_refused() -> None:
    nine = Period(date(2016, 4, 1), DAY)
    for changed in (line("Revenues", 1, YEAR, "EUR"), line("Revenues", 1, nine)):
        with pytest.raises(TableError, match="one currency, and flows of one length"):
            statement_from_filing(filing(revenue=changed))


@pytest.mark.parametrize(("amount", "currency"), [(0.0, "USD"), (float("inf"), "USD"), (1, "usd")])
def test_market_values_are_positive_and_have_a_currency(amount, currency) -> None:
    with pytest.raises(TableError, match="market value of equity"):
        MarketValue(amount, currency, DAY)
