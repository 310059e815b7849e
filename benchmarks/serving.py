"""`serving.router`: what the router itself costs, beside the bare call and LiteLLM's `Router`.

Rows, by their fields: `dataset` is "500 requests/s" for requests that arrive at that mean
rate (`benchmarks.open_loop`), or "in turn" for sides that are called one after the other,
round by round, in an order drawn anew for each.

- "service time" and "queueing" (ms) under the load, for a routed call, one with a deadline
  and the bare call of the same model; "99th percentile of ..." likewise. Intervals are
  the smallest and the largest of the blocks of the run;
- "time" (ms) in turns of a few calls each, the first of which is not counted because it
  finds the other sides' data in the processor's caches: "routed call", the same "with a
  deadline" (then it runs on another thread, so that its caller can leave), "of three
  models" and "graph of two branches"; "cache hit, 1 MB", digest included, beside the
  "digest, 1 MB" alone; the "bare call"; and, from a process of its own, LiteLLM's `Router`
  on a mock, blocking ("completion") and waited for ("acompletion"). Intervals are
  quartiles over rounds;
- the controls: how much routed and stored results differ from the model's own, and how
  often an input that differs in one byte was found in the cache; both have to be 0.

LiteLLM needs an environment of its own: TANDEM_LITELLM_PYTHON names its interpreter;
without it these rows are left out, and the note says so. Its faster way counts.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interleaved import ratio
from benchmarks.open_loop import OfferedLoad, offer
from benchmarks.peer_process import PeerProcess
from benchmarks.suite import Outcome, Role, Row
from common.models.base import ModelProfile
from common.request import new_request
from common.routing.cache import ResultCache
from common.routing.graph import Graph, ModelStep, Step
from common.routing.router import ModelRouter
from common.task import Array, Image, Result, Task, Text

__all__ = ["router"]

_CONFIG = Path(__file__).parent / "configs" / "serving.router.json"
_PYTHON = "TANDEM_LITELLM_PYTHON"
_PEERS = ("completion", "acompletion")
_TARGETS = {  # the bound of each headline, and whether larger is better
    "p50_ms": (0.3, False),
    "p99_ms": (1.0, False),
    "vs_litellm": (20.0, True),
    "cache_hit_ms": (1.0, False),
}
Seconds = dict[str, list[float]]  # of each round, the median of its calls
Side = Callable[[range], list[float]]  # makes calls on end and tells the seconds of each


class _Length:
    """The cheapest real model: the text's length, so that what is timed is the router."""

    def __init__(self, name: str = "length", cost: float = 1.0) -> None:
        self.profile = ModelProfile(name=name, modality="text", digest="1", cost=cost)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        return [Result(values={"length": len(_text(task))}) for task in tasks]


class _Mean:
    """The mean of a picture, so that a hit can be told from another picture's."""

    profile = ModelProfile(name="mean", modality="image", digest="2")

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        return [Result(values={"mean": float(_pixels(task).mean())}) for task in tasks]


def router(_data: Path | None, *, quick: bool) -> Outcome:
    """Measures `serving.router`.

    Args:
        _data: Not used; texts and pictures are made here.
        quick: Fewer requests and rounds.
    """
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    if quick:
        config |= config["quick"]
    with ExitStack() as stack:
        plain = stack.enter_context(ModelRouter({"text": _Length()}))
        loads = _under_load(plain, config)
        sides, controls = _sides(plain, config, stack)
        seconds = _in_turn(sides, config)
    rows = [row for name, load in loads.items() for row in _load_rows(name, load, config)]
    rows += [_time_row(name, times) for name, times in seconds.items()]
    rows += controls
    headlines = _headlines(loads["routed call"], seconds)
    return Outcome(
        rows,
        headlines,
        "not shown" if _missed(headlines) else "exceeded",
        f"{_note(headlines)} {_with_deadline(loads, seconds)}",
        config=config,
        seeds=[config["seed"]],
    )


def _under_load(plain: ModelRouter, config: Mapping[str, Any]) -> dict[str, OfferedLoad]:
    """Offers the load to the router and to the bare model, after a warm-up."""
    model = _Length()
    calls: dict[str, Callable[[int], object]] = {
        "routed call": lambda number: plain.execute(_words(number)),
        "routed call, with a deadline": lambda number: plain.execute(
            _words(number), request=new_request(timeout_s=config["timeout_s"])
        ),
        "bare call": lambda number: model.predict([_words(number)]),
    }
    loads = {}
    for name, call in calls.items():
        facts = {key: config[key] for key in ("rate_per_s", "clients", "seed")}
        offer(call, seconds=0.5, **facts)
        loads[name] = offer(call, seconds=config["seconds"], **facts)
    return loads


def _sides(
    plain: ModelRouter, config: Mapping[str, Any], stack: ExitStack
) -> tuple[dict[str, Side], list[Row]]:
    """Returns what is called in turn, and the control rows."""
    model, picture = _Length(), _picture(config)
    several = [_Length("dear", 3), _Length("length"), _Length("dearer", 4)]
    three = stack.enter_context(ModelRouter({"text": several}))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    cache = ResultCache(folder / "results")
    stack.callback(cache.close)
    cached = stack.enter_context(ModelRouter({"image": _Mean()}, cache=cache))
    cached.execute(Task({"image": Image(picture)}))
    timeout_s = config["timeout_s"]
    sides: dict[str, Side] = {
        "routed call": _timed(lambda i: plain.execute(_words(i))),
        "routed call, with a deadline": _timed(
            lambda i: plain.execute(_words(i), request=new_request(timeout_s=timeout_s))
        ),
        "routed call, of three models": _timed(lambda i: three.execute(_words(i))),
        "graph of two branches": _timed(lambda i: plain.run(_GRAPH, _words(i))),
        "cache hit, 1 MB": _timed_on(cached.execute, picture),
        "digest, 1 MB": _timed_on(Task.digest, picture),
        "bare call": _timed(lambda i: model.predict([_words(i)])),
    }
    if python := os.environ.get(_PYTHON):
        peer = stack.enter_context(PeerProcess(python, "litellm_peer.py", {"answer": "7"}))
        for name in _PEERS:
            sides[f"LiteLLM Router.{name}"] = lambda numbers, name=name: json.loads(
                peer.ask(f"{name} {len(numbers)}")
            )  # type: ignore[misc]  # mypy reads the default as part of the signature
    return sides, _controls(plain, cached, picture)


def _controls(plain: ModelRouter, cached: ModelRouter, picture: Array) -> list[Row]:
    """Returns that routing and storing change nothing, and that one byte makes another input."""
    texts = [_words(number) for number in range(50)]
    own = [result.values["length"] for result in _Length().predict(texts)]
    routed = [plain.execute(task)["text"].result.values["length"] for task in texts]
    delta = float(np.abs(np.subtract(own, routed)).max())
    answer = cached.execute(Task({"image": Image(picture)}))["image"]
    stored = abs(answer.result.values["mean"] - float(picture.mean()))
    found = 0
    for position in range(0, picture.size, picture.size // 20):
        other = picture.copy()
        other.flat[position] ^= 1
        found += cached.execute(Task({"image": Image(other)}))["image"].cached
    dataset = "in turn"
    return [
        Row("routed call", dataset, "largest difference", delta, None, None, "1", "control"),
        Row("cache hit, 1 MB", dataset, "largest difference", stored, None, None, "1", "control"),
        Row("one byte changed", dataset, "cache hits", found, None, None, "1", "control"),
    ]


def _in_turn(sides: Mapping[str, Side], config: Mapping[str, Any]) -> Seconds:
    """Calls every side once a round, a few times on end."""
    random = np.random.default_rng(config["seed"])
    seconds: Seconds = {name: [] for name in sides}
    burst = config["burst"]
    for number in range(config["warm_up"] + config["rounds"]):
        for name in random.permutation(list(sides)):
            took = sides[name](range(number * burst, (number + 1) * burst))
            if number >= config["warm_up"]:
                seconds[name].append(float(np.median(took[1:])))
    return seconds


def _load_rows(name: str, load: OfferedLoad, config: Mapping[str, Any]) -> list[Row]:
    role: Role = "floor" if name == "bare call" else "ours"
    dataset = f"{config['rate_per_s']} requests/s"
    rows = []
    for metric, times in (("service time", load.service_s), ("queueing", load.queueing_s)):
        blocks = np.array_split(1000 * times, config["blocks"])
        for prefix, percent in (("", 50), ("99th percentile of ", 99)):
            of_blocks = [float(np.percentile(block, percent)) for block in blocks]
            value = float(np.percentile(1000 * times, percent))
            low, high = min(of_blocks), max(of_blocks)
            rows.append(Row(name, dataset, prefix + metric, value, low, high, "ms", role))
    return rows


def _time_row(name: str, times: Sequence[float]) -> Row:
    low, median, high = (1000 * float(q) for q in np.percentile(times, (25, 50, 75)))
    role: Role = "ours"
    if name.startswith("LiteLLM"):
        role = "peer"
    elif name in {"bare call", "digest, 1 MB"}:
        role = "floor"
    return Row(name, "in turn", "time", median, low, high, "ms", role)


def _headlines(load: OfferedLoad, seconds: Seconds) -> dict[str, float | None]:
    peers = [seconds[f"LiteLLM Router.{x}"] for x in _PEERS if f"LiteLLM Router.{x}" in seconds]
    ours = seconds["routed call"]
    return {
        "p50_ms": 1000 * float(np.percentile(load.service_s, 50)),
        "p99_ms": 1000 * float(np.percentile(load.service_s, 99)),
        "vs_litellm": min(ratio(peer, ours).value for peer in peers) if peers else None,
        "cache_hit_ms": 1000 * float(np.median(seconds["cache hit, 1 MB"])),
    }


def _missed(headlines: Mapping[str, float | None]) -> list[str]:
    missed = []
    for key, (bound, larger) in _TARGETS.items():
        value = headlines[key]
        if value is None or (value < bound if larger else value > bound):
            missed.append(f"{key} {'absent' if value is None else f'{value:.3g}'}")
    return missed


def _note(headlines: Mapping[str, float | None]) -> str:
    missed = _missed(headlines)
    note = f"Missed: {', '.join(missed)}." if missed else "Every target was met."
    if headlines["vs_litellm"] is None:
        note += f" LiteLLM was left out: {_PYTHON} names no interpreter."
    return note


def _with_deadline(loads: Mapping[str, OfferedLoad], seconds: Seconds) -> str:
    """Says what the headlines are where the call runs on another thread than its caller's."""
    name = "routed call, with a deadline"
    p50, p99 = (float(q) for q in np.percentile(1000 * loads[name].service_s, (50, 99)))
    peers = [seconds[f"LiteLLM Router.{x}"] for x in _PEERS if f"LiteLLM Router.{x}" in seconds]
    found = f"With a deadline: p50 {p50:.3g} ms, p99 {p99:.3g} ms"
    if not peers:
        return f"{found}."
    return f"{found}, {min(ratio(peer, seconds[name]).value for peer in peers):.3g} x LiteLLM."


def _words(number: int) -> Task:
    return Task({"text": Text(f"words {number}")})


def _picture(config: Mapping[str, Any]) -> Array:
    random = np.random.default_rng(config["seed"])
    side = int(config["input_bytes"] ** 0.5)
    return random.integers(0, 256, (side, side), dtype=np.uint8)


def _text(task: Task) -> str:
    return next(part.text for part in task.parts.values() if isinstance(part, Text))


def _pixels(task: Task) -> Array:
    return next(part.pixels for part in task.parts.values() if isinstance(part, Image))


def _timed(call: Callable[[int], object]) -> Side:
    def side(numbers: range) -> list[float]:
        seconds = []
        for number in numbers:
            start = time.perf_counter()
            call(number)
            seconds.append(time.perf_counter() - start)
        return seconds

    return side


def _timed_on(call: Callable[[Task], object], picture: Array) -> Side:
    """Times calls on tasks that are new, so that nothing of them is known beforehand."""

    def side(numbers: range) -> list[float]:
        seconds = []
        for _ in numbers:
            task = Task({"image": Image(picture)})
            start = time.perf_counter()
            call(task)
            seconds.append(time.perf_counter() - start)
        return seconds

    return side


def _count(text: Text) -> int:
    return len(text.text)


def _both(length: Result, count: int) -> bool:
    return bool(length.values["length"] == count)


_GRAPH = Graph(
    {"text": Text},
    [ModelStep("length", "text", "text"), Step("count", _count), Step("both", _both)],
    gives="both",
)
