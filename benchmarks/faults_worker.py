"""One worker of `serving.faults`: does its share of the jobs, and may be killed anywhere.

A job writes one row into each of three databases. Some jobs are refused by their last step,
after it wrote, and have to leave nothing. Half of the jobs have steps that may be repeated
after a kill; the others are undone by the next process and done anew.
"""

from __future__ import annotations

import random
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from common.errors import ConflictError, InputError, TransactionError
from common.protocol.transactions.applied import apply_once, undo_once
from common.protocol.transactions.saga import JournalEntry
from common.protocol.transactions.transaction import SagaStep, Transactions

__all__ = [
    "STORES",
    "Job",
    "Side",
    "effects_of",
    "make_jobs",
    "make_stores",
    "n_interrupted",
    "work",
]

STORES = ("stock", "ledger", "archive")
Side = Literal["journal", "noted before", "noted after"]


@dataclass(frozen=True)
class Job:
    """One job.

    Args:
        number: From 0.
        refused: Whether its last step refuses it.
        repeatable: Whether its steps may be repeated after a kill.
    """

    number: int
    refused: bool
    repeatable: bool

    def steps(self) -> list[str]:
        """Returns the names of its steps."""
        return [name if self.repeatable else f"{name}-once" for name in STORES]

    def inputs(self) -> dict[str, Any]:
        """Returns what its steps read."""
        return {"job": self.number, "refused": self.refused}

    def transaction_ids(self) -> Iterator[str]:
        """Yields the id of each attempt at the job, the same in every process."""
        attempt = 0
        while True:
            yield sha256(f"{self.number}:{attempt}".encode()).hexdigest()[:32]
            attempt += 1


def make_jobs(n_jobs: int, *, refused_share: float, seed: int) -> list[Job]:
    """Draws the jobs."""
    draw = random.Random(seed)
    return [Job(n, draw.random() < refused_share, n % 2 == 0) for n in range(n_jobs)]


def make_stores(folder: Path) -> None:
    """Makes the three databases, and that of the notes, before any worker starts."""
    for name, column in (*((name, "job INTEGER, key TEXT") for name in STORES), ("notes", "job")):
        connection = _open(folder, name)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"CREATE TABLE effect ({column})")
        connection.close()


def effects_of(folder: Path) -> dict[int, tuple[int, ...]]:
    """Returns how many rows each job has in each store, by its number."""
    found: dict[int, list[int]] = {}
    for place, name in enumerate(STORES):
        connection = _open(folder, name)
        for (job,) in connection.execute("SELECT job FROM effect"):
            found.setdefault(job, [0] * len(STORES))[place] += 1
        connection.close()
    return {job: tuple(rows) for job, rows in found.items()}


def n_interrupted(folder: Path, jobs: Sequence[Job]) -> int:
    """Returns how many transactions were under way when their worker was killed."""
    transactions = Transactions(folder / "journal.sqlite")
    count = 0
    for job in jobs:
        for transaction_id in job.transaction_ids():
            entry = transactions.status(transaction_id)
            if entry is None:
                break
            again = any(step.attempts > 1 for step in entry.steps)
            count += again or "ProcessEnded" in {step.error for step in entry.steps}
    transactions.close()
    return count


def work(folder: Path, jobs: Sequence[Job], side: Side) -> None:
    """Does the jobs: with the journal, or by plain calls beside notes of what was done."""
    stores = {name: _open(folder, name) for name in STORES}
    steps = [
        _step(name, stores[name], last=name == STORES[-1], repeatable=repeatable)
        for name in STORES
        for repeatable in (True, False)
    ]
    if side == "journal":
        _work_journaled(Transactions(folder / "journal.sqlite", steps=steps), jobs)
    else:
        by_name = {step.name: step for step in steps}
        _work_plainly(by_name, jobs, _open(folder, "notes"), note_first=side == "noted before")


def _work_journaled(transactions: Transactions, jobs: Sequence[Job]) -> None:
    left = list(jobs)
    while left:
        # Attempts that were killed count too, so a compensation may be stuck without a fault.
        transactions.recover(stuck=True)
        left = [job for job in left if not _ended(transactions, job)]
        for job in left:
            transaction_id = next(
                one for one in job.transaction_ids() if not _undone(transactions.status(one))
            )
            try:
                transactions.run(job.steps(), job.inputs(), transaction_id=transaction_id)
            except (ConflictError, InputError, TransactionError):
                continue  # recovered by another worker, refused or undone: the journal says which


def _ended(transactions: Transactions, job: Job) -> bool:
    for transaction_id in job.transaction_ids():
        entry = transactions.status(transaction_id)
        if entry is not None and entry.state == "compensated" and entry.error == "InputError":
            return True
        if not _undone(entry):
            return entry is not None and entry.state == "committed"
    return False


def _undone(entry: JournalEntry | None) -> bool:
    """Returns whether an attempt was undone because of a kill, so that another has to follow."""
    return entry is not None and entry.state == "compensated" and entry.error != "InputError"


def _work_plainly(
    steps: Mapping[str, SagaStep],
    jobs: Sequence[Job],
    notes: sqlite3.Connection,
    *,
    note_first: bool,
) -> None:
    noted = {job for (job,) in notes.execute("SELECT job FROM effect")}
    for job in jobs:
        if job.number in noted:
            continue
        if note_first:
            notes.execute("INSERT INTO effect VALUES (?)", (job.number,))
        _do_plainly([steps[name] for name in job.steps()], job.inputs())
        if not note_first:
            notes.execute("INSERT INTO effect VALUES (?)", (job.number,))


def _do_plainly(steps: Sequence[SagaStep], inputs: Mapping[str, Any]) -> None:
    """Runs steps and, where one refuses, their compensations; nothing is written down."""
    begun: list[tuple[Callable[[str, Any], Any], str]] = []
    try:
        for step in steps:
            key = secrets.token_hex(16)
            if step.compensate is not None:
                begun.append((step.compensate, key))
            step.run(key, inputs)
    except InputError:
        for compensate, key in reversed(begun):
            compensate(key, None)


def _step(name: str, store: sqlite3.Connection, *, last: bool, repeatable: bool) -> SagaStep:
    def run(key: str, inputs: Mapping[str, Any]) -> int:
        def insert(tables: sqlite3.Connection) -> int:
            row = (inputs["job"], key)
            return tables.execute("INSERT INTO effect VALUES (?, ?)", row).rowcount

        made = int(apply_once(store, key, insert))
        if last and inputs["refused"]:
            raise InputError(
                "job", expected="one that can be done", found="another", remedy="Leave it."
            )
        return made

    def compensate(key: str, _outcome: Any) -> None:
        undo_once(
            store, key, lambda tables, _: tables.execute("DELETE FROM effect WHERE key = ?", (key,))
        )

    return SagaStep(name if repeatable else f"{name}-once", run, compensate, retriable=repeatable)


def _open(folder: Path, name: str) -> sqlite3.Connection:
    return sqlite3.connect(folder / f"{name}.sqlite", timeout=60.0, isolation_level=None)
