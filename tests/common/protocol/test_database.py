"""The file is private, versioned, whole after any interruption, and erasable."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from contextlib import suppress

import pytest

from common.errors import OverloadError, StoreError
from common.protocol import database
from common.protocol.database import Database

FIRST = ("CREATE TABLE note (text TEXT NOT NULL)",)
SECOND = ("ALTER TABLE note ADD COLUMN time REAL NOT NULL DEFAULT 0", "CREATE TABLE mark (x)")


def open_database(path, *migrations, **settings):
    return Database(path, application_id=1234, migrations=migrations or (FIRST,), **settings)


def add(store, text):
    with store.writing() as tables:
        tables.execute("INSERT INTO note (text) VALUES (?)", (text,))


def texts(store):
    with store.reading() as tables:
        return [text for (text,) in tables.execute("SELECT text FROM note ORDER BY rowid")]


def content(folder):
    """Every byte of a folder's files, read by another process.

    Read here, closing the file would drop the locks that SQLite holds on it.
    """
    return subprocess.run(["cat", *folder.iterdir()], capture_output=True, check=True).stdout


@pytest.fixture
def store(tmp_path):
    store = open_database(tmp_path / "own" / "store.sqlite")
    yield store
    store.close()


def test_the_files_and_a_new_folder_are_for_their_owner_only(store, tmp_path):
    add(store, "a")
    folder = tmp_path / "own"
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"], 0o600)


def test_a_file_that_others_could_read_is_closed_to_them(store, tmp_path):
    store.close()
    path = tmp_path / "own" / "store.sqlite"
    path.chmod(0o644)
    open_database(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_flushed_logged_ahead_and_overwrites_what_is_deleted(store):
    with store.reading() as tables:
        settings = {
            name: tables.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
        }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
    }


def test_a_block_that_raises_changes_nothing(store):
    def stop():
        with store.writing() as tables:
            tables.execute("INSERT INTO note VALUES ('a')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    add(store, "b")
    assert texts(store) == ["b"]


def test_a_reader_sees_one_moment(store):
    add(store, "a")
    with store.reading() as tables:
        assert tables.execute("SELECT COUNT(*) FROM note").fetchone() == (1,)
        add(store, "b")
        assert tables.execute("SELECT COUNT(*) FROM note").fetchone() == (1,)
    assert texts(store) == ["a", "b"]


def test_many_threads_that_make_it_at_once_make_one(tmp_path):
    path, failures, barrier = tmp_path / "store.sqlite", [], threading.Barrier(8)

    def work(number):
        barrier.wait()
        try:
            store = open_database(path)
            for i in range(5):
                add(store, f"{number}:{i}")
            store.close()
        except Exception as error:  # noqa: BLE001  # shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(set(texts(open_database(path)))) == 40
    assert not list(tmp_path.glob(".making-*"))


def test_a_busy_file_is_an_overload(tmp_path):
    store = open_database(tmp_path / "store.sqlite", busy_s=0.01)
    with store.writing(), pytest.raises(OverloadError, match=r"within 0.01 s"):
        add(store, "a")
    add(store, "b")
    assert texts(store) == ["b"]


def test_a_deleted_text_is_nowhere_once_the_log_is_erased(store, tmp_path):
    folder = tmp_path / "own"
    add(store, "a secret of some length " * 400)  # several pages
    add(store, "kept")
    assert b"a secret of some length" in content(folder)
    with store.writing() as tables:
        tables.execute("DELETE FROM note WHERE text LIKE 'a secret%'")
    assert b"a secret of some length" in content(folder)  # in the log
    store.erase_log()
    assert b"secret" not in content(folder)
    assert texts(store) == ["kept"]


def test_a_log_in_use_is_not_called_erased(tmp_path):
    store = open_database(tmp_path / "store.sqlite", busy_s=0.01)
    add(store, "a")
    with store.reading() as tables:
        tables.execute("SELECT * FROM note").fetchall()
        add(store, "b")
        with pytest.raises(OverloadError, match="may still hold"):
            store.erase_log()
    store.erase_log()


class TestVersions:
    """Forward by migrations, never back."""

    def test_an_earlier_file_is_migrated_with_its_content(self, tmp_path):
        path = tmp_path / "store.sqlite"
        old = open_database(path)
        add(old, "a")
        old.close()
        new = open_database(path, FIRST, SECOND)
        with new.reading() as tables:
            assert tables.execute("SELECT text, time FROM note").fetchall() == [("a", 0)]
            assert tables.execute("PRAGMA user_version").fetchone() == (2,)

    def test_a_migration_that_fails_changes_nothing(self, tmp_path):
        path = tmp_path / "store.sqlite"
        add(open_database(path), "a")
        with pytest.raises(StoreError):
            open_database(path, FIRST, (*SECOND, "CREATE TABLE note (x)"))
        assert texts(open_database(path)) == ["a"]

    def test_a_later_file_is_refused_and_left_alone(self, tmp_path):
        path = tmp_path / "store.sqlite"
        add(open_database(path, FIRST, SECOND), "a")
        with pytest.raises(StoreError, match=r"version 1 or earlier.*found version 2"):
            open_database(path)
        assert texts(open_database(path, FIRST, SECOND)) == ["a"]

    def test_a_file_of_another_kind_is_refused(self, tmp_path):
        path = tmp_path / "store.sqlite"
        open_database(path).close()
        with pytest.raises(StoreError, match="application id 1234"):
            Database(path, application_id=99, migrations=(FIRST,))


@pytest.mark.parametrize("found", [b"", b"no database at all, but long enough " * 99])
def test_a_foreign_file_is_refused(tmp_path, found):
    path = tmp_path / "store.sqlite"
    path.write_bytes(found)
    with pytest.raises(StoreError, match="a store of ours"):
        open_database(path)
    assert path.read_bytes() == found


def test_a_log_without_its_file_is_refused(store, tmp_path):
    """SQLite would take it for that of the new file, and bring back what was moved away."""
    add(store, "old")
    (tmp_path / "own" / "store.sqlite").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match=r"store\.sqlite-wal without it"):
        open_database(tmp_path / "own" / "store.sqlite")
    (tmp_path / "own" / "store.sqlite-wal").unlink()
    (tmp_path / "own" / "store.sqlite-shm").unlink()
    assert texts(open_database(tmp_path / "own" / "store.sqlite")) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="a folder of your own"):
        open_database(tmp_path / "file" / "store.sqlite")


def test_a_torn_file_is_refused_without_its_content(tmp_path):
    path = tmp_path / "store.sqlite"
    store = open_database(path)
    for i in range(200):
        add(store, f"a name {i} " * 20)
    store.close()
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(StoreError) as caught:
        texts(open_database(path))
    assert "name" not in str(caught.value)


def test_statements_that_are_wrong_are_no_store_error_of_the_caller(store):
    with pytest.raises(StoreError, match="SQLITE_ERROR"), store.reading() as tables:
        tables.execute("SELECT nothing FROM nowhere")
    assert texts(store) == []


def test_a_fork_opens_its_own_connections(store):
    add(store, "parent")
    child = os.fork()
    if child == 0:
        add(store, "child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert texts(store) == ["parent", "child"]


def test_what_a_fork_writes_outlives_its_parents_last_connection(store, tmp_path):
    """SQLite deletes the log with the last connection: the child's locks have to be its own."""
    add(store, "before")
    (opened, say_opened), (closed, say_closed) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        texts(store)
        os.write(say_opened, b"1")
        os.read(closed, 1)
        add(store, "child")
        os._exit(0)
    os.read(opened, 1)
    texts(store)
    store.close()
    os.write(say_closed, b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert texts(store) == ["before", "child"]


def test_a_fork_is_refused_what_its_parent_was_using(store, tmp_path):
    """Also through another object on the file: what SQLite believes is the process's."""
    with store.reading():
        child = os.fork()
        if child == 0:
            refused = 0
            for open_again in (lambda: store, lambda: open_database(store._path)):
                with suppress(StoreError):
                    texts(open_again())
                    os._exit(9)
                refused += 1
            add(open_database(tmp_path / "other.sqlite"), "a")
            os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    add(store, "parent")
    assert texts(store) == ["parent"]


def test_only_a_few_idle_connections_are_kept(store):
    barrier = threading.Barrier(12)

    def read():
        with store.reading():
            barrier.wait()

    threads = [threading.Thread(target=read) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store._idle) == database._IDLE


def test_a_draft_that_a_killed_process_left_does_not_matter(tmp_path):
    sqlite3.connect(tmp_path / ".making-0123").close()
    add(open_database(tmp_path / "store.sqlite"), "a")
    assert texts(open_database(tmp_path / "store.sqlite")) == ["a"]
