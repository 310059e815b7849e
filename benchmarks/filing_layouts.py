"""Rejoins filings that were split by item into files as filers print them.

A layout gets one 10-K and a seeded generator; it returns the text of a file. The items' texts
are kept word for word; what is added around and between them (contents, page feet, running
heads, pointers, markup) is what raw filings hold.
"""

from __future__ import annotations

import html
import random
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

__all__ = ["FAULTS", "LAYOUTS", "SplitFiling"]


@dataclass(frozen=True)
class SplitFiling:
    """A 10-K that was split by item.

    Args:
        name: Of the file it came in.
        cik: Of the filer.
        period_end: Last day of its fiscal year.
        items: Text by item number ("1A"), heading included, in the filing's order.
    """

    name: str
    cik: str
    period_end: date
    items: Mapping[str, str]

    def with_items(self, **changed: str | None) -> SplitFiling:
        """Returns the filing with items changed (`_1A="..."`) or, where None, left out."""
        new = {key.lstrip("_"): text for key, text in changed.items()}
        items = {key: new.get(key, text) for key, text in self.items.items()}
        return replace(self, items={key: text for key, text in items.items() if text is not None})


_WORDS_PER_PAGE = 550
_HEADING = re.compile(r"\s*(items?\s*\d{1,2}[A-C]?)\s*([.:–—-]*)\s*", re.IGNORECASE)
_COVER = (
    "UNITED STATES",
    "SECURITIES AND EXCHANGE COMMISSION",
    "Washington, D.C. 20549",
    "FORM 10-K",
    "ANNUAL REPORT PURSUANT TO SECTION 13 OR 15(d) OF THE SECURITIES EXCHANGE ACT OF 1934",
)
_LOOKS_FORWARD = "Some statements look forward; Item 1A of this report says what may go wrong."
_POINTERS = (
    "Item 1A, “Risk Factors,” of this report describes what may go wrong.",
    "See also “Item 7. Management’s Discussion and Analysis” and “Item 1A. Risk Factors.”",
)
_SIGNATURE = "SIGNATURES\nPursuant to the requirements of Section 13 the registrant has signed."
_HEADER = """<SEC-DOCUMENT>0000000000-00-000000.txt : {filed}
<SEC-HEADER>0000000000-00-000000.hdr.sgml : {filed}
<ACCEPTANCE-DATETIME>{filed}163000
ACCESSION NUMBER:\t\t0000000000-00-000000
CONFORMED SUBMISSION TYPE:\t10-K
PUBLIC DOCUMENT COUNT:\t\t2
CONFORMED PERIOD OF REPORT:\t{period}
FILED AS OF DATE:\t\t{filed}

FILER:

\tCOMPANY DATA:
\t\tCOMPANY CONFORMED NAME:\t\t\tSAMPLE CORP
\t\tCENTRAL INDEX KEY:\t\t\t0000000001
</SEC-HEADER>
"""


def paragraphs(filing: SplitFiling, draw: random.Random) -> str:
    """One paragraph a line, without contents."""
    del draw
    return _page(filing, [f"<p>{html.escape(line)}</p>" for line in _lines(filing)])


def contents(filing: SplitFiling, draw: random.Random) -> str:
    """A contents table with page numbers before the paragraphs."""
    del draw
    rows = "".join(
        f"<tr><td>{html.escape(label)}.</td><td>{html.escape(caption)}</td><td>{page}</td></tr>"
        for label, caption, page in _contents(filing)
    )
    body = (f"<p>{html.escape(line)}</p>" for line in _lines(filing))
    return _page(filing, [f"<table>{rows}</table>", *body])


def printed(filing: SplitFiling, draw: random.Random, *, running_heads: bool = False) -> str:
    """Headings in table cells, spans and entities; page feet, links to contents, pointers."""
    anchors = "".join(
        f'<tr><td><a href="#i{n}">{label}.</a></td><td><a href="#i{n}">{html.escape(caption)}'
        f"</a></td><td>{page}</td></tr>"
        for n, (label, caption, page) in enumerate(_contents(filing))
    )
    parts = [f"<div><b>TABLE OF CONTENTS</b></div><table>{anchors}</table>"]
    n_words, page = 0, 1
    for place, (number, text) in enumerate(filing.items.items()):
        label, rest = _label(number, text)
        head, *lines = rest.split("\n")
        if not head.strip() and lines:
            head, *lines = lines  # the caption stands on a line of its own
        parts.append(f'<div id="i{place}"></div>{_printed_heading(label, head, draw)}')
        for line in lines:
            parts.append(f'<div style="margin:6pt 0">{_marked_up(line, draw)}</div>')
            n_words += len(line.split())
            if n_words > _WORDS_PER_PAGE:
                n_words, page = 0, page + 1
                parts.append(f"<div>Sample Corp. | Form 10-K | {page}</div><hr/>")
                parts.append('<div><a href="#toc">Table of Contents</a></div>')
                if running_heads:
                    parts.append(f"<div><b>{label}. {html.escape(head)} (continued)</b></div>")
        if number == "7":
            parts += [f"<div>{html.escape(pointer)}</div>" for pointer in _POINTERS]
    return _page(filing, parts)


def continued(filing: SplitFiling, draw: random.Random) -> str:
    """As `printed`, each page headed by its item's name and "(continued)"."""
    return printed(filing, draw, running_heads=True)


def plain(filing: SplitFiling, draw: random.Random) -> str:
    """Fixed-width text with dotted contents and page marks, as before 2001."""
    del draw
    rows = [
        f"{label}. {caption[:50]} ".ljust(66, ".") + f" {p}"
        for label, caption, p in _contents(filing)
    ]
    lines = [*(line.center(78) for line in _cover(filing)), "", *rows, ""]
    n_words = 0
    for line in _lines(filing):
        lines += [*textwrap.wrap(line, 78, break_long_words=False), ""]
        n_words += len(line.split())
        if n_words > _WORDS_PER_PAGE:
            n_words = 0
            lines += ["", "- 12 -".center(78), "<PAGE>", ""]
    return "\n".join([*lines, _SIGNATURE])


def submission(filing: SplitFiling, draw: random.Random) -> str:
    """`plain` as the main document of a full submission, an exhibit before it and one after."""
    exhibit = "Item 1A. Risk Factors\n" + "Our exhibit repeats a risk or two. " * 40
    filed = filing.period_end + timedelta(days=75)
    header = _HEADER.format(period=f"{filing.period_end:%Y%m%d}", filed=f"{filed:%Y%m%d}")
    return header + "".join(
        f"<DOCUMENT>\n<TYPE>{kind}\n<SEQUENCE>{n}\n<FILENAME>d{n}.txt\n<TEXT>\n{text}\n</TEXT>\n</DOCUMENT>\n"
        for n, (kind, text) in enumerate(
            (("10-K", plain(filing, draw)), ("EX-99", exhibit)), start=1
        )
    )


def cut_off(filing: SplitFiling, draw: random.Random) -> str:
    """The download ended inside Item 1A."""
    del draw
    text = "\n".join([filing.items["1"], _half(filing.items["1A"])[0]])
    return "\n\n".join([*_cover(filing), *text.split("\n")])


def false_heading(filing: SplitFiling, draw: random.Random) -> str:
    """The next item's heading stands inside Item 1A too, as a line of its own."""
    del draw
    first, second = _half(filing.items["1A"])
    wrong = filing.with_items(_1A=f"{first}\nItem 2. Properties\n{second}", _1B=None)
    return "\n\n".join([*_cover(filing), *_lines(wrong)])


def no_heading(filing: SplitFiling, draw: random.Random) -> str:
    """The contents table lists Item 1A, whose heading in the body is gone."""
    _, rest = _label("1A", filing.items["1A"])
    return contents(filing, draw).replace(
        f"<p>{html.escape(filing.items['1A'].split(chr(10))[0])}</p>",
        f"<p>{html.escape(rest.split(chr(10))[0].upper())}</p>",
        1,
    )


LAYOUTS: Mapping[str, Callable[[SplitFiling, random.Random], str]] = {
    "paragraphs": paragraphs,
    "contents": contents,
    "printed": printed,
    "continued": continued,
    "plain": plain,
    "submission": submission,
}
FAULTS: Mapping[str, Callable[[SplitFiling, random.Random], str]] = {
    "cut off": cut_off,
    "false heading": false_heading,
    "no heading": no_heading,
}


def _page(filing: SplitFiling, parts: Iterable[str]) -> str:
    cover = "".join(f"<p>{html.escape(line)}</p>" for line in _cover(filing))
    signature = "".join(f"<p>{line}</p>" for line in _SIGNATURE.split("\n"))
    return f"<html><body>{cover}{''.join(parts)}{signature}</body></html>"


def _cover(filing: SplitFiling) -> list[str]:
    end = filing.period_end
    return [*_COVER, f"For the fiscal year ended {end:%B} {end.day}, {end.year}", _LOOKS_FORWARD]


def _lines(filing: SplitFiling) -> list[str]:
    return "\n".join(filing.items.values()).split("\n")


def _label(number: str, text: str) -> tuple[str, str]:
    """Returns an item's "Item 1A" as printed, and all that follows it."""
    match = _HEADING.match(text)
    return (match[1], text[match.end() :]) if match else (f"Item {number}", text)


def _contents(filing: SplitFiling) -> list[tuple[str, str, int]]:
    """Returns label, caption and page of each item."""
    rows, n_words = [], 0
    for number, text in filing.items.items():
        label, rest = _label(number, text)
        caption = " ".join(rest.split()[:8])
        rows.append((label, caption, 3 + n_words // _WORDS_PER_PAGE))
        n_words += len(text.split())
    return rows


def _printed_heading(label: str, caption: str, draw: random.Random) -> str:
    word, _, number = label.partition(" ")
    label, caption = f"{word}&nbsp;{number}.", html.escape(caption)
    return draw.choice(
        (
            f"<table><tr><td><b>{label}</b></td><td><b>{caption}</b></td></tr></table>",
            f"<p><b>{label} {caption}</b></p>",
            f"<div><span>{word[:2]}</span><span>{word[2:]}&#160;{number}.</span> {caption}</div>",
            f'<div><a id="x"></a><font><b>{label}</b></font><br/><font>{caption}</font></div>',
        )
    )


def _marked_up(line: str, draw: random.Random) -> str:
    """Puts a span around some of the words, as word processors do."""
    words = [html.escape(word) for word in line.split()]
    if len(words) < 12:
        return " ".join(words)
    at = draw.randrange(2, len(words) - 2)
    return f"{' '.join(words[:at])} <span>{' '.join(words[at:])}</span>"


def _half(text: str) -> tuple[str, str]:
    lines = text.split("\n")
    middle = len(lines) // 2
    return "\n".join(lines[:middle]), "\n".join(lines[middle:])
