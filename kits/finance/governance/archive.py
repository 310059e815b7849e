"""Keeps files by their content: the inputs of assessments and their records, for a replay.

A file lies under its sha256, `<first two digits>/<sha256>`, once however often it is used,
readable by its owner only. Nothing is ever written over, so what a digest names stays what
it is; a copy that was damaged is found when it is asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.content import file_digest
from common.errors import MissingInputError, StoreError
from common.settings import Settings, load_settings

__all__ = ["Archive", "FileStamp", "file_sha256"]

_CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_known: dict[tuple[str, FileStamp], str] = {}  # digests of files that have not changed since


@dataclass(frozen=True)
class FileStamp:
    """What the file system says of a file; equal stamps mean that nobody wrote to it.

    Args:
        modified_ns: Time of its last change.
        size_bytes: Its size.
        inode: Its number on its file system.
    """

    modified_ns: int
    size_bytes: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        """Returns the stamp that the file has now.

        Raises:
            MissingInputError: There is no such file.
        """
        try:
            found = path.stat()
        except OSError as error:
            raise _no_file(type(error).__name__) from None
        return cls(found.st_mtime_ns, found.st_size, found.st_ino)


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file; one that has not changed since is not read again.

    Raises:
        MissingInputError: There is no such file, or it cannot be read.
    """
    key = (os.path.realpath(path), FileStamp.of(path))
    if key not in _known:
        try:
            _known[key] = file_digest(path)
        except OSError as error:
            raise _no_file(type(error).__name__) from None
    return _known[key]


class Archive:
    """A folder of files under their sha256.

    Args:
        folder: Made with mode 0700 when the first file is kept, the files 0600.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Archive:
        """Opens the archive of TANDEM_HOME."""
        return cls((settings or load_settings()).home / "finance" / "archive")

    def keep(self, path: Path) -> str:
        """Copies a file and returns its sha256; one whose content is here is not copied again.

        Raises:
            MissingInputError: There is no such file.
            StoreError: It changed while it was copied.
        """
        sha256 = file_sha256(path)
        if not self._place(sha256).is_file():
            with path.open("rb") as file:
                self._write(sha256, iter(lambda: file.read(_CHUNK), b""))
        return sha256

    def find(self, sha256: str) -> Path | None:
        """Returns where the content lies, or None where it is not kept.

        Raises:
            StoreError: The copy no longer has that content.
        """
        if not _SHA256.fullmatch(sha256):  # a record is a file that anybody may have written
            return None
        place = self._place(sha256)
        if not place.is_file():
            return None
        if file_sha256(place) != sha256:
            raise StoreError(
                "archive",
                expected=f"content {sha256[:12]}...",
                found="a copy that was changed",
                remedy="Restore the archive's folder from a backup.",
            )
        return place

    def _place(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def purge(self, older_than_s: float) -> int:
        """Erases copies that were kept longer ago; their records can then no longer be replayed.

        Returns:
            How many.
        """
        before = time.time() - older_than_s
        old = [
            path
            for path in self._folder.glob("??/*")
            if _SHA256.fullmatch(path.name) and path.stat().st_mtime < before
        ]
        for path in old:
            path.unlink()
        return len(old)

    def _write(self, sha256: str, chunks: Iterable[bytes]) -> None:
        """Writes a copy beside its place first, and puts it there if it is what it should be."""
        place = self._place(sha256)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        draft, sha = place.with_name(f".making-{secrets.token_hex(8)}"), hashlib.sha256()
        try:
            with open(draft, "xb", opener=_private) as file:
                for chunk in chunks:
                    sha.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if sha.hexdigest() != sha256:
                raise StoreError(
                    "archive",
                    expected="a file that stays as it is while it is copied",
                    found="another content",
                    remedy="Wait until whoever writes the file has ended, and run this again.",
                )
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _no_file(found: str) -> MissingInputError:
    return MissingInputError(
        "input file",
        expected="a file that can be read",
        found=found,
        remedy="Check the path, and that it may be read.",
    )
