"""One rank of a spawned run, as a program: reads the job, runs it, leaves result or error.

`common.tuning.processes` starts it and holds its standard input open for as long as the
run's caller lives.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import runpy
import shutil
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

from common.errors import TandemError
from common.tuning.processes import ErrorRecord, MainModule, while_importing_main

__all__ = ["main"]

# What the backends say when another rank is gone or does not answer.
_LOST_PEER = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out")


def main(folder: str, rank: int) -> None:
    """Runs the job in `folder` as `rank`, and ends this process.

    Args:
        folder: The private folder that the caller made.
        rank: Which process this is.
    """
    place = Path(folder)
    Thread(target=_end_with_caller, args=(place,), daemon=True).start()
    try:
        result = _run(place, rank)
        if rank == 0:
            _write(place, "result.pickle", pickle.dumps(result, protocol=5))
    except BaseException as error:  # noqa: BLE001 (the caller raises it)
        _write(place, f"error-{rank}.json", json.dumps(asdict(_record(error, rank))).encode())
        _leave(1)
    _leave(0)


def _run(place: Path, rank: int) -> Any:
    settings = json.loads((place / "settings.json").read_bytes())
    sys.argv[:] = settings["argv"]
    if rank == 0:
        logging.basicConfig(level=settings["log_level"], format="%(message)s")
    _import_main(MainModule(**settings["main"]))
    spawned = pickle.loads((place / "job.pickle").read_bytes())  # noqa: S301 (the caller's)
    from common.tuning.distributed import run_rank

    return run_rank(spawned, rank, str(place / "meeting"))


def _import_main(main_module: MainModule) -> None:
    """Makes what the caller's script defines known as `__main__`, as multiprocessing does."""
    if not main_module.needed:
        return
    defined: dict[str, Any] = {}

    def run() -> None:
        if main_module.name:
            found = runpy.run_module(main_module.name, run_name="__mp_main__", alter_sys=True)
        else:
            found = runpy.run_path(main_module.path, run_name="__mp_main__")
        defined.update(found)

    while_importing_main(run)
    module = ModuleType("__mp_main__")
    module.__dict__.update(defined)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def _record(error: BaseException, rank: int) -> ErrorRecord:
    parts = ("subject", "expected", "found", "remedy")
    ours = isinstance(error, TandemError)
    return ErrorRecord(
        rank=rank,
        time_s=time.monotonic(),
        kind=type(error).__name__,
        fields={part: getattr(error, part) for part in parts} if ours else {},
        traceback="".join(traceback.format_exception(error)),
        lost_peer=not ours and _is_lost_peer(error),
    )


def _is_lost_peer(error: BaseException) -> bool:
    from torch import distributed

    words = str(error).lower()
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in words for word in _LOST_PEER)
    )


def _write(place: Path, name: str, content: bytes) -> None:
    writing = place / f".{name}"
    writing.write_bytes(content)
    writing.rename(place / name)


def _end_with_caller(place: Path) -> None:
    """Ends this session's processes when the caller's end of standard input closes.

    The folder goes too: the job in it holds the training rows.
    """
    while os.read(0, 1):
        pass
    shutil.rmtree(place, ignore_errors=True)
    os.killpg(os.getpid(), signal.SIGKILL)


def _leave(code: int) -> None:
    """Ends at once: after a failure, ending a group in good order would wait for the dead."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
