"""Results at rest: messages of the codec in one SQLite file, bounded, private, erasable."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import MessageError, ModelError, OverloadError, TooLargeError
from common.models.base import ModelProfile
from common.protocol.database import Database
from common.protocol.messages.codec import result_from_bytes, result_to_bytes
from common.routing.cache import tables as cache_tables
from common.routing.cache.tables import Row, Totals
from common.task import Result

__all__ = ["ResultStore", "Stored", "row_of"]

_FILE = "results.sqlite"
_COARSE_S = 60.0  # a use is noted when the last note is older, so that most hits only read
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """A result that was found.

    Args:
        result: The result.
        age_s: Seconds since it was stored.
    """

    result: Result
    age_s: float


def row_of(profile: ModelProfile, key: str, result: Result) -> Row:
    """Returns a result as it is kept.

    Raises:
        ModelError: It holds what a message cannot carry.
    """
    try:
        content = result_to_bytes(result)
    except (MessageError, TooLargeError) as error:
        raise ModelError(
            f"result of {profile.name}",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        ) from error
    return Row(key, profile.digest, profile.adapter_digest or "", content)


class ResultStore:
    """The results in one folder; any number of threads and processes may use it.

    Args:
        folder: Made with mode 0700. A store of the first format (diskcache) is removed:
            its results are computed again.
        size_bytes: Least recently used results go when they are larger together.
        clock: Unix time.

    Raises:
        StoreError: The file is damaged, not ours, or of a later version.
    """

    def __init__(self, folder: Path, *, size_bytes: int, clock: Callable[[], float]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        _remove_first_format(folder)
        self.database = Database(
            folder / _FILE,
            application_id=cache_tables.APPLICATION_ID,
            migrations=cache_tables.MIGRATIONS,
            durable=False,
        )
        self.size_bytes = size_bytes
        self.damaged = 0
        self._clock = clock

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        """Returns the results that are there, by key; what is no result is removed.

        Raises:
            StoreError: The file cannot be read.
        """
        now = self._clock()
        with self.database.reading() as tables:
            rows = {key: cache_tables.find_result(tables, key) for key in keys}
        found, stale, damaged = {}, [], []
        for key, row in rows.items():
            if row is None:
                continue
            content, stored, used = row
            try:
                found[key] = Stored(result_from_bytes(content), max(0.0, now - stored))
            except MessageError:
                damaged.append(key)
            if now - used > _COARSE_S:
                stale.append(key)
        self._tidy(stale, damaged, now)
        return found

    def write(self, rows: Sequence[Row], *, holder: str | None = None) -> int:
        """Stores results as one change and gives their leases back; returns how many.

        Args:
            rows: The results; one larger than the store is left out.
            holder: Stores only those whose lease it still has; None stores all.

        Raises:
            OverloadError: Others keep the file busy.
            StoreError: It cannot be written.
        """
        keys = {row.key for row in rows}
        with self.database.writing() as tables:
            held = keys if holder is None else cache_tables.release_leases(tables, keys, holder)
            fitting = [row for row in rows if row.key in held and row.size <= self.size_bytes]
            for row in fitting:
                cache_tables.insert_result(tables, row, self._clock())
            cache_tables.drop_least_used(tables, self.size_bytes)
        return len(fitting)

    def forget(self, model: str | None, adapter: str | None) -> int:
        """Removes the results and leases of a model, an adapter, or both together.

        Raises:
            OverloadError: Others keep the file busy.
            StoreError: It cannot be written.
        """
        with self.database.writing() as tables:
            return cache_tables.delete_version(tables, model, adapter)

    def purge(self, older_than_s: float) -> int:
        """Erases what was stored longer ago, from the file and from its log.

        Raises:
            OverloadError: Others keep the file busy; the log may still hold what was erased.
            StoreError: It cannot be written.
        """
        with self.database.writing() as tables:
            erased = cache_tables.delete_before(tables, self._clock() - older_than_s)
        self.database.erase_log()
        return erased

    def totals(self) -> Totals:
        """Returns what the store holds.

        Raises:
            StoreError: The file cannot be read.
        """
        with self.database.reading() as tables:
            return cache_tables.read_totals(tables, self._clock())

    def close(self) -> None:
        """Closes the file."""
        self.database.close()

    def _tidy(self, used: Collection[str], damaged: Collection[str], now: float) -> None:
        if not used and not damaged:
            return
        try:
            with self.database.writing() as tables:
                cache_tables.touch_result(tables, used, now)
                for key in damaged:
                    cache_tables.delete_result(tables, key)
        except OverloadError:
            return  # a later lookup will do it
        if damaged:
            self.damaged += len(damaged)
            _log.warning(
                "removed %d cached values that were no results; find out who wrote them",
                len(damaged),
            )


def _remove_first_format(folder: Path) -> None:
    """Removes what diskcache left: `cache.db` and folders of two hexadecimal digits."""
    if not (folder / "cache.db").exists():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and re.fullmatch("[0-9a-f]{2}", path.name):
            shutil.rmtree(path)
    for path in folder.glob("cache.db*"):
        path.unlink(missing_ok=True)
