"""Jobs: work that outlasts a request, in a bounded queue, with status, cancel and an end.

A job lives as long as the process that took it and no longer: its files lie in a folder of
its own under TANDEM_HOME, and what a killed process left there is erased at the next start.
A job belongs to the key that sent it; others but an admin do not learn that it is there.
"""

from __future__ import annotations

import itertools
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.errors import OverloadError, UnknownNameError
from common.request import current_request, new_request, serving
from common.serving.audit import AuditEntry, AuditLog
from common.serving.gate import log_failure
from common.serving.problems import problem_of
from common.serving.security import Caller
from kits.finance.api.job import ENDED, Job, Outcome, State

__all__ = ["KEPT_DAYS", "JobStore"]

KEPT_DAYS = 1.0
"""How long results stay after their job has ended; they are there to be fetched, not kept."""

_RETRY_S = 10.0


class JobStore:
    """The jobs of one process.

    Args:
        folder: Where jobs keep their files; emptied first.
        threads: Jobs that run at a time.
        queue: Jobs that may wait, and of them `queue_each` of one key.
        queue_each: Jobs of one key that may wait or run.
        kept: Ended jobs whose results stay, 1 or more; the oldest go first.
        kept_bytes: Size of all results that stay; the newest stays in any case.
        timeout_s: Longest time for one job, waiting included.
        audit: Where the end of each job is recorded; nowhere without one.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 1,
        queue: int = 16,
        queue_each: int = 8,
        kept: int = 200,
        kept_bytes: int = 4 << 30,
        timeout_s: float = 3600.0,
        audit: AuditLog | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700, parents=True)
        self._folder, self._audit, self._clock = folder, audit, clock
        self._queue, self._queue_each, self._kept = queue, queue_each, kept
        self._kept_bytes, self._timeout_s = kept_bytes, timeout_s
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._serve, name="finance-job", daemon=True)
            for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        kind: str,
        caller: Caller,
        *,
        receive: Callable[[Path], None],
        work: Callable[[Job], Outcome],
    ) -> Job:
        """Takes a job; it runs when a thread is free.

        Args:
            kind: "assessment" or "portfolio".
            caller: Whose job it is.
            receive: Writes the inputs into the job's folder, before this returns.
            work: What is to be done; it calls `report_step` or `report_count` on its way.

        Raises:
            OverloadError: As many jobs wait as may; nothing was kept.
        """
        job = self._open(kind, caller, timeout_s=self._timeout_s)
        job.work = work
        with self._removed_on_error(job):
            receive(job.inputs)
            with self._changed:
                self._require_room(job)
                self._jobs[job.job_id] = job
                self._waiting.append(job)
                self._changed.notify()
        return job

    def run(
        self,
        kind: str,
        caller: Caller,
        *,
        receive: Callable[[Path], None],
        work: Callable[[Job], Outcome],
    ) -> tuple[Job, Outcome]:
        """Does a small piece of work at once, for the present request, and keeps its results.

        Raises:
            TandemError: What the work raises; then nothing is kept.
        """
        job = self._open(kind, caller, timeout_s=None)
        with self._removed_on_error(job):
            receive(job.inputs)
            job.state = "running"
            outcome = work(job)
            shutil.rmtree(job.inputs, ignore_errors=True)
            with self._changed:
                self._jobs[job.job_id] = job
            self._end(job, "done", outcome, audited=False)  # the request has its own record
        return job, outcome

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yields a private folder for the files of one request; it is removed in the end."""
        folder = self._folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def of(self, job_id: str, caller: Caller) -> Job:
        """Returns the job.

        Raises:
            UnknownNameError: There is none of that id that `caller` may see.
        """
        with self._changed:
            job = self._jobs.get(job_id)
        if job is None or (caller.key_id != job.owner and caller.role != "admin"):
            raise UnknownNameError(
                "job",
                expected="the id of a job of this key that is kept",
                found="another",
                remedy="Jobs end with the server's process and are erased after a day; send it "
                "again.",
            )
        return job

    def result(self, job_id: str, kind: str, caller: Caller) -> tuple[Job, Outcome]:
        """Returns the job and what it came to.

        Raises:
            UnknownNameError: There is no such job, or it has come to nothing yet.
        """
        job = self.of(job_id, caller)
        if job.kind != kind or job.outcome is None:
            raise UnknownNameError(
                kind,
                expected=f"the id of a {kind} that is done",
                found=f"a job that is {job.state}" if job.kind == kind else f"a {job.kind}",
                remedy="Read its state at /v1/finance/jobs/ID.",
            )
        return job, job.outcome

    def list(self, caller: Caller) -> Sequence[Job]:
        """Returns the caller's jobs, the newest first; an admin sees all."""
        with self._changed:
            jobs = list(self._jobs.values())
        seen = [job for job in jobs if caller.role == "admin" or job.owner == caller.key_id]
        return sorted(seen, key=lambda job: job.created_s, reverse=True)

    def cancel(self, job_id: str, caller: Caller) -> Job:
        """Ends a job that waits at once, one that runs at its next step; others stay.

        Raises:
            UnknownNameError: There is none of that id that `caller` may see.
        """
        job = self.of(job_id, caller)
        with self._changed:
            waited = job in self._waiting
            if waited:
                self._waiting.remove(job)
            elif job.state == "running":
                job.state = "cancelling"
        job.request.give_up()
        if waited:
            self._end(job, "cancelled", None)
        return job

    def erase(self, job_id: str, caller: Caller) -> None:
        """Cancels a job and forgets it with its files.

        Raises:
            UnknownNameError: There is none of that id that `caller` may see.
        """
        job = self.cancel(job_id, caller)
        with self._changed:
            self._jobs.pop(job.job_id, None)
        if job.state in ENDED:  # one that still runs is erased by its thread
            shutil.rmtree(job.folder, ignore_errors=True)

    def purge(self, older_than_s: float) -> int:
        """Erases jobs that ended so long ago, and returns how many."""
        before_s = self._clock() - older_than_s
        with self._changed:
            old = [j for j in self._jobs.values() if j.ended_s is not None and j.ended_s < before_s]
        for job in old:
            self._forget(job)
        return len(old)

    def close(self) -> None:
        """Gives up what runs, forgets what waits, and erases every file."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            for job in self._jobs.values():
                job.request.give_up()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self, kind: str, caller: Caller, *, timeout_s: float | None) -> Job:
        """Returns a job with a folder of its own; a job of a request shares its context."""
        job_id = secrets.token_hex(16)
        folder = self._folder / job_id
        (folder / "in").mkdir(mode=0o700, parents=True)
        request = current_request()
        if timeout_s is not None:
            request = new_request(timeout_s=timeout_s, trace_id=request.trace_id)
        return Job(job_id, kind, caller.key_id, folder, request, self._clock())

    @contextmanager
    def _removed_on_error(self, job: Job) -> Iterator[None]:
        try:
            yield
        except BaseException:
            shutil.rmtree(job.folder, ignore_errors=True)
            raise

    def _require_room(self, job: Job) -> None:
        open_jobs = [one for one in self._jobs.values() if one.state not in ENDED]
        own = sum(one.owner == job.owner for one in open_jobs)
        if self._closed or len(self._waiting) >= self._queue or own >= self._queue_each:
            raise OverloadError(
                "jobs",
                expected=f"fewer than {self._queue} that wait, {self._queue_each} of one key",
                found="as many",
                remedy="Send the job again later, or cancel one.",
                retry_after_s=_RETRY_S,
            )

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._waiting.popleft()
                job.state = "running"
            self._work(job)

    def _work(self, job: Job) -> None:
        """Runs one job; whatever it raises becomes its problem."""
        state: State = "done"
        outcome = None
        try:
            with serving(job.request):
                job.request.check()
                outcome = None if job.work is None else job.work(job)
        except Exception as error:  # noqa: BLE001  # the thread serves other jobs after this one
            state = "cancelled" if job.request.given_up.is_set() else "failed"
            if state == "failed":
                log_failure(error, job.request.trace_id)
                job.problem = problem_of(error).to_json(job.request.trace_id)
        shutil.rmtree(job.inputs, ignore_errors=True)
        self._end(job, state, outcome)
        with self._changed:
            erased = job.job_id not in self._jobs
        if erased:
            shutil.rmtree(job.folder, ignore_errors=True)

    def _end(
        self, job: Job, state: State, outcome: Outcome | None, *, audited: bool = True
    ) -> None:
        with self._changed:
            job.state, job.outcome, job.work = state, outcome, None
            job.ended_s, job.n_bytes = self._clock(), _size_of(job.folder)
        for one in self._superfluous():
            self._forget(one)
        if self._audit is not None and audited:
            status = 200 if state == "done" else (job.problem or {}).get("status", 499)
            self._audit.record(
                AuditEntry(
                    trace_id=job.request.trace_id,
                    key_id=job.owner,
                    action=f"JOB {job.kind}",
                    status=status,
                    models=() if outcome is None else outcome.models,
                    input_digest="" if outcome is None else outcome.input_digest,
                )
            )

    def _superfluous(self) -> Sequence[Job]:
        """Returns the ended jobs that go, so that neither number nor size is passed."""
        with self._changed:
            ended = [one for one in self._jobs.values() if one.state in ENDED]
        ended.sort(key=lambda one: one.ended_s or 0.0, reverse=True)  # the newest first
        sizes = itertools.accumulate(one.n_bytes for one in ended)
        return [
            one
            for place, (one, n_bytes) in enumerate(zip(ended, sizes, strict=True))
            if place >= self._kept or (place and n_bytes > self._kept_bytes)
        ]

    def _forget(self, job: Job) -> None:
        with self._changed:
            self._jobs.pop(job.job_id, None)
        shutil.rmtree(job.folder, ignore_errors=True)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
