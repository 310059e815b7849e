"""Finds the sentences of a text as offsets.

Lines are blocks: a heading, a bullet or a table row is a sentence of its own. Within a
block a sentence ends at `.`, `!` or `?` before white space, unless an abbreviation, an
initial, an item number or a lower-case continuation speaks against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

__all__ = ["sentence_spans"]

_LINE = re.compile(r"[^\r\n\f\v\x1c-\x1e\x85\u2028\u2029]+")
_END = re.compile(r"(?:\.(?:\s?\.)+|[.!?…]+)[\"'”’)\]]*(?=\s)")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘—–/]+$")


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


# never the last word of a sentence
_NEVER = _words(
    "mr mrs ms dr prof hon gov sen rep gen messrs st mt vs v e.g i.e cf viz no nos art arts sec "
    "secs reg regs fig figs ex exh pp para ch cl vol approx ca incl excl est al jan feb mar apr "
    "jun jul aug sept sep oct nov dec"
)
# may be the last word of a sentence, when the next one begins like one
_MAYBE = _words(
    "inc corp co cos ltd llc plc l.p n.v s.a a.g l.l.c p.l.c bros dept div intl assn mfg u.s u.k "
    "u.s.a e.u d.c n.a u.n ph.d m.d j.d b.s m.s m.b.a a.m p.m jr sr esq etc p.a"
)
_STARTERS = _words(
    "a additionally after all although among an and any as at because before beginning both but "
    "by certain consequently despite during each even for from further furthermore given he her "
    "his however i if in it its many moreover most neither no none nor of on one other our over "
    "several she since so some such that the their then there therefore these they this those "
    "through thus to under unless until upon we what when where whether which while who "
    "with without you your"
)
_ENUMERATOR = re.compile(
    r"(?:(?:items?|part|note|section|chapter)\s+)?\(?(?:\d{1,2}[A-Za-z]?|[A-Za-z]|[IVXivx]+)\.\Z",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"\b(?:items?|part|note|nos?|section|rule|exhibit)\s+\d{1,3}[A-Za-z]?\.\Z", re.IGNORECASE
)
_BULLET = re.compile(r"\s*(?:[•●▪■◦‣·*–—-]|\(?\w{1,3}[.)])\s")


def sentence_spans(
    text: str, start: int, end: int, *, lines_may_wrap: bool = False
) -> list[tuple[int, int]]:
    """Returns the sentences of `text[start:end]` as `(start, end)` offsets into `text`.

    Args:
        text: The whole text.
        start: Where to begin.
        end: Where to stop.
        lines_may_wrap: Whether a line end may stand within a sentence, as in plain text
            broken at a fixed width; then lines of about that width run on.

    Returns:
        Spans in order that do not overlap, neither begin nor end with white space, and
        together hold every other character of `text[start:end]`.
    """
    spans: list[tuple[int, int]] = []
    for block_start, block_end in _blocks(text, start, end, lines_may_wrap=lines_may_wrap):
        begin = block_start
        for position in _boundaries(text, block_start, block_end):
            _append(spans, text, begin, position)
            begin = position
        _append(spans, text, begin, block_end)
    return spans


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    body = piece.strip()
    if body:
        first = start + len(piece) - len(piece.lstrip())
        spans.append((first, first + len(body)))


def _blocks(text: str, start: int, end: int, *, lines_may_wrap: bool) -> Iterator[tuple[int, int]]:
    lines = [line.span() for line in _LINE.finditer(text, start, end)]
    width = _wrap_width(lines) if lines_may_wrap else 0
    if not width:
        yield from lines
        return
    begin = lines[0][0]
    for line, following in pairwise(lines):
        if not _runs_on(text, line, following, width=width):
            yield begin, line[1]
            begin = following[0]
    yield begin, lines[-1][1]


def _wrap_width(lines: list[tuple[int, int]]) -> int:
    """Returns the width at which a text was broken, or 0 if its lines are paragraphs."""
    lengths = sorted(last - first for first, last in lines)
    if len(lengths) < 5:
        return 0
    widest, median = lengths[int(len(lengths) * 0.98)], lengths[len(lengths) // 2]
    return widest if widest <= 132 and median >= 0.6 * widest else 0


def _runs_on(text: str, line: tuple[int, int], following: tuple[int, int], *, width: int) -> bool:
    between = text[line[1] : following[0]]
    if between.count("\n") > 1 or _BULLET.match(text, *following):
        return False
    return (
        line[1] - line[0] >= 0.7 * width or text[following[0] : following[1]].lstrip()[:1].islower()
    )


def _boundaries(text: str, start: int, end: int) -> Iterator[int]:
    for match in _END.finditer(text, start, end):
        following = text[match.end() : match.end() + 40].lstrip().lstrip("\"'“‘([•")
        if following and not _continues(text, start, match, following):
            yield match.end()


def _continues(text: str, start: int, match: re.Match[str], following: str) -> bool:
    """Whether the sentence goes on after the full stop at `match`."""
    if following[0].islower():
        return True
    if match.group()[0] != "." or ".." in match.group():
        return False
    before = text[max(start, match.start() - 40) : match.start()]
    so_far = before + "."
    if _REFERENCE.search(so_far) or (
        match.start() - start <= 24
        and _ENUMERATOR.fullmatch(text[start : match.start() + 1].strip())
    ):
        return True
    word = _LAST_WORD.search(before)
    name = word.group().lower() if word else ""
    if name in _NEVER:
        return name != "no" or following[0].isdigit()
    is_initial = len(name) == 1 and name.isalpha() and name != "i"
    if name in _MAYBE or is_initial:
        return re.split(r"[^\w]", following.lower(), maxsplit=1)[0] not in _STARTERS
    return False
