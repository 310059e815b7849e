"""Processes that share a cache compute a result once, and outlive one that is killed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import DeadlineError
from common.request import new_request, serving
from common.routing.cache import ResultCache
from common.task import Result
from tests.common.routing import computing_process
from tests.common.routing.computing_process import PROFILE, TASKS

ROOT = Path(__file__).parents[4]


@pytest.fixture
def start(tmp_path):
    """Starts a process and returns it when it is ready."""
    started = []

    def begin(job, *, lease_s):
        process = subprocess.Popen(
            [sys.executable, computing_process.__file__, str(tmp_path), job, str(lease_s)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def test_processes_compute_each_result_once_between_them(start, tmp_path):
    processes = [start("count", lease_s=60) for _ in range(3)]
    for process in processes:
        go(process)
    for process in processes:
        assert process.stdout.readline() == "done\n"
        assert process.wait(30) == 0
    assert sorted((tmp_path / "calls").read_text().split()) == ["one", "three", "two"]


def test_another_process_takes_over_from_one_that_was_killed(start, tmp_path):
    process = start("hang", lease_s=0.5)
    go(process)
    assert process.stdout.readline() == "computing\n"
    cache = ResultCache(tmp_path / "results", lease_s=0.5)
    assert cache.stats().computing == 3
    process.kill()
    process.wait(30)
    request = new_request(timeout_s=30)  # beyond the lease: a lease that never ends fails here
    with serving(request):
        fetched = cache.get_or_compute(PROFILE, TASKS[0], lambda _: Result({"text": "HERE"}))
    assert (fetched.source, fetched.result.values) == ("computed", {"text": "HERE"})
    assert cache.get(PROFILE, TASKS[0]) is not None
    cache.close()


def test_who_waits_for_another_process_stops_at_its_deadline(start, tmp_path):
    process = start("hang", lease_s=60)
    go(process)
    assert process.stdout.readline() == "computing\n"
    cache = ResultCache(tmp_path / "results", lease_s=60)
    with serving(new_request(timeout_s=0.2)), pytest.raises(DeadlineError):
        cache.get_or_compute(PROFILE, TASKS[0], lambda _: Result())
    assert cache.stats().computing == 3  # and leaves the computation alone
    cache.close()


@pytest.mark.slow
def test_processes_that_are_killed_at_random_leave_a_whole_store_and_right_answers(start, tmp_path):
    processes = [start("mix", lease_s=0.5) for _ in range(4)]
    for _ in range(40):
        time.sleep(random.uniform(0.05, 0.5))
        killed = processes.pop(random.randrange(len(processes)))
        killed.kill()
        killed.communicate()
        processes.append(start("mix", lease_s=0.5))
    for process in processes:
        assert process.communicate(timeout=60)[0] == "done\n"
        assert process.returncode == 0
    cache = ResultCache(tmp_path / "results")
    assert cache.stats().damaged == 0
    cache.close()
    tables = sqlite3.connect(tmp_path / "results" / "results.sqlite")
    assert tables.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    counted = tables.execute("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM result").fetchone()
    assert tables.execute("SELECT results, bytes FROM total").fetchone() == counted
    tables.close()


def test_a_process_after_a_fork_has_leases_and_flights_of_its_own(tmp_path):
    """The parent's computation under way is none of the child's."""
    program = """
import os, sys
from pathlib import Path
from common.routing.cache import ResultCache
from common.task import Result
from tests.common.routing.computing_process import PROFILE, TASKS

cache = ResultCache(Path(sys.argv[1]), lease_s=60)

def compute(task):
    child = os.fork()
    if child == 0:
        fetched = cache.get_or_compute(PROFILE, TASKS[1], lambda _: Result({"by": "child"}))
        os._exit(0 if fetched.source == "computed" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return Result({"by": "parent"})

assert cache.get_or_compute(PROFILE, TASKS[0], compute).source == "computed"
assert cache.get(PROFILE, TASKS[0]).values["by"] == "parent"
assert cache.get(PROFILE, TASKS[1]).values["by"] == "child"
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "results")],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
