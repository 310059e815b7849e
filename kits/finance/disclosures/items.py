"""Finds the item headings of a 10-K or 10-Q in its text, contents tables left aside.

The items, their order and their captions are those of Form 10-K (SEC 1673) and Form 10-Q
(SEC 1296), with the captions that earlier editions of the forms prescribed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

__all__ = ["ITEMS", "FilingForm", "Heading", "Item", "find_headings", "item_named"]

FilingForm = Literal["10-K", "10-Q"]


class Item(NamedTuple):
    """An item of a form: its section key, its number, and a pattern of its captions."""

    key: str
    part: int
    number: str
    caption: re.Pattern[str]


def _item(part: int, number: str, caption: str, *, key: str | None = None) -> Item:
    pattern = rf"(?:(?:{caption})|\W*(?:removed|reserved|intentionally omitted|omitted)\b)"
    key = key or f"part_{part}_item_{number.lower()}"
    return Item(key, part, number, re.compile(pattern, re.IGNORECASE))


def _item_10k(part: int, number: str, caption: str) -> Item:
    return _item(part, number, caption, key=f"item_{number.lower()}")


ITEMS: dict[FilingForm, tuple[Item, ...]] = {
    "10-K": (
        _item_10k(1, "1", r"(?:description of )?(?:the |our )?(?:company.?s )?business"),
        _item_10k(1, "1A", r"risk factors?"),
        _item_10k(1, "1B", r"unresolved (?:sec )?staff comments?"),
        _item_10k(1, "1C", r"cyber ?security"),
        _item_10k(1, "2", r"(?:description of )?(?:our )?propert"),
        _item_10k(1, "3", r"legal (?:proceedings?|matters)|litigation"),
        _item_10k(1, "4", r"submission (?:of|or) matters|mine safety"),
        _item_10k(2, "5", r"market (?:for|price|information)|common (?:stock|equity)"),
        _item_10k(2, "6", r"(?:consolidated )?selected|(?:five|six|ten).year"),
        _item_10k(2, "7", r"management\W{0,2}s? discussion"),
        _item_10k(2, "7A", r"quantit|qualit|(?:disclosures? about )?market risk"),
        _item_10k(2, "8", r"(?:consolidated )?financial statements|index to (?:consolidated )?fin"),
        _item_10k(2, "9", r"(?:changes in|changes and|disagreements)"),
        _item_10k(2, "9A", r"(?:evaluation of )?(?:disclosure )?controls"),
        _item_10k(2, "9B", r"other information"),
        _item_10k(2, "9C", r"disclosures? regarding foreign"),
        _item_10k(3, "10", r"directors|executive officers"),
        _item_10k(3, "11", r"executive compensation|compensation|management remuneration"),
        _item_10k(3, "12", r"(?:security|stock|share) ?ownership|ownership of"),
        _item_10k(3, "13", r"certain (?:relationships|transactions)|relationships"),
        _item_10k(3, "14", r"principal account|controls and|exhibits?|fees"),
        _item_10k(4, "15", r"exhibits?|(?:consolidated )?financial statement|principal account"),
        _item_10k(4, "16", r"form 10-k summary|summary|exhibits?"),
    ),
    "10-Q": (
        _item(1, "1", r"(?:[\w]+ ){0,4}financial (?:statements?|information)"),
        _item(1, "2", r"management\W{0,2}s? discussion"),
        _item(1, "3", r"quantitative|qualitative|disclosures? about market risk"),
        _item(1, "4", r"(?:evaluation of )?(?:disclosure )?controls"),
        _item(2, "1", r"legal (?:proceedings?|matters)|litigation"),
        _item(2, "1A", r"risk factors?"),
        _item(2, "2", r"unregistered sale|changes in securit|(?:issuer )?(?:purchases|repurch)"),
        _item(2, "3", r"defaults?"),
        _item(2, "4", r"mine safety|submission (?:of|or) matters"),
        _item(2, "5", r"other (?:information|matters)"),
        _item(2, "6", r"exhibits?"),
    ),
}  # fmt: skip

_LABEL = re.compile(
    r"^[ \t]*(?:part[ \t]+[IV]+[ \t]*[,.:;\-–—]*[ \t]*)?"
    r"items?[ \t\xa0]*(?P<number>\d{1,2})"
    r"(?P<letter>\(?[A-C]\)?(?![A-Z])|[ \t](?-i:[A-C])(?=[.:)\t-]))?"
    r"(?:[ \t]*(?:and|&)[ \t]*(?:items?[ \t]*)?2)?(?![\w(])[ \t.:|\-–—)]*",
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
    r"heading|captions|headings|section)\W*\Z|[,“(]\Z",
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


def item_named(form: FilingForm, part: int | None, number: str) -> Item | None:
    """Returns the item of `form` with this number; `part` decides between equal numbers."""
    found = [item for item in ITEMS[form] if item.number == number.upper()]
    if form == "10-Q" and part is not None:
        found = [item for item in found if item.part == part]
    return found[0] if len(found) == 1 else None


def find_headings(text: str, form: FilingForm) -> tuple[Heading, ...]:
    """Returns the item headings that follow the form's order best, in rising order.

    Contents tables, pointers in running text and "(continued)" page headings are left
    out. Among the rest the chain of rising items with the most captions is chosen; of
    equals, the earliest.
    """
    readings = list(_readings(text, form))
    contents = _contents(text, readings)
    return _best_chain([reading for reading in readings if reading.start not in contents])


def _readings(text: str, form: FilingForm) -> Iterator[Heading]:
    """Yields every heading-like line once for each item that it can stand for."""
    for label in _LABEL.finditer(text):
        line_end = _line_end(text, label.end())
        rest = text[label.end() : line_end]
        if _CONTINUED.search(rest[:80]) or _LEADS_ON.search(_line_before(text, label.start())):
            continue
        number = (label["number"] + (label["letter"] or "").strip("() \t")).upper()
        caption, end = (rest, line_end) if rest.strip() else _next_line(text, line_end)
        start = label.start() + len(label.group()) - len(label.group().lstrip())
        of_number = [(r, item) for r, item in enumerate(ITEMS[form]) if item.number == number]
        named = [(r, item) for r, item in of_number if _captioned(item, caption)]
        if named:
            yield from (Heading(item, r, start, end, named=True) for r, item in named)
        elif _may_be_heading(rest):
            yield from (Heading(item, r, start, line_end, named=False) for r, item in of_number)


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
    end = _line_end(text, start)
    following, _ = _next_line(text, end)
    return bool(_PAGE_NUMBER.search(text[start + 8 : end]) or _BARE_NUMBER.match(following))


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
