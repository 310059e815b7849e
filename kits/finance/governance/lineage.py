"""Leads every figure of an assessment back to the cells, sentences and coefficients behind it.

    {"pointer": "/score", "rule": "score", "method": "100 x event_probability",
     "sources": [{"figure": "/event_probability"}]}

A figure is named by its JSON Pointer (RFC 6901) in assessment.json; an entry covers what
lies below its pointer too. Its sources are other figures, cells of the price table
(`ticker`, first to last date, columns), passages of the document (offsets and lines), keys
of the coefficients' file, or settings of the record. Following "figure" until there is none
left ends at inputs, always: `Lineage.untraced` lists the figures for which no rule is known.

Principles of BCBS 239 (Basel Committee, January 2013, "Principles for effective risk data
aggregation and risk reporting") that this serves: see `PRINCIPLES`.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kits.finance.disclosures.document import Disclosure, Document
from kits.finance.disclosures.language import LanguageReading
from kits.finance.governance.lineage_rules import PAGE_RULES, RULES, Lines, Rule, Source
from kits.finance.risk.score import RiskAssessment
from kits.finance.tasks import LINKAGE_FILE

__all__ = ["PRINCIPLES", "Figure", "Lineage", "figure_pointers", "leaves", "trace", "value_at"]

_FORMAT = 1

PRINCIPLES: Mapping[str, str] = {
    "2": "Data architecture and IT infrastructure: each input has one identifier, its sha256.",
    "3": "Accuracy and integrity: each figure is reconciled with its sources by recomputation.",
    "4": "Completeness: each figure has an entry; those without one are listed as untraced.",
    "5": "Timeliness: sources carry the last date that was used; the record carries the time.",
    "7": "Accuracy of reports: figures are exact in JSON, and pages round them only for showing.",
    "8": "Comprehensiveness: passages and price rows that were left out are counted in the notes.",
}
"""Number of a principle of BCBS 239 to how the lineage serves it."""

_TEXTS = re.compile(r"/event_definition|/reasons/\d+/statement|/notes/\d+")  # figures in words
_NOT_FIGURES = re.compile(r"/(provenance|run|overrides|document_digest|as_of)\b")
_NUMBER = re.compile(r"\d")


@dataclass(frozen=True)
class Figure:
    """Where one figure, or a list of figures of one kind, comes from.

    Args:
        pointer: JSON Pointer into assessment.json; it covers what lies below. Of a figure that
            the page alone shows, the page and its section: "report.html#backtest".
        rule: Short name of the computation.
        method: The computation in words.
        sources: What goes into it; each names a figure, cells, passages, keys or settings.
    """

    pointer: str
    rule: str
    method: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Lineage:
    """The way back from all figures of one assessment.

    Args:
        figures: In the order of assessment.json.
        sources: What "document", "prices" and "coefficients" stand for, with digests.
        untraced: Pointers of figures without a known rule; empty where all is traced.
    """

    figures: tuple[Figure, ...]
    sources: Mapping[str, Any]
    untraced: tuple[str, ...]

    def of(self, pointer: str) -> Figure | None:
        """Returns the entry that covers a pointer; None where there is none."""
        for figure in self.figures:
            if pointer == figure.pointer or pointer.startswith(f"{figure.pointer}/"):
                return figure
        return None

    def to_text(self) -> str:
        """Returns the text of lineage.json; equal lineages give equal texts."""
        members = {
            "format": _FORMAT,
            "principles": {"source": "BCBS 239 (January 2013)", **PRINCIPLES},
            "sources": self.sources,
            "figures": [
                {
                    "pointer": one.pointer,
                    "rule": one.rule,
                    "method": one.method,
                    "sources": list(one.sources),
                }
                for one in self.figures
            ],
            "untraced": list(self.untraced),
        }
        return json.dumps(members, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def trace(assessment: RiskAssessment, disclosure: Disclosure, reading: LanguageReading) -> Lineage:
    """Returns the lineage of every figure in `assessment.to_json()`."""
    written = assessment.to_json()
    lines = Lines(written, assessment, reading)
    figures: dict[str, Figure] = {}
    untraced = []
    for pointer in figure_pointers(written):
        rule, matched = _rule_of(pointer, lines)
        if rule is None:
            untraced.append(pointer)
        elif matched not in figures:
            figures[matched] = _entry(rule, matched, lines)
    if assessment.market is not None:
        pages = {place: _entry(rule, place, lines) for place, rule in PAGE_RULES.items()}
        figures.update(pages)
    sources = _sources(assessment, disclosure, reading)
    return Lineage(tuple(figures.values()), sources, tuple(untraced))


def figure_pointers(written: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the pointers of all figures: numbers, and sentences that hold some."""
    return tuple(
        pointer
        for pointer, value in leaves(written)
        if not _NOT_FIGURES.match(pointer) and _holds_figure(pointer, value)
    )


def value_at(written: Any, pointer: str) -> Any:
    """Returns the value at a JSON Pointer.

    Raises:
        LookupError: There is none.
    """
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        written = written[int(key)] if isinstance(written, list) else written[key]
    return written


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a JSON value with their JSON Pointers (RFC 6901)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            step = str(key).replace("~", "~0").replace("/", "~1")
            yield from leaves(inner, f"{pointer}/{step}")
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from leaves(inner, f"{pointer}/{at}")
    else:
        yield pointer, value


def _holds_figure(pointer: str, value: Any) -> bool:
    if isinstance(value, str):
        return bool(_TEXTS.fullmatch(pointer) and _NUMBER.search(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _entry(rule: Rule, pointer: str, lines: Lines) -> Figure:
    drawn = [one for draw in rule.sources for one in draw(lines, pointer)]
    return Figure(pointer, rule.name, rule.method, tuple(drawn))


def _rule_of(pointer: str, lines: Lines) -> tuple[Rule | None, str]:
    """Returns the first rule that knows the figure, and the pointer that it covers."""
    for rule in RULES:
        found = rule.pattern.match(pointer)
        if found and (rule.reason is None or lines.reason_code(pointer) == rule.reason):
            return rule, found[0]
    return None, pointer


def _sources(
    assessment: RiskAssessment, disclosure: Disclosure, reading: LanguageReading
) -> dict[str, Any]:
    document = disclosure.document
    sources: dict[str, Any] = {
        "document": {
            "sha256": document.digest,
            "form": disclosure.form,
            "kind": document.kind,
            "axis": "characters of the decoded file and of its text, from 0; lines from 1",
            "sections": [
                {"key": s.key, "start": s.start, "end": s.end} for s in disclosure.sections
            ],
            "passages": _passages(document, reading),
        },
        "coefficients": {
            "name": f"{LINKAGE_FILE.parent.name}/{LINKAGE_FILE.name}",
            "adapter_digest": reading.provenance.adapter_digest,
        },
    }
    if assessment.market is not None:
        history = assessment.market.history
        sources["prices"] = {
            "content_digest": history.digest,
            "ticker": history.ticker,
            "first_date": str(history.dates[0]),
            "last_date": str(history.dates[-1]),
            "n_rows": len(history.dates),
            "columns": [
                name
                for name in ("open", "high", "low", "close")
                if getattr(history, name) is not None
            ],
        }
    return sources


def _passages(document: Document, reading: LanguageReading) -> list[dict[str, Any]]:
    ends = [found.start() for found in re.finditer("\n", document.source)]
    passages = []
    for passage in reading.passages:
        start, end = document.source_span(passage.start, passage.end)
        passages.append(
            {
                "section": passage.section,
                "start": passage.start,
                "end": passage.end,
                "source_start": start,
                "source_end": end,
                "first_line": _line_of(ends, start),
                "last_line": _line_of(ends, max(start, end - 1)),
                "score": passage.score,
            }
        )
    return passages


def _line_of(ends: list[int], position: int) -> int:
    return bisect_left(ends, position) + 1
