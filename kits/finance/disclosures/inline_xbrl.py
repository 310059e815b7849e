"""Reads the facts inside an HTML page (Inline XBRL 1.1), with where each one stands.

A fact's text is what its element holds, `ix:exclude` left out and continuations joined, with a
blank between blocks as a reader sees them.
Footnotes and relationships are not read.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import accumulate

from kits.finance.disclosures.taxonomies import standard_name
from kits.finance.disclosures.xbrl_contexts import ContextReader, RawFact

__all__ = ["looks_like_inline_xbrl", "read_inline"]

_NAMESPACE = re.compile(
    r"""xmlns:([\w.-]+)\s*=\s*["']http://www\.xbrl\.org/(?:2013|2008)/inlineXBRL["']"""
)
_FACTS = frozenset({"nonfraction", "nonnumeric", "fraction"})
_RESOURCES = frozenset({"context", "unit"})
# void elements have no end tag (HTML Living Standard 13.1.2)
_VOID_TAGS = "area base br col embed hr img input link meta param source track wbr"
_VOID = frozenset(_VOID_TAGS.split())
_BREAKS = frozenset(
    ["br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "li", "p", "table", "td", "th", "tr"]
)


def looks_like_inline_xbrl(source: str) -> bool:
    """Whether the page declares the namespace of inline XBRL."""
    return _NAMESPACE.search(source) is not None


def read_inline(source: str) -> tuple[list[RawFact], ContextReader]:
    """Returns the facts of a page as they stand, in document order, and its contexts and units.

    Args:
        source: The decoded page.
    """
    declared = _NAMESPACE.search(source)
    reader = _InlineReader(source, prefix=f"{declared[1].lower()}:" if declared else "ix:")
    reader.feed(source)
    reader.close()
    return reader.facts(), reader.contexts


@dataclass
class _Open:
    """A fact or continuation whose end has not been seen, or that waits for its continuation."""

    kind: str
    attributes: dict[str, str]
    start: int
    hidden: bool
    depth: int
    end: int = 0
    pieces: list[str] = field(default_factory=list)


class _InlineReader(HTMLParser):
    def __init__(self, source: str, *, prefix: str) -> None:
        super().__init__(convert_charrefs=False)
        self.source = source
        self.prefix = prefix
        self.line_starts = [0, *accumulate(len(line) + 1 for line in source.split("\n"))]
        self.namespaces: dict[str, str] = {}
        self.contexts = ContextReader(lambda name: standard_name(name, self.namespaces))
        self.tags: list[str] = []
        self.open: list[_Open] = []
        self.found: list[_Open] = []
        self.continuations: dict[str, _Open] = {}
        self.excluded = self.hidden = 0

    def facts(self) -> list[RawFact]:
        """Returns what was found, continuations joined."""
        return [
            RawFact(
                standard_name(one.attributes.get("name", ""), self.namespaces),
                one.attributes,
                self._joined(one),
                one.start,
                one.end,
                one.kind != "nonnumeric",
                one.hidden,
            )
            for one in self.found
        ]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self._declare(attributes)
        self._begin(tag, attributes)
        if tag not in _VOID:
            self.tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self._begin(tag, attributes)
        if tag not in _VOID:
            self.tags.append(tag)
            self._finish(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.tags:
            while self.tags[-1] != tag:
                self._finish(self.tags[-1])
            self._finish(tag)

    def handle_data(self, data: str) -> None:
        self.contexts.data(data)
        self._add(data)

    def handle_entityref(self, name: str) -> None:
        self.handle_data(html.unescape(f"&{name};"))

    def handle_charref(self, name: str) -> None:
        self.handle_data(html.unescape(f"&#{name};"))

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        local = tag.rpartition(":")[2]
        if self.contexts.is_open or (":" in tag and local in _RESOURCES):
            self.contexts.start(local, {_local(name): value for name, value in attributes.items()})
        elif not tag.startswith(self.prefix):
            if tag in _BREAKS:
                self._add(" ")
        elif local in _FACTS or local == "continuation":
            here = {_local(name): value for name, value in attributes.items()}
            start = self._offset() + len(self.get_starttag_text() or "")
            self.open.append(_Open(local, here, start, self.hidden > 0, len(self.tags)))
            if local != "continuation":
                self.found.append(self.open[-1])
        elif local == "exclude":
            self.excluded += 1
        elif local == "hidden":
            self.hidden += 1

    def _finish(self, tag: str) -> None:
        self.tags.pop()
        local = tag.rpartition(":")[2]
        if self.contexts.is_open:
            self.contexts.end(local)
        elif tag.startswith(self.prefix):
            if self.open and self.open[-1].depth == len(self.tags) and local == self.open[-1].kind:
                done = self.open.pop()
                done.end = max(self._offset(), done.start)
                if done.kind == "continuation":
                    self.continuations[done.attributes.get("id", "")] = done
            self.excluded -= local == "exclude"
            self.hidden -= local == "hidden"

    def _add(self, text: str) -> None:
        if not self.excluded:
            for one in self.open:
                one.pieces.append(text)

    def _joined(self, one: _Open) -> str:
        pieces, seen = list(one.pieces), set[str]()
        after = one.attributes.get("continuedat", "")
        while after in self.continuations and after not in seen:
            seen.add(after)
            following = self.continuations[after]
            pieces += [" ", *following.pieces]
            after = following.attributes.get("continuedat", "")
        return " ".join("".join(pieces).split())

    def _declare(self, attributes: dict[str, str]) -> None:
        for name, value in attributes.items():
            if name.startswith("xmlns:"):
                self.namespaces.setdefault(name[6:], value)

    def _offset(self) -> int:
        line, column = self.getpos()
        return self.line_starts[line - 1] + column


def _local(name: str) -> str:
    return name.rpartition(":")[2]
