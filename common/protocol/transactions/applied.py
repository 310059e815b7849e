"""Effects that take place once, for steps whose effects lie in SQLite.

    def run(key, inputs):
        return apply_once(ledger, key, lambda tables: book(tables, inputs["amount"]))

    def compensate(key, outcome):
        undo_once(ledger, key, lambda tables, outcome: unbook(tables, outcome))

The effect and the mark that its key was applied are one commit of the effect's own
database: either both are there or neither. So a step may run any number of times. A key that
was undone is never applied again: an attempt that comes late finds the mark and is refused.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from common.errors import ConflictError, InputError

__all__ = ["apply_once", "forget_applied", "undo_once"]

_TABLE = """CREATE TABLE IF NOT EXISTS tandem_applied (
    key TEXT PRIMARY KEY,
    undone INTEGER NOT NULL,
    outcome TEXT,
    time REAL NOT NULL
) STRICT, WITHOUT ROWID"""


def apply_once(
    connection: sqlite3.Connection, key: str, effect: Callable[[sqlite3.Connection], Any]
) -> Any:
    """Makes an effect, or returns what it returned when this key was applied before.

    Args:
        connection: To the database of the effect, in no transaction.
        key: The step's idempotency key.
        effect: Writes through the connection, commits nothing, and returns JSON.

    Raises:
        ConflictError: The key was undone.
        InputError: The connection is in a transaction, or the effect ended ours.
    """
    with _one_commit(connection):
        row = connection.execute(
            "SELECT undone, outcome FROM tandem_applied WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            with _left_open(connection):
                outcome = effect(connection)
            _mark(connection, key, undone=False, outcome=json.dumps(outcome, allow_nan=False))
            return outcome
    if row[0]:
        raise ConflictError(
            "effect",
            expected="a key that was not undone",
            found="one that was",
            remedy="Begin another transaction; this one was compensated.",
        )
    return json.loads(row[1])


def undo_once(
    connection: sqlite3.Connection,
    key: str,
    undo: Callable[[sqlite3.Connection, Any], object],
) -> None:
    """Undoes what was applied with this key, once; from then on the key is refused.

    Args:
        connection: To the database of the effect, in no transaction.
        key: The step's idempotency key.
        undo: Gets the connection and the effect's outcome; not called where the key was
            never applied, or was undone before. It commits nothing.

    Raises:
        InputError: The connection is in a transaction, or `undo` ended ours.
    """
    with _one_commit(connection):
        row = connection.execute(
            "SELECT undone, outcome FROM tandem_applied WHERE key = ?", (key,)
        ).fetchone()
        if row is not None and not row[0]:
            with _left_open(connection):
                undo(connection, json.loads(row[1]))
        if row is None or not row[0]:
            _mark(connection, key, undone=True, outcome=None)


def forget_applied(connection: sqlite3.Connection, older_than_s: float) -> int:
    """Forgets marks that are older, and returns how many.

    Keep them longer than transactions stay in the journal: without its mark a key is new.
    """
    with _one_commit(connection):
        return connection.execute(
            "DELETE FROM tandem_applied WHERE time < ?", (time.time() - older_than_s,)
        ).rowcount


def _mark(connection: sqlite3.Connection, key: str, *, undone: bool, outcome: str | None) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO tandem_applied VALUES (?, ?, ?, ?)",
        (key, undone, outcome, time.time()),
    )


@contextmanager
def _one_commit(connection: sqlite3.Connection) -> Iterator[None]:
    if connection.in_transaction:
        raise _not_ours("a connection in a transaction")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_TABLE)
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


@contextmanager
def _left_open(connection: sqlite3.Connection) -> Iterator[None]:
    """Checks that the block ends no transaction: a savepoint does not outlive its own."""
    connection.execute("SAVEPOINT tandem_effect")
    yield
    try:
        connection.execute("RELEASE tandem_effect")
    except sqlite3.OperationalError:
        raise _not_ours("that the effect ended the transaction") from None


def _not_ours(found: str) -> InputError:
    return InputError(
        "effect",
        expected="one transaction for the effect and its mark",
        found=found,
        remedy="Commit before; leave BEGIN, COMMIT and executescript out of the effect.",
    )
