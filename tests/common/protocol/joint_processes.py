"""One process of a joint training: `python -m tests.common.protocol.joint_processes`.

It does what its orders say and writes what it saw to a file, for the test that started it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from common.errors import ExchangeError
from common.protocol.gradients.joint_training import JointTraining, Stage
from common.protocol.gradients.linkage import Linkage
from common.protocol.gradients.wire import GroupWire
from common.tuning.checkpoints import optimizer_tensors, restore_optimizer
from tests.common.protocol.joint_sites import INPUTS, Networks, batch

ROOT = Path(__file__).parents[3]


def run_processes(folder: Path, jobs: list[dict[str, Any]], *, n_processes: int) -> list[int]:
    """Runs the jobs, one after the other, on the same processes; returns their exit codes."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}

    def start(rank: int, meeting: str) -> subprocess.Popen[bytes]:
        arguments = [str(folder), str(rank), str(n_processes), meeting]
        return subprocess.Popen(
            [sys.executable, "-m", __name__, *arguments], cwd=ROOT, env=environment
        )

    started = [start(rank, "meeting") for rank in range(n_processes)]
    try:
        for job in jobs:
            if job.get("again"):
                started[job["actor"]].wait(timeout=60)
                started[job["actor"]] = start(job["actor"], "meeting-again")
        hung = {job["actor"] for job in jobs if job.get("act") == "stop"}
        for rank, process in enumerate(started):
            if rank not in hung:
                process.wait(timeout=60)
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [process.returncode for process in started]


def seen(folder: Path, job: int, rank: int) -> dict[str, Any]:
    """Returns what a process wrote of a job."""
    found: dict[str, Any] = json.loads((folder / f"{job}-{rank}.json").read_text())
    return found


def main(folder: Path, rank: int, n_processes: int, meeting: str) -> None:
    torch.set_num_threads(1)
    _meet(folder / meeting, rank, n_processes)
    for number, job in enumerate(json.loads((folder / "jobs.json").read_text())):
        if job.get("again"):
            _do_again(job, folder, rank, restarted=meeting == "meeting-again")
        else:
            _do(job, folder / f"{number}-{rank}", rank)


def _meet(place: Path, rank: int, n_processes: int) -> None:
    dist.init_process_group(
        "gloo",
        rank=rank,
        world_size=n_processes,
        init_method=f"file://{place}",
        timeout=timedelta(seconds=30),
    )


def _do_again(job: dict[str, Any], folder: Path, rank: int, *, restarted: bool) -> None:
    """Trains; the process `actor` is killed at round `at`, comes again, and all go on.

    Every site keeps a checkpoint of its last round, as one outside a test would.
    """
    linkage = Linkage(INPUTS, {name: tuple(ranks) for name, ranks in job["ranks"].items()})
    networks = Networks()
    (name,) = linkage.stages_of(rank)
    module, stage = getattr(networks, name), networks.stages(name)[name]
    kept, done = folder / f"kept-{rank}.safetensors", 0
    if restarted:
        tensors = load_file(str(kept))
        done = int(tensors.pop("done"))
        moments = {key: tensors.pop(key) for key in list(tensors) if "|" in key}
        module.load_state_dict(tensors)
        restore_optimizer(module, stage.optimizer, moments)
    training = JointTraining(linkage, {name: stage}, GroupWire(timeout_s=20), done=done)
    while training.done < job["rounds"]:
        if training.done == job["at"] and rank == job["actor"] and not restarted:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            training.step(batch(training.done), n_samples=8)
        except ExchangeError:
            n_processes = dist.get_world_size()
            dist.destroy_process_group()
            _meet(folder / "meeting-again", rank, n_processes)
            training.rejoin(GroupWire(timeout_s=20))
        else:
            moments = optimizer_tensors(module, stage.optimizer)
            state = {**module.state_dict(), **moments, "done": torch.tensor(training.done)}
            save_file(state, str(kept))
    weights = {f"{name}.{key}": value for key, value in module.state_dict().items()}
    save_file(weights, str(folder / f"0-{rank}.safetensors"))


def _do(job: dict[str, Any], out: Path, rank: int) -> None:
    """Trains `rounds` rounds; at round `at` the process `actor` does what `act` says."""
    linkage = Linkage(INPUTS, {name: tuple(ranks) for name, ranks in job["ranks"].items()})
    networks = Networks(seed=job.get("seed", 0) + (rank if job.get("unlike") else 0))
    stages = networks.stages(*linkage.stages_of(rank))
    training = JointTraining(
        linkage,
        stages,
        GroupWire(timeout_s=job.get("timeout_s", 10.0)),
        dtype=job.get("dtype", "float32"),
    )
    losses, errors, seconds = [], [], []
    for round_ in range(job["rounds"]):
        rows, n_samples = _share(batch(round_), linkage, rank)
        if round_ == job.get("at") and rank == job["actor"]:
            _act(job["act"], rows, stages)
        before = _state(stages)
        begun = time.monotonic()
        try:
            losses.append(training.step(rows, n_samples=n_samples).loss)
        except ExchangeError as error:
            cause = type(error.__cause__).__name__ if error.__cause__ else None
            restored = all(torch.equal(x, y) for x, y in zip(before, _state(stages), strict=True))
            errors.append([error.subject, error.found, cause, restored])
            seconds.append(time.monotonic() - begun)
    kept = {k: v for k, v in networks.parameters().items() if k.split(".")[0] in stages}
    save_file(kept, str(out.with_suffix(".safetensors")))
    record = {"losses": losses, "errors": errors, "seconds": seconds, "done": training.done}
    out.with_suffix(".json").write_text(json.dumps(record))


def _state(stages):
    parameters = [p for stage in stages.values() for p in stage.parameters]
    slots = [
        value
        for stage in stages.values()
        for p in stage.parameters
        for _, value in sorted(stage.optimizer.state[p].items())
    ]
    return [tensor.detach().clone() for tensor in (*parameters, *slots)]


def _share(rows, linkage, rank):
    """Lane 0 of two takes 3 of 8 rows, lane 1 the others: shares are unequal."""
    if linkage.n_lanes == 1:
        return rows, 8
    cut = slice(0, 3) if linkage.lane_of(rank) == 0 else slice(3, None)
    return {name: values[cut] for name, values in rows.items()}, len(rows["head"][cut])


def _act(act: str, rows: dict[str, torch.Tensor], stages: dict[str, Stage]) -> None:
    if act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif act == "kill in its step":
        for stage in stages.values():
            stage.optimizer.register_step_pre_hook(lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    elif act == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif act == "nan":
        for name in ("image", "head"):
            rows[name][0] = float("nan")
    elif act == "raise":
        rows["text"] = rows["text"] + 100  # token ids that the embedding has not


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
