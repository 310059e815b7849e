"""One row a company, whatever became of it; equal tables give equal bytes."""

from __future__ import annotations

import io
import json
import math

import pyarrow.parquet as pq
import pytest

from kits.finance.reporting.tables import (
    PortfolioTable,
    company_record,
    portfolio_json,
    portfolio_parquet,
)
from kits.finance.risk.score import logit


def test_each_line_is_a_row_and_a_failure_keeps_its_reason(table) -> None:
    frame = pq.read_table(io.BytesIO(portfolio_parquet(table))).to_pylist()
    assert [row["status"] for row in frame] == ["assessed", "failed", "assessed"]
    assert frame[1]["score"] is None
    assert "1+1" in frame[1]["failure"]


def test_the_reasons_of_a_row_add_up_to_its_log_odds(table) -> None:
    row = pq.read_table(io.BytesIO(portfolio_parquet(table))).to_pylist()[0]
    parts = [value for name, value in row.items() if name.startswith("log_odds_")]
    total = row["baseline_log_odds"] + math.fsum(parts)
    assert total == pytest.approx(logit(row["event_probability"]))
    assert row["score"] == pytest.approx(100 * row["event_probability"])


def test_weighted_figures_speak_for_the_rows_that_have_them(table) -> None:
    found, one = table.summary, table.rows[0].assessment
    assert found["weight_scored"] == 0.5
    assert found["mean_score"] == pytest.approx(one.score)
    assert found["value_at_risk_sum"] == pytest.approx(one.market.tail.value_at_risk)
    assert found["expected_events"] == pytest.approx(one.event_probability)
    assert (found["n_companies"], found["n_assessed"], found["n_failed"]) == (3, 2, 1)


def test_without_any_score_there_are_no_means(table) -> None:
    assert PortfolioTable(table.rows[1:]).summary["mean_score"] is None


def test_json_and_parquet_hold_the_same_figures(table) -> None:
    written = json.loads(portfolio_json(table, run={}))
    frame = pq.read_table(io.BytesIO(portfolio_parquet(table))).to_pylist()
    for company, row in zip(written["companies"], frame, strict=True):
        assert {n: company[n] for n in company_record(table.rows[0])} == {
            n: v for n, v in row.items() if not n.startswith("log_odds_")
        }


def test_equal_tables_give_equal_bytes(table) -> None:
    assert portfolio_parquet(table) == portfolio_parquet(table)
    assert portfolio_json(table, run={}) == portfolio_json(table, run={})
