"""`serving.load`: `tandem serve` under 200 clients that never pause, beside BentoML and Ray Serve.

All servers embed texts with the same bundled MiniLM on the cores of this machine, which the
clients share; no two requests ask about the same text. Ours runs with keys, audit log and
telemetry on, which the peers do not have, and the result cache off, which they do not have
either; the peers with their batching on.

1. The hold: all clients on ours for five minutes. Rows: requests/s, p50 and p99 (ms), errors
   (answers other than 200), lost (connections broken or silent), and `memory growth`: the
   slope of the server's resident memory after a warm-up, times the time, over its start.
2. The comparison, with one peer after the other: both servers are up; short segments in
   turn, the same clients. Rows ("beside <peer>"): requests/s, latencies, and CPU time for one
   request over all processes of the side; median over segments with quartiles.
   `requests_per_s_vs_peer` is against the faster peer.

A peer needs an environment of its own (torch and transformers beside it), whose interpreter
TANDEM_BENTOML_PYTHON or TANDEM_RAY_SERVE_PYTHON names; without it its rows are left out, and
the note says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load_client import Load
from benchmarks.load_servers import (
    LoadedServer,
    cpu_seconds,
    resident_bytes,
    serve_peer,
    serve_tandem,
)
from benchmarks.suite import Outcome, Role, Row, Verdict

__all__ = ["load"]

_CONFIG = Path(__file__).parent / "configs" / "serving.load.json"
_OURS = "tandem serve"
_PYTHONS = {"BentoML": "TANDEM_BENTOML_PYTHON", "Ray Serve": "TANDEM_RAY_SERVE_PYTHON"}
_HEADLINES = {"BentoML": "vs_bentoml", "Ray Serve": "vs_ray_serve"}
_TEXTS = 10_000_000  # numbers kept apart for each load
_GROWTH = 0.05


@dataclass(frozen=True)
class _Seen:
    """What one load saw.

    Args:
        seconds: How long it sent.
        answers: Answers with status 200.
        errors: Answers with another.
        lost: Requests without one.
        milliseconds: Latency of each answer.
        cpu_s: CPU time that the server took meanwhile, all its processes.
        memory: Seconds since its begin and resident bytes of the server.
    """

    seconds: float
    answers: int
    errors: int
    lost: int
    milliseconds: Sequence[float]
    cpu_s: float
    memory: Sequence[tuple[float, int]]

    @property
    def per_s(self) -> float:
        return self.answers / self.seconds


class _Loads:
    """Runs loads one after another, each with texts of its own."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config, self._number = config, 0

    def run(self, server: LoadedServer, seconds: float) -> _Seen:
        """Loads a server from a process of its own and watches its memory."""
        self._number += 1
        asked = Load(
            port=server.port,
            path=server.path,
            headers=server.headers,
            body=server.body,
            clients=self._config["clients"],
            seconds=seconds,
            words=self._config["words"],
            first=self._number * _TEXTS,
        )
        process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-m", "benchmarks.load_client", json.dumps(asdict(asked))],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        begun, memory, said = time.monotonic(), [], []
        cpu_s = cpu_seconds(server.pid)
        for line in process.stdout or ():
            said.append(json.loads(line))
            memory.append((time.monotonic() - begun, resident_bytes(server.pid)))
        if process.wait() != 0:
            raise RuntimeError("the clients failed")
        return _Seen(
            seconds=max(seconds, memory[-1][0]),
            answers=sum(one["answers"] for one in said),
            errors=sum(sum(one["others"].values()) for one in said),
            lost=sum(one["lost"] for one in said),
            milliseconds=[ms for one in said for ms in one["milliseconds"]],
            cpu_s=cpu_seconds(server.pid) - cpu_s,
            memory=memory,
        )


def load(_data: Path | None, *, quick: bool) -> Outcome:
    """Measures `serving.load`.

    Args:
        _data: Not used; the texts are made here.
        quick: Ten seconds in place of five minutes, one segment for each side.
    """
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    if quick:
        config |= config["quick"]
    loads = _Loads(config)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(serve_tandem(home, config["settings"]))
        loads.run(ours, config["start_s"])
        held = loads.run(ours, config["hold_s"])
        compared = {
            peer: _beside(peer, loads, ours, config, home)
            for peer, python in _PYTHONS.items()
            if python in os.environ
        }
    growth = _growth(held.memory, config["warm_up_s"])
    ratios = {peer: _ratio(segments) for peer, segments in compared.items()}
    headlines: dict[str, float | None] = {
        "requests_per_s_vs_peer": min(ratios.values(), default=None),
        **{key: ratios.get(peer) for peer, key in _HEADLINES.items()},
        "errors": float(held.errors),
        "lost": float(held.lost),
        "memory_growth": growth,
    }
    rows = _hold_rows(held, growth)
    for peer, segments in compared.items():
        rows += _comparison_rows(peer, segments)
    verdict: Verdict = "exceeded" if _met(headlines) else "not shown"
    return Outcome(rows, headlines, verdict, _note(headlines), config=config)


def _beside(
    peer: str, loads: _Loads, ours: LoadedServer, config: Mapping[str, Any], home: Path
) -> dict[str, list[_Seen]]:
    """Runs one peer, loads it and ours in turn, and ends it."""
    base = home / "base"
    if not base.exists():
        _save_base(base)
    settings = {**config["peers"][peer], "folder": str(base)}
    with serve_peer(peer, os.environ[_PYTHONS[peer]], home, settings) as server:
        return _compare(loads, {_OURS: ours, peer: server}, config)


def _save_base(folder: Path) -> None:
    from common.backbones import load_backbone

    backbone = load_backbone("minilm")
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)


def _compare(
    loads: _Loads, servers: Mapping[str, LoadedServer], config: Mapping[str, Any]
) -> dict[str, list[_Seen]]:
    """Loads the servers in turn, the order turning by one from round to round."""
    names = list(servers)
    segments: dict[str, list[_Seen]] = {name: [] for name in names}
    for name in names:
        loads.run(servers[name], config["start_s"])
    for number in range(config["rounds"]):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            segments[name].append(loads.run(servers[name], config["segment_s"]))
    return segments


def _growth(memory: Sequence[tuple[float, int]], warm_up_s: float) -> float:
    """Returns the fitted growth of memory after the warm-up, over its fitted start."""
    times, sizes = np.array([one for one in memory if one[0] >= warm_up_s]).T
    slope, start = np.polyfit(times - times[0], sizes, 1)
    return float(slope * (times[-1] - times[0]) / start)


def _ratio(segments: Mapping[str, Sequence[_Seen]]) -> float:
    ours, peer = segments.values()
    pairs = zip(ours, peer, strict=True)
    return float(np.median([one.per_s / other.per_s for one, other in pairs]))


def _hold_rows(held: _Seen, growth: float) -> list[Row]:
    figures = [
        ("requests", held.per_s, "1/s"),
        ("p50", float(np.percentile(held.milliseconds, 50)), "ms"),
        ("p99", float(np.percentile(held.milliseconds, 99)), "ms"),
        ("errors", float(held.errors), "1"),
        ("lost", float(held.lost), "1"),
        ("memory at the end", held.memory[-1][1] / (1 << 20), "MiB"),
        ("memory growth", growth, "1"),
    ]
    return [
        Row(_OURS, "hold", metric, value, None, None, unit, "ours")
        for metric, value, unit in figures
    ]


def _comparison_rows(peer: str, segments: Mapping[str, Sequence[_Seen]]) -> list[Row]:
    rows = []
    for name, seen in segments.items():
        role: Role = "ours" if name == _OURS else "peer"
        figures = {
            ("requests", "1/s"): [one.per_s for one in seen],
            ("p50", "ms"): [float(np.percentile(one.milliseconds, 50)) for one in seen],
            ("p99", "ms"): [float(np.percentile(one.milliseconds, 99)) for one in seen],
            ("cpu for one request", "ms"): [1000 * one.cpu_s / one.answers for one in seen],
            ("errors", "1"): [float(one.errors) for one in seen],
            ("lost", "1"): [float(one.lost) for one in seen],
        }
        for (metric, unit), values in figures.items():
            low, median, high = (float(q) for q in np.percentile(values, (25, 50, 75)))
            rows.append(Row(name, f"beside {peer}", metric, median, low, high, unit, role))
    return rows


def _met(headlines: Mapping[str, float | None]) -> bool:
    ratio, growth = headlines["requests_per_s_vs_peer"], headlines["memory_growth"]
    whole = headlines["errors"] == 0 and headlines["lost"] == 0
    return whole and ratio is not None and ratio > 1 and growth is not None and growth < _GROWTH


def _note(headlines: Mapping[str, float | None]) -> str:
    absent = [name for peer, name in _PYTHONS.items() if headlines[_HEADLINES[peer]] is None]
    beaten = [peer for peer, key in _HEADLINES.items() if (headlines[key] or 0.0) > 1]
    note = f"More requests a second than {' and '.join(beaten) or 'no peer'}."
    if headlines["errors"] or headlines["lost"]:
        note += " Requests failed or were lost."
    if (headlines["memory_growth"] or 0.0) >= _GROWTH:
        note += " Memory grew."
    return note + "".join(f" A peer did not run: {name} names no interpreter." for name in absent)
