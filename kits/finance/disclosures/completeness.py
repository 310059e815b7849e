"""Decides of each item of a 10-K, 10-Q or 20-F whether what was found is the whole of it.

Three witnesses are heard: the item headings of the text, the filing's own contents table, and
edgartools on the same HTML. See docs/finance.md, "Disclosures", for the rules as a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise

from kits.finance.disclosures.document import Document, ItemState, ItemStatus, Section
from kits.finance.disclosures.edgar_sections import EdgarSection, WordIndex, read_edgar_sections
from kits.finance.disclosures.forms import ITEMS, SINCE, FilingForm, Item, item_name
from kits.finance.disclosures.items import (
    ContentsEntry,
    Heading,
    find_contents,
    only_points,
)
from kits.finance.disclosures.sentences import sentence_spans

__all__ = ["TOLERANCE", "Finding", "ItemJudge", "period_end"]

TOLERANCE = 0.05
"""Two readings of an item agree when their lengths in words differ by this share or less."""

_TOLERANCE_WORDS = 25  # a page footer or two, which the readings count differently
_LEAST_WORDS = 50  # of an item that is never short without saying why
_MOST_REFERENCE_WORDS = 250  # an item that only points elsewhere is no longer than this
_LEAST_PAGES = 4  # items of fewer pages by the contents table are not measured by it
_LEAST_PAGE_SHARE = 0.35  # of the filing's own words per page; tables and pictures thin a page
_SENTENCE_WORDS = 3  # what has so many words before it on its line is no heading
_COVER_CHARACTERS = 15_000
_PERIOD = re.compile(
    r"(?:year|period|quarter)\s+ended:?\s+(?P<day>[a-z]{3,9}\s+\d{1,2}\s*,?\s*\d{4})", re.IGNORECASE
)
_LONG_ITEMS: dict[FilingForm, frozenset[str]] = {
    "10-K": frozenset({"item_1", "item_1a", "item_7", "item_8"}),
    "10-Q": frozenset({"part_1_item_1", "part_1_item_2", "part_2_item_1a"}),
    "20-F": frozenset({"item_3", "item_3d", "item_4", "item_5"}),
}
_RISK_ITEMS = frozenset({"item_1a", "part_2_item_1a", "item_3d"})
# a filing may end with these: Form 10-K ended with Item 14 until 2003
_LAST_ITEMS: dict[FilingForm, frozenset[str]] = {
    "10-K": frozenset({"item_14", "item_15", "item_16"}),
    "10-Q": frozenset({"part_2_item_6"}),
    "20-F": frozenset({"item_19"}),
}
_NOT_GIVEN = re.compile(
    r"not\s+(?:required|applicable)|smaller\s+reporting|reserved|omitted|\bn/a\b", re.IGNORECASE
)
_REFERENCE = r"incorporated\s+(?:\w+\s+){0,3}by\s+(?:this\s+)?reference"
_BY_REFERENCE = re.compile(_REFERENCE, re.IGNORECASE)
# "the information required by this Item ... is incorporated by reference"
_ALL_BY_REFERENCE = re.compile(
    rf"\b(?:required|called\s+for|response)\b[^.]{{0,400}}\b{_REFERENCE}", re.IGNORECASE
)
_SHORT_BY_RIGHT = re.compile(
    r"none\b|no\s+material\s+change|"
    r"(?:set\s+forth|included|contained|appears?|described|discussed|beginning)\b|\b(?:see|refer)\b",
    re.IGNORECASE,
)
# what older 10-Ks put under the number 1A, before risk factors had it (2005)
_OTHER_CAPTION = re.compile(r"\bofficers\b", re.IGNORECASE)
_BARE_CAPTION = re.compile(r"^\W*risk[ \t]+factors\W*$", re.IGNORECASE | re.MULTILINE)
# a part's title, and what stands between it and the part's first item
_PART_LINE = re.compile(
    r"\n\W*part[ \t]+(?:[IV]+|\d)\b(?:[^\n]{0,40}\s*\Z|\W*(?:(?:other|financial)[ \t]+information)?"
    r"\W*?\n)",
    re.IGNORECASE,
)
_PART_CHARACTERS = 1_200


@dataclass(frozen=True)
class Finding:
    """What became of one item: its status, the section if there is one, and remarks."""

    status: ItemStatus
    section: Section | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ItemJudge:
    """A filing's text with its words counted, and the two other witnesses beside it.

    Args:
        period_end: Last day of the fiscal period, by EDGAR's header or the cover page.
        edgar: edgartools' sections by key; empty where the filing is no HTML.
        contents: Rows of the filing's own contents table by key.
        remarks: What a reader should know of the witnesses.
    """

    text: str
    form: FilingForm
    words: WordIndex
    period_end: date | None
    edgar: Mapping[str, EdgarSection]
    contents: Mapping[str, ContentsEntry]
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, document: Document, form: FilingForm) -> ItemJudge:
        """Hears the witnesses."""
        text = document.text
        words, contents = WordIndex(text), find_contents(text, form)
        end = period_end(document)
        if document.kind != "html":
            remark = "plain text: items were found by their headings alone"
            return cls(text, form, words, end, {}, contents, (remark,))
        edgar, fault = read_edgar_sections(document.main_source, form)
        return cls(text, form, words, end, edgar, contents, (fault,) if fault else ())

    def findings(self, headings: tuple[Heading, ...]) -> dict[str, Finding]:
        """Returns what became of every item of the form, in the form's order."""
        words_per_page = self._words_per_page(headings)
        found = {
            heading.item.key: self._judge(heading, following, words_per_page)
            for heading, following in zip(headings, (*headings[1:], None), strict=True)
        }
        return {
            item.key: found[item.key] if item.key in found else self._missing(item)
            for item in ITEMS[self.form]
        }

    def _judge(self, heading: Heading, following: Heading | None, words_per_page: float) -> Finding:
        """Decides whether the span between two headings is the whole item."""
        item, section = heading.item, self._between(heading, following)
        n_words = self.words.count(section.start, section.end)
        edgar = self.edgar.get(item.key)
        # edgartools may keep the next part's title, which our section does not
        n_to_next = self.words.count(section.start, following.start if following else section.end)
        agreed = edgar is not None and any(
            _agree(n, len(edgar.words)) for n in (n_words, n_to_next)
        )
        state, reason = self._state(heading, section, n_words)
        fault = (
            self._wrong_caption(heading)
            or self._open_end(heading, following, section, n_words=n_words, agreed=agreed)
            or self._too_short(heading, section, state, n_words)
            or self._short_of_pages(heading, following, n_words, words_per_page)
        )
        if fault is None and edgar is not None and not agreed:
            fault = self._longer_elsewhere(edgar, section, n_words=n_words, following=following)
        name = item_name(item)
        if fault is not None:
            elsewhere = _OTHER_CAPTION.search(self.text, heading.start, heading.end)
            state = "absent" if item.key in _RISK_ITEMS and elsewhere else "incomplete"
            return Finding(ItemStatus(item.key, name, state, fault, n_words))
        remarks = [f"{name}: {reason}"] if reason and item.key in _RISK_ITEMS else []
        remarks += self._remarks(heading, following, n_words=n_words, agreed=agreed)
        status = ItemStatus(item.key, name, state, reason, n_words)
        return Finding(status, section, tuple(remarks))

    def _state(self, heading: Heading, section: Section, n_words: int) -> tuple[ItemState, str]:
        """Returns what a whole item is, and why it is short if it is."""
        body = self.text[heading.end : section.end]
        if n_words <= _MOST_REFERENCE_WORDS and _points_elsewhere(body):
            return "by_reference", f"short by right ({n_words} words): incorporated by reference"
        if n_words < 2 * _LEAST_WORDS and _NOT_GIVEN.search(body):
            return "omitted", f"short by right ({n_words} words): it says that it is not given"
        if n_words < 2 * _LEAST_WORDS and _SHORT_BY_RIGHT.search(body):
            return "complete", f"short by right ({n_words} words): nothing to tell, or it refers"
        return "complete", ""

    def _missing(self, item: Item) -> Finding:
        """Returns why there is no heading: the item is absent, or another witness knows it."""
        edgar, entry, name = self.edgar.get(item.key), self.contents.get(item.key), item_name(item)
        state: ItemState = "incomplete"
        heading = f"no heading 'Item {item.number}' stands in the body"
        if edgar is not None and self._mistaken(edgar, item):
            edgar = None
        since = SINCE.get(item.key)
        if since is not None and self.period_end is not None and self.period_end < since:
            state, reason = "absent", f"{heading}: the form has it since {since:%B %Y}"
        elif edgar is not None:
            reason = f"edgartools gives {len(edgar.words)} words, but {heading}"
        elif entry is not None:
            page = "" if entry.page is None else f" (page {entry.page})"
            reason = f"the contents table lists it{page}, but {heading}"
        elif item.key in _RISK_ITEMS and _BARE_CAPTION.search(self.text):
            reason = f"a passage is headed 'Risk Factors' alone, and {heading}"
        else:
            state, reason = "absent", heading
        return Finding(ItemStatus(item.key, name, state, reason, 0))

    def _mistaken(self, edgar: EdgarSection, item: Item) -> bool:
        """Whether edgartools took a sentence that points at the item for its heading."""
        place = self.words.find(edgar.words)
        return place is not None and (
            only_points(self.text, place[0], item, self.form) or self._stands_in_sentence(place[0])
        )

    def _stands_in_sentence(self, position: int) -> bool:
        line_start = self.text.rfind("\n", 0, position) + 1
        return len(self.text[line_start:position].split()) >= _SENTENCE_WORDS

    def _between(self, heading: Heading, following: Heading | None) -> Section:
        end = len(self.text) if following is None else following.start
        tail = self.text[max(end - _PART_CHARACTERS, heading.end) : end]
        part_line = _PART_LINE.search(tail) if following is not None else None
        if part_line is not None:
            end -= len(tail) - part_line.start()
        end = heading.start + len(self.text[heading.start : end].rstrip())
        title = " ".join(self.text[heading.start : heading.end].split())
        return Section(heading.item.key, title[:120], heading.start, end)

    def _wrong_caption(self, heading: Heading) -> str | None:
        if heading.named or heading.item.key not in _RISK_ITEMS:
            return None
        return f"the heading {item_name(heading.item)} does not say 'Risk Factors'"

    def _open_end(
        self,
        heading: Heading,
        following: Heading | None,
        section: Section,
        *,
        n_words: int,
        agreed: bool,
    ) -> str | None:
        """Returns a fault where the item may go on behind its supposed end."""
        name = item_name(heading.item)
        if following is None:
            whole = heading.item.key in _LAST_ITEMS[self.form]
            return None if whole else f"no item heading follows {name}: the filing may be cut off"
        if not following.named and not agreed:
            return f"{name} is followed by a heading without the form's caption"
        after = [start for start in (*heading.rivals, *following.rivals) if start > section.end]
        unsure = self.words.count(section.end, max(after, default=section.end))
        if after and not agreed and not _agree(n_words, n_words + unsure):
            return f"{name} or {item_name(following.item)} has a second heading further on"
        return None

    def _too_short(
        self, heading: Heading, section: Section, state: ItemState, n_words: int
    ) -> str | None:
        must_be_long = heading.item.key in _LONG_ITEMS[self.form] | _RISK_ITEMS
        if not must_be_long or n_words >= _LEAST_WORDS or state != "complete":
            return None
        if _SHORT_BY_RIGHT.search(self.text, heading.end, section.end):
            return None
        return f"{item_name(heading.item)} has only {n_words} words"

    def _short_of_pages(
        self, heading: Heading, following: Heading | None, n_words: int, words_per_page: float
    ) -> str | None:
        """Returns a fault where the contents table gives the item many more pages.

        The last page may hold a line only, so one page less is asked for.
        """
        first = self._page(heading)
        last = self._page(following) if following is not None else None
        if first is None or last is None or last - first < _LEAST_PAGES:
            return None
        if n_words >= _LEAST_PAGE_SHARE * (last - first - 1) * words_per_page:
            return None
        return (
            f"the contents table gives {item_name(heading.item)} {last - first} pages, "
            f"but only {n_words} words were found"
        )

    def _words_per_page(self, headings: tuple[Heading, ...]) -> float:
        """Returns the filing's words per page by its contents table, or 0 where it has none."""
        paged = [heading for heading in headings if self._page(heading) is not None]
        if not paged:
            return 0.0
        pages = [self._page(heading) or 0 for heading in paged]
        if pages[-1] <= pages[0] or any(a > b for a, b in pairwise(pages)):
            return 0.0
        return self.words.count(paged[0].start, paged[-1].start) / (pages[-1] - pages[0])

    def _page(self, heading: Heading) -> int | None:
        entry = self.contents.get(heading.item.key)
        return None if entry is None else entry.page

    def _longer_elsewhere(
        self, edgar: EdgarSection, section: Section, *, n_words: int, following: Heading | None
    ) -> str | None:
        """Returns a fault where edgartools goes on beyond our end and knows the next item too.

        Where it does not know the next item, it has run past that heading, which stands in
        the text; then our end is the better one.
        """
        if len(edgar.words) < n_words or following is None:
            return None
        if following.named and following.item.key not in self.edgar:
            return None
        place = self.words.find(edgar.words)
        if place is not None and (
            _agree(n_words, self.words.count(section.start, place[1]))
            or self._stands_in_sentence(place[0])
        ):
            return None
        next_one = self.edgar.get(following.item.key)
        if (
            next_one is not None
            and self.words.begins(section.start, edgar.words)
            and self.words.begins(following.start, next_one.words)
        ):
            return None  # it has the same start and the same next item: its sections overlap
        return f"edgartools gives {len(edgar.words)} words where the headings span {n_words}"

    def _remarks(
        self, heading: Heading, following: Heading | None, *, n_words: int, agreed: bool
    ) -> Iterator[str]:
        name, edgar = item_name(heading.item), self.edgar.get(heading.item.key)
        if edgar is None and self.edgar:
            yield f"{name}: found by its heading; edgartools did not find it"
        elif edgar is not None and not agreed:
            yield (
                f"{name}: the whole span to the next heading is given, {n_words} words; "
                f"edgartools gives {len(edgar.words)}"
            )
        if not heading.named:
            yield f"{name}: its caption is not the form's"
        far = following is not None and following.rank > heading.rank + 3
        if following is not None and far and heading.item.key == "item_1a":
            yield f"{name}: the next heading found is {item_name(following.item)}"


def period_end(document: Document) -> date | None:
    """Returns the last day of the fiscal period, by EDGAR's header or the cover page."""
    if document.header is not None and document.header.period_of_report is not None:
        return document.header.period_of_report
    for found in _PERIOD.finditer(document.text[:_COVER_CHARACTERS]):
        words = " ".join(found["day"].replace(",", " ").split())
        try:
            return datetime.strptime(words, "%B %d %Y").date()  # noqa: DTZ007  # a day has no zone
        except ValueError:
            continue
    return None


def _agree(ours: int, theirs: int) -> bool:
    return abs(ours - theirs) <= max(TOLERANCE * ours, _TOLERANCE_WORDS)


def _points_elsewhere(body: str) -> bool:
    """Whether an item says that it is incorporated, or most of its words do."""
    if _ALL_BY_REFERENCE.search(body):
        return True
    sentences = [body[start:end] for start, end in sentence_spans(body, 0, len(body))]
    pointing = sum(len(s.split()) for s in sentences if _BY_REFERENCE.search(s))
    return 2 * pointing > len(body.split())
