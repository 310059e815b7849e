"""`tuning.crossover`: from how many labelled texts on full tuning beats the small adapters.

Rows, by their fields:

- `name` "full", "lora", "prefix", "bottleneck", "majority", "tf-idf" or "frozen base";
  `dataset` "<task>@<training rows>"; `metric` "accuracy" (interval over test rows and seeds)
  or "weighted F1" (interval: smallest and largest of the seeds).
- `name` "full minus <adapter>" with `metric` "accuracy difference": paired on the same test
  rows, against the adapter method with the best development accuracy at that size.
- `name` "<method>, shuffled labels": the control, which may not beat "majority".

A headline `crossover_samples_<task>` is the smallest size at which the interval of that
difference lies above zero; null where none does. `crossover_samples` is the smallest of
the tasks' headlines. The article says 10,000; arXiv 2305.14576 finds that adapters beat
full tuning where rows are few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paired import Interval, crossed_interval, weighted_f1
from benchmarks.reports import LabelledTexts, Split, TextTask, cancer_type, fomc_stance
from benchmarks.suite import Outcome, Role, Row, Verdict
from benchmarks.text_floors import FLOORS
from benchmarks.token_rows import encode
from benchmarks.tuning_runs import (
    Cell,
    CellResult,
    Protocol,
    read_protocol,
)
from benchmarks.tuning_workers import run_cells
from common.backbones import Backbone, load_backbone

__all__ = ["crossover", "first_crossover", "plan"]

_PROTOCOL = Path(__file__).parent / "configs" / "tuning.crossover.json"
_ADAPTERS = ("lora", "prefix", "bottleneck")
_QUICK_ROWS = {"train": 100, "dev": 20, "test": 30}
_QUICK_TOKENS = 24


def crossover(data: Path | None, *, quick: bool) -> Outcome:
    """Measures `tuning.crossover` on the two report tasks.

    Args:
        data: Folder of the open data sets; a folder `minilm` in it takes the place of the
            bundled base. Without it TANDEM_DATA names the folder.
        quick: Two small sizes, few rows and steps, for a look.

    Raises:
        MissingInputError: The data sets are absent.
    """
    folder = data or Path(os.environ.get("TANDEM_DATA", "../shared/data"))
    protocol = read_protocol(_PROTOCOL, quick=quick)
    tasks = [cancer_type(folder), fomc_stance(folder)]
    if quick:
        tasks = [_shrunk(task) for task in tasks]
    base = folder / "minilm" if (folder / "minilm").is_dir() else "minilm"
    backbone = load_backbone(base)
    encoded = {task.name: encode(task, backbone.tokenizer) for task in tasks}
    cells = [cell for task in tasks for cell in plan(task, protocol)]
    results = run_cells(cells, encoded, base, protocol)
    measured = [
        _TaskResults(task, protocol, [r for r in results if r.cell.task == task.name])
        for task in tasks
    ]
    rows = [row for task in measured for row in task.rows()]
    return Outcome(
        rows=rows,
        headlines=_headlines(measured),
        verdict=_verdict(measured),
        note=_note(measured),
        config=_config(protocol, tasks, results, backbone),
        seeds=protocol.seeds,
        data={name: digest for task in tasks for name, digest in task.data.items()},
    )


def plan(task: TextTask, protocol: Protocol) -> list[Cell]:
    """Returns the cells of a task: every method at every size that exists, and the controls."""
    sizes = _sizes(task, protocol)
    names = (*protocol.methods, *FLOORS)
    cells = [Cell(task.name, name, n) for n in sizes for name in names]
    control = max((n for n in sizes if n <= protocol.control_size), default=sizes[0])
    return cells + [Cell(task.name, method, control, shuffled=True) for method in protocol.methods]


def first_crossover(differences: Mapping[int, Interval]) -> int | None:
    """Returns the smallest size whose interval lies above zero, or None."""
    return min((n for n, interval in differences.items() if interval.above_zero), default=None)


def _sizes(task: TextTask, protocol: Protocol) -> list[int]:
    """Returns the protocol's sizes that the task has, its smallest split's whole last."""
    whole = min(len(split.train) for split in task.splits)
    return sorted({whole if n is None else n for n in protocol.sizes if n is None or n < whole})


@dataclass(frozen=True)
class _TaskResults:
    task: TextTask
    protocol: Protocol
    results: Sequence[CellResult]

    def rows(self) -> Iterator[Row]:
        for result in self.results:
            yield from _score_rows(self.task, result, self.protocol)
        for n, (best, interval) in self.differences().items():
            where = f"{self.task.name}@{n}"
            yield _row(f"full minus {best}", where, "accuracy difference", interval, "ours")

    def differences(self) -> dict[int, tuple[str, Interval]]:
        """Returns, by size, the best adapter method and full's paired gain over it."""
        found = {}
        for n in _sizes(self.task, self.protocol):
            at_n = {
                r.cell.method: r
                for r in self.results
                if r.cell.n_train == n and not r.cell.shuffled
            }
            best = max(_ADAPTERS, key=lambda method: float(np.mean(at_n[method].dev_accuracy)))
            ours, peer = (self._right(at_n[name]) for name in ("full", best))
            gains = [a - b for a, b in zip(ours, peer, strict=True)]
            found[n] = best, crossed_interval(gains, self._units())
        return found

    def crossover(self) -> int | None:
        return first_crossover({n: interval for n, (_, interval) in self.differences().items()})

    def _right(self, result: CellResult) -> list[Any]:
        tests = [self.task.split(seed).test for seed in self.protocol.seeds]
        return [
            (predicted == np.array(test.labels)).astype(float)
            for predicted, test in zip(result.predictions, tests, strict=True)
        ]

    def _units(self) -> list[tuple[str, ...]]:
        return [self.task.split(seed).test.texts for seed in self.protocol.seeds]


def _score_rows(task: TextTask, result: CellResult, protocol: Protocol) -> Iterator[Row]:
    cell = result.cell
    name = f"{cell.method}, shuffled labels" if cell.shuffled else cell.method
    role = _role(cell)
    seeds = protocol.seeds[: len(result.predictions)]
    tests = [task.split(seed).test for seed in seeds]
    labels = [np.array(test.labels) for test in tests]
    right = [p == y for p, y in zip(result.predictions, labels, strict=True)]
    f1 = [
        weighted_f1(y, p, len(task.classes))
        for p, y in zip(result.predictions, labels, strict=True)
    ]
    accuracy = crossed_interval(right, [test.texts for test in tests])
    where = f"{task.name}@{cell.n_train}"
    yield _row(name, where, "accuracy", accuracy, role)
    yield _row(name, where, "weighted F1", Interval(float(np.mean(f1)), min(f1), max(f1)), role)


def _role(cell: Cell) -> Role:
    if cell.shuffled or cell.method == "full":
        return "control"
    return "floor" if cell.method in FLOORS else "ours"


def _row(name: str, where: str, metric: str, interval: Interval, role: Role) -> Row:
    return Row(name, where, metric, interval.value, interval.low, interval.high, "1", role)


def _headlines(measured: Sequence[_TaskResults]) -> dict[str, float | None]:
    by_task = {f"crossover_samples_{m.task.name}": m.crossover() for m in measured}
    shown = [n for n in by_task.values() if n is not None]
    return {"crossover_samples": min(shown, default=None), **by_task}


def _verdict(measured: Sequence[_TaskResults]) -> Verdict:
    """The article's claim: below 10,000 samples the adapters are the better choice."""
    if any(m.crossover() is not None for m in measured):
        return "contradicted"
    below = [any(i.high < 0 for _, i in m.differences().values()) for m in measured]
    return "reproduced" if all(below) else "not shown"


def _note(measured: Sequence[_TaskResults]) -> str:
    parts = []
    for m in measured:
        sizes = _sizes(m.task, m.protocol)
        n = m.crossover()
        where = f"from {n} rows on" if n else f"at no size up to {sizes[-1]}"
        parts.append(f"{m.task.name}: full beats the best adapter {where}")
    return "; ".join(parts) + " (paired 95% interval above zero)."


def _config(
    protocol: Protocol, tasks: Sequence[TextTask], results: Sequence[CellResult], backbone: Backbone
) -> dict[str, Any]:
    return {
        **asdict(protocol),
        "base": {"name": backbone.name, "digest": backbone.digest},
        "windows": {task.name: f"first {task.max_tokens} tokens" for task in tasks},
        "splits": {
            task.name: [[len(s.train), len(s.dev), len(s.test)] for s in task.splits]
            for task in tasks
        },
        "chosen": [
            {
                **asdict(r.cell),
                "learning_rate": r.learning_rate,
                "tried_dev_accuracy": list(r.tried),
                "dev_accuracy": list(r.dev_accuracy),
                "steps": protocol.steps(r.cell.n_train),
                "seconds": round(r.seconds, 1),
            }
            for r in results
            if r.learning_rate is not None
        ],
    }


def _shrunk(task: TextTask) -> TextTask:
    def few(part: LabelledTexts, n: int) -> LabelledTexts:
        return part.take(range(min(n, len(part))))

    splits = [
        Split(*(few(getattr(split, name), n) for name, n in _QUICK_ROWS.items()))
        for split in task.splits
    ]
    return replace(task, splits=tuple(splits), max_tokens=_QUICK_TOKENS)
