"""Results kept by exact content: the same model, adapter and input give the stored answer.

    cache = ResultCache.from_settings()
    fetched = cache.get_or_compute(model.profile, task, lambda one: model.predict([one])[0])

Many callers that want one result at a time wait for one computation, threads and processes
alike; where its process is killed, another takes over after the lease. Keys are digests:
nothing of an input can be read from them. Values are messages of `common.protocol.messages.codec`,
so nothing is ever unpickled (diskcache would: CVE-2025-69872); what is none is removed.
Deleted results are overwritten on the disk.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.content import digest_of
from common.errors import DeadlineError, InputError, OverloadError
from common.models.base import ModelProfile
from common.request import check_wanted
from common.routing.cache.leases import Leases
from common.routing.cache.redis_store import RedisStore
from common.routing.cache.shared_computation import Fetched, Job, SharedComputation, one_each
from common.routing.cache.store import ResultStore, row_of
from common.settings import Settings, load_settings
from common.task import Result, Task

__all__ = ["CacheStats", "Fetched", "ResultCache"]

_LEASE_S = 10.0
_OWN_FAILURES = (DeadlineError, OverloadError)


@dataclass(frozen=True)
class CacheStats:
    """What a cache holds, and what became of the lookups of this process.

    Args:
        hits: Lookups that found a stored result, or shared another caller's computation.
        shared: The latter among them.
        misses: Lookups that found nothing.
        damaged: Stored values that were no results and were removed.
        unstored: Results that were given and not stored: larger than the store, forgotten
            meanwhile, or the disk failed.
        results: How many results it holds.
        bytes: Their size on the disk, about.
        limit_bytes: Their largest size.
        computing: Computations under way, in all processes.
        oldest_age_s: Age of the oldest result; None where there is none.
        newest_age_s: Likewise of the newest.
    """

    hits: int
    shared: int
    misses: int
    damaged: int
    unstored: int
    results: int
    bytes: int
    limit_bytes: int
    computing: int
    oldest_age_s: float | None
    newest_age_s: float | None


class ResultCache:
    """A store of results on disk, shared by the processes of one user, or in Redis.

    Args:
        place: Where to keep them: a folder, made with mode 0700, or the URL of a Redis that
            several servers share. A folder's store of an earlier format is removed: its
            results are computed again.
        size_bytes: Least recently used results go when the store is larger than this.
        lease_s: How long others wait for the computation of a process that was killed.
        clock: Unix time.

    Raises:
        StoreError: The file is damaged, not ours, or of a later version.
    """

    def __init__(
        self,
        place: Path | str,
        *,
        size_bytes: int = 1 << 30,
        lease_s: float = _LEASE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store: ResultStore | RedisStore
        if isinstance(place, Path):
            self._store = ResultStore(place, size_bytes=size_bytes, clock=clock)
            self._leases = Leases(self._store.database, seconds=lease_s, clock=clock)
        else:
            self._store = RedisStore(place, size_bytes=size_bytes, lease_s=lease_s)
            self._leases = Leases(self._store, seconds=lease_s, clock=clock)
        self._computation = SharedComputation(self._store, self._leases)
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> ResultCache:
        """Opens the cache at TANDEM_CACHE_URL or in TANDEM_HOME, of TANDEM_CACHE_BYTES at most."""
        chosen = settings or load_settings()
        place = chosen.cache_url.get_secret_value() if chosen.cache_url else chosen.home / "results"
        return cls(place, size_bytes=chosen.cache_bytes)

    @property
    def hits(self) -> int:
        """Lookups of this process that found a result, or shared a computation."""
        return self._counts["hits"]

    @property
    def misses(self) -> int:
        """Lookups of this process that found nothing."""
        return self._counts["misses"]

    @staticmethod
    def key(profile: ModelProfile, task: Task) -> str:
        """Returns the digest of everything that the result depends on."""
        identity = (profile.name, profile.digest, profile.adapter_digest or "", task.digest())
        return digest_of(*(piece.encode() for piece in identity))

    def get(self, profile: ModelProfile, task: Task) -> Result | None:
        """Returns the stored result, or None where there is none.

        Raises:
            StoreError: The store cannot be read.
        """
        key = self.key(profile, task)
        found = self._store.find([key]).get(key)
        self._count("misses" if found is None else "hits")
        return None if found is None else found.result

    def put(self, profile: ModelProfile, task: Task, result: Result) -> None:
        """Stores `result` as the answer of this model to this task.

        Raises:
            ModelError: The result holds what a message cannot carry.
            StoreError: The store cannot be written.
            OverloadError: Others keep the store busy.
        """
        row = row_of(profile, self.key(profile, task), result)
        self._count("unstored", 1 - self._store.write([row]))

    def get_or_compute(
        self, profile: ModelProfile, task: Task, compute: Callable[[Task], Result]
    ) -> Fetched:
        """Returns the stored result, or has it computed once for all who want it.

        As `get_or_compute_many` with one task; `compute` takes the task.
        """
        (fetched,) = self.get_or_compute_many(
            profile, [task], lambda tasks: [compute(one) for one in tasks]
        )
        return fetched

    def get_or_compute_many(
        self,
        profile: ModelProfile,
        tasks: Sequence[Task],
        compute: Callable[[Sequence[Task]], Sequence[Result]],
        *,
        check: Callable[[], None] = check_wanted,
        own: tuple[type[Exception], ...] = _OWN_FAILURES,
    ) -> list[Fetched]:
        """Returns stored results, and has the others computed once for all who want them.

        What this caller has to compute goes to `compute` in one call; for what others
        compute it waits. A failure of `compute` reaches every thread that waited for it;
        other processes try for themselves. A store that fails is no reason to fail: the
        results are computed and not stored. Those of a model that is not deterministic are
        always computed anew.

        Args:
            profile: Whose results.
            tasks: What is asked; equal tasks are computed once.
            compute: Returns one result per task, in order.
            check: Called while waiting; raises where the answer is no longer wanted.
            own: Failures that are this caller's only: who waited tries for itself.

        Raises:
            DeadlineError: The request is no longer wanted.
            ModelError: A result holds what a message cannot carry, or there is not one for
                each task.
            Exception: What `compute` raises.
        """
        if not profile.deterministic:
            return [Fetched(result, "computed") for result in one_each(compute(tasks), tasks)]
        keys = [self.key(profile, task) for task in tasks]
        job = Job(profile, dict(zip(keys, tasks, strict=True)), compute, check, own)
        fetched = self._computation.run(job)
        for key in keys:
            source = fetched[key].source
            self._count("misses" if source == "computed" else "hits")
            self._count("shared", source == "shared")
        return [fetched[key] for key in keys]

    def forget(self, *, model_digest: str | None = None, adapter_digest: str | None = None) -> int:
        """Removes the results of a model or an adapter that was promoted or rolled back.

        What is being computed for it reaches its callers and is not stored.

        Args:
            model_digest: Of the model; with `adapter_digest`, only with that adapter.
            adapter_digest: Of the adapter; empty for the model without one.

        Returns:
            How many results there were.

        Raises:
            InputError: Neither is given.
            StoreError: The store cannot be written.
            OverloadError: Others keep the store busy.
        """
        if model_digest is None and not adapter_digest:
            raise InputError(
                "result cache",
                expected="a model's digest, an adapter's, or both",
                found="neither",
                remedy="Use purge(0) to erase everything.",
            )
        return self._store.forget(model_digest, adapter_digest)

    def purge(self, older_than_s: float) -> int:
        """Erases results that were stored longer ago, so that no file holds them any more.

        Returns:
            How many.

        Raises:
            StoreError: The store cannot be written.
            OverloadError: Others keep the store busy; call again.
        """
        return self._store.purge(older_than_s)

    def stats(self) -> CacheStats:
        """Returns what the store holds, and the counts of this process.

        Raises:
            StoreError: The store cannot be read.
        """
        totals = self._store.totals()
        with self._counting:
            counts = Counter(self._counts)
        return CacheStats(
            hits=counts["hits"],
            shared=counts["shared"],
            misses=counts["misses"],
            damaged=self._store.damaged,
            unstored=counts["unstored"] + self._computation.unstored,
            results=totals.results,
            bytes=totals.bytes,
            limit_bytes=self._store.size_bytes,
            computing=totals.leases,
            oldest_age_s=totals.oldest_age_s,
            newest_age_s=totals.newest_age_s,
        )

    def close(self) -> None:
        """Closes the store's file."""
        self._leases.close()
        self._store.close()

    def _count(self, name: str, by: int = 1) -> None:
        with self._counting:
            self._counts[name] += by
