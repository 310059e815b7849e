"""A cache of weights from disk, bounded in bytes, that one-shot scans do not flush.

Eviction is by least recent use; admission follows TinyLFU (Einziger, Friedman and Manes
2017, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage
13(4), arXiv 1512.00727): what has just been read from disk is kept only where it was asked
for more often, lately, than everything that would have to leave for it. Lately: all counts
are halved after as many requests as ten times the entries kept (the paper's reset, with
W / C = 10). Counts are exact, for each key is registered anyway; the paper's sketch would
save nothing here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["AdmissionCache", "CacheCounts"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SAMPLE = 10  # requests per kept entry between two halvings; W / C of the paper
_LEAST_SAMPLE = 160  # so that a cache of few entries does not forget at once


@dataclass(frozen=True)
class CacheCounts:
    """What a cache has done so far.

    Args:
        hits: Requests answered from memory.
        misses: Requests that read the disk.
        refused: Entries that were read and not kept, since those kept were asked for more.
        evicted: Entries that made room for others.
        entries: Entries kept now.
        n_bytes: Their size.
    """

    hits: int
    misses: int
    refused: int
    evicted: int
    entries: int
    n_bytes: int


class AdmissionCache(Generic[K, V]):
    """Keeps what `read` returned for a key, within a budget; safe for many threads.

    What a caller was given stays its own: eviction only drops the cache's reference. One
    key is read once at a time, however many threads ask for it.

    Args:
        read: Returns the value of a key; its errors reach the caller and are not kept.
        size: Bytes of a value.
        budget_bytes: Most bytes kept. A value larger than this is never kept.
    """

    def __init__(
        self, read: Callable[[K], V], *, size: Callable[[V], int], budget_bytes: int
    ) -> None:
        self._read = read
        self._size = size
        self.budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()  # least recent first
        self._reading: dict[K, Future[V]] = {}
        self._asked: dict[K, int] = {}
        self._n_asked = self._n_bytes = 0
        self._hits = self._misses = self._refused = self._evicted = 0

    def get(self, key: K) -> V:
        """Returns the value of `key`, from memory or from disk."""
        with self._lock:
            self._count(key)
            if key in self._kept:
                self._kept.move_to_end(key)
                self._hits += 1
                return self._kept[key][0]
            self._misses += 1
            reading = self._reading.get(key)
            if reading is None:
                mine: Future[V] = Future()
                self._reading[key] = mine
        if reading is not None:
            return reading.result()
        return self._read_once(key, mine)

    def forget(self, key: K) -> None:
        """Drops a key for good; callers that hold its value keep it."""
        with self._lock:
            self._asked.pop(key, None)
            self._drop(key)

    def counts(self) -> CacheCounts:
        """Returns what the cache has done so far."""
        with self._lock:
            done = (self._hits, self._misses, self._refused, self._evicted)
            return CacheCounts(*done, len(self._kept), self._n_bytes)

    def __contains__(self, key: K) -> bool:
        with self._lock:
            return key in self._kept

    def _read_once(self, key: K, mine: Future[V]) -> V:
        try:
            value = self._read(key)
        except BaseException as error:
            with self._lock:
                self._reading.pop(key, None)
            mine.set_exception(error)
            raise
        with self._lock:
            self._reading.pop(key, None)
            if key in self._asked:  # it was not forgotten meanwhile
                self._admit(key, value, self._size(value))
        mine.set_result(value)
        return value

    def _count(self, key: K) -> None:
        self._asked[key] = self._asked.get(key, 0) + 1
        self._n_asked += 1
        if self._n_asked >= max(_SAMPLE * len(self._kept), _LEAST_SAMPLE):
            halved = {key: count // 2 for key, count in self._asked.items() if count > 1}
            self._asked = {**halved, key: max(1, halved.get(key, 1))}
            self._n_asked //= 2

    def _admit(self, key: K, value: V, n_bytes: int) -> None:
        victims, room = [], self.budget_bytes - self._n_bytes
        for victim, (_, size) in self._kept.items():
            if room >= n_bytes:
                break
            victims.append(victim)
            room += size
        wanted = self._asked[key]
        if room < n_bytes or any(self._asked.get(victim, 0) >= wanted for victim in victims):
            self._refused += 1
            return
        for victim in victims:
            self._drop(victim)
            self._evicted += 1
        self._kept[key] = (value, n_bytes)
        self._n_bytes += n_bytes

    def _drop(self, key: K) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._n_bytes -= dropped[1]
