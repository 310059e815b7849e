"""The journal of transactions: what was begun, how far it came, and what is left to do.

Every change is one commit that is on the disk before the caller goes on
(`common.protocol.database`): no step runs that the journal does not know of. Inputs and
outcomes are kept until the transaction is purged, because a later process needs them to go
on; errors are kept as class names only.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from common.protocol.database import Database
from common.protocol.messages.payloads import TransactionRecord
from common.protocol.stored_value import StoredValue
from common.protocol.transactions.saga import JournalEntry, Policy, StepEntry, TransactionState

__all__ = ["Journal"]

_APPLICATION_ID = 0x74644A31  # "tdJ1"
_MIGRATIONS = (
    (
        """CREATE TABLE saga (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            policy TEXT NOT NULL,
            digest TEXT NOT NULL,
            state TEXT NOT NULL,
            error TEXT,
            begun REAL NOT NULL,
            changed REAL NOT NULL
        ) STRICT""",
        """CREATE TABLE input (
            saga INTEGER NOT NULL REFERENCES saga ON DELETE CASCADE,
            name TEXT NOT NULL,
            kind TEXT NOT NULL,
            content BLOB NOT NULL,
            PRIMARY KEY (saga, name)
        ) STRICT""",
        """CREATE TABLE step (
            saga INTEGER NOT NULL REFERENCES saga ON DELETE CASCADE,
            place INTEGER NOT NULL,
            name TEXT NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            error TEXT,
            kind TEXT,
            content BLOB,
            PRIMARY KEY (saga, place)
        ) STRICT""",
        """CREATE TABLE record (
            number INTEGER PRIMARY KEY,
            saga INTEGER NOT NULL REFERENCES saga ON DELETE CASCADE,
            step TEXT NOT NULL,
            state TEXT NOT NULL,
            idempotency_key TEXT NOT NULL,
            time REAL NOT NULL
        ) STRICT""",
        "CREATE INDEX saga_state ON saga (state, changed)",
        "CREATE INDEX record_saga ON record (saga)",
    ),
)


class Journal:
    """Transactions in one SQLite file; threads and processes may use it at once.

    Args:
        path: The file; made for its owner only.
        clock: Unix time in seconds.

    Raises:
        StoreError: The file is damaged, no journal, or of a later version.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(path, application_id=_APPLICATION_ID, migrations=_MIGRATIONS)
        self._clock = clock

    def begin(
        self,
        transaction_id: str,
        steps: Sequence[str],
        *,
        inputs: Mapping[str, StoredValue],
        policy: Policy,
        digest: str,
    ) -> JournalEntry:
        """Writes a new transaction, its first step begun, and returns its entry.

        The caller holds the claim on its id and has found no transaction of that id.
        """
        now = self._clock()
        entries = tuple(StepEntry(place, name) for place, name in enumerate(steps))
        entries = (entries[0].begun("running"), *entries[1:])
        with self._database.writing() as tables:
            number = tables.execute(
                "INSERT INTO saga (id, policy, digest, state, begun, changed)"
                " VALUES (?, ?, ?, 'running', ?, ?)",
                (transaction_id, policy, digest, now, now),
            ).lastrowid
            assert number is not None  # noqa: S101  # an insert has one
            entry = JournalEntry(
                number, transaction_id, policy, digest, "running", entries, inputs, None, now, now
            )
            tables.executemany(
                "INSERT INTO input VALUES (?, ?, ?, ?)",
                [(number, name, one.kind, one.content) for name, one in inputs.items()],
            )
            tables.executemany(
                "INSERT INTO step (saga, place, name, state, attempts) VALUES (?, ?, ?, ?, ?)",
                [(number, one.place, one.name, one.state, one.attempts) for one in entries],
            )
            _record(tables, entry, now, entries[:1], "running")
        return entry

    def write(
        self,
        entry: JournalEntry,
        *steps: StepEntry,
        state: TransactionState | None = None,
        error: str | None = None,
    ) -> JournalEntry:
        """Writes one change of a transaction and returns its entry after it.

        Args:
            entry: As it stands.
            steps: The steps that change, as they will stand.
            state: The transaction's new state; as before without it.
            error: Class of the error that leads to it; as before without it.
        """
        now = self._clock()
        after = replace(
            entry.with_steps(steps),
            state=state or entry.state,
            error=error or entry.error,
            changed=now,
        )
        with self._database.writing() as tables:
            for step in steps:
                _update(tables, entry, step)
            tables.execute(
                "UPDATE saga SET state = ?, error = ?, changed = ? WHERE number = ?",
                (after.state, after.error, now, entry.number),
            )
            _record(tables, entry, now, steps, state)
        return after

    def find(self, transaction_id: str) -> JournalEntry | None:
        """Returns a transaction as it stands; None where there is none."""
        with self._database.reading() as tables:
            return _find(tables, transaction_id)

    def ids(self, *states: TransactionState) -> list[str]:
        """Returns the transactions that stand in one of `states`, the oldest first."""
        marks = ", ".join("?" * len(states))
        with self._database.reading() as tables:
            rows = tables.execute(
                f"SELECT id FROM saga WHERE state IN ({marks}) ORDER BY number",  # noqa: S608  # marks only
                states,
            ).fetchall()
        return [transaction_id for (transaction_id,) in rows]

    def records(self, transaction_id: str) -> list[TransactionRecord]:
        """Returns what happened to a transaction, in order; nothing where there is none."""
        with self._database.reading() as tables:
            rows = tables.execute(
                "SELECT id, step, record.state, idempotency_key, time"
                " FROM record JOIN saga ON saga.number = record.saga"
                " WHERE id = ? ORDER BY record.number",
                (transaction_id,),
            ).fetchall()
        return [TransactionRecord(*row) for row in rows]

    def delete(self, transaction_id: str) -> None:
        """Erases a transaction, its inputs and outcomes included."""
        with self._database.writing() as tables:
            tables.execute("DELETE FROM saga WHERE id = ?", (transaction_id,))
        self._database.erase_log()

    def purge(self, older_than_s: float) -> int:
        """Erases transactions that ended longer ago; returns how many."""
        before = self._clock() - older_than_s
        with self._database.writing() as tables:
            n_erased = tables.execute(
                "DELETE FROM saga WHERE state IN ('committed', 'compensated') AND changed < ?",
                (before,),
            ).rowcount
        self._database.erase_log()
        return n_erased

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def _find(tables: sqlite3.Connection, transaction_id: str) -> JournalEntry | None:
    row = tables.execute(
        "SELECT number, policy, digest, state, error, begun, changed FROM saga WHERE id = ?",
        (transaction_id,),
    ).fetchone()
    if row is None:
        return None
    number, policy, digest, state, error, begun, changed = row
    steps = tables.execute(
        "SELECT place, name, state, attempts, error, kind, content FROM step"
        " WHERE saga = ? ORDER BY place",
        (number,),
    )
    inputs = tables.execute("SELECT name, kind, content FROM input WHERE saga = ?", (number,))
    return JournalEntry(
        number,
        transaction_id,
        policy,
        digest,
        state,
        tuple(
            StepEntry(place, name, step, attempts, fault, kind and StoredValue(kind, content))
            for place, name, step, attempts, fault, kind, content in steps
        ),
        {name: StoredValue(kind, content) for name, kind, content in inputs},
        error,
        begun,
        changed,
    )


def _update(tables: sqlite3.Connection, entry: JournalEntry, step: StepEntry) -> None:
    tables.execute(
        "UPDATE step SET state = ?, attempts = ?, error = ? WHERE saga = ? AND place = ?",
        (step.state, step.attempts, step.error, entry.number, step.place),
    )
    if step.outcome is not None and step.outcome is not entry.steps[step.place].outcome:
        tables.execute(
            "UPDATE step SET kind = ?, content = ? WHERE saga = ? AND place = ?",
            (step.outcome.kind, step.outcome.content, entry.number, step.place),
        )


def _record(
    tables: sqlite3.Connection,
    entry: JournalEntry,
    now: float,
    steps: Sequence[StepEntry],
    state: TransactionState | None,
) -> None:
    """Notes what changed; the transaction as a whole has no step and its id as its key."""
    rows: list[tuple[int, str, str, str, float]]
    rows = [(entry.number, step.name, step.state, entry.key(step), now) for step in steps]
    if state is not None:
        rows.append((entry.number, "", state, entry.transaction_id, now))
    tables.executemany(
        "INSERT INTO record (saga, step, state, idempotency_key, time) VALUES (?, ?, ?, ?, ?)", rows
    )
