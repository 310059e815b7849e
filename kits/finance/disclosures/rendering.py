"""Brings HTML (inline XBRL included) into plain text and keeps where each character stood.

The rendered text has one line per block or table row, a tab between table cells, and
single spaces elsewhere. What a browser would not show is left out: scripts, styles, the
title, comments, `ix:header` and whatever carries `display:none` or `hidden`.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from itertools import accumulate
from typing import NamedTuple

__all__ = ["Segment", "render_html"]

_BLOCK_TAGS = (
    "address article aside blockquote body caption center dd div dl dt fieldset figure footer form "
    "h1 h2 h3 h4 h5 h6 header hr html li main nav ol p page pre section table tbody tfoot thead "
    "tr ul"
)
_BLOCKS = frozenset(_BLOCK_TAGS.split())
# the rest of the head has no text of its own, and its end tag is often left out
_HIDDEN = frozenset({"ix:header", "noscript", "script", "style", "template", "title"})
_VOID_TAGS = "area base br col embed hr img input link meta param source track wbr"
_VOID = frozenset(_VOID_TAGS.split())
# an element of the key ends an open element of the value (HTML Living Standard 13.1.2.4)
_ENDS = {
    "dd": {"dd", "dt"},
    "dt": {"dd", "dt"},
    "li": {"li"},
    "option": {"option"},
    "td": {"td", "th"},
    "th": {"td", "th"},
    "tr": {"td", "th", "tr"},
}
_ENDS |= {tag: {"p"} for tag in _BLOCKS - set(_ENDS) - {"body", "html", "tbody", "tfoot", "thead"}}
_SCOPES = frozenset({"table", "td", "th", "ul", "ol", "dl"})  # an implied end does not cross them
_DISPLAY_NONE = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_INVISIBLE = "\u00ad\u200b\u2060\ufeff"  # soft hyphen, zero-width characters
_TOKEN = re.compile(r"\s+|[\u00ad\u200b\u2060\ufeff]+|[^\s\u00ad\u200b\u2060\ufeff]+")
_RANK = {"": 0, " ": 1, "\t": 2, "\n": 3}


class Segment(NamedTuple):
    """`text[text_start:text_end]` was made from `source[source_start:source_end]`.

    Where both are equally long, character stands for character; else the whole source
    span (an entity, a run of white space) stands for the whole text span.
    """

    text_start: int
    text_end: int
    source_start: int
    source_end: int


def render_html(source: str) -> tuple[str, tuple[Segment, ...]]:
    """Renders a page as text, with the segments that lead back into the source.

    Args:
        source: The decoded page. Unclosed and crossing elements are tolerated.

    Returns:
        The text, and its segments in rising order; separators that no source character
        stands for (line ends, tabs) lie in no segment.
    """
    renderer = _Renderer(source)
    renderer.feed(source)
    renderer.close()
    return "".join(renderer.pieces), tuple(renderer.segments)


class _Renderer(HTMLParser):
    """Collects visible text; `pending` is the separator due before the next word."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=False)
        self.source = source
        self.line_starts = [0, *accumulate(len(line) + 1 for line in source.split("\n"))]
        self.pieces: list[str] = []
        self.segments: list[Segment] = []
        self.length = 0
        self.pending = ""
        self.pending_source: tuple[int, int] | None = None
        self.open: list[tuple[str, bool]] = []  # tag, and whether it hides its content
        self.hidden = 0
        self.preformatted = 0
        self.row_has_text = False
        self.cell_is_fresh = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_implied(tag)
        self._break(tag)
        if tag in _VOID:
            return
        hides = tag in _HIDDEN or _is_hidden(attrs)
        self.open.append((tag, hides))
        self.hidden += hides
        self.preformatted += tag == "pre"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs  # an empty element shows nothing, whatever it carries
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if any(name == tag for name, _ in self.open):
            while self._pop() != tag:
                pass
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            start = self._offset()
            for token in _TOKEN.finditer(data):
                self._add(token.group(), start + token.start(), start + token.end())

    def handle_entityref(self, name: str) -> None:
        self._add_reference(f"&{name}")

    def handle_charref(self, name: str) -> None:
        self._add_reference(f"&#{name}")

    def _add_reference(self, reference: str) -> None:
        if self.hidden:
            return
        start = self._offset()
        end = start + len(reference)
        if self.source[end : end + 1] == ";":
            end += 1
        text = html.unescape(self.source[start:end])
        for token in _TOKEN.finditer(text):
            self._add(token.group(), start, end)

    def _add(self, token: str, start: int, end: int) -> None:
        if token.isspace():
            newline = self.preformatted and "\n" in token
            self._separate("\n" if newline else " ", (start, end))
            return
        if token[0] in _INVISIBLE:
            return
        if self.pending and self.length:
            if self.pending_source is not None:
                self._emit(self.pending, *self.pending_source)
            else:
                self.pieces.append(self.pending)
                self.length += 1
        self.pending, self.pending_source = "", None
        self._emit(token, start, end)
        self.row_has_text, self.cell_is_fresh = True, False

    def _emit(self, text: str, start: int, end: int) -> None:
        self.pieces.append(text)
        text_start, self.length = self.length, self.length + len(text)
        last = self.segments[-1] if self.segments else None
        one_to_one = len(text) == end - start
        if (
            last is not None
            and one_to_one
            and last.text_end == text_start
            and last.source_end == start
            and last.text_end - last.text_start == last.source_end - last.source_start
        ):
            self.segments[-1] = Segment(last.text_start, self.length, last.source_start, end)
        else:
            self.segments.append(Segment(text_start, self.length, start, end))

    def _separate(self, separator: str, source: tuple[int, int] | None = None) -> None:
        if _RANK[separator] > _RANK[self.pending]:
            self.pending, self.pending_source = separator, source

    def _break(self, tag: str) -> None:
        if self.hidden:
            return
        if tag in ("td", "th"):
            # the cell's own paragraphs must not tear the row apart
            if self.row_has_text:
                self.pending, self.pending_source = "\t", None
            self.cell_is_fresh = True
        elif tag in ("tr", "table"):
            self._separate("\n")
            self.row_has_text = self.cell_is_fresh = False
        elif tag == "br" or (tag in _BLOCKS and not (self.cell_is_fresh and self._in_cell())):
            self._separate("\n")

    def _in_cell(self) -> bool:
        return any(name in ("td", "th") for name, _ in self.open)

    def _end_implied(self, tag: str) -> None:
        ends = _ENDS.get(tag, set())
        for depth, (name, _) in enumerate(reversed(self.open)):
            if name in ends:
                for _unused in range(depth + 1):
                    self._pop()
                return
            if name in _SCOPES:
                return

    def _pop(self) -> str:
        tag, hides = self.open.pop()
        self.hidden -= hides
        self.preformatted -= tag == "pre"
        return tag

    def _offset(self) -> int:
        line, column = self.getpos()
        return self.line_starts[line - 1] + column


def _is_hidden(attributes: list[tuple[str, str | None]]) -> bool:
    return any(
        name == "hidden" or (name == "style" and bool(_DISPLAY_NONE.search(value or "")))
        for name, value in attributes
    )
