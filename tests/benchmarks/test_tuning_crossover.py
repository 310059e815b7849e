"""The plan of the crossover benchmark, and how its headline is read off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.paired import Interval
from benchmarks.reports import LabelledTexts, Split, TextTask
from benchmarks.tuning_crossover import first_crossover, plan
from benchmarks.tuning_runs import Cell, CellResult, read_protocol
from benchmarks.tuning_workers import Journal

PROTOCOL = read_protocol(
    Path(__file__).parents[2] / "benchmarks" / "configs" / "tuning.crossover.json", quick=False
)


def task(n_train: int) -> TextTask:
    part = LabelledTexts(("a",) * n_train, (0,) * n_train)
    few = part.take(range(5))
    return TextTask("stance", ("x", "y"), (Split(part, few, few),), 16, {})


def sizes(n_train: int) -> list[int]:
    return sorted({cell.n_train for cell in plan(task(n_train), PROTOCOL)})


def test_sizes_that_a_task_has_not_are_left_out_and_all_rows_come_last() -> None:
    assert sizes(5500) == [64, 256, 1024, 4096, 5500]
    assert sizes(1716) == [64, 256, 1024, 1716]


def test_every_size_has_every_method_and_every_floor() -> None:
    cells = plan(task(1716), PROTOCOL)
    names = {cell.method for cell in cells if cell.n_train == 256}
    methods = {"full", "lora", "prefix", "bottleneck"}
    assert names == {*methods, "majority", "tf-idf", "frozen base"}
    assert {cell.method for cell in cells if cell.shuffled} == methods


def test_every_method_has_as_many_learning_rates_to_choose_from() -> None:
    assert len({len(rates) for rates in PROTOCOL.learning_rates.values()}) == 1
    assert set(PROTOCOL.learning_rates) == set(PROTOCOL.methods)
    assert len(PROTOCOL.seeds) >= 3


def test_the_crossover_is_the_smallest_size_with_a_gain_beyond_chance() -> None:
    unclear, clear = Interval(0.1, -0.01, 0.2), Interval(0.05, 0.01, 0.1)
    assert first_crossover({64: unclear, 256: clear, 1024: clear}) == 256
    assert first_crossover({64: unclear, 256: unclear}) is None


def test_few_rows_are_still_stepped_on_often_enough() -> None:
    assert PROTOCOL.steps(64) == PROTOCOL.min_steps
    assert PROTOCOL.steps(5500) == -(-5500 * PROTOCOL.epochs // PROTOCOL.batch_size)


def test_a_journal_gives_finished_cells_back_to_the_same_run_alone(tmp_path: Path) -> None:
    cell = Cell("stance", "lora", 64)
    result = CellResult(cell, 1e-3, (0.5, 0.6), (0.6, 0.7), (np.array([0, 1]),) * 2, 1.5)
    journal = Journal(tmp_path / "journal.jsonl", "one")
    journal.add(result)
    journal.add(replace(result, cell=Cell("stance", "majority", 64), learning_rate=None))
    read = journal.read()
    assert len(read) == 2
    assert read[cell].dev_accuracy == (0.6, 0.7)
    np.testing.assert_array_equal(read[cell].predictions[1], [0, 1])
    assert Journal(tmp_path / "journal.jsonl", "another").read() == {}
