"""Quality of the tuning methods after the same budget: rows of `tuning.methods`.

MiniLM on one report task; steps, batch, head and seeds are the same for every method, the
learning rate is chosen as in `tuning.crossover`, from as many for one as for another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paired import crossed_interval
from benchmarks.reports import cancer_type, fomc_stance
from benchmarks.suite import Role, Row
from benchmarks.token_rows import encode
from benchmarks.tuning_runs import Cell, read_protocol, run_cell
from common.backbones import load_backbone

__all__ = ["quality_rows"]

_PROTOCOL = Path(__file__).parent / "configs" / "tuning.crossover.json"
_TASKS = {"cancer_type": cancer_type, "fomc_stance": fomc_stance}
_ROLES: dict[str, Role] = {"full": "control", "majority": "floor", "frozen base": "floor"}


def quality_rows(data: Path, settings: Mapping[str, Any], *, quick: bool) -> Iterator[Row]:
    """Yields each method's accuracy on the test rows of one task.

    Args:
        data: Folder of the open data sets.
        settings: Task, training rows, seeds and steps.
        quick: A handful of rows and steps, for a look.
    """
    task = _TASKS[settings["task"]](data)
    n_train = 24 if quick else int(settings["n_train"])
    protocol = read_protocol(_PROTOCOL, quick=quick)
    if not quick:
        steps = {name: settings[name] for name in ("epochs", "min_steps", "batch_size")}
        protocol = replace(protocol, seeds=tuple(settings["seeds"]), **steps)
    backbone = load_backbone("minilm")
    splits = encode(task, backbone.tokenizer)
    tests = [task.split(seed).test for seed in protocol.seeds]
    for name in (*protocol.methods, "majority", "frozen base"):
        cell = Cell(task.name, name, n_train)
        result = run_cell(cell, splits, backbone, protocol, "cpu")
        right = [
            predicted == np.array(test.labels)
            for predicted, test in zip(result.predictions, tests, strict=True)
        ]
        score = crossed_interval(right, [test.texts for test in tests])
        where = f"{task.name}@{n_train}"
        role = _ROLES.get(name, "ours")
        yield Row(name, where, "accuracy", score.value, score.low, score.high, "1", role)
