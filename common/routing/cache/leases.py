"""Who computes what, among the processes that share a cache.

A lease is a row that says "this key is being computed, until then". While its holder lives a
thread renews it; when the holder is killed it runs out, and somebody else takes it. A
result is only stored by who still holds its lease.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.errors import OverloadError, StoreError
from common.protocol.database import Database
from common.routing.cache.tables import (
    free_of,
    release_leases,
    renew_leases,
    take_leases,
)

__all__ = ["LeaseTable", "Leases"]

_IDLE_ROUNDS = 10  # of the thread that renews, before it ends


class LeaseTable(Protocol):
    """Where the leases of all processes stand."""

    def take(self, wanted: Sequence[tuple[str, str, str]], holder: str) -> list[str]:
        """Takes the leases of key, model and adapter that nobody holds; returns their keys."""
        ...

    def renew(self, holder: str) -> None:
        """Lets all leases of `holder` run anew."""
        ...

    def release(self, keys: Collection[str], holder: str) -> object:
        """Gives back those of `keys` that `holder` has."""
        ...

    def free(self, keys: Sequence[str]) -> set[str]:
        """Returns which of `keys` nobody holds."""
        ...


@dataclass(frozen=True)
class _DatabaseTable:
    """Leases in SQLite."""

    database: Database
    seconds: float
    clock: Callable[[], float]

    def take(self, wanted: Sequence[tuple[str, str, str]], holder: str) -> list[str]:
        with self.database.writing() as tables:
            return take_leases(
                tables, wanted, holder=holder, seconds=self.seconds, now=self.clock()
            )

    def renew(self, holder: str) -> None:
        with self.database.writing() as tables:
            renew_leases(tables, holder, self.clock())

    def release(self, keys: Collection[str], holder: str) -> object:
        with self.database.writing() as tables:
            return release_leases(tables, keys, holder)

    def free(self, keys: Sequence[str]) -> set[str]:
        with self.database.reading() as tables:
            return free_of(tables, keys, self.clock())


class Leases:
    """The leases of one process among those of others.

    Args:
        place: Where they stand: our database, or a table elsewhere.
        seconds: How long a lease outlives a holder that was killed.
        clock: Unix time; shared by the processes, so not `time.monotonic`.
    """

    _renewer: threading.Thread | None

    def __init__(
        self, place: Database | LeaseTable, *, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._table: LeaseTable = (
            _DatabaseTable(place, seconds, clock) if isinstance(place, Database) else place
        )
        self._seconds = seconds
        self._begin()

    @property
    def holder(self) -> str:
        """Names this process and object in the leases that it holds."""
        if self._process_id != os.getpid():
            self._begin()  # the leases are those of the process before the fork
        return self._holder

    def take(self, wanted: Sequence[tuple[str, str, str]]) -> list[str]:
        """Takes the leases that nobody holds and renews them until they are dropped.

        Args:
            wanted: Key, model and adapter of each.

        Returns:
            The keys of those taken.

        Raises:
            OverloadError: Other writers keep the database busy.
            StoreError: It is damaged.
        """
        taken = self._table.take(wanted, self.holder)
        with self._lock:
            self._held.update(taken)
            if self._held and self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._renewer.start()
        return taken

    def drop(self, keys: Collection[str]) -> None:
        """Gives back those of `keys` that are still held.

        Raises:
            OverloadError: Other writers keep the database busy; the leases run out.
            StoreError: It is damaged.
        """
        holder = self.holder
        with self._lock:
            held = self._held.intersection(keys)
            self._held -= held
        if held:
            self._table.release(held, holder)

    def forget(self, keys: Collection[str]) -> None:
        """Says that the caller gave leases back itself, with what it stored."""
        with self._lock:
            self._held.difference_update(keys)

    def free(self, keys: Sequence[str]) -> set[str]:
        """Returns which of `keys` nobody computes now."""
        return self._table.free(keys)

    def close(self) -> None:
        """Ends the renewing; leases still held run out."""
        with self._lock:
            self._held.clear()
        self._closed.set()

    def _begin(self) -> None:
        self._process_id = os.getpid()
        self._holder = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._renewer = None
        self._closed = threading.Event()

    def _renew(self) -> None:
        """Renews at a third of the leases' length; ends when none has been held for a while."""
        idle = 0
        while not self._closed.wait(self._seconds / 3):
            with self._lock:
                idle = 0 if self._held else idle + 1
                if idle > _IDLE_ROUNDS:
                    self._renewer = None
                    return
            if idle:
                continue
            try:
                self._table.renew(self._holder)
            except (OverloadError, StoreError):
                continue  # two more attempts follow before the leases run out
