"""An append-only log of decisions, each chained to the one before by its hash.

The records and their check are those of the server's audit log (`audit_chain`). Decisions
are rare, so each is written, flushed to the disk and entered in the head before `append`
returns; processes take turns.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import StoreError
from common.serving.audit_chain import FIRST, FORMAT, ChainPlace, audit_files, chained, verify_audit

__all__ = ["ChainedLog"]

Record = Mapping[str, Any]


class ChainedLog:
    """One log in one folder; every reading checks the whole chain first.

    Args:
        folder: Made with mode 0700 by the first record, its files 0600.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def records(self) -> tuple[Record, ...]:
        """Returns all records, the oldest first; none where nothing was ever written.

        Raises:
            StoreError: A record was edited, removed, inserted or moved, or the end cut off.
        """
        if not self._folder.is_dir() or not any(self._folder.iterdir()):
            return ()
        with self._turn(fcntl.LOCK_SH):
            return self._checked()[0]

    def append(self, decide: Callable[[tuple[Record, ...]], Mapping[str, Any]]) -> Record:
        """Writes one record and returns it.

        Args:
            decide: Called with all records while nobody else writes; returns the members of
                the next, or raises, and then nothing is written.

        Raises:
            StoreError: The log was tampered with; nothing is written.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._turn(fcntl.LOCK_EX):
            records, place = self._checked()
            line, place = chained(decide(records), place)
            self._write(line, place)
        return dict(json.loads(line))

    def _checked(self) -> tuple[tuple[Record, ...], ChainPlace]:
        if not audit_files(self._folder) and not (self._folder / "head.json").exists():
            return (), FIRST
        report = verify_audit(self._folder)
        # a head that is absent was not yet written when the first record's process was killed
        faults = [
            fault for fault in report.faults if report.n_records > 1 or "is gone" not in fault
        ]
        if faults:
            raise StoreError(
                "log of decisions",
                expected="a chain of records as they were written",
                found="; ".join(faults[:3]),
                remedy="Keep the folder as evidence and restore it from a backup.",
            )
        files = audit_files(self._folder)
        return tuple(record for path in files for record in _records(path)), report.last

    def _write(self, line: str, place: ChainPlace) -> None:
        """Appends the line to the only file, then moves the head: it is never ahead."""
        path = self._folder / "audit-000000000001.jsonl"
        with open(path, "a+b", opener=_private) as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # a line torn by a power cut
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part = self._folder / "head.part"
        head = {"format": FORMAT, "sequence": place.sequence, "hash": place.hash}
        with open(part, "w", opener=_private, encoding="utf-8") as file:
            json.dump(head, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / "head.json")

    @contextmanager
    def _turn(self, kind: int) -> Iterator[None]:
        with open(self._folder / ".writer", "a", opener=_private, encoding="utf-8") as lock:
            fcntl.flock(lock, kind)
            yield


def _records(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
