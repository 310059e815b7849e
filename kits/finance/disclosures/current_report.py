"""Reads the items of an 8-K, which has no fixed order.

An item reaches from its heading to the next heading, the last one to the signature. Items
that EDGAR's header names or edgartools finds must be found here too, or they are reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from common.errors import SectionNotFoundError
from kits.finance.disclosures.document import Disclosure, Document, ItemState, ItemStatus, Section
from kits.finance.disclosures.edgar_sections import read_edgar_sections
from kits.finance.disclosures.forms import ITEMS, Item, item_name
from kits.finance.disclosures.submission import SubmissionHeader

__all__ = ["read_current_report"]

NEW_NUMBERS = date(2004, 8, 23)
"""From this day items are numbered by section, as 2.02 (SEC Release 33-8400)."""

_NUMBER = r"\d{1,2}(?:\.[ \t]?\d{2})?(?!\d)"
_LETTERS = r"(?:[ \t]*\(?[a-e]\)(?![a-z]))*"
_LABEL = re.compile(
    rf"^[ \t]*\(?items?[ \t\xa0:]*(?P<number>{_NUMBER}){_LETTERS}"
    rf"(?P<more>(?:[ \t]*(?:,|and|&|,[ \t]*and)[ \t]*(?:items?[ \t]*)?{_NUMBER}{_LETTERS})*)"
    r"[ \t.:|\-–—)]*",
    re.IGNORECASE | re.MULTILINE,
)
_LEADS_ON = re.compile(
    r"\b(?:see|in|under|and|the|of|to|with|or|by|at|also|from|our|this|caption|entitled|"
    r"heading|section|pursuant|such|that|per)[^\w.!?]*\Z|[,“(\"]\Z",
    re.IGNORECASE,
)
_RUNS_ON = re.compile(r"(?-i:of|is|and|to|in|above|below|shall|hereof|herein|that|which)\b|[,;”\"]")
_END = re.compile(
    r"^\W*signatures?\W*$|^\W*pursuant\s+to\s+the\s+requirements?\s+of\s+the\s+securities",
    re.IGNORECASE | re.MULTILINE,
)
_CONTINUED = re.compile(r"(?:\(|[-–—]\s*)cont(?:inued|['’.]?d)", re.IGNORECASE)
_CAPTION_WORDS = 25  # a heading without the form's caption is no longer than this
# the whole item is a pointer: "the information set forth in Item 1.01 ... is incorporated"
_ALL_BY_REFERENCE = re.compile(
    r"(?:information|disclosure|description)[\s\S]{0,250}?\bis\s+(?:hereby\s+)?incorporated\s+"
    r"(?:\w+\s+){0,3}by\s+(?:this\s+)?reference",
    re.IGNORECASE,
)
_NOT_GIVEN = re.compile(r"\bnot\s+applicable\b", re.IGNORECASE)
_MOST_REFERENCE_WORDS = 120
_LEAST_WORDS_GIVEN = 30
_CONTENTS_GAP_WORDS = 12
_SENTENCE_END = re.compile(r"[a-z]{2}[.!?](?=\s|\Z)")
_CLOSES_LIST = re.compile(r"[\W\d]*(?:signatures?|exhibits?|index|ex)\b", re.IGNORECASE)


@dataclass(frozen=True)
class _Heading:
    item: Item
    start: int
    end: int


@dataclass(frozen=True)
class _Block:
    """Headings that share one text: joint items, or one item that is headed twice."""

    headings: tuple[_Heading, ...]
    end: int

    @property
    def start(self) -> int:
        return self.headings[0].start

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(heading.item.key for heading in self.headings))


def read_current_report(document: Document) -> Disclosure:
    """Reads an 8-K in either numbering.

    Two headings without text between them are given as one section, under the key of the
    first; `Disclosure.joint` names the others.

    Raises:
        SectionNotFoundError: There is no item heading.
    """
    text = document.text
    headings = _without_contents(text, list(_headings(text)))
    named = _named_by_edgar(document.header)
    if not headings:
        raise SectionNotFoundError(
            "8-K",
            expected="a heading such as 'Item 2.02 Results of Operations and Financial Condition'",
            found="none" + (f", although EDGAR's header names {len(named)}" if named else ""),
            remedy="Give the complete main document of the 8-K, not an exhibit.",
        )
    stop = _END.search(text, headings[-1].end)
    blocks = list(_blocks(text, headings, stop.start() if stop else len(text)))
    faults = _faults(blocks, ends_signed=stop is not None)
    statuses = [_status(text, block, key, faults) for block in blocks for key in block.keys]
    known = {one.key for one in statuses}
    missing = [_missing(item, "EDGAR's header") for item in named.values() if item.key not in known]
    known |= {one.key for one in missing}
    missing += [_missing(item, "edgartools") for item in _by_edgartools(document, known)]
    items = _in_order([*statuses, *missing])
    sections: list[Section] = []
    joint: dict[str, str] = {}
    for block in blocks:
        given = [key for key in block.keys if key not in faults]
        if given:
            sections.append(_section(text, block, given[0]))
            joint |= dict.fromkeys(given[1:], given[0])
    withheld = {one.key: one.reason for one in items if one.state == "incomplete"}
    notes = (
        *(f"{one.name}: {one.reason}" for one in items if one.reason and one.key not in withheld),
        *(f"{key} withheld: {reason}" for key, reason in withheld.items()),
    )
    return Disclosure(document, "8-K", tuple(sections), notes, withheld, items, joint)


def _headings(text: str) -> Iterator[_Heading]:
    by_number = {item.number: item for item in ITEMS["8-K"]}
    for label in _LABEL.finditer(text):
        numbers = re.findall(_NUMBER, f"{label['number']} {label['more'] or ''}")
        items = [by_number.get(re.sub(r"[ \t]", "", number)) for number in numbers]
        line_end = _line_end(text, label.end())
        rest = text[label.end() : line_end].strip()
        if _CONTINUED.search(rest[:80]) or _LEADS_ON.search(_line_before(text, label.start())):
            continue
        if not rest:
            match = re.compile(r"\s*([^\n]*)").match(text, line_end)
            rest, line_end = (match[1].strip(), match.end()) if match else ("", line_end)
            if _LABEL.match(rest):  # the number alone: the next heading follows at once
                rest, line_end = "", _line_end(text, label.end())
        for item in items:
            if item is not None and _is_heading(item, rest):
                yield _Heading(item, _first_letter(text, label.start()), line_end)


def _without_contents(text: str, headings: list[_Heading]) -> list[_Heading]:
    """Leaves out a list of contents: headings with next to nothing between, all found again.

    The first heading behind the list must be the list's first again, and what stands between
    no more than a list closes with.
    """
    run = 1
    for here, following in pairwise(headings):
        if not _is_row(text[here.end : following.start]):
            break
        run += 1
    for n_listed in range(run, 0, -1):
        listed, rest = headings[:n_listed], headings[n_listed:]
        if not rest or rest[0].item != listed[0].item:
            continue
        between = text[listed[-1].end : rest[0].start]
        closes = _is_row(between) or _CLOSES_LIST.match(between)
        found_again = {heading.item.key for heading in rest}
        if closes and found_again >= {heading.item.key for heading in listed}:
            return rest
    return headings


def _is_row(between: str) -> bool:
    """Whether text between two headings may be the rest of a row, and is no sentence."""
    return len(between.split()) <= _CONTENTS_GAP_WORDS and not _SENTENCE_END.search(between)


def _is_heading(item: Item, rest: str) -> bool:
    caption = rest.strip(' \t.:|-–—()[]“"')
    if item.caption.match(caption):
        return True
    words = caption.split()
    return not words or (
        len(words) <= _CAPTION_WORDS
        and not words[0][:1].islower()
        and not _RUNS_ON.match(caption)
        and not caption.endswith(".")
    )


def _blocks(text: str, headings: list[_Heading], stop: int) -> Iterator[_Block]:
    """Yields runs of headings with the text that belongs to them.

    A heading without text of its own is joint with the next; a heading that repeats the one
    before it goes on with its text.
    """
    starts = [*(heading.start for heading in headings[1:]), stop]
    open_block: list[_Heading] = []
    ready: _Block | None = None
    for heading, end in zip(headings, starts, strict=True):
        open_block.append(heading)
        if not text[heading.end : end].strip() and end != stop:
            continue
        block = _Block(tuple(open_block), end)
        open_block = []
        if ready is not None and set(ready.keys) == set(block.keys):
            ready = _Block((*ready.headings, *block.headings), end)
            continue
        if ready is not None:
            yield ready
        ready = block
    if ready is not None:
        yield ready


def _faults(blocks: list[_Block], *, ends_signed: bool) -> dict[str, str]:
    """Returns the keys that cannot be given whole, with the reason."""
    faults: dict[str, str] = {}
    seen: set[str] = set()
    for block in blocks:
        again = seen & set(block.keys)
        faults |= dict.fromkeys(again, "it has a second heading apart from the first")
        seen |= set(block.keys)
    if not ends_signed:
        reason = "no signature follows the last item: the filing may be cut off"
        faults |= dict.fromkeys(blocks[-1].keys, reason)
    return faults


def _status(text: str, block: _Block, key: str, faults: Mapping[str, str]) -> ItemStatus:
    item = next(heading.item for heading in block.headings if heading.item.key == key)
    body = text[block.headings[-1].end : block.end]
    n_words = len(text[block.start : block.end].split())
    if key in faults or not body.strip():
        reason = faults.get(key, "only its heading stands there")
        return ItemStatus(key, item_name(item), "incomplete", reason, n_words)
    others = [h.item for h in block.headings if h.item.key != key]
    joint = f"given together with {', '.join(map(item_name, others))}" if others else ""
    state: ItemState = "complete"
    if n_words <= _MOST_REFERENCE_WORDS and _ALL_BY_REFERENCE.search(body):
        state = "by_reference"
    elif n_words < _LEAST_WORDS_GIVEN and _NOT_GIVEN.search(body):
        state = "omitted"
    return ItemStatus(key, item_name(item), state, joint, n_words)


def _by_edgartools(document: Document, known: set[str]) -> list[Item]:
    """Returns the items of the same numbering that edgartools finds in the page beside ours."""
    if document.kind != "html":
        return []
    sections, _ = read_edgar_sections(document.main_source, "8-K")
    is_new = any(key.count("_") > 1 for key in known)
    return [
        item
        for item in ITEMS["8-K"]
        if item.key in sections and item.key not in known and ("." in item.number) == is_new
    ]


def _missing(item: Item, witness: str) -> ItemStatus:
    reason = f"{witness} names it, but no heading of it stands in the body"
    return ItemStatus(item.key, item_name(item), "incomplete", reason, 0)


def _in_order(statuses: list[ItemStatus]) -> tuple[ItemStatus, ...]:
    order = [item.key for item in ITEMS["8-K"]]
    single = {status.key: status for status in statuses}
    return tuple(sorted(single.values(), key=lambda status: order.index(status.key)))


def _section(text: str, block: _Block, key: str) -> Section:
    heading = next(heading for heading in block.headings if heading.item.key == key)
    title = " ".join(text[heading.start : heading.end].split())
    end = block.start + len(text[block.start : block.end].rstrip())
    return Section(key, title[:120], block.start, end)


def _named_by_edgar(header: SubmissionHeader | None) -> dict[str, Item]:
    """Returns the items that EDGAR's header names, by key; older headers give bare numbers."""
    if header is None:
        return {}
    is_new = header.filed_date >= NEW_NUMBERS
    found = {}
    for name in header.items:
        for item in ITEMS["8-K"]:
            if ("." in item.number) == is_new and (item.number == name or item.caption.match(name)):
                found[item.key] = item
                break
    return found


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _first_letter(text: str, start: int) -> int:
    while text[start].isspace():
        start += 1
    return start


def _line_before(text: str, start: int) -> str:
    """Returns the line directly above, or nothing where a blank line lies between."""
    begin = text.rfind("\n", 0, max(start - 1, 0)) + 1
    return text[begin:start].strip("\r\n")[-60:].rstrip(" \t")
