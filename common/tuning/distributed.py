"""One run on several processes: each computes its share of every global batch.

`run_distributed` finds out how this process was started and gives the job its ranks:

- under `torchrun` (RANK, WORLD_SIZE and LOCAL_RANK are set) it joins the group, on one
  machine or on several;
- started plainly on a machine with several GPUs, or asked for a number of processes, it
  spawns them (`common.tuning.processes`) and returns the first one's result;
- started plainly with one device, it runs the job here.

Gradients are averaged by torch's DistributedDataParallel (Li et al. 2020, arXiv
2006.15704), over NCCL between GPUs and over Gloo between CPUs. The loop multiplies each
rank's summed loss by `world_size` over the *global* count, so the average is the gradient
of one process with the whole batch, however unequal the shares are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.errors import TuningError
from common.tuning.loop import OneProcess, Ranks
from common.tuning.processes import Spawned, require_main_guard, run_spawned

if TYPE_CHECKING:
    from common.tuning.batches import Batch

__all__ = ["SeveralProcesses", "SharedNetwork", "join_group", "run_distributed", "run_rank"]

T = TypeVar("T")
DeviceKind = Literal["cpu", "cuda"]

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Buffers are constants here, and equal. torch 2.13 renamed the setting.
_KNOWN = signature(nn.parallel.DistributedDataParallel).parameters
_NO_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _KNOWN else "broadcast_buffers": False
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeveralProcesses:
    """This process among those that share a run; its group stands already.

    Args:
        rank: This process, from 0.
        world_size: How many there are, at least 2.
        device: Where this process computes.
    """

    rank: int
    world_size: int
    device: torch.device

    def wrap(self, network: nn.Module) -> SharedNetwork:
        """Returns `network` so that backward averages gradients over the processes.

        Trained parameters start as the first process holds them. What is frozen is not
        sent: every process has loaded it from the same files.

        Raises:
            TuningError: The processes train parameters of other names or shapes.
        """
        trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
        shapes = repr([(name, tuple(p.shape), str(p.dtype)) for name, p in trained.items()])
        mine = sha256(shapes.encode()).hexdigest()
        if self.total([float(self.agree(mine) != mine)])[0]:
            raise TuningError(
                "distributed run",
                expected="the same trained parameters on every process",
                found="others on some of them",
                remedy="Start every process with the same model, method and settings.",
            )
        for parameter in trained.values():
            dist.broadcast(parameter.data, src=0)
        return SharedNetwork(network, self)

    def without_sync(self, wrapped: nn.Module) -> AbstractContextManager[object]:
        """Keeps gradients local inside the context, for all but the last pass of a step."""
        return wrapped.without_sync() if isinstance(wrapped, SharedNetwork) else nullcontext()

    def total(self, values: Sequence[float]) -> list[float]:
        """Returns each value summed over the processes in float64, the same on all of them."""
        sums = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        if len(values):
            dist.all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def agree(self, text: str) -> str:
        """Returns the first process's `text` on all of them."""
        content = text.encode()
        size = torch.tensor([len(content)], device=self.device)
        dist.broadcast(size, src=0)
        characters = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        if self.rank == 0 and content:
            characters.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        if int(size):
            dist.broadcast(characters, src=0)
        return bytes(characters.tolist()).decode()

    def wait(self) -> None:
        """Returns when all processes have come here."""
        self.total([0.0])


class SharedNetwork(nn.Module):
    """A network whose gradients are averaged over the processes.

    DistributedDataParallel is made at the first batch, when it is known whether every
    trained parameter takes part in the loss (BERT's pooler does not). It then makes one
    pass whose gradients are thrown away, after which its order of summation stays the
    same for good: a resumed run adds up in the same order as an uninterrupted one, and
    so ends with the same bits.

    Args:
        network: Takes a batch, returns the summed loss and its count.
        ranks: The processes that share it.
    """

    def __init__(self, network: nn.Module, ranks: SeveralProcesses) -> None:
        super().__init__()
        self.network = network
        self.ranks = ranks
        self._shared: nn.parallel.DistributedDataParallel | None = None
        self._sync = True

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns what the network returns; backward then averages the gradients."""
        if self._shared is None:
            self._shared = self._share(batch)
        with nullcontext() if self._sync else self._shared.no_sync():
            outputs: tuple[Tensor, Tensor] = self._shared(batch)
        return outputs

    @contextmanager
    def without_sync(self) -> Iterator[None]:
        """Keeps gradients local inside the context."""
        self._sync = False
        try:
            yield
        finally:
            self._sync = True

    def _share(self, batch: Batch) -> nn.parallel.DistributedDataParallel:
        # dynamo would cut compiled blocks along buckets; they are small enough as they are
        torch._dynamo.config.optimize_ddp = False
        devices = [self.ranks.device] if self.ranks.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            unused = not _reaches_all(self.network, batch)
            unused = unused or any("expert" in name for name, _ in self.network.named_modules())
            shared = nn.parallel.DistributedDataParallel(
                self.network,
                # frozen weights may be of types that no backend sends; `wrap` sent the rest
                init_sync=False,
                **_NO_BUFFERS,
                gradient_as_bucket_view=True,
                find_unused_parameters=bool(self.ranks.total([float(unused)])[0]),
            )
            shared(batch)[0].mul(0.0).backward()
        for parameter in self.network.parameters():
            parameter.grad = None
        return shared


def run_distributed(
    job: Callable[[Ranks], T],
    *,
    n_processes: int | None = None,
    device: str | None = None,
    timeout_s: float = 1800.0,
) -> T:
    """Runs `job` once on every process and returns its result.

    Under `torchrun` every process returns its own result. Spawned ones are other
    programs: `job` and its result are pickled, the first process's result is returned,
    and none of them is left when this function returns or raises.

    Args:
        job: What each process does; a module's function, or an object that pickle can
            carry. Objects of classes that the started script itself defines need the
            script to have an `if __name__ == "__main__":` guard.
        n_processes: How many; one for each GPU without it, or one on the CPU.
        device: "cpu" or "cuda"; GPUs without it, if there are any.
        timeout_s: Longest time that one process waits for another.

    Raises:
        TuningError: The processes cannot be started as asked, or one of them failed.
        TandemError: The job raised it on one of them.
    """
    require_main_guard()
    if n_processes is not None and n_processes < 1:
        raise _unusable("n_processes of at least 1", str(n_processes), "Ask for one or more.")
    kind = _kind(device)
    if dist.is_available() and dist.is_initialized():
        return job(_ranks_of_group(kind))
    if _is_launched(os.environ):
        with _join_launched(os.environ, kind, n_processes, timeout_s) as ranks:
            return job(ranks)
    n_devices = torch.cuda.device_count() if kind == "cuda" else 1
    wanted = n_processes or n_devices
    if kind == "cuda" and wanted > n_devices:
        raise _unusable(f"at most {n_devices} processes, one per GPU", str(wanted), _FEWER)
    if wanted == 1:
        _log.info("ddp: one process, for %s", "this CPU" if kind == "cpu" else "the one GPU")
        return job(OneProcess(torch.device(kind)))
    _log.info("ddp: %d processes on %s", wanted, kind)
    threads = max(1, torch.get_num_threads() // wanted)
    result: T = run_spawned(Spawned(job, wanted, kind, timeout_s, threads))
    return result


_FEWER = "Ask for fewer processes, or leave the number out."


def run_rank(spawned: Spawned, rank: int, meeting: str) -> object:
    """Runs a spawned job as `rank`; the processes find each other through a file.

    Args:
        spawned: The job and how many processes share it.
        rank: This process.
        meeting: Path of a file that is not there yet.
    """
    torch.set_num_threads(spawned.n_threads)
    with join_group(
        rank,
        spawned.n_processes,
        device=_device(spawned.device, rank),
        timeout_s=spawned.timeout_s,
        meeting=f"file://{meeting}",
    ) as ranks:
        return spawned.job(ranks)


@contextmanager
def join_group(
    rank: int,
    world_size: int,
    *,
    device: torch.device,
    timeout_s: float,
    meeting: str = "env://",
) -> Iterator[Ranks]:
    """Makes this process one of `world_size`; the group ends with the context.

    Args:
        rank: This process, from 0.
        world_size: How many there are.
        device: Where it computes: NCCL on a GPU, Gloo on a CPU.
        timeout_s: Longest time that one process waits for another.
        meeting: Where they find each other, as a URL; torchrun's variables say it without.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        rank=rank,
        world_size=world_size,
        init_method=meeting,
        timeout=timedelta(seconds=timeout_s),
        device_id=device if on_gpu else None,
    )
    yield SeveralProcesses(rank, world_size, device)
    # only after a good end: after a failure it would wait for processes that are gone
    dist.destroy_process_group()


@contextmanager
def _join_launched(
    environment: Mapping[str, str], kind: DeviceKind, n_processes: int | None, timeout_s: float
) -> Iterator[Ranks]:
    """Joins the group that torchrun's variables describe."""
    absent = [name for name in _LAUNCHED if not environment.get(name)]
    if absent:
        raise _unusable(
            f"all of {', '.join(_LAUNCHED)}, as torchrun sets them",
            f"no {', '.join(absent)}",
            "Start with torchrun, or unset RANK and WORLD_SIZE.",
        )
    rank, world_size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    if n_processes not in {None, world_size}:
        raise _unusable(f"the {world_size} processes of torchrun", str(n_processes), _FEWER)
    device = _device(kind, int(environment["LOCAL_RANK"]))
    if world_size == 1:
        _log.info("ddp: one process, as torchrun started it")
        yield OneProcess(device)
        return
    with join_group(rank, world_size, device=device, timeout_s=timeout_s) as ranks:
        yield ranks


def _kind(device: str | None) -> DeviceKind:
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return "cpu"
    if name == "cuda":
        return "cuda"
    remedy = "Name the kind of device only: every process takes one of its own."
    raise _unusable('device "cpu" or "cuda"', repr(name), remedy)


def _is_launched(environment: Mapping[str, str]) -> bool:
    return "RANK" in environment and "WORLD_SIZE" in environment


def _device(kind: DeviceKind, local_rank: int) -> torch.device:
    if kind == "cpu":
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} GPUs for local rank {local_rank}"
        raise _unusable("one GPU for each process of a machine", found, _FEWER)
    return torch.device("cuda", local_rank)


def _ranks_of_group(kind: DeviceKind) -> Ranks:
    """Returns this process's place in a group that the caller has made."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    device = _device("cpu" if dist.get_backend() == "gloo" else kind, local_rank)
    return OneProcess(device) if world_size == 1 else SeveralProcesses(rank, world_size, device)


def _reaches_all(network: nn.Module, batch: Batch) -> bool:
    """Tells whether the loss depends on every trained parameter, by walking its graph."""
    loss: Tensor = network(batch)[0]
    reached: set[int] = set()
    seen, waiting = {loss.grad_fn}, [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        leaf = getattr(node, "variable", None)  # only where a parameter's gradient ends up
        if leaf is not None:
            reached.add(id(leaf))
        new = [following for following, _ in node.next_functions if following not in seen]
        seen.update(new)
        waiting += new
    return all(id(p) in reached for p in network.parameters() if p.requires_grad)


def _unusable(expected: str, found: str, remedy: str) -> TuningError:
    return TuningError("distributed run", expected=expected, found=found, remedy=remedy)
