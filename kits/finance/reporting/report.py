"""The assessment as one HTML page that needs nothing else: no script, no font, no address."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from kits.finance.reporting.fan_chart import PAST_WINDOW_DAYS, draw_fan_chart
from kits.finance.risk.score import RiskAssessment, logit

__all__ = ["render_report"]


def render_report(assessment: RiskAssessment) -> str:
    """Returns the page. Everything from the document is escaped.

    Equal assessments give equal pages: no time of day enters.
    """
    market = assessment.market
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    source = files("kits.finance.reporting").joinpath("report.html.j2").read_text("utf-8")
    probability = assessment.event_probability
    return environment.from_string(source).render(
        a=assessment,
        total_log_odds=None if probability is None else logit(probability),
        past_window_days=PAST_WINDOW_DAYS,
        levels=""
        if market is None
        else ", ".join(f"{100 * level:g}%" for level in market.har.quantile_levels),
        fan_chart=""
        if market is None
        else draw_fan_chart(market.history, [market.har, market.garch]),
    )
