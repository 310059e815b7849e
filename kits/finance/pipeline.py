"""Assesses one company: the only file that knows the order of the finance kit's steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.routing.cache import ResultCache
from kits.finance.disclosures.document import Disclosure
from kits.finance.disclosures.filing import read_disclosure
from kits.finance.disclosures.language import LanguageReading, read_language
from kits.finance.governance.archive import Archive
from kits.finance.governance.arithmetic import repeatable_arithmetic
from kits.finance.governance.lineage import Lineage, trace
from kits.finance.governance.overrides import OverrideLog
from kits.finance.governance.record import (
    RECORD_NAME,
    ProvenanceRecord,
    build_record,
    stamp_inputs,
)
from kits.finance.reporting.delivery import deliver, require_folder
from kits.finance.risk.linkage import assess_text, link, read_linkage
from kits.finance.risk.score import MarketView, RiskAssessment
from kits.finance.tasks import LINKAGE_FILE, open_router, text_model_of

if TYPE_CHECKING:
    from common.routing.router import ModelRouter
    from kits.finance.markets.prices import PriceTable

__all__ = ["assess", "view_market"]

Progress = Callable[[str], None]


def assess(
    document: Path,
    *,
    ticker: str,
    out: Path,
    prices: Path | None = None,
    price_table: PriceTable | None = None,
    as_of: date | None = None,
    router: ModelRouter | None = None,
    progress: Progress | None = None,
    archive: Archive | None = None,
    replaying: ProvenanceRecord | None = None,
) -> RiskAssessment:
    """Scores one company from a disclosure and, when given, its prices.

    Writes `report.html`, `assessment.json`, `lineage.json` and `record.json` to `out`, all or
    none. Equal input gives equal JSON but for its `run` block and the record.

    Args:
        document: A 10-K or 10-Q (HTML) or an earnings call (text).
        ticker: The company's ticker in the price table.
        out: Folder for the results; made when absent.
        prices: Daily prices, CSV or Parquet; without them only the text part is made.
        price_table: What `prices` holds, where that file was read before.
        as_of: Nothing later than this day is used; by default the last day with a price.
        router: Models for text; by default those of `kits.finance.tasks`, with the cache of
            TANDEM_HOME.
        progress: Called with the name of each step as it begins.
        archive: Where copies of the inputs are kept by content, for a replay; without it the
            record names their paths and digests alone.
        replaying: A record whose `run` block and overrides are taken, for a replay.

    Raises:
        InputError: The document or the prices cannot be used; nothing is written.
    """
    started = time.monotonic()
    step = progress or (lambda _: None)
    require_folder(out)
    stamps = stamp_inputs(document=document, prices=prices)
    step("Reading the disclosure")
    disclosure = read_disclosure(document)
    market = None
    if prices is not None:
        step("Forecasting volatility and tail risk from prices")
        with repeatable_arithmetic():
            market = view_market(price_table or prices, ticker=ticker, as_of=as_of)
    step("Scoring the text")
    reading = _read_text(disclosure, router or open_router(cache=ResultCache.from_settings()))
    step("Linking text and prices")
    linkage = read_linkage(LINKAGE_FILE, adapter_digest=reading.provenance.adapter_digest or "")
    if market is None:
        assessment = assess_text(disclosure, reading, linkage, ticker=ticker)
    else:
        assessment = link(disclosure, reading, market, linkage, ticker=ticker)
    step("Writing the report")
    run = _run_block(started, reading) if replaying is None else replaying.run
    overrides = _overrides_of(ticker) if replaying is None else replaying.overrides
    lineage = trace(assessment, disclosure, reading)
    with repeatable_arithmetic():  # a page may compute, too
        contents = _contents(assessment, lineage, run=run, overrides=overrides)
    record = build_record(
        assessment,
        reading,
        stamps=stamps,
        as_of=as_of,
        overrides=overrides,
        run=run,
        outputs=contents,
        archive=archive,
    )
    deliver({**contents, RECORD_NAME: record.to_text()}, out)
    return assessment


def view_market(prices: Path | PriceTable, *, ticker: str, as_of: date | None = None) -> MarketView:
    """Reads the prices and forecasts volatility (HAR, GARCH) and one-day tail risk.

    Raises:
        TableError: The prices cannot be used, or are too old for `as_of`.
    """
    from kits.finance.markets.forecasters import fit_garch, forecast_volatility
    from kits.finance.markets.prices import read_prices
    from kits.finance.risk.measures import tail_risk_of

    table = read_prices(prices) if isinstance(prices, Path) else prices
    history = table.history(ticker, as_of=as_of)
    garch = fit_garch(history)  # once, for its forecast and for the tail
    return MarketView(
        history=history,
        har=forecast_volatility(history, model="har"),
        garch=forecast_volatility(history, model="garch", fitted=garch),
        tail=tail_risk_of(garch, level=0.99),
    )


def _read_text(disclosure: Disclosure, router: ModelRouter) -> LanguageReading:
    model = text_model_of(router)
    return read_language(
        disclosure, router, count_tokens=model.count_tokens, max_tokens=model.max_tokens
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


def _overrides_of(ticker: str) -> tuple[Mapping[str, Any], ...]:
    """Returns the manual overrides in force today, to be shown beside the model's numbers."""
    today = datetime.now(UTC).date()
    return tuple(one.to_json() for one in OverrideLog.from_settings().in_force(ticker, on=today))


def _contents(
    assessment: RiskAssessment,
    lineage: Lineage,
    *,
    run: Mapping[str, Any],
    overrides: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    from kits.finance.reporting.report import render_report

    written = {**assessment.to_json(), "overrides": list(overrides), "run": dict(run)}
    return {
        "report.html": render_report(assessment, overrides=overrides),
        "assessment.json": json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False)
        + "\n",
        "lineage.json": lineage.to_text(),
    }
