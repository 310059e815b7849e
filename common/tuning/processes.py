"""The processes of a run that was started plainly: started, watched, and ended with it.

Each rank is a Python program of its own (`common.tuning.worker`), in a session of its own,
so that Ctrl-C reaches the caller alone, which then ends them. The job goes to them, and
the result and errors come back, through a private folder that is removed afterwards. They
meet through a file in it, so no port is taken from anybody.

The caller's script is not run again by the ranks, so a script without a guard, a notebook
and a script from standard input work alike. Only where the job holds objects whose class
or function the started script itself defines must a rank import that script, as
multiprocessing's spawn does; it then needs its guard.

A rank whose caller is gone sees its standard input close, and ends.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import common.errors
from common.errors import TandemError, TuningError

__all__ = [
    "ErrorRecord",
    "MainModule",
    "Spawned",
    "require_main_guard",
    "run_spawned",
    "while_importing_main",
]

_GRACE_S = 2.0  # for the other ranks to say why they failed, and then to end
_POLL_S = 0.05
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from common.tuning.worker import main; main(sys.argv[2], int(sys.argv[3]))"
)


@dataclass(frozen=True)
class Spawned:
    """A job for processes of their own.

    Args:
        job: What each of them does with its ranks.
        n_processes: How many.
        device: Where they compute.
        timeout_s: Longest time that one waits for another.
        n_threads: Threads of torch in each.
    """

    job: Callable[[Any], Any]
    n_processes: int
    device: Literal["cpu", "cuda"]
    timeout_s: float
    n_threads: int


@dataclass(frozen=True)
class MainModule:
    """The started script, as a rank must import it before it can read the job.

    Args:
        name: Of the module that `python -m` ran; empty for a file.
        path: Of the file.
        needed: Whether the job holds anything that the script defines.
    """

    name: str
    path: str
    needed: bool


@dataclass(frozen=True)
class ErrorRecord:
    """Why a rank failed.

    Args:
        rank: Which.
        time_s: When, on the machine's monotonic clock.
        kind: Class of the error.
        fields: The four parts of a `TandemError`; empty for other errors.
        traceback: As Python prints it.
        lost_peer: Whether it failed only because another rank did not answer.
    """

    rank: int
    time_s: float
    kind: str
    fields: dict[str, str]
    traceback: str
    lost_peer: bool


_importing_main = False


def while_importing_main(run: Callable[[], Any]) -> None:
    """Runs the caller's script for its definitions; a run started in it is refused."""
    global _importing_main  # noqa: PLW0603 (a fact about this process)
    _importing_main = True
    try:
        run()
    finally:
        _importing_main = False


def require_main_guard() -> None:
    """Refuses to start a run while a rank imports the script that started it.

    Raises:
        TuningError: The script starts a run whenever it is imported.
    """
    if _importing_main:
        raise TuningError(
            "distributed run",
            expected='the script to start training under `if __name__ == "__main__":`, '
            "because it defines classes or functions that the training processes import from it",
            found="training that starts whenever the script is imported",
            remedy='Move the call into `if __name__ == "__main__":`, or move those definitions '
            "into a module of their own.",
        )


def run_spawned(spawned: Spawned) -> Any:
    """Runs a job on processes of their own and returns the first one's result.

    Raises:
        TuningError: The job cannot be carried to them, or a process failed.
        TandemError: The job raised it.
    """
    with TemporaryDirectory(prefix="tandem-ranks-") as name:
        folder = Path(name)
        _write_job(spawned, folder)
        started: list[subprocess.Popen[bytes]] = []
        try:
            started.extend(_start(folder, rank) for rank in range(spawned.n_processes))
            codes = _watch(started, spawned.timeout_s)
        finally:
            _end(started)
        if any(code != 0 for code in codes):
            raise _failure(folder, codes, spawned)
        return pickle.loads((folder / "result.pickle").read_bytes())  # noqa: S301 (our own rank's)


class _JobPickler(pickle.Pickler):
    """Notes whether anything that it carries is defined by the started script."""

    of_main: str | None = None

    def reducer_override(self, obj: Any) -> Any:
        if getattr(obj, "__module__", None) == "__main__":
            self.of_main = getattr(obj, "__qualname__", type(obj).__qualname__)
        return NotImplemented


def _write_job(spawned: Spawned, folder: Path) -> None:
    with (folder / "job.pickle").open("wb") as file:
        pickler = _JobPickler(file, protocol=5)
        try:
            pickler.dump(spawned)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TuningError(
                "distributed run",
                expected="a model, method and data that pickle can carry to other processes",
                found=f"something it cannot ({type(error).__name__})",
                remedy="Name the model by id or folder, and define functions and classes at the "
                "top of a module; or start with torchrun, which carries nothing.",
            ) from error
    main = _main_module(pickler.of_main is not None)
    if main.needed and not (main.name or main.path):
        raise TuningError(
            "distributed run",
            expected="classes and functions that other processes can import from a file",
            found=f"{pickler.of_main}, defined in a notebook, at a prompt or on standard input",
            remedy="Move its definition into a module (a .py file), and import it from there.",
        )
    settings = {
        "main": vars(main),
        "argv": sys.argv,
        "log_level": logging.getLogger("common").getEffectiveLevel(),
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


def _main_module(needed: bool) -> MainModule:
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None) or ""
    path = Path(getattr(main, "__file__", None) or "")
    return MainModule(name, str(path.resolve()) if path.is_file() else "", needed)


def _start(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    if sys.platform == "linux":  # all ranks are here: no name or network has to resolve
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    search = json.dumps([str(Path(entry).resolve()) for entry in sys.path])
    return subprocess.Popen(  # noqa: S603 (this interpreter, on a program of ours)
        [sys.executable, "-c", _START, search, str(folder), str(rank)],
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


def _watch(started: Sequence[subprocess.Popen[bytes]], timeout_s: float) -> list[int | None]:
    """Waits until all have ended well, or one has failed and the others had their say.

    Returns:
        Exit codes; None of one that has not ended.
    """
    deadline = float("inf")
    while True:
        codes = [process.poll() for process in started]
        if None not in codes or time.monotonic() > deadline:
            return codes
        if any(code not in {None, 0} for code in codes):
            deadline = min(deadline, time.monotonic() + _GRACE_S)
        elif 0 in codes:
            deadline = min(deadline, time.monotonic() + timeout_s)
        time.sleep(_POLL_S)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends what still runs, with all that it has started, and waits until it is gone."""
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: see _start
    for process in started:
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _failure(folder: Path, codes: Sequence[int | None], spawned: Spawned) -> TandemError:
    """Returns the error that ended the run: the first cause, not what followed from it."""
    records = sorted(
        (ErrorRecord(**json.loads(path.read_bytes())) for path in folder.glob("error-*.json")),
        key=lambda record: (record.lost_peer, record.time_s),
    )
    if records and not records[0].lost_peer:
        return _raised(records[0], spawned.n_processes)
    told = {record.rank for record in records}
    for rank, code in enumerate(codes):
        if code and rank not in told:
            return _ended(rank, code, spawned.n_processes)
    return _silent(records, codes, spawned)


def _raised(record: ErrorRecord, n_processes: int) -> TandemError:
    where = f"On rank {record.rank} of {n_processes}:\n{record.traceback}"
    kind = getattr(common.errors, record.kind, None)
    if record.fields and isinstance(kind, type) and issubclass(kind, TandemError):
        error: TandemError = kind(**record.fields)
    else:
        error = TuningError(
            "distributed run",
            expected=f"all {n_processes} processes to finish",
            found=f"{record.kind} on rank {record.rank}",
            remedy="Its traceback is below; mend what it names, and resume from the last "
            "checkpoint.",
        )
    error.add_note(where)
    return error


def _ended(rank: int, code: int, n_processes: int) -> TuningError:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"left with code {code}"
    memory = "Perhaps the machine ran out of memory: use fewer processes or smaller batches. "
    return TuningError(
        "distributed run",
        expected=f"all {n_processes} processes to finish",
        found=f"that rank {rank} {how}",
        remedy=f"{memory if code == -signal.SIGKILL else ''}Resume from the last checkpoint.",
    )


def _silent(
    records: Sequence[ErrorRecord], codes: Sequence[int | None], spawned: Spawned
) -> TuningError:
    hung = [str(rank) for rank, code in enumerate(codes) if code is None]
    error = TuningError(
        "distributed run",
        expected=f"every process to answer within {spawned.timeout_s:g} s",
        found=f"none from rank {', '.join(hung)}" if hung else "none from some of them",
        remedy="Raise the timeout if one step, evaluation or checkpoint takes longer, and resume "
        "from the last checkpoint.",
    )
    for record in records[:1]:
        error.add_note(f"On rank {record.rank} of {spawned.n_processes}:\n{record.traceback}")
    return error
