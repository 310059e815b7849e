"""What is written is read back by another process, and goes when it is purged."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from common.errors import StoreError
from common.protocol.database import Database
from common.protocol.stored_value import store_value
from common.protocol.transactions import journal as module
from common.protocol.transactions.journal import Journal

ID = "0123456789abcdef" * 2


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def journal(tmp_path, clock):
    journal = Journal(tmp_path / "journal.sqlite", clock=lambda: clock[0])
    yield journal
    journal.close()


def begin(journal, transaction_id=ID):
    inputs = {"case": store_value("Jane Doe", limit_bytes=100)}
    return journal.begin(
        transaction_id, ["a", "b"], inputs=inputs, policy="forward", digest="digest"
    )


def finish(journal, entry, state="committed"):
    done = replace(
        entry.current(), state="done", outcome=store_value({"found": [1]}, limit_bytes=100)
    )
    return journal.write(entry, done, state=state)


def test_an_entry_reads_back_as_it_was_written(journal, tmp_path, clock):
    entry = begin(journal)
    clock[0] = 1001.0
    done = replace(entry.current(), state="done", outcome=store_value([1.5], limit_bytes=100))
    entry = journal.write(entry, done, entry.steps[1].begun("running"), error="OSError")
    found = Journal(tmp_path / "journal.sqlite").find(ID)
    assert found == entry
    assert (found.begun, found.changed, found.error) == (1000.0, 1001.0, "OSError")
    assert found.known() == {"case": "Jane Doe", "a": [1.5]}
    assert journal.find("0" * 32) is None


def test_an_entry_does_not_show_what_it_carries(journal):
    assert "Jane" not in repr(finish(journal, begin(journal)))


def test_records_tell_what_happened_in_order(journal, clock):
    entry = begin(journal)
    clock[0] = 1002.0
    finish(journal, entry)
    records = [(r.step, r.state, r.idempotency_key, r.time) for r in journal.records(ID)]
    assert records == [
        ("a", "running", f"{ID}:a", 1000.0),
        ("", "running", ID, 1000.0),
        ("a", "done", f"{ID}:a", 1002.0),
        ("", "committed", ID, 1002.0),
    ]


def test_transactions_are_found_by_state_the_oldest_first(journal):
    entries = [begin(journal, f"{n:032x}") for n in range(3)]
    finish(journal, entries[1], "stuck")
    assert journal.ids("running") == [f"{0:032x}", f"{2:032x}"]
    assert journal.ids("stuck", "running") == [f"{n:032x}" for n in range(3)]
    assert journal.ids("committed") == []


def test_a_purge_takes_what_ended_long_ago_and_leaves_no_byte(journal, clock, tmp_path):
    for number, state in enumerate(("committed", "compensated", "stuck")):
        finish(journal, begin(journal, f"{number:032x}"), state)
    begin(journal, f"{9:032x}")
    clock[0] = 1100.0
    finish(journal, begin(journal, f"{8:032x}"))
    assert journal.purge(100.0) == 0
    assert journal.purge(50.0) == 2
    assert journal.ids("committed", "compensated", "stuck", "running") == [
        f"{n:032x}" for n in (2, 9, 8)
    ]
    for number in (2, 9, 8):
        journal.delete(f"{number:032x}")
    held = subprocess.run(["cat", *tmp_path.iterdir()], capture_output=True, check=True).stdout
    assert b"Jane" not in held
    assert b"found" not in held


def test_a_later_version_and_another_kind_are_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    later = (*module._MIGRATIONS, ("CREATE TABLE something (x)",))
    Database(path, application_id=module._APPLICATION_ID, migrations=later).close()
    with pytest.raises(StoreError, match="found version 2"):
        Journal(path)
    other = Database(
        tmp_path / "other.sqlite", application_id=1, migrations=[["CREATE TABLE x(y)"]]
    )
    other.close()
    with pytest.raises(StoreError, match="application id 1"):
        Journal(tmp_path / "other.sqlite")
