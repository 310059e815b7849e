"""Transactions: work across several models that ends whole, whenever a process dies.

    transactions = Transactions(Path("journal.sqlite"), steps=[reserve, predict, publish])
    transactions.recover()                                   # what others left behind
    done = transactions.run(["reserve", "predict", "publish"], {"case": "a"})

Each step is journaled before it runs and after it. When a step fails, what was done is
compensated in reverse order. When the process dies, at any point, the next `recover()`
finishes or compensates what it left. A step runs at least once, with a key that is equal for
each attempt; a step that honours its key takes effect once (`applied` beside this file does
it for effects in SQLite). Of all threads and processes on a journal one works on a
transaction at a time (`claims`).
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common.content import digest_of, require_unicode
from common.errors import (
    ConflictError,
    DeadlineError,
    InputError,
    MessageError,
    OverloadError,
    TransactionError,
    UnknownNameError,
)
from common.protocol.messages.payloads import TransactionRecord
from common.protocol.stored_value import StoredValue, Value, store_value
from common.protocol.transactions.claims import Claims
from common.protocol.transactions.journal import Journal
from common.protocol.transactions.runner import VALUE_BYTES, SagaRunner
from common.protocol.transactions.saga import JournalEntry, Policy, SagaStep, require_order
from common.request import check_wanted
from common.settings import Settings, load_settings

__all__ = ["Committed", "Recovery", "SagaStep", "Transactions"]

_ID = re.compile(r"[0-9a-f]{32}")
_PASSED_ON = (DeadlineError, InputError, OverloadError)  # the caller can act on these


@dataclass(frozen=True)
class Committed:
    """A transaction whose every step is done.

    Args:
        transaction_id: 32 hexadecimal digits.
        outcomes: Step name to what the step returned.
    """

    transaction_id: str
    outcomes: Mapping[str, Value]


@dataclass(frozen=True)
class Recovery:
    """What a call of `recover` did, as ids of transactions.

    Args:
        committed: Finished.
        compensated: Undone.
        stuck: Failed again and again; they wait for somebody to look.
        held: Left to the thread or process that works on them.
        unregistered: Left, because this process does not know one of their steps.
    """

    committed: tuple[str, ...] = ()
    compensated: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()


class Transactions:
    """Runs transactions on one journal; threads and processes may do so at once.

    Args:
        path: The journal's file; a lock file lies beside it. Both are made for their owner
            only and must lie on a local disk.
        steps: The steps that this process knows.
        attempts: How often a retriable step, or a compensation, is begun before it counts as
            failed for good; attempts whose process died are counted too, so that a step
            that kills its process does not do so for ever.
        pause_s: Pause after the first failed attempt; it doubles, up to 5 s.
        clock: Unix time in seconds.
        sleep: Waits for some seconds.

    Raises:
        InputError: Two steps have one name, or there are no attempts.
        StoreError: The file is damaged, no journal, or of a later version.
    """

    def __init__(
        self,
        path: Path,
        *,
        steps: Iterable[SagaStep] = (),
        attempts: int = 10,
        pause_s: float = 0.05,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if attempts < 1:
            raise InputError(
                "transactions", expected="1 attempt or more", found=str(attempts), remedy="Give it."
            )
        self._journal = Journal(path, clock=clock)
        self._claims = Claims(path.with_name(f"{path.name}.lock"))
        self._steps: dict[str, SagaStep] = {}
        self._runner = SagaRunner(
            self._journal, self._steps, attempts=attempts, pause_s=pause_s, sleep=sleep
        )
        for step in steps:
            self.register(step)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **options: Any) -> Transactions:
        """Opens the journal in TANDEM_HOME; options as for the class."""
        return cls((settings or load_settings()).home / "link" / "journal.sqlite", **options)

    def register(self, step: SagaStep) -> None:
        """Makes a step known under its name.

        Raises:
            InputError: Another step has that name.
        """
        if step.name in self._steps:
            raise InputError(
                f"step {step.name}",
                expected="one step of each name",
                found="another of that name",
                remedy="Name it otherwise: a later process finds steps by name.",
            )
        self._steps[step.name] = step

    def run(
        self,
        steps: Sequence[str],
        inputs: Mapping[str, Value] | None = None,
        *,
        transaction_id: str | None = None,
        policy: Policy = "forward",
    ) -> Committed:
        """Runs the steps one after the other, to the end or back.

        The request's deadline is looked at before each step, until a pivot has begun; a
        compensation has none.

        Args:
            steps: Names of registered steps.
            inputs: What the first step may use, by name.
            transaction_id: 32 hexadecimal digits; drawn without it. A caller who had no
                answer may call again with the same: what is done is not done again.
            policy: What the death of the process leads to; see `JournalEntry`.

        Raises:
            InputError: The steps cannot make a transaction, an input's name is no text, or a
                step refused its input (and what was done is compensated).
            UnknownNameError: A step is not registered.
            MessageError: An input cannot be stored, or the id is none.
            DeadlineError: The deadline passed; what was done is compensated.
            OverloadError: A step found no room, and what was done is compensated; or the
                journal is busy, and `recover` ends what it holds.
            StoreError: The journal cannot be written; `recover` ends what it holds.
            ConflictError: Somebody works on this transaction, or its id belongs to another.
            TransactionError: A step failed, and what was done is compensated; or it is stuck.
        """
        given = dict(inputs or {})
        require_unicode(given, "input names")
        require_order([self._step(name) for name in steps], given)
        stored = {n: store_value(v, limit_bytes=VALUE_BYTES) for n, v in sorted(given.items())}
        digest = _digest(steps, stored)
        chosen = secrets.token_hex(16) if transaction_id is None else _require_id(transaction_id)
        check_wanted()
        with self._claimed(chosen) as claimed:
            if not claimed:
                raise _conflict("one that somebody works on", "Ask for its state, or wait.")
            entry = self._journal.find(chosen)
            if entry is None:
                return _answer(
                    *self._runner.run(
                        self._journal.begin(
                            chosen, steps, inputs=stored, policy=policy, digest=digest
                        )
                    )
                )
            if entry.digest != digest:
                raise _conflict("one with other steps or inputs", "Draw another id.")
            return _answer(*self._runner.resume(entry))

    def recover(self, *, stuck: bool = False) -> Recovery:
        """Ends every transaction that nobody works on, and says what became of them.

        Call it when a process starts, and from time to time for what others leave behind.

        Args:
            stuck: Whether to try the stuck ones once more.
        """
        ended: dict[str, list[str]] = {}
        states = ("running", "compensating", "stuck") if stuck else ("running", "compensating")
        for transaction_id in self._journal.ids(*states):
            with self._claimed(transaction_id) as claimed:
                state = self._recover_one(transaction_id, stuck=stuck) if claimed else "held"
            ended.setdefault(state, []).append(transaction_id)
        ended.pop("gone", None)
        return Recovery(**{state: tuple(ids) for state, ids in ended.items()})

    def status(self, transaction_id: str) -> JournalEntry | None:
        """Returns where a transaction stands; None where the journal has none of that id."""
        return self._journal.find(_require_id(transaction_id))

    def stuck(self) -> tuple[JournalEntry, ...]:
        """Returns the transactions that wait for somebody to look."""
        found = (self._journal.find(one) for one in self._journal.ids("stuck"))
        return tuple(entry for entry in found if entry is not None)

    def records(self, transaction_id: str) -> list[TransactionRecord]:
        """Returns what happened to a transaction, in order."""
        return self._journal.records(_require_id(transaction_id))

    def delete(self, transaction_id: str, *, abandon: bool = False) -> None:
        """Erases a transaction that has ended or is stuck, its inputs and outcomes included.

        Args:
            transaction_id: Which one.
            abandon: Whether also one that has not ended, such as one whose steps no process
                knows any more: what it did stays done, and nothing will undo it.

        Raises:
            ConflictError: Somebody works on it, or it has not ended.
            OverloadError: It is deleted, but the log is in use and may still hold its bytes.
        """
        with self._claimed(_require_id(transaction_id)) as claimed:
            entry = self._journal.find(transaction_id) if claimed else None
            ended = entry is None or entry.state not in {"running", "compensating"}
            if not claimed or not (ended or abandon):
                raise _conflict("one that has not ended", "Call recover first, or abandon it.")
            self._journal.delete(transaction_id)

    def purge(self, older_than_s: float) -> int:
        """Erases transactions that ended longer ago, and returns how many; stuck ones stay.

        Raises:
            OverloadError: They are deleted, but the log is in use and may still hold bytes.
        """
        return self._journal.purge(older_than_s)

    def close(self) -> None:
        """Closes the journal."""
        self._journal.close()

    def _step(self, name: str) -> SagaStep:
        if name not in self._steps:
            raise UnknownNameError(
                "step",
                expected=f"one of the {len(self._steps)} registered steps",
                found="another name",
                remedy="Register it before the transaction is run.",
            )
        return self._steps[name]

    @contextmanager
    def _claimed(self, transaction_id: str) -> Iterator[bool]:
        number = int(transaction_id[:15], 16)  # 60 of its 128 bits: a lock is a byte's offset
        claimed = self._claims.take(number)
        try:
            yield claimed
        finally:
            if claimed:
                self._claims.release(number)

    def _recover_one(self, transaction_id: str, *, stuck: bool) -> str:
        entry = self._journal.find(transaction_id)
        if entry is None:
            return "gone"
        if any(step.name not in self._steps for step in entry.steps):
            return "unregistered"
        if entry.state == "stuck" and stuck:
            entry = self._runner.release(entry)
        entry, _ = self._runner.resume(entry)
        return entry.state


def _answer(entry: JournalEntry, failure: Exception | None) -> Committed:
    if entry.state == "committed":
        return Committed(entry.transaction_id, MappingProxyType(entry.outcomes()))
    if entry.state == "compensated" and isinstance(failure, _PASSED_ON):
        raise failure
    stuck = entry.state == "stuck"
    failed = entry.current() if stuck else [step for step in entry.steps if step.error][-1]
    raise TransactionError(
        f"transaction {entry.transaction_id}",
        expected="every step done",
        found=f"{entry.error} in step {failed.name}; what was done is "
        f"{'stuck half-way' if stuck else 'compensated'}",
        remedy="Mend what the step needs, then call recover(stuck=True)."
        if stuck
        else "Mend what the step needs, then begin another transaction.",
    ) from failure


def _digest(steps: Sequence[str], inputs: Mapping[str, StoredValue]) -> str:
    pieces = [json.dumps(list(steps)).encode()]
    for name, value in inputs.items():
        pieces += [name.encode(), value.kind.encode(), value.content]
    return digest_of(*pieces)


def _require_id(transaction_id: str) -> str:
    if not isinstance(transaction_id, str) or not _ID.fullmatch(transaction_id):
        raise MessageError(
            "transaction id",
            expected="32 lower-case hexadecimal digits",
            found=f"{type(transaction_id).__name__} that is none",
            remedy="Leave it out, or draw one with secrets.token_hex(16).",
        )
    return transaction_id


def _conflict(found: str, remedy: str) -> ConflictError:
    return ConflictError(
        "transaction",
        expected="a new one, or the same one that nobody works on",
        found=found,
        remedy=remedy,
    )
