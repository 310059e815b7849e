"""Jobs wait in a bounded queue, end when they are cancelled, and leave nothing behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from common.errors import DeadlineError, OverloadError, TableError, UnknownNameError
from common.serving.security import Caller
from kits.finance.api.job import Outcome
from kits.finance.api.jobs import JobStore

DESK, OTHER, ADMIN = (Caller(n, r) for n, r in (("a", "analyst"), ("b", "analyst"), ("c", "admin")))


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock):
    opened = JobStore(tmp_path / "jobs", queue=2, queue_each=3, kept=2, clock=clock)
    yield opened
    opened.close()


def receive(folder: Path) -> None:
    (folder / "input.txt").write_text("secret")


def at_once(job) -> Outcome:
    assert (job.inputs / "input.txt").read_text() == "secret"
    (job.results).mkdir()
    (job.results / "answer.txt").write_text("x" * 100)
    return Outcome(input_digest="1")


class Held:
    """Work that begins, and goes on when it is let go."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self, job) -> Outcome:
        self.begun.set()
        self.let_go.wait(30)
        job.report_step("after")
        return Outcome(input_digest="2")


def send(store: JobStore, work, caller: Caller = DESK):
    return store.submit("assessment", caller, receive=receive, work=work)


def wait_for(store: JobStore, job, *states: str) -> None:
    for _ in range(3000):
        if job.state in states:
            return
        threading.Event().wait(0.01)
    pytest.fail(job.state)


def test_a_job_runs_and_its_inputs_are_gone_when_it_is_done(store: JobStore) -> None:
    job = send(store, at_once)
    wait_for(store, job, "done")
    assert store.result(job.job_id, "assessment", DESK)[1].input_digest == "1"
    assert not job.inputs.exists()


def test_the_queue_is_bounded_and_a_refused_job_leaves_no_files(store: JobStore) -> None:
    held = Held()
    send(store, held)
    assert held.begun.wait(30)
    for caller in (DESK, OTHER):
        send(store, at_once, caller)
    before = len(list(store._folder.iterdir()))
    with pytest.raises(OverloadError) as full:
        send(store, at_once, OTHER)
    assert full.value.retry_after_s >= 1
    assert len(list(store._folder.iterdir())) == before
    held.let_go.set()


def test_one_key_cannot_take_the_whole_queue(tmp_path: Path) -> None:
    store, held = JobStore(tmp_path / "jobs", queue=9, queue_each=1), Held()
    send(store, held)
    with pytest.raises(OverloadError):
        send(store, at_once)
    send(store, at_once, OTHER)
    held.let_go.set()
    store.close()


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_at_its_next_step(store) -> None:
    held = Held()
    running, waiting = send(store, held), send(store, at_once)
    assert held.begun.wait(30)
    assert store.cancel(waiting.job_id, DESK).state == "cancelled"
    assert store.cancel(running.job_id, DESK).state == "cancelling"
    held.let_go.set()
    wait_for(store, running, "cancelled")
    assert running.problem is None
    with pytest.raises(UnknownNameError, match="cancelled"):
        store.result(running.job_id, "assessment", DESK)
    assert store.cancel(running.job_id, DESK).state == "cancelled", "again is no fault"


def test_a_failure_becomes_the_jobs_problem_and_the_next_job_runs(store: JobStore) -> None:
    def fail(_job) -> Outcome:
        raise TableError("prices", expected="some", found="none", remedy="Give some.")

    def break_down(_job) -> Outcome:
        raise ZeroDivisionError("the client's secret")

    failed = send(store, fail)
    wait_for(store, failed, "failed")
    broken = send(store, break_down)
    wait_for(store, broken, "failed")
    wait_for(store, send(store, at_once), "done")
    assert (failed.state, failed.problem["status"]) == ("failed", 422)
    assert "expected some" in failed.problem["detail"]
    assert broken.problem["status"] == 500
    assert "secret" not in str(broken.to_json())


def test_others_do_not_learn_that_a_job_is_there_but_an_admin_does(store: JobStore) -> None:
    job = send(store, at_once)
    for ask in (store.of, store.cancel, store.erase):
        with pytest.raises(UnknownNameError) as refused:
            ask(job.job_id, OTHER)
        with pytest.raises(UnknownNameError) as unknown:
            ask("0" * 32, OTHER)
        assert str(refused.value) == str(unknown.value)
    assert store.list(OTHER) == []
    assert [one.job_id for one in store.list(ADMIN)] == [job.job_id]


def test_erasing_takes_the_files_also_of_a_job_that_runs(store: JobStore) -> None:
    held = Held()
    job = send(store, held)
    assert held.begun.wait(30)
    store.erase(job.job_id, DESK)
    with pytest.raises(UnknownNameError):
        store.of(job.job_id, DESK)
    held.let_go.set()
    wait_for(store, job, "cancelled")
    for _ in range(1000):
        if not job.folder.exists():
            return
        threading.Event().wait(0.01)
    pytest.fail("its files are there")


def test_the_oldest_results_go_first_and_all_by_age(store: JobStore, clock: Clock) -> None:
    jobs = []
    for _ in range(3):
        clock.now += 10
        jobs.append(send(store, at_once))
        wait_for(store, jobs[-1], "done")
    with pytest.raises(UnknownNameError):
        store.of(jobs[0].job_id, DESK)
    assert store.purge(older_than_s=5) == 1
    clock.now += 100
    assert store.purge(older_than_s=5) == 1
    assert list(store._folder.iterdir()) == []


def test_results_are_bounded_in_size_too(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs", kept_bytes=250)
    jobs = []
    for _ in range(3):
        jobs.append(send(store, at_once))
        wait_for(store, jobs[-1], "done")
    for _ in range(1000):
        if not jobs[0].folder.exists():
            break
        threading.Event().wait(0.01)
    assert [one.folder.exists() for one in jobs] == [False, True, True]
    store.close()


def test_a_small_piece_of_work_is_done_at_once_and_kept_only_where_it_succeeds(store) -> None:
    job, outcome = store.run("assessment", DESK, receive=receive, work=at_once)
    assert store.result(job.job_id, "assessment", DESK) == (job, outcome)

    def fail(_job) -> Outcome:
        raise TableError("prices", expected="some", found="none", remedy="Give some.")

    with pytest.raises(TableError):
        store.run("assessment", DESK, receive=receive, work=fail)
    assert [p.name for p in store._folder.iterdir()] == [job.job_id]


def test_what_a_killed_process_left_is_erased_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "jobs" / "0123" / "in"
    left.mkdir(parents=True)
    (left / "input.txt").write_text("secret")
    store = JobStore(tmp_path / "jobs")
    assert list((tmp_path / "jobs").iterdir()) == []
    assert (tmp_path / "jobs").stat().st_mode & 0o077 == 0
    store.close()
    assert not (tmp_path / "jobs").exists()


def test_closing_gives_up_what_runs_and_takes_no_more(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    begun, seen = threading.Event(), []

    def wait(job) -> Outcome:
        begun.set()
        job.request.given_up.wait(30)
        try:
            job.report_count(1, 2)
        except DeadlineError:
            seen.append("given up")
            raise
        return Outcome()

    send(store, wait)
    assert begun.wait(30)
    store.close()
    assert seen == ["given up"]
    with pytest.raises((OverloadError, FileNotFoundError)):
        send(store, at_once)
