"""`python -m benchmarks list | run NAME [--data DIR] [--quick] [--out DIR] | report`.

`run` writes the result file; a quick run is for a look and writes one only where `--out`
says. `report` prints the headlines and writes what is made from the results: the advisor's
evidence, and the tables in docs/tuning.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benchmarks.article_table import DOCUMENT, write_tables
from benchmarks.evidence import EVIDENCE, evidence_rows, read_results, write_evidence
from benchmarks.suite import RESULTS, Outcome, Row, write_outcome

# Name -> module and function; each is imported when it runs, so that listing is light.
BENCHMARKS = {
    "finance.credit": "benchmarks.finance_credit:credit",
    "finance.filings": "benchmarks.finance_filings:filings",
    "finance.linked_risk": "benchmarks.finance_linked_risk:linked_risk",
    "finance.realized": "benchmarks.finance_realized:realized",
    "finance.speed": "benchmarks.finance_speed:speed",
    "finance.var": "benchmarks.finance_var:var",
    "serving.adapters": "benchmarks.serving_adapters:adapters",
    "serving.faults": "benchmarks.serving_faults:faults",
    "serving.load": "benchmarks.serving_load:load",
    "serving.router": "benchmarks.serving:router",
    "serving.wire": "benchmarks.serving_wire:wire",
    "speed.training": "benchmarks.speed:training",
    "tuning.crossover": "benchmarks.tuning_crossover:crossover",
    "tuning.methods": "benchmarks.tuning_methods:methods",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parsed = _parser().parse_args(arguments)
    if parsed.verb == "list":
        _say("\n".join(sorted(BENCHMARKS)))
    elif parsed.verb == "report":
        _report()
    else:
        _run(parsed.name, parsed.data, quick=parsed.quick, out=parsed.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="names of the benchmarks")
    verbs.add_parser("report", help="headlines at hand; writes evidence and tables from them")
    run = verbs.add_parser("run", help="run one and write its result file")
    run.add_argument("name", choices=sorted(BENCHMARKS))
    run.add_argument("--data", type=Path, help="folder of the open data sets")
    run.add_argument("--quick", action="store_true", help="a short run, for a look")
    run.add_argument("--out", type=Path, help="folder of the result file; results/ without it")
    return parser


def _run(name: str, data: Path | None, *, quick: bool, out: Path | None) -> None:
    module, function = BENCHMARKS[name].split(":")
    measure: Callable[..., Outcome] = getattr(import_module(module), function)
    outcome = measure(data, quick=quick)
    for row in outcome.rows:
        _say(_line(row))
    _say(f"{outcome.verdict}: {outcome.note}")
    folder = out or (None if quick else RESULTS)
    written = "nothing, a quick run" if folder is None else write_outcome(name, outcome, folder)
    _say(f"written: {written}")


def _line(row: Row) -> str:
    interval = "" if row.low is None or row.high is None else f" [{row.low:.4g}, {row.high:.4g}]"
    figure = f"{row.metric} {row.value:.4g} {row.unit}{interval}"
    return f"{row.role:9} {row.name:14} {row.dataset}: {figure}"


def _report() -> None:
    results = read_results()
    for name, result in results.items():
        _say(f"{name}: {result['verdict']}. {json.dumps(result['headlines'])}")
    rows = evidence_rows(results)
    write_evidence(rows)
    write_tables(results)
    _say(f"written: {EVIDENCE.name} ({len(rows)} rows), the tables of {DOCUMENT.name}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
