"""The tables of sessions: values with the versions from and to which they hold.

A value row holds from `since` until before `until`, or still where `until` is NULL; so the
state at any kept version is a selection, and a change writes only what it changes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from common.protocol.sessions.state import SessionChange
from common.protocol.stored_value import StoredValue

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "Head",
    "add_change",
    "changes_between",
    "drop_old",
    "find_head",
    "live_size",
    "read_changes",
    "read_values",
    "replace_values",
    "restore_values",
    "version_of_key",
]

APPLICATION_ID = 0x74645331  # "tdS1"
MIGRATIONS = (
    (
        """CREATE TABLE session (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            version INTEGER NOT NULL,
            oldest INTEGER NOT NULL,
            created REAL NOT NULL,
            changed REAL NOT NULL
        ) STRICT""",
        """CREATE TABLE value (
            session INTEGER NOT NULL REFERENCES session ON DELETE CASCADE,
            key TEXT NOT NULL,
            since INTEGER NOT NULL,
            until INTEGER,
            kind TEXT NOT NULL,
            size INTEGER NOT NULL,
            content BLOB NOT NULL,
            PRIMARY KEY (session, key, since)
        ) STRICT""",
        """CREATE TABLE change (
            session INTEGER NOT NULL REFERENCES session ON DELETE CASCADE,
            version INTEGER NOT NULL,
            author TEXT NOT NULL,
            time REAL NOT NULL,
            changed TEXT NOT NULL,
            removed TEXT NOT NULL,
            restored INTEGER,
            idempotency_key TEXT,
            PRIMARY KEY (session, version),
            UNIQUE (session, idempotency_key)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX session_changed ON session (changed)",
    ),
)
_AT = "session = ? AND since <= ? AND (until IS NULL OR until > ?)"


@dataclass(frozen=True)
class Head:
    """Where a session stands.

    Args:
        number: Its row.
        version: The present one.
        oldest: The earliest that is kept.
    """

    number: int
    version: int
    oldest: int


def find_head(tables: sqlite3.Connection, session_id: str) -> Head | None:
    """Returns where the session stands; None where there is none."""
    row = tables.execute(
        "SELECT number, version, oldest FROM session WHERE id = ?", (session_id,)
    ).fetchone()
    return Head(*row) if row else None


def read_values(
    tables: sqlite3.Connection, head: Head, version: int
) -> list[tuple[str, str, bytes]]:
    """Returns key, kind and content of each value at a kept version, by key."""
    return tables.execute(
        f"SELECT key, kind, content FROM value WHERE {_AT} ORDER BY key",  # noqa: S608  # a constant
        (head.number, version, version),
    ).fetchall()


def replace_values(
    tables: sqlite3.Connection,
    head: Head,
    values: Mapping[str, StoredValue],
    removed: Sequence[str],
) -> tuple[str, ...]:
    """Writes values into the next version; returns the keys of `removed` that were there."""
    _supersede(tables, head, values)
    gone = tuple(key for key in removed if _supersede(tables, head, [key]))
    tables.executemany(
        "INSERT INTO value (session, key, since, kind, size, content) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (head.number, key, head.version + 1, one.kind, len(one.content), one.content)
            for key, one in values.items()
        ],
    )
    return gone


def changes_between(
    tables: sqlite3.Connection, head: Head, version: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the keys to restore and the keys to remove to come back to `version`."""
    then = dict(
        tables.execute(
            f"SELECT key, until FROM value WHERE {_AT} ORDER BY key",  # noqa: S608  # a constant
            (head.number, version, version),
        )
    )
    now = tables.execute(
        "SELECT key FROM value WHERE session = ? AND until IS NULL ORDER BY key", (head.number,)
    )
    changed = tuple(key for key, until in then.items() if until is not None)
    return changed, tuple(key for (key,) in now if key not in then)


def restore_values(
    tables: sqlite3.Connection,
    head: Head,
    version: int,
    *,
    changed: Sequence[str],
    removed: Sequence[str],
) -> None:
    """Writes the values that `changed` had at `version` into the next version."""
    _supersede(tables, head, [*changed, *removed])
    tables.executemany(
        "INSERT INTO value (session, key, since, kind, size, content)"  # noqa: S608  # a constant
        f" SELECT session, key, ?, kind, size, content FROM value WHERE {_AT} AND key = ?",
        [(head.version + 1, head.number, version, version, key) for key in changed],
    )


def live_size(tables: sqlite3.Connection, head: Head) -> tuple[int, int]:
    """Returns how many values are present, and their bytes."""
    n_keys, n_bytes = tables.execute(
        "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM value WHERE session = ? AND until IS NULL",
        (head.number,),
    ).fetchone()
    return n_keys, n_bytes


def add_change(
    tables: sqlite3.Connection, head: Head, change: SessionChange, *, idempotency_key: str | None
) -> None:
    """Notes a change and makes its version the present one."""
    tables.execute(
        "INSERT INTO change VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            head.number,
            change.version,
            change.author,
            change.time,
            json.dumps(change.changed),
            json.dumps(change.removed),
            change.restored,
            idempotency_key,
        ),
    )
    tables.execute(
        "UPDATE session SET version = ?, changed = ? WHERE number = ?",
        (change.version, change.time, head.number),
    )


def version_of_key(tables: sqlite3.Connection, head: Head, key: str | None) -> int | None:
    """Returns the version that a change with this idempotency key made; None without one."""
    if key is None:
        return None
    row = tables.execute(
        "SELECT version FROM change WHERE session = ? AND idempotency_key = ?", (head.number, key)
    ).fetchone()
    return int(row[0]) if row else None


def read_changes(tables: sqlite3.Connection, head: Head) -> tuple[SessionChange, ...]:
    """Returns the changes that are remembered, the oldest first."""
    rows = tables.execute(
        "SELECT version, author, time, changed, removed, restored FROM change"
        " WHERE session = ? ORDER BY version",
        (head.number,),
    )
    return tuple(
        SessionChange(
            version,
            author,
            moment,
            tuple(json.loads(changed)),
            tuple(json.loads(removed)),
            restored,
        )
        for version, author, moment, changed, removed, restored in rows
    )


def drop_old(
    tables: sqlite3.Connection, head: Head, *, versions: int, superseded_bytes: int, history: int
) -> None:
    """Forgets versions and changes beyond the limits, after the next version was written."""
    version = head.version + 1
    (too_large,) = tables.execute(
        "SELECT MAX(until) FROM (SELECT until, SUM(size) OVER (ORDER BY until DESC) AS kept"
        " FROM value WHERE session = ? AND until IS NOT NULL) WHERE kept > ?",
        (head.number, superseded_bytes),
    ).fetchone()
    oldest = max(head.oldest, version - versions + 1, too_large or 0)
    tables.execute("DELETE FROM value WHERE session = ? AND until <= ?", (head.number, oldest))
    tables.execute("UPDATE session SET oldest = ? WHERE number = ?", (oldest, head.number))
    tables.execute(
        "DELETE FROM change WHERE session = ? AND version <= ?", (head.number, version - history)
    )


def _supersede(tables: sqlite3.Connection, head: Head, keys: Iterable[str]) -> int:
    """Ends the present values of `keys` with the next version; returns how many there were."""
    return tables.executemany(
        "UPDATE value SET until = ? WHERE session = ? AND key = ? AND until IS NULL",
        [(head.version + 1, head.number, key) for key in keys],
    ).rowcount
