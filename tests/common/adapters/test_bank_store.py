"""The cache stays in its budget, keeps what is asked for, and reads each entry once."""

from __future__ import annotations

import threading

import pytest

from common.adapters.bank_store import AdmissionCache


def _cache(entries, reads=None):
    def read(key):
        if reads is not None:
            reads.append(key)
        return key

    return AdmissionCache(read, size=lambda _: 10, budget_bytes=10 * entries)


def test_a_kept_entry_is_read_from_disk_once():
    """The second request is answered from memory."""
    reads = []
    cache = _cache(2, reads)
    assert [cache.get("a"), cache.get("a")] == ["a", "a"]
    assert reads == ["a"]
    assert (cache.counts().hits, cache.counts().misses) == (1, 1)


def test_a_one_shot_scan_does_not_flush_the_working_set():
    """A thousand entries asked for once leave three that were asked for twice in place."""
    cache = _cache(3)
    for key in ("a", "b", "c") * 2:
        cache.get(key)
    for number in range(140):
        cache.get(f"scan {number}")
    assert all(key in cache for key in ("a", "b", "c"))
    assert cache.counts().refused == 140
    assert cache.counts().evicted == 0


def test_what_is_asked_for_more_often_takes_the_place_of_the_least_recent():
    """Admission needs more requests than the victim had, not as many."""
    cache = _cache(2)
    for key in ("a", "b", "b", "c"):
        cache.get(key)
    assert "c" not in cache
    cache.get("c")
    assert "c" in cache
    assert "a" not in cache
    assert "b" in cache


def test_a_new_working_set_is_let_in_once_counts_have_been_halved():
    """Old fame fades: 1,000 requests for one entry do not keep it in for ever."""
    cache = _cache(1)
    for _ in range(1000):
        cache.get("old")
    for _ in range(400):
        cache.get("new")
    assert "new" in cache


def test_the_budget_holds_and_larger_values_are_served_without_being_kept():
    """Sizes differ; a value above the whole budget passes through."""
    sizes = {"small": 4, "large": 9, "huge": 11}
    cache = AdmissionCache(lambda key: key, size=sizes.__getitem__, budget_bytes=10)
    for key in ("small", "huge", "huge", "large", "large", "large"):
        assert cache.get(key) == key
        assert cache.counts().n_bytes <= 10
    assert "huge" not in cache
    assert "large" in cache


def test_a_forgotten_entry_is_dropped_and_can_come_back():
    """Forgetting frees its bytes and its count."""
    cache = _cache(1)
    cache.get("a")
    cache.forget("a")
    assert cache.counts().n_bytes == 0
    cache.get("a")
    assert "a" in cache


def test_threads_that_want_one_entry_wait_for_one_read():
    """Eight threads, one read from disk."""
    reads, gate, started = [], threading.Event(), threading.Event()

    def read(key):
        reads.append(key)
        started.set()
        gate.wait(5)
        return key

    cache = AdmissionCache(read, size=lambda _: 1, budget_bytes=10)
    got = []
    threads = [threading.Thread(target=lambda: got.append(cache.get("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait(5)
    gate.set()
    for thread in threads:
        thread.join(5)
    assert (reads, got) == (["a"], ["a"] * 8)


def test_a_failed_read_reaches_the_caller_and_is_tried_again():
    """An error is never kept."""
    answers = [OSError("gone"), "back"]

    def read(key):
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    cache = AdmissionCache(read, size=lambda _: 1, budget_bytes=10)
    with pytest.raises(OSError, match="gone"):
        cache.get("a")
    assert cache.get("a") == "back"
