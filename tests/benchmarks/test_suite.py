"""The command line, and the one shape that every committed result file has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.evidence import RESULT_KEYS, read_results
from benchmarks.suite import RESULTS, Outcome, Role, Row, Verdict, write_outcome

ROOT = Path(__file__).parents[2]
ROW_KEYS = {"name", "dataset", "metric", "value", "low", "high", "unit", "role", "source"}
# The headline keys that each benchmark promises; a key may end in a task's name.
HEADLINES = {
    "finance.credit": {
        f"{figure}_{panel}"
        for figure in ("auc", "brier", "ece", "auc_gain", "auc_vs_boosting")
        for panel in (
            "taiwan_default",
            "german_credit",
            "hmeq",
            "polish_1year",
            "polish_5year",
            "ratings",
        )
    },
    "finance.filings": {"item_1a_complete", "item_1a_rightly_absent"},
    "finance.linked_risk": {
        "maec15_mse",
        "maec16_mse",
        "maec15_har_mse",
        "maec16_har_mse",
        "reaction_gain_low",
        "event_auc_linked",
        "event_auc_prices",
        "event_accuracy_gain",
        "train_time_ratio",
        "train_memory_ratio",
    },
    "finance.realized": {
        "ar",
        "arq",
        "mse_ratio_h1",
        "mse_ratio_h5",
        "mse_ratio_h22",
        "qlike_ratio_h1",
        "dm_p_h1",
    },
    "finance.speed": {"portfolio_vs_loop", "filing_seconds"},
    "finance.var": {"kupiec_p", "conditional_coverage_p", "pinball", "series_passing_share"},
    "tuning.methods": {
        "lora_step_ratio",
        "prefix_step_ratio",
        "bottleneck_step_ratio",
        "lora_vs_peft",
        "bottleneck_vs_full_compiled",
        "lora_memory_ratio",
        "merged_latency_ratio",
        "unmerged_latency_ratio",
    },
    "tuning.crossover": {"crossover_samples"},
    "speed.training": {
        "full_fp8_ratio",
        "lora_fp8_base_ratio",
        "checkpoint_memory_ratio",
        "checkpoint_time_ratio",
        "auto_ratio",
    },
    "serving.adapters": {
        "all_linear_vs_adapter_names",
        "all_linear_vs_switching",
        "all_linear_time_vs_base",
        "qv_vs_adapter_names",
        "register_1000_vs_first",
        "overcommit_vs_lru",
    },
    "serving.faults": {"transactions", "lost", "duplicated", "half_done"},
    "serving.load": {"requests_per_s_vs_peer", "errors", "lost", "memory_growth"},
    "serving.router": {"p50_ms", "p99_ms", "vs_litellm", "cache_hit_ms"},
    "serving.wire": {"vs_json", "vs_orjson", "rest_vs_echo", "grpc_vs_echo"},
}
COMMITTED = sorted(RESULTS.glob("*.json"))


def test_list_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert capsys.readouterr().out.split() == sorted(BENCHMARKS)
    assert set(BENCHMARKS) == set(HEADLINES)


def test_listing_loads_no_heavy_library() -> None:
    program = (
        "import sys; from benchmarks.__main__ import main; main(['list']);"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"torch", "transformers", "peft", "monai"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("target", BENCHMARKS.values(), ids=list(BENCHMARKS))
def test_every_name_leads_to_a_function(target: str) -> None:
    module, function = target.split(":")
    if find_spec(module) is None:
        pytest.skip(f"{module} is not there yet")
    assert callable(getattr(import_module(module), function))


def test_a_quick_run_prints_its_rows_and_leaves_the_results_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.read_bytes() for path in COMMITTED}
    assert main(["run", "serving.router", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "routed call" in printed
    assert "written: nothing" in printed
    assert {path: path.read_bytes() for path in RESULTS.glob("*.json")} == before


def test_a_row_without_an_interval_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(BENCHMARKS, "serving.router", f"{__name__}:_bare")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[_bare.__module__])
    assert main(["run", "serving.router", "--out", str(tmp_path)]) == 0
    assert "size 3 MiB\n" in capsys.readouterr().out
    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["serving"]


def _bare(_data: Path | None, *, quick: bool) -> Outcome:
    row = Row("thing", "data", "size", 3.0, None, None, "MiB", "ours")
    return Outcome([row], {"p50_ms": None}, "not shown", "A row without an interval.")


def test_a_written_result_has_the_keys_of_all(tmp_path: Path) -> None:
    path = write_outcome("serving.router", _bare(None, quick=True), tmp_path)
    assert set(json.loads(path.read_text())) == set(RESULT_KEYS)
    assert list(read_results(tmp_path)) == [path.stem]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.name)
class TestCommittedResults:
    def test_it_has_the_keys_and_the_name_of_a_result(self, path: Path) -> None:
        result = json.loads(path.read_text(encoding="utf-8"))
        assert set(result) == set(RESULT_KEYS)
        assert path.name == f"{result['benchmark']}.{result['device']}.json"
        assert result["device"] in {"cpu", "h200"}
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", result["date"])

    def test_its_rows_say_who_measured_what(self, path: Path) -> None:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        assert rows != []
        for row in rows:
            assert set(row) == ROW_KEYS
            assert row["role"] in get_args(Role)
            assert row["source"].partition(";")[0] == "this run" or row["role"] == "published"
            assert (row["low"] is None) == (row["high"] is None)
            assert row["low"] is None or row["low"] <= row["value"] <= row["high"]

    def test_its_headlines_are_those_that_were_promised(self, path: Path) -> None:
        result = json.loads(path.read_text(encoding="utf-8"))
        assert result["verdict"] in get_args(Verdict)
        assert HEADLINES[result["benchmark"]] <= set(result["headlines"])
        assert result["note"].strip()
