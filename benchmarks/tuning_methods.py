"""`tuning.methods`: the article's table 2.1 (what each tuning method costs) with our columns.

Rows, by their fields: `name` is the side ("full", "lora q,v r8", "lora all-linear r16",
"prefix 16", "prefix 32", "prefix 16 zero gate", "bottleneck pfeiffer 64", "... houlsby 64",
"... parallel 64", "base forward", "peft <the same>"; " merged" behind it where the update is
in the weights); `dataset` is "<shape> <rows>x<tokens>", with " compiled" behind it; `metric`:

- "parameters" and "parameter share": trained, counted from the shape, without the head;
- "step time" (ms) and "step speed against full" (larger is better), "step speed against
  peft" where peft has the configuration;
- "latency" (ms) and "latency against base" (smaller is better) of the batch, no gradient;
- "peak memory" (MiB) and "peak memory against full": of the whole process on a CPU, of
  what torch allocated on a GPU;
- "accuracy" on a task (`dataset` "<task>@<rows>") after the same budget, MiniLM.

Intervals are quartiles over rounds in which every side makes one step in turn; those of
accuracy are 95% over test rows and seeds. Batches are full: no padding.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.interleaved import interleave, ratio, spread
from benchmarks.paired import Interval
from benchmarks.process_memory import peak_of_side
from benchmarks.shapes import SHAPES
from benchmarks.suite import Outcome, Row, Verdict
from benchmarks.tuning_quality import quality_rows
from benchmarks.tuning_sides import (
    SIDES,
    Base,
    Side,
    SideSpec,
    Workload,
    build_base,
    build_side,
    compile_side,
    count_share,
    merged,
)

__all__ = ["methods"]

_CONFIG = Path(__file__).parent / "configs" / "tuning.methods.json"
_LORA = ("lora q,v r8", "lora all-linear r16")
_MIB = 2**20
# The article's table 2.1: share of parameters, training speed, inference time.
_ARTICLE = {"LoRA": (0.007, 1.15, 1.03), "Prefix": (0.003, 1.25, 1.08)}
_TARGETS = {"lora_step_ratio": 1.6, "prefix_step_ratio": 1.6, "bottleneck_step_ratio": 1.8}
_HEADLINE_SIDES = {
    "lora_step_ratio": "lora q,v r8",
    "prefix_step_ratio": "prefix",
    "bottleneck_step_ratio": "bottleneck pfeiffer 64",
}


def methods(data: Path | None, *, quick: bool) -> Outcome:
    """Measures `tuning.methods` on this machine's device.

    Args:
        data: Folder of the open data sets, for the quality rows; TANDEM_DATA without it.
            Without either, and on a GPU (see `tuning.crossover`), they are left out.
        quick: One small shape and two rounds, for a look.
    """
    import torch

    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plan = config["quick" if quick else device]
    if device == "cpu":
        torch.set_num_threads(plan["threads"])
    measured = [m for entry in plan["workloads"] for m in _measure(entry, device, plan["rounds"])]
    rows = [row for m in measured for row in m.rows()]
    folder = data or (Path(os.environ["TANDEM_DATA"]) if "TANDEM_DATA" in os.environ else None)
    if folder is not None and device == "cpu":
        rows += quality_rows(folder, config["quality"], quick=quick)
    headlines = _headlines({m.workload.name: m for m in measured}, plan["headline"])
    return Outcome(
        rows=[*rows, *_article_rows()],
        headlines=headlines,
        verdict=_verdict(headlines),
        note=_note(headlines, plan["headline"]),
        config={
            **plan,
            "quality": config["quality"],
            "dropout": "as in each shape's configuration",
        },
    )


@dataclass(frozen=True)
class _Measured:
    """What was read of one workload: seconds by side, memory in bytes by side."""

    workload: Workload
    specs: Sequence[SideSpec]
    counts: Mapping[str, tuple[int, float]]
    steps: Mapping[str, Sequence[float]]
    answers: Mapping[str, Sequence[float]]
    peaks: Mapping[str, int]

    def rows(self) -> Iterator[Row]:
        for spec in self.specs:
            yield from self._side_rows(spec)
        for name in self.answers:
            if name.endswith(" merged"):
                yield from self._latency_rows(SideSpec(name, "ours"))

    def speed(self, name: str, other: str = "full") -> Interval:
        return ratio(self.steps[other], self.steps[name])

    def latency(self, name: str) -> Interval:
        return ratio(self.answers[name], self.answers["base forward"])

    def _side_rows(self, spec: SideSpec) -> Iterator[Row]:
        count, share = self.counts[spec.name]
        yield self._row(spec, "parameters", _exact(count))
        yield self._row(spec, "parameter share", _exact(share))
        yield self._row(spec, "step time", spread(self.steps[spec.name]), "ms")
        yield self._row(spec, "step speed against full", self.speed(spec.name))
        if f"peft {spec.name}" in self.steps:
            against = self.speed(spec.name, f"peft {spec.name}")
            yield self._row(spec, "step speed against peft", against)
        if spec.name in self.peaks:
            peak = self.peaks[spec.name]
            yield self._row(spec, "peak memory", _exact(peak / _MIB), "MiB")
            yield self._row(spec, "peak memory against full", _exact(peak / self.peaks["full"]))
        yield from self._latency_rows(spec)

    def _latency_rows(self, spec: SideSpec) -> Iterator[Row]:
        if spec.name in self.answers:
            yield self._row(spec, "latency", spread(self.answers[spec.name]), "ms")
            yield self._row(spec, "latency against base", self.latency(spec.name))

    def _row(self, spec: SideSpec, metric: str, interval: Interval, unit: str = "1") -> Row:
        value, low, high = interval.value, interval.low, interval.high
        return Row(spec.name, self.workload.name, metric, value, low, high, unit, spec.role)


def _measure(entry: Mapping[str, Any], device: str, rounds: int) -> Iterator[_Measured]:
    """Measures one workload, and again with the blocks compiled where the plan says so."""
    workload = Workload(SHAPES[entry["shape"]], entry["batch"], entry["length"], device)
    chosen = entry.get("sides", [spec.name for spec in SIDES])
    specs = [spec for spec in SIDES if spec.name in chosen]
    base = build_base(workload)
    sides = {}
    for spec in specs:
        sides[spec.name] = build_side(spec, base, workload)
        sides[spec.name].step()
    yield _timed(workload, base, sides, rounds, with_memory=entry.get("memory", device == "cuda"))
    names = entry.get("compiled", [])
    if names:
        workload = replace(workload, compiled=True)
        sides = {name: sides[name] for name in names}
        _let_go()
        for side in sides.values():
            compile_side(side)
            side.step()
        yield _timed(workload, base, sides, rounds, with_memory=True)
    del base, sides
    _let_go()


def _timed(
    workload: Workload, base: Base, sides: Mapping[str, Side], rounds: int, *, with_memory: bool
) -> _Measured:
    wait = _waiter(workload.device)
    steps = interleave({n: s.step for n, s in sides.items()}, rounds=rounds, wait=wait)
    answers: dict[str, list[float]] = {}
    if not workload.compiled:
        answers = _answers(workload, base, sides, rounds)
    peaks: dict[str, int] = {}
    if with_memory:
        peaks = {name: peak_of_side(side, base, workload) for name, side in sides.items()}
    return _Measured(
        workload=workload,
        specs=[side.spec for side in sides.values()],
        counts={name: count_share(side.spec, base) for name, side in sides.items()},
        steps=steps,
        answers=answers,
        peaks=peaks,
    )


def _answers(
    workload: Workload, base: Base, sides: Mapping[str, Side], rounds: int
) -> dict[str, list[float]]:
    """Times the batch without a gradient: base, adapters, and LoRA merged."""
    answering = {n: s for n, s in sides.items() if not s.spec.plain and n != "full"}
    for name in _LORA:
        if name in sides:
            answering[f"{name} merged"] = merged(sides[name], base, workload)
    wait = _waiter(workload.device)
    return interleave({n: s.answer for n, s in answering.items()}, rounds=rounds, wait=wait)


def _waiter(device: str) -> Any:
    import torch

    return torch.cuda.synchronize if device == "cuda" else lambda: None


def _let_go() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _exact(value: float) -> Interval:
    return Interval(value, value, value)


def _headlines(measured: Mapping[str, _Measured], name: str) -> dict[str, float | None]:
    at, compiled = measured[name], measured.get(f"{name} compiled")
    found: dict[str, float | None] = {}
    for key, side in _HEADLINE_SIDES.items():
        names = [spec.name for spec in at.specs if spec.name.startswith(side)]
        found[key] = at.speed(names[0]).value if names else None
    against = [at.speed(n, f"peft {n}").value for n in _LORA if f"peft {n}" in at.steps]
    found["lora_vs_peft"] = min(against, default=None)
    found["bottleneck_vs_full_compiled"] = (
        compiled.speed("bottleneck pfeiffer 64").value if compiled else None
    )
    found["lora_memory_ratio"] = at.peaks[_LORA[0]] / at.peaks["full"] if at.peaks else None
    for key, ending in (("merged_latency_ratio", " merged"), ("unmerged_latency_ratio", "")):
        found[key] = max(at.latency(n + ending).value for n in _LORA)
    return found


def _verdict(headlines: Mapping[str, float | None]) -> Verdict:
    """Exceeded: all targets; reproduced: the article's training speeds of both methods."""
    against_peft = headlines["lora_vs_peft"] or 0.0
    if against_peft >= 1 and all((headlines[k] or 0.0) >= v for k, v in _TARGETS.items()):
        return "exceeded"
    article = {"lora_step_ratio": "LoRA", "prefix_step_ratio": "Prefix"}
    holds = [(headlines[key] or 0.0) >= _ARTICLE[name][1] for key, name in article.items()]
    return "reproduced" if all(holds) else "not shown"


def _note(headlines: Mapping[str, float | None], where: str) -> str:
    parts = [f"{key} {value:.2f}" for key, value in headlines.items() if value is not None]
    return (
        f"At {where}: {', '.join(parts)}; targets of a step against full: 1.6 LoRA, 1.6 prefix, "
        "1.8 bottleneck. Latency headlines are of the slower LoRA configuration."
    )


def _article_rows() -> Iterator[Row]:
    for name, (share, speed, latency) in _ARTICLE.items():
        source = "the source article, table 2.1"
        figures = (
            ("parameter share", share),
            ("step speed against full", speed),
            ("latency against base", latency),
        )
        for metric, value in figures:
            yield Row(name, "article", metric, value, value, value, "1", "published", source)
