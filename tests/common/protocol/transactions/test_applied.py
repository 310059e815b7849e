"""An effect and the mark of its key are one commit."""

from __future__ import annotations

import sqlite3

import pytest

from common.errors import ConflictError, InputError
from common.protocol.transactions.applied import apply_once, forget_applied, undo_once


@pytest.fixture(params=["autocommit", "python's own transactions"])
def ledger(request):
    level = None if request.param == "autocommit" else "DEFERRED"
    connection = sqlite3.connect(":memory:", isolation_level=level)
    connection.execute("CREATE TABLE booking (amount INTEGER)")
    yield connection
    connection.close()


def book(tables):
    tables.execute("INSERT INTO booking VALUES (7)")
    return {"amount": 7}


def unbook(tables, outcome):
    tables.execute("DELETE FROM booking WHERE amount = ?", (outcome["amount"],))


def amounts(tables):
    return [amount for (amount,) in tables.execute("SELECT amount FROM booking")]


def test_a_key_takes_effect_once_and_keeps_its_outcome(ledger):
    outcomes = [apply_once(ledger, key, book) for key in ("a", "a", "b")]
    assert outcomes == [{"amount": 7}] * 3
    assert amounts(ledger) == [7, 7]
    assert not ledger.in_transaction


def test_undoing_is_once_too_and_refuses_the_key_from_then_on(ledger):
    apply_once(ledger, "a", book)
    apply_once(ledger, "b", book)
    undo_once(ledger, "a", lambda tables, outcome: tables.execute("DELETE FROM booking"))
    book(ledger)
    ledger.commit()
    undo_once(ledger, "a", lambda tables, outcome: tables.execute("DELETE FROM booking"))
    assert amounts(ledger) == [7]
    with pytest.raises(ConflictError, match="not undone"):
        apply_once(ledger, "a", book)


def test_a_late_attempt_of_what_was_undone_before_it_came_is_refused(ledger):
    undo_once(ledger, "a", unbook)
    with pytest.raises(ConflictError, match="not undone"):
        apply_once(ledger, "a", book)
    assert amounts(ledger) == []


def test_an_effect_that_raises_leaves_neither_effect_nor_mark(ledger):
    def half(tables):
        book(tables)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # the effect's own
        apply_once(ledger, "a", half)
    assert amounts(ledger) == []
    assert apply_once(ledger, "a", book) == {"amount": 7}


@pytest.mark.parametrize("then", ["nothing more", "more"])
def test_an_effect_that_ends_the_transaction_is_refused(ledger, then):
    def commit(tables):
        tables.commit()
        if then == "more":
            book(tables)

    with pytest.raises(InputError, match="ended the transaction"):
        apply_once(ledger, "a", commit)
    assert not ledger.in_transaction


def test_a_connection_in_a_transaction_is_refused(ledger):
    ledger.execute("BEGIN")
    with pytest.raises(InputError, match="in a transaction"):
        apply_once(ledger, "a", book)


def test_old_marks_are_forgotten(ledger):
    apply_once(ledger, "a", book)
    assert forget_applied(ledger, 3600) == 0
    assert forget_applied(ledger, -1) == 1
    apply_once(ledger, "a", book)
    assert amounts(ledger) == [7, 7]
