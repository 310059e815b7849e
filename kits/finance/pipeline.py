"""Assesses one company: the only file that knows the order of the finance kit's steps."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import InputError
from common.routing.cache import ResultCache
from kits.finance.disclosures.filing import read_disclosure
from kits.finance.disclosures.language import LanguageReading, read_language
from kits.finance.risk.linkage import assess_text, link, read_linkage
from kits.finance.risk.score import MarketView, RiskAssessment
from kits.finance.tasks import LINKAGE_FILE, open_router, text_model_of

if TYPE_CHECKING:
    from common.routing.router import ModelRouter

__all__ = ["assess", "view_market"]

Progress = Callable[[str], None]


def assess(
    document: Path,
    *,
    ticker: str,
    out: Path,
    prices: Path | None = None,
    as_of: date | None = None,
    router: ModelRouter | None = None,
    progress: Progress | None = None,
) -> RiskAssessment:
    """Scores one company from a disclosure and, when given, its prices.

    Writes `report.html` and `assessment.json` to `out`, both or neither. Equal input gives
    equal JSON but for its `run` block.

    Args:
        document: A 10-K or 10-Q (HTML) or an earnings call (text).
        ticker: The company's ticker in the price table.
        out: Folder for the results; made when absent.
        prices: Daily prices, CSV or Parquet; without them only the text part is made.
        as_of: Nothing later than this day is used; by default the last day with a price.
        router: Models for text; by default those of `kits.finance.tasks`, with the cache of
            TANDEM_HOME.
        progress: Called with the name of each step as it begins.

    Raises:
        InputError: The document or the prices cannot be used; nothing is written.
    """
    started = time.monotonic()
    step = progress or (lambda _: None)
    _require_folder(out)
    step("Reading the disclosure")
    disclosure = read_disclosure(document)
    market = None
    if prices is not None:
        step("Forecasting volatility and tail risk from prices")
        market = view_market(prices, ticker=ticker, as_of=as_of)
    step("Scoring the text")
    routes = router or open_router(cache=ResultCache.from_settings())
    model = text_model_of(routes)
    reading = read_language(
        disclosure, routes, count_tokens=model.count_tokens, max_tokens=model.max_tokens
    )
    step("Linking text and prices")
    linkage = read_linkage(LINKAGE_FILE, adapter_digest=reading.provenance.adapter_digest or "")
    if market is None:
        assessment = assess_text(disclosure, reading, linkage, ticker=ticker)
    else:
        assessment = link(disclosure, reading, market, linkage, ticker=ticker)
    step("Writing the report")
    _write(out, assessment, run=_run_block(started, reading))
    return assessment


def view_market(prices: Path, *, ticker: str, as_of: date | None = None) -> MarketView:
    """Reads the prices and forecasts volatility (HAR, GARCH) and one-day tail risk.

    Raises:
        TableError: The prices cannot be used, or are too old for `as_of`.
    """
    from kits.finance.markets.forecasters import forecast_volatility
    from kits.finance.markets.prices import read_prices
    from kits.finance.risk.measures import one_day_var_es

    history = read_prices(prices).history(ticker, as_of=as_of)
    return MarketView(
        history=history,
        har=forecast_volatility(history, model="har"),
        garch=forecast_volatility(history, model="garch"),
        tail=one_day_var_es(history),
    )


def _require_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(
            "output folder",
            expected="a folder, or a name that is free",
            found="a file",
            remedy="Name another folder.",
        )


def _run_block(started: float, reading: LanguageReading) -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": round(time.monotonic() - started, 3),
        "cache": {
            "hits": reading.n_cached,
            "misses": len(reading.passages) - reading.n_cached,
        },
    }


def _write(out: Path, assessment: RiskAssessment, *, run: Mapping[str, Any]) -> None:
    """Writes both files beside `out` first, so that it never holds half a result."""
    from kits.finance.reporting.report import render_report

    written = {**assessment.to_json(), "run": dict(run)}
    contents = {
        "report.html": render_report(assessment),
        "assessment.json": json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False)
        + "\n",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".tandem-") as folder:
        for name, content in contents.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        out.mkdir(exist_ok=True)
        for name in contents:
            (Path(folder) / name).replace(out / name)
