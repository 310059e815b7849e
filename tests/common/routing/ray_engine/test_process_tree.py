"""Processes are found with all that they have started, and ended without mistaking others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from common.routing.ray_engine.process_tree import ProcessWatch, children_of

PARENT = (
    "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'input()'],"
    " stdin=subprocess.PIPE); print(p.pid, flush=True); input()"
)


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.kill()


def grandchild_of(parent: subprocess.Popen[str]) -> int:
    assert parent.stdout is not None
    return int(parent.stdout.readline())


def test_children_are_seen_while_they_live(parent: subprocess.Popen[str]) -> None:
    assert parent.pid in children_of(os.getpid())
    grandchild = grandchild_of(parent)
    assert children_of(parent.pid) == {grandchild}
    parent.kill()
    parent.wait()
    assert parent.pid not in children_of(os.getpid())


def test_what_goes_on_is_killed_whatever_became_of_its_parent(
    parent: subprocess.Popen[str],
) -> None:
    grandchild = grandchild_of(parent)
    watch = ProcessWatch({parent.pid})
    parent.kill()
    parent.wait()  # the grandchild's input ends with it, so it may end by itself
    assert watch.end(wait_s=10) in {0, 1}
    assert not _runs(grandchild)


def test_nothing_is_killed_that_ends_in_time(parent: subprocess.Popen[str]) -> None:
    grandchild_of(parent)
    watch = ProcessWatch({parent.pid})
    parent.communicate("\n")
    assert watch.end(wait_s=10) == 0


def test_the_stubborn_are_killed(parent: subprocess.Popen[str]) -> None:
    grandchild = grandchild_of(parent)
    assert ProcessWatch({parent.pid}).end(wait_s=0.05) == 2
    parent.wait()
    while _runs(grandchild):
        pass


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  # a file of the kernel's
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
