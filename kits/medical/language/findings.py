"""What a chest-CT report says is there, is not there, or may be there, with exact offsets.

Written for English. Mentions in the history, indication, comparison and recommendation sections,
and mentions of the past or of relatives, are left out: they are not findings of this examination.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kits.medical.intake.report import Report
from kits.medical.language import terms
from kits.medical.language.context import Context, Span, Status, any_of, read_context
from kits.medical.language.descriptors import (
    Laterality,
    lobes_in,
    nearest_own,
    sides_in,
    sizes_in,
)
from kits.medical.language.sections import (
    UNASSERTED_SECTIONS,
    Sentence,
    split_sections,
    split_sentences,
)

__all__ = ["Finding", "Laterality", "Status", "extract_findings"]

_PATTERNS = {key: any_of(concept.patterns) for key, concept in terms.CONCEPTS.items()}
_DENIED_WITHIN = re.compile(r"\bnot?\b", re.IGNORECASE)  # "heart is not enlarged"
_ELSEWHERE = any_of(terms.ELSEWHERE)
_IN_LUNG = any_of(terms.IN_LUNG)
_OTHER_SIZED = any_of(terms.OTHER_SIZED)


@dataclass(frozen=True)
class Finding:
    """One mention of a concept.

    `report.text[start:end]` is the mention and `report.text[sentence_start:sentence_end]` its
    sentence.

    Args:
        concept: Key of the concept in `terms.CONCEPTS`, such as "nodule".
        status: What the report says of it here.
        start: Offset of the mention's first character.
        end: Offset one past its last.
        sentence_start: Offset of the sentence's first character.
        sentence_end: Offset one past its last.
        laterality: The side named with it, if any.
        lobe: "upper lobe", "middle lobe", "lower lobe" or "lingula", if just one is named.
        size_mm: The largest diameter given with it, in mm, if any.
        section: Key of its section ("findings", "impression", "body" ...).
    """

    concept: str
    status: Status
    start: int
    end: int
    sentence_start: int
    sentence_end: int
    laterality: Laterality | None
    lobe: str | None
    size_mm: float | None
    section: str


@dataclass(frozen=True)
class _Mention:
    concept: str
    span: Span


def extract_findings(report: Report) -> tuple[Finding, ...]:
    """Returns every mention of a concept that speaks of this examination, in the text's order."""
    findings: list[Finding] = []
    for section in split_sections(report.text):
        if section.key in UNASSERTED_SECTIONS:
            continue
        for sentence in split_sentences(report.text, section):
            findings.extend(_read_sentence(report.text, sentence))
    return tuple(findings)


def _read_sentence(text: str, sentence: Sentence) -> Iterator[Finding]:
    mentions = _mentions(text, sentence)
    if not mentions:
        return
    context = read_context(text, sentence.start, sentence.end)
    for mention in mentions:
        status = context.status_of(mention.span)
        if status is not None and _DENIED_WITHIN.search(text, *mention.span):
            status = "absent"
        clause = context.clause_of(mention.span[0])
        if status is None or _is_elsewhere(text, mention, clause):
            continue
        neighbours = [other.span for other in mentions if _in(other.span, clause)]
        yield Finding(
            concept=mention.concept,
            status=status,
            start=mention.span[0],
            end=mention.span[1],
            sentence_start=sentence.start,
            sentence_end=sentence.end,
            laterality=_laterality(text, mention.span, neighbours, clause),
            lobe=_lobe(text, mention.span, neighbours, clause),
            size_mm=_size(text, mention, mentions, context),
            section=sentence.section,
        )


def _mentions(text: str, sentence: Sentence) -> list[_Mention]:
    found = [
        _Mention(key, match.span())
        for key, pattern in _PATTERNS.items()
        for match in pattern.finditer(text, sentence.start, sentence.end)
    ]
    kept = [m for m in found if not _is_part_of_another(m, found)]
    return sorted(kept, key=lambda mention: mention.span)


def _is_part_of_another(mention: _Mention, found: Sequence[_Mention]) -> bool:
    """Whether a general word ("opacity") only belongs to a longer term ("nodular opacity")."""
    if not terms.CONCEPTS[mention.concept].in_lung:
        return False
    return any(
        _in(mention.span, other.span) and mention.span != other.span
        for other in found
        if other.concept != mention.concept
    )


def _is_elsewhere(text: str, mention: _Mention, clause: Span) -> bool:
    """Whether another organ than the lung is named nearest to a concept of the lung."""
    if not terms.CONCEPTS[mention.concept].in_lung:
        return False
    places = [(m.span(), False) for m in _ELSEWHERE.finditer(text, *clause)]
    places += [(m.span(), True) for m in _IN_LUNG.finditer(text, *clause)]
    nearest = nearest_own(text, mention.span, rivals=[], descriptors=places)
    return bool(nearest) and not nearest[0]


def _size(
    text: str, mention: _Mention, mentions: Sequence[_Mention], context: Context
) -> float | None:
    if not terms.CONCEPTS[mention.concept].sizable:
        return None
    first, last = context.clauses[0][0], context.clauses[-1][1]
    rivals = [m.span for m in mentions if m != mention]
    rivals += [m.span() for m in _OTHER_SIZED.finditer(text, first, last)]
    sizes = sizes_in(text, first, last)
    return max(nearest_own(text, mention.span, rivals=rivals, descriptors=sizes), default=None)


def _laterality(
    text: str, mention: Span, neighbours: Sequence[Span], clause: Span
) -> Laterality | None:
    sides = sides_in(text, *clause)
    others = [span for span in neighbours if span != mention]
    own = nearest_own(text, mention, rivals=others, descriptors=sides)
    own = own or nearest_own(text, mention, rivals=[], descriptors=sides)[:1]
    if {"left", "right"} <= set(own):
        return "bilateral"
    return own[0] if own else None


def _lobe(text: str, mention: Span, neighbours: Sequence[Span], clause: Span) -> str | None:
    lobes = lobes_in(text, *clause)
    others = [span for span in neighbours if span != mention]
    own = nearest_own(text, mention, rivals=others, descriptors=lobes)
    own = own or nearest_own(text, mention, rivals=[], descriptors=lobes)[:1]
    return own[0] if len(set(own)) == 1 else None


def _in(inner: Span, outer: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]
