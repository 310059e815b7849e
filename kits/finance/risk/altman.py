"""Altman's Z, Z' and Z'': weighted sums of accounting ratios, higher is safer.

Discriminant scores, no probabilities. Z was built on US manufacturers of 1946-65, Z' on the same
with book in place of market equity, Z'' without sales, so that industries with little turnover are
not punished. None was built on banks, insurers or property companies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import Literal

from common.errors import TableError
from kits.finance.risk.financial_statement import FinancialStatement, MarketValue

__all__ = ["AltmanScore", "Term", "Zone", "altman_z", "altman_z_double_prime", "altman_z_prime"]

Zone = Literal["distress", "grey", "safe"]

EMERGING_MARKET_CONSTANT = 3.25  # puts a bond in default (D) at about zero


@dataclass(frozen=True)
class Term:
    """One ratio and what it adds to the score."""

    name: str
    ratio: float
    coefficient: float

    @property
    def contribution(self) -> float:
        """`coefficient * ratio`."""
        return self.coefficient * self.ratio


@dataclass(frozen=True)
class AltmanScore:
    """A score, its zone and its terms; `value` is constant plus contributions.

    Args:
        model: "Z", "Z'", "Z''" or "Z'' + 3.25".
        value: The score.
        zone: "distress" below `distress_below`, "safe" above `safe_above`, "grey" between.
        distress_below: Upper end of the distress zone.
        safe_above: Lower end of the safe zone.
        terms: The ratios, X1 first.
        constant: What the terms are added to.
        period_end_date: Date of the accounts.
    """

    model: str
    value: float
    zone: Zone
    distress_below: float
    safe_above: float
    terms: tuple[Term, ...]
    constant: float
    period_end_date: date


def altman_z(statement: FinancialStatement, market_value: MarketValue) -> AltmanScore:
    """Returns Z of a listed manufacturer.

    `1.2 X1 + 1.4 X2 + 3.3 X3 + 0.6 X4 + 0.999 X5`, Altman (1968, "Financial ratios, discriminant
    analysis and the prediction of corporate bankruptcy"); X4 is market equity over total
    liabilities. Distress below 1.81, safe above 2.99.

    Args:
        statement: Accounts of a year.
        market_value: Of all shares, on or after the date of the accounts.

    Raises:
        TableError: A figure is absent, flows are no year's, there are no liabilities, or the
            market value has another currency or is older.
    """
    measure = "Altman Z"
    equity = market_value.beside(statement, measure=measure)
    terms = (
        *_three_terms(statement, (1.2, 1.4, 3.3), measure),
        Term("market equity / total liabilities", _over_debt(equity, statement, measure), 0.6),
        Term("sales / total assets", _over_assets("sales", statement, measure), 0.999),
    )
    return _score("Z", terms, 0.0, (1.81, 2.99), statement)


def altman_z_prime(statement: FinancialStatement) -> AltmanScore:
    """Returns Z' of a private manufacturer.

    `0.717 X1 + 0.847 X2 + 3.107 X3 + 0.420 X4 + 0.998 X5`, Altman (1983, "Corporate financial
    distress"); X4 is book equity over total liabilities. Distress below 1.23, safe above 2.90.

    Raises:
        TableError: A figure is absent, flows are no year's, or there are no liabilities.
    """
    measure = "Altman Z'"
    equity = statement.equity(measure=measure)
    terms = (
        *_three_terms(statement, (0.717, 0.847, 3.107), measure),
        Term("book equity / total liabilities", _over_debt(equity, statement, measure), 0.420),
        Term("sales / total assets", _over_assets("sales", statement, measure), 0.998),
    )
    return _score("Z'", terms, 0.0, (1.23, 2.90), statement)


def altman_z_double_prime(
    statement: FinancialStatement, *, emerging_market: bool = False
) -> AltmanScore:
    """Returns Z'' of a company that is no manufacturer, or of an emerging market.

    `6.56 X1 + 3.26 X2 + 6.72 X3 + 1.05 X4`, Altman, Hartzell and Peck (1995, "Emerging market
    corporate bonds: a scoring system"); X4 is book equity over total liabilities. Distress below
    1.10, safe above 2.60. With the constant of 3.25 both limits move by 3.25, so that no zone
    changes; some later tables put the distress limit of that form elsewhere (4.15 or 4.50).

    Args:
        statement: Accounts of a year.
        emerging_market: Whether to add the constant, which aligns scores with bond ratings.

    Raises:
        TableError: A figure is absent, flows are no year's, or there are no liabilities.
    """
    measure = "Altman Z''"
    equity = statement.equity(measure=measure)
    terms = (
        *_three_terms(statement, (6.56, 3.26, 6.72), measure),
        Term("book equity / total liabilities", _over_debt(equity, statement, measure), 1.05),
    )
    constant = EMERGING_MARKET_CONSTANT if emerging_market else 0.0
    model = f"Z'' + {constant:.2f}" if emerging_market else "Z''"
    return _score(model, terms, constant, (1.10 + constant, 2.60 + constant), statement)


def _three_terms(
    statement: FinancialStatement, coefficients: tuple[float, float, float], measure: str
) -> tuple[Term, Term, Term]:
    """Returns X1 to X3, which all models share."""
    working_capital = statement.figure("current_assets", measure=measure) - statement.figure(
        "current_liabilities", measure=measure
    )
    assets = statement.figure("total_assets", measure=measure)
    ratios = (
        ("working capital / total assets", working_capital / assets),
        ("retained earnings / total assets", _over_assets("retained_earnings", statement, measure)),
        ("EBIT / total assets", _over_assets("ebit", statement, measure)),
    )
    first, second, third = (
        Term(name, ratio, coefficient)
        for (name, ratio), coefficient in zip(ratios, coefficients, strict=True)
    )
    return first, second, third


def _over_assets(name: str, statement: FinancialStatement, measure: str) -> float:
    assets = statement.figure("total_assets", measure=measure)
    return statement.figure(name, measure=measure) / assets


def _over_debt(equity: float, statement: FinancialStatement, measure: str) -> float:
    liabilities = statement.figure("total_liabilities", measure=measure)
    if liabilities == 0:
        raise TableError(
            f"financial statement for {measure}",
            expected="liabilities above zero",
            found="none",
            remedy="A company that owes nothing has no such ratio: leave the score out.",
        )
    return equity / liabilities


def _score(
    model: str,
    terms: tuple[Term, ...],
    constant: float,
    limits: tuple[float, float],
    statement: FinancialStatement,
) -> AltmanScore:
    value = math.fsum([constant, *(term.contribution for term in terms)])
    distress_below, safe_above = limits
    zone: Zone = "distress" if value < distress_below else "safe" if value > safe_above else "grey"
    return AltmanScore(
        model, value, zone, distress_below, safe_above, terms, constant, statement.period_end_date
    )
