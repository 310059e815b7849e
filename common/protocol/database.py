"""One SQLite file of ours: private to its owner, safe among processes, versioned, erasable.

The file is in WAL mode with mode 0600 (SQLite gives its -wal and -shm files the same). It is
made whole beside its place and linked there, so that of several processes that open it first
one makes it. Every commit is flushed to the disk (`synchronous=FULL`): what a caller was told
is done outlives a power cut, not only a killed process. (Not so with `durable=False`, for what
can be made again.) Deleted content is overwritten (`secure_delete`), and `erase_log` empties
the log that may still hold it.

Never open the file by other means in the same process: closing that handle would drop
SQLite's locks (fcntl(2), "record locks").

A fork copies what SQLite knows of its locks, but not the locks (SQLite, "How To Corrupt An
SQLite Database File", section 2.6): a child that trusted the copy could write into a log that
its parent has deleted. So all idle connections are closed before a fork, and a child whose
parent was using a file at that moment is refused it.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from common.errors import OverloadError, StoreError

__all__ = ["Database", "Migration"]

Migration = Sequence[str]  # the statements that lead from one version to the next

_IDLE = 8  # connections kept open between uses
_LOOK_S = 0.01  # between attempts to empty the log
_CHECKPOINT_PAGES = 1000  # SQLite's own default, written out because erasing depends on it

_opened: dict[int, weakref.ref[Database]] = {}  # by id: what a fork has to look after
_used_at_fork: set[str] = set()  # files whose locks this process only believes to hold


class Database:
    """A file of tables; any number of threads and processes may use it at once.

    Args:
        path: The file; it and its folder are made where they are absent, for the owner only.
        application_id: Marks the file's kind (SQLite's `application_id`), above 0.
        migrations: The statements that lead from version i to i + 1, from an empty file on;
            the file's version is their number. A file of an earlier version is migrated.
        busy_s: Longest wait for another writer.
        durable: Whether commits outlive a power cut. Without it they outlive a killed
            process only, and none waits for the disk: for what can be made again.

    Raises:
        StoreError: The file is damaged, of another kind, or of a later version.
        OverloadError: Other writers keep it busy.
    """

    def __init__(
        self,
        path: Path,
        *,
        application_id: int,
        migrations: Sequence[Migration],
        busy_s: float = 30.0,
        durable: bool = True,
    ) -> None:
        self._path = path
        self._application_id = application_id
        self._migrations = migrations
        self._busy_s = busy_s
        self._synchronous = "FULL" if durable else "NORMAL"
        self._file = os.path.realpath(path)
        self._idle: deque[sqlite3.Connection] = deque()
        self._lent: set[object] = set()  # one for each connection in use
        self._writers = (os.getpid(), threading.Lock())
        key = id(self)
        _opened[key] = weakref.ref(self, lambda _: _opened.pop(key, None))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.exists():
                path.chmod(0o600)
            else:
                self._require_no_log()
                self._make()
        except OSError as error:
            raise self._unusable(
                type(error).__name__, "Give a folder of your own on a local disk with hard links."
            ) from error
        with self._connection() as connection:
            self._migrate(connection)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Shows the tables as they are at one moment, whatever others write meanwhile.

        Raises:
            StoreError: The file cannot be read.
        """
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Makes what the block writes one change: all of it, or nothing where it raises.

        Raises:
            OverloadError: Other writers keep the file busy.
            StoreError: The file cannot be written.
        """
        with self._turn(), self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def erase_log(self) -> None:
        """Moves the log into the file and empties it: no deleted byte is left in either.

        Raises:
            OverloadError: Readers or writers keep the log busy; it still holds old bytes.
        """
        end_s = time.monotonic() + self._busy_s
        while True:
            with self._connection() as connection:
                (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return
            if time.monotonic() >= end_s:
                raise self._overloaded("a log in use, which may still hold what was deleted")
            time.sleep(_LOOK_S)  # another checkpoint runs, for which SQLite does not wait itself

    def close(self) -> None:
        """Closes the file; a later use opens it again."""
        idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()

    def _require_no_log(self) -> None:
        """Refuses a log without its file: SQLite would write its content into a new one."""
        log = self._path.with_name(f"{self._path.name}-wal")
        if log.exists() and not self._path.exists():  # in this order: another may make both
            raise self._unusable(
                f"{log.name} without it",
                "Restore the file, or move away what is left beside it (-wal, -shm).",
            )

    def _make(self) -> None:
        """Makes the file whole, then puts it in place; the first of several processes wins."""
        draft = self._path.with_name(f".making-{secrets.token_hex(8)}")
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with self._translated(), closing(self._connect(draft)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(f"PRAGMA application_id={self._application_id:d}")
                self._migrate(connection)
            os.link(draft, self._path)
        except FileExistsError:
            return
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (kind,) = connection.execute("PRAGMA application_id").fetchone()
        if kind != self._application_id:
            raise self._unusable(f"application id {kind}", "Give the path of another file.")
        if self._version(connection) == len(self._migrations):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statements in self._migrations[self._version(connection) :]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={len(self._migrations):d}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(self._migrations):
            raise self._unusable(
                f"version {version}", "Update this program; it never writes a later version."
            )
        return version

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        mark = object()
        self._lent.add(mark)  # before there is a connection: a fork may come in between
        try:
            with self._translated():
                connection = self._take()
                broken = True
                try:
                    yield connection
                    broken = False
                except sqlite3.Error:
                    raise
                except BaseException:
                    broken = connection.in_transaction
                    raise
                finally:
                    if broken or len(self._idle) >= _IDLE:
                        connection.close()
                    else:
                        self._idle.append(connection)
        finally:
            self._lent.discard(mark)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Lets this process's threads write in turn: SQLite's own waiting sleeps up to 0.1 s."""
        process_id, turn = self._writers
        if process_id != os.getpid():  # a lock that was held at a fork stays held in the child
            turn = threading.Lock()
            self._writers = (os.getpid(), turn)
        if not turn.acquire(timeout=self._busy_s):
            raise self._overloaded("others writing all that time")
        try:
            yield
        finally:
            turn.release()

    def _take(self) -> sqlite3.Connection:
        """Returns an open connection that nobody else uses."""
        if self._file in _used_at_fork:
            raise self._unusable(
                "a fork of a process that was using it",
                'Fork while no thread uses the file, or start processes by "spawn".',
            )
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect(self._path)

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",  # never makes a file: `_make` does
            uri=True,
            timeout=self._busy_s,
            isolation_level=None,
            check_same_thread=False,  # the pool lends it to one thread at a time
        )
        for pragma in (
            f"synchronous={self._synchronous}",
            "secure_delete=ON",
            "foreign_keys=ON",
            f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns SQLite's errors into ours; their texts may quote content and are left out."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) in {
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_BUSY_SNAPSHOT,
                sqlite3.SQLITE_LOCKED,
            }:
                raise self._overloaded("others writing all that time") from error
            found = getattr(error, "sqlite_errorname", type(error).__name__)
            raise self._unusable(
                found, "Check the disk; restore the file, or move it and its -wal away."
            ) from error

    def _overloaded(self, found: str) -> OverloadError:
        return OverloadError(
            f"file {self._path.name}",
            expected=f"room within {self._busy_s:g} s",
            found=found,
            remedy="Try again later, or use fewer writers.",
        )

    def _unusable(self, found: str, remedy: str) -> StoreError:
        return StoreError(
            f"file {self._path.name}",
            expected=f"a store of ours (kind {self._application_id}) of version "
            f"{len(self._migrations)} or earlier, whole",
            found=found,
            remedy=remedy,
        )


def _databases() -> list[Database]:
    found = [reference() for reference in _opened.copy().values()]  # a copy: threads add to it
    return [database for database in found if database is not None]


def _close_idle() -> None:
    for database in _databases():
        database.close()


def _note_used() -> None:
    """Notes in a child what its parent's other threads were using at the fork."""
    for database in _databases():
        if database._lent or database._idle:  # idle since the last look
            _used_at_fork.add(database._file)


os.register_at_fork(before=_close_idle, after_in_child=_note_used)
