"""`python -m benchmarks list | run NAME [--data DIR] [--quick] | report`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.serving import router
from benchmarks.suite import RESULTS, Outcome, write_outcome

BENCHMARKS: dict[str, Callable[..., Outcome]] = {"serving.router": router}


def main() -> int:
    """Runs the command line and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="names of the benchmarks")
    verbs.add_parser("report", help="headlines of the results at hand")
    run = verbs.add_parser("run", help="run one and write its result file")
    run.add_argument("name", choices=sorted(BENCHMARKS))
    run.add_argument("--data", type=Path, help="folder of the open data sets")
    run.add_argument("--quick", action="store_true", help="a short run, for a look")
    arguments = parser.parse_args()
    if arguments.verb == "list":
        _say("\n".join(sorted(BENCHMARKS)))
    elif arguments.verb == "report":
        for path in sorted(RESULTS.glob("*.json")):
            result = json.loads(path.read_text(encoding="utf-8"))
            _say(f"{path.stem}: {result['verdict']}. {json.dumps(result['headlines'])}")
    else:
        outcome = BENCHMARKS[arguments.name](arguments.data, quick=arguments.quick)
        for row in outcome.rows:
            interval = f"[{row.low:.4g}, {row.high:.4g}]"
            _say(f"{row.role:9} {row.name:14} {row.value:.4g} {row.unit} {interval}")
        _say(f"{outcome.verdict}: {outcome.note}")
        _say(f"written: {write_outcome(arguments.name, outcome).name}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
