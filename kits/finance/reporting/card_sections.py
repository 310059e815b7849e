"""The sections of the model card, in the order in which SR 11-7 asks, as data.

SR 11-7 (Board of Governors of the Federal Reserve System and OCC, April 2011, "Supervisory
guidance on model risk management"): part IV asks for purpose, data, method, assumptions and
limits of a model, part V for outcomes and monitoring, part VI for an inventory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from kits.finance.governance.inventory import InventoryEntry, kit_models
from kits.finance.governance.overrides import LONGEST_DAYS
from kits.finance.governance.surroundings import current_settings
from kits.finance.markets.prices import MAXIMUM_GAP_DAYS, MINIMUM_ROWS
from kits.finance.reporting.card_evidence import AdapterEvidence, CardEvidence, leaves

__all__ = ["CardSection", "CardTable", "card_sections"]

_MOST_ROWS = 40  # of a table that nobody has laid out by hand
_INTERVAL = "95%"


@dataclass(frozen=True)
class CardTable:
    """A table of texts.

    Args:
        caption: What it shows, and where its figures are from.
        columns: Its headings.
        rows: One text for each column.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CardSection:
    """One section.

    Args:
        title: Its heading.
        clause: The part of SR 11-7 that asks for it.
        paragraphs: Sentences.
        points: A list after them.
        tables: After that.
    """

    title: str
    clause: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[CardTable, ...] = ()


def card_sections(
    evidence: CardEvidence, inventory: Sequence[InventoryEntry], *, on: date
) -> tuple[CardSection, ...]:
    """Returns the seven sections.

    Args:
        evidence: What was measured.
        inventory: The entries of the model inventory.
        on: The day for which reviews are said to be due.
    """
    return (
        _purpose(evidence),
        _data(evidence),
        _method(evidence),
        _assumptions(),
        _limits(evidence),
        _performance(evidence),
        _monitoring(inventory, on),
    )


def _purpose(evidence: CardEvidence) -> CardSection:
    events = [_event(a.linkage) for a in evidence.adapters if a.linkage and _has_event(a.linkage)]
    return CardSection(
        title="Purpose and use",
        clause="SR 11-7, part IV, Model use",
        paragraphs=(
            (
                "The kit scores one company from a disclosure and its daily prices. The score "
                "is 100 times the probability of one event; reasons add up to its log-odds "
                "exactly, and each names its source."
            ),
            *events,
            (
                "Meant for risk analysts, as one input to a judgement that a person makes and "
                "signs. Not meant for trading, for automatic decisions about people, or as a "
                "probability of default."
            ),
        ),
        tables=(
            CardTable(
                "Models of the kit. A version is the digest of an adapter, or a release.",
                ("Model", "Version", "Purpose"),
                tuple((m.model_id, m.version[:12], m.purpose) for m in kit_models()),
            ),
        ),
    )


def _data(evidence: CardEvidence) -> CardSection:
    tables = []
    for adapter in evidence.adapters:
        files = adapter.metrics.get("data_sha256", {})
        counts = adapter.metrics.get("n_calls", {})
        if isinstance(files, Mapping) and files:
            rows = tuple((name, str(digest)) for name, digest in files.items())
            tables.append(CardTable(f"{adapter.name}: files, by sha256", ("File", "sha256"), rows))
        if isinstance(counts, Mapping) and counts:
            rows = tuple((str(role), f"{n:,}") for role, n in counts.items())
            tables.append(CardTable(f"{adapter.name}: calls by role", ("Role", "Calls"), rows))
    return CardSection(
        title="Data",
        clause="SR 11-7, part IV, Model development: data quality and relevance",
        paragraphs=(
            (
                "Inputs of an assessment: a disclosure (named by its sha256) and daily prices, "
                f"at least {MINIMUM_ROWS} rows up to the as-of date, no gap of more than "
                f"{MAXIMUM_GAP_DAYS} days. Rows after the as-of date are cut before anything is "
                "computed. Faulty tables are refused with all their faults."
            ),
            (
                "Adapters were trained on the files below; the page beside each adapter's weights "
                "names their sources and terms."
            ),
        ),
        tables=tuple(tables),
    )


def _method(evidence: CardEvidence) -> CardSection:
    tables = []
    for adapter in evidence.adapters:
        recipe = adapter.metrics.get("training", {})
        recipe = recipe.get("recipe", {}) if isinstance(recipe, Mapping) else {}
        if recipe:
            tables.append(_generic(f"{adapter.name}: recipe of the training", recipe))
        if adapter.linkage:
            tables.append(_generic(f"{adapter.name}: fitted coefficients", adapter.linkage))
    return CardSection(
        title="Method",
        clause="SR 11-7, part IV, Model development: theory and design",
        paragraphs=(
            (
                "Text: sentences are joined into passages that the language model reads whole; the "
                "document's signal is the mean of the passages' scores."
            ),
            (
                "Prices: a ridge regression of the logarithm of 30-day volatility on past "
                "log-volatilities; forecasts with quantiles by HAR and GARCH with Student's t; "
                "value at risk and expected shortfall by filtered historical simulation."
            ),
            (
                "Linkage: forecast = r0 + r.x + w (s - s0); log-odds = a + b forecast. A "
                "weight w of 0 means that the text moves nothing."
            ),
        ),
        tables=tuple(tables),
    )


def _assumptions() -> CardSection:
    level = current_settings()["one_day_var_es()"]["level"]
    return CardSection(
        title="Assumptions",
        clause="SR 11-7, part IV, Model development: assumptions",
        points=(
            "Prices are adjusted for splits, and each row is one trading day of one currency.",
            "The relation of past to coming volatility in the training calls holds on.",
            "The log-odds of the event are linear in the forecast of log-volatility.",
            (
                "Standardised residuals of the volatility model are draws of one distribution, "
                f"so the past ones are the scenarios of tomorrow ({100 * level:g}% is the "
                "default level)."
            ),
            "Every passage counts alike; tables carry no tone and are left out.",
        ),
    )


def _limits(evidence: CardEvidence) -> CardSection:
    return CardSection(
        title="Limits",
        clause="SR 11-7, part IV, Model use: limitations",
        points=(
            *(_text_limit(adapter) for adapter in evidence.adapters if adapter.linkage),
            (
                "The text model was trained on English earnings calls of US companies of "
                "2015-16 that were still listed at the end of 2017; other forms, years and "
                "markets are outside its domain, and an assessment says so."
            ),
            (
                "Calibration stands for the base rate of its training years; a change of "
                "regime moves it (see Monitoring)."
            ),
            "One-day tail risk says nothing of liquidity or of losses beyond the scenarios seen.",
            "Without prices there is no probability and no score.",
        ),
    )


def _performance(evidence: CardEvidence) -> CardSection:
    tables = [
        table
        for adapter in evidence.adapters
        for table in (_tests(adapter) or [_generic(f"{adapter.name}: measured", adapter.metrics)])
    ]
    tables += [_benchmark(one) for one in evidence.benchmarks]
    absent = "No benchmark of the finance kit was recorded beside this installation."
    return CardSection(
        title="Performance",
        clause="SR 11-7, part V, Outcomes analysis",
        paragraphs=(
            (
                "Figures on rows that decided nothing, with the floors, controls and peers of "
                "the same run. Equal figures of two models mean that the one adds nothing to "
                "the other."
            ),
            *(() if evidence.benchmarks else (absent,)),
        ),
        tables=tuple(tables),
    )


def _monitoring(inventory: Sequence[InventoryEntry], on: date) -> CardSection:
    late = sum(entry.overdue(on) for entry in inventory)
    return CardSection(
        title="Monitoring",
        clause="SR 11-7, part V, Ongoing monitoring; part VI, Model inventory",
        paragraphs=(
            (
                "Compare a later period with the one that a model was built on (drift report): "
                "review the model where the population stability index of its probabilities "
                "reaches 0.25 or calibration changed with a p-value below 0.01; watch it where "
                "an index passes 0.10."
            ),
            (
                "A challenger replaces the champion when the paired interval of its gain on "
                "the same rows lies above zero, and somebody other than the owner approved it."
            ),
            (
                "A manual override stands beside the model's number, with a reason and two "
                f"people's names, for at most {LONGEST_DAYS} days. Each assessment can be made "
                "again from its record, byte for byte."
            ),
            f"The inventory has {len(inventory)} entries, {late} of them overdue for review."
            if inventory
            else "The inventory is empty: no owner, approval or review date was entered yet.",
        ),
        tables=(_inventory_table(inventory, on),) if inventory else (),
    )


def _event(linkage: Mapping[str, Any]) -> str:
    percent = 100 * math.exp(float(linkage["event_threshold"]))
    return (
        f"Event: the standard deviation of the next 30 daily returns exceeds {percent:.2f}% per "
        "day, the top quintile of the training calls."
    )


def _has_event(linkage: Mapping[str, Any]) -> bool:
    return isinstance(linkage.get("event_threshold"), int | float)


def _text_limit(adapter: AdapterEvidence) -> str:
    linkage = adapter.linkage or {}
    weight, interval = linkage.get("text_weight"), linkage.get("mse_gain_interval")
    if weight == 0:
        return (
            f"{adapter.name}: text adds no measurable accuracy; its weight is 0, so scores rest "
            "on prices alone."
        )
    if not isinstance(interval, list) or interval[0] <= 0:
        return (
            f"{adapter.name}: on the test calls the gain of the text does not exclude zero; read "
            "it as a pointer to passages."
        )
    return (
        f"{adapter.name}: text lowered the squared error on the test calls by between "
        f"{interval[0]:.4f} and {interval[1]:.4f} ({_INTERVAL} interval), no more."
    )


def _tests(adapter: AdapterEvidence) -> list[CardTable]:
    """Returns the tables of an adapter that was measured against prices alone."""
    blocks = adapter.metrics.get("test")
    if not isinstance(blocks, Mapping):
        return []
    models, gains = [], []
    for name, block in blocks.items():
        n = str(block.get("n_calls", ""))
        for model, figures in block.items():
            if isinstance(figures, Mapping):
                error = figures.get("mse", figures.get("mse_mean"))
                cells = (error, figures.get("event_auc"), figures.get("event_brier"))
                models.append((str(name), n, model, *map(_number, cells)))
        low, high = block.get("mse_gain_interval", (None, None))
        row = {"low": low, "high": high}
        gains.append((str(name), n, _number(block.get("mse_gain")), _interval(row)))
    columns = ("Test calls", "n", "Model", "Squared error", "AUC", "Brier score")
    return [
        CardTable(f"{adapter.name}: test calls, from metrics.json", columns, _words(models)),
        CardTable(
            f"{adapter.name}: squared error of prices only less that of linked; above zero the "
            f"text helps. {_INTERVAL} interval, paired by company.",
            ("Test calls", "n", "Gain", "Interval"),
            _words(gains),
        ),
    ]


def _benchmark(result: Mapping[str, Any]) -> CardTable:
    """Returns all rows of a benchmark, or its headlines where it has more than fit a page."""
    caption = (
        f"{result.get('benchmark')}, {result.get('date')}: {result.get('verdict')}. "
        f"{result.get('note', '')}".strip()
    )
    found = result.get("rows", ())
    if len(found) > _MOST_ROWS:
        left_out = f" Headlines; the {len(found)} rows with intervals are in its results file."
        return _generic(caption + left_out, result.get("headlines", {}))
    names = ("role", "name", "dataset", "metric")
    rows = [
        (*(str(row.get(name, "")) for name in names), _number(row.get("value")), _interval(row))
        for row in found
    ]
    return CardTable(caption, ("Role", "Name", "Data", "Measure", "Value", "Interval"), tuple(rows))


def _inventory_table(inventory: Sequence[InventoryEntry], on: date) -> CardTable:
    return CardTable(
        "Model inventory",
        ("Model", "Version", "Status", "Owner", "Approved by", "Next review"),
        tuple(
            (
                entry.model_id,
                entry.version[:12],
                entry.status,
                entry.owner,
                ", ".join(one.approver for one in entry.approvals) or "nobody",
                entry.next_review_date.isoformat() + (" (overdue)" if entry.overdue(on) else ""),
            )
            for entry in inventory
        ),
    )


def _generic(caption: str, values: Mapping[str, Any]) -> CardTable:
    rows = [(name.replace("_", " "), _number(value)) for name, value in leaves(values)]
    left_out = f" (the first {_MOST_ROWS} of {len(rows)})" if len(rows) > _MOST_ROWS else ""
    return CardTable(f"{caption}{left_out}", ("Name", "Value"), tuple(rows[:_MOST_ROWS]))


def _words(rows: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(cell.replace("_", " ") for cell in row) for row in rows)


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row.get("low"), row.get("high")
    return "" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _number(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_number(one) for one in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
