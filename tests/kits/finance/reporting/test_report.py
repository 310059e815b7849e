"""The report is one escaped page that needs nothing from elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from kits.finance.markets.forecasters import forecast_volatility
from kits.finance.markets.prices import PriceHistory
from kits.finance.reporting.fan_chart import draw_fan_chart
from kits.finance.reporting.report import render_report
from kits.finance.risk.measures import one_day_var_es
from kits.finance.risk.score import (
    Evidence,
    MarketView,
    Reason,
    RiskAssessment,
    TextSignal,
    probability,
)

ATTACK = '<script>alert(1)</script> & a "quote"'


@pytest.fixture(scope="module")
def market() -> MarketView:
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 900)))
    dates = np.arange(900).astype("datetime64[D]")
    history = PriceHistory(ticker="ABC", dates=dates, close=close)
    har, garch = (forecast_volatility(history, model=model) for model in ("har", "garch"))
    return MarketView(history=history, har=har, garch=garch, tail=one_day_var_es(history))


@pytest.fixture(scope="module")
def assessment(market: MarketView) -> RiskAssessment:
    evidence = Evidence(ATTACK, 10, 40, 20, 60, "item_1a", 0.01)
    return RiskAssessment(
        ticker="ABC",
        as_of=None,
        form="10-K",
        document_digest="0" * 64,
        text=TextSignal(0.02, 61.0, 12, (evidence,)),
        market=market,
        event_definition="Volatility is high.",
        event_probability=probability(-0.7),
        event_probability_prices_only=probability(-1.0),
        baseline_log_odds=-1.5,
        score=100 * probability(-0.7),
        reasons=(
            Reason("PRICE_VOLATILITY", "Prices moved.", 0.5),
            Reason("TEXT_TONE", "Words.", 0.3, (evidence,)),
        ),
        notes=("A note.",),
        provenance=(),
    )


def test_text_of_the_document_is_escaped(assessment: RiskAssessment) -> None:
    page = render_report(assessment)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_nothing_is_loaded_from_elsewhere(assessment: RiskAssessment) -> None:
    page = render_report(assessment)
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=|\burl\(", page)


def test_every_tag_is_closed(assessment: RiskAssessment) -> None:
    void = {"meta", "br"}

    class Balance(HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012  # one parser, one page

        def handle_starttag(self, tag, attrs):
            if tag not in void:
                self.open_tags.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag

    parser = Balance()
    parser.feed(render_report(assessment))
    assert parser.open_tags == []


def test_figures_of_score_reasons_and_tail_are_shown(assessment: RiskAssessment) -> None:
    page = render_report(assessment)
    assert f"{assessment.score:.1f}" in page
    assert "+0.500" in page
    assert "-0.700" in page, "the sum of the log-odds"
    assert f"{100 * assessment.market.tail.value_at_risk:.2f}%" in page


def test_equal_assessments_give_equal_pages(assessment: RiskAssessment) -> None:
    assert render_report(assessment) == render_report(assessment)


def test_without_prices_the_page_says_that_no_market_part_could_be_computed(
    assessment: RiskAssessment,
) -> None:
    text_only = replace(
        assessment,
        market=None,
        event_probability=None,
        event_probability_prices_only=None,
        baseline_log_odds=None,
        score=None,
    )
    page = render_report(text_only)
    assert "No market part could be computed" in page
    assert "<svg" not in page


def test_the_fan_chart_is_xml_and_inside_its_frame(market: MarketView) -> None:
    root = ET.fromstring(draw_fan_chart(market.history, [market.har, market.garch]))  # noqa: S314  # our own text
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for path in root.iter("path"):
        points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.attrib["d"])
        assert points
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points)
