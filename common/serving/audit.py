"""The audit log: who asked for what, which models answered, and how it ended; no payload.

    with AuditLog(folder) as audit:
        audit.record(AuditEntry(trace_id, "risk-desk", "POST /v1/link/tasks", 200))

Records are put into a queue and written by one thread, so that a request waits for no disk.
The thread hands what it has to the operating system at once and flushes it to the disk at
least every `flush_s` seconds, then writes the head. So a killed process loses what still
stood in the queue, which is milliseconds; a power cut also what came after the last flush.
A queue that is full, or a disk that refuses, ends service: nothing is answered unaudited.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from common.errors import OverloadError, StoreError
from common.serving.audit_chain import FIRST, FORMAT, ChainPlace, audit_files, chained, read_head
from common.task import Provenance

__all__ = ["AuditEntry", "AuditLog"]

_BATCH = 512  # records between two looks at the clock


@dataclass(frozen=True)
class AuditEntry:
    """What is written about one request.

    Args:
        trace_id: 32 hexadecimal digits that the caller was told.
        key_id: Id of the key; "-" where it was no good one.
        action: Method and route, names in it left out ("PATCH /v1/sessions/{session_id}").
        status: HTTP status, or the gRPC status code's name.
        models: Where the answers came from.
        input_digest: sha256 of the input; "" where nothing was read.
        time: When it ended.
    """

    trace_id: str
    key_id: str
    action: str
    status: int | str
    models: tuple[Provenance, ...] = ()
    input_digest: str = ""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def members(self) -> dict[str, Any]:
        """Returns the record's members, apart from those that chain it."""
        return {
            "time": self.time.isoformat(timespec="milliseconds"),
            "trace_id": self.trace_id,
            "key_id": self.key_id,
            "action": self.action,
            "status": self.status,
            "models": [_stamp(model) for model in self.models],
            "input_digest": self.input_digest,
        }


class AuditLog:
    """An append-only log, written by one process at a time; use as a context, or close it.

    Args:
        folder: Where its files lie; made with mode 0700, the files 0600.
        capacity: Records that may wait to be written.
        flush_s: Longest time between a record's writing and its flush to the disk.
        file_bytes: A file larger than this is followed by a new one.

    Raises:
        StoreError: Another process writes to it, or its end was cut off.
    """

    def __init__(
        self,
        folder: Path,
        *,
        capacity: int = 10_000,
        flush_s: float = 1.0,
        file_bytes: int = 64 << 20,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.folder = folder
        self._capacity, self._flush_s, self._file_bytes = capacity, flush_s, file_bytes
        self._lock = _lock_of(folder)
        try:
            self._place, torn = _recover(folder)
        except BaseException:
            self._lock.close()
            raise
        self._file: IO[bytes] | None = None
        self._flushed = self._place
        self._failure: str | None = None
        self._queue: queue.SimpleQueue[AuditEntry | threading.Event | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._run, name="audit", daemon=True)
        self._writer.start()
        if torn:
            self.record(AuditEntry("0" * 32, "-", "audit: cut a line torn by a crash", "OK"))

    @property
    def writable(self) -> bool:
        """Whether records still reach the disk."""
        return self._failure is None

    def check_room(self) -> None:
        """Returns where one more request can be audited; ask before doing anything.

        Raises:
            OverloadError: Too many records wait to be written.
            StoreError: The log can no longer be written.
        """
        if self._failure is not None:
            raise StoreError(
                "audit log",
                expected="a log that can be written",
                found=self._failure,
                remedy="Make room on its disk and start the server again.",
            )
        if self._queue.qsize() >= self._capacity:
            raise OverloadError(
                "audit log",
                expected=f"fewer than {self._capacity} records that wait to be written",
                found="as many",
                remedy="Send the request again; if this lasts, the server's disk is too slow.",
            )

    def record(self, entry: AuditEntry) -> None:
        """Takes an entry; it is written soon. Nothing that was admitted is ever dropped here."""
        self._queue.put(entry)

    def flush(self, timeout_s: float = 10.0) -> None:
        """Returns when all that was taken so far is on the disk.

        Raises:
            StoreError: It is not, after `timeout_s` seconds or for good.
        """
        done = threading.Event()
        self._queue.put(done)
        if not done.wait(timeout_s) or self._failure is not None:
            raise StoreError(
                "audit log",
                expected="its records on the disk",
                found=self._failure or f"no end after {timeout_s:g} s",
                remedy="Look at the disk that holds it.",
            )

    def close(self) -> None:
        """Writes what was taken, flushes it, and lets another process write."""
        if self._lock.closed:
            return
        self._queue.put(None)
        self._writer.join()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        due = time.monotonic() + self._flush_s
        while True:
            items, ended = self._next(max(0.0, due - time.monotonic()))
            waiting = [item for item in items if isinstance(item, threading.Event)]
            if self._failure is None:
                try:
                    self._append([item for item in items if isinstance(item, AuditEntry)])
                    if waiting or ended or time.monotonic() >= due:
                        self._sync()
                        due = time.monotonic() + self._flush_s
                except OSError as error:
                    self._failure = f"that writing failed ({error.strerror})"
            for event in waiting:
                event.set()
            if ended:
                if self._file is not None:
                    self._file.close()
                return

    def _next(self, timeout_s: float) -> tuple[list[AuditEntry | threading.Event], bool]:
        """Returns what waits, at least one item unless time runs out, and whether it is the end."""
        items: list[AuditEntry | threading.Event] = []
        idle = self._flushed == self._place  # then there is nothing to flush at any time
        try:
            item = self._queue.get(timeout=None if idle else timeout_s)
            while item is not None:
                items.append(item)
                if len(items) == _BATCH:
                    return items, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return items, False
        return items, True

    def _append(self, entries: list[AuditEntry]) -> None:
        for entry in entries:
            line, place = chained(entry.members(), self._place)
            if self._file is None or self._file.tell() >= self._file_bytes:
                self._sync()
                self._file = self._next_file(place.sequence)
            self._file.write(line.encode() + b"\n")
            self._place = place
        if entries and self._file is not None:
            self._file.flush()

    def _next_file(self, sequence: int) -> IO[bytes]:
        files = audit_files(self.folder)
        if self._file is None and files and files[-1].stat().st_size < self._file_bytes:
            return files[-1].open("ab")
        if self._file is not None:
            self._file.close()
        path = self.folder / f"audit-{sequence:012d}.jsonl"
        return open(path, "ab", opener=_private)  # kept open between records

    def _sync(self) -> None:
        """Flushes the log to the disk, then the head: so the head is never ahead."""
        if self._file is None or self._flushed == self._place:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        _write_head(self.folder, self._place)
        self._flushed = self._place


def _stamp(model: Provenance) -> dict[str, str]:
    found = {"model": model.model, "digest": model.model_digest}
    if model.adapter_digest is not None:
        found |= {"adapter": model.adapter or "", "adapter_digest": model.adapter_digest}
    return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lock_of(folder: Path) -> IO[str]:
    lock = open(folder / ".writer", "a", opener=_private, encoding="utf-8")  # noqa: SIM115  # held as long as the log
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreError(
            "audit log",
            expected="one process that writes to it",
            found="another that does",
            remedy="Stop the other server, or give this one another TANDEM_HOME.",
        ) from None
    return lock


def _recover(folder: Path) -> tuple[ChainPlace, bool]:
    """Returns the last record's place, and whether a torn line after it was cut off."""
    files, head = audit_files(folder), read_head(folder)
    place, torn = FIRST, False
    while files and place == FIRST:
        last = files.pop()
        whole = last.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            os.truncate(last, end)
            torn = True
        if end:
            place = _place_of(whole[whole.rfind(b"\n", 0, end - 1) + 1 : end])
        else:
            last.unlink()  # its first record was torn: it comes again, perhaps with another name
    if head is not None and place.sequence < head.sequence:
        raise StoreError(
            "audit log",
            expected=f"a log up to record {head.sequence}",
            found=f"one that ends at record {place.sequence}",
            remedy="Its end was cut off. Run tandem audit verify, keep the folder as evidence, "
            "and move it away: a new log then begins.",
        )
    return place, torn


def _place_of(line: bytes) -> ChainPlace:
    try:
        record: Mapping[str, Any] = json.loads(line)
        if record["format"] == FORMAT:
            return ChainPlace(int(record["sequence"]), str(record["hash"]))
        found = "one of another format"
    except (ValueError, KeyError, TypeError) as error:
        found = f"a line that is none ({type(error).__name__})"
    raise StoreError(
        "audit log",
        expected=f"a record of format {FORMAT} at its end",
        found=found,
        remedy="Run tandem audit verify, keep the folder as evidence, and move it away.",
    )


def _write_head(folder: Path, place: ChainPlace) -> None:
    part = folder / "head.part"
    with open(part, "w", opener=_private, encoding="utf-8") as file:  # with a mode
        json.dump({"format": FORMAT, "sequence": place.sequence, "hash": place.hash}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / "head.json")
