"""A transaction as a program, for tests that kill it: `killed_transaction FOLDER LAYOUT FAILS`.

For each moment it forks a process that dies there by its own SIGKILL, then another that
recovers, and prints how the transaction ended and which effects stand, a line each.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import traceback
from pathlib import Path

from common.errors import TransactionError
from tests.common.protocol.saga_world import World, names


def main():
    """Kills at every moment until a run comes through."""
    folder, layout, fails = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    moment = 0
    while True:
        transaction_id = secrets.token_hex(16)
        status = _in_child(_run, folder, layout, fails, transaction_id, moment)
        died = status == -signal.SIGKILL
        assert died or status == 0
        assert _in_child(_recover, folder) == 0
        assert _in_child(_report, folder, transaction_id, died) == 0
        if not died:
            return
        moment += 1


def _in_child(work, *arguments):
    """Runs `work` in a forked process; returns its exit status, below 0 for a signal."""
    process_id = os.fork()
    if process_id == 0:
        try:
            work(*arguments)
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a child must never go on as its parent
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])


def _run(folder, layout, fails, transaction_id, moment):
    world = World(folder)
    world.moments.die_at(moment, really=True)
    try:
        world.transactions.run(names(layout, fails), {"case": 1}, transaction_id=transaction_id)
    except TransactionError:
        assert fails >= 0


def _recover(folder):
    recovery = World(folder).transactions.recover()
    assert not recovery.held
    assert not recovery.stuck


def _report(folder, transaction_id, died):
    world = World(folder)
    entry = world.transactions.status(transaction_id)
    state = entry.state if entry else "none"
    line = {"died": died, "state": state, "effects": world.effects(transaction_id)}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
