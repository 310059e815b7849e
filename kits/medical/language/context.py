"""Whether a mention in a sentence is asserted, denied, doubted, or not of this examination.

The method is that of NegEx (Chapman et al. 2001, J Biomed Inform 34:301) and ConText (Harkema et
al. 2009, J Biomed Inform 42:839): triggers before and after a mention reach it unless a
terminating word stands between; pseudo-triggers are taken out first. Here a sentence is cut into
clauses at the terminating words, and a trigger reaches the mentions of its clause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from kits.medical.language import triggers as words

__all__ = ["Context", "Span", "Status", "any_of", "read_context"]

Status = Literal["present", "absent", "uncertain"]
Span = tuple[int, int]


def any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Returns one expression for all `patterns`, at word boundaries, without regard to case."""
    joined = "|".join(f"(?:{pattern})" for pattern in patterns)
    return re.compile(rf"(?:(?<!\w)|(?!\w))(?:{joined})(?:(?<!\w)|(?!\w))", re.IGNORECASE)


_BREAKS = any_of(words.CLAUSE_BREAKS)
_PREDICATE = any_of((words.PREDICATE,))
_JOINT = re.compile(r",(?= )| and (?!(?:left|right)\b)", re.IGNORECASE)
_PSEUDO = any_of(words.PSEUDO_NEGATION)
_NEGATION_BEFORE = any_of(words.NEGATION_BEFORE)
_NEGATION_AFTER = any_of(words.NEGATION_AFTER)
_DOUBT_BEFORE = any_of(words.DOUBT_BEFORE)
_DOUBT_AFTER = any_of(words.DOUBT_AFTER)
_ELSEWHEN = any_of(words.NOT_THIS_PATIENT_NOW)
_PARENTHESIS = re.compile(r"\([^()]*\)")


@dataclass(frozen=True)
class Context:
    """The clauses and triggers of one sentence; all offsets count in the report's text.

    Args:
        clauses: Spans that cover the sentence, in order.
        parentheses: Spans of its parentheses.
        negation_before: Triggers that deny what follows.
        negation_after: Triggers that deny what precedes.
        doubt_before: Triggers that doubt what follows.
        doubt_after: Triggers that doubt what precedes.
        elsewhen: Triggers after which the past or other persons are spoken of.
    """

    clauses: tuple[Span, ...]
    parentheses: tuple[Span, ...]
    negation_before: tuple[Span, ...]
    negation_after: tuple[Span, ...]
    doubt_before: tuple[Span, ...]
    doubt_after: tuple[Span, ...]
    elsewhen: tuple[Span, ...]

    def clause_of(self, offset: int) -> Span:
        """Returns the clause that holds `offset`, an offset inside the sentence."""
        return next((c for c in self.clauses if c[0] <= offset < c[1]), self.clauses[-1])

    def status_of(self, mention: Span) -> Status | None:
        """Returns what the sentence says of `mention`; None where it speaks of another time."""
        if self._reached(mention, before=self.elsewhen):
            return None
        if self._reached(mention, before=self.negation_before, after=self.negation_after):
            return "absent"
        if self._reached(mention, before=self.doubt_before, after=self.doubt_after):
            return "uncertain"
        return "present"

    def _reached(
        self, mention: Span, *, before: tuple[Span, ...] = (), after: tuple[Span, ...] = ()
    ) -> bool:
        clause = self.clause_of(mention[0])
        own = self._parenthesis(mention)
        ahead = (t for t in before if clause[0] <= t[0] and t[1] <= mention[0])
        behind = (t for t in after if mention[1] <= t[0] and t[1] <= clause[1])
        # What is said in parentheses is said of them alone.
        return any(self._parenthesis(t) in (None, own) for t in ahead) or any(
            self._parenthesis(t) == own for t in behind
        )

    def _parenthesis(self, span: Span) -> Span | None:
        return next((p for p in self.parentheses if p[0] <= span[0] and span[1] <= p[1]), None)


def read_context(text: str, start: int, end: int) -> Context:
    """Returns the clauses and triggers of the sentence `text[start:end]`."""
    pseudo = _spans(_PSEUDO, text, start, end)

    def triggers(pattern: re.Pattern[str]) -> tuple[Span, ...]:
        return tuple(t for t in _spans(pattern, text, start, end) if not _overlaps(t, pseudo))

    return Context(
        clauses=_clauses(text, start, end),
        parentheses=_spans(_PARENTHESIS, text, start, end),
        negation_before=triggers(_NEGATION_BEFORE),
        negation_after=triggers(_NEGATION_AFTER),
        doubt_before=triggers(_DOUBT_BEFORE),
        doubt_after=_spans(_DOUBT_AFTER, text, start, end),
        elsewhen=_spans(_ELSEWHEN, text, start, end),
    )


def _clauses(text: str, start: int, end: int) -> tuple[Span, ...]:
    cuts = {match.start() for match in _BREAKS.finditer(text, start, end)}
    for predicate in _PREDICATE.finditer(text, start, end):
        joint = _JOINT.search(text, predicate.end(), end)
        if joint is not None and not _denies_its_subject(text, joint.end(), end):
            cuts.add(joint.start())
    enclosed = _spans(_PARENTHESIS, text, start, end)
    edges = sorted(cut for cut in cuts if start < cut and not _overlaps((cut, cut + 1), enclosed))
    return tuple(zip([start, *edges], [*edges, end], strict=True))


def _denies_its_subject(text: str, start: int, end: int) -> bool:
    """Whether what follows a comma goes on about the same subject: "seen before, is not seen"."""
    gap = len(text[start:end]) - len(text[start:end].lstrip())
    return _NEGATION_AFTER.match(text, start + gap, end) is not None


def _spans(pattern: re.Pattern[str], text: str, start: int, end: int) -> tuple[Span, ...]:
    return tuple(match.span() for match in pattern.finditer(text, start, end))


def _overlaps(span: Span, others: tuple[Span, ...]) -> bool:
    return any(span[0] < other[1] and other[0] < span[1] for other in others)
