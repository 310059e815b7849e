"""Assesses a portfolio: each company as `pipeline.assess` does, then the whole as tables.

One company that cannot be assessed is listed with its reason; the others go on. Where the
prices allow it, VaR and ES of the companies together are added, with each one's part.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import (
    AdapterError,
    BackboneError,
    DeadlineError,
    InputError,
    MissingExtraError,
    StoreError,
    TandemError,
)
from common.request import check_wanted
from common.routing.cache import ResultCache
from kits.finance.governance.arithmetic import repeatable_arithmetic
from kits.finance.holdings import Holding
from kits.finance.pipeline import assess
from kits.finance.reporting.tables import (
    CompanyRow,
    PortfolioTable,
    portfolio_json,
    portfolio_parquet,
)
from kits.finance.tasks import open_router

if TYPE_CHECKING:
    from common.routing.router import ModelRouter
    from kits.finance.markets.prices import PriceTable

__all__ = ["RESULT_FILES", "assess_portfolio"]

RESULT_FILES = ("dashboard.html", "portfolio.json", "portfolio.parquet", "portfolio.xlsx")
"""What a run writes beside the folder `companies`."""

_COMPANIES = "companies"
# These tell of the installation or of the caller's patience, not of one company.
_ENDING = (AdapterError, BackboneError, DeadlineError, ImportError, MissingExtraError, StoreError)

Progress = Callable[[int, int], None]


def assess_portfolio(
    holdings: Sequence[Holding],
    *,
    out: Path,
    router: ModelRouter | None = None,
    progress: Progress | None = None,
) -> PortfolioTable:
    """Assesses every holding and writes the results to `out`, all or nothing.

    Writes `dashboard.html`, `portfolio.json`, `portfolio.parquet`, `portfolio.xlsx` and for
    each company `companies/LINE-TICKER/` with `report.html` and `assessment.json`. Equal
    input gives equal bytes, the `run` blocks of the JSON files apart.

    Args:
        holdings: The companies, as `kits.finance.holdings` reads them.
        out: A folder that is new, empty, or holds the results of an earlier portfolio, which
            these replace.
        router: Models for text; by default those of `kits.finance.tasks`, with the cache of
            TANDEM_HOME.
        progress: Called with how many companies are done and how many there are.

    Raises:
        InputError: `out` holds something else; nothing is written.
        DeadlineError: The request that this runs for is over; nothing is written.
    """
    started = time.monotonic()
    _require_room(out)
    routes = router or open_router(cache=ResultCache.from_settings())
    tell = progress or (lambda _done, _total: None)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".tandem-") as folder:
        built = Path(folder)
        rows, prices = [], _PriceFiles()
        for done, holding in enumerate(holdings):
            check_wanted()
            tell(done, len(holdings))
            rows.append(_row(holding, built, routes, prices))
        tell(len(holdings), len(holdings))
        table = _table(rows)
        _write_tables(built, table, duration_s=time.monotonic() - started)
        _move(built, out)
    return table


class _PriceFiles:
    """Price files, each read once however many companies name it."""

    def __init__(self) -> None:
        self._tables: dict[Path, PriceTable | TandemError] = {}

    def table(self, path: Path) -> PriceTable:
        """Returns the file's table.

        Raises:
            InputError: The file cannot be used; the same for everyone who asks.
        """
        from kits.finance.markets.prices import read_prices

        if path not in self._tables:
            try:
                self._tables[path] = read_prices(path)
            except InputError as error:
                self._tables[path] = error
        found = self._tables[path]
        if isinstance(found, TandemError):
            raise found
        return found


def _row(holding: Holding, built: Path, router: ModelRouter, prices: _PriceFiles) -> CompanyRow:
    """Assesses one company; whatever is wrong with it becomes its reason."""
    place = f"{_COMPANIES}/{holding.line:04d}-{re.sub('[^A-Z0-9.-]', '_', holding.ticker)}"
    failure = ""
    assessment = None
    try:
        assessment = assess(
            holding.document,
            ticker=holding.ticker,
            out=built / place,
            prices=holding.prices,
            price_table=None if holding.prices is None else prices.table(holding.prices),
            as_of=holding.as_of,
            router=router,
            progress=lambda _: check_wanted(),
        )
    except _ENDING:
        raise
    except TandemError as error:
        failure = str(error)
    except Exception as error:  # noqa: BLE001  # a fault of one company must not stop the rest
        failure = f"not foreseen: {type(error).__name__}. Report this with the document's form."
    return CompanyRow(
        line=holding.line,
        ticker=holding.ticker,
        weight=holding.weight,
        currency=holding.currency,
        assessment=assessment,
        failure=failure,
        report=f"{place}/report.html" if assessment is not None else "",
    )


def _table(rows: Sequence[CompanyRow]) -> PortfolioTable:
    from kits.finance.reporting.portfolio_risk import aggregate_risk

    with repeatable_arithmetic():
        risk, reason = aggregate_risk(rows)
    told = (reason,) if risk is None else (f"VaR and ES together: {risk.method}.", *risk.notes)
    return PortfolioTable(tuple(rows), notes=(*_notes(rows), *told), risk=risk)


def _notes(rows: Sequence[CompanyRow]) -> tuple[str, ...]:
    notes = []
    currencies = Counter(row.currency or "not stated" for row in rows)
    if len(currencies) > 1:
        counts = ", ".join(f"{name} {n}" for name, n in sorted(currencies.items()))
        notes.append(
            f"Prices are in several currencies ({counts}). Nothing is converted: returns, VaR "
            "and ES of each company are in the currency of its own prices."
        )
    days = sorted({r.assessment.as_of for r in rows if r.assessment and r.assessment.as_of})
    if len(days) > 1:
        notes.append(
            f"Companies are assessed as of {len(days)} different days, from {days[0]} to "
            f"{days[-1]}; weighted figures mix them."
        )
    without = sum(row.assessment is not None and row.score is None for row in rows)
    if without:
        notes.append(f"{without} assessed without prices: they have no score and no VaR.")
    failed = sum(row.assessment is None for row in rows)
    if failed:
        notes.append(f"{failed} could not be assessed; weighted figures leave them out.")
    notes.append(
        "Sums of VaR and ES over companies count no diversification; they are not the VaR of "
        "the portfolio."
    )
    return tuple(notes)


def _write_tables(built: Path, table: PortfolioTable, *, duration_s: float) -> None:
    from kits.finance.reporting.dashboard import render_dashboard
    from kits.finance.reporting.workbook import portfolio_workbook

    run = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": round(duration_s, 3),
    }
    (built / "dashboard.html").write_text(render_dashboard(table), encoding="utf-8")
    (built / "portfolio.json").write_text(portfolio_json(table, run=run), encoding="utf-8")
    (built / "portfolio.parquet").write_bytes(portfolio_parquet(table))
    (built / "portfolio.xlsx").write_bytes(portfolio_workbook(table))


def _require_room(out: Path) -> None:
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else {"a file"}
    if names and not ("portfolio.json" in names and names <= {*RESULT_FILES, _COMPANIES}):
        raise InputError(
            "output folder",
            expected="a folder that is new, empty, or of an earlier portfolio alone",
            found="a file" if out.is_file() else "a folder with other files",
            remedy="Name another folder.",
        )


def _move(built: Path, out: Path) -> None:
    """Puts the results where an earlier run's may lie; each file is replaced whole."""
    out.mkdir(exist_ok=True)
    if (out / _COMPANIES).exists():
        shutil.rmtree(out / _COMPANIES)
    if (built / _COMPANIES).exists():
        (built / _COMPANIES).replace(out / _COMPANIES)
    for name in RESULT_FILES:
        (built / name).replace(out / name)
