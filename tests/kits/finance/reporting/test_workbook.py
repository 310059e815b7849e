"""The workbook opens, runs nothing, and is the same each time."""

from __future__ import annotations

import io
import re
import time
import zipfile

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kits.finance.reporting.tables import CompanyRow, PortfolioTable
from kits.finance.reporting.workbook import FORMULA_STARTS, portfolio_workbook

SHEETS = ["Summary", "Companies", "Reasons", "Evidence", "Failures", "Notes"]


def opened(content: bytes) -> openpyxl.Workbook:
    return openpyxl.load_workbook(io.BytesIO(content))


def test_every_sheet_is_there_with_a_header_and_its_rows(table) -> None:
    book = opened(portfolio_workbook(table))
    assert book.sheetnames == SHEETS
    assert book["Companies"].max_row == 4
    assert book["Failures"]["B2"].value == "BAD"


def test_nothing_in_it_is_a_formula(table) -> None:
    content = portfolio_workbook(table)
    cells = [c for sheet in opened(content) for row in sheet.iter_rows() for c in row]
    assert {c.data_type for c in cells if c.value is not None} <= {"s", "n"}
    hostile = [c for c in cells if isinstance(c.value, str) and c.value.startswith(FORMULA_STARTS)]
    assert len(hostile) >= 2
    assert all(c.quotePrefix for c in hostile)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sheets = [archive.read(n) for n in archive.namelist() if "worksheets/" in n]
    assert not any(b"<f>" in sheet or b"<f " in sheet for sheet in sheets)


@given(st.text(min_size=1, max_size=40), st.sampled_from(FORMULA_STARTS))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_written_as_text(words: str, start: str) -> None:
    row = CompanyRow(2, "ABC", 1.0, failure=start + words)
    cell = opened(portfolio_workbook(PortfolioTable((row,))))["Failures"]["C2"]
    assert cell.data_type == "s"
    assert len(cell.value) == len((start + words).replace("\r\n", "\n"))


def test_a_text_longer_than_a_cell_takes_is_cut_and_says_so() -> None:
    row = CompanyRow(2, "ABC", 1.0, failure="x" * 40_000)
    cell = opened(portfolio_workbook(PortfolioTable((row,))))["Failures"]["C2"]
    assert len(cell.value) == 32_767
    assert cell.value.endswith("…")


def test_figures_are_unrounded(table) -> None:
    sheet = opened(portfolio_workbook(table))["Companies"]
    names = [cell.value for cell in sheet[1]]
    score = sheet.cell(2, names.index("score") + 1).value
    assert score == pytest.approx(table.rows[0].score, rel=1e-15)


def test_it_is_the_same_at_another_time(table, monkeypatch) -> None:
    first = portfolio_workbook(table)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2e9))
    assert portfolio_workbook(table) == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        core = archive.read("docProps/core.xml").decode()
    assert set(re.findall(r"\d{4}-\d\d-\d\d", core)) == {"1980-01-01"}
