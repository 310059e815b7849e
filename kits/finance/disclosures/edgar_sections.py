"""Reads a filing's items a second time, with edgartools, and finds them in our own text.

edgartools gives no usable offsets (`start_offset` is always 0), so each section is sought
in our text by its first and last words. It also keeps pickled caches under the home
folder by default: while it runs here, its folders lie in a private temporary one that goes
with the process. It never goes to the network for a document that is given as a string.
"""

from __future__ import annotations

import os
import re
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from threading import RLock
from typing import Any

from kits.finance.disclosures.forms import FilingForm, item_named

__all__ = ["EdgarSection", "WordIndex", "read_edgar_sections"]

_WORD = re.compile(r"[a-z0-9]+")
_EDGE_WORDS = 8  # this many words at either end find a section in our text
_PARTS = {"I": 1, "II": 2, "III": 3, "IV": 4}
# edgartools names sections that it found by their captions alone
_BY_CAPTION = {"business": "1", "risk_factors": "1A", "properties": "2", "mda": "7"}
_SHORTENED = re.compile(r"[1-9]\d{2}")  # "801" is its name for Item 8.01
_LOCK = RLock()


class WordIndex:
    """The lower-case words of a text, with where each one stands."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        return [match.span() for match in _WORD.finditer(self._text.lower())]

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self._spans]

    @cached_property
    def _joined(self) -> tuple[str, list[int]]:
        lowered, position, places = self._text.lower(), 1, []
        words = [lowered[start:end] for start, end in self._spans]
        for word in words:
            places.append(position)
            position += len(word) + 1
        return f" {' '.join(words)} ", places

    def count(self, start: int, end: int) -> int:
        """Returns how many words begin in `text[start:end]`."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def begins(self, start: int, words: tuple[str, ...]) -> bool:
        """Whether the text goes on from `start` with the first few of `words`."""
        head = words[:_EDGE_WORDS]
        first = bisect_left(self._starts, start)
        lowered = self._text.lower()
        return bool(head) and head == tuple(
            lowered[begin:end] for begin, end in self._spans[first : first + len(head)]
        )

    def find(self, words: tuple[str, ...]) -> tuple[int, int] | None:
        """Returns the span between the first and the last few of `words`, if both occur.

        The first words are sought from the end of the text (a contents table comes
        first), the last ones after them, as far away as the number of words says.
        """
        if not words:
            return None
        joined, places = self._joined
        head, tail = words[:_EDGE_WORDS], words[-_EDGE_WORDS:]
        first = joined.rfind(f" {' '.join(head)} ")
        if first < 0:
            return None
        begin = bisect_left(places, first + 1)
        aim = places[min(begin + max(len(words) - 2 * len(tail), 0), len(places) - 1)]
        sought = f" {' '.join(tail)} "
        last = joined.find(sought, max(aim - len(joined) // 200, first) - 1)
        if last < 0:
            last = joined.rfind(sought, first)
        if last < 0:
            return None
        final = bisect_left(places, last + 1) + len(tail) - 1
        return self._spans[begin][0], self._spans[final][1]


@dataclass(frozen=True)
class EdgarSection:
    """What edgartools returned for one item: the words, lower-case letters and digits."""

    key: str
    words: tuple[str, ...]


def read_edgar_sections(
    source: str, form: FilingForm
) -> tuple[Mapping[str, EdgarSection], str | None]:
    """Returns edgartools' sections of an HTML filing by our section keys.

    Returns:
        The sections, and a note where edgartools failed on the page, else None.
    """
    with _LOCK, _private_folders():
        from edgar.documents import HTMLParser, ParserConfig

        try:
            found = HTMLParser(ParserConfig(form=form)).parse(source).sections
            sections = dict(_translated(found, form))
        # a page that breaks edgartools must still be read by its headings
        except Exception as error:  # noqa: BLE001
            return {}, f"edgartools could not read this page ({type(error).__name__})"
    return sections, None


def _translated(found: Mapping[str, Any], form: FilingForm) -> Iterator[tuple[str, EdgarSection]]:
    for name, section in found.items():
        number = section.item or _BY_CAPTION.get(name)
        if form == "8-K" and number and _SHORTENED.fullmatch(number):
            number = f"{number[0]}.{number[1:]}"
        item = item_named(form, _PARTS.get(section.part or ""), number) if number else None
        if item is not None:
            yield item.key, EdgarSection(item.key, tuple(_WORD.findall(section.text().lower())))


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tandem-edgar-")


@contextmanager
def _private_folders() -> Iterator[None]:
    """Points edgartools' folders away from the home folder; its import writes to them."""
    names = ("EDGAR_LOCAL_DATA_DIR", "EDGAR_CACHE_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, _folder().name))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
