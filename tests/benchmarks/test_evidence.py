"""From result files to the advisor's rows and the document's tables.

The results here are made up for the tests and written to temporary folders only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.article_table import DOCUMENT, MARKERS, render_tables, write_tables
from benchmarks.evidence import (
    EVIDENCE,
    RESULT_KEYS,
    evidence_rows,
    read_results,
    setting_name,
    write_evidence,
)
from benchmarks.tuning_runs import read_protocol
from benchmarks.tuning_sides import SIDES
from common.adapters.evidence import read_evidence
from common.adapters.rules import STARTING_POINTS
from common.errors import InputError

CONFIGS = Path(__file__).parents[2] / "benchmarks" / "configs"
METHODS = {
    "full": {"kind": "full"},
    "lora": {"kind": "lora", "rank": 16, "alpha": 32, "targets": "all-linear"},
}


def row(name: str, dataset: str, metric: str, value: float, **more: Any) -> dict[str, Any]:
    made = {"low": value, "high": value, "unit": "1", "role": "ours", "source": "this run"}
    return {"name": name, "dataset": dataset, "metric": metric, "value": value, **made, **more}


def result(benchmark: str, rows: list[dict[str, Any]], **config: Any) -> dict[str, Any]:
    return {
        "benchmark": benchmark,
        "device": "cpu",
        "date": "2026-01-01",
        "commit": "0" * 40,
        "environment": {},
        "data": {},
        "config": config,
        "seeds": [0],
        "rows": rows,
        "headlines": {},
        "verdict": "not shown",
        "note": "Made for a test.",
    }


@pytest.fixture
def crossover() -> dict[str, Any]:
    rows = [
        row("lora", "reports@64", "accuracy", 0.7, low=0.6, high=0.8),
        row("lora", "reports@64", "weighted F1", 0.7),
        row("full", "reports@64", "accuracy", 0.6, role="control"),
        row("majority", "reports@64", "accuracy", 0.3, role="floor"),
        row("lora, shuffled labels", "reports@64", "accuracy", 0.3, role="control"),
        row("full minus lora", "reports@64", "accuracy difference", -0.1, low=-0.2, high=-0.05),
    ]
    cell = {"task": "reports", "method": "lora", "n_train": 64, "learning_rate": 1.5e-3}
    chosen = [{**cell, "shuffled": False}, {**cell, "shuffled": True}]
    return result("tuning.crossover", rows, methods=METHODS, base={"name": "minilm"}, chosen=chosen)


@pytest.fixture
def methods() -> dict[str, Any]:
    side, where = "lora all-linear r16", "bert-base 16x64"
    rows = [
        row(side, where, "parameter share", 0.02),
        row(side, where, "step speed against full", 1.5, low=1.4, high=1.6),
        row(side, where, "latency", 110.0, unit="ms"),
        row(side, where, "latency against base", 1.1),
        row(f"{side} merged", where, "latency against base", 1.0),
        row("full", where, "step speed against full", 1.0, role="control"),
        row(f"peft {side}", where, "step speed against full", 1.2, role="peer"),
        row("base forward", where, "latency", 100.0, role="floor"),
        row("LoRA", "article", "step speed against full", 1.15, role="published"),
        row("lora", "reports@512", "accuracy", 0.9),
    ]
    return result("tuning.methods", rows)


def test_accuracies_and_rates_of_real_methods_become_rows(crossover: dict[str, Any]) -> None:
    rows = evidence_rows({"tuning.crossover.cpu": crossover})
    assert [(r.method, r.against, r.metric, r.value) for r in rows] == [
        ("lora", None, "accuracy", 0.7),
        ("full", None, "accuracy", 0.6),
        ("full", "lora", "accuracy_difference", -0.1),
        ("lora", None, "learning_rate", 1.5e-3),
    ]
    assert {(r.task, r.n_samples, r.shape) for r in rows} == {("reports", 64, "minilm")}
    assert {r.setting for r in rows} == {"lora all-linear r16", "full"}
    assert {r.source for r in rows} == {"benchmarks/results/tuning.crossover.cpu.json"}
    assert {r.n_parameters for r in rows} == {22_565_376}  # MiniLM without its pooler


def test_costs_of_our_sides_become_rows(methods: dict[str, Any]) -> None:
    rows = evidence_rows({"tuning.methods.cpu": methods})
    assert [(r.setting, r.metric, r.value) for r in rows] == [
        ("lora all-linear r16", "parameter_share", 0.02),
        ("lora all-linear r16", "step_ratio", 1.5),
        ("lora all-linear r16", "latency_ms", 110.0),
        ("lora all-linear r16", "latency_ratio", 1.1),
        ("lora all-linear r16", "merged_latency_ratio", 1.0),
        ("full", "step_ratio", 1.0),
    ]
    assert {r.shape for r in rows} == {"bert-base 16x64"}


def test_what_is_written_is_read_back(
    crossover: dict[str, Any], methods: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "evidence.json"
    rows = evidence_rows({"tuning.crossover.cpu": crossover, "tuning.methods.cpu": methods})
    write_evidence(rows, path)
    assert read_evidence(path) == tuple(rows)
    write_evidence([], path)
    assert read_evidence(path) == ()


def test_the_committed_evidence_is_what_the_committed_results_give() -> None:
    assert read_evidence(EVIDENCE) == tuple(evidence_rows(read_results()))


def test_the_benchmarks_measure_the_settings_that_the_advisor_recommends() -> None:
    sides = {spec.name: spec for spec in SIDES}
    for start in STARTING_POINTS.values():
        assert sides[start.measured_as].method == start.method
    protocol = read_protocol(CONFIGS / "tuning.crossover.json", quick=False)
    measured = {setting_name(settings) for settings in protocol.methods.values()}
    assert measured == {start.measured_as for start in STARTING_POINTS.values()}


@pytest.mark.parametrize("spec", [s for s in SIDES if s.settings and not s.plain])
def test_a_side_bears_the_name_of_its_settings(spec: Any) -> None:
    assert setting_name(spec.settings) == spec.name


def test_a_file_that_is_no_result_is_refused(tmp_path: Path, methods: dict[str, Any]) -> None:
    (tmp_path / "tuning.methods.h200.json").write_text(json.dumps(methods))
    with pytest.raises(InputError, match="another name"):
        read_results(tmp_path)
    del methods["seeds"]
    (tmp_path / "tuning.methods.h200.json").write_text(json.dumps(methods))
    with pytest.raises(InputError, match="without seeds"):
        read_results(tmp_path)
    assert "seeds" in RESULT_KEYS


class TestTables:
    def test_without_results_they_say_so(self) -> None:
        text = "\n".join(render_tables({}))
        assert text.count("Not measured yet.") == 2
        assert "`speed.training`: not measured yet" in text

    def test_our_columns_stand_beside_the_articles(self, methods: dict[str, Any]) -> None:
        text = "\n".join(render_tables({"tuning.methods.cpu": methods}))
        assert "| lora all-linear r16 | 2.00% |  | 1.50 | 1.15 | 1.10 | 1.00 |  |  |" in text
        assert "peft" not in text
        assert "reports" not in text

    def test_accuracy_stands_by_number_of_rows(self, crossover: dict[str, Any]) -> None:
        text = "\n".join(render_tables({"tuning.crossover.cpu": crossover}))
        assert "| method | 64 |" in text
        assert "| lora | 0.700 [0.600, 0.800] |" in text
        assert "| majority | 0.300 [0.300, 0.300] |" in text

    def test_only_the_text_between_the_markers_changes(
        self, methods: dict[str, Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "page.md"
        path.write_text(f"before\n{MARKERS[0]}\nold\n{MARKERS[1]}\nafter\n")
        write_tables({"tuning.methods.cpu": methods}, path)
        once = path.read_text()
        write_tables({"tuning.methods.cpu": methods}, path)
        assert path.read_text() == once
        assert once.startswith(f"before\n{MARKERS[0]}\n")
        assert once.endswith(f"{MARKERS[1]}\nafter\n")
        assert "old" not in once

    def test_a_page_without_markers_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "page.md"
        path.write_text(f"{MARKERS[1]}\n{MARKERS[0]}\n")
        with pytest.raises(InputError, match="markers"):
            write_tables({}, path)

    def test_the_document_shows_the_committed_results(self, tmp_path: Path) -> None:
        copy = tmp_path / DOCUMENT.name
        copy.write_text(DOCUMENT.read_text(encoding="utf-8"), encoding="utf-8")
        write_tables(read_results(), copy)
        assert copy.read_text(encoding="utf-8") == DOCUMENT.read_text(encoding="utf-8")
