"""The tables of the result cache: results by key, leases of those being computed, the total.

A lease is live until its moment has passed. One that ends later than its own length from
now was written under another clock, and counts as dead.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "Row",
    "Totals",
    "delete_before",
    "delete_result",
    "delete_version",
    "drop_least_used",
    "find_result",
    "free_of",
    "insert_result",
    "read_totals",
    "release_leases",
    "renew_leases",
    "take_leases",
    "touch_result",
]

APPLICATION_ID = 0x74644331  # "tdC1"
_RESULT = """
CREATE TABLE result (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, adapter TEXT NOT NULL,
    stored REAL NOT NULL, used REAL NOT NULL, size INTEGER NOT NULL, content BLOB NOT NULL
) STRICT
"""
_LEASE = """
CREATE TABLE lease (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, adapter TEXT NOT NULL,
    holder TEXT NOT NULL, seconds REAL NOT NULL, until REAL NOT NULL
) STRICT, WITHOUT ROWID
"""
_RESULT_ADDED = """
CREATE TRIGGER result_added AFTER INSERT ON result BEGIN
    UPDATE total SET results = results + 1, bytes = bytes + NEW.size;
END
"""
_RESULT_GONE = """
CREATE TRIGGER result_gone AFTER DELETE ON result BEGIN
    UPDATE total SET results = results - 1, bytes = bytes - OLD.size;
END
"""
MIGRATIONS = (
    (
        _RESULT,
        "CREATE INDEX result_used ON result (used, size)",
        "CREATE INDEX result_stored ON result (stored)",
        "CREATE INDEX result_model ON result (model, adapter)",
        "CREATE INDEX result_adapter ON result (adapter)",
        "CREATE TABLE total (results INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT",
        "INSERT INTO total VALUES (0, 0)",
        _RESULT_ADDED,
        _RESULT_GONE,
        _LEASE,
    ),
)
_ROW_BYTES = 512  # of keys, digests and indices beside a content
_DEAD = "(until <= :now OR until > :now + seconds)"


@dataclass(frozen=True)
class Row:
    """A result as it is kept.

    Args:
        key: Digest of everything that it depends on.
        model: Digest of the model.
        adapter: Digest of its adapter; empty without one.
        content: The codec's bytes.
    """

    key: str
    model: str
    adapter: str
    content: bytes

    @property
    def size(self) -> int:
        """How many bytes it takes on the disk, about."""
        return len(self.content) + _ROW_BYTES


@dataclass(frozen=True)
class Totals:
    """What the tables hold.

    Args:
        results: How many.
        bytes: Of the disk that they take, about.
        oldest_age_s: Seconds since the oldest was stored; None where there is none.
        newest_age_s: Likewise of the newest.
        leases: Computations under way.
    """

    results: int
    bytes: int
    oldest_age_s: float | None
    newest_age_s: float | None
    leases: int


def find_result(tables: sqlite3.Connection, key: str) -> tuple[bytes, float, float] | None:
    """Returns content, and when it was stored and last used; None where there is none."""
    found: tuple[bytes, float, float] | None = tables.execute(
        "SELECT content, stored, used FROM result WHERE key = ?", (key,)
    ).fetchone()
    return found


def touch_result(tables: sqlite3.Connection, keys: Iterable[str], now: float) -> None:
    """Notes that results were used."""
    tables.executemany("UPDATE result SET used = ? WHERE key = ?", [(now, key) for key in keys])


def insert_result(tables: sqlite3.Connection, row: Row, now: float) -> None:
    """Writes a result in place of one that had the key."""
    delete_result(tables, row.key)
    tables.execute(
        "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?)",
        (row.key, row.model, row.adapter, now, now, row.size, row.content),
    )


def delete_result(tables: sqlite3.Connection, key: str) -> None:
    """Removes a result."""
    tables.execute("DELETE FROM result WHERE key = ?", (key,))


def delete_before(tables: sqlite3.Connection, moment: float) -> int:
    """Removes what was stored before `moment`; returns how many results."""
    return tables.execute("DELETE FROM result WHERE stored < ?", (moment,)).rowcount


def delete_version(tables: sqlite3.Connection, model: str | None, adapter: str | None) -> int:
    """Removes results and leases of a model, of an adapter, or of both together.

    Whoever computes for such a lease finds it gone, and stores nothing.
    """
    where = " AND ".join(
        f"{column} = ?"
        for column, value in (("model", model), ("adapter", adapter))
        if value is not None
    )
    values = [value for value in (model, adapter) if value is not None]
    tables.execute(f"DELETE FROM lease WHERE {where}", values)  # noqa: S608  # names of columns
    return tables.execute(f"DELETE FROM result WHERE {where}", values).rowcount  # noqa: S608  # as above


def drop_least_used(tables: sqlite3.Connection, size_bytes: int) -> None:
    """Removes results from the least recently used on, until they fit."""
    (surplus,) = tables.execute("SELECT bytes - ? FROM total", (size_bytes,)).fetchone()
    if surplus <= 0:
        return
    gone = []
    for key, size in tables.execute("SELECT key, size FROM result ORDER BY used, rowid"):
        gone.append((key,))
        surplus -= size
        if surplus <= 0:
            break
    tables.executemany("DELETE FROM result WHERE key = ?", gone)


def take_leases(
    tables: sqlite3.Connection,
    wanted: Sequence[tuple[str, str, str]],
    *,
    holder: str,
    seconds: float,
    now: float,
) -> list[str]:
    """Takes the leases that nobody holds; returns their keys.

    Args:
        tables: The tables, being written.
        wanted: Key, model and adapter of each.
        holder: Who takes them.
        seconds: How long they hold unless they are renewed.
        now: Unix time.
    """
    tables.execute(f"DELETE FROM lease WHERE {_DEAD}", {"now": now})  # noqa: S608  # a constant
    return [
        key
        for key, model, adapter in wanted
        if tables.execute(
            "INSERT INTO lease VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (key, model, adapter, holder, seconds, now + seconds),
        ).rowcount
    ]


def renew_leases(tables: sqlite3.Connection, holder: str, now: float) -> None:
    """Has the leases of `holder` count from now."""
    tables.execute("UPDATE lease SET until = ? + seconds WHERE holder = ?", (now, holder))


def release_leases(tables: sqlite3.Connection, keys: Iterable[str], holder: str) -> set[str]:
    """Gives leases back; returns the keys of those that `holder` still had."""
    return {
        key
        for key in keys
        if tables.execute("DELETE FROM lease WHERE key = ? AND holder = ?", (key, holder)).rowcount
    }


def free_of(tables: sqlite3.Connection, keys: Sequence[str], now: float) -> set[str]:
    """Returns which of `keys` nobody computes."""
    live = {
        key
        for key in keys
        if tables.execute(
            f"SELECT 1 FROM lease WHERE key = :key AND NOT {_DEAD}",  # noqa: S608  # a constant
            {"key": key, "now": now},
        ).fetchone()
    }
    return set(keys) - live


def read_totals(tables: sqlite3.Connection, now: float) -> Totals:
    """Returns what the tables hold."""
    results, n_bytes = tables.execute("SELECT results, bytes FROM total").fetchone()
    oldest, newest = tables.execute("SELECT MIN(stored), MAX(stored) FROM result").fetchone()
    (leases,) = tables.execute(
        f"SELECT COUNT(*) FROM lease WHERE NOT {_DEAD}",  # noqa: S608  # a constant
        {"now": now},
    ).fetchone()
    return Totals(
        results,
        n_bytes,
        oldest_age_s=None if oldest is None else max(0.0, now - oldest),
        newest_age_s=None if newest is None else max(0.0, now - newest),
        leases=leases,
    )
