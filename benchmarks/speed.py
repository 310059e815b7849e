"""`speed.training`: what precision, compilation and checkpointing do to a training step.

Rows, by their fields: `dataset` is "<shape> <rows>x<tokens>"; `name` is the side: "peer lora"
(transformers + peft, LoRA r16 on all linear layers, adapters in bfloat16 like the base;
" fp32 adapters" as peft makes them by itself; " compiled fp8" with compiled layers and
torchao's FP8 under the adapters), "full ..." (all weights and AdamW's state in bfloat16;
eager with the model's own loss, compiled with ours in chunks), and ours, "<method>
<precision>[ compiled][ checkpointed]", adapters in float32; "lora auto" is the side whose
precision `precision="auto"` chose, and has that side's figures; `metric`:

- "step time" (ms) and "training speed" (tokens/s);
- "speed against peer" (larger is better) and "memory against peer" (smaller is better);
- "peak memory" (GiB) that torch allocated for the side in a step, on a GPU; on a CPU
  "kept activations" (MiB), what the forward pass keeps for the backward pass;
- "share of the limit": 4 x parameters (6 x in full tuning) x tokens/s over the bfloat16
  products that this GPU was measured to make, 790 TFLOP/s; FP8 may pass 1;
- "loss after <n> steps" of the same 200 batches from the same weights, mean of the last 20.

Intervals are quartiles over rounds in which every side makes some steps in turn; those of
a loss are the smallest and largest over the seeds of its batches.
"""

from __future__ import annotations

import gc
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.interleaved import interleave, ratio, spread
from benchmarks.paired import Interval
from benchmarks.suite import Outcome, Role, Row, Verdict

__all__ = ["training"]

_CONFIG = Path(__file__).parent / "configs" / "speed.training.json"
_LOGGER = logging.getLogger(__name__)
_BF16_FLOPS = 790e12  # measured on the H200 with 8192 x 8192 x 8192 products
_PEER, _OURS = "peer lora", "lora fp8 compiled"
# Headline -> smallest or largest value that the issue sets as its target.
_AT_LEAST = {
    "lora_ratio_1b": 1.7,
    "lora_ratio_3b": 2.0,
    "bottleneck_ratio_1b": 1.0,
    "bottleneck_ratio_3b": 1.0,
    "full_fp8_ratio": 1.27,
    "auto_ratio": 0.98,
}
_AT_MOST = {
    "lora_memory_ratio_1b": 0.6,
    "lora_memory_ratio_3b": 0.6,
    "checkpoint_memory_ratio": 0.5,
    "checkpoint_time_ratio": 1.35,
    "loss_ratio_200": 1.01,
}


def training(data: Path | None, *, quick: bool) -> Outcome:  # noqa: ARG001  # needs no data
    """Measures `speed.training` on this machine's device.

    Args:
        data: Not read.
        quick: A small shape and two rounds, for a look.
    """
    import torch

    from benchmarks.speed_losses import compare_losses

    device = "cuda" if torch.cuda.is_available() else "cpu"
    plan = json.loads(_CONFIG.read_text(encoding="utf-8"))["quick" if quick else device]
    if device == "cpu":
        torch.set_num_threads(plan["threads"])
    measured, left_out = _measure_groups(plan, device)
    rows = [row for group in measured for row in group.rows(device)]
    headlines = _headlines(measured)
    loss = plan["loss"]
    losses = [compare_losses(loss, device, seed=seed) for seed in loss["seeds"]]
    headlines["loss_ratio_200"] = statistics.mean(ours / peer for peer, ours in losses)
    label = f"{loss['shape']}, {loss['layers']} layers"
    metric = f"loss after {loss['steps']} steps"
    sides: tuple[tuple[str, Role], ...] = ((_PEER, "peer"), (loss["ours"], "ours"))
    for (name, role), found in zip(sides, zip(*losses, strict=True), strict=True):
        middle = statistics.mean(found)
        rows.append(Row(name, label, metric, middle, min(found), max(found), "nats", role))
    return Outcome(
        rows=rows,
        headlines=headlines,
        verdict=_verdict(headlines),
        note=_note(headlines, left_out),
        config=plan,
        seeds=loss["seeds"],
    )


@dataclass(frozen=True)
class _Group:
    """What was read of one group of sides on one shape: seconds and memory, by side."""

    work: Any
    seconds: Mapping[str, Sequence[float]]
    memory: Mapping[str, float]
    notes: Mapping[str, str] = field(default_factory=dict)

    def speed(self, name: str, other: str) -> Interval:
        return ratio(self.seconds[other], self.seconds[name])

    def tokens_per_second(self, name: str) -> Interval:
        time_ms = spread(self.seconds[name])
        values = (1000 * self.work.n_tokens / t for t in (time_ms.value, time_ms.high, time_ms.low))
        return Interval(*values)

    def limit_share(self, name: str) -> float:
        operations = 6 if name.startswith("full") else 4
        per_token = operations * _count_multiplied(self.work)
        return per_token * self.tokens_per_second(name).value / _BF16_FLOPS

    def rows(self, device: str) -> list[Row]:
        dataset = f"{self.work.shape.name} {self.work.batch}x{self.work.length}"
        rows: list[Row] = []

        def add(name: str, metric: str, value: Interval | float, unit: str) -> None:
            role: Role = "peer" if name.startswith("peer") else "ours"
            if name == "full bf16":
                role = "control"
            at = value if isinstance(value, Interval) else Interval(value, value, value)
            source = f"this run; {self.notes[name]}" if name in self.notes else "this run"
            rows.append(Row(name, dataset, metric, at.value, at.low, at.high, unit, role, source))

        for name in self.seconds:
            add(name, "step time", spread(self.seconds[name]), "ms")
            add(name, "training speed", self.tokens_per_second(name), "tokens/s")
            on_gpu = device == "cuda"
            metric = "peak memory" if on_gpu else "kept activations"
            add(name, metric, self.memory[name], "GiB" if on_gpu else "MiB")
            if _PEER in self.seconds and name != _PEER:
                add(name, "speed against peer", self.speed(name, _PEER), "1")
                share = self.memory[name] / self.memory[_PEER]
                add(name, "memory against peer", share, "1")
            if on_gpu:
                add(name, "share of the limit", self.limit_share(name), "1")
        return rows


def _measure_groups(plan: Mapping[str, Any], device: str) -> tuple[list[_Group], list[str]]:
    """Measures the groups in their order until the time is up; names what was left out."""
    started = time.monotonic()
    measured: list[_Group] = []
    left_out: list[str] = []
    for entry in plan["groups"]:
        if time.monotonic() - started > plan["seconds"]:
            left_out += [f"{entry['shape']} {name}" for name in entry["sides"]]
            continue
        group, failed = _measure(entry, device, plan)
        measured += [group] if group.seconds else []
        left_out += failed
    return measured, left_out


def _measure(
    entry: Mapping[str, Any], device: str, plan: Mapping[str, Any]
) -> tuple[_Group, list[str]]:
    """Builds a group's sides, keeps them all, and times them in turn."""
    import torch

    from benchmarks.speed_sides import Side, record_peak, release, work_of

    torch._dynamo.reset()
    torch._dynamo.config.automatic_dynamic_shapes = False  # each shape is compiled for itself
    torch._dynamo.config.recompile_limit = 64
    work = work_of(entry, device, plan.get("layers"))
    sides: dict[str, Side] = {}
    notes: dict[str, str] = {}
    failed: list[str] = []
    chosen: dict[str, str] = {}  # "lora auto" -> the side that it is
    for name in entry["sides"]:
        if name.endswith(" auto"):
            choice = _choose(work)
            chosen[name] = f"lora {choice.name}{' compiled' if choice.compiled else ''}"
            notes[name] = choice.reason
    for name in dict.fromkeys([*entry["sides"], *chosen.values()]):
        if name in chosen:
            continue
        try:
            sides[name] = record_peak(partial(_build, name, work))
        except (RuntimeError, ImportError, AttributeError, TypeError, ValueError) as error:
            failed.append(f"{entry['shape']} {name} ({type(error).__name__})")
            _LOGGER.warning("%s left out: %s", name, str(error)[:2000])
        else:
            _LOGGER.warning("%s %s: %.2f GiB", entry["shape"], name, sides[name].peak_gib)
    wait: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None
    seconds = _time(sides, plan["rounds"], plan["burst"], wait)
    memory = {
        name: side.peak_gib if device == "cuda" else _kept_mib(side) for name, side in sides.items()
    }
    release(list(sides.values()))
    for name, side_chosen in chosen.items():
        if side_chosen in seconds:
            seconds[name], memory[name] = seconds[side_chosen], memory[side_chosen]
    for name, times in seconds.items():
        _LOGGER.warning("%s %s: %.1f ms", entry["shape"], name, spread(times).value)
    return _Group(work, seconds, memory, notes), failed


def _time(
    sides: Mapping[str, Any], rounds: int, burst: int, wait: Callable[[], object]
) -> dict[str, list[float]]:
    """Returns the seconds of a step in each round, in which every side makes `burst` steps.

    A burst, because a GPU that a heavy neighbour has heated takes some steps to recover.
    """

    def steps(side: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(burst):
                side.step()

        return run

    gc.collect()
    gc.freeze()  # else collections walk through every network at hand, in the midst of steps
    runs = {name: steps(side) for name, side in sides.items()}
    seconds = interleave(runs, rounds=rounds, wait=wait) if runs else {}
    gc.unfreeze()
    return {name: [second / burst for second in times] for name, times in seconds.items()}


def _build(name: str, work: Any) -> Any:
    """Returns the side called `name`; its words say what it is."""
    from benchmarks.speed_sides import full_side, our_side, peer_side
    from common.adapters.methods import Bottleneck
    from common.tuning.precision import PrecisionChoice, PrecisionName

    words = name.split()
    compiled, float8 = "compiled" in words, "fp8" in words
    checkpointed = "checkpointed" in words
    if words[0] == "peer":
        adapters: Literal["fp32", "bf16"] = "fp32" if "fp32" in words else "bf16"
        return peer_side(name, work, compiled=compiled, float8=float8, adapters=adapters)
    if words[0] == "full":
        return full_side(
            name,
            work,
            compiled=compiled,
            float8=float8,
            checkpointed=checkpointed,
            chunked=compiled,
        )
    names: tuple[PrecisionName, ...] = ("fp32", "bf16", "fp8")
    precision = next(name for name in names if name in words)
    choice = PrecisionChoice(precision, compiled, "as the row says")
    method = Bottleneck(size=64) if words[0] == "bottleneck" else None
    return our_side(name, work, choice, method=method, checkpointed=checkpointed)


def _choose(work: Any) -> Any:
    """Returns what `precision="auto"` makes of the LoRA network, which starts in float32."""
    import torch

    from benchmarks.speed_sides import our_batch, our_network
    from common.tuning.precision import choose_precision

    return choose_precision(
        "auto",
        network=our_network(work, dtype=torch.float32),
        batch=our_batch(work.tokens()),
        device=work.device,
    )


def _count_multiplied(work: Any) -> int:
    """Returns the parameters that every token is multiplied with: all but the embedding."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(work.shape.config(**work.changes))
    total: int = sum(parameter.numel() for parameter in model.parameters())
    tied = bool(model.config.tie_word_embeddings)
    embedding: int = model.get_input_embeddings().weight.numel()
    return total if tied else total - embedding


def _kept_mib(side: Any) -> float:
    """Returns the MiB of tensors, parameters apart, that a step keeps for its backward pass."""
    import torch

    weights = {parameter.untyped_storage().data_ptr() for parameter in side.network.parameters()}
    kept: dict[int, Any] = {}  # the storages themselves, so that none is used again meanwhile

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        side.step()
    return float(sum(storage.nbytes() for storage in kept.values()) / 2**20)


def _headlines(measured: Sequence[_Group]) -> dict[str, float]:
    found: dict[str, float] = {}
    for group in measured:
        size = {"llama-1.1b": "_1b", "llama-3b": "_3b"}.get(group.work.shape.name, "")
        found |= _adapter_headlines(group, size)
        found |= _checkpoint_headlines(group)
        if {"full fp8 compiled", "full bf16 compiled"} <= set(group.seconds):
            found["full_fp8_ratio"] = group.speed("full fp8 compiled", "full bf16 compiled").value
        if "lora auto" in group.seconds:
            against = _auto_ratio(group)
            found["auto_ratio"] = min(found.get("auto_ratio", against), against)
    return found


def _adapter_headlines(group: _Group, size: str) -> dict[str, float]:
    """Returns our fastest LoRA against the peer, and the bottleneck against our LoRA."""
    names = set(group.seconds)
    found: dict[str, float] = {}
    ours = next((name for name in (_OURS, "lora fp32") if name in names), None)
    if ours is None:
        return found
    if _PEER in names:
        found[f"lora_ratio{size}"] = group.speed(ours, _PEER).value
        found[f"lora_memory_ratio{size}"] = group.memory[ours] / group.memory[_PEER]
    for name in names & {"bottleneck fp8 compiled", "bottleneck fp32"}:
        found[f"bottleneck_ratio{size}"] = group.speed(name, ours).value
    if "lora bf16 compiled" in names and ours == _OURS:
        key = f"lora_fp8_base_ratio{'' if size == '_3b' else size}"
        found[key] = group.speed(ours, "lora bf16 compiled").value
    if ours == _OURS:
        found[f"limit_share{size}"] = group.limit_share(ours)
    return found


def _checkpoint_headlines(group: _Group) -> dict[str, float]:
    found: dict[str, float] = {}
    for base in (_OURS, "lora fp32", "full bf16"):
        recomputed = f"{base} checkpointed"
        if {base, recomputed} <= set(group.seconds):
            key = "full_checkpoint" if base.startswith("full") else "checkpoint"
            found[f"{key}_memory_ratio"] = group.memory[recomputed] / group.memory[base]
            found[f"{key}_time_ratio"] = 1 / group.speed(recomputed, base).value
    return found


def _auto_ratio(group: _Group) -> float:
    """Returns the speed of what "auto" chose over that of the fastest precision."""
    rivals = [
        name
        for name in group.seconds
        if name.startswith("lora ") and not name.endswith(("auto", "checkpointed"))
    ]
    fastest = min(rivals, key=lambda name: spread(group.seconds[name]).value)
    return group.speed("lora auto", fastest).value


def _missed(headlines: Mapping[str, float]) -> list[str]:
    low = [k for k, target in _AT_LEAST.items() if k in headlines and headlines[k] < target]
    high = [k for k, target in _AT_MOST.items() if k in headlines and headlines[k] > target]
    return sorted(low + high)


def _verdict(headlines: Mapping[str, float]) -> Verdict:
    """Exceeded: every target measured here is met; reproduced: the speeds are."""
    missed = _missed(headlines)
    speeds = [key for key in missed if key.startswith(("lora_ratio", "full_fp8"))]
    if not missed:
        return "exceeded"
    return "not shown" if speeds else "reproduced"


def _note(headlines: Mapping[str, float], left_out: Sequence[str]) -> str:
    missed = [f"{key} {headlines[key]:.3g}" for key in _missed(headlines)]
    text = f"Missed targets: {', '.join(missed)}." if missed else "Every target measured is met."
    return f"{text} Left out: {', '.join(left_out)}." if left_out else text
