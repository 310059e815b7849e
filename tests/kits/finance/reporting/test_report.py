"""The report is one escaped page that needs nothing from elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from kits.finance.markets.prices import PriceHistory
from kits.finance.reporting.backtest import recent_backtest
from kits.finance.reporting.report import quotations_of, render_report
from kits.finance.risk.score import Evidence, RiskAssessment


@pytest.fixture(scope="module")
def page(assessment: RiskAssessment) -> str:
    return render_report(assessment)


def test_text_of_the_document_is_escaped(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=|\burl\(", page)


def balance_of(page: str) -> list[str]:
    """Returns the tags that are never closed."""
    void = {"meta", "br"}

    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open_tags: list[str] = []

        def handle_starttag(self, tag, attrs):
            if tag not in void:
                self.open_tags.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag

    parser = Balance()
    parser.feed(page)
    return parser.open_tags


def test_every_tag_is_closed(page: str) -> None:
    assert balance_of(page) == []


def test_figures_of_score_reasons_and_tail_are_shown(assessment: RiskAssessment, page: str) -> None:
    assert f"{assessment.score:.1f}" in page
    assert "+0.500" in page
    assert "-0.700" in page, "the sum of the log-odds"
    assert f"{100 * assessment.market.tail.value_at_risk:.2f}%" in page


def test_equal_assessments_give_equal_pages(assessment: RiskAssessment, page: str) -> None:
    assert render_report(assessment) == page


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


def test_every_picture_says_in_words_what_it_shows(page: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(pictures) == 4
    assert all('role="img"' in one and "<title>" in one for one in pictures)


def test_every_test_of_the_backtest_is_shown_with_the_figures_that_it_has(
    assessment: RiskAssessment, page: str
) -> None:
    found = recent_backtest(assessment.market.history, level=assessment.market.tail.level)
    assert len(found.tests) == 6
    for test in found.tests:
        cells = re.search(
            rf"{test.name}</th><td class=\"n\">([^<]+)</td><td class=\"n\">([^<]+)", page
        )
        assert cells.groups() == (f"{test.statistic:.3f}", f"{test.p_value:.3f}")
    assert f"{found.n_exceptions} of 250 days" in page
    assert found.traffic_light.zone in page


def test_prices_too_few_for_a_backtest_are_said_so(assessment: RiskAssessment) -> None:
    history = assessment.market.history
    short = PriceHistory("ABC", history.dates[-499:], history.close[-499:])
    page = render_report(replace(assessment, market=replace(assessment.market, history=short)))
    assert "No backtest" in page


def test_overrides_stand_beside_the_models_number(assessment: RiskAssessment, page: str) -> None:
    override = {
        "figure": "/score",
        "model_value": assessment.score,
        "value": 55.0,
        "reason": "<b>merger</b>",
        "proposed_by": "ann",
        "approved_by": "bob",
        "expires": "2027-01-31",
    }
    shown = render_report(assessment, overrides=[override])
    assert "Manual overrides in force" in shown
    assert "&lt;b&gt;merger" in shown
    assert f"score {assessment.score:.1f} of 100" in shown
    assert "Manual overrides" not in page


def test_the_passage_that_moved_most_is_the_darkest() -> None:
    evidence = [Evidence("x", 0, 1, 0, 1, "call", c) for c in (0.4, -0.2, 0.1)]
    quotes = quotations_of(evidence)
    assert [one.effect for one in quotes] == ["raises", "lowers", "raises"]
    assert quotes[0].shade > quotes[1].shade > quotes[2].shade > 0


def contrast(ink: tuple[int, int, int], paper: tuple[float, ...]) -> float:
    """WCAG 2.1, contrast ratio."""

    def luminance(colour: tuple[float, ...]) -> float:
        parts = [c / 255 for c in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_has_the_contrast_that_wcag_asks_for(page: str) -> None:
    named = {n: tuple(bytes.fromhex(v)) for n, v in re.findall(r"--(\w+):#([0-9a-f]{6})", page)}
    white, panel = (255, 255, 255), named["panel"]
    for name in ("ink", "soft", "main", "up", "down"):
        assert contrast(named[name], white) >= 4.5, name
    assert contrast(named["soft"], panel) >= 4.5
    for red, green, blue in re.findall(r"rgba\((\d+), (\d+), (\d+), var", page):
        shade = max(map(float, re.findall(r"--w:([\d.]+)", page)))
        paper = [255 + (int(c) - 255) * shade for c in (red, green, blue)]
        assert contrast(named["ink"], tuple(paper)) >= 7
