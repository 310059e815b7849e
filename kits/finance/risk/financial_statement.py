"""The figures of a company's accounts that credit measures read, with currency and period.

Amounts are in `unit` units of the currency (1,000,000 for "in millions"); stocks are as of
`period_end_date`, flows cover the `period_months` before it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING

from common.errors import TableError

if TYPE_CHECKING:
    from kits.finance.disclosures.statements import StatementValue, StatementValues

__all__ = ["FinancialStatement", "MarketValue", "statement_from_filing"]

_CURRENCY = re.compile(r"[A-Z]{3}")
_ROUNDING = 1e-3  # figures are rounded to their unit
ANNUAL_MONTHS = 12

FLOWS = ("sales", "ebit", "net_income", "net_income_before", "funds_from_operations")

# Figure -> line of `disclosures.statement_concepts.LINES` that states it.
_LINES: Mapping[str, str] = MappingProxyType(
    {
        "total_assets": "assets_total",
        "total_liabilities": "liabilities_total",
        "current_assets": "assets_current",
        "current_liabilities": "liabilities_current",
        "retained_earnings": "retained_earnings",
        "book_equity": "equity_total",
        "short_term_debt": "debt_current",
        "long_term_debt": "debt_noncurrent",
        "sales": "revenue",
        "net_income": "net_income",
        "funds_from_operations": "operating_cash_flow",
    }
)


@dataclass(frozen=True)
class FinancialStatement:
    """What the accounts of one period say; None where they do not.

    Args:
        currency: ISO 4217 code of every amount.
        period_end_date: Date of the balance sheet, and last day of the flows.
        period_months: Months that the flows cover; only 12 (or a 52- or 53-week year) is a year.
        unit: Currency units of one unit of the amounts.
        total_assets: Above zero.
        total_liabilities: Not below zero; what is no liability (mezzanine, minorities) left out.
        current_assets: Not below zero.
        current_liabilities: Not below zero.
        retained_earnings: Negative for an accumulated deficit.
        book_equity: Total equity; `equity()` derives it where it is absent.
        short_term_debt: Interest-bearing, due within a year.
        long_term_debt: Interest-bearing, due later.
        sales: Net sales of the period.
        ebit: Earnings before interest and taxes.
        net_income: After taxes.
        net_income_before: Of the same months a year earlier.
        funds_from_operations: Cash flow from operations stands in where it is not stated.
        sources: Figure -> the concepts that supplied it, for those read from a filing.

    Raises:
        TableError: The currency is no code, the unit or period no positive number, or figures
            contradict one another; all faults at once.
    """

    currency: str
    period_end_date: date
    period_months: int = ANNUAL_MONTHS
    unit: float = 1.0
    total_assets: float | None = None
    total_liabilities: float | None = None
    current_assets: float | None = None
    current_liabilities: float | None = None
    retained_earnings: float | None = None
    book_equity: float | None = None
    short_term_debt: float | None = None
    long_term_debt: float | None = None
    sales: float | None = None
    ebit: float | None = None
    net_income: float | None = None
    net_income_before: float | None = None
    funds_from_operations: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = [*self._form_faults(), *self._figure_faults()]
        if faults:
            raise TableError(
                "financial statement",
                expected="a currency code, finite amounts, and parts not above their whole",
                found="; ".join(faults),
                remedy="Check units and signs against the statement's page.",
            )

    def figure(self, name: str, *, measure: str) -> float:
        """Returns a figure that `measure` cannot do without, in currency units.

        Raises:
            TableError: It is absent, or a flow over other months than twelve.
        """
        value: float | None = getattr(self, name)
        if value is None:
            raise TableError(
                f"financial statement for {measure}",
                expected=name.replace("_", " "),
                found="no such figure",
                remedy=f"Give it from the accounts, or leave {measure} out: it is not estimated.",
            )
        if name in FLOWS and self.period_months != ANNUAL_MONTHS:
            raise TableError(
                f"financial statement for {measure}",
                expected=f"{name.replace('_', ' ')} of {ANNUAL_MONTHS} months",
                found=f"{self.period_months} months",
                remedy="Give the annual report, or the sum of the last four quarters.",
            )
        return value * self.unit

    def equity(self, *, measure: str) -> float:
        """Returns book equity, or assets less liabilities where it is not stated.

        Raises:
            TableError: Neither can be had.
        """
        if self.book_equity is not None:
            return self.book_equity * self.unit
        assets = self.figure("total_assets", measure=measure)
        return assets - self.figure("total_liabilities", measure=measure)

    def _form_faults(self) -> list[str]:
        faults = []
        if not _CURRENCY.fullmatch(self.currency):
            faults.append("a currency that is no ISO 4217 code")
        if self.period_months < 1:
            faults.append(f"a period of {self.period_months} months")
        if not (math.isfinite(self.unit) and self.unit > 0):
            faults.append(f"a unit of {self.unit:g}")
        return faults

    def _figure_faults(self) -> list[str]:
        amounts = {f.name: getattr(self, f.name) for f in fields(self) if f.name in _AMOUNTS}
        given = {name: value for name, value in amounts.items() if value is not None}
        faults = [
            f"{name} is no finite number" for name, v in given.items() if not math.isfinite(v)
        ]
        if given.get("total_assets", 1.0) <= 0:
            faults.append("total_assets not above zero")
        faults += [f"{name} below zero" for name in _NOT_NEGATIVE if given.get(name, 0.0) < 0]
        for part, whole in _PARTS:
            if part in given and whole in given and given[part] > given[whole] * (1 + _ROUNDING):
                faults.append(f"{part} above {whole}")
        return faults


@dataclass(frozen=True)
class MarketValue:
    """What the market pays for all shares, in whole currency units.

    Raises:
        TableError: It is no positive number or its currency no code.
    """

    amount: float
    currency: str
    as_of_date: date

    def __post_init__(self) -> None:
        positive = math.isfinite(self.amount) and self.amount > 0
        if not positive or not _CURRENCY.fullmatch(self.currency):
            raise TableError(
                "market value of equity",
                expected="a positive amount with an ISO 4217 currency",
                found="another amount" if not positive else "another currency",
                remedy="Multiply the close by the shares outstanding of that date.",
            )

    def beside(self, statement: FinancialStatement, *, measure: str) -> float:
        """Returns the amount, once it can stand beside the statement's figures.

        Raises:
            TableError: The currencies differ, or it is older than the statement's date.
        """
        if self.currency != statement.currency or self.as_of_date < statement.period_end_date:
            raise TableError(
                f"market value for {measure}",
                expected=f"{statement.currency}, on or after {statement.period_end_date}",
                found=f"{self.currency}, {self.as_of_date}",
                remedy="Convert at that day's rate; take a close after the balance sheet's date.",
            )
        return self.amount


def statement_from_filing(
    values: StatementValues, *, net_income_before: float | None = None
) -> FinancialStatement:
    """Returns the figures of a filing's latest period, each with the concepts that supplied it.

    EBIT is income before tax plus interest expense where both are stated, else operating income.
    Flows of other than a year keep their length, and measures that need a year refuse them.

    Args:
        values: Lines of the statements, as `disclosures.statements.statement_values` reads them.
        net_income_before: Net income of the year before, from the filing of that year.

    Raises:
        TableError: Currencies or the lengths of the flows differ, or figures contradict.
    """
    lines = {name: values.values[line] for name, line in _LINES.items() if line in values.values}
    figures = {name: float(value.value) for name, value in lines.items()}
    sources = {name: value.formula for name, value in lines.items()}
    ebit = _ebit_lines(values)
    if ebit:
        figures["ebit"] = float(sum(value.value for value in ebit))
        sources["ebit"] = " + ".join(value.formula for value in ebit)
    used = [*lines.values(), *ebit]
    currencies = sorted({value.unit for value in used})
    months = sorted({_months(days) for value in used if (days := value.period.days) is not None})
    if len(currencies) != 1 or len(months) > 1:
        raise TableError(
            "financial statement",
            expected="one currency, and flows of one length",
            found=f"{', '.join(currencies) or 'no amounts'}; months: {months or 'none'}",
            remedy="Give the annual report; a filing that mixes them is not added up.",
        )
    return FinancialStatement(
        currency=currencies[0],
        period_end_date=values.balance_date,
        period_months=months[0] if months else ANNUAL_MONTHS,
        net_income_before=net_income_before,
        sources=sources,
        **figures,
    )


def _ebit_lines(values: StatementValues) -> list[StatementValue]:
    parts = ("income_before_tax", "interest_expense")
    if all(part in values.values for part in parts):
        return [values.values[part] for part in parts]
    operating = values.values.get("operating_income")
    return [] if operating is None else [operating]


def _months(days: int) -> int:
    return max(1, round(days / 30.4375))  # 52 weeks and 53 weeks are 12 months too


_AMOUNTS = frozenset(_LINES) | {"ebit", "net_income_before"}
_NOT_NEGATIVE = (
    "total_liabilities",
    "current_assets",
    "current_liabilities",
    "short_term_debt",
    "long_term_debt",
)
_PARTS = (
    ("current_assets", "total_assets"),
    ("current_liabilities", "total_liabilities"),
    ("short_term_debt", "current_liabilities"),
)
