"""The processes of a spawned run: what they need to start, and that none is left."""

from __future__ import annotations

import signal
import time

import pytest
import torch

from common.errors import InputError, TuningError
from common.tuning.distributed import run_distributed
from tests.common.tuning.rank_jobs import Report
from tests.common.tuning.rank_programs import (
    alive,
    require_gone,
    run_script,
    start_script,
    wait_for,
)


class TestProcesses:
    """They meet, agree, and end with the run, however it ends."""

    def test_what_ranks_agree_on_is_the_same_for_all(self, tmp_path):
        """Totals are sums over ranks; a text is the first one's."""
        found = run_distributed(Report(str(tmp_path)), n_processes=2, device="cpu")
        assert found["totals"] == [2.0, 1.0]
        assert found["nothing"] == []
        assert found["agreed"] == ["ränk 0", ""]
        assert found["threads"] == max(1, torch.get_num_threads() // 2)
        require_gone(tmp_path, 2)

    def test_an_exception_ends_all_and_tells_where_it_was(self, tmp_path):
        """The error names kind and rank; its note has the rank's traceback."""
        error = _fails(tmp_path, "raise", rank=1)
        assert error.found == "ValueError on rank 1"
        assert "row 3 is odd" in error.__notes__[0]
        assert "rank_jobs.py" in error.__notes__[0]

    def test_an_error_of_ours_comes_back_as_it_is(self, tmp_path):
        """An InputError on rank 1 is an InputError for the caller."""
        with pytest.raises(InputError) as caught:
            run_distributed(Report(str(tmp_path), "input_error"), n_processes=2, device="cpu")
        assert caught.value.remedy == "Do c."
        assert caught.value.__notes__[0].startswith("On rank 1 of 2")
        require_gone(tmp_path, 2)

    @pytest.mark.parametrize("rank", [0, 1])
    def test_a_killed_rank_ends_all(self, tmp_path, rank):
        """As the kernel kills when memory runs out."""
        error = _fails(tmp_path, "kill", rank=rank)
        assert error.found == f"that rank {rank} was ended by SIGKILL"
        assert "out of memory" in error.remedy

    def test_a_rank_that_leaves_ends_all(self, tmp_path):
        """A library that calls exit is no good end."""
        assert _fails(tmp_path, "exit", rank=0).found == "that rank 0 left with code 7"

    @pytest.mark.parametrize("action", ["hang", "stop"])
    def test_a_rank_that_no_longer_answers_ends_all_after_the_timeout(self, tmp_path, action):
        """Also one that the system has stopped, which no ordinary signal ends."""
        error = _fails(tmp_path, action, rank=1)
        assert error.found == "none from rank 1"
        assert "within 4 s" in error.expected

    @pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
    def test_no_rank_outlives_its_caller(self, tmp_path, signal_number):
        """Ctrl-C, and a caller that is killed and can clean up nothing."""
        caller = start_script(
            "import signal\n"  # a shell has what it runs in the background ignore Ctrl-C
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from common.tuning.distributed import run_distributed\n"
            "from tests.common.tuning.rank_jobs import Report\n"
            f"run_distributed(Report({str(tmp_path)!r}, 'hang'), n_processes=2, device='cpu')\n",
            tmp_path,
        )
        wait_for(lambda: len(list(tmp_path.glob("?.json"))) == 2)
        caller.send_signal(signal_number)
        _, errors = caller.communicate(timeout=20)
        assert caller.returncode != 0
        assert ("KeyboardInterrupt" in errors) == (signal_number == signal.SIGINT)
        wait_for(lambda: not alive(tmp_path))


class TestScript:
    """The caller's script need not know how its ranks come to be, or is told what to do."""

    @pytest.mark.parametrize("way", ["file", "standard input"])
    def test_a_script_needs_no_guard_for_what_modules_define(self, tmp_path, way):
        """The ranks do not run it again: it prints once."""
        text = _PLAIN.format(folder=str(tmp_path))
        done = run_script(text, tmp_path, stdin=way == "standard input")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["started", "[2.0, 1.0]"]

    def test_a_script_with_a_job_of_its_own_needs_its_guard(self, tmp_path):
        """Without it the error names expected, found and remedy; there is no fork bomb."""
        done = run_script(_OWN_JOB.format(guard="if True:"), tmp_path)
        assert done.returncode == 1
        last = done.stderr.split("TuningError: ")[-1]
        assert 'expected the script to start training under `if __name__ == "__main__":`' in last
        assert "found training that starts whenever the script is imported" in last
        guarded = run_script(_OWN_JOB.format(guard='if __name__ == "__main__":'), tmp_path)
        assert guarded.stdout == "6.0\n", guarded.stderr

    def test_what_a_prompt_defines_cannot_be_imported(self, tmp_path):
        """Standard input stands for a notebook's cells: there is no file to import."""
        done = run_script(_OWN_JOB.format(guard="if True:"), tmp_path, stdin=True)
        assert done.returncode == 1
        assert "found Job, defined in a notebook, at a prompt or on standard input" in done.stderr

    def test_a_job_that_cannot_be_carried_is_refused(self):
        """A lambda has no name to be imported by."""
        with pytest.raises(TuningError, match="that pickle can carry"):
            run_distributed(lambda ranks: ranks.rank, n_processes=2, device="cpu")


_PLAIN = """
print("started", flush=True)
from common.tuning.distributed import run_distributed
from tests.common.tuning.rank_jobs import Report
print(run_distributed(Report({folder!r}), n_processes=2, device="cpu")["totals"])
"""
_OWN_JOB = """
from dataclasses import dataclass
from common.tuning.distributed import run_distributed

@dataclass
class Job:
    factor: float
    def __call__(self, ranks):
        return ranks.total([self.factor])[0]

{guard}
    print(run_distributed(Job(3.0), n_processes=2, device="cpu"))
"""


def _fails(folder, action, *, rank):
    """Runs a job in which a rank fails; the error, once all processes are known to be gone."""
    began = time.monotonic()
    with pytest.raises(TuningError) as caught:
        run_distributed(
            Report(str(folder), action, rank), n_processes=2, device="cpu", timeout_s=4.0
        )
    assert time.monotonic() - began < 30
    require_gone(folder, 2)
    return caught.value
