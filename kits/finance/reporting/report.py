"""The assessment as one HTML page that needs nothing else: no script, no font, no address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def render_report(assessment: RiskAssessment) -> str:
    """Returns the page. Everything from the document is escaped.

    Equal assessments give equal pages: no time of day enters.
    """
    market, score = assessment.market, assessment.score
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
        quotes=quotations_of(assessment.text.evidence),
        fan_chart=""
        if market is None
        else draw_fan_chart(market.history, [market.har, market.garch]),
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
