"""What a benchmark returns, and the one file that a run writes."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from common.versions import software_versions

__all__ = ["RESULTS", "Outcome", "Role", "Row", "Verdict", "device_name", "write_outcome"]

RESULTS = Path(__file__).parent / "results"
Role = Literal["ours", "peer", "floor", "control", "published"]
Verdict = Literal["reproduced", "exceeded", "not shown", "contradicted"]


@dataclass(frozen=True)
class Row:
    """One measured or published figure with its interval.

    Args:
        name: What was measured.
        dataset: On what.
        metric: Name of the figure.
        value: The figure.
        low: Lower end of its interval, if there is one.
        high: Upper end of its interval, if there is one.
        unit: Its unit ("ms", "1").
        role: Whether it is ours, a peer's, a floor, a control or a published figure.
        source: Where it comes from: "this run" (what was chosen in it behind a semicolon),
            or a citation.
    """

    name: str
    dataset: str
    metric: str
    value: float
    low: float | None
    high: float | None
    unit: str
    role: Role
    source: str = "this run"


@dataclass(frozen=True)
class Outcome:
    """What a benchmark's function returns; a headline that was not shown is None."""

    rows: Sequence[Row]
    headlines: Mapping[str, float | None]
    verdict: Verdict
    note: str
    config: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    data: Mapping[str, str] = field(default_factory=dict)


def device_name() -> str:
    """Returns "cpu", or the accelerator's short name ("h200")."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return torch.cuda.get_device_name().split()[-1].lower()


def write_outcome(benchmark: str, outcome: Outcome, folder: Path = RESULTS) -> Path:
    """Writes `<benchmark>.<device>.json` into `folder` and returns its path."""
    device = device_name()
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607  # git as the user has it
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    written = {
        "benchmark": benchmark,
        "device": device,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit or "unknown",
        "environment": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **software_versions(),
        },
        "data": dict(outcome.data),
        "config": dict(outcome.config),
        "seeds": list(outcome.seeds),
        "rows": [asdict(row) for row in outcome.rows],
        "headlines": dict(outcome.headlines),
        "verdict": outcome.verdict,
        "note": outcome.note,
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{benchmark}.{device}.json"
    path.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return path
