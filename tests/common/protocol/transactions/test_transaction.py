"""Transactions as callers see them: ids, answers, recovery by many, retention."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import threading

import numpy as np
import pytest

from common.errors import (
    ConflictError,
    InputError,
    MessageError,
    OverloadError,
    TooLargeError,
    TransactionError,
    UnknownNameError,
)
from common.protocol.messages.payloads import SessionDelta
from common.protocol.sessions.session import SessionStore
from common.protocol.transactions import transaction
from common.protocol.transactions.transaction import Recovery, SagaStep, Transactions
from common.settings import Settings
from common.task import Result


class Died(BaseException):
    """Stands for the end of the process."""


def die(key, inputs):
    raise Died


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def calls():
    return []


@pytest.fixture
def transactions(path, calls):
    def step(name, **settings):
        return SagaStep(
            name,
            lambda key, inputs: calls.append((name, key)) or {"of": name},
            lambda key, outcome: calls.append((f"undo {name}", key)),
            **settings,
        )

    made = Transactions(
        path, steps=[step("a"), step("b", retriable=True)], sleep=lambda seconds: None
    )
    yield made
    made.close()


def leave_open(transactions, name="dies"):
    """Leaves a transaction as a dead process would; returns its id."""
    if name not in transactions._steps:
        transactions.register(SagaStep(name, die, lambda key, outcome: None))
    transaction_id = secrets.token_hex(16)
    with pytest.raises(Died):
        transactions.run(["a", name], transaction_id=transaction_id)
    return transaction_id


def test_each_step_sees_the_inputs_and_the_outcomes_before_it(path):
    seen = []

    def run(name):
        return lambda key, inputs: seen.append(dict(inputs)) or name

    transactions = Transactions(path, steps=[SagaStep(name, run(name)) for name in "ab"])
    done = transactions.run(["a", "b"], {"case": [1, None]})
    assert done.outcomes == {"a": "a", "b": "b"}
    assert seen == [{"case": [1, None]}, {"case": [1, None], "a": "a"}]


def test_results_pass_from_model_to_model(path):
    def embed(key, inputs):
        return Result({"model": "m"}, {"embedding": np.ones(3, np.float16)})

    def classify(key, inputs):
        return float(inputs["embed"].arrays["embedding"].sum())

    transactions = Transactions(path, steps=[SagaStep("embed", embed), SagaStep("last", classify)])
    done = transactions.run(["embed", "last"])
    assert done.outcomes["last"] == 3.0
    assert done.outcomes["embed"].arrays["embedding"].dtype == np.float16


def test_records_tell_the_whole_story(transactions):
    done = transactions.run(["a", "b"])
    story = [(record.step, record.state) for record in transactions.records(done.transaction_id)]
    assert story == [
        ("a", "running"),
        ("", "running"),
        ("a", "done"),
        ("b", "running"),
        ("b", "done"),
        ("", "committed"),
    ]


class TestSameId:
    """A caller who had no answer calls again."""

    def test_what_is_done_is_not_done_again(self, transactions, calls):
        first = transactions.run(["a", "b"], {"case": 1}, transaction_id="0" * 32)
        again = transactions.run(["a", "b"], {"case": 1}, transaction_id="0" * 32)
        assert again == first
        assert len(calls) == 2

    def test_what_was_compensated_stays_so(self, transactions):
        transactions.register(SagaStep("fails", lambda key, inputs: 1 / 0))
        for _ in range(2):
            with pytest.raises(TransactionError, match="ZeroDivisionError in step fails"):
                transactions.run(["a", "fails"], transaction_id="0" * 32)
        assert len(transactions.records("0" * 32)) == 9

    def test_what_a_dead_process_left_is_ended(self, transactions, calls):
        transaction_id = leave_open(transactions)
        with pytest.raises(TransactionError, match="ProcessEnded in step dies"):
            transactions.run(["a", "dies"], transaction_id=transaction_id)
        assert [name for name, _ in calls] == ["a", "undo a"]

    @pytest.mark.parametrize(("steps", "inputs"), [(["a"], {"case": 1}), (["a", "b"], {"case": 2})])
    def test_other_work_under_it_is_refused(self, transactions, steps, inputs):
        transactions.run(["a", "b"], {"case": 1}, transaction_id="0" * 32)
        with pytest.raises(ConflictError, match="other steps or inputs"):
            transactions.run(steps, inputs, transaction_id="0" * 32)

    def test_work_under_way_is_a_conflict(self, transactions):
        found = []

        def call_again(key, inputs):
            with pytest.raises(ConflictError, match="somebody works on"):
                transactions.run(["again"], transaction_id="0" * 32)
            found.append(transactions.recover())

        transactions.register(SagaStep("again", call_again))
        transactions.run(["again"], transaction_id="0" * 32)
        assert found == [Recovery(held=("0" * 32,))]


class TestRefusals:
    """Before anything is written."""

    @pytest.mark.parametrize(
        ("steps", "inputs", "settings", "kind"),
        [
            (["a", "unknown"], {}, {}, UnknownNameError),
            ([], {}, {}, InputError),
            (["a"], {"a": 1}, {}, InputError),
            (["a"], {1: "x", "y": 1}, {}, InputError),
            (["a"], {"\ud800": 1}, {}, InputError),
            (["a"], {"case": {1}}, {}, MessageError),
            (["a"], {}, {"transaction_id": "../../x"}, MessageError),
            (["a"], {}, {"transaction_id": "A" * 32}, MessageError),
        ],
    )
    def test_bad_work_is_refused(self, transactions, steps, inputs, settings, kind):
        with pytest.raises(kind):
            transactions.run(steps, inputs, **settings)
        assert transactions._journal.ids("running", "compensated", "committed") == []

    def test_large_inputs(self, transactions, monkeypatch):
        monkeypatch.setattr(transaction, "VALUE_BYTES", 10)
        with pytest.raises(TooLargeError):
            transactions.run(["a"], {"case": "x" * 20})

    def test_an_id_with_a_path_in_it(self, transactions):
        for call in (transactions.status, transactions.records, transactions.delete):
            with pytest.raises(MessageError, match="transaction id"):
                call("../../etc/passwd")

    def test_two_steps_of_one_name(self, transactions):
        with pytest.raises(InputError, match="another of that name"):
            transactions.register(SagaStep("a", die))

    def test_no_attempts(self, path):
        with pytest.raises(InputError, match="1 attempt"):
            Transactions(path, attempts=0)


@pytest.mark.parametrize("kind", [OverloadError, InputError])
def test_a_cause_that_the_caller_can_act_on_is_passed_on(transactions, calls, kind):
    cause = kind("queue", expected="room", found="none", remedy="Wait.")

    def refuse(key, inputs):
        raise cause

    transactions.register(SagaStep("refuses", refuse))
    with pytest.raises(kind) as caught:
        transactions.run(["a", "refuses"])
    assert caught.value is cause
    assert [name for name, _ in calls] == ["a", "undo a"]


def test_an_error_s_text_is_neither_stored_nor_told(transactions, path):
    def fail(key, inputs):
        raise ValueError("Jane Doe")

    transactions.register(SagaStep("fails", fail))
    with pytest.raises(TransactionError) as caught:
        transactions.run(["fails"])
    assert "Jane" not in str(caught.value)
    transactions.close()
    assert b"Jane" not in path.read_bytes()


class TestRecovery:
    """What a process finds when it starts."""

    def test_an_empty_journal_needs_nothing(self, transactions):
        assert transactions.recover() == Recovery()

    def test_unknown_steps_are_left_to_those_who_know_them(self, transactions, path):
        transaction_id = leave_open(transactions)
        other = Transactions(path)
        assert other.recover() == Recovery(unregistered=(transaction_id,))
        assert transactions.recover().compensated == (transaction_id,)

    def test_processes_that_recover_at_once_run_each_step_once(self, transactions, path, tmp_path):
        """Effects that honour no key: a second attempt would show."""
        left = [leave_open(transactions) for _ in range(12)]
        transactions.close()
        context = multiprocessing.get_context("fork")
        barrier, log = context.Barrier(3), tmp_path / "log"
        workers = [
            context.Process(target=recover_with_log, args=(path, barrier, log)) for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        lines = log.read_text().split()
        assert sorted(lines) == sorted(f"{one}:{name}" for one in left for name in ("a", "dies"))
        assert {transactions.status(one).state for one in left} == {"compensated"}

    def test_threads_that_recover_at_once_run_each_step_once(self, transactions, calls):
        left = [leave_open(transactions) for _ in range(10)]
        calls.clear()
        threads = [threading.Thread(target=transactions.recover) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(key for _, key in calls) == sorted(f"{one}:a" for one in left)

    def test_threads_run_transactions_side_by_side(self, transactions, calls):
        failures = []

        def work():
            try:
                for _ in range(10):
                    transactions.run(["a", "b"])
            except Exception as error:  # noqa: BLE001  # shown below
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(set(calls)) == len(calls) == 80


def recover_with_log(path, barrier, log):
    """Recovers with the others; each compensation writes its key to `log`."""

    def note(key, outcome):
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{key}\n".encode())
        os.close(handle)

    steps = [SagaStep("a", die, note), SagaStep("dies", die, note)]
    transactions = Transactions(path, steps=steps)
    barrier.wait()
    transactions.recover()


class TestRetention:
    """What has ended can be erased; what has not is kept."""

    def test_what_ended_is_purged_by_age(self, path):
        now = [0.0]
        transactions = Transactions(
            path, steps=[SagaStep("a", lambda key, inputs: 1)], clock=lambda: now[0]
        )
        old = transactions.run(["a"]).transaction_id
        now[0] = 100.0
        new = transactions.run(["a"]).transaction_id
        assert transactions.purge(50.0) == 1
        assert transactions.status(old) is None
        assert transactions.records(old) == []
        assert transactions.status(new).state == "committed"

    def test_one_whose_steps_nobody_knows_any_more_can_be_abandoned(self, transactions, path):
        transaction_id = leave_open(transactions)
        others = Transactions(path)
        assert others.recover().unregistered == (transaction_id,)
        with pytest.raises(ConflictError, match="abandon it"):
            others.delete(transaction_id)
        with transactions._claimed(transaction_id), pytest.raises(ConflictError):
            others.delete(transaction_id, abandon=True)  # somebody works on it
        others.delete(transaction_id, abandon=True)
        assert others.status(transaction_id) is None

    def test_one_can_be_deleted_once_it_has_ended(self, transactions):
        transaction_id = leave_open(transactions)
        with pytest.raises(ConflictError, match="has not ended"):
            transactions.delete(transaction_id)
        transactions.recover()
        transactions.delete(transaction_id)
        assert transactions.status(transaction_id) is None
        transactions.delete(transaction_id)  # gone is gone


def test_the_journal_of_the_settings_lies_at_home(tmp_path):
    settings = Settings(home=tmp_path)
    step = SagaStep("a", lambda key, inputs: 1)
    Transactions.from_settings(settings, steps=[step]).run(["a"])
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "link").iterdir()}
    assert modes["journal.sqlite"] == modes["journal.sqlite.lock"] == 0o600


def test_a_session_takes_part_through_its_idempotency_key(tmp_path, transactions):
    store = SessionStore(tmp_path / "sessions.sqlite")
    session_id = store.create()

    def note(key, inputs):
        delta = SessionDelta(session_id, inputs["base"], {"reading": 7}, (), "reader")
        return store.commit(delta, idempotency_key=key)

    def forget(key, outcome):
        made = store.version_made(session_id, idempotency_key=key)
        if made is not None:
            store.rollback(
                session_id,
                made - 1,
                base_version=made,
                author="reader",
                idempotency_key=f"{key}:undo",
            )

    def note_and_die(key, inputs):
        note(key, inputs)
        raise Died

    transactions.register(SagaStep("note", note, forget))
    transactions.register(SagaStep("dies", note_and_die, forget))
    transactions.register(SagaStep("fails", lambda key, inputs: 1 / 0))
    with pytest.raises(TransactionError):
        transactions.run(["note", "fails"], {"base": 0})
    assert store.read(session_id).values == {}
    with pytest.raises(Died):
        transactions.run(["dies"], {"base": 2})
    assert store.read(session_id).values == {"reading": 7}
    assert len(transactions.recover().compensated) == 1
    assert store.read(session_id).values == {}
    assert transactions.run(["note"], {"base": 4}).outcomes == {"note": 5}
