"""Size, side and lobe of a mention: which of the sentence's descriptors are its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

from kits.medical.language.context import Span

__all__ = ["Laterality", "lobes_in", "nearest_own", "sides_in", "sizes_in"]

Laterality = Literal["left", "right", "bilateral"]
T = TypeVar("T")

_NUMBER = r"\d+(?:[.,]\d{1,2})?"
_UNIT = r"(?:mm|cm|milli-?met(?:er|re)s?|centi-?met(?:er|re)s?)"
_SIZE = re.compile(
    rf"(?<![\w.,])(?P<numbers>{_NUMBER}(?:\s*{_UNIT}?\s*(?:x|×|\*|by|-|–|to)\s*{_NUMBER})*)"
    rf"(?:\s|-)*(?P<unit>{_UNIT})(?![\w²³^])",
    re.IGNORECASE,
)
_PIECE = re.compile(rf"(?P<number>{_NUMBER})\s*(?P<unit>{_UNIT})?", re.IGNORECASE)
# Words before a number that make it a bound, an earlier size or a distance, not the size now.
_NOT_ITS_SIZE = re.compile(
    r"(?:<|>|≤|≥|\b(?:smaller|less|larger|greater|more|bigger) than|\bunder|\bbelow|\bpreviously"
    r"|\bformerly|\bprior|\bbefore|\bcompared (?:to|with)|\bversus|\bvs\.?|\bfrom|\bwas"
    r"|\bthickness(?: of)?|\bslices?(?: of)?|\bincrements?(?: of)?|\bdistance(?: of)?)"
    r"[\s(:]*(?:the |a |an |about )?$",
    re.IGNORECASE,
)
# A distance or an earlier time named after the number.
_NOT_ITS_SIZE_AFTER = re.compile(
    r"\s*(?:thick|slices?|sections?|(?:away|distal|proximal|above|below|from)\b|in the previous"
    r"|previously|before\b)",
    re.IGNORECASE,
)

_JOINT = re.compile(r",|\band\b|\bwith\b", re.IGNORECASE)
_FAR = 1000  # characters; more than a clause holds

_SIDES: tuple[tuple[str, Laterality], ...] = (
    (r"bilateral(?:ly)?|bibasilar|bibasal|biapical|both", "bilateral"),
    (r"left(?:-sided)?|lingula\w*|L[UL]L", "left"),
    (r"right(?:-sided)?|middle lobe|R[UML]L", "right"),
)
_LOBES: tuple[tuple[str, str], ...] = (
    (r"upper(?:[ -](?:and|or|to)(?: left| right)? \w+)? lobes?|[LR]UL", "upper lobe"),
    (r"middle(?:[ -](?:and|or)(?: left| right)? \w+)? lobes?|RML", "middle lobe"),
    (r"lower(?:[ -](?:and|or)(?: left| right)? \w+)? lobes?|[LR]LL", "lower lobe"),
    (r"lingula\w*", "lingula"),
)


def sizes_in(text: str, start: int, end: int) -> list[tuple[Span, float]]:
    """Returns each size in `text[start:end]` and the largest of its diameters in mm.

    Read: "12 mm", "1.2 cm", "1,2 cm", "12 x 8 mm", "7-millimeter", "3-4 mm". Left out: bounds
    ("smaller than 5 mm"), earlier sizes ("previously 8 mm"), slice thicknesses and distances.
    """
    sizes = []
    for match in _SIZE.finditer(text, start, end):
        before, after = text[start : match.start()], text[match.end() : end]
        if _NOT_ITS_SIZE.search(before) or _NOT_ITS_SIZE_AFTER.match(after):
            continue
        diameters = [
            float(piece["number"].replace(",", ".")) * _mm_per(piece["unit"] or match["unit"])
            for piece in _PIECE.finditer(match.group())
        ]
        sizes.append((match.span(), round(max(diameters), 3)))
    return sizes


def sides_in(text: str, start: int, end: int) -> list[tuple[Span, Laterality]]:
    """Returns each side named in `text[start:end]`; a lobe of one lung names its side."""
    return _named(_SIDES, text, start, end)


def lobes_in(text: str, start: int, end: int) -> list[tuple[Span, str]]:
    """Returns each lobe named in `text[start:end]`."""
    return _named(_LOBES, text, start, end)


def nearest_own(
    text: str, mention: Span, *, rivals: Sequence[Span], descriptors: Sequence[tuple[Span, T]]
) -> list[T]:
    """Returns the values of the descriptors nearer to `mention` than to any of `rivals`.

    They come nearest first. Nearness counts characters; a comma or "and" between makes what
    precedes the mention far ("in the left lower lobe and a nodule ..."), and of two equally near
    mentions the one after the descriptor owns it ("a 5 mm nodule").
    """
    own = [
        (_gap(text, mention, span), value)
        for span, value in descriptors
        if all(_gap(text, mention, span) <= _gap(text, rival, span) for rival in rivals)
    ]
    return [value for _, value in sorted(own, key=lambda pair: pair[0])]


def _gap(text: str, mention: Span, descriptor: Span) -> float:
    if descriptor[1] <= mention[0]:
        between = text[descriptor[1] : mention[0]]
        return len(between) - 0.5 + (_FAR if _JOINT.search(between) else 0)
    return max(0, descriptor[0] - mention[1])


def _named(table: Iterable[tuple[str, T]], text: str, start: int, end: int) -> list[tuple[Span, T]]:
    found = [
        (match.span(), value)
        for pattern, value in table
        for match in re.finditer(rf"\b(?:{pattern})\b", text[start:end], re.IGNORECASE)
    ]
    return [((a + start, b + start), value) for (a, b), value in sorted(found, key=lambda f: f[0])]


def _mm_per(unit: str) -> float:
    return 10.0 if unit.lower().startswith("c") else 1.0
