"""HTML becomes lines of text, and every character knows where it stood."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.finance.disclosures.rendering import render_html


def text_of(source: str) -> str:
    return render_html(source)[0]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>One</p><p>two</p>", "One\ntwo"),
        ("<div>One<br>two</div>", "One\ntwo"),
        ("<p>R<b>isk</b> F<span>actors</span></p>", "Risk Factors"),
        ("<p>a\n   b&nbsp;&#160; c</p>", "a b c"),
        ("<p>AT&amp;T &#8217;s &quot;x&quot;</p>", 'AT&T ’s "x"'),
        ("<p>un\u00adbroken zero\u200bwidth</p>", "unbroken zerowidth"),
        ("<pre>one\ntwo</pre>", "one\ntwo"),
        ("<ul><li>a<li>b</ul>", "a\nb"),
        ("<p>a<p>b", "a\nb"),
    ],
)
def test_blocks_break_lines_and_inline_elements_do_not(source: str, text: str) -> None:
    """Only what a browser shows on a new line starts one."""
    assert text_of(source) == text


def test_a_table_row_is_one_line_with_tabs_between_cells() -> None:
    """Paragraphs inside a cell do not tear its row apart, and empty cells add nothing."""
    row = "<tr><td><p>Item 1A.</p></td><td></td><td><div>Risk Factors</div></td><td>5</td></tr>"
    assert text_of(f"<table>{row}{row}</table>").split("\n") == ["Item 1A.\tRisk Factors\t5"] * 2


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>x</script>",
        "<style>x</style>",
        "<head><title>x</title></head>",
        "<!-- x -->",
        "<ix:header><ix:hidden>x</ix:hidden></ix:header>",
        '<div style="Display : none"><p>x</p></div>',
        "<div hidden>x</div>",
        '<p style="display:none">x',
    ],
)
def test_what_a_browser_hides_is_left_out(hidden: str) -> None:
    """Scripts, styles, titles, comments and hidden elements show no text."""
    assert text_of(f"<html>{hidden}<p>seen</p></html>") == "seen"


def test_an_unclosed_hidden_cell_hides_its_cell_only() -> None:
    """An end tag that may be left out does not swallow the rest of the page."""
    assert text_of('<table><tr><td style="display:none">x<td>y<tr><td>z</table>') == "y\nz"


WORDS = st.lists(st.sampled_from(["Risk", "A&B", "<5%", "é", "don’t", "1.5", "\u00a0"]), max_size=6)
INLINE = st.sampled_from(["b", "span", "ix:nonnumeric"])
PAGES = st.lists(
    st.tuples(st.sampled_from(["p", "div", "li", "td", "h1"]), INLINE, WORDS), max_size=8
)


@given(PAGES)
def test_segments_lead_back_to_the_characters_that_made_the_text(
    page: list[tuple[str, str, list[str]]],
) -> None:
    """Segments rise, do not overlap, and hold every character but separators."""
    source = "".join(
        f"<{block}><{inline}>{html.escape(' '.join(words))}</{inline}></{block}>"
        for block, inline, words in page
    )
    text, segments = render_html(source)
    position = 0
    for segment in segments:
        assert not text[position : segment.text_start].strip()
        made = html.unescape(source[segment.source_start : segment.source_end])
        assert made.split() == text[segment.text_start : segment.text_end].split()
        position = segment.text_end
    assert not text[position:].strip()
    assert text.split() == " ".join(" ".join(words) for _, _, words in page).split()
    assert re.search(r"[ \t\n]{2}", text) is None
