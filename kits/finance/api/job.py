"""One job: what was asked, how far it is, and what it came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from common.request import RequestContext
from common.task import Provenance

__all__ = ["ENDED", "Job", "Outcome", "State"]

State = Literal["queued", "running", "cancelling", "done", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})
"""States that a job never leaves."""


@dataclass(frozen=True)
class Outcome:
    """Where a job's results come from; the results themselves are files.

    Args:
        models: Where the figures come from, for the audit record.
        input_digest: sha256 of the input, for the audit record.
    """

    models: tuple[Provenance, ...] = ()
    input_digest: str = ""


@dataclass(eq=False)
class Job:
    """One piece of work and how far it is.

    Args:
        job_id: 128 random bits, in hexadecimal.
        kind: "assessment" or "portfolio".
        owner: Id of the key that sent it.
        folder: Its own folder; inputs under `in`, results under `out`.
        request: Its trace and deadline; given up when it is cancelled.
        created_s: Moment of the store's clock.
    """

    job_id: str
    kind: str
    owner: str
    folder: Path
    request: RequestContext
    created_s: float
    state: State = "queued"
    step: str = ""
    done: int = 0
    total: int = 0
    outcome: Outcome | None = None
    problem: dict[str, Any] | None = None
    ended_s: float | None = None
    n_bytes: int = 0
    work: Callable[[Job], Outcome] | None = field(default=None, repr=False)

    @property
    def inputs(self) -> Path:
        """Where its inputs lie."""
        return self.folder / "in"

    @property
    def results(self) -> Path:
        """Where its results lie."""
        return self.folder / "out"

    def report_step(self, step: str) -> None:
        """Notes the step that begins; ends the work where nobody wants it any more.

        Raises:
            DeadlineError: The job was cancelled, or took too long.
        """
        self.request.check()
        self.step = step

    def report_count(self, done: int, total: int) -> None:
        """Notes how much is done; ends the work where nobody wants it any more.

        Raises:
            DeadlineError: The job was cancelled, or took too long.
        """
        self.request.check()
        self.done, self.total = done, total

    def to_json(self) -> dict[str, Any]:
        """Returns the status: how far it is, and the problem that ended it, if one did."""
        status: dict[str, Any] = {"id": self.job_id, "kind": self.kind, "state": self.state}
        status["created"] = _moment(self.created_s)
        status["ended"] = None if self.ended_s is None else _moment(self.ended_s)
        status["step"] = self.step
        status["progress"] = {"done": self.done, "total": self.total}
        status["problem"] = self.problem
        return status


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
