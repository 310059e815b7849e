"""The companies of a portfolio as a CSV file names them: one line each, checked once.

| column | needed | meaning |
|---|---|---|
| `ticker` | yes | the share's name in the price file |
| `document` | yes | a disclosure: a path, relative ones from the CSV's folder |
| `prices` | no | daily prices, CSV or Parquet; left empty, the text stands alone |
| `weight` | no | positive, on all lines or none; shares are weights over their sum |
| `as_of` | no | YYYY-MM-DD; nothing later is used; left empty, the last day with a price |
| `currency` | no | ISO 4217 code of the prices; stated in the results, nothing is converted |

Every fault of the file is told at once, by line. Whether documents and prices can be used
shows when their company is assessed; one that cannot be does not stop the others.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from common.errors import MissingInputError, TableError

__all__ = [
    "COLUMNS",
    "MOST_HOLDINGS",
    "TICKER_PATTERN",
    "Holding",
    "holdings_of",
    "read_holdings",
]

COLUMNS = ("ticker", "document", "prices", "weight", "as_of", "currency")
MOST_HOLDINGS = 5_000
"""Lines beyond which a file is taken for something else."""

_NEEDED = ("ticker", "document")
TICKER_PATTERN = r"[A-Za-z0-9^][A-Za-z0-9.^_/-]{0,23}"
"""What a ticker looks like: at most 24 characters, none that begins a formula."""

_TICKER = re.compile(TICKER_PATTERN)
_CURRENCY = re.compile(r"[A-Z]{3}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SHOWN_FAULTS = 30
_WORDS = {
    "ticker": "a ticker of letters, digits and . ^ _ / -",
    "document": "a file",
    "prices": "a file",
    "weight": "a positive number",
    "as_of": "a day as YYYY-MM-DD",
    "currency": "three capital letters (ISO 4217)",
}

Locate = Callable[[str], Path | None]


@dataclass(frozen=True)
class Holding:
    """One company of a portfolio.

    Args:
        line: Its line in the CSV file, the header being line 1.
        ticker: In upper case.
        document: Where its disclosure lies.
        prices: Where its prices lie, or None.
        weight: Its share of the portfolio; the shares of a file add up to 1.
        as_of: Nothing later than this day is used; None takes the last day with a price.
        currency: ISO 4217 code of the prices, or "" where the file names none.
    """

    line: int
    ticker: str
    document: Path
    prices: Path | None
    weight: float
    as_of: date | None = None
    currency: str = ""


def read_holdings(path: Path) -> tuple[Holding, ...]:
    """Returns the holdings of a CSV file (comma-separated UTF-8), in its order.

    Raises:
        MissingInputError: There is no such file.
        TableError: The file is faulty; all faults are listed by line.
    """
    if not path.is_file():
        raise MissingInputError(
            "portfolio",
            expected="a CSV file",
            found="no file of that name",
            remedy="Check the path given for the portfolio.",
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _faulty(["bytes that are no UTF-8"]) from None
    return holdings_of(text, locate=lambda name: path.parent / name)


def holdings_of(text: str, *, locate: Locate) -> tuple[Holding, ...]:
    """Returns the holdings in the text of a CSV file, in its order.

    Args:
        text: Header line and one line for each company.
        locate: Where a named file lies; None refuses the name.

    Raises:
        TableError: The text is faulty; all faults are listed by line.
    """
    rows, faults = _rows_of(text)
    holdings = []
    for line, row in rows:
        found = _faults_of(row, locate)
        faults += [f"line {line}: {fault}" for fault in found]
        if not found:
            holdings.append(_holding(line, row, locate))
    faults += _faults_between(rows)
    if faults:
        raise _faulty(faults)
    total = math.fsum(one.weight for one in holdings)
    return tuple(replace(one, weight=one.weight / total) for one in holdings)


def _rows_of(text: str) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Returns the lines by column name, blank lines left out, and the faults of their form."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    faults: list[str] = []
    names: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        faults += _header_faults(names)
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(names):
                faults.append(f"line {reader.line_num}: {len(fields)} fields, not {len(names)}")
                continue
            values = [field.strip() for field in fields]
            rows.append((reader.line_num, dict(zip(names, values, strict=True))))
    except csv.Error:
        faults.append(f"line {reader.line_num}: quotes that do not close, or a NUL")
    if faults and _header_faults(names):
        return [], faults
    if not rows and not faults:
        faults.append("no line with a company")
    if len(rows) > MOST_HOLDINGS:
        return [], [f"{len(rows)} lines, more than {MOST_HOLDINGS}"]
    return rows, faults


def _header_faults(names: Sequence[str]) -> list[str]:
    faults = [f"no column {name}" for name in _NEEDED if name not in names]
    faults += [f"two columns {name}" for name in COLUMNS if names.count(name) > 1]
    unknown = sum(name not in COLUMNS for name in names)
    if unknown:
        faults.append(f"{unknown} {'column' if unknown == 1 else 'columns'} of another name")
    return faults


def _faults_of(row: Mapping[str, str], locate: Locate) -> list[str]:
    """Returns what is wrong with one line; never its values."""
    checks: dict[str, Callable[[str], bool]] = {
        "ticker": lambda value: _TICKER.fullmatch(value) is not None,
        "document": lambda value: _is_file_name(value, locate),
        "prices": lambda value: not value or _is_file_name(value, locate),
        "weight": lambda value: not value or _is_weight(value),
        "as_of": lambda value: not value or _is_day(value),
        "currency": lambda value: not value or _CURRENCY.fullmatch(value) is not None,
    }
    return [
        f"{name} is not {_WORDS[name]}"
        for name, is_good in checks.items()
        if not is_good(row.get(name, ""))
    ]


def _is_file_name(value: str, locate: Locate) -> bool:
    return bool(value) and "\0" not in value and locate(value) is not None


def _is_weight(value: str) -> bool:
    try:
        weight = float(value)
    except ValueError:
        return False
    return 0 < weight < 1e15  # so that neither a sum nor a share overflows


def _is_day(value: str) -> bool:
    try:
        return _DAY.fullmatch(value) is not None and date.fromisoformat(value).year >= 1900
    except ValueError:
        return False


def _faults_between(rows: Sequence[tuple[int, Mapping[str, str]]]) -> list[str]:
    """Returns the faults that only show between lines: weights on some, a company twice."""
    faults = []
    weighted = sum(bool(row.get("weight")) for _, row in rows)
    if 0 < weighted < len(rows):
        faults.append(f"a weight on {weighted} of {len(rows)} lines: give all or none")
    seen: dict[tuple[str, str], int] = {}
    for line, row in rows:
        key = (row["ticker"].upper(), row["document"])
        if key in seen:
            faults.append(f"line {line}: the ticker and document of line {seen[key]}")
        seen.setdefault(key, line)
    return faults


def _holding(line: int, row: Mapping[str, str], locate: Locate) -> Holding:
    return Holding(
        line=line,
        ticker=row["ticker"].upper(),
        document=locate(row["document"]) or Path(),  # `_faults_of` has located it
        prices=locate(row["prices"]) if row.get("prices") else None,
        weight=float(row["weight"]) if row.get("weight") else 1.0,
        as_of=date.fromisoformat(row["as_of"]) if row.get("as_of") else None,
        currency=row.get("currency", ""),
    )


def _faulty(faults: Sequence[str]) -> TableError:
    more = len(faults) - _SHOWN_FAULTS
    shown = "; ".join(faults[:_SHOWN_FAULTS]) + (f"; and {more} more" if more > 0 else "")
    return TableError(
        "portfolio",
        expected="comma-separated UTF-8 text: a header with ticker and document, optionally "
        "prices, weight, as_of and currency, then one line a company",
        found=shown,
        remedy="Correct these lines; docs/finance.md lists the columns.",
    )
