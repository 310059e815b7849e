"""The most memory that a side of `tuning.methods` takes while it steps.

On a CPU it is the resident memory of a process of its own that does nothing else, Python
and libraries included; on a GPU what torch allocates, the other sides left out.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

from benchmarks.tuning_sides import Base, Side, SideSpec, Workload, build_base, build_side

__all__ = ["peak_of_side"]

_STEPS = 3


def peak_of_side(side: Side, base: Base, workload: Workload) -> int:
    """Returns the peak in bytes over a few steps."""
    if workload.device == "cuda":
        return _peak_on_gpu(side, base)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_step_alone, args=(side.spec, workload, sender))
    process.start()
    sender.close()
    peak = int(receiver.recv())
    process.join()
    return peak


def _step_alone(spec: SideSpec, workload: Workload, sender: Any) -> None:
    side = build_side(spec, build_base(workload), workload)
    for _ in range(_STEPS):
        side.step()
    sender.send(_peak_resident_bytes())


def _peak_resident_bytes() -> int:
    """Returns the most memory that this program held; getrusage's figure begins at its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])  # proc(5): in KiB


def _peak_on_gpu(side: Side, base: Base) -> int:
    """What the side holds, its share of the base included, and what a step adds to that."""
    import torch

    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    side.step()
    torch.cuda.synchronize()
    held = {}
    for tensor in (*side.network.parameters(), *side.network.buffers()):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    if base.lm_head is not None:  # read by a language model, but not one of its parameters
        storage = base.lm_head.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
    states = 0 if side.optimiser is None else _state_bytes(side.optimiser)
    return int(sum(held.values()) + states + torch.cuda.max_memory_allocated() - before)


def _state_bytes(optimiser: Any) -> int:
    return sum(
        tensor.numel() * tensor.element_size()
        for state in optimiser.state.values()
        for tensor in state.values()
        if hasattr(tensor, "numel")
    )
