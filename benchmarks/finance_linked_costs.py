"""Time and peak memory of a training step with LoRA beside full tuning, on the same passages.

Steps of the two alternate; the figure is the median of the ratios of neighbours. Memory on a
CPU is the resident memory of a process of its own, Python and libraries included; on a GPU
what torch allocates at most.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.finance_linked_training import TextPlan
from common.backbones import load_backbone

__all__ = ["TrainingCosts", "measure_costs"]

_CALLS, _PASSAGES = 8, 8
_STEPS = {"cpu": 5, "cuda": 30}
_METHODS = ("lora", "full")


@dataclass(frozen=True)
class TrainingCosts:
    """LoRA's cost over full tuning's.

    Args:
        time_ratio: Median over pairs of steps.
        time_low: Smallest ratio.
        time_high: Largest ratio.
        memory_ratio: Of the peaks.
        step_seconds: Median of each method.
        peak_bytes: Of each method.
    """

    time_ratio: float
    time_low: float
    time_high: float
    memory_ratio: float
    step_seconds: Mapping[str, float]
    peak_bytes: Mapping[str, int]


def measure_costs(
    tokens: Sequence[Sequence[Sequence[int]]], base: Path | str, plan: TextPlan, device: str
) -> TrainingCosts:
    """Measures both methods on the calls with most passages."""
    calls = [call[:_PASSAGES] for call in sorted(tokens, key=len)[-_CALLS:]]
    peaks = {name: _peak_alone(name, calls, base, plan, device) for name in _METHODS}
    steppers = {name: _Stepper(name, calls, base, plan, device) for name in _METHODS}
    for stepper in steppers.values():
        stepper.step()
    seconds: dict[str, list[float]] = {name: [] for name in _METHODS}
    for turn in range(_STEPS[device]):
        for name in _METHODS if turn % 2 else reversed(_METHODS):
            seconds[name].append(steppers[name].step())
    ratios = np.array(seconds["lora"]) / np.array(seconds["full"])
    return TrainingCosts(
        time_ratio=float(np.median(ratios)),
        time_low=float(ratios.min()),
        time_high=float(ratios.max()),
        memory_ratio=peaks["lora"] / peaks["full"],
        step_seconds={name: float(np.median(times)) for name, times in seconds.items()},
        peak_bytes=peaks,
    )


class _Stepper:
    """A network with its optimiser and one batch."""

    def __init__(
        self, name: str, calls: Sequence[Any], base: Path | str, plan: TextPlan, device: str
    ) -> None:
        import torch

        from kits.finance.weights.scorer import PassageScorer

        torch.manual_seed(0)
        self.calls, self.device = calls, device
        self.scorer = PassageScorer(
            load_backbone(base),
            plan.method(name),
            n_outputs=4,
            seed=0,
            device=device,
            bfloat16=True,
        )
        self.optimiser = torch.optim.AdamW(self.scorer.trained, lr=1e-4)
        self.scorer.network.train()

    def step(self) -> float:
        """Makes a step and returns its seconds."""
        import torch

        draws = np.random.default_rng(0)
        start = time.perf_counter()
        rows = np.arange(len(self.calls))
        loss = ((self.scorer.draw(self.calls, rows, _PASSAGES, draws) - 1.0) ** 2).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimiser.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def _peak_alone(
    name: str, calls: Sequence[Any], base: Path | str, plan: TextPlan, device: str
) -> int:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_peak, args=((name, calls, base, plan, device), sender))
    process.start()
    sender.close()
    peak = int(receiver.recv())
    process.join()
    return peak


def _report_peak(setting: tuple[Any, ...], sender: Any) -> None:
    import torch

    device = setting[-1]
    stepper = _Stepper(*setting)
    for _ in range(2):
        stepper.step()
    if device == "cuda":
        sender.send(torch.cuda.max_memory_allocated())
        return
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    sender.send(1024 * int(line.split()[1]))  # proc(5): in KiB
