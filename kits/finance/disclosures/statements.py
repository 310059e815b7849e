"""The lines of a company's statements by meaning, each with the concepts that supplied it.

Only facts of the whole company (without dimensions) at the balance-sheet date are taken; flows
are those of the longest period up to a year that ends there: the year in a 10-K, the year to
date in a 10-Q. A line that several facts tell differently is withheld with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from common.errors import DocumentError
from kits.finance.disclosures.fact_table import Fact, FactTable, Period
from kits.finance.disclosures.statement_concepts import LINES, Line, Term

__all__ = ["StatementValue", "StatementValues", "statement_values"]

LONGEST_YEAR_DAYS = 380
"""A fiscal year of 53 weeks, and a few days for a changed year end."""


@dataclass(frozen=True)
class StatementValue:
    """One line of the statements.

    Args:
        name: Its meaning, a key of `statement_concepts.LINES`.
        value: In whole units.
        unit: "USD", "shares" and the like.
        period: The balance-sheet date, or the duration that ends there.
        formula: The concepts that supplied it, such as "us-gaap:Assets" or
            "us-gaap:LiabilitiesAndStockholdersEquity - us-gaap:StockholdersEquity".
        facts: The facts of the formula, in its order; each knows where it stands.
    """

    name: str
    value: Decimal
    unit: str
    period: Period
    formula: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class StatementValues:
    """The latest period of one filing.

    Args:
        balance_date: The balance-sheet date.
        values: By meaning; a line that the filing does not tag is not there.
        withheld: Meaning to the reason why a line that was tagged is not given.
        notes: What a reader should know, such as sides of the balance sheet that differ.
    """

    balance_date: date
    values: Mapping[str, StatementValue]
    withheld: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> StatementValue:
        return self.values[name]


def statement_values(table: FactTable) -> StatementValues:
    """Returns the statement lines of a filing's latest period, by meaning.

    Raises:
        DocumentError: No total of assets, liabilities or equity stands in the facts.
    """
    balance_date = _balance_date(table)
    values: dict[str, StatementValue] = {}
    withheld: dict[str, str] = {}
    for name, line in LINES.items():
        try:
            value = _first_way(table, name, line, balance_date)
        except ValueError as fault:
            withheld[name] = str(fault)
            continue
        if value is not None:
            values[name] = value
    return StatementValues(balance_date, values, withheld, tuple(_notes(table, values)))


def _balance_date(table: FactTable) -> date:
    totals = ("us-gaap:Assets", "us-gaap:LiabilitiesAndStockholdersEquity", "ifrs-full:Assets")
    dates = {
        fact.period.end_date
        for concept in totals
        for fact in table.of(concept, whole_company=True)
        if fact.period.is_instant and fact.period.end_date is not None
    }
    if not dates:
        raise DocumentError(
            "financial statements",
            expected="a tagged total of assets",
            found="none among the XBRL facts",
            remedy="Give a 10-K, 10-Q or 20-F with its XBRL; exhibits and 8-Ks seldom tag them.",
        )
    stated = table.document_fact("DocumentPeriodEndDate") or ""
    return next((day for day in dates if day.isoformat() == stated), max(dates))


def _first_way(
    table: FactTable, name: str, line: Line, balance_date: date
) -> StatementValue | None:
    for way in line.ways:
        terms = [(term, _at_date(table, term, line, balance_date)) for term in way]
        if any(term.needed and fact is None for term, fact in terms):
            continue
        taken = [(term, fact) for term, fact in terms if fact is not None]
        periods, units = {fact.period for _, fact in taken}, {fact.unit for _, fact in taken}
        if len(periods) > 1 or len(units) > 1:
            raise ValueError(f"{_formula(t for t, _ in taken)} mixes periods or units")
        total = sum((term.sign * _number(fact) for term, fact in taken), Decimal(0))
        facts = tuple(fact for _, fact in taken)
        formula = _formula(term for term, _ in taken)
        return StatementValue(name, total, facts[0].unit or "", facts[0].period, formula, facts)
    return None


def _at_date(table: FactTable, term: Term, line: Line, balance_date: date) -> Fact | None:
    """Returns the fact that stands for a term, or None.

    Raises:
        ValueError: Several facts contradict each other.
    """
    facts = [
        fact
        for fact in table.of(term.concept, whole_company=True)
        if fact.period.end_date == balance_date
        and fact.period.is_instant == line.is_instant
        and isinstance(fact.value, Decimal)
    ]
    if not line.is_instant:
        facts = [fact for fact in facts if (fact.period.days or 0) <= LONGEST_YEAR_DAYS]
        longest = max((fact.period.days or 0 for fact in facts), default=0)
        facts = [fact for fact in facts if fact.period.days == longest]
    return _agreed(term.concept, facts) if facts else None


def _agreed(concept: str, facts: list[Fact]) -> Fact:
    """Returns the most exact of several facts that agree within their rounding."""
    best = max(facts, key=lambda fact: (_digits(fact), -fact.start))
    for fact in facts:
        # each is right to half a unit of its last decimal (XBRL 2.1, 4.6)
        places = min(_digits(fact), _digits(best))
        tolerance = Decimal(0) if places == _EXACT else Decimal(1).scaleb(-places) / 2
        if fact.unit != best.unit:
            raise ValueError(f"{concept} is told in {best.unit} and in {fact.unit}")
        if abs(_number(fact) - _number(best)) > tolerance:
            raise ValueError(f"{concept} is told differently on lines {best.line} and {fact.line}")
    return best


_EXACT = 99  # decimals of a fact that is exact, or does not say


def _digits(fact: Fact) -> int:
    return _EXACT if fact.decimals is None else fact.decimals


def _number(fact: Fact) -> Decimal:
    return fact.value if isinstance(fact.value, Decimal) else Decimal(0)


def _formula(terms: Iterable[Term]) -> str:
    text = ""
    for term in terms:
        sign = " - " if term.sign < 0 else " + "
        text += f"{sign if text else ('-' if term.sign < 0 else '')}{term.concept}"
    return text


def _notes(table: FactTable, values: Mapping[str, StatementValue]) -> Iterable[str]:
    assets = values.get("assets_total")
    if assets is not None:
        for fact in table.of("us-gaap:LiabilitiesAndStockholdersEquity", whole_company=True):
            told = isinstance(fact.value, Decimal) and fact.period == assets.period
            if told and fact.value != assets.value:
                yield "total assets differ from total liabilities and equity as tagged"
    starts = {value.period.start_date for value in values.values() if value.period.start_date}
    if len(starts) > 1:
        yield "not all flows are of the same period: see the period of each"
