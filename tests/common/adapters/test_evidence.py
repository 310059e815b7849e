"""The file of measured rows: read whole, or refused with the rows at fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.adapters.evidence import read_evidence
from common.errors import AdapterError

ROW: dict[str, Any] = {
    "method": "full",
    "setting": "all weights",
    "against": "lora",
    "device": "cpu",
    "shape": "tiny",
    "n_parameters": 1000,
    "task": "reports",
    "n_samples": 64,
    "metric": "accuracy_difference",
    "value": -0.02,
    "low": -0.03,
    "high": 0.01,
    "source": "test.json",
    "commit": "0",
    "date": "2026-01-01",
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "evidence.json"
    path.write_text(json.dumps(content))
    return path


def test_a_row_comes_back_and_names_itself(tmp_path: Path) -> None:
    (row,) = read_evidence(written(tmp_path, {"format": 1, "rows": [ROW]}))
    assert row.value == -0.02
    assert str(row) == (
        "full minus lora: accuracy difference -0.02 [-0.03, 0.01] at 64 rows of reports "
        "(tiny, cpu, test.json)"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"method": "sparse"},
        {"metric": "speed"},
        {"metric": ["accuracy"]},
        {"value": "0.3"},
        {"value": True},
        {"value": float("nan")},
        {"low": None},
        {"low": 0.5},
        {"n_samples": 0},
        {"n_parameters": 1.5},
        {"against": "base"},
        {"source": None},
        {"extra": 1},
    ],
)
def test_a_faulty_row_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    path = written(tmp_path, {"format": 1, "rows": [ROW, {**ROW, **change}]})
    with pytest.raises(AdapterError, match="row 1: "):
        read_evidence(path)


@pytest.mark.parametrize("content", [[], {"rows": []}, {"format": 2, "rows": []}, {"format": 1}])
def test_another_format_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(AdapterError, match="another format"):
        read_evidence(written(tmp_path, content))


def test_an_absent_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="FileNotFoundError"):
        read_evidence(tmp_path / "none.json")
