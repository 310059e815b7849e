"""Whenever the process dies, the next one ends what it left: all of it done, or none."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DeadlineError, TransactionError
from common.protocol.transactions import runner as saga_runner
from common.protocol.transactions.saga import StepEntry
from common.request import current_request, new_request, serving
from tests.common.protocol.saga_world import (
    Died,
    SagaStep,
    Transactions,
    World,
    lasting,
    memory_folder,
    names,
)

ROOT = Path(__file__).parents[4]
_PROGRAM = "tests.common.protocol.killed_transaction"
KINDS = {1: ("C", "R", "N", "P")} | {
    n: tuple(
        "".join(kinds)
        for kinds in product("CRNP", repeat=n)
        if "P" not in kinds or "C" not in kinds[kinds.index("P") :]
    )
    for n in (2, 3)
}
NO_STEP = -1


@pytest.fixture(scope="module")
def world():
    with memory_folder() as folder:
        yield World(folder)


def end_of(world, layout, fails, policy, deaths):
    """Runs a transaction that dies at each of `deaths` in turn, then recovers in peace.

    Returns its journal entry, the effects that stand, and how many deaths took place.
    """
    transactions, transaction_id = world.transactions, secrets.token_hex(16)
    n_died = 0
    for attempt, moment in enumerate((*deaths, None)):
        world.moments.die_at(moment)
        try:
            if attempt == 0:
                transactions.run(
                    names(layout, fails), {"case": 1}, transaction_id=transaction_id, policy=policy
                )
            else:
                transactions.recover()
        except TransactionError:
            assert fails != NO_STEP or n_died
        except Died:
            n_died += 1
    world.moments.die_at(None)
    return transactions.status(transaction_id), world.effects(transaction_id), n_died


def check_whole(layout, entry, effects, fails):
    """All or nothing; and what has passed a pivot is done, or stuck where it cannot be."""
    if entry is None:
        assert effects == []
    elif entry.state == "committed":
        assert effects == lasting(layout)
        assert fails == NO_STEP
        assert [step.state for step in entry.steps] == ["done"] * len(layout)
        assert entry.outcomes()[names(layout, fails)[-1]]["place"] == len(layout) - 1
    elif entry.state == "compensated":
        assert effects == []
        assert {step.state for step in entry.steps} <= {"compensated", "pending"}
    else:
        assert entry.state == "stuck"
        assert "P" in layout[: fails + 1]
        assert entry.error == "ValueError"


@pytest.mark.parametrize("policy", ["forward", "backward"])
@pytest.mark.parametrize("layout", ["C", "R", "N", "P", "CC", "CRP", "RRR", "CNC", "CPR"])
def test_a_death_at_any_moment_leaves_it_whole(world, layout, policy):
    """Exhaustive: no step failing, or each one in turn, and each moment."""
    for fails in range(NO_STEP, len(layout)):
        moment, n_died = 0, 1
        while n_died:
            entry, effects, n_died = end_of(world, layout, fails, policy, [moment])
            check_whole(layout, entry, effects, fails)
            moment += 1
        assert moment > 2 * len(layout)


@pytest.mark.parametrize(("layout", "fails"), [("CR", 1), ("RP", NO_STEP)])
def test_a_second_death_while_recovering_leaves_it_whole(world, layout, fails):
    """Exhaustive over both moments."""
    first, n_died = 0, 1
    while n_died:
        second, n_died = 0, 2
        while n_died == 2:
            entry, effects, n_died = end_of(world, layout, fails, "forward", [first, second])
            check_whole(layout, entry, effects, fails)
            second += 1
        first += 1
    assert first > 6


@given(
    layout=st.sampled_from(KINDS[1] + KINDS[2] + KINDS[3]),
    fails=st.integers(NO_STEP, 2),
    policy=st.sampled_from(["forward", "backward"]),
    deaths=st.lists(st.integers(0, 16), max_size=5),
)
def test_any_number_of_deaths_leaves_it_whole(world, layout, fails, policy, deaths):
    fails = fails if fails < len(layout) else NO_STEP
    entry, effects, _ = end_of(world, layout, fails, policy, deaths)
    check_whole(layout, entry, effects, fails)


@given(
    layout=st.sampled_from([one for n in KINDS for one in KINDS[n] if "C" not in one]),
    moment=st.integers(0, 16),
)
def test_retriable_steps_end_as_if_nothing_had_happened(world, layout, moment):
    undisturbed, effects, _ = end_of(world, layout, NO_STEP, "forward", [])
    entry, recovered, _ = end_of(world, layout, NO_STEP, "forward", [moment])
    if entry is not None:
        assert recovered == effects
        assert (entry.state, entry.outcomes()) == ("committed", undisturbed.outcomes())


@pytest.mark.parametrize(("layout", "fails"), [("CRR", NO_STEP), ("CR", 1), ("CPR", NO_STEP)])
def test_kill_9_at_any_moment_leaves_it_whole(layout, fails):
    """Real processes: each moment's is killed, the next one recovers."""
    with memory_folder() as folder:
        done = subprocess.run(
            [sys.executable, "-m", _PROGRAM, str(folder), layout, str(fails)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["died"] for line in lines] == [True] * (len(lines) - 1) + [False]
    assert len(lines) > 10
    for line in lines:
        whole = {"none": [], "compensated": [], "committed": lasting(layout)}
        assert line["effects"] == whole[line["state"]], line
    assert lines[-1]["state"] == ("committed" if fails == NO_STEP else "compensated")


class TestAttempts:
    """What is tried again, how often, and what then."""

    def _transactions(self, tmp_path, *steps, **settings):
        self.pauses = []
        return Transactions(
            tmp_path / "journal.sqlite", steps=steps, sleep=self.pauses.append, **settings
        )

    def test_a_retriable_step_is_tried_until_it_succeeds(self, tmp_path):
        keys = []

        def run(key, inputs):
            keys.append(key)
            if len(keys) < 4:
                raise OSError
            return len(keys)

        transactions = self._transactions(tmp_path, SagaStep("a", run, retriable=True))
        done = transactions.run(["a"])
        assert done.outcomes == {"a": 4}
        assert set(keys) == {f"{done.transaction_id}:a"}
        assert self.pauses == [0.05, 0.1, 0.2]

    def test_pauses_stay_short_however_many_attempts_there_are(self, tmp_path):
        """2^1024 is no float: the doubling has to end."""
        runner = self._transactions(tmp_path, attempts=2000)._runner
        runner._pause(StepEntry(0, "a", attempts=1999))
        assert self.pauses == [5.0]

    def test_any_other_step_is_tried_once(self, tmp_path):
        calls = []

        def run(key, inputs):
            calls.append(key)
            raise OSError

        transactions = self._transactions(tmp_path, SagaStep("a", run))
        with pytest.raises(TransactionError, match="OSError in step a"):
            transactions.run(["a"])
        assert len(calls) == 1

    def test_a_step_that_kills_its_process_is_given_up(self, tmp_path):
        """Attempts are counted before they are made."""
        calls, undone = [], []

        def run(key, inputs):
            calls.append(key)
            raise Died

        step = SagaStep("a", run, lambda key, outcome: undone.append(outcome), retriable=True)
        transactions = self._transactions(tmp_path, step, attempts=3)
        with pytest.raises(Died):
            transactions.run(["a"])
        for _ in range(2):
            with pytest.raises(Died):
                transactions.recover()
        recovery = transactions.recover()
        assert len(recovery.compensated) == 1
        assert len(calls) == 3
        assert undone == [None]
        assert transactions.status(recovery.compensated[0]).error == "ProcessEnded"

    def test_a_poison_compensation_is_stuck_in_sight_and_tried_again_on_demand(self, tmp_path):
        broken, undone = [True], []

        def compensate(key, outcome):
            if broken[0]:
                raise PermissionError("a patient's name")
            undone.append(outcome)

        steps = [
            SagaStep("first", lambda key, inputs: 1, lambda key, outcome: undone.append(outcome)),
            SagaStep("poison", lambda key, inputs: 2, compensate),
            SagaStep("fails", lambda key, inputs: 1 / 0),
        ]
        transactions = self._transactions(tmp_path, *steps, attempts=4)
        with pytest.raises(TransactionError, match=r"PermissionError in step poison.*stuck"):
            transactions.run(["first", "poison", "fails"])
        (entry,) = transactions.stuck()
        assert (entry.state, entry.error) == ("stuck", "PermissionError")
        assert [step.state for step in entry.steps] == ["done", "compensating", "compensated"]
        assert len(self.pauses) == 3
        assert transactions.recover().stuck == ()  # only on demand
        assert undone == []
        assert transactions.recover(stuck=True).stuck == (entry.transaction_id,)
        broken[0] = False
        assert transactions.recover(stuck=True).compensated == (entry.transaction_id,)
        assert undone == [2, 1]
        stored = "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())
        assert "patient" not in stored

    def test_past_the_pivot_there_is_no_way_back(self, tmp_path):
        broken, undone = [True], []

        def publish(key, inputs):
            if broken[0]:
                raise OSError
            return inputs["pay"]

        steps = [
            SagaStep("reserve", lambda key, inputs: 1, lambda key, outcome: undone.append(1)),
            SagaStep("pay", lambda key, inputs: 7, retriable=True, pivot=True),
            SagaStep("publish", publish, retriable=True),
        ]
        transactions = self._transactions(tmp_path, *steps, attempts=2)
        with pytest.raises(TransactionError, match="stuck"):
            transactions.run(["reserve", "pay", "publish"])
        (entry,) = transactions.stuck()
        broken[0] = False
        assert transactions.recover(stuck=True).committed == (entry.transaction_id,)
        assert undone == []
        assert transactions.status(entry.transaction_id).outcomes()["publish"] == 7

    @pytest.mark.parametrize("outcome", [{1, 2}, "x" * 20])
    def test_an_outcome_that_cannot_be_stored_is_the_step_s_fault(
        self, tmp_path, monkeypatch, outcome
    ):
        """Tried once, undone, and no InputError: the caller's input was good."""
        calls, undone = [], []
        monkeypatch.setattr(saga_runner, "VALUE_BYTES", 10)
        step = SagaStep(
            "a",
            lambda key, inputs: calls.append(key) or outcome,
            lambda key, outcome: undone.append(outcome),
            retriable=True,
        )
        with pytest.raises(TransactionError, match="in step a") as caught:
            self._transactions(tmp_path, step).run(["a"])
        assert caught.value.__cause__.subject == "outcome of step a"
        assert (len(calls), undone) == (1, [None])


class TestDeadlines:
    """The request's deadline ends what can be undone, and nothing else."""

    def test_a_passed_deadline_turns_back_and_is_told(self, tmp_path):
        done, undone = [], []

        def give_up(key, inputs):
            current_request().give_up()

        steps = [
            SagaStep("a", give_up, lambda key, outcome: undone.append(current_request())),
            SagaStep("b", lambda key, inputs: done.append(1), retriable=True),
        ]
        transactions = Transactions(tmp_path / "journal.sqlite", steps=steps)
        request = new_request(timeout_s=60)
        with serving(request), pytest.raises(DeadlineError):
            transactions.run(["a", "b"])
        assert done == []
        assert len(undone) == 1
        assert undone[0].remaining_s() == float("inf")
        assert not undone[0].given_up.is_set()
        assert undone[0].trace_id == request.trace_id

    def test_past_the_pivot_it_does_not_count(self, tmp_path):
        def give_up(key, inputs):
            current_request().give_up()

        steps = [
            SagaStep("a", give_up, retriable=True),
            SagaStep("b", lambda key, inputs: 1, retriable=True, pivot=True),
            SagaStep("c", lambda key, inputs: 2, retriable=True),
        ]
        transactions = Transactions(tmp_path / "journal.sqlite", steps=steps)
        with serving(new_request(timeout_s=60)):
            assert transactions.run(["b", "c"]).outcomes == {"b": 1, "c": 2}
        with serving(new_request(timeout_s=60)), pytest.raises(DeadlineError):
            transactions.run(["a", "c"])
        with serving(new_request(timeout_s=60)) as request:
            steps_before = [SagaStep("d", lambda key, inputs: request.give_up(), retriable=True)]
            transactions.register(steps_before[0])
            transactions.register(
                SagaStep("pay", lambda key, inputs: request.give_up(), retriable=True, pivot=True)
            )
            assert set(transactions.run(["pay", "c"]).outcomes) == {"pay", "c"}
