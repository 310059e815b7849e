"""What is left of transactions whose workers are killed at random moments (`kill -9`).

Workers do jobs in three databases; a seeded schedule kills one, another takes its place,
until every job has ended. Then the databases are read: a job that should be done has one row
in each, a refused one none. The controls do the same by plain calls and a note of each job,
written before it or after it: they have to lose or repeat some, or the benchmark shows
nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from benchmarks.faults_worker import (
    STORES,
    Job,
    Side,
    effects_of,
    make_jobs,
    make_stores,
    n_interrupted,
    work,
)
from benchmarks.suite import Outcome, Role, Row, Verdict

__all__ = ["Tally", "faults", "kill_workers", "tally"]

_CONFIG = Path(__file__).parent / "configs" / "serving.faults.json"
_SIDES: dict[Side, tuple[str, Role]] = {
    "journal": ("transactions", "ours"),
    "noted before": ("plain calls, noted before", "control"),
    "noted after": ("plain calls, noted after", "control"),
}


@dataclass(frozen=True)
class Tally:
    """What the databases hold.

    Args:
        lost: Jobs of which nothing is there and all should be.
        duplicated: Jobs with more than one row in a database.
        half_done: Jobs with a row in some databases only; refused ones with any row.
    """

    lost: int
    duplicated: int
    half_done: int


def faults(_data: Path | None, *, quick: bool) -> Outcome:
    """Measures `serving.faults`.

    Args:
        _data: Not used; the jobs are drawn here.
        quick: 100 jobs in place of 1,000.
    """
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    config |= config.pop("quick") if quick else {}
    config.pop("quick", None)
    jobs = make_jobs(
        config["transactions"], refused_share=config["refused_share"], seed=config["seed"]
    )
    rows: list[Row] = []
    tallies: dict[Side, Tally] = {}
    n_kills: dict[Side, int] = {}
    n_cut = 0  # transactions that a kill met half-way
    for side in _SIDES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_stores(folder)
            start = time.perf_counter()
            n_kills[side] = kill_workers(folder, jobs, side, config)
            seconds = time.perf_counter() - start
            tallies[side] = tally(jobs, effects_of(folder))
            figures = {"workers killed": n_kills[side]}
            if side == "journal":
                figures["interrupted"] = n_cut = n_interrupted(folder, jobs)
        rows += _rows(side, len(jobs), tallies[side], figures, jobs_per_s=len(jobs) / seconds)
    ours = tallies["journal"]
    headlines = {
        "transactions": len(jobs),
        "lost": ours.lost,
        "duplicated": ours.duplicated,
        "half_done": ours.half_done,
    }
    verdict, note = _verdict(tallies, n_kills["journal"], n_cut, len(jobs))
    return Outcome(rows, headlines, verdict, note, config=config, seeds=(config["seed"],))


def kill_workers(folder: Path, jobs: Sequence[Job], side: Side, config: Mapping[str, Any]) -> int:
    """Runs workers until all jobs have ended, killing one now and then; returns how many.

    Args:
        folder: Of the databases.
        jobs: What they do, shared out among them.
        side: With the journal or without.
        config: `workers`, `seed`, for each side `mean_s_between_kills` (exponential), and
            `kill_for_s`, after which the rest is done in peace.

    Raises:
        RuntimeError: A worker ended by itself with a fault.
    """
    context, draw = multiprocessing.get_context("fork"), random.Random(config["seed"])
    shares = [jobs[index :: config["workers"]] for index in range(config["workers"])]

    def start(index: int) -> ForkProcess:
        process = context.Process(target=work, args=(folder, shares[index], side))
        process.start()
        return process

    running = {index: start(index) for index in range(len(shares))}
    mean_s, until = config["mean_s_between_kills"][side], time.monotonic() + config["kill_for_s"]
    n_kills = 0
    try:
        while running:
            peace = time.monotonic() > until
            pause_s = None if peace else draw.expovariate(1 / mean_s)
            ended = wait([process.sentinel for process in running.values()], timeout=pause_s)
            running = {i: p for i, p in running.items() if p.sentinel not in ended or _failed(p)}
            if not ended and not peace:
                victim = draw.choice(sorted(running))
                n_kills += _kill(running[victim])
                running[victim] = start(victim)
    finally:
        for process in running.values():
            _kill(process)
    return n_kills


def _kill(process: ForkProcess) -> bool:
    """Kills a worker; returns whether it still ran."""
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _failed(process: ForkProcess) -> bool:
    """Returns False for a worker that has done its share.

    Raises:
        RuntimeError: It ended with a fault.
    """
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"a worker ended with {process.exitcode}")
    return False


def tally(jobs: Sequence[Job], effects: Mapping[int, tuple[int, ...]]) -> Tally:
    """Counts what went wrong, from the databases alone."""
    nothing = (0,) * len(STORES)
    found = [(job, effects.get(job.number, nothing)) for job in jobs]
    return Tally(
        lost=sum(not job.refused and rows == nothing for job, rows in found),
        duplicated=sum(max(rows) > 1 for _, rows in found),
        half_done=sum(rows != nothing and (job.refused or min(rows) == 0) for job, rows in found),
    )


def _rows(
    side: Side, n_jobs: int, found: Tally, figures: Mapping[str, int], *, jobs_per_s: float
) -> list[Row]:
    name, role = _SIDES[side]
    counts = {
        "lost": found.lost,
        "duplicated": found.duplicated,
        "half done": found.half_done,
        **figures,
    }
    rows = [
        Row(name, f"{n_jobs} jobs", metric, float(count), None, None, "1", role)
        for metric, count in counts.items()
    ]
    speed = Row(
        name, f"{n_jobs} jobs", "speed, kills included", jobs_per_s, None, None, "jobs/s", role
    )
    return [*rows, speed]


def _verdict(
    tallies: Mapping[Side, Tally], n_kills: int, n_cut: int, n_jobs: int
) -> tuple[Verdict, str]:
    ours, before, after = (tallies[side] for side in _SIDES)
    wrong = {
        side: found.lost + found.duplicated + found.half_done for side, found in tallies.items()
    }
    note = (
        f"{n_jobs} jobs, {n_kills} workers killed, {n_cut} of them half-way: {ours.lost} lost, "
        f"{ours.duplicated} duplicated, "
        f"{ours.half_done} half done; without the journal {before.lost + before.half_done} lost or "
        f"half done (noted before), {after.duplicated + after.half_done} duplicated or half done "
        "(noted after)."
    )
    if wrong["journal"]:
        return "contradicted", note
    shown = n_cut and wrong["noted before"] and wrong["noted after"]
    return ("reproduced" if shown else "not shown"), note
