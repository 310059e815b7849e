"""Statement lines are found by meaning, each with the concepts and facts that supplied it."""

from __future__ import annotations

import gzip
import tarfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from common.errors import DocumentError
from kits.finance.disclosures.fact_table import Fact, FactTable, Period
from kits.finance.disclosures.facts import read_facts
from kits.finance.disclosures.statement_concepts import LINES
from kits.finance.disclosures.statements import statement_values

# printed by tests/reference/filing_facts.py (lxml for pages, edgartools for instances), millions
FROM_REFERENCE = {
    "Apple.10-K.html": ("2024-09-28", 364980, 308030, 56950, -19154, 391035, 123216, 93736, 118254),
    "Nvidia.10-K.html": ("2023-01-29", 41182, 19081, 22101, 10171, 26974, 4224, 4368, 5641),
    "tsla-20240630_htm.xml": ("2024-06-30", 112832, 45569, None, 30489, 46801, 2776, 2607, 3854),
    "unp-20121231.xml": ("2012-12-31", 47153, 27276, 19877, 22271, 20926, 6745, 3943, 6161),
}  # fmt: skip
NAMES = (
    "assets_total", "liabilities_total", "equity_total", "retained_earnings", "revenue",
    "operating_income", "net_income", "operating_cash_flow",
)  # fmt: skip
YEAR_END = date(2023, 12, 31)


def opened(folder: Path, name: str, scratch: Path) -> FactTable:
    path = scratch / name
    if (folder / f"{name}.gz").exists():
        path.write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    else:
        with tarfile.open(folder / "edgartools_xbrl_tsla_unp.tar.gz") as archive:
            member = next(m for m in archive if m.name.endswith(f"/{name}"))
            packed = archive.extractfile(member)
            assert packed is not None
            path.write_bytes(packed.read())
    return read_facts(path)


@pytest.mark.parametrize("name", sorted(FROM_REFERENCE))
def test_real_statements_are_what_other_readers_find(
    tandem_data: Path, tmp_path: Path, name: str
) -> None:
    """Each value is where its fact points; Tesla's equity here holds minorities too."""
    facts = opened(tandem_data / "finance" / "filings_samples", name, tmp_path)
    values = statement_values(facts)
    day, *millions = FROM_REFERENCE[name]
    assert values.balance_date.isoformat() == day
    assert not values.withheld
    for line, expected in zip(NAMES, millions, strict=True):
        if expected is not None:
            assert values[line].value == Decimal(expected) * 10**6
            assert values[line].facts[0].period.end_date == values.balance_date


def test_liabilities_that_are_not_tagged_are_derived_with_their_formula(
    tandem_data: Path, tmp_path: Path
) -> None:
    """Oracle tags no total of liabilities: 144,214 less equity of 11,269 with minorities."""
    facts = opened(tandem_data / "finance" / "filings_samples", "Oracle.10-Q.html", tmp_path)
    liabilities = statement_values(facts)["liabilities_total"]
    assert liabilities.value == Decimal(144214 - 11269) * 10**6
    assert liabilities.formula.startswith("us-gaap:LiabilitiesAndStockholdersEquity - us-gaap:")
    assert len(liabilities.facts) == 2


def fact(concept: str, value: int, *, start: date | None = None, **changed: object) -> Fact:
    told: dict[str, object] = {
        "unit": "USD", "dimensions": (), "decimals": None, "entity": "1", "start": 0, "end": 1,
        "line": 1, "period": Period(start, YEAR_END),
    }  # fmt: skip
    return Fact(concept=f"us-gaap:{concept}", value=Decimal(value), **(told | changed))  # type: ignore[arg-type]


def made(*facts: Fact) -> FactTable:
    return FactTable((fact("Assets", 100), *facts), (), "x", "0" * 64, "instance")


def test_the_longest_period_up_to_a_year_supplies_a_flow() -> None:
    """Not the quarter, and not the sum of three years."""
    quarter, year, three = date(2023, 10, 1), date(2023, 1, 1), date(2021, 1, 1)
    flows = [fact("Revenues", n, start=day) for n, day in ((1, quarter), (4, year), (9, three))]
    revenue = statement_values(made(*flows))["revenue"]
    assert (revenue.value, revenue.period.days) == (4, 365)


def test_duplicates_that_agree_within_their_rounding_are_one() -> None:
    """The more exact is taken; those that contradict each other withhold the line."""
    rounded, exact = fact("Liabilities", 2000, decimals=-3), fact("Liabilities", 1600, decimals=0)
    assert statement_values(made(rounded, exact))["liabilities_total"].value == 1600
    values = statement_values(made(rounded, fact("Liabilities", 1400, decimals=0)))
    assert "liabilities_total" not in values.values
    assert "told differently" in values.withheld["liabilities_total"]
    other = statement_values(made(rounded, fact("Liabilities", 2000, decimals=-3, unit="EUR")))
    assert "EUR" in other.withheld["liabilities_total"]


def test_parts_of_the_company_are_never_taken_for_it() -> None:
    """A fact with dimensions speaks of a segment."""
    segment = fact("Liabilities", 5, dimensions=(("srt:SegmentAxis", "co:NorthMember"),))
    assert "liabilities_total" not in statement_values(made(segment)).values


def test_sides_of_the_balance_sheet_that_differ_are_noted() -> None:
    """As tagged; nothing is corrected."""
    assert statement_values(made(fact("LiabilitiesAndStockholdersEquity", 99))).notes
    assert not statement_values(made(fact("LiabilitiesAndStockholdersEquity", 100))).notes


def test_facts_without_a_balance_sheet_are_refused() -> None:
    """An 8-K's cover page has facts, and no statements."""
    table = FactTable((fact("Revenues", 1),), (), "x", "0" * 64, "inline")
    with pytest.raises(DocumentError, match="total of assets"):
        statement_values(table)


def test_every_line_has_ways_that_need_at_least_one_concept() -> None:
    """So that no line is ever made of nothing."""
    assert all(any(term.needed for term in way) for line in LINES.values() for way in line.ways)
