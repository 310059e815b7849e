"""What the router itself costs, beside the bare call of the same model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.suite import Outcome, Role, Row
from common.models.base import ModelProfile
from common.routing import ModelRouter
from common.routing.cache import ResultCache
from common.task import Result, Task, Text

__all__ = ["router"]


class _Length:
    """The cheapest real model: the text's length, so that what is timed is the router."""

    profile = ModelProfile(name="length", modality="text", digest="1")

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        return [Result(values={"length": len(str(task.parts["text"]))}) for task in tasks]


def router(_data: Path | None, *, quick: bool) -> Outcome:
    """Measures `serving.router`: one routed call, one cache hit, one bare call; interleaved.

    Args:
        _data: Not used; the texts are made here.
        quick: 200 repetitions in place of 2,000.
    """
    repetitions = 200 if quick else 2000
    model = _Length()
    plain = ModelRouter(models={"text": model})
    with tempfile.TemporaryDirectory() as folder:
        cached = ModelRouter(models={"text": model}, cache=ResultCache(Path(folder) / "results"))
        hit = Task({"text": Text("the same words every time")})
        cached.execute(hit)
        sides: dict[str, Callable[[int], object]] = {
            "routed call": lambda i: plain.execute(Task({"text": Text(f"words {i}")})),
            "cache hit": lambda _: cached.execute(hit),
            "bare call": lambda i: model.predict([Task({"text": Text(f"words {i}")})]),
        }
        milliseconds: dict[str, list[float]] = {name: [] for name in sides}
        for i in range(repetitions):
            for name, call in sides.items():
                start = time.perf_counter()
                call(i)
                milliseconds[name].append(1000 * (time.perf_counter() - start))
        assert cached.cache is not None  # noqa: S101  # given three lines above
        cached.cache.close()
    rows = [_row(name, times) for name, times in milliseconds.items()]
    routed = milliseconds["routed call"]
    headlines = {
        "p50_ms": float(np.median(routed)),
        "p99_ms": float(np.percentile(routed, 99)),
        "cache_hit_ms": float(np.median(milliseconds["cache hit"])),
    }
    note = "Overhead of one routed call and of one cache hit; no peer router ran beside it yet."
    return Outcome(rows, headlines, "not shown", note, config={"repetitions": repetitions})


def _row(name: str, times: Sequence[float]) -> Row:
    low, median, high = (float(q) for q in np.percentile(times, (2.5, 50, 97.5)))
    role: Role = "floor" if name == "bare call" else "ours"
    return Row(name, "made texts", "median time", median, low, high, "ms", role)
