"""Runs a saga from its journal entry: forward to the end, or back.

Between any two lines here the process may die. So a step is written as begun before it
runs, and in one commit with what it depends on: the outcome of the step before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from common.errors import DeadlineError, InputError, StoreError, TransactionError
from common.protocol.stored_value import read_value, store_value
from common.protocol.transactions.journal import Journal
from common.protocol.transactions.saga import (
    JournalEntry,
    SagaStep,
    StepEntry,
    TransactionState,
    finishes_forward,
    past_pivot,
    run_next,
    turned_back,
    undo_next,
)
from common.request import check_wanted, current_request, new_request, serving

__all__ = ["VALUE_BYTES", "SagaRunner"]

VALUE_BYTES = 64 << 20  # of one input or outcome in the journal
_LONGEST_PAUSE_S = 5.0
_PROCESS_ENDED = "ProcessEnded"  # in place of an error's class: nobody lived to see one
_NOT_AGAIN = (
    DeadlineError,
    InputError,
    StoreError,
    TransactionError,
)  # another attempt would end the same way


class SagaRunner:
    """Runs transactions; the caller holds the claim on each.

    Args:
        journal: Where they are written.
        steps: The registered steps by name.
        attempts: How often a retriable step, or a compensation, is begun at most.
        pause_s: Pause after the first failed attempt; it doubles, up to 5 s.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        journal: Journal,
        steps: Mapping[str, SagaStep],
        *,
        attempts: int,
        pause_s: float,
        sleep: Callable[[float], object],
    ) -> None:
        self._journal = journal
        self._steps = steps
        self._attempts = attempts
        self._pause_s = pause_s
        self._sleep = sleep

    def run(self, entry: JournalEntry) -> tuple[JournalEntry, Exception | None]:
        """Runs a transaction whose first step has just been begun.

        Returns:
            Its entry at the end, and the error that turned it back.
        """
        entry, failure = self._forward(entry)
        return self._backward(entry), failure

    def resume(self, entry: JournalEntry) -> tuple[JournalEntry, Exception | None]:
        """Goes on with what a dead process left; what has ended stays as it is.

        Returns:
            Its entry at the end, and the error that turned it back, if there was one.
        """
        if entry.state == "running":
            forward = finishes_forward(entry, self._steps)
            entry = self._run_again(entry) if forward else self._turn_back(entry, _PROCESS_ENDED)
        elif entry.state == "compensating":
            entry = self._undo_again(entry)
        return self.run(entry)

    def release(self, entry: JournalEntry) -> JournalEntry:
        """Gives a stuck transaction new attempts."""
        at = entry.current()
        direction: TransactionState = "running" if at.state == "running" else "compensating"
        return self._journal.write(entry, replace(at, attempts=0), state=direction)

    def _forward(self, entry: JournalEntry) -> tuple[JournalEntry, Exception | None]:
        while entry.state == "running":
            at = entry.current()
            with self._patience(entry):
                try:
                    done = self._run_step(entry, at)
                except Exception as error:  # noqa: BLE001  # a step may raise anything
                    entry = self._after_failure(entry, at, error)
                    if entry.state != "running":
                        return entry, error
                    continue
            following = run_next(entry.with_steps([done]))
            if following is None:
                entry = self._journal.write(entry, done, state="committed")
            else:
                entry = self._journal.write(entry, done, following)
        return entry, None

    def _run_step(self, entry: JournalEntry, at: StepEntry) -> StepEntry:
        check_wanted()
        outcome = self._steps[at.name].run(entry.key(at), entry.known())
        try:
            stored = store_value(outcome, limit_bytes=VALUE_BYTES)
        except InputError as error:  # the step's fault, not that of who gave the input
            raise TransactionError(
                f"outcome of step {at.name}",
                expected=error.expected,
                found=error.found,
                remedy=error.remedy,
            ) from None
        return replace(at, state="done", outcome=stored, error=None)

    def _after_failure(self, entry: JournalEntry, at: StepEntry, error: Exception) -> JournalEntry:
        """Begins the step again, or turns back, or leaves the transaction stuck."""
        name = type(error).__name__
        if self._steps[at.name].retriable and not isinstance(error, _NOT_AGAIN):
            self._pause(at)
            return self._run_again(entry.with_steps([replace(at, error=name)]))
        return self._give_up(entry, name)

    def _run_again(self, entry: JournalEntry) -> JournalEntry:
        following = entry.current().begun("running")
        if following.attempts > self._attempts:
            return self._give_up(entry, following.error or _PROCESS_ENDED)
        return self._journal.write(entry, following)

    def _give_up(self, entry: JournalEntry, error: str) -> JournalEntry:
        if past_pivot(entry, self._steps):
            return self._stop(entry, error)
        return self._turn_back(entry, error)

    def _stop(self, entry: JournalEntry, error: str) -> JournalEntry:
        """Leaves a transaction that cannot go on to somebody who looks."""
        at = replace(entry.current(), error=error)
        return self._journal.write(entry, at, state="stuck", error=error)

    def _turn_back(self, entry: JournalEntry, error: str) -> JournalEntry:
        back = turned_back(entry, self._steps, error)
        following = undo_next(back)
        state: TransactionState = "compensating" if following else "compensated"
        after = back.with_steps([following]) if following else back
        changed = [s for s, old in zip(after.steps, entry.steps, strict=True) if s != old]
        return self._journal.write(entry, *changed, state=state, error=error)

    def _backward(self, entry: JournalEntry) -> JournalEntry:
        with _shielded():
            while entry.state == "compensating":
                at = entry.current()
                try:
                    self._undo_step(entry, at)
                except Exception as error:  # noqa: BLE001  # a compensation may raise anything
                    self._pause(at)
                    failed = replace(at, error=type(error).__name__)
                    entry = self._undo_again(entry.with_steps([failed]))
                    continue
                done = replace(at, state="compensated")
                following = undo_next(entry.with_steps([done]))
                if following is None:
                    entry = self._journal.write(entry, done, state="compensated")
                else:
                    entry = self._journal.write(entry, done, following)
        return entry

    def _undo_step(self, entry: JournalEntry, at: StepEntry) -> None:
        compensate = self._steps[at.name].compensate
        if compensate is not None:
            outcome = at.outcome and read_value(at.outcome.kind, at.outcome.content)
            compensate(entry.key(at), outcome)

    def _undo_again(self, entry: JournalEntry) -> JournalEntry:
        following = entry.current().begun("compensating")
        if following.attempts > self._attempts:
            return self._stop(entry, following.error or _PROCESS_ENDED)
        return self._journal.write(entry, following)

    def _pause(self, at: StepEntry) -> None:
        if at.attempts < self._attempts:
            doublings = min(at.attempts - 1, 30)  # beyond that it is the longest in any case
            pause_s = min(self._pause_s * 2**doublings, _LONGEST_PAUSE_S)
            self._sleep(min(pause_s, current_request().remaining_s()))

    @contextmanager
    def _patience(self, entry: JournalEntry) -> Iterator[None]:
        """Past the pivot no deadline counts: the rest has to be done."""
        if past_pivot(entry, self._steps):
            with _shielded():
                yield
        else:
            yield


@contextmanager
def _shielded() -> Iterator[None]:
    """Keeps the request's deadline away; the trace id stays."""
    with serving(new_request(trace_id=current_request().trace_id)):
        yield
