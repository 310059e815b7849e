"""A disclosure's prose, cut into passages that the text model can read whole, and scored.

A passage is a run of consecutive sentences of one section that fits the model; a longer
sentence is divided at white space. Table rows are left out: the model was trained on
speech. The document's signal is the plain mean of its passage scores, so each passage's
part in it is exact.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from common.errors import DocumentError
from common.task import Provenance, Task, Text, digest_of
from kits.finance.disclosures.document import Disclosure, Document, Section, split_sentences

if TYPE_CHECKING:  # cutting passages needs neither a cache nor settings
    from common.routing.router import ModelRouter

__all__ = [
    "READ_SECTIONS",
    "LanguageReading",
    "PassageScore",
    "make_passages",
    "read_language",
]

# Form -> the sections that speak of risk and results; an empty tuple means all of them.
# 10-K Items 1A and 7 (Form 10-K, SEC 1673); 10-Q Part I Item 2, Part II Item 1A (SEC 1296);
# 20-F Items 3.D and 5 (SEC 1852); an 8-K is short, and its items are its events (SEC 873).
READ_SECTIONS: dict[str, tuple[str, ...]] = {
    "10-K": ("item_1a", "item_7"),
    "10-Q": ("part_1_item_2", "part_2_item_1a"),
    "20-F": ("item_3d", "item_5"),
    "8-K": (),
    "transcript": (),
}

CountTokens = Callable[[Sequence[str]], list[int]]
Span = tuple[int, int]

_WORD = re.compile(r"[^\W\d_]{2,}")
_PROSE = 0.5  # share of a sentence's white-space-separated pieces that hold a word


@dataclass(frozen=True)
class PassageScore:
    """One passage and the text model's score of it.

    Args:
        start: Offset of its first character in the document's text.
        end: Offset after its last character.
        section: Key of the section that it stands in.
        score: The model's output.
    """

    start: int
    end: int
    section: str
    score: float


@dataclass(frozen=True)
class LanguageReading:
    """All passages of a disclosure that were read, in order.

    Args:
        passages: At least one.
        n_sentences: How many sentences they hold.
        sections: Keys of the sections that were read.
        notes: What was left out, and why.
        provenance: Model, adapter and input; the input digest covers all passages.
        n_cached: How many scores the cache gave.
    """

    passages: tuple[PassageScore, ...]
    n_sentences: int
    sections: tuple[str, ...]
    notes: tuple[str, ...]
    provenance: Provenance
    n_cached: int

    @property
    def mean_score(self) -> float:
        """The document's signal: the mean of its passage scores."""
        return math.fsum(p.score for p in self.passages) / len(self.passages)


def read_language(
    disclosure: Disclosure, router: ModelRouter, *, count_tokens: CountTokens, max_tokens: int
) -> LanguageReading:
    """Scores the disclosure's prose, passage by passage, through `router`.

    Args:
        disclosure: The form and its sections.
        router: Its "text" slot answers with `score`.
        count_tokens: Token count of each text for that model, special tokens included.
        max_tokens: The longest text that the model takes.

    Raises:
        DocumentError: None of the sections to read was found, or they hold no prose.
    """
    sections, notes = _sections_to_read(disclosure)
    document = disclosure.document
    spans: list[tuple[Span, str]] = []
    n_sentences = n_rows = 0
    for section in sections:
        sentences = [(s.start, s.end) for s in split_sentences(document, section)]
        n_prose = sum(_is_prose(document.text[start:end]) for start, end in sentences)
        n_sentences, n_rows = n_sentences + n_prose, n_rows + len(sentences) - n_prose
        passages = make_passages(document.text, sentences, count_tokens, max_tokens)
        spans += [(passage, section.key) for passage in passages]
    if not spans:
        raise DocumentError(
            f"{disclosure.form} text",
            expected="prose in the sections that are read",
            found=f"{n_rows} table rows and no sentence",
            remedy="Give the full document, not an exhibit or a table.",
        )
    if n_rows:
        notes.append(f"{n_rows} table rows were not read by the text model.")
    return _scored(document, spans, router, n_sentences=n_sentences, notes=notes)


def make_passages(
    text: str, sentences: Sequence[Span], count_tokens: CountTokens, max_tokens: int
) -> list[Span]:
    """Joins consecutive prose sentences into passages of at most `max_tokens` tokens.

    Args:
        text: The whole text.
        sentences: Offsets of its sentences, in order.
        count_tokens: Token count of each text, special tokens included.
        max_tokens: The longest passage.

    Returns:
        Offsets of the passages, in order; they hold every prose sentence exactly once.
    """
    prose = [(start, end) for start, end in sentences if _is_prose(text[start:end])]
    if not prose:
        return []
    special, *counts = count_tokens(["", *(text[start:end] for start, end in prose)])
    groups: list[list[Span]] = []
    previous_end, used = None, 0
    followers = dict(pairwise(sentences))
    for span, count in zip(prose, counts, strict=True):
        adjacent = previous_end is not None and followers.get(previous_end) == span
        if adjacent and used + count - special <= max_tokens:
            groups[-1].append(span)
            used += count - special
        else:
            groups.append([span])
            used = count
        previous_end = span
    whole = [(group[0][0], group[-1][1]) for group in groups]
    return [part for span in whole for part in _divided(text, span, count_tokens, max_tokens)]


def _sections_to_read(disclosure: Disclosure) -> tuple[list[Section], list[str]]:
    keys = READ_SECTIONS[disclosure.form]
    if not keys:
        return list(disclosure.sections), []
    sections = [section for section in disclosure.sections if section.key in keys]
    absent = [key for key in keys if key not in {section.key for section in sections}]
    if not sections:
        disclosure.section(keys[0])  # raises with what was found instead
    return sections, [f"Section {key} was not found whole and was not read." for key in absent]


def _scored(
    document: Document,
    spans: Sequence[tuple[Span, str]],
    router: ModelRouter,
    *,
    n_sentences: int,
    notes: Sequence[str],
) -> LanguageReading:
    tasks = [Task({"text": Text(document.text[start:end])}) for (start, end), _ in spans]
    answers = [routed["text"] for routed in router.execute_many(tasks)]
    first = answers[0].provenance
    return LanguageReading(
        passages=tuple(
            PassageScore(start, end, section, float(answer.result.values["score"]))
            for ((start, end), section), answer in zip(spans, answers, strict=True)
        ),
        n_sentences=n_sentences,
        sections=tuple(dict.fromkeys(section for _, section in spans)),
        notes=tuple(notes),
        provenance=Provenance(
            model=first.model,
            model_digest=first.model_digest,
            input_digest=digest_of(*(task.digest().encode() for task in tasks)),
            adapter=first.adapter,
            adapter_digest=first.adapter_digest,
            software=first.software,
        ),
        n_cached=sum(answer.cached for answer in answers),
    )


def _is_prose(sentence: str) -> bool:
    pieces = sentence.split()
    return sum(bool(_WORD.search(piece)) for piece in pieces) >= _PROSE * len(pieces)


def _divided(text: str, span: Span, count_tokens: CountTokens, max_tokens: int) -> Iterator[Span]:
    """Yields `span`, or its halves (cut at white space, else anywhere) until each fits."""
    start, end = span
    if count_tokens([text[start:end]])[0] <= max_tokens:
        yield span
        return
    middle = (start + end) // 2
    blanks = [match.start() for match in re.finditer(r"\s+", text[start:end])]
    cut = min((start + blank for blank in blanks), key=lambda at: abs(at - middle), default=middle)
    for part_start, part_end in ((start, cut), (cut, end)):
        piece = text[part_start:part_end]
        if body := piece.strip():
            first = part_start + len(piece) - len(piece.lstrip())
            yield from _divided(text, (first, first + len(body)), count_tokens, max_tokens)
