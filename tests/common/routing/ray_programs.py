"""Programs around the Ray engine, each run in a process of its own: python -m ... NAME FOLDER."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from common.request import new_request
from common.routing.engine import Call
from common.routing.ray_engine.engine import Placement, RayEngine
from common.routing.ray_engine.process_tree import children_of
from tests.common.routing.ray_models import Doubler, Gated, a_task


def leave_without_closing(folder: Path) -> None:
    """Ends while a model works on and on, having closed nothing."""
    engine = RayEngine(replicas=1)
    engine.submit(_call(Gated(folder, "busy", listens=False)))
    _until_begun(folder, 1)
    (folder / "children").write_text(" ".join(map(str, _descendants(os.getpid()))))


def lose_a_machine(folder: Path) -> None:
    """Kills the Ray of the worker machine in the middle of its replica's call."""
    with RayEngine(os.environ["TANDEM_RAY_ADDRESS"], replicas=2) as engine:
        model = Gated(folder)
        futures = [engine.submit(_call(model, i)) for i in range(4)]
        _until_begun(folder, 2)
        os.kill(int(os.environ["WORKER_RAYLET"]), signal.SIGKILL)
        while len(list(folder.glob("begun-*"))) < 3:  # the lost call has begun again
            (folder / "open").touch()
            time.sleep(0.05)
        values = [float(f.result(120)[0].arrays["doubled"][0]) for f in futures]
    _say("answers", *values)
    _say("effects", *sorted((folder / "effects").read_text().split()))


def place_by_resource(folder: Path) -> None:
    """Asks for a model that only the worker machine may hold."""
    placements = {"scanned": Placement(cpus=0, resources={"scanner": 1})}
    with RayEngine(os.environ["TANDEM_RAY_ADDRESS"], replicas=1, placements=placements) as engine:
        engine.submit(_call(Doubler("scanned"))).result(60)
        (replica,) = engine.health()[placements["scanned"]]
    _say("pid", replica.pid)


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def _call(model: Doubler, n: int = 0) -> Call:
    return Call(model, (a_task(n),), new_request(), f"call{n}")


def _until_begun(folder: Path, n: int) -> None:
    while len(list(folder.glob("begun-*"))) < n:
        time.sleep(0.02)


def _descendants(pid: int) -> list[int]:
    return [each for child in children_of(pid) for each in (child, *_descendants(child))]


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
