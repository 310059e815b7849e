"""What this project measured about tuning methods, as rows that the advisor reads.

`python -m benchmarks report` writes `evidence.json` from the benchmarks' result files;
nothing in it is typed by hand. Its rows are checked here when they are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from common.errors import AdapterError

__all__ = ["EVIDENCE", "KINDS", "METRICS", "EvidenceRow", "read_evidence"]

EVIDENCE = Path(__file__).with_name("evidence.json")
FORMAT = 1
KINDS = ("lora", "prefix", "bottleneck", "full")

# What a row may state. A ratio of speed is the method's over full tuning's: larger is
# better. Other ratios are the method's over the other side's: smaller is better.
METRICS = {
    "accuracy": "share of test rows that are right",
    "accuracy_difference": "its accuracy minus that of `against`, on the same test rows",
    "learning_rate": "the rate that was best on the development rows",
    "parameter_share": "trained parameters over all",
    "step_ratio": "full tuning's time of a step over its own",
    "memory_ratio": "its peak memory over full tuning's",
    "latency_ms": "time of a forward pass, the adapter apart from the weights",
    "latency_ratio": "that time over the base's",
    "merged_latency_ms": "time of a forward pass, the adapter merged into the weights",
    "merged_latency_ratio": "that time over the base's",
}


@dataclass(frozen=True)
class EvidenceRow:
    """One measured figure.

    Args:
        method: "lora", "prefix", "bottleneck" or "full".
        setting: The method with its settings, as the benchmark names them.
        against: The method that it is compared with, for a difference.
        device: "cpu", or the accelerator's short name ("h200").
        shape: Name of the base; for speed and memory with rows x tokens.
        n_parameters: Parameters of that base, if they are known.
        task: Data set; empty for speed and memory.
        n_samples: Training rows; None for speed and memory.
        metric: One of `METRICS`.
        value: The figure.
        low: Lower end of its interval, if there is one.
        high: Upper end of its interval, if there is one.
        source: Result file that it comes from.
        commit: Commit that was measured.
        date: Day of the run (ISO 8601).
    """

    method: str
    setting: str
    against: str | None
    device: str
    shape: str
    n_parameters: int | None
    task: str
    n_samples: int | None
    metric: str
    value: float
    low: float | None
    high: float | None
    source: str
    commit: str
    date: str

    def __str__(self) -> str:
        """Names the figure, where it was measured and its file."""
        over = f" minus {self.against}" if self.against else ""
        at = f" at {self.n_samples:,} rows of {self.task}" if self.n_samples else ""
        interval = "" if self.low is None else f" [{self.low:.4g}, {self.high:.4g}]"
        where = f"{self.shape}, {self.device}"
        words = self.metric.replace("_", " ")
        return (
            f"{self.method}{over}: {words} {self.value:.4g}{interval}{at} ({where}, {self.source})"
        )


def read_evidence(path: Path = EVIDENCE) -> tuple[EvidenceRow, ...]:
    """Reads and checks the measured rows.

    Args:
        path: A file that `python -m benchmarks report` wrote.

    Raises:
        AdapterError: The file is absent or broken; all faulty rows are named, from 0.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(f"a file that cannot be read ({type(error).__name__})") from error
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or content.get("format") != FORMAT:
        raise _broken("another format")
    faults = [f"row {i}: {fault}" for i, row in enumerate(rows) if (fault := _fault(row))]
    if faults:
        raise _broken("; ".join(faults[:10]))
    return tuple(EvidenceRow(**row) for row in rows)


def _fault(row: object) -> str | None:
    """Returns what is wrong with a row, if anything."""
    if not isinstance(row, Mapping) or set(row) != {field.name for field in fields(EvidenceRow)}:
        return "not the fields of an evidence row"
    wrong = [name for name, holds in _CHECKS.items() if not holds(row[name])]
    if wrong:
        return f"{', '.join(wrong)} cannot be used"
    low, high = row["low"], row["high"]
    if (low is None) != (high is None) or (low is not None and not low <= row["value"] <= high):
        return "the interval does not hold the value"
    return None


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)


def _is_count(found: Any) -> bool:
    return found is None or (isinstance(found, int) and not isinstance(found, bool) and found > 0)


def _is_text(found: Any) -> bool:
    return isinstance(found, str)


_CHECKS = {
    "method": lambda found: found in KINDS,
    "setting": _is_text,
    "against": lambda found: found is None or found in KINDS,
    "device": _is_text,
    "shape": _is_text,
    "n_parameters": _is_count,
    "task": _is_text,
    "n_samples": _is_count,
    "metric": lambda found: isinstance(found, str) and found in METRICS,
    "value": _is_number,
    "low": lambda found: found is None or _is_number(found),
    "high": lambda found: found is None or _is_number(found),
    "source": _is_text,
    "commit": _is_text,
    "date": _is_text,
}


def _broken(found: str) -> AdapterError:
    return AdapterError(
        "advisor's evidence",
        expected="rows that `python -m benchmarks report` wrote",
        found=found,
        remedy="Run `python -m benchmarks report` in a checkout, or reinstall the package.",
    )
