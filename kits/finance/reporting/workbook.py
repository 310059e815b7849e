"""A portfolio's results as an Office Open XML workbook (ISO/IEC 29500).

Every text cell is written as text and quoted (`quotePrefix`), so that what a document or a
file name says is never run as a formula: not on opening, not after an edit. Equal results
give equal bytes: the file carries no time.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kits.finance.reporting.tables import (
    PortfolioTable,
    company_record,
    contribution_of,
    reason_codes,
)

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

__all__ = ["FORMULA_STARTS", "portfolio_workbook"]

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters that a spreadsheet may take for a formula (OWASP, CSV injection)."""

_LONGEST_CELL = 32_767  # characters (Excel's limit)
_WIDEST_COLUMN = 60
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_EPOCH = datetime(1980, 1, 1)  # noqa: DTZ001  # OPC's core properties are written without a zone
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FORMATS = {
    "weight": "0.00%",
    "score": "0.0",
    "event_probability": "0.00%",
    "event_probability_prices_only": "0.00%",
    "baseline_log_odds": "0.000",
    "volatility_prices_only": "0.00%",
    "volatility_linked": "0.00%",
    "var_level": "0.0%",
    "value_at_risk": "0.00%",
    "expected_shortfall": "0.00%",
    "component_var": "0.000%",
    "component_es": "0.000%",
    "diversification": "0.0%",
    "text_signal": "0.0000",
    "text_percentile": "0",
    "contribution": "0.000",
    "mean_score": "0.0",
    "value_at_risk_sum": "0.00%",
    "expected_shortfall_sum": "0.00%",
    "expected_events": "0.0",
    "weight_scored": "0.00%",
}
_REASON_COLUMNS = ("line", "ticker", "code", "statement", "contribution")
_EVIDENCE_COLUMNS = (
    *("line", "ticker", "section", "sentence", "start", "end"),
    *("source_start", "source_end", "contribution"),
)


def portfolio_workbook(table: PortfolioTable) -> bytes:
    """Returns the workbook: summary, companies, reasons, evidence, failures, notes.

    Control characters, which XML cannot hold, become U+FFFD; a text longer than a cell
    takes is cut and ends in an ellipsis.
    """
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.worksheets[0])
    summary = [{"figure": name, "value": value} for name, value in table.summary.items()]
    sheet = _add(book, "Summary", ("figure", "value"), summary)
    for row, one in enumerate(summary, start=2):
        sheet.cell(row, 2).number_format = _FORMATS.get(str(one["figure"]), "General")
    _add(book, "Companies", *_companies(table))
    _add(book, "Reasons", _REASON_COLUMNS, _reasons(table))
    _add(book, "Evidence", _EVIDENCE_COLUMNS, _evidence(table))
    failures = [{"line": f.line, "ticker": f.ticker, "failure": f.failure} for f in table.failed]
    _add(book, "Failures", ("line", "ticker", "failure"), failures)
    _add(book, "Notes", ("note",), [{"note": note} for note in table.notes])
    return _timeless(book)


def _companies(table: PortfolioTable) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    codes = reason_codes(table.rows)
    records = []
    for row in table.rows:
        record = company_record(row, table.risk)
        record |= {f"log_odds_{code}": contribution_of(row, code) for code in codes}
        records.append(record)
    names = tuple(records[0]) if records else ("line", "ticker")
    return names, records


def _reasons(table: PortfolioTable) -> Iterable[dict[str, Any]]:
    for row in table.assessed:
        for reason in row.assessment.reasons if row.assessment else ():
            yield {
                "line": row.line,
                "ticker": row.ticker,
                "code": reason.code,
                "statement": reason.statement,
                "contribution": reason.contribution,
            }


def _evidence(table: PortfolioTable) -> Iterable[dict[str, Any]]:
    for row in table.assessed:
        for one in row.assessment.text.evidence if row.assessment else ():
            yield {
                "line": row.line,
                "ticker": row.ticker,
                **{name: getattr(one, name) for name in _EVIDENCE_COLUMNS[2:]},
            }


def _add(
    book: Workbook, title: str, names: Sequence[str], records: Iterable[dict[str, Any]]
) -> Worksheet:
    """Adds one sheet: bold header that stays in view, a filter, columns as wide as needed."""
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils import get_column_letter

    sheet = book.create_sheet(title)
    widths = [len(name) + 4 for name in names]  # room for the filter's button
    for column, name in enumerate(names, start=1):
        _write(sheet, 1, column, name)
        sheet.cell(1, column).font = Font(bold=True)
    n_rows = 1
    for n_rows, record in enumerate(records, start=2):
        for column, name in enumerate(names, start=1):
            value = record[name]
            _write(sheet, n_rows, column, value)
            cell = sheet.cell(n_rows, column)
            cell.number_format = _format_of(name)
            cell.alignment = Alignment(vertical="top", wrap_text=isinstance(value, str))
            if isinstance(value, str):
                widths[column - 1] = max(widths[column - 1], min(len(value) + 2, _WIDEST_COLUMN))
    for column, width in enumerate(widths, start=1):
        sheet.column_dimensions[get_column_letter(column)].width = width
    sheet.freeze_panes = "A2"
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(names))}{n_rows}"
    return sheet


def _format_of(name: str) -> str:
    return "0.000" if name.startswith("log_odds_") else _FORMATS.get(name, "General")


def _write(sheet: Worksheet, row: int, column: int, value: Any) -> None:
    cell = sheet.cell(row, column)
    if not isinstance(value, str):
        cell.value = value
        return
    text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if len(text) > _LONGEST_CELL:
        text = text[: _LONGEST_CELL - 1] + "\N{HORIZONTAL ELLIPSIS}"
    cell.value = text
    cell.data_type = "s"  # openpyxl takes a leading "=" for a formula
    cell.quotePrefix = text.startswith(FORMULA_STARTS)


def _timeless(book: Workbook) -> bytes:
    """Returns the file with fixed dates, in its properties and in its ZIP directory."""
    from openpyxl.writer.excel import ExcelWriter

    book.properties.creator = "Tandem"
    book.properties.created = book.properties.modified = _EPOCH
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        ExcelWriter(book, archive).write_data()
    fixed = io.BytesIO()
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(fixed, "w") as target:
        for name in source.namelist():
            entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(name))
    return fixed.getvalue()
