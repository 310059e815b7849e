"""The dashboard is one escaped page from nowhere else, and lists what failed."""

from __future__ import annotations

import re

from kits.finance.reporting.dashboard import render_dashboard
from kits.finance.reporting.tables import PortfolioTable
from tests.kits.finance.reporting.test_report import balance_of


def test_companies_link_to_their_reports_and_failures_have_reasons(table) -> None:
    page = render_dashboard(table)
    assert 'href="companies/0002-ABC/report.html"' in page
    assert re.search(r"<th scope=\"row\">BAD</th><td>=1\+1 &lt;script", page)


def test_nothing_is_loaded_from_elsewhere_and_only_our_script_runs(table) -> None:
    page = render_dashboard(table)
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=|\burl\(", page)
    assert page.count("<script") == 1


def test_numbers_are_sorted_by_their_value_and_not_as_they_are_shown(table) -> None:
    page = render_dashboard(table)
    assert f'data-key="{table.rows[0].score!r}"' in page
    assert 'data-key=""' in page, "a number that is not there"


def test_every_tag_is_closed_and_equal_tables_give_equal_pages(table) -> None:
    assert balance_of(render_dashboard(table)) == []
    assert render_dashboard(table) == render_dashboard(table)


def test_a_portfolio_without_any_score_says_so(table) -> None:
    page = render_dashboard(PortfolioTable(table.rows[1:2]))
    assert "No company has a score" in page
    assert "<svg" not in page
