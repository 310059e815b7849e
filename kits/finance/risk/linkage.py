"""Links what the words say with what the prices say.

    forecast  = r0 + r . x + w (s - s0)
    log-odds  = a + b forecast
              = [a + b f0]  +  b (r0 + r . x - f0)  +  b w (s - s0)
                baseline       PRICE_VOLATILITY        TEXT_TONE

x are past log-volatilities, s is the mean passage score, f0 and s0 are typical values. The
forecast is of ln(sd) of the next 30 daily returns; the event is that it exceeds the 80th
percentile of the training calls. Either side can be switched off (`Linkage.of_sides`): without
text the forecast is that of the prices, without prices it starts from f0. The interval around a
forecast is split-conformal (`common.evaluation.conformal`). Ridge regression: Hoerl and Kennard
1970; calibration of a score by a logistic curve: Platt 1999. Every coefficient was fitted by
`python -m kits.finance.weights.train`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import AdapterError
from common.task import Array
from kits.finance.disclosures.document import Disclosure
from kits.finance.disclosures.language import LanguageReading, PassageScore
from kits.finance.markets.volatility import past_log_volatility
from kits.finance.risk.residual import Sides
from kits.finance.risk.score import (
    Evidence,
    MarketView,
    Reason,
    RiskAssessment,
    TextSignal,
    probability,
)

__all__ = ["Linkage", "assess_text", "link", "read_linkage"]

_N_EVIDENCE = 6  # passages quoted; the report has room for these on one page


_NO_PRICES = (
    "No market part could be computed: no prices were given. Without them there is no "
    "volatility forecast, no probability and no score."
)


@dataclass(frozen=True)
class Linkage:
    """The fitted coefficients; see the module's docstring for the symbols.

    Args:
        windows_days: Windows of the past log-volatilities x.
        price_intercept: r0.
        price_coefficients: r, one per window.
        price_centre: f0, the mean prices-only forecast of the training calls.
        text_weight: w, 0 where text did not help on calls that nothing else was fitted on.
        text_centre: s0, the mean score of the reference calls.
        text_percentiles: 101 percentiles of s over the reference calls.
        calibration_intercept: a.
        calibration_slope: b.
        event_threshold: Log-volatility above which the event has happened.
        mse_gain_interval: 95% interval of the prices-only minus the linked squared error on
            the test calls, paired by company.
        adapter_digest: The text model that these coefficients belong to.
        interval_radius: Half the width of the conformal interval of the log-volatility; None in
            a linkage that was fitted before there was one.
        interval_level: Its coverage.
        interval_calls: How many calls it was calibrated on.
    """

    windows_days: tuple[int, ...]
    price_intercept: float
    price_coefficients: tuple[float, ...]
    price_centre: float
    text_weight: float
    text_centre: float
    text_percentiles: tuple[float, ...]
    calibration_intercept: float
    calibration_slope: float
    event_threshold: float
    mse_gain_interval: tuple[float, float]
    adapter_digest: str
    interval_radius: float | None = None
    interval_level: float = 0.9
    interval_calls: int = 0

    def of_sides(self, sides: Sides) -> Linkage:
        """Returns the linkage with one side switched off: "prices" or "text" alone, or "both"."""
        if sides == "prices":
            return replace(self, text_weight=0.0)
        if sides == "text":
            none = (0.0,) * len(self.price_coefficients)
            return replace(self, price_intercept=self.price_centre, price_coefficients=none)
        return self

    def interval(self, forecast: float) -> tuple[float, float] | None:
        """Returns low and high volatility, decimals a day, around a log-volatility, if fitted."""
        if self.interval_radius is None:
            return None
        reach = math.exp(self.interval_radius)
        return math.exp(forecast) / reach, math.exp(forecast) * reach

    def price_forecast(self, features: Array) -> Array:
        """Returns r0 + r . x for features `(..., n_windows)`."""
        coefficients = np.asarray(self.price_coefficients)
        return np.asarray(self.price_intercept + features @ coefficients)

    def text_term(self, score: Array | float) -> Array:
        """Returns w (s - s0), what a mean passage score adds to the forecast."""
        return np.asarray(self.text_weight * (np.asarray(score) - self.text_centre))

    def log_odds(self, forecast: Array) -> Array:
        """Returns a + b forecast."""
        return np.asarray(self.calibration_intercept + self.calibration_slope * forecast)

    @property
    def event_definition(self) -> str:
        """The event in words, with its threshold."""
        percent = 100 * math.exp(self.event_threshold)
        return (
            "The standard deviation of the next 30 daily returns exceeds "
            f"{percent:.2f}% per day, the top quintile of the training calls of 2015-16."
        )

    @property
    def text_is_proven(self) -> bool:
        """Whether text lowered the error on the test calls beyond chance."""
        return self.text_weight > 0 and self.mse_gain_interval[0] > 0

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values only."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def read_linkage(path: Path, *, adapter_digest: str) -> Linkage:
    """Reads the coefficients and checks that they belong to the text model in use.

    Raises:
        AdapterError: The file is absent, damaged, or of another text model.
    """
    try:
        content = json.loads(path.read_bytes())
        values: dict[str, Any] = {
            field.name: content[field.name]
            for field in fields(Linkage)
            if field.default is MISSING or field.name in content
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _foreign_linkage("its coefficients", type(error).__name__) from error
    frozen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    linkage = Linkage(**frozen)
    if linkage.adapter_digest != adapter_digest:
        raise _foreign_linkage(
            f"coefficients of adapter {adapter_digest[:12]}...",
            f"those of {linkage.adapter_digest[:12]}...",
        )
    return linkage


def link(
    disclosure: Disclosure,
    reading: LanguageReading,
    market: MarketView,
    linkage: Linkage,
    *,
    ticker: str,
    sides: Sides = "both",
) -> RiskAssessment:
    """Builds the assessment of a disclosure with matching prices.

    Args:
        disclosure: What was read.
        reading: The text model's scores of it.
        market: What its prices say.
        linkage: The coefficients.
        ticker: The share.
        sides: Which sides move the score; the reason of the other contributes 0, and a note
            says that it was switched off.

    Raises:
        TableError: The prices did not move over one of the linkage's windows.
    """
    notes = (*market.history.notes, *_text_notes(disclosure, reading, linkage))
    linkage = linkage.of_sides(sides)
    features = past_log_volatility(market.history, linkage.windows_days)
    price = float(linkage.price_forecast(features))
    text = float(linkage.text_term(reading.mean_score))
    slope = linkage.calibration_slope
    baseline = float(linkage.log_odds(np.asarray(linkage.price_centre)))
    reasons = (
        _price_reason(price, linkage),
        Reason(
            code="TEXT_TONE",
            statement=_text_statement(reading, linkage),
            contribution=slope * text,
            evidence=_evidence(disclosure, reading, linkage, per_score=slope * linkage.text_weight),
        ),
    )
    price_log_odds = baseline + reasons[0].contribution
    event_probability = probability(price_log_odds + reasons[1].contribution)
    return RiskAssessment(
        ticker=ticker,
        as_of=market.history.dates[-1].astype("datetime64[D]").item(),
        form=disclosure.form,
        document_digest=disclosure.document.digest,
        text=_text_signal(disclosure, reading, linkage),
        market=market,
        event_definition=linkage.event_definition,
        event_probability=event_probability,
        event_probability_prices_only=probability(price_log_odds),
        baseline_log_odds=baseline,
        score=100.0 * event_probability,
        reasons=reasons,
        notes=(*notes, *_linked_notes(linkage, price + text, sides)),
        provenance=(reading.provenance,),
        volatility_prices_only=math.exp(price),
        volatility_linked=math.exp(price + text),
    )


def assess_text(
    disclosure: Disclosure, reading: LanguageReading, linkage: Linkage, *, ticker: str
) -> RiskAssessment:
    """Builds the assessment of a disclosure without prices: the text part, no probability."""
    reason = Reason(
        code="TEXT_TONE",
        statement=_text_statement(reading, linkage),
        contribution=0.0,
        evidence=_evidence(disclosure, reading, linkage, per_score=0.0),
    )
    return RiskAssessment(
        ticker=ticker,
        as_of=None,
        form=disclosure.form,
        document_digest=disclosure.document.digest,
        text=_text_signal(disclosure, reading, linkage),
        market=None,
        event_definition=linkage.event_definition,
        event_probability=None,
        event_probability_prices_only=None,
        baseline_log_odds=None,
        score=None,
        reasons=(reason,),
        notes=(
            _NO_PRICES,
            *_text_notes(disclosure, reading, linkage),
        ),
        provenance=(reading.provenance,),
    )


def _text_signal(disclosure: Disclosure, reading: LanguageReading, linkage: Linkage) -> TextSignal:
    score = reading.mean_score
    return TextSignal(
        value=score - linkage.text_centre,
        percentile=float(np.interp(score, linkage.text_percentiles, np.arange(101.0))),
        n_sentences=reading.n_sentences,
        evidence=_evidence(disclosure, reading, linkage, per_score=1.0),
    )


def _evidence(
    disclosure: Disclosure, reading: LanguageReading, linkage: Linkage, *, per_score: float
) -> tuple[Evidence, ...]:
    """Quotes the passages whose scores lie farthest from the typical one, farthest first."""
    document, n = disclosure.document, len(reading.passages)

    def distance(passage: PassageScore) -> float:
        return passage.score - linkage.text_centre

    farthest = sorted(reading.passages, key=lambda p: (-abs(distance(p)), p.start))[:_N_EVIDENCE]
    evidence = []
    for passage in farthest:
        source_start, source_end = document.source_span(passage.start, passage.end)
        evidence.append(
            Evidence(
                sentence=document.text[passage.start : passage.end],
                start=passage.start,
                end=passage.end,
                source_start=source_start,
                source_end=source_end,
                section=passage.section,
                contribution=per_score * distance(passage) / n,
            )
        )
    return tuple(evidence)


def _price_reason(price: float, linkage: Linkage) -> Reason:
    expected, typical = 100 * math.exp(price), 100 * math.exp(linkage.price_centre)
    direction = "above" if price > linkage.price_centre else "below"
    return Reason(
        code="PRICE_VOLATILITY",
        statement=(
            f"Past prices lead to an expected {expected:.2f}% per day over the next 30 days, "
            f"{direction} the {typical:.2f}% that is typical of the training calls."
        ),
        contribution=linkage.calibration_slope * (price - linkage.price_centre),
    )


def _text_statement(reading: LanguageReading, linkage: Linkage) -> str:
    direction = "higher" if reading.mean_score > linkage.text_centre else "lower"
    said = (
        f"The text model takes the {reading.n_sentences} sentences for a sign of {direction} "
        "volatility than that of a typical call with such prices"
    )
    if linkage.text_weight == 0:
        return f"{said}; this has no weight, since text adds no measurable accuracy here."
    effect = 100 * math.expm1(float(linkage.text_term(reading.mean_score)))
    return f"{said}; this moves the 30-day forecast by {effect:+.1f}%."


def _text_notes(
    disclosure: Disclosure, reading: LanguageReading, linkage: Linkage
) -> tuple[str, ...]:
    notes = [*disclosure.notes, *reading.notes]
    if linkage.text_weight == 0:
        notes.append(
            "Text adds no measurable accuracy here: its weight, fitted on calls that nothing else "
            "was fitted on, is 0, so that a score rests on prices alone. The quoted passages "
            "show what the text model reacts to, no more."
        )
    elif not linkage.text_is_proven:
        low, high = linkage.mse_gain_interval
        notes.append(
            "Text adds no measurable accuracy here: on the test calls the linked forecast's "
            f"squared error was lower by between {low:+.4f} and {high:+.4f} (95% interval, "
            "paired by company), which does not exclude zero."
        )
    if disclosure.form != "transcript":
        notes.append(
            f"The text model was trained on earnings calls of 2015-16; Form {disclosure.form} is "
            "outside its domain, so read its signal as a pointer to passages."
        )
    notes.append("Percentiles of the text signal compare with calls that it was not trained on.")
    return tuple(notes)


def _linked_notes(linkage: Linkage, forecast: float, sides: Sides) -> Iterator[str]:
    """Yields what to know of a linked forecast of log-volatility."""
    if sides != "both":
        off = "text" if sides == "prices" else "prices"
        yield f"The {off} were switched off: this is an ablation, not the kit's score."
    ends = linkage.interval(forecast)
    if ends is not None:
        yield (
            f"{linkage.interval_level:.0%} interval of the 30-day volatility: {100 * ends[0]:.2f}% "
            f"to {100 * ends[1]:.2f}% per day (split conformal on {linkage.interval_calls} calls "
            "of 2015-16; another period may be covered less often)."
        )


def _foreign_linkage(expected: str, found: str) -> AdapterError:
    return AdapterError(
        "linkage.json",
        expected=expected,
        found=found,
        remedy="Restore the adapter's folder from where it came, or train it again.",
    )
