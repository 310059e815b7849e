"""The article's tables with our columns, written into docs/tuning.md from the result files.

The text between the two markers of the document is replaced as a whole; no figure in it
is typed by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence import EVIDENCE, Result
from common.adapters.advisor import Recommendation, recommend
from common.errors import InputError

__all__ = ["DOCUMENT", "MARKERS", "render_tables", "write_tables"]

DOCUMENT = Path(__file__).parents[1] / "docs" / "tuning.md"
MARKERS = (
    "<!-- measured: from here `python -m benchmarks report` writes -->",
    "<!-- measured: to here -->",
)
_PUBLISHED = {"lora": "LoRA", "prefix": "Prefix"}
_BENCHMARKS = ("tuning.methods", "tuning.crossover", "speed.training", "serving.adapters")
_QUESTIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("64 samples", {"n_samples": 64}),
    ("1,000 samples", {"n_samples": 1000}),
    ("4,000 samples", {"n_samples": 4000}),
    ("20,000 samples", {"n_samples": 20_000}),
    ("1,000 samples, another domain", {"n_samples": 1000, "domain_shift": True}),
    ("1,000 samples, real time", {"n_samples": 1000, "realtime": True}),
)


def write_tables(results: Mapping[str, Result], document: Path = DOCUMENT) -> None:
    """Writes the tables between the document's markers.

    Raises:
        InputError: The document does not have both markers, each once, in their order.
    """
    text = document.read_text(encoding="utf-8")
    begin, end = MARKERS
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(
            document.name,
            expected=f"the markers {begin} and {end}, once each",
            found="not so",
            remedy="Put them back around the tables.",
        )
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    body = "\n\n".join(render_tables(results))
    document.write_text(f"{before}{begin}\n\n{body}\n\n{end}{after}", encoding="utf-8")


def render_tables(results: Mapping[str, Result]) -> Iterator[str]:
    """Yields paragraphs and tables in Markdown; what has no result is said not to have one."""
    of = {name: [r for r in results.values() if r["benchmark"] == name] for name in _BENCHMARKS}
    yield "**What each method costs** (`tuning.methods`; the article's table 2.1 beside it)."
    yield from _tables(of["tuning.methods"], _cost_tables)
    yield "**Accuracy by number of samples** (`tuning.crossover`)."
    yield from _tables(of["tuning.crossover"], _accuracy_tables)
    yield "**The article's rules, asked of the advisor.**"
    yield _advice_table()
    yield "**Headlines.**"
    yield "\n".join(line for name in _BENCHMARKS for line in _headlines(name, of[name]))


def _tables(results: Sequence[Result], render: Any) -> Iterator[str]:
    if not results:
        yield "Not measured yet."
    for result in results:
        yield from render(result)


def _cost_tables(result: Result) -> Iterator[str]:
    rows = [row for row in result["rows"] if "@" not in row["dataset"]]
    article = {(row["name"], row["metric"]): row for row in rows if row["role"] == "published"}
    ours = [row for row in rows if row["role"] in {"ours", "control"}]
    head = (
        "method",
        "parameters",
        "article",
        "training speed, full = 1",
        "article",
        "latency, base = 1",
        "merged",
        "article",
        "peak memory, full = 1",
    )
    for where in dict.fromkeys(row["dataset"] for row in ours):
        at = {(row["name"], row["metric"]): row for row in ours if row["dataset"] == where}
        names = [name for name in dict.fromkeys(n for n, _ in at) if not name.endswith(" merged")]
        lines = [_cost_line(name, at, article) for name in names]
        yield f"{where}, {result['device']} ({result['date']}):"
        yield _table(head, lines)


def _cost_line(
    name: str,
    at: Mapping[tuple[str, str], Mapping[str, Any]],
    article: Mapping[tuple[str, str], Mapping[str, Any]],
) -> list[str]:
    published = _PUBLISHED.get(name.partition(" ")[0], "")
    cells = [name]
    for metric in ("parameter share", "step speed against full", "latency against base"):
        number = _percent if metric == "parameter share" else _factor
        cells.append(number(at.get((name, metric))))
        if metric == "latency against base":
            cells.append(number(at.get((f"{name} merged", metric))))
        cells.append(number(article.get((published, metric))))
    return [*cells, _factor(at.get((name, "peak memory against full")))]


def _accuracy_tables(result: Result) -> Iterator[str]:
    rows = [row for row in result["rows"] if row["metric"].startswith("accuracy")]
    for task in dict.fromkeys(row["dataset"].rpartition("@")[0] for row in rows):
        here = [row for row in rows if row["dataset"].rpartition("@")[0] == task]
        sizes = sorted({int(row["dataset"].rpartition("@")[2]) for row in here})
        at = {(row["name"], int(row["dataset"].rpartition("@")[2])): row for row in here}
        names = dict.fromkeys(row["name"] for row in here)
        lines = [[name, *(_figure(at.get((name, n))) for n in sizes)] for name in names]
        base = result["config"]["base"]["name"]
        yield f"{task}, {base}, {result['device']} ({result['date']}), by training rows:"
        yield _table(("method", *(f"{n:,}" for n in sizes)), lines)


def _advice_table() -> str:
    lines = []
    for words, question in _QUESTIONS:
        advice = recommend(**question, evidence=EVIDENCE)
        lines.append([words, advice.method.kind, *_grounds(advice)])
    return _table(("question", "answer", "measured rows", "what they say of the rule"), lines)


def _grounds(advice: Recommendation) -> tuple[str, str]:
    if advice.contradictions:
        verdict = "contradicted"
    else:
        unchecked = any("unchecked" in sentence for sentence in advice.not_measured)
        verdict = "not measured" if unchecked else "not contradicted"
    return str(len(advice.evidence)), verdict


def _headlines(name: str, results: Sequence[Result]) -> list[str]:
    if not results:
        return [f"- `{name}`: not measured yet."]
    return [f"- `{name}` on {r['device']}: {r['verdict']}. {r['note']}" for r in results]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _percent(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['value']:.2%}"


def _factor(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['value']:.2f}"


def _figure(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"
