"""Sessions: state that several models share over a long conversation, in versions.

    store = SessionStore(Path("sessions.sqlite"))
    session = store.open(store.create(), author="triage")
    session.commit({"language": "de"})          # version 1
    session.rollback(0)                         # version 2, equal to version 0

A writer says which version it had read. Where somebody else has written since, it gets a
`ConflictError` that names both versions, and nothing is changed: no update is ever lost.
Everything lies in one SQLite file (`common.protocol.database`), which threads and processes
may share; what is deleted or purged is erased from the file.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from common.errors import ConflictError, MessageError, TooLargeError, UnknownNameError
from common.protocol.database import Database
from common.protocol.messages.payloads import SessionDelta, require_identifier
from common.protocol.sessions.state import SessionChange, SessionLimits, SessionState
from common.protocol.sessions.tables import (
    APPLICATION_ID,
    MIGRATIONS,
    Head,
    add_change,
    changes_between,
    drop_old,
    find_head,
    live_size,
    read_changes,
    read_values,
    replace_values,
    restore_values,
    version_of_key,
)
from common.protocol.stored_value import StoredValue, Value, read_value, store_value
from common.request import check_wanted
from common.settings import Settings, load_settings

__all__ = ["Session", "SessionChange", "SessionLimits", "SessionState", "SessionStore"]

_ID = re.compile(r"[0-9a-f]{32}")
_KEY_CHARACTERS = 256


class SessionStore:
    """Sessions in one SQLite file; threads and processes may use it at once.

    Args:
        path: The file; made for its owner only.
        limits: How large a session may become.
        clock: Unix time in seconds.

    Raises:
        StoreError: The file is damaged, no session store, or of a later version.
    """

    def __init__(
        self,
        path: Path,
        *,
        limits: SessionLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or SessionLimits()
        self._clock = clock
        self._database = Database(path, application_id=APPLICATION_ID, migrations=MIGRATIONS)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> SessionStore:
        """Opens the store in TANDEM_HOME."""
        return cls((settings or load_settings()).home / "link" / "sessions.sqlite")

    def create(self) -> str:
        """Makes an empty session of version 0 and returns its id, which cannot be guessed."""
        session_id, now = secrets.token_hex(16), self._clock()
        with self._database.writing() as tables:
            tables.execute(
                "INSERT INTO session (id, version, oldest, created, changed)"
                " VALUES (?, 0, 0, ?, ?)",
                (session_id, now, now),
            )
        return session_id

    def open(self, session_id: str, *, author: str) -> Session:
        """Returns one author's view of a session, as it is now.

        Raises:
            UnknownNameError: There is no such session.
            MessageError: The author is no plain name.
        """
        return Session(self, self.read(session_id), require_identifier(author, "author"))

    def read(self, session_id: str, *, version: int | None = None) -> SessionState:
        """Returns the session as it is, or as it was at `version`.

        Raises:
            UnknownNameError: There is no such session, or that version is not kept.
            StoreError: A value is damaged.
        """
        with self._database.reading() as tables:
            head = _require_head(tables, session_id)
            wanted = head.version if version is None else _require_kept(head, version)
            rows = read_values(tables, head, wanted)
        values = {key: read_value(kind, content) for key, kind, content in rows}
        return SessionState(session_id, wanted, MappingProxyType(values))

    def commit(self, delta: SessionDelta, *, idempotency_key: str | None = None) -> int:
        """Writes a change and returns the version that it makes.

        Args:
            delta: What changes, since which version.
            idempotency_key: A commit with the key of an earlier one changes nothing and
                returns that one's version, as long as the history remembers it. With it a
                transaction's step may commit more than once.

        Raises:
            UnknownNameError: There is no such session.
            ConflictError: Somebody else has written since the base version.
            TooLargeError: A value, or the session with it, is larger than is taken.
            MessageError: A key or value cannot be stored.
        """
        values = self._stored(delta.changes)
        with self._database.writing() as tables:
            head = _require_head(tables, delta.session_id)
            known = version_of_key(tables, head, idempotency_key)
            if known is not None:
                return known
            _require_base(head, delta.base_version)
            removed = replace_values(tables, head, values, delta.removed)
            change = SessionChange(
                head.version + 1, delta.author, self._clock(), tuple(values), removed
            )
            self._finish(tables, head, change, idempotency_key)
        return change.version

    def version_made(self, session_id: str, *, idempotency_key: str) -> int | None:
        """Returns the version that a change with this key made; None without one.

        A compensation asks this: its step may have died after the change, before it could
        say what it made.

        Raises:
            UnknownNameError: There is no such session.
        """
        with self._database.reading() as tables:
            return version_of_key(tables, _require_head(tables, session_id), idempotency_key)

    def rollback(
        self,
        session_id: str,
        version: int,
        *,
        base_version: int,
        author: str,
        idempotency_key: str | None = None,
    ) -> int:
        """Makes a new version with the values of an earlier one, and returns its number.

        Args:
            session_id: Which session.
            version: The version to go back to.
            base_version: The version that the writer had read.
            author: Which model or client writes.
            idempotency_key: As in `commit`.

        Raises:
            UnknownNameError: There is no such session, or that version is not kept.
            ConflictError: Somebody else has written since the base version.
            MessageError: The author is no plain name.
        """
        require_identifier(author, "author")
        with self._database.writing() as tables:
            head = _require_head(tables, session_id)
            known = version_of_key(tables, head, idempotency_key)
            if known is not None:
                return known
            _require_base(head, base_version)
            _require_kept(head, version)
            changed, removed = changes_between(tables, head, version)
            restore_values(tables, head, version, changed=changed, removed=removed)
            change = SessionChange(
                head.version + 1, author, self._clock(), changed, removed, version
            )
            self._finish(tables, head, change, idempotency_key)
        return change.version

    def history(self, session_id: str) -> tuple[SessionChange, ...]:
        """Returns the changes that are remembered, the oldest first.

        Raises:
            UnknownNameError: There is no such session.
        """
        with self._database.reading() as tables:
            return read_changes(tables, _require_head(tables, session_id))

    def delete(self, session_id: str) -> None:
        """Erases a session: its values, its history and its id.

        Raises:
            UnknownNameError: There is no such session.
            OverloadError: It is deleted, but the log is in use and may still hold its
                bytes; `purge` empties it later.
        """
        with self._database.writing() as tables:
            head = _require_head(tables, session_id)
            tables.execute("DELETE FROM session WHERE number = ?", (head.number,))
        self._database.erase_log()

    def purge(self, older_than_s: float) -> int:
        """Erases every session whose last change is older, and returns how many.

        Raises:
            OverloadError: As in `delete`.
        """
        before = self._clock() - older_than_s
        with self._database.writing() as tables:
            n_erased = tables.execute("DELETE FROM session WHERE changed < ?", (before,)).rowcount
        self._database.erase_log()
        return n_erased

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def _stored(self, changes: Mapping[str, Value]) -> dict[str, StoredValue]:
        if not all(0 < len(key) <= _KEY_CHARACTERS and key.isprintable() for key in changes):
            raise MessageError(
                "session keys",
                expected=f"1 to {_KEY_CHARACTERS} printable characters each",
                found="a key of others, or of another length",
                remedy="Name values shortly; long texts are values.",
            )
        limit = self.limits.value_bytes
        return {key: store_value(value, limit_bytes=limit) for key, value in changes.items()}

    def _finish(
        self,
        tables: sqlite3.Connection,
        head: Head,
        change: SessionChange,
        idempotency_key: str | None,
    ) -> None:
        """Checks the limits, notes the change and forgets what is no longer kept."""
        n_keys, n_bytes = live_size(tables, head)
        if n_keys > self.limits.keys or n_bytes > self.limits.session_bytes:
            raise TooLargeError(
                "session",
                expected=f"at most {self.limits.keys} keys and {self.limits.session_bytes} bytes",
                found=f"{n_keys} keys and {n_bytes} bytes with this change",
                remedy="Remove keys first, or begin another session.",
            )
        add_change(tables, head, change, idempotency_key=idempotency_key)
        drop_old(
            tables,
            head,
            versions=self.limits.versions,
            superseded_bytes=self.limits.session_bytes,
            history=self.limits.history,
        )


class Session:
    """One author's view of a session; `SessionStore.open` makes it.

    Args:
        store: Where the session lies.
        state: As it was read last.
        author: In whose name this view writes.
    """

    def __init__(self, store: SessionStore, state: SessionState, author: str) -> None:
        self._store = store
        self.state = state
        self.author = author

    def refresh(self) -> SessionState:
        """Reads the session as it is now."""
        self.state = self._store.read(self.state.session_id)
        return self.state

    def commit(self, changes: Mapping[str, Value], *, removed: Sequence[str] = ()) -> int:
        """Writes on top of the version read last, reads again, and returns the new version.

        Raises:
            ConflictError: Somebody else has written since; call `refresh` and decide anew.
            MessageError: A key or value cannot be stored.
            TooLargeError: The change or the session is too large.
        """
        base = self.state
        version = self._store.commit(
            SessionDelta(base.session_id, base.version, changes, tuple(removed), self.author)
        )
        self.refresh()
        return version

    def update(self, change: Callable[[SessionState], Mapping[str, Value]]) -> int:
        """Commits what `change` makes of the present state; again where others were faster.

        Args:
            change: State to changed values; called once for each try, so it only computes.

        Raises:
            DeadlineError: The request's deadline passed between two tries.
            MessageError: A key or value cannot be stored.
            TooLargeError: The change or the session is too large.
        """
        while True:
            try:
                return self.commit(change(self.state))
            except ConflictError:
                check_wanted()
                self.refresh()

    def rollback(self, version: int) -> int:
        """Goes back to the values of `version`, as a new version on top of the one read last.

        Raises:
            UnknownNameError: That version is not kept.
            ConflictError: Somebody else has written since; call `refresh` and decide anew.
        """
        base = self.state
        made = self._store.rollback(
            base.session_id, version, base_version=base.version, author=self.author
        )
        self.refresh()
        return made


def _require_head(tables: sqlite3.Connection, session_id: str) -> Head:
    plain = isinstance(session_id, str) and _ID.fullmatch(session_id) is not None
    head = find_head(tables, session_id) if plain else None
    if head is None:
        raise UnknownNameError(
            "session",
            expected="the id of a session (32 hexadecimal digits)",
            found="an id that none has" if plain else "another text",
            remedy="Create a session first; one that was deleted or purged is gone.",
        )
    return head


def _require_base(head: Head, base_version: int) -> None:
    if base_version != head.version:
        raise ConflictError(
            "session",
            expected=f"a change to its present version {head.version}",
            found=f"a change to version {base_version}",
            remedy="Read the session again and decide anew; nothing was changed.",
        )


def _require_kept(head: Head, version: int) -> int:
    if not head.oldest <= version <= head.version:
        raise UnknownNameError(
            "session version",
            expected=f"{head.oldest} to {head.version}",
            found=str(version),
            remedy="Only these versions are kept.",
        )
    return version
