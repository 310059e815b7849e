"""The rules of lineage, as data: which figure comes from what, and by which computation.

The first rule whose pattern matches a figure's pointer, from its beginning, gives its entry;
the entry covers what the pattern matched. A computation that is changed in `risk/` or
`markets/` is changed here too: a test recomputes every figure through these rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kits.finance.disclosures.language import LanguageReading
from kits.finance.governance.surroundings import current_settings
from kits.finance.markets.forecasters import MAXIMUM_FIT_DAYS
from kits.finance.reporting.backtest import LONGEST_WINDOW_DAYS, RECENT_DAYS
from kits.finance.risk.score import RiskAssessment

__all__ = ["PAGE_RULES", "RULES", "Lines", "Rule", "Source"]

Source = Mapping[str, Any]

_BARS = ("open", "high", "low", "close")


class Lines:
    """What the rules draw their sources from.

    Args:
        written: The assessment's JSON.
        assessment: The assessment.
        reading: What the text model read.
    """

    def __init__(
        self, written: Mapping[str, Any], assessment: RiskAssessment, reading: LanguageReading
    ) -> None:
        self._written = written
        self._market = assessment.market
        self._at = {(p.start, p.end): at for at, p in enumerate(reading.passages)}
        self._n_passages = len(reading.passages)

    def reason_code(self, pointer: str) -> str | None:
        """Returns the code of the reason that a pointer leads into."""
        found = re.match(r"/reasons/(\d+)/", pointer)
        return str(self._written["reasons"][int(found[1])]["code"]) if found else None

    def reasons(self, beginning: str) -> list[Source]:
        """Returns the contributions of the reasons whose codes begin so, in order."""
        return [
            {"figure": f"/reasons/{at}/contribution"}
            for at, reason in enumerate(self._written["reasons"])
            if reason["code"].startswith(beginning)
        ]

    def cells(self, last_rows: int | None = None, columns: tuple[str, ...] = _BARS) -> Source:
        """Returns the last rows of the price history, or all of them, in those columns."""
        if self._market is None:
            return {"source": "prices", "absent": "no prices were given"}
        history = self._market.history
        n_rows = min(last_rows or len(history.dates), len(history.dates))
        return {
            "source": "prices",
            "ticker": history.ticker,
            "first_date": str(history.dates[-n_rows]),
            "last_date": str(history.dates[-1]),
            "n_rows": n_rows,
            "columns": [name for name in columns if getattr(history, name) is not None],
        }

    def settings(self, beginning: str, names: Sequence[str]) -> Source:
        """Returns where record.json holds these settings, in files whose names begin so."""
        return {
            "source": "record",
            "pointers": [
                f"/settings/{file}/{name}"
                for name in names
                for file, constants in current_settings().items()
                if file.startswith(beginning) and name in constants
            ],
        }

    def passages(self) -> Source:
        """Returns all passages that were read."""
        return {"source": "document", "passages": [0, self._n_passages - 1]}

    def quoted(self, pointer: str) -> Source:
        """Returns the passage that the evidence at a pointer quotes."""
        found = re.match(r"(/reasons/\d+|/text)/evidence/(\d+)", pointer)
        if found is None:
            return self.passages()
        part = self._written["text"]
        if found[1] != "/text":
            part = self._written["reasons"][int(found[1].split("/")[2])]
        evidence = part["evidence"][int(found[2])]
        at = self._at[evidence["start"], evidence["end"]]
        return {"source": "document", "passages": [at, at]}


Draw = Callable[[Lines, str], list[Source]]


@dataclass(frozen=True)
class Rule:
    """How a kind of figure is computed.

    Args:
        name: Short and stable.
        pattern: Of its pointer, from the beginning.
        method: The computation in words.
        sources: Each returns, for a figure's pointer, something that goes into it.
        reason: Code of the only reason that it holds for; None for any.
    """

    name: str
    pattern: re.Pattern[str]
    method: str
    sources: tuple[Draw, ...]
    reason: str | None = None


def _figures(*pointers: str) -> Draw:
    return lambda *_: [{"figure": pointer} for pointer in pointers]


def _keys(*names: str) -> Draw:
    return lambda *_: [{"source": "coefficients", "keys": list(names)}]


def _settings(folder: str, *names: str) -> Draw:
    return lambda lines, _: [lines.settings(folder, names)]


def _cells(last_rows: int | None = None, columns: tuple[str, ...] = _BARS) -> Draw:
    return lambda lines, _: [lines.cells(last_rows, columns)]


def _reasons(beginning: str = "") -> Draw:
    return lambda lines, _: lines.reasons(beginning)


def _passages(lines: Lines, _: str) -> list[Source]:
    return [lines.passages()]


def _quoted(lines: Lines, pointer: str) -> list[Source]:
    return [lines.quoted(pointer)]


def _rule(name: str, pattern: str, method: str, *sources: Draw, reason: str | None = None) -> Rule:
    return Rule(name, re.compile(pattern), method, sources, reason)


_FIT_ROWS = MAXIMUM_FIT_DAYS + 1  # returns need one close more
_LONGEST_WINDOW_ROWS = 251  # linkage.windows_days ends with 250 returns
_SIMULATION = ("N_PATHS", "MAXIMUM_FIT_DAYS", "QUANTILE_LEVELS")

RULES: tuple[Rule, ...] = (
    _rule(
        "event_threshold",
        r"/event_definition$",
        "100 exp(event_threshold), percent per day",
        _keys("event_threshold"),
    ),
    _rule(
        "event_probability",
        r"/event_probability$",
        "1 / (1 + exp(-L)), L the baseline plus all contributions",
        _figures("/baseline_log_odds"),
        _reasons(),
    ),
    _rule(
        "event_probability_prices_only",
        r"/event_probability_prices_only$",
        "1 / (1 + exp(-L)), L the baseline plus the contributions of prices",
        _figures("/baseline_log_odds"),
        _reasons("PRICE_"),
    ),
    _rule(
        "baseline",
        r"/baseline_log_odds$",
        "calibration_intercept + calibration_slope price_centre",
        _keys("calibration_intercept", "calibration_slope", "price_centre"),
    ),
    _rule(
        "score",
        r"/score$",
        "100 x event_probability",
        _figures("/event_probability"),
    ),
    _rule(
        "price_ridge",
        r"/volatility_prices_only$",
        "exp(price_intercept + price_coefficients . x), x the ln of the standard deviation of "
        "the last simple returns over each of windows_days",
        _cells(_LONGEST_WINDOW_ROWS, ("close",)),
        _keys("windows_days", "price_intercept", "price_coefficients"),
    ),
    _rule(
        "volatility_linked",
        r"/volatility_linked$",
        "volatility_prices_only exp(text_weight text.value)",
        _figures("/volatility_prices_only", "/text/value"),
        _keys("text_weight"),
    ),
    _rule(
        "price_contribution",
        r"/reasons/\d+/contribution$",
        "calibration_slope (ln volatility_prices_only - price_centre)",
        _figures("/volatility_prices_only"),
        _keys("calibration_slope", "price_centre"),
        reason="PRICE_VOLATILITY",
    ),
    _rule(
        "text_contribution",
        r"/reasons/\d+/contribution$",
        "calibration_slope text_weight text.value; 0 where there are no prices",
        _figures("/text/value"),
        _keys("calibration_slope", "text_weight"),
        reason="TEXT_TONE",
    ),
    _rule(
        "price_statement",
        r"/reasons/\d+/statement$",
        "100 volatility_prices_only and 100 exp(price_centre), percent per day",
        _figures("/volatility_prices_only"),
        _keys("price_centre"),
        reason="PRICE_VOLATILITY",
    ),
    _rule(
        "text_statement",
        r"/reasons/\d+/statement$",
        "text.n_sentences; where the text has a weight, 100 (exp(text_weight text.value) - 1)",
        _figures("/text/n_sentences", "/text/value"),
        _keys("text_weight"),
        reason="TEXT_TONE",
    ),
    _rule(
        "reason_evidence_contribution",
        r"/reasons/\d+/evidence/\d+/contribution$",
        "calibration_slope text_weight (score - text_centre) / number of passages; 0 where "
        "there are no prices",
        _quoted,
        _passages,
        _keys("calibration_slope", "text_weight", "text_centre"),
        reason="TEXT_TONE",
    ),
    _rule(
        "evidence_contribution",
        r"/text/evidence/\d+/contribution$",
        "(score - text_centre) / number of passages",
        _quoted,
        _passages,
        _keys("text_centre"),
    ),
    _rule(
        "evidence_offsets",
        r"(/reasons/\d+|/text)/evidence/\d+/(start|end|source_start|source_end)$",
        "the offset of the quoted passage",
        _quoted,
    ),
    _rule(
        "text_value",
        r"/text/value$",
        "mean of the passages' scores minus text_centre",
        _passages,
        _keys("text_centre"),
    ),
    _rule(
        "text_percentile",
        r"/text/percentile$",
        "linear interpolation of the mean score between text_percentiles",
        _passages,
        _keys("text_percentiles"),
    ),
    _rule(
        "sentence_count",
        r"/text/n_sentences$",
        "the number of prose sentences in the sections that are read",
        _passages,
        _settings("disclosures.", "READ_SECTIONS"),
    ),
    _rule(
        "price_history",
        r"/market/history/(n_days|last_close)$",
        "the number of rows up to the as-of date; the last close among them",
        _cells(None, ("close",)),
    ),
    _rule(
        "forecast_setting",
        r"/market/(har|garch)/(horizon_days|quantile_levels)",
        "as it was set",
        _settings("forecast_volatility()", "horizon_days", "quantile_levels"),
    ),
    _rule(
        "har_forecast",
        r"/market/har/\w+",
        "HAR of the logarithm of daily variance by least squares, simulated with its residuals",
        _cells(_FIT_ROWS),
        _settings("markets.", *_SIMULATION, "HAR_WINDOWS"),
        _settings("forecast_volatility()", "seed"),
    ),
    _rule(
        "garch_forecast",
        r"/market/garch/\w+",
        "GARCH(1,1) with Student's t by maximum likelihood, simulated",
        _cells(_FIT_ROWS, ("close",)),
        _settings("markets.", *_SIMULATION),
        _settings("forecast_volatility()", "seed"),
    ),
    _rule(
        "tail_level",
        r"/market/tail/level$",
        "as it was set",
        _settings("one_day_var_es()", "level"),
    ),
    _rule(
        "tail_risk",
        r"/market/tail/(value_at_risk|expected_shortfall)$",
        "losses of GARCH(1,1)-t's standardised residuals at tomorrow's volatility: the smallest "
        "that a share `level` of them does not exceed, and the mean from it upwards",
        _cells(_FIT_ROWS, ("close",)),
        _settings("one_day_var_es()", "level"),
    ),
    _rule(
        "note",
        r"/notes/\d+$",
        "counts of rows, passages and sections that were or were not used; intervals of the file",
        _passages,
        _cells(),
        _keys("text_weight", "mse_gain_interval", "interval_radius", "interval_level"),
    ),
)
"""In the order in which they are tried."""

PAGE_RULES: Mapping[str, Rule] = {
    "report.html#backtest": _rule(
        "backtest",
        r"$",
        "VaR of each of the last days from the days before it alone, tested against the losses",
        _cells(LONGEST_WINDOW_DAYS + RECENT_DAYS + 1, ("close",)),
        _figures("/market/tail/level"),
    ),
}
"""Page and section to the rule of figures that no JSON holds; where there are prices."""
