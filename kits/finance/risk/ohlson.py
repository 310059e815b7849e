"""Ohlson's O: log-odds that a US industrial company fails within a year, from its accounts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

from common.errors import TableError
from kits.finance.risk.altman import Term
from kits.finance.risk.financial_statement import FinancialStatement
from kits.finance.risk.score import probability

__all__ = ["OhlsonScore", "ohlson_o"]

_CONSTANT = -1.32
_MEASURE = "Ohlson O"


@dataclass(frozen=True)
class OhlsonScore:
    """Log-odds of failure and their terms; higher is riskier.

    Args:
        value: The score: constant plus contributions.
        probability_of_failure: 1 / (1 + exp(-value)): of the sample of 1970-76, whose failure
            rate is not that of today; not calibrated here.
        terms: The nine variables in the paper's order.
        constant: -1.32.
        period_end_date: Date of the accounts.
    """

    value: float
    probability_of_failure: float
    terms: tuple[Term, ...]
    constant: float
    period_end_date: date


def ohlson_o(statement: FinancialStatement, *, price_index_1968: float) -> OhlsonScore:
    """Returns O by model 1 of Ohlson (1980), which looks one year ahead.

    "Financial ratios and the probabilistic prediction of bankruptcy", table 4: `-1.32 - 0.407 SIZE
    + 6.03 TLTA - 1.43 WCTA + 0.0757 CLCA - 1.72 OENEG - 2.37 NITA - 1.83 FUTL + 0.285 INTWO
    - 0.521 CHIN`; SIZE is the natural logarithm of total assets in dollars over the price index.

    Args:
        statement: Accounts of a year in US dollars, with the net income of the year before.
        price_index_1968: US GNP price index of the year before the date of the accounts,
            100 in 1968.

    Raises:
        TableError: The currency is not USD, a figure is absent or zero where it divides, flows
            are no year's, or the index is no positive number.
    """
    _check(statement, price_index_1968)

    def figure(name: str) -> float:
        return statement.figure(name, measure=_MEASURE)

    assets, liabilities = figure("total_assets"), figure("total_liabilities")
    current_assets, current_liabilities = figure("current_assets"), figure("current_liabilities")
    income, before = figure("net_income"), figure("net_income_before")
    moved = abs(income) + abs(before)
    terms = (
        Term("SIZE", math.log(assets / price_index_1968), -0.407),
        Term("TLTA", liabilities / assets, 6.03),
        Term("WCTA", (current_assets - current_liabilities) / assets, -1.43),
        Term("CLCA", _ratio(current_liabilities, current_assets, "current assets"), 0.0757),
        Term("OENEG", float(liabilities > assets), -1.72),
        Term("NITA", income / assets, -2.37),
        Term("FUTL", _ratio(figure("funds_from_operations"), liabilities, "liabilities"), -1.83),
        Term("INTWO", float(income < 0 and before < 0), 0.285),
        Term("CHIN", (income - before) / moved if moved else 0.0, -0.521),
    )
    value = math.fsum([_CONSTANT, *(term.contribution for term in terms)])
    return OhlsonScore(value, probability(value), terms, _CONSTANT, statement.period_end_date)


def _check(statement: FinancialStatement, price_index_1968: float) -> None:
    index_fits = math.isfinite(price_index_1968) and price_index_1968 > 0
    if statement.currency != "USD" or not index_fits:
        raise TableError(
            f"financial statement for {_MEASURE}",
            expected="US dollars, and a GNP price index above zero (1968 = 100)",
            found=f"{statement.currency}, an index of {price_index_1968:g}",
            remedy="SIZE is in dollars of 1968: convert the accounts, or leave the score out.",
        )


def _ratio(numerator: float, denominator: float, name: str) -> float:
    if denominator == 0:
        raise TableError(
            f"financial statement for {_MEASURE}",
            expected=f"{name} above zero",
            found="none",
            remedy="The ratio has no value: leave the score out.",
        )
    return numerator / denominator
