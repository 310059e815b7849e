"""Who works on what: claims on numbers that die with the process that holds them.

A claim is a POSIX record lock on one byte of a lock file (fcntl(2)). The kernel gives it back
at the moment its process ends, `kill -9` included, and never before. A lease with an expiry
would be wrong in both directions: after a kill its work would wait for the expiry, and a slow
process whose lease ran out would still be working while another begins. A process that hangs
keeps its claims until it is killed. Unlike flock(2), these locks do not pass to forked
children, which could otherwise hold them beyond the end of their parent.

The locks do not tell threads of one process apart, and closing any handle of the file would
drop them; so a process keeps one handle of each lock file, and a set of what it holds.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

__all__ = ["Claims"]


class _LockFile:
    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.held: set[int] = set()
        self.lock = threading.Lock()

    def is_at(self, path: Path) -> bool:
        """Returns whether the file still lies there, and was not made anew by others."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), path.stat())
        except FileNotFoundError:
            return False


_open: dict[tuple[int, Path], _LockFile] = {}  # by process, so that a fork starts without any
_guard = threading.Lock()


def _renew_guard() -> None:
    global _guard  # noqa: PLW0603  # a fork may copy the guard while another thread holds it
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_renew_guard)


class Claims:
    """Claims of this process on the numbers of one lock file.

    Args:
        path: The lock file; made with mode 0600. It must lie on a local disk, must not be
            deleted while in use, and nothing else may open it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path.parent.resolve() / path.name

    def take(self, number: int) -> bool:
        """Claims `number`; False where a thread or a living process holds it.

        Args:
            number: 0 or above.
        """
        file = self._file()
        with file.lock:
            if number in file.held:
                return False
            try:
                fcntl.lockf(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as systems differ
                return False
            file.held.add(number)
            return True

    def release(self, number: int) -> None:
        """Gives `number` back; without a claim on it nothing happens."""
        file = self._file()
        with file.lock:
            if number in file.held:
                fcntl.lockf(file.descriptor, fcntl.LOCK_UN, 1, number)
                file.held.discard(number)

    def _file(self) -> _LockFile:
        key = (os.getpid(), self._path)
        with _guard:
            file = _open.get(key)
            if file is None or not (file.held or file.is_at(self._path)):
                file = _open[key] = _LockFile(self._path)
            return file
