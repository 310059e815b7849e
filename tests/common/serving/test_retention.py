"""What is too old is erased at the start and on demand; the rest stays."""

from __future__ import annotations

import threading

import pytest

from common.errors import OverloadError, UnknownNameError
from common.protocol.sessions.session import SessionStore
from common.serving.retention import Retention, Rule

DAY_S = 86_400


class Store:
    def __init__(self, error=None):
        self.asked, self.error, self.called = [], error, threading.Event()

    def purge(self, older_than_s):
        self.asked.append(older_than_s)
        self.called.set()
        if self.error:
            raise self.error
        return 3


def test_sessions_that_are_too_old_are_gone(tmp_path):
    now = [0.0]
    store = SessionStore(tmp_path / "sessions.sqlite", clock=lambda: now[0])
    old = store.create()
    now[0] = 10 * DAY_S
    young = store.create()
    assert Retention({"sessions": Rule(store, 9)}).apply() == {"sessions": 1}
    assert store.read(young).version == 0
    with pytest.raises(UnknownNameError):
        store.read(old)
    store.close()


def test_a_store_that_fails_does_not_keep_the_others_from_being_purged():
    busy = Store(OverloadError("log", expected="a", found="b", remedy="C."))
    other = Store()
    with pytest.raises(OverloadError):
        Retention({"busy": Rule(busy, 1), "other": Rule(other, 0.5)}).apply()
    assert other.asked == [DAY_S / 2]


@pytest.mark.parametrize(
    "error", [None, OverloadError("log", expected="a", found="b", remedy="C.")]
)
def test_it_begins_at_once_and_ends_when_closed(error):
    store = Store(error)
    retention = Retention({"store": Rule(store, 2)})
    retention.start()
    assert store.called.wait(10)
    retention.close()
    assert store.asked == [2 * DAY_S]


def test_one_that_never_began_can_be_closed():
    Retention({}).close()
