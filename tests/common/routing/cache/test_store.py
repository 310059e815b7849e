"""Results at rest are exact, private, bounded, erasable, and never unpickled."""

from __future__ import annotations

import pickle
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from common.errors import StoreError
from common.routing.cache import ResultCache
from common.task import Result
from tests.common.routing.cached_tasks import OTHER, PROFILE, TASK, Clock, answer, with_text


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock):
    cache = ResultCache(tmp_path / "results", clock=clock)
    yield cache
    cache.close()


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.bool_, np.int8])
def test_every_type_of_number_comes_back_as_it_was(cache, dtype):
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    cache.put(PROFILE, TASK, Result(arrays={"x": array}))
    copy = cache.get(PROFILE, TASK).arrays["x"]
    assert copy.dtype == array.dtype
    assert copy.tobytes() == array.tobytes()


def test_another_opening_of_the_folder_finds_it(cache, tmp_path):
    cache.put(PROFILE, TASK, Result(values={"v": 1}))
    again = ResultCache(tmp_path / "results")
    assert again.get(PROFILE, TASK) is not None
    again.close()


def test_the_folder_and_its_files_are_for_their_owner_only(cache, tmp_path):
    cache.put(PROFILE, TASK, answer(TASK))
    folder = tmp_path / "results"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_least_recently_used_results_go_first(tmp_path, clock):
    large = Result(arrays={"x": np.zeros(1000, np.uint8)})
    cache = ResultCache(tmp_path / "small", size_bytes=5000, clock=clock)
    tasks = [with_text(text) for text in "abcd"]
    for task in tasks[:3]:
        cache.put(PROFILE, task, large)
        clock.now += 100
    cache.get(PROFILE, tasks[0])
    cache.put(PROFILE, tasks[3], large)
    kept = [task for task in tasks if cache.get(PROFILE, task) is not None]
    assert kept == [tasks[0], tasks[2], tasks[3]]
    assert 3 * 1512 < cache.stats().bytes <= 5000
    cache.close()


def test_a_result_larger_than_the_store_is_given_and_not_kept(tmp_path):
    cache = ResultCache(tmp_path / "small", size_bytes=500)
    large = Result(arrays={"x": np.zeros(1000, np.uint8)})
    assert cache.get_or_compute(PROFILE, TASK, lambda _: large).result is large
    stats = cache.stats()
    assert (stats.results, stats.unstored, stats.computing) == (0, 1, 0)
    cache.close()


def test_purging_erases_by_age_and_from_the_disk(cache, clock, tmp_path):
    secret, kept = "MARK-OF-OLD" * 30, "MARK-OF-NEW" * 30
    cache.put(PROFILE, TASK, Result({"v": secret}))
    clock.now += 1000
    cache.put(PROFILE, OTHER, Result({"v": kept}))
    assert b"MARK-OF-OLD" in everything_in(tmp_path / "results")
    assert cache.purge(older_than_s=500) == 1
    content = everything_in(tmp_path / "results")
    assert b"MARK-OF-OLD" not in content
    assert b"MARK-OF-NEW" in content
    assert cache.purge(0) == 0  # it is not older than now
    clock.now += 1
    assert cache.purge(0) == 1


def test_purging_works_beside_others_that_use_the_store(tmp_path):
    cache = ResultCache(tmp_path / "busy")
    over = threading.Event()

    def use(name):
        i = 0
        while not over.is_set():
            i += 1
            cache.get_or_compute(PROFILE, with_text(f"{name} {i % 7}"), answer)

    with ThreadPoolExecutor(4) as pool:
        users = [pool.submit(use, name) for name in "ab"]
        purges = [pool.submit(cache.purge, 0) for _ in range(10)]
        assert all(purge.result(60) >= 0 for purge in purges)
        over.set()
        for user in users:
            user.result(60)
    cache.close()


def test_a_pickled_value_is_removed_and_never_run(cache, tmp_path, caplog):
    """What another program wrote into the store is not unpickled (CVE-2025-69872)."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    cache.put(PROFILE, TASK, answer(TASK))
    foreign = sqlite3.connect(tmp_path / "results" / "results.sqlite")
    foreign.execute("UPDATE result SET content = ?", (pickle.dumps(Trap()),))
    foreign.commit()
    foreign.close()
    assert cache.get_or_compute(PROFILE, TASK, answer).source == "computed"
    assert not (tmp_path / "run").exists()
    assert cache.stats().damaged == 1
    assert "no results" in caplog.text
    assert cache.get(PROFILE, TASK) is not None


def test_a_store_of_the_first_format_gives_way(tmp_path):
    folder = tmp_path / "results"
    (folder / "ab" / "cd").mkdir(parents=True)
    for name in ("cache.db", "cache.db-wal", "ab/cd/value.val"):
        (folder / name).write_bytes(b"old result")
    (folder / "notes.txt").write_text("not ours")
    cache = ResultCache(folder)
    assert not (folder / "ab").exists()
    assert not (folder / "cache.db").exists()
    assert (folder / "notes.txt").exists()
    cache.close()


def test_a_later_format_is_refused(cache, tmp_path):
    cache.close()
    later = sqlite3.connect(tmp_path / "results" / "results.sqlite")
    later.execute("PRAGMA user_version=99")
    later.close()
    with pytest.raises(StoreError, match="version 99"):
        ResultCache(tmp_path / "results")
