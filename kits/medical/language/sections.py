"""The sections and sentences of a radiology report, as offsets into its text.

Handled: headings on lines of their own, headings with a colon at the start of a line, and the
common headings in capitals anywhere after a sentence's end. Not handled: tables and forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

__all__ = [
    "LONGEST_SENTENCE",
    "UNASSERTED_SECTIONS",
    "Section",
    "Sentence",
    "split_sections",
    "split_sentences",
]

LONGEST_SENTENCE = 1000  # characters

UNASSERTED_SECTIONS = frozenset({"comparison", "history", "indication", "recommendation"})
"""Sections that say what was known, asked or advised, not what this examination shows."""

# Our own words, after the headings of the RSNA report template (Kahn et al. 2009, Radiology
# 252:852) and those met in the reports that the tests use.
_HEADINGS: dict[str, tuple[str, ...]] = {
    "findings": ("findings?", "description", "observations?", "results?", "report", "ct findings"),
    "impression": (
        "impressions?",
        "conclusions?",
        "summary",
        "opinion",
        "diagnos[ie]s",
        "assessment",
    ),
    "history": (
        "(?:relevant |past |medical |clinical |patient |family |social |surgical )*history",
        "anamnesis",
        "background",
    ),
    "indication": (
        "indications?(?: for (?:the )?(?:exam|examination|study))?",
        "reasons? for (?:the )?(?:exam|examination|study|request)",
        "clinical (?:information|data|question|indication|details|problem)",
        "request(?: reason)?",
        "question",
    ),
    "comparison": (
        "comparisons?",
        "(?:prior|previous) (?:stud(?:y|ies)|exams?|examinations?|imaging)",
    ),
    "technique": (
        "(?:examination |scan(?:ning)? )?technique",
        "protocol",
        "procedure",
        "contrast(?: agent)?",
    ),
    "recommendation": ("recommendations?", "advice", "follow[- ]?up"),
}
# A heading of an organ opens the findings, or subdivides findings and impression.
_ORGANS = (
    "thorax",
    "chest",
    "(?:ct )?lungs?(?: parenchyma)?",
    "pleurae?",
    "mediastinum",
    "hila",
    "heart",
    "vessels",
    "airways?",
    "bones?",
    "(?:upper )?abdomen",
    "soft tissues?",
    "chest wall",
    "lymph nodes?",
    "neck",
    "other",
)
_NAMES = "|".join(
    [f"(?P<{key}>{'|'.join(words)})" for key, words in _HEADINGS.items()]
    + [f"(?P<organ>{'|'.join(_ORGANS)})"]
)
_KNOWN = re.compile(
    rf"^[ \t]*(?:\#+[ \t]*|\*+)?(?:{_NAMES})\*?[ \t]*(?:\*\*[ \t]*)?(?::|[ \t]*$)[ \t]*\**",
    re.IGNORECASE | re.MULTILINE,
)
_INLINE = re.compile(rf"(?<=[.?!;]\s)(?-i:(?=[A-Z]{{4}}))(?:{_NAMES}):", re.IGNORECASE)
_UNKNOWN = re.compile(r"^[ \t]*(?:\#+[ \t]*)?[A-Z][^\n:.;?]{1,60}:[ \t]*$", re.MULTILINE)

_ABBREVIATIONS = re.compile(
    r"\b(?:approx|ca|cf|cm|dr|e\.g|etc|fig|i\.e|im|img|incl|max|min|mm|mr|mrs|nr|resp|ser|st|vs)\.$",
    re.IGNORECASE,
)
_BREAK = re.compile(
    r"(?P<stop>[.!?]+[\"”’)\]]*)(?=\s|$|[\"•])"  # a stop before white space; never inside 2.5
    r"|(?P<line>\n)(?=[ \t]*(?:\n|$|[-*•–>]|\d+[.)][ \t]|[A-Z]))"  # a new line that opens anew
    r"|(?P<bullet>[•\"“])"  # bullets and quotes set the items of a list apart
)
_ENCLOSED = re.compile(r"\([^()\n]{1,200}\)")


@dataclass(frozen=True)
class Section:
    """One section; `text[start:end]` is what follows its heading.

    Args:
        key: A key of the heading table, or "body" for text under no heading or an unknown one.
        start: Offset of its first character.
        end: Offset one past its last.
    """

    key: str
    start: int
    end: int


@dataclass(frozen=True)
class Sentence:
    """One sentence, without white space at its ends.

    Args:
        start: Offset of its first character.
        end: Offset one past its last.
        section: Key of its section.
    """

    start: int
    end: int
    section: str


def split_sections(text: str) -> tuple[Section, ...]:
    """Returns the sections in order; headings apart, they cover the text."""
    headings = sorted(_headings(text), key=lambda found: found[0])
    sections: list[Section] = []
    key, start = "body", 0
    for heading_start, heading_end, name in headings:
        if heading_start < start:
            continue  # the same line matched twice
        sections.append(Section(key, start, heading_start))
        if name != "organ":
            key = name
        elif key != "impression":
            key = "findings"
        start = heading_end
    sections.append(Section(key, start, len(text)))
    return tuple(section for section in sections if text[section.start : section.end].strip())


def split_sentences(text: str, section: Section) -> tuple[Sentence, ...]:
    """Returns the sentences of `section`, in order and without white space at their ends.

    A sentence ends at a stop before white space, at a bullet or quotation mark, and at a line end
    before a blank line, a bullet or a capital; at 1,000 characters it is cut. Decimals and common
    abbreviations do not end one.
    """
    cuts = [section.start]
    enclosed = [m.span() for m in _ENCLOSED.finditer(text, section.start, section.end)]
    for match in _BREAK.finditer(text, section.start, section.end):
        if any(start < match.start() < end - 1 for start, end in enclosed):
            continue  # "(granuloma? lymph node?)" is one remark
        if match["stop"] and _is_abbreviation(text, match):
            continue
        cuts.append(match.end())
    cuts.append(section.end)
    pieces = (piece for start, end in pairwise(cuts) for piece in _in_bounds(text, start, end))
    trimmed = (_trim(text, start, end) for start, end in pieces)
    return tuple(Sentence(start, end, section.key) for start, end in trimmed if start < end)


def _headings(text: str) -> list[tuple[int, int, str]]:
    known = [
        (match.start(), match.end(), match.lastgroup or "body")
        for pattern in (_KNOWN, _INLINE)
        for match in pattern.finditer(text)
    ]
    taken = {start for start, _, _ in known}
    unknown = [match.span() for match in _UNKNOWN.finditer(text) if match.start() not in taken]
    return known + [(start, end, "body") for start, end in unknown]


def _is_abbreviation(text: str, match: re.Match[str]) -> bool:
    """Whether a stop belongs to an abbreviation and a sentence does not open after it."""
    after = text[match.end() :].lstrip()[:1]
    if match["stop"] != "." or after.isupper():
        return False
    line = text[max(0, match.start() - 12) : match.start() + 1]
    return _ABBREVIATIONS.search(line) is not None


def _in_bounds(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cuts what no stop divides at white space, so that reading takes time linear in the text."""
    while end - start > LONGEST_SENTENCE:
        space = text.rfind(" ", start + 1, start + LONGEST_SENTENCE)
        cut = space if space > start else start + LONGEST_SENTENCE
        yield start, cut
        start = cut
    yield start, end


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip(' \t\r\n\f"“”•'))
    right = len(piece.rstrip(' \t\r\n\f"“”•'))
    return start + left, start + right
