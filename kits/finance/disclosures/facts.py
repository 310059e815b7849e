"""Reads XBRL facts from inline XBRL or an XBRL instance, with where each one stands.

Nothing is fetched: neither taxonomy nor linkbase is read, so a fact's value, unit, period and
dimensions are those that the document itself tells. Facts that cannot be understood are
listed with the reason.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from pathlib import Path

from common.errors import DocumentError
from kits.finance.disclosures.decoding import read_decoded
from kits.finance.disclosures.fact_table import Fact, FactTable, Period, UnreadFact
from kits.finance.disclosures.inline_xbrl import looks_like_inline_xbrl, read_inline
from kits.finance.disclosures.submission import looks_like_submission, read_submission
from kits.finance.disclosures.transformations import as_number, as_text
from kits.finance.disclosures.xbrl_contexts import ContextReader, RawFact
from kits.finance.disclosures.xbrl_instance import looks_like_instance, read_instance

__all__ = ["Fact", "FactTable", "Period", "UnreadFact", "read_facts"]

_WRAPPER = re.compile(r"\s*<(XBRL|XML)>\s*")


def read_facts(path: Path) -> FactTable:
    """Reads all facts of an inline XBRL page, an XBRL instance, or a submission with either.

    Raises:
        MissingInputError: There is no such file.
        DocumentError: It is neither, is malformed, declares entities, or holds no fact.
    """
    file = read_decoded(path)
    start, end = _tagged_part(file.text)
    part = file.text[start:end]
    inline = looks_like_inline_xbrl(part)
    if not inline and not looks_like_instance(part):
        raise _no_facts("neither inline XBRL nor an XBRL instance")
    raw_facts, contexts = (read_inline if inline else read_instance)(part)
    moved = [replace(raw, start=raw.start + start, end=raw.end + start) for raw in raw_facts]
    facts, unread = _resolved(moved, contexts, file.text)
    if not facts:
        raise _no_facts(f"no fact that could be read ({len(unread)} that could not)")
    return FactTable(
        tuple(facts), tuple(unread), file.text, file.digest, "inline" if inline else "instance"
    )


def _tagged_part(source: str) -> tuple[int, int]:
    """Returns where the facts stand: all of a file, or one document of a full submission."""
    if not looks_like_submission(source):
        return 0, len(source)
    submission = read_submission(source)
    for document in (submission.main, *submission.documents):
        span = _unwrapped(source, document.start, document.end)
        part = source[slice(*span)]
        if looks_like_inline_xbrl(part) or looks_like_instance(part):
            return span
    raise _no_facts("a submission without any")


def _unwrapped(source: str, start: int, end: int) -> tuple[int, int]:
    """Returns a document's span without EDGAR's <XBRL> or <XML> around it."""
    head = _WRAPPER.match(source, start, end)
    if head is None:
        return start, end
    tail = source.rfind(f"</{head[1]}>", head.end(), end)
    return head.end(), end if tail < 0 else tail


def _resolved(
    raw_facts: Sequence[RawFact], contexts: ContextReader, source: str
) -> tuple[list[Fact], list[UnreadFact]]:
    line_starts = [0, *accumulate(len(line) + 1 for line in source.split("\n"))]
    facts, unread = [], []
    for raw in raw_facts:
        start, end = _trimmed(source, raw.start, raw.end)
        line = bisect_right(line_starts, start)
        try:
            facts.append(_fact(raw, contexts, start=start, end=end, line=line))
        except ValueError as fault:
            unread.append(UnreadFact(raw.concept, str(fault), start, line))
    return facts, unread


def _trimmed(source: str, start: int, end: int) -> tuple[int, int]:
    content = source[start:end]
    first = start + len(content) - len(content.lstrip())
    return (first, first + len(content.strip())) if content.strip() else (start, start)


def _fact(raw: RawFact, contexts: ContextReader, *, start: int, end: int, line: int) -> Fact:
    reference = raw.attributes.get("contextref", "")
    if reference not in contexts.contexts:
        raise ValueError(contexts.faults.get(reference, "its context is not there"))
    context = contexts.contexts[reference]
    unit = None
    if raw.numeric:
        unit = contexts.units.get(raw.attributes.get("unitref", ""))
        if unit is None:
            raise ValueError("its unit is not there")
    return Fact(
        concept=raw.concept,
        value=_value(raw),
        unit=unit,
        period=context.period,
        dimensions=context.dimensions,
        decimals=_decimals(raw.attributes.get("decimals")),
        entity=context.entity,
        start=start,
        end=end,
        line=line,
        hidden=raw.hidden,
    )


def _value(raw: RawFact) -> Decimal | str | None:
    attributes = raw.attributes
    if attributes.get("nil", "").strip() in ("true", "1"):
        return None
    form = attributes.get("format", "")
    if not raw.numeric:
        return as_text(" ".join(raw.text.split()), form)
    if not form and "scale" not in attributes and "sign" not in attributes:
        try:
            return Decimal(raw.text.strip().replace(",", ""))
        except InvalidOperation:
            raise ValueError("what stands there is no number") from None
    return as_number(
        raw.text, form, scale=int(attributes.get("scale") or 0), sign=attributes.get("sign", "")
    )


def _decimals(text: str | None) -> int | None:
    return None if text is None or text.strip().upper() in ("INF", "") else int(text)


def _no_facts(found: str) -> DocumentError:
    return DocumentError(
        "XBRL facts",
        expected="an inline XBRL page (10-K and 10-Q since 2019) or an XBRL instance",
        found=found,
        remedy="Give the filing's main .htm file, or its instance document (*_htm.xml).",
    )
