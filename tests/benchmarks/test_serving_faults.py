"""Killed workers leave whole transactions, and the count would show it if they did not."""

from __future__ import annotations

import pytest

from benchmarks.faults_worker import effects_of, make_jobs, make_stores, n_interrupted, work
from benchmarks.serving_faults import Tally, _verdict, kill_workers, tally

CONFIG = {
    "workers": 2,
    "seed": 1,
    "mean_s_between_kills": {"journal": 0.03, "noted before": 0.01, "noted after": 0.01},
    "kill_for_s": 20,
}


@pytest.fixture
def jobs():
    return make_jobs(40, refused_share=0.2, seed=3)


@pytest.fixture
def folder(tmp_path):
    make_stores(tmp_path)
    return tmp_path


def test_jobs_are_of_every_kind_and_the_same_for_a_seed(jobs):
    assert {(job.refused, job.repeatable) for job in jobs} == {
        (refused, repeatable) for refused in (False, True) for repeatable in (False, True)
    }
    assert jobs == make_jobs(40, refused_share=0.2, seed=3)


@pytest.mark.parametrize("side", ["journal", "noted before", "noted after"])
def test_undisturbed_every_side_does_its_jobs(folder, jobs, side):
    work(folder, jobs, side)
    assert tally(jobs, effects_of(folder)) == Tally(0, 0, 0)
    assert len(effects_of(folder)) == sum(not job.refused for job in jobs)


def test_killed_workers_lose_and_repeat_nothing(folder, jobs):
    n_kills = kill_workers(folder, jobs, "journal", CONFIG)
    assert tally(jobs, effects_of(folder)) == Tally(0, 0, 0)
    assert n_kills > 0
    assert n_interrupted(folder, jobs) <= n_kills  # a worker has one under way at a time


def test_each_fault_is_counted(jobs):
    whole = {job.number: (1, 1, 1) for job in jobs if not job.refused}
    done = [job.number for job in jobs if not job.refused]
    refused = next(job.number for job in jobs if job.refused)
    assert tally(jobs, whole) == Tally(0, 0, 0)
    assert tally(jobs, {n: whole[n] for n in done[1:]}) == Tally(1, 0, 0)
    assert tally(jobs, whole | {done[0]: (1, 2, 1)}) == Tally(0, 1, 0)
    assert tally(jobs, whole | {done[0]: (1, 1, 0)}) == Tally(0, 0, 1)
    assert tally(jobs, whole | {refused: (1, 1, 1)}) == Tally(0, 0, 1)


@pytest.mark.parametrize(
    ("ours", "others", "n_cut", "expected"),
    [
        (Tally(0, 0, 0), Tally(3, 0, 0), 5, "reproduced"),
        (Tally(0, 1, 0), Tally(3, 0, 0), 5, "contradicted"),
        (Tally(0, 0, 0), Tally(0, 0, 0), 5, "not shown"),
        (Tally(0, 0, 0), Tally(3, 0, 0), 0, "not shown"),
    ],
    ids=["whole", "one repeated", "controls as good", "no kill half-way"],
)
def test_nothing_is_shown_unless_kills_met_work_and_hurt_the_controls(
    ours, others, n_cut, expected
):
    tallies = {"journal": ours, "noted before": others, "noted after": others}
    assert _verdict(tallies, 9, n_cut, 40)[0] == expected


def test_a_worker_that_ends_with_a_fault_ends_the_run(tmp_path, jobs):
    with pytest.raises(RuntimeError, match="ended with 1"):  # the databases are not there
        kill_workers(tmp_path, jobs, "noted before", CONFIG | {"kill_for_s": 0})
