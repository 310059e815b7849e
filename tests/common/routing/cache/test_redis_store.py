"""Servers on several machines share results in Redis, with the promises of the local store."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import redis

from common.errors import StoreError
from common.models.base import ModelProfile
from common.protocol.messages.codec import result_to_bytes
from common.routing.cache import ResultCache
from common.routing.cache.redis_store import RedisStore
from common.routing.cache.tables import Row
from common.settings import Settings
from common.task import Result, Task, Text

pytestmark = pytest.mark.external
PROFILE = ModelProfile(name="m", modality="text", digest="d" * 64, adapter_digest="a" * 64)


@pytest.fixture(scope="module")
def url(
    debian_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Redis of the tests' own, on loopback, that writes nothing to the disk."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    command = [debian_tool("redis-server"), *options, "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        client = redis.Redis(port=port)
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
        server.terminate()


@pytest.fixture
def client(url: str):
    client = redis.Redis.from_url(url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def store(url: str, client) -> Iterator[RedisStore]:
    store = RedisStore(url, size_bytes=10_000, lease_s=60.0)
    yield store
    store.close()


def row(key: str, *, model: str = "m", adapter: str = "a", n: int = 4) -> Row:
    return Row(key, model, adapter, result_to_bytes(Result({}, {"x": np.zeros(n, np.uint8)})))


def test_what_is_written_is_found_in_exact_types(store: RedisStore) -> None:
    assert store.write([row("k")]) == 1
    (found,) = store.find(["k", "other"]).values()
    assert found.result.arrays["x"].dtype == np.uint8
    totals = store.totals()
    assert (totals.results, totals.leases, totals.bytes) == (1, 0, row("k").size)
    assert 0 <= totals.newest_age_s <= totals.oldest_age_s < 60


def test_the_least_recently_used_make_room(store: RedisStore) -> None:
    large = [row(key, n=2000) for key in ("a", "b", "c")]
    store.write(large[:2])
    store.find(["a"])
    store.write([*large[2:], row("d", n=2000)])
    assert set(store.find("abcd")) == {"a", "c", "d"}
    assert store.totals().bytes == sum(one.size for one in large)
    assert store.write([row("too large", n=20_000)]) == 0


def test_writing_again_counts_once(store: RedisStore) -> None:
    for n in (10, 20):
        store.write([row("k", n=n)])
    assert store.totals().bytes == row("k", n=20).size


def test_only_the_holder_of_a_lease_stores_and_then_has_it_no_more(store: RedisStore) -> None:
    assert store.take([("k", "m", "a"), ("l", "m", "a")], "one") == ["k", "l"]
    assert store.take([("k", "m", "a")], "other") == []
    assert store.free(["k", "free"]) == {"free"}
    assert store.write([row("k")], holder="other") == 0
    assert store.write([row("k")], holder="one") == 1
    assert store.free(["k"]) == {"k"}
    store.release(["l"], "other")
    assert store.free(["l"]) == set()
    store.release(["l"], "one")
    assert store.free(["l"]) == {"l"}


def test_a_lease_that_is_not_renewed_runs_out(url: str, client) -> None:
    short = RedisStore(url, size_bytes=1000, lease_s=0.2)
    assert short.take([("k", "m", "a"), ("l", "m", "a")], "killed") == ["k", "l"]
    end_s = time.monotonic() + 0.5
    while time.monotonic() < end_s:
        short.renew("killed")
        assert short.free(["k"]) == set()
    time.sleep(0.25)
    assert short.take([("k", "m", "a")], "next") == ["k"]
    assert short.totals().leases == 1
    short.close()


def test_what_is_forgotten_while_it_is_computed_is_not_stored(store: RedisStore) -> None:
    store.write([row("k"), row("other", adapter="b")])
    store.take([("new", "m", "a")], "one")
    assert store.forget("m", "a") == 1
    assert store.write([row("new")], holder="one") == 0
    assert set(store.find(["k", "other", "new"])) == {"other"}


def test_results_are_erased_by_age(store: RedisStore, client) -> None:
    store.write([row("k")])
    assert store.purge(3600.0) == 0
    assert store.purge(0.0) == 1
    assert store.totals().bytes == 0
    assert not list(client.scan_iter("*:r:*"))


def test_what_is_no_result_is_removed_and_never_unpickled(store: RedisStore, client) -> None:
    store.write([row("k")])
    client.hset("tandem:results:1:r:k", "content", b"\x80\x04cposix\nsystem\n.")
    assert store.find(["k"]) == {}
    assert (store.damaged, store.totals().results) == (1, 0)


def test_one_computation_serves_the_servers_that_share_a_redis(url: str, client) -> None:
    first, second = (ResultCache(url, size_bytes=1 << 20) for _ in range(2))
    computed, begin = [], Barrier(2)

    def compute(task: Task) -> Result:
        computed.append(task)
        time.sleep(0.1)  # the other one asks meanwhile
        return Result({"n": 1})

    def ask(cache: ResultCache) -> str:
        begin.wait(10)
        return cache.get_or_compute(PROFILE, Task({"t": Text("x")}), compute).source

    with ThreadPoolExecutor(2) as threads:
        sources = sorted(threads.map(ask, (first, second)))
    assert len(computed) == 1
    assert sources[0] == "computed"
    assert first.get(PROFILE, Task({"t": Text("x")})) is not None
    assert second.stats().results == 1
    first.close()
    second.close()


def test_where_redis_fails_results_are_computed_all_the_same(url: str, client) -> None:
    cache = ResultCache(url)
    client.config_set("requirepass", "changed")
    try:
        for connection in [
            one for one in client.client_list() if one["id"] != str(client.client_id())
        ]:
            client.client_kill_filter(_id=connection["id"])
        fetched = cache.get_or_compute(PROFILE, Task({"t": Text("y")}), lambda _: Result({"n": 2}))
        assert fetched.result.values["n"] == 2
    finally:
        client.config_set("requirepass", "")
    cache.close()


def test_a_redis_that_is_not_there_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="TANDEM_CACHE_URL"):
        RedisStore("redis://127.0.0.1:1", size_bytes=1, lease_s=1.0)


def test_the_url_and_its_password_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CACHE_URL", "rediss://:word@cache:6379")
    assert "word" not in repr(Settings())
