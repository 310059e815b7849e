"""A claim is one process's and one thread's, and ends with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common.protocol.transactions.claims import Claims

ROOT = Path(__file__).parents[4]
HOLDER = """
import sys, time
from pathlib import Path
from common.protocol.transactions.claims import Claims
print(Claims(Path(sys.argv[1])).take(5), flush=True)
time.sleep(600)
"""


@pytest.fixture
def claims(tmp_path):
    return Claims(tmp_path / "journal.lock")


def test_a_number_is_held_once_until_it_is_released(claims, tmp_path):
    again = Claims(tmp_path / "." / "journal.lock")  # another object, the same file
    assert claims.take(5)
    assert not again.take(5)
    assert again.take(6)
    claims.release(5)
    claims.release(5)  # nothing to give back
    assert again.take(5)
    for number in (5, 6):
        again.release(number)


def test_the_largest_number_of_a_transaction_can_be_claimed(claims):
    assert claims.take(2**60 - 1)
    claims.release(2**60 - 1)


def test_of_many_threads_one_gets_it(claims):
    won, barrier = [], threading.Barrier(8)

    def take():
        barrier.wait()
        won.append(claims.take(1))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]
    claims.release(1)


def test_a_killed_process_gives_its_claims_back_at_once(claims, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "journal.lock")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout.readline() == "True\n"
            assert not claims.take(5)
            assert claims.take(4)
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    assert claims.take(5)
    claims.release(4)
    claims.release(5)


def test_a_forked_child_neither_holds_nor_takes_what_its_parent_holds(claims):
    assert claims.take(7)
    child = os.fork()
    if child == 0:
        free = claims.take(8)
        os._exit(10 + 2 * claims.take(7) + free)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
    assert claims.take(8)  # the child's claim ended with it
    for number in (7, 8):
        claims.release(number)


def test_the_file_is_for_its_owner_only(claims, tmp_path):
    claims.take(1)
    claims.release(1)
    assert (tmp_path / "journal.lock").stat().st_mode & 0o777 == 0o600


def test_a_folder_made_anew_has_a_lock_file_of_its_own(claims, tmp_path):
    claims.take(1)
    claims.release(1)
    (tmp_path / "journal.lock").unlink()
    assert claims.take(1)
    assert (tmp_path / "journal.lock").is_file()
    claims.release(1)
