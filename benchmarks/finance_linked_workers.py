"""Runs the text models of `finance.linked_risk`, several processes at a time on a GPU.

With TANDEM_JOURNAL every finished run is kept in that file, a line each, and a benchmark with
the same plan, texts, targets and base takes it from there: one that was stopped goes on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.finance_linked_training import (
    TextCell,
    TextPlan,
    TextRun,
    TrainingCalls,
    run_text_cell,
)
from common.backbones import load_backbone

__all__ = ["RunJournal", "plan_cells", "run_text_models"]

_Sets = Mapping[str, TrainingCalls]


class RunJournal:
    """Finished runs in a file.

    Args:
        path: The file; None keeps nothing.
        key: What the runs depend on; lines with another are passed over.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path, self._key = path, key

    def read(self) -> dict[TextCell, TextRun]:
        """Returns the finished runs."""
        found: dict[TextCell, TextRun] = {}
        if self._path is None or not self._path.is_file():
            return found
        for line in self._path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.pop("key") == self._key:
                cell = TextCell(**entry.pop("cell"))
                entry["signals"] = np.array(entry["signals"], dtype=np.float64)
                entry["dev_correlation"] = tuple(entry["dev_correlation"])
                found[cell] = TextRun(cell, **entry)
        return found

    def add(self, run: TextRun) -> None:
        """Writes a finished run."""
        if self._path is None:
            return
        entry = asdict(run) | {"key": self._key}
        entry["signals"] = [
            [None if np.isnan(x) else x for x in row] for row in run.signals.tolist()
        ]
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def plan_cells(datasets: Sequence[str], plan: TextPlan) -> list[list[TextCell]]:
    """Returns two rounds: every learning rate with the first seed, for every set and method."""
    return [
        [TextCell(name, method, plan.seeds[0], rate) for rate in plan.learning_rates[method]]
        for name in datasets
        for method in plan.methods
    ]


def run_text_models(
    sets: _Sets, base: Path | str, plan: TextPlan, device: str
) -> dict[tuple[str, str, bool], list[TextRun]]:
    """Runs every method on every set and says each run on standard error.

    Args:
        sets: Calls by the name of their set.
        base: The base's name or folder.
        plan: How much is trained.
        device: "cpu" or "cuda".

    Returns:
        Set, method and whether transcripts were shuffled -> one run for each seed, all with the
        learning rate that the first seed's dev correlation chose.
    """
    file = os.environ.get("TANDEM_JOURNAL")
    journal = RunJournal(Path(file) if file else None, _key(sets, base, plan))
    setting = (dict(sets), base, plan, device)
    groups = plan_cells([name for name in sets if name in plan.datasets], plan)
    first = _finished([cell for group in groups for cell in group], journal, setting)
    chosen = [max((first[cell] for cell in group), key=_best_dev).cell for group in groups]
    others = [replace(cell, seed=seed) for cell in chosen for seed in plan.seeds[1:]]
    controls = [replace(cell, shuffled=True) for cell in chosen if cell.method in plan.shuffled]
    done = {**first, **_finished([*others, *controls], journal, setting)}
    found: dict[tuple[str, str, bool], list[TextRun]] = {}
    for cell in (*chosen, *others, *controls):
        found.setdefault((cell.dataset, cell.method, cell.shuffled), []).append(done[cell])
    return found


def _best_dev(run: TextRun) -> float:
    return max(run.dev_correlation)


def _finished(
    cells: Sequence[TextCell], journal: RunJournal, setting: tuple[Any, ...]
) -> dict[TextCell, TextRun]:
    done = journal.read()
    for run in _results([cell for cell in cells if cell not in done], setting):
        journal.add(run)
        done[run.cell] = run
        sys.stderr.write(_line(run))
    return {cell: done[cell] for cell in cells}


def _results(cells: Sequence[TextCell], setting: tuple[Any, ...]) -> Iterator[TextRun]:
    plan: TextPlan = setting[2]
    if not cells:
        return
    if plan.workers == 1:
        _start_worker(*setting)
        yield from map(_run, cells)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(plan.workers, _start_worker, setting) as pool:
        yield from pool.imap_unordered(_run, cells)


_worker: dict[str, Any] = {}


def _start_worker(sets: _Sets, base: Path | str, plan: TextPlan, device: str) -> None:
    import torch

    if device == "cuda":
        torch.set_num_threads(1)
    _worker.update(sets=sets, backbone=load_backbone(base), plan=plan, device=device)


def _run(cell: TextCell) -> TextRun:
    return run_text_cell(
        cell, _worker["sets"][cell.dataset], _worker["backbone"], _worker["plan"], _worker["device"]
    )


def _key(sets: _Sets, base: Path | str, plan: TextPlan) -> str:
    """Returns a digest of what a run depends on, its own fields apart."""
    fields = asdict(replace(plan, workers=1, seeds=()))
    fields.pop("datasets")
    digest = sha256(json.dumps(fields).encode())
    digest.update(str(base).encode())
    for name, calls in sorted(sets.items()):
        digest.update(name.encode())
        digest.update(np.round(calls.targets, 6).tobytes())
        for rows in (calls.train, calls.dev, calls.test):
            digest.update(rows.tobytes())
        for call in calls.tokens:
            digest.update(np.array([len(ids) for ids in call], dtype=np.int32).tobytes())
            digest.update(np.array([i for ids in call for i in ids], dtype=np.int32).tobytes())
    return digest.hexdigest()


def _line(run: TextRun) -> str:
    cell = run.cell
    return (
        f"{cell.dataset} {cell.method}{' shuffled' if cell.shuffled else ''} seed {cell.seed} "
        f"rate {cell.learning_rate:g}: dev {np.round(run.dev_correlation, 3).tolist()}, "
        f"{run.seconds:.0f} s of {run.n_steps} steps\n"
    )
