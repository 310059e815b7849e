"""A portfolio's results as a table: one row a company, as JSON and as Parquet.

Equal results give equal bytes: rows keep the portfolio's order, columns are fixed but for
one a reason code (`log_odds_CODE`, in alphabetical order), and no time enters.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kits.finance.risk.score import RiskAssessment

if TYPE_CHECKING:
    from kits.finance.risk.aggregation import PortfolioTailRisk

__all__ = [
    "CompanyRow",
    "PortfolioTable",
    "company_record",
    "contribution_of",
    "portfolio_json",
    "portfolio_parquet",
    "reason_codes",
]

_TEXT, _NUMBER, _COUNT = "text", "number", "count"
_FIELDS: Mapping[str, str] = {
    "line": _COUNT,
    "ticker": _TEXT,
    "status": _TEXT,
    "failure": _TEXT,
    "form": _TEXT,
    "as_of": _TEXT,
    "currency": _TEXT,
    "weight": _NUMBER,
    "score": _NUMBER,
    "event_probability": _NUMBER,
    "event_probability_prices_only": _NUMBER,
    "baseline_log_odds": _NUMBER,
    "volatility_prices_only": _NUMBER,
    "volatility_linked": _NUMBER,
    "var_level": _NUMBER,
    "value_at_risk": _NUMBER,
    "expected_shortfall": _NUMBER,
    "component_var": _NUMBER,
    "component_es": _NUMBER,
    "text_signal": _NUMBER,
    "text_percentile": _NUMBER,
    "n_sentences": _COUNT,
    "document_digest": _TEXT,
    "prices_digest": _TEXT,
    "report": _TEXT,
}
"""Column -> kind. Probabilities, volatilities, VaR and ES are decimals; score is 0 to 100.

`component_var` and `component_es` are parts of the whole portfolio's, which they add up to.
"""


@dataclass(frozen=True)
class CompanyRow:
    """What became of one line of the portfolio.

    Args:
        line: Its line in the portfolio's file.
        ticker: The share.
        weight: Its share of the portfolio.
        currency: Of its prices, as the file states it, or "".
        assessment: The assessment, or None where there is none.
        failure: Why there is none, or "".
        report: Where its report lies, relative to the results' folder, or "".
    """

    line: int
    ticker: str
    weight: float
    currency: str = ""
    assessment: RiskAssessment | None = None
    failure: str = ""
    report: str = ""

    @property
    def score(self) -> float | None:
        """0 to 100, or None without an assessment or without prices."""
        return None if self.assessment is None else self.assessment.score


@dataclass(frozen=True)
class PortfolioTable:
    """Every line of a portfolio, in its order.

    Args:
        rows: One for each line.
        notes: What a reader of the whole should know: currencies, dates, what is left out.
        risk: VaR and ES of the companies together; None where their prices do not allow it.
    """

    rows: tuple[CompanyRow, ...]
    notes: tuple[str, ...] = ()
    risk: PortfolioTailRisk | None = None
    summary: Mapping[str, float | int | None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "summary", {**_summary(self.rows), **_together(self.risk)})

    @property
    def assessed(self) -> tuple[CompanyRow, ...]:
        """The rows with an assessment."""
        return tuple(row for row in self.rows if row.assessment is not None)

    @property
    def failed(self) -> tuple[CompanyRow, ...]:
        """The rows without one."""
        return tuple(row for row in self.rows if row.assessment is None)


def company_record(row: CompanyRow, risk: PortfolioTailRisk | None = None) -> dict[str, Any]:
    """Returns one row's figures by column; None where there is none.

    Args:
        row: The company.
        risk: Of the portfolio that it is part of.
    """
    record: dict[str, Any] = dict.fromkeys(_FIELDS)
    record |= {"line": row.line, "ticker": row.ticker, "weight": row.weight}
    record |= {"currency": row.currency, "failure": row.failure, "report": row.report}
    record["status"] = "failed" if row.assessment is None else "assessed"
    one = row.assessment
    if one is None:
        return record
    for name in (
        "form",
        "score",
        "event_probability",
        "event_probability_prices_only",
        "baseline_log_odds",
        "volatility_prices_only",
        "volatility_linked",
        "document_digest",
    ):
        record[name] = getattr(one, name)
    record |= {
        "as_of": None if one.as_of is None else one.as_of.isoformat(),
        "text_signal": one.text.value,
        "text_percentile": one.text.percentile,
        "n_sentences": one.text.n_sentences,
    }
    if one.market is not None:
        tail = one.market.tail
        record |= {
            "var_level": tail.level,
            "value_at_risk": tail.value_at_risk,
            "expected_shortfall": tail.expected_shortfall,
            "prices_digest": one.market.history.digest,
        }
    for position in () if risk is None else risk.positions:
        if position.ticker == row.ticker and one.market is not None:
            record["component_var"] = position.component_var
            record["component_es"] = position.component_es
    return record


def reason_codes(rows: Iterable[CompanyRow]) -> tuple[str, ...]:
    """Returns the codes of all reasons that some row has, in alphabetical order."""
    return tuple(
        sorted(
            {r.code for row in rows if row.assessment is not None for r in row.assessment.reasons}
        )
    )


def portfolio_json(table: PortfolioTable, *, run: Mapping[str, Any]) -> str:
    """Returns the whole as JSON text: summary, notes, one record a company with its reasons.

    Args:
        table: The results.
        run: What differs from run to run: time and duration.
    """
    companies = []
    for row in table.rows:
        reasons = () if row.assessment is None else row.assessment.reasons
        companies.append(
            {
                **company_record(row, table.risk),
                "reasons": [
                    {"code": r.code, "statement": r.statement, "contribution": r.contribution}
                    for r in reasons
                ],
                "notes": [] if row.assessment is None else list(row.assessment.notes),
            }
        )
    written = {
        "summary": dict(table.summary),
        "notes": list(table.notes),
        "companies": companies,
        "run": dict(run),
    }
    return json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def portfolio_parquet(table: PortfolioTable) -> bytes:
    """Returns the whole as a Parquet file: one row a company, failed ones included."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {_TEXT: pa.string(), _NUMBER: pa.float64(), _COUNT: pa.int64()}
    records = [company_record(row, table.risk) for row in table.rows]
    columns = {
        name: pa.array([record[name] for record in records], types[kind])
        for name, kind in _FIELDS.items()
    }
    for code in reason_codes(table.rows):
        columns[f"log_odds_{code}"] = pa.array(
            [contribution_of(row, code) for row in table.rows], pa.float64()
        )
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def contribution_of(row: CompanyRow, code: str) -> float | None:
    """Returns what a row's reasons of `code` add to the log-odds, or None without any."""
    if row.assessment is None:
        return None
    parts = [reason.contribution for reason in row.assessment.reasons if reason.code == code]
    return math.fsum(parts) if parts else None


def _together(risk: PortfolioTailRisk | None) -> dict[str, float | int | None]:
    """Returns the figures of the whole, as shares of its scored part."""
    return {
        "value_at_risk": None if risk is None else risk.value_at_risk,
        "expected_shortfall": None if risk is None else risk.expected_shortfall,
        "diversification": None if risk is None else risk.diversification,
        "n_scenarios": None if risk is None else risk.n_scenarios,
    }


def _summary(rows: Sequence[CompanyRow]) -> dict[str, float | int | None]:
    """Returns the portfolio's figures; means are over the rows that have the figure.

    `weight_scored` says how much of the portfolio the weighted figures speak for.
    `value_at_risk_sum` is the sum of weight times VaR over that part, scaled to the whole:
    the loss if every share lost its own VaR on one day. It counts no diversification.
    """
    scored = [(row.weight, row.assessment) for row in rows if row.score is not None]
    covered = math.fsum(weight for weight, _ in scored)
    means: dict[str, float | None] = dict.fromkeys(
        ("mean_score", "value_at_risk_sum", "expected_shortfall_sum", "expected_events")
    )
    if covered > 0:
        found = [(w, a, a.market) for w, a in scored if a is not None and a.market is not None]
        means = {
            "mean_score": math.fsum(w * (a.score or 0.0) for w, a, _ in found) / covered,
            "value_at_risk_sum": math.fsum(w * m.tail.value_at_risk for w, _, m in found) / covered,
            "expected_shortfall_sum": math.fsum(w * m.tail.expected_shortfall for w, _, m in found)
            / covered,
            "expected_events": math.fsum(a.event_probability or 0.0 for _, a, _ in found),
        }
    n_assessed = sum(row.assessment is not None for row in rows)
    return {
        "n_companies": len(rows),
        "n_assessed": n_assessed,
        "n_failed": len(rows) - n_assessed,
        "n_scored": len(scored),
        "weight_scored": covered,
        **means,
    }
