"""Sagas with real effects, in a world where the process may die at any moment.

A layout is a text with a letter for each step: C can be compensated, R is retriable too, N
leaves nothing behind and is retriable, P is a pivot. Effects are rows of a database, made
with `apply_once`. Moments are the places before and after each journal write, and before and
after each effect inside a step or a compensation.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path

from common.protocol.transactions.applied import apply_once, undo_once
from common.protocol.transactions.journal import Journal
from common.protocol.transactions.transaction import SagaStep, Transactions


@contextmanager
def memory_folder():
    """A folder in memory where there is one: thousands of deaths flush a disk too often."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder of our own is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


class Died(BaseException):
    """Stands for the end of the process where it is simulated."""


class Moments:
    """Counts moments and dies at one of them."""

    def __init__(self):
        self.left = None
        self.seen = 0
        self.really = False

    def die_at(self, number, *, really=False):
        self.left, self.seen, self.really = number, 0, really

    def come(self):
        self.seen += 1
        if self.left is not None and self.seen > self.left:
            self.left = None
            if self.really:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Died


class MortalJournal(Journal):
    """A journal whose writes are surrounded by moments."""

    moments: Moments

    def begin(self, *arguments, **settings):
        return self._between(super().begin, *arguments, **settings)

    def write(self, *arguments, **settings):
        return self._between(super().write, *arguments, **settings)

    def _between(self, function, *arguments, **settings):
        self.moments.come()
        outcome = function(*arguments, **settings)
        self.moments.come()
        return outcome


class World:
    """Effects in a database, and a journal, that outlive the deaths of their process."""

    def __init__(self, folder):
        self.tables = sqlite3.connect(folder / "effects.sqlite", isolation_level=None)
        self.tables.execute("PRAGMA synchronous=OFF")  # a killed process loses nothing by it
        self.tables.execute("CREATE TABLE IF NOT EXISTS effect (key TEXT, place INTEGER)")
        self.moments = Moments()
        self.transactions = Transactions(
            folder / "journal.sqlite",
            steps=[
                self._step(kind, place, fails=fails)
                for kind in "CRNP"
                for place in range(3)
                for fails in (False, True)
            ],
            sleep=lambda _: None,
        )
        self.transactions._journal.__class__ = MortalJournal
        self.transactions._journal.moments = self.moments

    def effects(self, transaction_id):
        """Places of the effects that stand, sorted; an effect made twice stands twice."""
        rows = self.tables.execute(
            "SELECT place FROM effect WHERE key GLOB ? ORDER BY place", (f"{transaction_id}*",)
        )
        return [place for (place,) in rows]

    def _step(self, kind, place, *, fails):
        def run(key, inputs):
            self.moments.come()
            if kind != "N":
                apply_once(
                    self.tables,
                    key,
                    lambda tables: (
                        tables.execute("INSERT INTO effect VALUES (?, ?)", (key, place)).rowcount
                    ),
                )
            self.moments.come()
            if fails:
                raise ValueError(place)
            return {"place": place, "before": sorted(inputs)}

        def compensate(key, outcome):
            assert outcome is None or outcome["place"] == place
            self.moments.come()
            undo_once(
                self.tables,
                key,
                lambda tables, _: tables.execute("DELETE FROM effect WHERE key = ?", (key,)),
            )
            self.moments.come()

        return SagaStep(
            name_of(kind, place, fails=fails),
            run,
            None if kind in "NP" else compensate,
            retriable=kind in "RNP",
            pivot=kind == "P",
        )


def name_of(kind, place, *, fails):
    """Name of the step of that kind at that place."""
    return f"{kind}{place}{'-fails' if fails else ''}"


def names(layout, fails):
    """Names of a layout's steps, the one at the place `fails` failing."""
    return [name_of(kind, place, fails=place == fails) for place, kind in enumerate(layout)]


def lasting(layout):
    """Places whose steps leave an effect."""
    return [place for place, kind in enumerate(layout) if kind != "N"]
