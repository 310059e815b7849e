"""From result files to the rows that `common.adapters.advisor` reads.

Only what the advisor can use is taken: accuracy by number of samples and the learning rates
chosen (`tuning.crossover`), cost and latency of our own sides (`tuning.methods`). Controls,
floors, peers and published figures stay in the result files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.shapes import SHAPES
from benchmarks.suite import RESULTS
from common.adapters.anatomy import anatomy_of
from common.adapters.evidence import EVIDENCE, FORMAT, KINDS, EvidenceRow, read_evidence
from common.errors import InputError

__all__ = [
    "EVIDENCE",
    "RESULT_KEYS",
    "Result",
    "evidence_rows",
    "read_results",
    "setting_name",
    "write_evidence",
]

Result = Mapping[str, Any]
RESULT_KEYS = (
    "benchmark",
    "device",
    "date",
    "commit",
    "environment",
    "data",
    "config",
    "seeds",
    "rows",
    "headlines",
    "verdict",
    "note",
)
_BASE_SHAPES = {"minilm": "minilm-l6"}  # the bundled base, by the name of its shape
_COSTS = {
    "parameter share": "parameter_share",
    "step speed against full": "step_ratio",
    "peak memory against full": "memory_ratio",
    "latency": "latency_ms",
    "latency against base": "latency_ratio",
}


def read_results(folder: Path = RESULTS) -> dict[str, Result]:
    """Returns the result files by name, `<benchmark>.<device>`, in alphabetic order.

    Raises:
        InputError: A file is no result file.
    """
    results = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in RESULT_KEYS if key not in result]
        if missing or path.stem != f"{result['benchmark']}.{result['device']}":
            raise InputError(
                f"result file {path.name}",
                expected=f"the keys {', '.join(RESULT_KEYS)}, named <benchmark>.<device>.json",
                found=f"without {', '.join(missing)}" if missing else "another name",
                remedy="Write it with `python -m benchmarks run`.",
            )
        results[path.stem] = result
    return results


def evidence_rows(results: Mapping[str, Result]) -> list[EvidenceRow]:
    """Returns the rows that the results hold for the advisor."""
    readers = {"tuning.crossover": _crossover_rows, "tuning.methods": _method_rows}
    return [
        row
        for name, result in results.items()
        if (reader := readers.get(result["benchmark"]))
        for row in reader(result, f"benchmarks/results/{name}.json")
    ]


def write_evidence(rows: Sequence[EvidenceRow], path: Path = EVIDENCE) -> None:
    """Writes the rows, one a line, and reads them back to check them."""
    lines = [json.dumps(asdict(row)) for row in rows]
    body = "[\n    " + ",\n    ".join(lines) + "\n  ]" if lines else "[]"
    path.write_text(f'{{\n  "format": {FORMAT},\n  "rows": {body}\n}}\n', encoding="utf-8")
    read_evidence(path)


def setting_name(settings: Mapping[str, Any]) -> str:
    """Returns a method's settings as `tuning.methods` names them ("lora all-linear r16")."""
    kind = settings["kind"]
    if kind == "lora":
        targets = settings.get("targets", "attention")
        where = {"attention": "q,v"}.get(targets, targets)
        return f"lora {where} r{settings.get('rank', 8)}"
    if kind == "prefix":
        gate = " zero gate" if settings.get("zero_gate") else ""
        return f"prefix {settings.get('n_virtual_tokens', 16)}{gate}"
    if kind == "bottleneck":
        return f"bottleneck {settings.get('variant', 'pfeiffer')} {settings.get('size', 64)}"
    return str(kind)


def _crossover_rows(result: Result, source: str) -> Iterator[EvidenceRow]:
    settings, base = result["config"]["methods"], result["config"]["base"]["name"]
    common = {
        **_origin(result, source),
        "shape": base,
        "n_parameters": _n_parameters(_BASE_SHAPES.get(base, base)),
    }
    for row in result["rows"]:
        kind, _, against = row["name"].partition(" minus ")
        metric = {"accuracy": "accuracy", "accuracy difference": "accuracy_difference"}
        if kind not in KINDS or row["metric"] not in metric:
            continue
        task, _, n_samples = row["dataset"].rpartition("@")
        yield EvidenceRow(
            method=kind,
            setting=setting_name(settings[kind]),
            against=against or None,
            task=task,
            n_samples=int(n_samples),
            metric=metric[row["metric"]],
            **_figure(row),
            **common,
        )
    for cell in result["config"]["chosen"]:
        if cell["shuffled"] or cell["method"] not in KINDS:
            continue
        yield EvidenceRow(
            method=cell["method"],
            setting=setting_name(settings[cell["method"]]),
            against=None,
            task=cell["task"],
            n_samples=cell["n_train"],
            metric="learning_rate",
            value=cell["learning_rate"],
            low=None,
            high=None,
            **common,
        )


def _method_rows(result: Result, source: str) -> Iterator[EvidenceRow]:
    for row in result["rows"]:
        setting = row["name"].removesuffix(" merged")
        kind = setting.split()[0]
        if kind not in KINDS or row["metric"] not in _COSTS:
            continue
        merged = "merged_" if row["name"] != setting else ""
        yield EvidenceRow(
            method=kind,
            setting=setting,
            against=None,
            shape=row["dataset"],
            n_parameters=_n_parameters(row["dataset"].split()[0]),
            task="",
            n_samples=None,
            metric=merged + _COSTS[row["metric"]],
            **_figure(row),
            **_origin(result, source),
        )


def _figure(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("value", "low", "high")}


def _origin(result: Result, source: str) -> dict[str, Any]:
    found = {name: result[name] for name in ("device", "commit", "date")}
    return {**found, "source": source}


def _n_parameters(shape: str) -> int | None:
    return anatomy_of(SHAPES[shape].config()).n_parameters if shape in SHAPES else None
