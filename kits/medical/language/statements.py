"""The nodules and masses of which a report speaks: its mentions, joined where they repeat.

The same nodule stands in the findings and again in the impression; here it is one statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kits.medical.language.descriptors import Laterality
from kits.medical.language.findings import Finding

__all__ = ["LESION_CONCEPTS", "Statement", "denials", "sides_agree", "state_lesions"]

LESION_CONCEPTS = ("nodule", "mass")
_PLURAL = re.compile(r"(?:[^s]s|sses)$", re.IGNORECASE)  # nodules, masses; not mass
_COUNTED = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|both|[2-9])\b(?: [\w-]+){0,4} *$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Statement:
    """One nodule or mass, or an uncounted number of them, that a report states.

    Args:
        concept: "nodule" or "mass".
        is_certain: Whether the report asserts it, or says that it may be there.
        is_open: Whether it stands for an uncounted number ("multiple nodules up to 5 mm").
        laterality: Its side, if stated.
        lobe: Its lobe, if stated.
        size_mm: Its size, or the largest of several, if stated.
        finding: Index of the first mention among the findings.
    """

    concept: str
    is_certain: bool
    is_open: bool
    laterality: Laterality | None
    lobe: str | None
    size_mm: float | None
    finding: int


def state_lesions(text: str, findings: Sequence[Finding]) -> tuple[Statement, ...]:
    """Returns the nodules and masses that are present or uncertain, repetitions joined.

    A mention repeats an earlier statement when nothing in the two contradicts: sizes are equal
    or one is missing, sides and lobes likewise.

    Args:
        text: The report's text.
        findings: Its findings, in the text's order.
    """
    statements: list[Statement] = []
    for index, finding in enumerate(findings):
        if finding.concept not in LESION_CONCEPTS or finding.status == "absent":
            continue
        new = _statement(text, finding, index)
        known = next((i for i, old in enumerate(statements) if _repeats(new, old)), None)
        if known is None:
            statements.append(new)
        else:
            statements[known] = _joined(statements[known], new)
    return tuple(statements)


def denials(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Returns the mentions by which the report denies nodules or masses."""
    return tuple(f for f in findings if f.concept in LESION_CONCEPTS and f.status == "absent")


def sides_agree(first: Laterality | None, second: Laterality | None) -> bool:
    """Whether two sides can be one: an unstated side and "bilateral" agree with each."""
    return first == second or not {first, second}.isdisjoint({None, "bilateral"})


def _statement(text: str, finding: Finding, index: int) -> Statement:
    mention = text[finding.start : finding.end]
    before = text[finding.sentence_start : finding.start]
    return Statement(
        concept=finding.concept,
        is_certain=finding.status == "present",
        is_open=bool(_PLURAL.search(mention)) and not _COUNTED.search(before),
        laterality=finding.laterality,
        lobe=finding.lobe,
        size_mm=finding.size_mm,
        finding=index,
    )


def _repeats(new: Statement, old: Statement) -> bool:
    if new.is_open != old.is_open:
        return False
    return (
        sides_agree(new.laterality, old.laterality)
        and (None in (new.lobe, old.lobe) or new.lobe == old.lobe)
        and (None in (new.size_mm, old.size_mm) or new.size_mm == old.size_mm)
    )


def _joined(old: Statement, new: Statement) -> Statement:
    one_side = new.laterality if old.laterality in (None, "bilateral") else old.laterality
    return replace(
        old,
        is_certain=old.is_certain or new.is_certain,
        laterality=one_side or old.laterality,
        lobe=old.lobe or new.lobe,
        size_mm=old.size_mm if new.size_mm is None else new.size_mm,
    )
