"""The assessment as one HTML page that needs nothing else: no script, no font, no address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kits.finance.reporting.backtest import Backtest, recent_backtest, rejects
from kits.finance.reporting.backtest_chart import draw_backtest
from kits.finance.reporting.contributions import draw_contributions, draw_score_scale
from kits.finance.reporting.fan_chart import draw_fan_chart
from kits.finance.reporting.page import render_page
from kits.finance.risk.score import Evidence, RiskAssessment, logit

__all__ = ["Quotation", "quotations_of", "render_report"]

_LIGHTEST, _DARKEST = 0.12, 0.42  # opacities at which black text keeps a contrast above 7:1


@dataclass(frozen=True)
class Quotation:
    """One passage as the page shows it.

    Args:
        evidence: The passage.
        effect: "raises" or "lowers", what it does to the signal.
        shade: Opacity of its highlight, by its share of the largest contribution.
    """

    evidence: Evidence
    effect: str
    shade: float


def render_report(
    assessment: RiskAssessment, *, overrides: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Returns the page. Everything from the document is escaped.

    Equal assessments give equal pages: no time of day enters. Where there are prices, the
    VaR forecasts of the last 250 days are backtested for it.

    Args:
        assessment: What is shown.
        overrides: Manual overrides in force, shown beside the model's own number.
    """
    market, score = assessment.market, assessment.score
    backtest = None if market is None else recent_backtest(market.history, level=market.tail.level)
    baseline, chance = assessment.baseline_log_odds, assessment.event_probability
    alone = assessment.event_probability_prices_only
    return render_page(
        "report.html.j2",
        a=assessment,
        total_log_odds=None if chance is None else logit(chance),
        score_scale=""
        if score is None
        else draw_score_scale(score, None if alone is None else 100 * alone),
        contributions="" if baseline is None else draw_contributions(baseline, assessment.reasons),
        overrides=overrides,
        backtest=backtest,
        backtest_chart=_chart_of(backtest),
        rejects=rejects,
        quotes=quotations_of(assessment.text.evidence),
        fan_chart=""
        if market is None
        else draw_fan_chart(market.history, [market.har, market.garch]),
    )


def _chart_of(backtest: Backtest | None) -> str:
    if backtest is None:
        return ""
    return draw_backtest(
        backtest.losses,
        backtest.value_at_risk,
        first_date=backtest.first_date,
        last_date=backtest.last_date,
    )


def quotations_of(evidence: Sequence[Evidence]) -> list[Quotation]:
    """Returns the passages in their order, shaded by how much each moved the signal."""
    largest = max((abs(one.contribution) for one in evidence), default=0.0) or 1.0
    return [
        Quotation(
            evidence=one,
            effect="raises" if one.contribution >= 0 else "lowers",
            shade=round(_LIGHTEST + (_DARKEST - _LIGHTEST) * abs(one.contribution) / largest, 3),
        )
        for one in evidence
    ]
