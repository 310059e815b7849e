"""Results kept by exact content: the same model, adapter and input give the stored answer.

Values are bytes of `common.protocol.codec`; diskcache would unpickle other kinds of
value, so this store refuses them on reading (CVE-2025-69872). Keys are digests: nothing
of an input can be read from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_PICKLE

from common.errors import ModelError
from common.models.base import ModelProfile
from common.protocol.codec import result_from_bytes, result_to_bytes
from common.settings import Settings, load_settings
from common.task import Result, Task, digest_of

__all__ = ["ResultCache"]


class _BytesDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache ships no types
    """Stores text keys and bytes only."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == MODE_PICKLE:
            raise ModelError(
                "result cache",
                expected="values stored as bytes",
                found="a pickled value, which this program never writes",
                remedy="Delete the cache folder and find out who wrote to it.",
            )
        return super().fetch(mode, filename, value, read)


class ResultCache:
    """A store of results on disk, shared by the processes of one user.

    Args:
        folder: Where to keep them; made with mode 0700.
        size_bytes: Least recently used results go when the store is larger than this.
    """

    def __init__(self, folder: Path, *, size_bytes: int = 1 << 30) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._store = diskcache.Cache(
            str(folder),
            disk=_BytesDisk,
            size_limit=size_bytes,
            eviction_policy="least-recently-used",
        )
        self.hits = 0
        self.misses = 0

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> ResultCache:
        """Opens the cache in TANDEM_HOME, of at most TANDEM_CACHE_BYTES."""
        chosen = settings or load_settings()
        return cls(chosen.home / "results", size_bytes=chosen.cache_bytes)

    @staticmethod
    def key(profile: ModelProfile, task: Task) -> str:
        """Returns the digest of everything that the result depends on."""
        identity = (profile.name, profile.digest, profile.adapter_digest or "", task.digest())
        return digest_of(*(piece.encode() for piece in identity))

    def get(self, profile: ModelProfile, task: Task) -> Result | None:
        """Returns the stored result, or None where there is none."""
        stored = self._store.get(self.key(profile, task))
        if stored is None:
            self.misses += 1
            return None
        self.hits += 1
        return result_from_bytes(stored)

    def put(self, profile: ModelProfile, task: Task, result: Result) -> None:
        """Stores `result` as the answer of this model to this task."""
        self._store.set(self.key(profile, task), result_to_bytes(result))

    def close(self) -> None:
        """Closes the store's files."""
        self._store.close()
