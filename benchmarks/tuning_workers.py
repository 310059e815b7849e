"""Runs the cells of `tuning.crossover`, several processes at a time where there is a GPU.

With TANDEM_JOURNAL every finished cell is kept in that file, a line each, and a run with
the same protocol, rows and base takes it from there: a run that was stopped goes on.
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

from benchmarks.token_rows import TokenSplit
from benchmarks.tuning_runs import Cell, CellResult, Protocol, run_cell
from common.backbones import load_backbone

__all__ = ["Journal", "run_cells"]

_Tasks = Mapping[str, tuple[TokenSplit, ...]]


class Journal:
    """Finished cells in a file.

    Args:
        path: The file; None keeps nothing.
        key: What the cells depend on; lines with another are passed over.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path, self._key = path, key

    def read(self) -> dict[Cell, CellResult]:
        """Returns the finished cells."""
        found: dict[Cell, CellResult] = {}
        if self._path is None or not self._path.is_file():
            return found
        for line in self._path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.pop("key") == self._key:
                cell = Cell(**entry.pop("cell"))
                for name in ("tried", "dev_accuracy"):
                    entry[name] = tuple(entry[name])
                entry["predictions"] = tuple(np.array(p) for p in entry["predictions"])
                found[cell] = CellResult(cell, **entry)
        return found

    def add(self, result: CellResult) -> None:
        """Writes a finished cell."""
        if self._path is None:
            return
        entry = asdict(result) | {"key": self._key}
        entry["predictions"] = [p.tolist() for p in result.predictions]
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def run_cells(
    cells: Sequence[Cell], tasks: _Tasks, base: Path | str, protocol: Protocol
) -> list[CellResult]:
    """Runs all cells, the longest first, and says each one on standard error.

    Args:
        cells: What to run.
        tasks: Token ids of each task's splits.
        base: The base's name or folder.
        protocol: The budget.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    file = os.environ.get("TANDEM_JOURNAL")
    journal = Journal(Path(file) if file else None, _key(tasks, base, protocol))
    done = journal.read()
    left = [cell for cell in cells if cell not in done]
    left.sort(key=lambda cell: -cell.n_train * tasks[cell.task][0].test.ids.shape[1])
    for result in _results(left, (dict(tasks), base, protocol, device)):
        journal.add(result)
        done[result.cell] = result
        sys.stderr.write(_line(result))
    return [done[cell] for cell in cells]


def _results(cells: Sequence[Cell], setting: tuple[Any, ...]) -> Iterator[CellResult]:
    _, _, protocol, device = setting
    workers = protocol.workers[device]
    if workers == 1 or not cells:
        _start_worker(*setting)
        yield from map(_run, cells)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, setting) as pool:
        yield from pool.imap_unordered(_run, cells)


_worker: dict[str, Any] = {}


def _start_worker(tasks: _Tasks, base: Path | str, protocol: Protocol, device: str) -> None:
    import torch

    if device == "cuda":
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("high")  # TF32, for every method alike
    backbone = load_backbone(base)
    backbone.model.to(device)
    _worker.update(tasks=tasks, backbone=backbone, protocol=protocol, device=device)


def _run(cell: Cell) -> CellResult:
    protocol: Protocol = _worker["protocol"]
    if cell.shuffled:  # a control needs no choice: the middle rate, one seed
        rates = protocol.learning_rates[cell.method]
        middle = {cell.method: (rates[len(rates) // 2],)}
        protocol = replace(protocol, seeds=protocol.seeds[:1], learning_rates=middle)
    splits = _worker["tasks"][cell.task]
    return run_cell(cell, splits, _worker["backbone"], protocol, _worker["device"])


def _key(tasks: _Tasks, base: Path | str, protocol: Protocol) -> str:
    """Returns a digest of what a cell's result depends on, its own fields apart."""
    digest = sha256(json.dumps(asdict(replace(protocol, workers={}))).encode())
    digest.update(str(base).encode())
    for name, splits in sorted(tasks.items()):
        digest.update(name.encode())
        for split in splits:
            for part in (split.train, split.dev, split.test):
                digest.update(part.ids.tobytes() + part.labels.tobytes())
    return digest.hexdigest()


def _line(result: CellResult) -> str:
    cell = result.cell
    return (
        f"{cell.task}@{cell.n_train} {cell.method}{' shuffled' if cell.shuffled else ''}: "
        f"rate {result.learning_rate}, dev {np.round(result.tried, 3).tolist()} "
        f"{np.round(result.dev_accuracy, 3).tolist()}, {result.seconds:.1f} s\n"
    )
