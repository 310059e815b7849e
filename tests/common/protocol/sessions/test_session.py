"""No update of a session is lost, every kept version can be read, and what goes is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common.errors import (
    ConflictError,
    DeadlineError,
    MessageError,
    StoreError,
    TooLargeError,
    UnknownNameError,
)
from common.protocol.database import Database
from common.protocol.messages.payloads import SessionDelta
from common.protocol.sessions.session import SessionLimits, SessionStore
from common.protocol.sessions.tables import APPLICATION_ID, MIGRATIONS
from common.request import new_request, serving
from common.settings import Settings
from common.task import Result
from tests.common.protocol.saga_world import memory_folder

N_KEPT = 4


@pytest.fixture
def store(tmp_path):
    store = SessionStore(tmp_path / "sessions.sqlite")
    yield store
    store.close()


def test_models_share_json_and_results_through_versions(store):
    session_id = store.create()
    triage = store.open(session_id, author="triage")
    assert (triage.state.version, dict(triage.state.values)) == (0, {})
    embedding = Result({"model": "minilm"}, {"embedding": np.ones(4, np.float16)})
    assert triage.commit({"language": "de", "turns": [1, {"a": None}], "text": embedding}) == 1
    reader = store.open(session_id, author="reader")
    assert reader.state.values["turns"] == [1, {"a": None}]
    assert reader.state.values["text"].arrays["embedding"].dtype == np.float16
    assert reader.commit({"language": "en"}, removed=["turns"]) == 2
    assert set(reader.state.values) == {"language", "text"}
    assert store.read(session_id, version=1).values["language"] == "de"


def test_a_stale_writer_gets_both_versions_and_changes_nothing(store):
    session_id = store.create()
    slow, fast = (store.open(session_id, author=name) for name in ("slow", "fast"))
    fast.commit({"a": 1})
    fast.commit({"a": 2})
    with pytest.raises(ConflictError, match=r"present version 2; found a change to version 0"):
        slow.commit({"a": 3})
    with pytest.raises(ConflictError, match="to version 3"):
        store.commit(SessionDelta(session_id, 3, {"a": 4}))  # of a time to come
    with pytest.raises(ConflictError, match="to version 0"):
        slow.rollback(0)
    assert slow.refresh().values == {"a": 2}
    assert slow.commit({"a": 3}) == 3


def test_it_survives_a_restart(tmp_path):
    first = SessionStore(tmp_path / "sessions.sqlite")
    session_id = first.create()
    first.commit(SessionDelta(session_id, 0, {"a": [1.5]}, author="m"))
    first.close()
    second = SessionStore(tmp_path / "sessions.sqlite")
    assert second.read(session_id).values == {"a": [1.5]}
    assert second.history(session_id)[0].author == "m"


def test_the_store_of_the_settings_lies_at_home(tmp_path):
    store = SessionStore.from_settings(Settings(home=tmp_path))
    store.create()
    assert (tmp_path / "link" / "sessions.sqlite").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "link").stat().st_mode & 0o777 == 0o700


class TestRollback:
    """An earlier version comes back as a new one."""

    def test_values_come_back_and_nothing_is_lost(self, store):
        session = store.open(store.create(), author="m")
        session.commit({"a": 1, "b": 1})
        session.commit({"a": 2, "c": 2}, removed=["b"])
        assert session.rollback(1) == 3
        assert session.state.values == {"a": 1, "b": 1}
        assert session.rollback(2) == 4
        assert session.state.values == {"a": 2, "c": 2}
        assert session.rollback(4) == 5
        changes = store.history(session.state.session_id)
        assert [(c.version, c.changed, c.removed, c.restored) for c in changes] == [
            (1, ("a", "b"), (), None),
            (2, ("a", "c"), ("b",), None),
            (3, ("a", "b"), ("c",), 1),
            (4, ("a", "c"), ("b",), 2),
            (5, (), (), 4),
        ]

    @pytest.mark.parametrize("version", [-1, 2])
    def test_a_version_that_is_not_kept_is_unknown(self, store, version):
        session = store.open(store.create(), author="m")
        session.commit({"a": 1})
        with pytest.raises(UnknownNameError, match="expected 0 to 1"):
            session.rollback(version)
        with pytest.raises(UnknownNameError, match="expected 0 to 1"):
            store.read(session.state.session_id, version=version)


class TestHistory:
    """Who changed which keys, never to what, and not for ever."""

    def test_it_is_bounded_and_so_are_the_versions(self, tmp_path):
        limits = SessionLimits(versions=3, history=5)
        store = SessionStore(tmp_path / "s.sqlite", limits=limits, clock=lambda: 7.0)
        session = store.open(store.create(), author="m")
        for i in range(10):
            session.commit({"a": i, f"b{i}": i})
        changes = store.history(session.state.session_id)
        assert [change.version for change in changes] == [6, 7, 8, 9, 10]
        assert {change.time for change in changes} == {7.0}
        assert store.read(session.state.session_id, version=8).values["a"] == 7
        with pytest.raises(UnknownNameError, match="8 to 10"):
            store.read(session.state.session_id, version=7)

    def test_it_holds_no_values(self, store):
        session = store.open(store.create(), author="m")
        session.commit({"a": "Jane Doe"})
        assert "Jane" not in repr(store.history(session.state.session_id))

    def test_large_superseded_values_go_first(self, tmp_path):
        store = SessionStore(tmp_path / "s.sqlite", limits=SessionLimits(session_bytes=1000))
        session = store.open(store.create(), author="m")
        for i in range(1, 6):
            session.commit({"a": str(i) * 398})  # 400 bytes as stored
        session_id = session.state.session_id
        assert store.read(session_id, version=3).values["a"] == "3" * 398
        with pytest.raises(UnknownNameError, match="3 to 5"):
            store.read(session_id, version=2)


class TestIdempotencyKey:
    """A step that commits under its key may run again."""

    def test_the_same_key_commits_once(self, store):
        session_id = store.create()
        delta = SessionDelta(session_id, 0, {"a": 1})
        assert [store.commit(delta, idempotency_key="k") for _ in range(3)] == [1, 1, 1]
        undo = {"base_version": 1, "author": "m", "idempotency_key": "k:undo"}
        assert [store.rollback(session_id, 0, **undo) for _ in range(2)] == [2, 2]
        assert store.commit(delta, idempotency_key="k") == 1
        assert store.read(session_id).values == {}
        made = [store.version_made(session_id, idempotency_key=k) for k in ("k", "k:undo", "none")]
        assert made == [1, 2, None]

    def test_another_session_may_have_the_same_key(self, store):
        for session_id in (store.create(), store.create()):
            assert store.commit(SessionDelta(session_id, 0, {"a": 1}), idempotency_key="k") == 1


class TestLimits:
    """What is too large is refused before anything is changed."""

    @pytest.fixture
    def session(self, tmp_path):
        limits = SessionLimits(value_bytes=100, session_bytes=250, keys=3)
        store = SessionStore(tmp_path / "s.sqlite", limits=limits)
        session = store.open(store.create(), author="m")
        session.commit({"a": "x" * 90})
        return session

    def test_a_large_value(self, session):
        with pytest.raises(TooLargeError, match="at most 100 bytes"):
            session.commit({"b": "x" * 100})

    def test_a_large_session(self, session):
        session.commit({"b": "x" * 90})
        with pytest.raises(TooLargeError, match="3 keys and 276 bytes"):
            session.commit({"c": "x" * 90})
        assert session.commit({"c": "x" * 90}, removed=["a"]) == 3

    def test_many_keys(self, session):
        with pytest.raises(TooLargeError, match="4 keys"):
            session.commit({"b": 1, "c": 2, "d": 3})
        assert session.refresh().version == 1

    @pytest.mark.parametrize("key", ["", "k" * 257, "a\n", "\x00", "\u202e"])
    def test_keys_are_short_and_printable(self, session, key):
        with pytest.raises(MessageError, match="printable"):
            session.commit({key: 1})


@pytest.mark.parametrize(
    "session_id",
    ["0" * 32, "../../etc/passwd", "%2e%2e", "' OR 1=1 --", "", "\x00", "A" * 32, None, 7],
)
def test_an_unknown_id_is_unknown_and_not_shown(store, session_id):
    store.create()
    calls = [
        lambda: store.read(session_id),
        lambda: store.open(session_id, author="m"),
        lambda: store.history(session_id),
        lambda: store.delete(session_id),
        lambda: store.rollback(session_id, 0, base_version=0, author="m"),
    ]
    for call in calls:
        with pytest.raises(UnknownNameError) as caught:
            call()
        assert not session_id or str(session_id) not in str(caught.value)


def test_an_author_is_a_plain_name(store):
    session_id = store.create()
    with pytest.raises(MessageError, match="author"):
        store.open(session_id, author="../x")
    with pytest.raises(MessageError, match="author"):
        store.rollback(session_id, 0, base_version=0, author="a\nb")


def bytes_of(folder):
    """What the files hold, read by another process: reading here would drop SQLite's locks."""
    return subprocess.run(["cat", *folder.iterdir()], capture_output=True, check=True).stdout


class TestErasure:
    """Erased is erased: from the tables, from free pages, from the log."""

    def test_a_deleted_session_leaves_no_byte(self, store, tmp_path):
        session, other = (store.open(store.create(), author="m") for _ in range(2))
        session.commit({"report": "Jane Doe " * 2000})
        session.commit({"report": Result({"name": "Jane Doe"}, {"a": np.arange(3)})})
        other.commit({"report": "kept"})
        assert b"Jane Doe" in bytes_of(tmp_path)
        store.delete(session.state.session_id)
        assert b"Jane" not in bytes_of(tmp_path)
        assert session.state.session_id.encode() not in bytes_of(tmp_path)
        assert other.refresh().values == {"report": "kept"}
        with pytest.raises(UnknownNameError):
            session.refresh()

    def test_a_purge_takes_what_was_not_changed_lately(self, tmp_path):
        now = [1000.0]
        store = SessionStore(tmp_path / "s.sqlite", clock=lambda: now[0])
        old, used = (store.open(store.create(), author="m") for _ in range(2))
        old.commit({"a": "Jane Doe"})
        now[0] = 1500.0
        used.commit({"a": 1})
        now[0] = 1600.0
        assert store.purge(600.0) == 0
        assert store.purge(500.0) == 1
        assert b"Jane" not in bytes_of(tmp_path)
        assert used.refresh().values == {"a": 1}


class TestTogether:
    """Threads and processes at once."""

    def test_threads_lose_no_update(self, store):
        session_id = store.create()

        def work(number):
            session = store.open(session_id, author=f"model-{number}")
            for _ in range(20):
                session.update(lambda state: {"count": state.values.get("count", 0) + 1})

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (store.read(session_id).version, store.read(session_id).values["count"]) == (
            120,
            120,
        )
        authors = [change.author for change in store.history(session_id)]
        assert {authors.count(f"model-{n}") for n in range(6)} == {20}

    def test_processes_lose_no_update(self, tmp_path):
        path = tmp_path / "sessions.sqlite"
        session_id = SessionStore(path).create()
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=count, args=(path, session_id, 20)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        state = SessionStore(path).read(session_id)
        assert (state.version, state.values["count"]) == (60, 60)

    def test_killed_writers_leave_whole_versions(self, tmp_path):
        path = tmp_path / "sessions.sqlite"
        store = SessionStore(path)
        session_id = store.create()
        store.close()
        n_told = 0
        for n_commits in (1, 3, 6, 2):
            told, tell = os.pipe()
            child = os.fork()
            if child == 0:
                count(path, session_id, 10_000, tell=tell)
                os._exit(1)
            os.close(tell)
            for _ in range(n_commits):
                n_told += len(os.read(told, 1))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(told)
        state = SessionStore(path).read(session_id)
        assert state.values["count"] == state.version >= n_told

    def test_a_writer_that_always_loses_ends_with_its_deadline(self, store):
        session_id = store.create()
        session, other = (store.open(session_id, author=name) for name in ("m", "other"))
        request = new_request()

        def change(state):
            other.refresh()
            other.commit({"b": state.version})
            request.give_up()
            return {"a": 1}

        with serving(request), pytest.raises(DeadlineError):
            session.update(change)


def count(path, session_id, times, tell=None):
    session = SessionStore(path).open(session_id, author="worker")
    for _ in range(times):
        session.update(lambda state: {"count": state.values.get("count", 0) + 1})
        if tell is not None:
            os.write(tell, b".")


class TestFile:
    """Versions of the file, and damage."""

    def test_a_later_version_is_refused(self, tmp_path):
        path = tmp_path / "sessions.sqlite"
        later = (*MIGRATIONS, ("CREATE TABLE something (x)",))
        Database(path, application_id=APPLICATION_ID, migrations=later).close()
        with pytest.raises(StoreError, match="found version 2"):
            SessionStore(path)

    def test_a_damaged_value_is_a_fault_of_the_store(self, store):
        session = store.open(store.create(), author="m")
        session.commit({"a": "Jane"})
        with store._database.writing() as tables:
            tables.execute("UPDATE value SET content = x'7b4a616e65'")
        with pytest.raises(StoreError) as caught:
            session.refresh()
        assert "Jane" not in str(caught.value)


class SessionMachine(RuleBasedStateMachine):
    """A store beside the plainest model of it: a list of dictionaries."""

    def __init__(self):
        super().__init__()
        self.folder = memory_folder()
        path = self.folder.__enter__() / "s.sqlite"
        self.store = SessionStore(path, limits=SessionLimits(versions=N_KEPT))

    @initialize()
    def create(self):
        self.session_id = self.store.create()
        self.versions = [{}]

    @rule(
        changes=st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),
        removed=st.sets(st.sampled_from("abcd")),
        lag=st.integers(0, 1),
    )
    def commit(self, changes, removed, lag):
        gone = tuple(removed - set(changes))
        delta = SessionDelta(self.session_id, max(0, len(self.versions) - 1 - lag), changes, gone)
        if delta.base_version != len(self.versions) - 1:
            with pytest.raises(ConflictError):
                self.store.commit(delta)
            return
        assert self.store.commit(delta) == len(self.versions)
        kept = {key: value for key, value in self.versions[-1].items() if key not in gone}
        self.versions.append(kept | changes)

    @rule(back=st.integers(0, N_KEPT + 1))
    def rollback(self, back):
        last = len(self.versions) - 1
        arguments = {"base_version": last, "author": "m"}
        if back >= N_KEPT or back > last:
            with pytest.raises(UnknownNameError):
                self.store.rollback(self.session_id, last - back, **arguments)
            return
        self.store.rollback(self.session_id, last - back, **arguments)
        self.versions.append(self.versions[last - back])

    @invariant()
    def every_kept_version_reads_back(self):
        last = len(self.versions) - 1
        for version in range(max(0, last - N_KEPT + 1), last + 1):
            state = self.store.read(self.session_id, version=version)
            assert state.values == self.versions[version]
        assert self.store.read(self.session_id).version == last

    def teardown(self):
        self.store.close()
        self.folder.__exit__(None, None, None)


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
