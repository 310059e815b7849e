"""A portfolio's results as one HTML page: figures, distribution, failures, a sortable table.

The page works from a folder without a network; its one script sorts the table and is
inside. Without scripts the table stands sorted by score.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from kits.finance.reporting.distribution import draw_distribution
from kits.finance.reporting.page import render_page
from kits.finance.reporting.tables import CompanyRow, PortfolioTable, company_record

__all__ = ["Cell", "render_dashboard"]

_BAR_REM = 4.0  # of a score of 100
_COLUMNS = (
    ("Ticker", False),
    ("Form", False),
    ("As of", False),
    ("Currency", False),
    ("Weight", True),
    ("Score", True),
    ("Prices alone", True),
    ("VaR", True),
    ("ES", True),
    ("ES part", True),
    ("Text %ile", True),
    ("Strongest reason", False),
)


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Args:
        text: What it shows.
        key: What its column is sorted by; "" for a number that is not there, None for texts.
        link: Where it leads, or "".
        bar: Length of a bar before the text in rem, or None.
    """

    text: str
    key: str | None = None
    link: str = ""
    bar: float | None = None


@dataclass(frozen=True)
class _Column:
    title: str
    numeric: bool


def render_dashboard(table: PortfolioTable) -> str:
    """Returns the page, companies with the highest score first. Equal tables, equal pages."""
    scores = [row.score for row in table.rows if row.score is not None]
    ordered = sorted(table.assessed, key=lambda row: (-_or(row.score, -1.0), row.line))
    events = {row.assessment.event_definition for row in ordered if row.assessment is not None}
    return render_page(
        "dashboard.html.j2",
        s=table.summary,
        level=None if table.risk is None else table.risk.level,
        event=events.pop() if len(events) == 1 else "",
        distribution=draw_distribution(scores),
        failures=table.failed,
        columns=[_Column(title, numeric) for title, numeric in _COLUMNS],
        rows=[_cells(row, table) for row in ordered],
        notes=table.notes,
    )


def _cells(row: CompanyRow, table: PortfolioTable) -> list[Cell]:
    one = row.assessment
    if one is None:
        return []
    tail = None if one.market is None else one.market.tail
    part = company_record(row, table.risk)["component_es"]
    alone = one.event_probability_prices_only
    strongest = max(one.reasons, key=lambda reason: abs(reason.contribution), default=None)
    effect = 0.0 if strongest is None else strongest.contribution
    return [
        Cell(row.ticker, link=quote(row.report)),
        Cell(one.form),
        Cell("–" if one.as_of is None else one.as_of.isoformat()),
        Cell(row.currency or "–"),
        _number(row.weight, 100, "%.2f%%"),
        _number(one.score, 1, "%.1f", bar=True),
        _number(alone, 100, "%.1f"),
        _number(None if tail is None else tail.value_at_risk, 100, "%.2f%%"),
        _number(None if tail is None else tail.expected_shortfall, 100, "%.2f%%"),
        _number(part, 100, "%.3f%%"),
        _number(one.text.percentile, 1, "%.0f"),
        Cell(f"{strongest.code} {effect:+.2f}" if strongest and effect else "–"),
    ]


def _number(value: float | None, scale: float, form: str, *, bar: bool = False) -> Cell:
    if value is None:
        return Cell("–", key="")
    length = round(_BAR_REM * value / 100, 2) if bar else None
    return Cell(form % (scale * value), key=repr(float(value)), bar=length)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
