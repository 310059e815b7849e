"""The dashboard is one escaped page from nowhere else, and lists what failed."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest

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


@pytest.mark.external
def test_a_click_on_a_columns_name_sorts_by_it(table, tmp_path, debian_tool) -> None:
    """In a real browser: `pytest -m external tests/kits/finance/reporting/test_dashboard.py`."""
    chromium = debian_tool("chromium")
    rows = [replace(table.rows[0], ticker=f"T{i}", weight=w) for i, w in enumerate((0.2, 0.5, 0.3))]
    page = render_dashboard(PortfolioTable(tuple(rows)))
    click = "<script>document.querySelectorAll('th button')[4].click()</script></body>"
    (tmp_path / "page.html").write_text(page.replace("</body>", click))
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--dump-dom", f"file://{tmp_path}/page.html"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert re.findall(r">(T\d)</a>", done.stdout) == ["T1", "T2", "T0"]
    assert 'aria-sort="descending"' in done.stdout


def test_every_tag_is_closed_and_equal_tables_give_equal_pages(table) -> None:
    assert balance_of(render_dashboard(table)) == []
    assert render_dashboard(table) == render_dashboard(table)


def test_a_portfolio_without_any_score_says_so(table) -> None:
    page = render_dashboard(PortfolioTable(table.rows[1:2]))
    assert "No company has a score" in page
    assert "<svg" not in page
