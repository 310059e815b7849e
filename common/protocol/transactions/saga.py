"""Sagas: steps that each can be undone, and what is left to do after an interruption.

A saga (Garcia-Molina and Salem 1987, "Sagas") is work in several places without a common
commit: steps that run one after the other, and for each a compensation that undoes it. The
words *retriable* and *pivot* are Richardson's (Microservices Patterns, 2018, section 4.3.2).
Here is only what can be decided without running anything; the `journal` beside this file keeps
it, `transaction` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from common.errors import InputError
from common.protocol.messages.payloads import require_identifier
from common.protocol.stored_value import StoredValue, Value, read_value

__all__ = [
    "JournalEntry",
    "Policy",
    "SagaStep",
    "StepEntry",
    "TransactionState",
    "finishes_forward",
    "past_pivot",
    "require_order",
    "run_next",
    "turned_back",
    "undo_next",
]

Policy = Literal["forward", "backward"]
StepState = Literal["pending", "running", "failed", "done", "compensating", "compensated"]
TransactionState = Literal["running", "compensating", "committed", "compensated", "stuck"]


@dataclass(frozen=True)
class SagaStep:
    """One step, by a name under which every process knows it.

    Args:
        name: 1 to 128 plain characters.
        run: `run(key, inputs) -> outcome`. The key is equal for each attempt of this step in
            one transaction: a step that honours it takes effect once, however often it runs.
            The inputs are the transaction's, and by step name the outcomes before this one.
            The outcome is JSON or a Result.
        compensate: `compensate(key, outcome)` undoes what `run` did with that key, and does
            nothing where it did nothing. The outcome is None where none is known: the step
            raised, or its process died. It too may run more than once. None where the step
            leaves nothing behind, as a model's prediction does.
        retriable: It succeeds in the end if it is repeated often enough.
        pivot: What it does cannot be undone: once it has begun, the transaction only goes
            forward. It and every step after it must be retriable.

    Raises:
        MessageError: The name is no plain one.
        InputError: A pivot is not retriable, or has a compensation.
    """

    name: str
    run: Callable[[str, Mapping[str, Value]], Value]
    compensate: Callable[[str, Value], Any] | None = None
    retriable: bool = False
    pivot: bool = False

    def __post_init__(self) -> None:
        require_identifier(self.name, "step name")
        if self.pivot and (not self.retriable or self.compensate is not None):
            raise InputError(
                f"pivot {self.name}",
                expected="a retriable step without a compensation",
                found="one that is not retriable" if not self.retriable else "a compensation",
                remedy="Split off what can be undone, or may fail for good, as an earlier step.",
            )


@dataclass(frozen=True)
class StepEntry:
    """Where one step of a transaction stands.

    Args:
        place: Its place among the steps, from 0.
        name: Its name.
        state: "pending", "running", "failed" (raised, or interrupted), "done",
            "compensating" or "compensated".
        attempts: How often it, or then its compensation, was begun.
        error: Class of the last error; never its text.
        outcome: What it returned; None before that.
    """

    place: int
    name: str
    state: StepState = "pending"
    attempts: int = 0
    error: str | None = None
    outcome: StoredValue | None = field(default=None, repr=False)

    def begun(self, state: Literal["running", "compensating"]) -> StepEntry:
        """Returns the entry with one more attempt."""
        return replace(self, state=state, attempts=self.attempts + 1)


@dataclass(frozen=True)
class JournalEntry:
    """Where a transaction stands.

    Args:
        number: Its row in the journal.
        transaction_id: 32 hexadecimal digits.
        policy: What an interruption leads to: "forward" finishes where every step that is
            left is retriable and else compensates, "backward" compensates.
        digest: sha256 of steps and inputs.
        state: "running", "compensating", "committed", "compensated", or "stuck": what is
            left to do failed again and again, and waits for somebody to look.
        steps: Its steps in order.
        inputs: What it was begun with.
        error: Class of the error that turned it back or keeps it stuck.
        begun: Unix time in seconds.
        changed: Unix time of the last change in seconds.
    """

    number: int
    transaction_id: str
    policy: Policy
    digest: str
    state: TransactionState
    steps: tuple[StepEntry, ...]
    inputs: Mapping[str, StoredValue] = field(repr=False)
    error: str | None = None
    begun: float = 0.0
    changed: float = 0.0

    def key(self, step: StepEntry) -> str:
        """Returns the step's idempotency key."""
        return f"{self.transaction_id}:{step.name}"

    def current(self) -> StepEntry:
        """Returns the step that is under way, forward or back; there is one until the end."""
        return next(step for step in self.steps if step.state in {"running", "compensating"})

    def with_steps(self, changed: Sequence[StepEntry]) -> JournalEntry:
        """Returns the entry with some of its steps changed."""
        by_place = {step.place: step for step in (*self.steps, *changed)}
        return replace(self, steps=tuple(by_place[place] for place in range(len(self.steps))))

    def outcomes(self) -> dict[str, Value]:
        """Returns the outcomes of the steps that are done, by step name."""
        return {
            step.name: read_value(step.outcome.kind, step.outcome.content)
            for step in self.steps
            if step.state == "done" and step.outcome is not None
        }

    def known(self) -> dict[str, Value]:
        """Returns what the next step may use: the inputs, and the outcomes so far."""
        inputs = {name: read_value(one.kind, one.content) for name, one in self.inputs.items()}
        return inputs | self.outcomes()


def require_order(steps: Sequence[SagaStep], inputs: Mapping[str, Value]) -> None:
    """Checks that steps can make one transaction.

    Raises:
        InputError: There is none, one stands twice or has the name of an input, or one
            that is not retriable follows a pivot.
    """
    names = [step.name for step in steps]
    pivots = [place for place, step in enumerate(steps) if step.pivot]
    faults = []
    if not names or len(set(names)) != len(names):
        faults.append("no step" if not names else "a step that stands twice")
    if set(names) & set(inputs):
        faults.append("an input with the name of a step")
    if pivots and not all(step.retriable for step in steps[pivots[0] :]):
        faults.append("a step after the pivot that is not retriable")
    if faults:
        raise InputError(
            "transaction",
            expected="one or more different steps, after a pivot retriable ones only",
            found=" and ".join(faults),
            remedy="Reorder or rename them.",
        )


def past_pivot(entry: JournalEntry, steps: Mapping[str, SagaStep]) -> bool:
    """Returns whether a step has begun that cannot be undone."""
    return any(step.state != "pending" and steps[step.name].pivot for step in entry.steps)


def finishes_forward(entry: JournalEntry, steps: Mapping[str, SagaStep]) -> bool:
    """Returns whether an interrupted transaction is finished, not compensated."""
    left = [steps[step.name] for step in entry.steps if step.state != "done"]
    retriable = entry.policy == "forward" and all(step.retriable for step in left)
    return retriable or past_pivot(entry, steps)


def run_next(entry: JournalEntry) -> StepEntry | None:
    """Returns the first step that is not done, begun once more; None where all are."""
    left = [step for step in entry.steps if step.state != "done"]
    return left[0].begun("running") if left else None


def undo_next(entry: JournalEntry) -> StepEntry | None:
    """Returns the last step that is still to undo, begun once more; None where none is."""
    left = [step for step in entry.steps if step.state in {"done", "failed", "compensating"}]
    return left[-1].begun("compensating") if left else None


def turned_back(entry: JournalEntry, steps: Mapping[str, SagaStep], error: str) -> JournalEntry:
    """Returns the entry as it stands when a transaction begins to compensate.

    The step under way has failed; whatever it did is undone like what is done. Steps
    without a compensation leave nothing to undo.
    """
    changed = []
    for step in entry.steps:
        if step.state == "pending":
            continue
        after = step if step.state == "done" else replace(step, state="failed", error=error)
        if steps[step.name].compensate is None:
            after = replace(after, state="compensated")
        changed.append(replace(after, attempts=0))
    return entry.with_steps(changed)
