"""What an assessment says: evidence, reasons, and the score that they add up to.

The score is 100 times the probability of the event named in `event_definition`; its
log-odds are a baseline plus the contributions of the reasons, exactly.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import InputError
from common.task import Provenance

if TYPE_CHECKING:  # these files bring pandas, arch and statsmodels with them
    from kits.finance.markets.forecasters import VolatilityForecast
    from kits.finance.markets.prices import PriceHistory
    from kits.finance.risk.measures import TailRisk

__all__ = [
    "Evidence",
    "MarketView",
    "Reason",
    "RiskAssessment",
    "TextSignal",
    "logit",
    "probability",
]

_TOLERANCE = 1e-6  # contributions are float64 sums of a few dozen terms


@dataclass(frozen=True)
class Evidence:
    """One passage of the document that moved the text signal, quoted exactly.

    Args:
        sentence: The quoted text, `document.text[start:end]`.
        start: Offset of its first character in the document's text.
        end: Offset after its last character.
        source_start: Offset of its first character in the decoded file.
        source_end: Offset after its last character in the decoded file.
        section: Key of the section that it stands in.
        contribution: Within a `TextSignal`, what it adds to the signal's value; within a
            `Reason`, what it adds to the reason's contribution.
    """

    sentence: str
    start: int
    end: int
    source_start: int
    source_end: int
    section: str
    contribution: float


@dataclass(frozen=True)
class Reason:
    """One additive part of the log-odds of the event.

    Args:
        code: Stable name: "PRICE_VOLATILITY" or "TEXT_TONE".
        statement: The reason in words, with its figures.
        contribution: What it adds to the log-odds; 0 where there is no probability.
        evidence: The passages behind it, farthest from a typical passage first; a
            selection, not the whole sum.
    """

    code: str
    statement: str
    contribution: float
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class TextSignal:
    """What the document's words say about 30-day volatility, prices aside.

    Args:
        value: Expected correction of the 30-day log-volatility by the text model alone,
            before the linkage weighs it.
        percentile: Share of the reference calls (those of training time that the text model
            was not trained on) with a lower value, 0 to 100.
        n_sentences: How many sentences were read.
        evidence: The passages that moved it most, largest first.
    """

    value: float
    percentile: float
    n_sentences: int
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class MarketView:
    """What the prices say: history, two volatility forecasts, one-day tail risk."""

    history: PriceHistory
    har: VolatilityForecast
    garch: VolatilityForecast
    tail: TailRisk


@dataclass(frozen=True)
class RiskAssessment:
    """Everything that the report shows.

    Args:
        ticker: The share.
        as_of: Last date whose prices were used; None without a market part.
        form: "10-K", "10-Q" or "transcript".
        document_digest: sha256 of the document's file.
        text: The text part.
        market: The market part, or None without prices.
        event_definition: The event in words, with its threshold.
        event_probability: Its probability from text and prices, or None without prices.
        event_probability_prices_only: The same from prices alone.
        baseline_log_odds: Log-odds before any reason.
        score: 0 to 100, 100 x `event_probability`.
        reasons: The additive parts of the log-odds.
        notes: What was not computed and why; the domain of the text model.
        provenance: Models, inputs and software.
        volatility_prices_only: Expected daily volatility of the 30 days, decimal, prices alone.
        volatility_linked: The same from text and prices.

    Raises:
        InputError: Probability and score are not given together, or the reasons do not
            add up to the log-odds.
    """

    ticker: str
    as_of: date | None
    form: str
    document_digest: str
    text: TextSignal
    market: MarketView | None
    event_definition: str
    event_probability: float | None
    event_probability_prices_only: float | None
    baseline_log_odds: float | None
    score: float | None
    reasons: tuple[Reason, ...]
    notes: tuple[str, ...]
    provenance: tuple[Provenance, ...]
    volatility_prices_only: float | None = None
    volatility_linked: float | None = None

    def __post_init__(self) -> None:
        given = (self.event_probability, self.baseline_log_odds, self.score)
        if all(value is None for value in given):
            return
        if self.event_probability is None or self.baseline_log_odds is None or self.score is None:
            raise _does_not_add_up("probability, baseline and score together", "only some of them")
        total = self.baseline_log_odds + math.fsum(r.contribution for r in self.reasons)
        if abs(total - logit(self.event_probability)) > _TOLERANCE:
            raise _does_not_add_up("reasons that sum to the log-odds", f"a sum of {total:.6f}")
        if abs(self.score - 100 * self.event_probability) > _TOLERANCE:
            raise _does_not_add_up("a score of 100 x probability", f"{self.score:.6f}")

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values only, keys in a stable order."""
        return {
            "ticker": self.ticker,
            "as_of": None if self.as_of is None else self.as_of.isoformat(),
            "form": self.form,
            "document_digest": self.document_digest,
            "event_definition": self.event_definition,
            "event_probability": self.event_probability,
            "event_probability_prices_only": self.event_probability_prices_only,
            "baseline_log_odds": self.baseline_log_odds,
            "score": self.score,
            "volatility_prices_only": self.volatility_prices_only,
            "volatility_linked": self.volatility_linked,
            "reasons": [_with_evidence(reason) for reason in self.reasons],
            "text": _with_evidence(self.text),
            "market": None if self.market is None else _market_to_json(self.market),
            "notes": list(self.notes),
            "provenance": [p.to_json() for p in self.provenance],
        }


def logit(p: float) -> float:
    """Returns ln(p / (1 - p)) for 0 < `p` < 1."""
    return math.log(p) - math.log1p(-p)


def probability(log_odds: float) -> float:
    """Returns 1 / (1 + exp(-`log_odds`)), without overflow on either side."""
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    return math.exp(log_odds) / (1.0 + math.exp(log_odds))


def _with_evidence(part: Reason | TextSignal) -> dict[str, Any]:
    return {**asdict(part), "evidence": [asdict(evidence) for evidence in part.evidence]}


def _market_to_json(market: MarketView) -> dict[str, Any]:
    history, tail = market.history, market.tail
    return {
        "history": {
            "first_date": str(history.dates[0]),
            "last_date": str(history.dates[-1]),
            "n_days": len(history.dates),
            "last_close": float(history.close[-1]),
            "digest": history.digest,
        },
        "har": _forecast_to_json(market.har),
        "garch": _forecast_to_json(market.garch),
        "tail": {
            "level": tail.level,
            "value_at_risk": tail.value_at_risk,
            "expected_shortfall": tail.expected_shortfall,
            "method": tail.method,
        },
    }


def _forecast_to_json(forecast: VolatilityForecast) -> dict[str, Any]:
    return {
        "model": forecast.model,
        "horizon_days": forecast.horizon_days,
        "quantile_levels": list(forecast.quantile_levels),
        "daily_volatility_quantiles": np.asarray(forecast.daily_volatility_quantiles).tolist(),
        "period_volatility_quantiles": np.asarray(forecast.period_volatility_quantiles).tolist(),
        "period_volatility_mean": float(forecast.period_volatility_mean),
    }


def _does_not_add_up(expected: str, found: str) -> InputError:
    return InputError(
        "risk assessment",
        expected=expected,
        found=found,
        remedy="Build it with kits.finance.risk.linkage, which keeps the parts additive.",
    )
