"""A lease is held while its holder lives, runs out after it, and is never two callers' at once."""

from __future__ import annotations

import time

import pytest

from common.protocol.database import Database
from common.routing.cache import tables as cache_tables
from common.routing.cache.leases import Leases

WANTED = [("key", "model", "adapter")]


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def database(tmp_path):
    database = Database(
        tmp_path / "x.sqlite",
        application_id=cache_tables.APPLICATION_ID,
        migrations=cache_tables.MIGRATIONS,
    )
    yield database
    database.close()


@pytest.fixture
def holders(database, clock):
    """Two holders that renew too rarely to do it in a test."""
    both = [Leases(database, seconds=900.0, clock=clock) for _ in range(2)]
    yield both
    for one in both:
        one.close()


def test_one_holder_at_a_time(holders):
    first, second = holders
    assert first.take(WANTED) == ["key"]
    assert second.take(WANTED) == []
    assert first.take(WANTED) == []
    assert second.free(["key", "other"]) == {"other"}
    first.drop(["key"])
    assert second.take(WANTED) == ["key"]


def test_only_the_holder_gives_a_lease_back(holders):
    first, second = holders
    first.take(WANTED)
    second.drop(["key"])
    assert second.take(WANTED) == []


def test_a_lease_that_is_not_renewed_runs_out(holders, clock):
    first, second = holders
    first.take(WANTED)
    clock.now += 899
    assert second.take(WANTED) == []
    clock.now += 2
    assert second.free(["key"]) == {"key"}
    assert second.take(WANTED) == ["key"]


def test_a_clock_that_was_put_back_blocks_nobody_for_long(holders, clock):
    first, second = holders
    first.take(WANTED)
    clock.now -= 3600
    assert second.take(WANTED) == ["key"]


def test_a_living_holder_s_lease_is_renewed(database, clock):
    first = Leases(database, seconds=0.3, clock=clock)  # renewed after 0.1 s of real time
    first.take(WANTED)
    clock.now += 0.2
    renewed, give_up = clock.now + 0.3, time.monotonic() + 30
    until = 0.0
    while until < renewed and time.monotonic() < give_up:
        time.sleep(0.02)
        with database.reading() as tables:
            (until,) = tables.execute("SELECT until FROM lease").fetchone()
    assert until == renewed
    first.close()
