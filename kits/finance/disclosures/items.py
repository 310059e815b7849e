"""Finds the item headings of a 10-K, 10-Q or 20-F in its text, contents tables left aside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from kits.finance.disclosures.forms import ITEMS, FilingForm, Item

__all__ = ["ContentsEntry", "Heading", "find_contents", "find_headings", "only_points"]


def _label(letters: str, between: str = "") -> re.Pattern[str]:
    return re.compile(
        r"^[ \t]*(?:part[ \t]+[IV]+[ \t]*[,.:;\-–—]*[ \t]*)?"
        r"items?[ \t\xa0]*(?P<number>\d{1,2})"
        rf"(?P<letter>{between}\(?[{letters}]\)?(?![A-Z])|[ \t](?-i:[{letters}])(?=[.:)\t-]))?"
        r"(?:[ \t]*(?:and|&)[ \t]*(?:items?[ \t]*)?2)?(?![\w(])[ \t.:|\-–—)]*",
        re.IGNORECASE | re.MULTILINE,
    )


_DOMESTIC = _label("A-C")
_FOREIGN = _label("A-K", r"\.?")
# Form 20-F's risk factors are the last part of Item 3, often headed by its letter alone
_RISKS_20F = re.compile(
    r"^[ \t]*(?P<number>3?)[ \t.]*\(?(?P<letter>D)[.)][ \t]*(?=risk factors)",
    re.IGNORECASE | re.MULTILINE,
)
_CONTINUED = re.compile(r"\bcontinued\b|\(cont", re.IGNORECASE)
# what follows a caption in running text that only points at the item
_POINTER = re.compile(
    r"[ \t]*(?:[,;”’\"']|\.?[”\"]|(?-i:in|of|and|section|above|below|on|as|to|for|which|that|"
    r"contained|included|herein|set|discuss\w+|describ\w+)\b)",
    re.IGNORECASE,
)
# the items whose caption is complete, so that a pointer can be told from it
_CLOSED = frozenset(
    {"item_1a", "item_1b", "item_1c", "item_3", "item_9b", "part_2_item_1", "part_2_item_1a"}
)
_LEADS_ON = re.compile(
    r"\b(?:see|in|under|and|the|of|to|with|or|by|at|also|from|our|this|caption|entitled|titled|"
    r"heading|captions|headings|section)[^\w.!?]*\Z|[,“(]\Z",
    re.IGNORECASE,
)
_PAGE_NUMBER = re.compile(r"[\s.]\d{1,3}(?:[ \t]*[-–,][ \t]*\d{1,3})*[ \t]*\Z")
_BARE_NUMBER = re.compile(r"[ \t]*\d{1,3}(?:[ \t]*[-–][ \t]*\d{1,3})?[ \t]*\Z")

_CONTENTS_GAP_WORDS = 15  # a contents table has no more text than this between two items
_CAPTION_WORDS = 20  # a heading line without the form's caption is no longer than this


@dataclass(frozen=True)
class Heading:
    """An item heading in the text.

    Args:
        item: The item of the form.
        rank: Its place among the form's items, from 0.
        start: Where the heading begins; `end` is where its line (or caption line) ends.
        named: Whether the form's caption follows the number.
        rivals: Where other headings of the same item begin further on, contents tables
            apart.
    """

    item: Item
    rank: int
    start: int
    end: int
    named: bool
    rivals: tuple[int, ...] = ()


@dataclass(frozen=True)
class ContentsEntry:
    """What a contents table says of an item: where its row begins, and its page if given."""

    item: Item
    start: int
    page: int | None


def find_headings(text: str, form: FilingForm) -> tuple[Heading, ...]:
    """Returns the item headings that follow the form's order best, in rising order.

    Contents tables, pointers in running text and "(continued)" page headings are left
    out. Among the rest the chain of rising items with the most captions is chosen; of
    equals, the earliest.
    """
    readings = list(_readings(text, form))
    contents = _contents(text, readings)
    return _best_chain([reading for reading in readings if reading.start not in contents])


def find_contents(text: str, form: FilingForm) -> dict[str, ContentsEntry]:
    """Returns the rows of the filing's contents table, by section key.

    An index that stands in place of item headings is read as a contents table too.
    """
    readings = list(_readings(text, form))
    contents = _contents(text, readings)
    entries: dict[str, ContentsEntry] = {}
    for reading in readings:
        if reading.start in contents and reading.named:
            page = _page_number(text, reading.start)
            entries.setdefault(reading.item.key, ContentsEntry(reading.item, reading.start, page))
    return entries


def only_points(text: str, start: int, item: Item, form: FilingForm) -> bool:
    """Whether an item's name at the start of a line opens a sentence that points at the item."""
    label = next((one for one in _labels(text, form) if one.end() > start), None)
    if label is None or label.start() > start:
        return False
    rest = text[label.end() : _line_end(text, label.end())]
    return bool(rest.strip()) and not _captioned(item, rest) and not _may_be_heading(rest)


def _readings(text: str, form: FilingForm) -> Iterator[Heading]:
    """Yields every heading-like line once for each item that it can stand for."""
    for label in _labels(text, form):
        line_end = _line_end(text, label.end())
        rest = text[label.end() : line_end]
        if _CONTINUED.search(rest[:80]) or _LEADS_ON.search(_line_before(text, label.start())):
            continue
        number = ((label["number"] or "3") + (label["letter"] or "").strip("(). \t")).upper()
        caption, end = (rest, line_end) if rest.strip() else _next_line(text, line_end)
        start = label.start() + len(label.group()) - len(label.group().lstrip())
        of_number = [(r, item) for r, item in enumerate(ITEMS[form]) if item.number == number]
        named = [(r, item) for r, item in of_number if _captioned(item, caption)]
        if named:
            yield from (Heading(item, r, start, end, named=True) for r, item in named)
        elif _may_be_heading(rest):
            yield from (Heading(item, r, start, line_end, named=False) for r, item in of_number)


def _labels(text: str, form: FilingForm) -> Iterator[re.Match[str]]:
    if form != "20-F":
        yield from _DOMESTIC.finditer(text)
        return
    found = [*_FOREIGN.finditer(text), *_RISKS_20F.finditer(text)]
    yield from sorted(found, key=lambda label: label.start())


def _captioned(item: Item, caption: str) -> bool:
    match = item.caption.match(caption.strip(' \t.:|-–—()[]“"'))
    if match is None:
        return False
    return item.key not in _CLOSED or not _POINTER.match(match.string, match.end())


def _may_be_heading(rest: str) -> bool:
    words = rest.split()
    return not words or (
        len(words) <= _CAPTION_WORDS and not words[0][:1].islower() and not _POINTER.match(rest)
    )


def _contents(text: str, readings: list[Heading]) -> set[int]:
    """Returns the starts of the headings that are entries of a contents table."""
    contents: set[int] = set()
    for run in _runs(text, readings):
        starts = {reading.start for reading in run}
        if len(starts) < 3:
            continue
        later = {r.item.number for r in readings if r.start > run[-1].start}
        numbered = sum(_has_page_number(text, start) for start in starts)
        recurring = len({r.start for r in run if r.item.number in later})
        if max(numbered, recurring) >= len(starts) / 2:
            contents |= starts
    return contents


def _runs(text: str, readings: list[Heading]) -> Iterator[list[Heading]]:
    """Yields the runs of rising items with hardly any text between them."""
    run: list[Heading] = []
    rank = -1
    for _, same_line in groupby(readings, key=lambda reading: reading.start):
        here = list(same_line)
        risen = [reading.rank for reading in here if reading.rank > rank]
        if run and not (risen and _is_close(text, run[-1].end, here[0].start)):
            yield run
            run, risen = [], [here[0].rank]
        run += here
        rank = min(risen, default=here[0].rank)
    if run:
        yield run


def _is_close(text: str, end: int, start: int) -> bool:
    """Whether less than a paragraph lies between, entries with page numbers apart."""
    between = [line for line in text[end:start].split("\n") if not _PAGE_NUMBER.search(line)]
    return sum(len(line.split()) for line in between) <= _CONTENTS_GAP_WORDS


def _has_page_number(text: str, start: int) -> bool:
    return _page_number(text, start) is not None


def _page_number(text: str, start: int) -> int | None:
    """Returns the first page that a contents row gives, on its line or the next."""
    end = _line_end(text, start)
    following, _ = _next_line(text, end)
    found = _PAGE_NUMBER.search(text[start + 8 : end]) or _BARE_NUMBER.match(following)
    digits = re.search(r"\d+", found.group()) if found else None
    return int(digits.group()) if digits else None


def _best_chain(readings: list[Heading]) -> tuple[Heading, ...]:
    """Returns the heaviest chain of rising rank (a caption weighs three bare numbers)."""
    best: list[int] = []
    for position, reading in enumerate(readings):
        before = [
            best[earlier]
            for earlier in range(position)
            if readings[earlier].rank < reading.rank and readings[earlier].start < reading.start
        ]
        best.append((3 if reading.named else 1) + max(before, default=0))
    chain: list[Heading] = []
    wanted, last = max(best, default=0), None
    while wanted:
        position = next(
            p
            for p, weight in enumerate(best)
            if weight == wanted
            and (last is None or (readings[p].rank < last.rank and readings[p].start < last.start))
        )
        last = readings[position]
        chain.insert(0, _with_rivals(last, readings))
        wanted -= 3 if last.named else 1
    return tuple(chain)


def _with_rivals(heading: Heading, readings: list[Heading]) -> Heading:
    same = [r.start for r in readings if r.rank == heading.rank and r.named]
    return replace(heading, rivals=tuple(start for start in same if start > heading.start))


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _line_before(text: str, start: int) -> str:
    """Returns the line directly above, or nothing where a blank line lies between."""
    begin = text.rfind("\n", 0, max(start - 1, 0)) + 1
    return text[begin:start].strip("\r\n")[-60:].rstrip(" \t")


def _next_line(text: str, position: int) -> tuple[str, int]:
    """Returns the next line that is not blank, and where it ends."""
    match = re.compile(r"\s*([^\n]*)").match(text, position)
    return (match[1], match.end()) if match else ("", position)
