"""An item is whole or withheld; a silently short one is never returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from common.errors import DocumentError, MissingInputError, SectionNotFoundError
from kits.finance.disclosures.document import Disclosure
from kits.finance.disclosures.filing import TOLERANCE, read_disclosure
from kits.finance.disclosures.forms import ITEMS

SplitFilings = dict[str, Mapping[str, str]]

# words of Item 1A and its edges, printed by tests/reference/filing_items.py (lxml)
ITEM_1A_FROM_LXML = {
    "Apple.10-K": (9913, "Item 1A. Risk Factors The Company’s", "employee retention."),
    "Nvidia.10-K": (13156, "ITEM 1A. RISK FACTORS In evaluating", "actions they desire."),
    "Oracle.10-Q": (115, "Item 1A. Risk Factors In addition", "results in the future."),
}  # fmt: skip
RISKS = "Our sales may fall when prices rise. " * 40


def written(folder: Path, content: str, name: str = "filing.htm") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def words_of(disclosure: Disclosure, key: str) -> list[str]:
    section = disclosure.section(key)
    return disclosure.document.text[section.start : section.end].split()


def items(**changes: str) -> dict[str, str]:
    """A short 10-K by item number; an empty change leaves the item out."""
    whole = {
        "1": "Item 1. Business\n" + "We make and sell things. " * 40,
        "1A": "Item 1A. Risk Factors\n" + RISKS,
        "1B": "Item 1B. Unresolved Staff Comments\nNone.",
        "2": "Item 2. Properties\nWe lease one building.",
        "7": "Item 7. Management’s Discussion and Analysis\n" + "Sales rose. " * 60,
        "8": "Item 8. Financial Statements\n" + "See the pages that follow. " * 20,
        "15": "Item 15. Exhibits\nNone.",
    }
    whole |= {number.lstrip("_"): text for number, text in changes.items()}
    order = sorted(whole, key=lambda number: (int(number.rstrip("ABC")), number))
    return {number: whole[number] for number in order if whole[number]}


@pytest.mark.parametrize("name", sorted(ITEM_1A_FROM_LXML))
def test_item_1a_of_a_real_filing_is_what_lxml_finds(
    sample: Callable[[str], Path], name: str
) -> None:
    """Word for word as many, with the same first and last words; edgartools agrees."""
    disclosure = read_disclosure(sample(name))
    n_words, first, last = ITEM_1A_FROM_LXML[name]
    words = words_of(disclosure, "item_1a" if name.endswith("K") else "part_2_item_1a")
    assert (disclosure.form, len(words)) == (name[-4:], n_words)
    assert " ".join(words).startswith(first)
    assert " ".join(words).endswith(last)
    assert not [note for note in disclosure.notes if "Item 1A" in note]
    spans = [(s.start, s.end) for s in disclosure.sections]
    assert spans == sorted(spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


@pytest.mark.slow
def test_item_1a_of_62_rejoined_filings_is_whole_or_withheld(
    split_filings: SplitFilings, compose: Callable[..., str], tmp_path: Path
) -> None:
    """35 have risk factors, 27 have none; none may come back short.

    Of the 27, one says that it need not give any (returned whole, with a note) and one has
    another caption under the number (withheld).
    """
    complete = absent = 0
    for name, parts in split_filings.items():
        page = compose(parts, contents=True)
        disclosure = read_disclosure(written(tmp_path, page, f"{name}.htm"))
        given = " ".join(parts.get("1A", "").split())
        has_risks = "risk factors" in given[:40].lower() and len(given.split()) > 50
        try:
            words = words_of(disclosure, "item_1a")
        except SectionNotFoundError:
            absent += not has_risks
            continue
        assert abs(len(words) - len(given.split())) <= TOLERANCE * len(given.split()), name
        complete += has_risks
        absent += not has_risks and any("short by right" in note for note in disclosure.notes)
    assert (complete, absent) == (35, 27)


@pytest.mark.parametrize("fault", ["contents", "cut", "pointer", "false heading", "no next"])
def test_no_fault_makes_item_1a_of_the_filings_silently_short(
    split_filings: SplitFilings, tmp_path: Path, fault: str
) -> None:
    """In plain text, by headings alone: whole (or longer, where its end is gone), or raised."""
    returned = 0
    risky = {n: p for n, p in split_filings.items() if len(p.get("1A", "").split()) > 900}
    assert len(risky) == 35
    for name, parts in risky.items():
        path = written(tmp_path, "FORM 10-K\n\n" + damaged(parts, fault), f"{name}.txt")
        disclosure = read_disclosure(path)
        n_given = len(parts["1A"].split())
        try:
            n_words = len(words_of(disclosure, "item_1a"))
        except SectionNotFoundError:
            continue
        assert n_words >= (1 - TOLERANCE) * n_given, name
        returned += 1
    least = {"contents": 35, "cut": 0, "pointer": 35, "false heading": 0, "no next": 33}
    assert returned >= least[fault]


def damaged(parts: Mapping[str, str], fault: str) -> str:
    """Rejoins a filing with a fault in or around its Item 1A."""
    parts = dict(parts)
    lines = parts["1A"].split("\n")
    half = len(lines) // 2
    if fault == "contents":
        captions = "\n".join(" ".join(text.split()[:4]) for text in parts.values())
        return captions + "\nPart I\n" + "\n".join(parts.values())
    if fault == "cut":
        return "\n".join([parts["1"], *lines[:half]])
    if fault == "pointer":
        pointer = "Item 7. Management’s Discussion and Analysis of Financial Condition"
        parts["1A"] = "\n".join([*lines[:half], pointer, *lines[half:]])
    if fault == "false heading":
        # nothing in the text can tell this heading from the true one further on
        parts["1A"] = "\n".join([*lines[:half], "Item 2. Properties", *lines[half:]])
        parts.pop("1B", None)
    if fault == "no next":
        parts.pop("1B", None)
    return "\n".join(parts.values())


def test_an_item_that_nothing_follows_is_withheld(
    compose: Callable[..., str], tmp_path: Path
) -> None:
    """A filing cut off inside Item 1A raises, and a note says so."""
    page = compose({n: t for n, t in items().items() if n in ("1", "1A")})
    disclosure = read_disclosure(written(tmp_path, page))
    with pytest.raises(SectionNotFoundError, match="no item heading follows Item 1A"):
        disclosure.section("item_1a")
    assert [s.key for s in disclosure.sections] == ["item_1"]
    assert any(note.startswith("item_1a withheld") for note in disclosure.notes)


@pytest.mark.parametrize(
    ("item_1a", "reason"),
    [
        ("", r"no heading 'Item 1A'.*found whole: item_1, item_1b, item_2"),
        ("Item 1A. Executive Officers\n" + RISKS, "does not say 'Risk Factors'"),
        ("Item 1A. Risk Factors\nSales may fall.", "only 7 words"),
    ],
)
def test_a_10k_without_a_whole_item_1a_says_why(
    compose: Callable[..., str], tmp_path: Path, item_1a: str, reason: str
) -> None:
    """No heading, another caption, or a few words that do not say why."""
    disclosure = read_disclosure(written(tmp_path, compose(items(_1A=item_1a))))
    with pytest.raises(SectionNotFoundError, match=reason):
        disclosure.section("item_1a")


def test_an_item_1a_that_need_not_be_given_is_returned_with_a_note(
    compose: Callable[..., str], tmp_path: Path
) -> None:
    """Smaller reporting companies may leave their risk factors out."""
    text = "Item 1A. Risk Factors\nNot required for smaller reporting companies."
    disclosure = read_disclosure(written(tmp_path, compose(items(_1A=text))))
    assert " ".join(words_of(disclosure, "item_1a")) == " ".join(text.split())
    assert any("short by right" in note for note in disclosure.notes)


def test_a_page_of_contents_alone_is_refused(compose: Callable[..., str], tmp_path: Path) -> None:
    """Headings that only a contents table holds are no items."""
    page = compose(items(), contents=True)
    page = page[: page.index("</table>")] + "</table></body></html>"
    with pytest.raises(SectionNotFoundError, match="none outside a contents table"):
        read_disclosure(written(tmp_path, page))


@pytest.mark.parametrize(
    ("content", "name", "found"),
    [
        ("<p>FORM 40-F</p><p>ANNUAL REPORT</p>", "filing.htm", "Form 40-F"),
        ("FORM 10-KSB\n\nAnnual report", "filing.txt", "Form 10-KSB"),
        ("<p>A page about gardening.</p>", "page.htm", "no cover page"),
        ("SECURITIES AND EXCHANGE COMMISSION\nA letter.", "letter.txt", "no cover page"),
    ],
)
def test_other_forms_are_refused_by_name(
    tmp_path: Path, content: str, name: str, found: str
) -> None:
    """Only 10-K, 10-Q, 8-K, 20-F and plain-text calls are read."""
    with pytest.raises(DocumentError, match=found):
        read_disclosure(written(tmp_path, content, name))


@pytest.mark.parametrize("line", ["FORM 10-K", "Form 10‑K", "FORM\n10-K405", "Form 10-K/A", "10-Q"])
def test_the_cover_page_names_the_form(tmp_path: Path, line: str) -> None:
    """In its usual spellings; without one, the kind of report decides."""
    cover = line if line != "10-Q" else "QUARTERLY REPORT PURSUANT TO SECTION 13 OR 15(d)"
    body = (
        "Item 2. Management's Discussion\nFine." if line == "10-Q" else "\n".join(items().values())
    )
    disclosure = read_disclosure(written(tmp_path, f"{cover}\n{body}", "filing.txt"))
    assert disclosure.form == ("10-Q" if line == "10-Q" else "10-K")


def test_plain_text_without_a_cover_page_is_a_call(tmp_path: Path) -> None:
    """Even when its safe harbour mentions the company's Form 10-K."""
    text = "Good morning. Risks are described in our Form 10-K filed with the SEC. " * 10
    assert read_disclosure(written(tmp_path, text, "call.txt")).form == "transcript"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """With its own kind of error."""
    with pytest.raises(MissingInputError):
        read_disclosure(tmp_path / "absent.htm")


def test_every_item_of_the_form_has_a_state_and_a_reason(
    compose: Callable[..., str], tmp_path: Path
) -> None:
    """Complete, by reference, omitted, incomplete or absent; only the first three have text."""
    reference = "Item 10. Directors\nThe information required is incorporated by reference."
    page = compose(items(_1A="", _10=reference, _9B="Item 9B. Other Information\nNot applicable."))
    disclosure = read_disclosure(written(tmp_path, page))
    states = {status.key: status.state for status in disclosure.items}
    assert [status.key for status in disclosure.items] == [item.key for item in ITEMS["10-K"]]
    assert (states["item_1"], states["item_1a"], states["item_10"]) == (
        "complete", "absent", "by_reference",
    )  # fmt: skip
    assert states["item_9b"] == "omitted"
    given = {section.key for section in disclosure.sections}
    assert given == {k for k, state in states.items() if state not in ("incomplete", "absent")}
    assert all(s.reason for s in disclosure.items if s.state != "complete")
    with pytest.raises(SectionNotFoundError, match="none of that key"):
        disclosure.item("item_99")


def test_an_item_that_only_the_contents_table_lists_is_incomplete(
    compose: Callable[..., str], tmp_path: Path
) -> None:
    """Its text is there somewhere: it must not be called absent."""
    page = compose(items(), contents=True).replace("<p>Item 1A. Risk", "<p>Risk")
    status = read_disclosure(written(tmp_path, page)).item("item_1a")
    assert (status.state, status.reason[:37]) == (
        "incomplete",
        "the contents table lists it (page 4),",
    )


def test_an_item_much_shorter_than_its_pages_in_the_contents_is_incomplete(tmp_path: Path) -> None:
    """Twenty pages by the contents table, a hundred words in the body."""
    n_words = {"1": 9_000, "1A": 120, "1B": 300, "2": 12_000, "7": 14_000, "8": 400}
    first = {"1": 4, "1A": 10, "1B": 30, "2": 31, "7": 60, "8": 90}
    captions = {number: text.split("\n")[0] for number, text in items().items()}
    contents = "\n".join(f"{captions[number]} {page}" for number, page in first.items())
    body = "\n".join(f"{captions[n]}\n" + "word " * count for n, count in n_words.items())
    text = f"FORM 10-K\n\n{contents}\n\nPART I\n{body}\nItem 15. Exhibits\nNone."
    status = read_disclosure(written(tmp_path, text, "filing.txt")).item("item_1a")
    assert status.state == "incomplete"
    assert "20 pages" in status.reason


def test_a_period_before_the_item_existed_makes_it_absent(tmp_path: Path) -> None:
    """Whatever passage edgartools takes for it: Item 1A came in December 2005."""
    parts = items(_1A="")
    parts["1"] += "\nRISK FACTORS\n" + RISKS
    cover = "<p>FORM 10-K</p><p>For the fiscal year ended June 30, {year}</p>"
    body = "".join(f"<p>{line}</p>" for line in "\n".join(parts.values()).split("\n"))
    for year, state in ((1999, "absent"), (2015, "incomplete")):
        page = f"<html><body>{cover.format(year=year)}{body}</body></html>"
        status = read_disclosure(written(tmp_path, page)).item("item_1a")
        assert (year, status.state) == (year, state)
        assert ("since December 2005" in status.reason) == (year == 1999)


def test_a_filing_arranged_by_a_cross_reference_index_is_refused_with_its_pages(
    tmp_path: Path,
) -> None:
    """Its items have no headings, so their ends cannot be checked."""
    captions = [text.split("\n")[0] for text in items().values()]
    index = "\n".join(f"{caption}\t{page}" for page, caption in enumerate(captions, start=11))
    text = f"FORM 10-K\n\nFORM 10-K CROSS-REFERENCE INDEX\n{index}\nRisk Factors\n{RISKS}"
    with pytest.raises(SectionNotFoundError, match=r"cross-reference index.*Item 1A on page 12"):
        read_disclosure(written(tmp_path, text, "filing.txt"))


ITEMS_20F = (
    ("Item 1. Identity of Directors, Senior Management and Advisers", "Not applicable."),
    ("Item 2. Offer Statistics and Expected Timetable", "Not applicable."),
    ("ITEM 3. KEY INFORMATION", "A. [Reserved]\nB. Capitalization\nNot applicable."),
    ("D. Risk Factors", RISKS),
    ("Item 4. Information on the Company", "We make things. " * 60),
    ("Item 4A. Unresolved Staff Comments", "None."),
    ("Item 5. Operating and Financial Review and Prospects", "Sales rose. " * 60),
    ("Item 16K. Cybersecurity", "We watch our systems. " * 20),
    ("Item 18. Financial Statements", "See the pages that follow. " * 12),
    ("Item 19. Exhibits", "1.1 Articles"),
)


@pytest.mark.parametrize(
    "risks", ["D. Risk Factors", "Item 3.D. Risk Factors", "3.D. Risk factors"]
)
def test_a_20f_is_read_by_its_own_items(tmp_path: Path, risks: str) -> None:
    """Risk factors, the last part of Item 3, are an item of their own here."""
    lines = [(risks if "Risk" in head else head, body) for head, body in ITEMS_20F]
    contents = "\n".join(f"{head} {page}" for page, (head, _) in enumerate(lines, start=3))
    body = "\n\n".join(f"{head}\n{text}" for head, text in lines)
    path = written(tmp_path, f"FORM 20-F\n\n{contents}\n\nPART I\n\n{body}\n", "filing.txt")
    disclosure = read_disclosure(path)
    assert disclosure.form == "20-F"
    assert [section.key for section in disclosure.sections] == [
        "item_1", "item_2", "item_3", "item_3d", "item_4", "item_4a", "item_5", "item_16k",
        "item_18", "item_19",
    ]  # fmt: skip
    assert words_of(disclosure, "item_3d")[-1] == "rise."
    assert disclosure.item("item_1").state == "omitted"


def test_the_main_document_of_a_submission_is_read_and_its_offsets_lead_into_the_file(
    compose: Callable[..., str], tmp_path: Path
) -> None:
    """The exhibit before it is left aside, though it speaks of Item 1A too."""
    main = compose(items())
    source = (
        f"<DOCUMENT>\n<TYPE>EX-13\n<TEXT>\nItem 1A. Risk Factors\n{RISKS}\n</TEXT>\n</DOCUMENT>\n"
        f"<DOCUMENT>\n<TYPE>10-K\n<TEXT>\n{main}\n</TEXT>\n</DOCUMENT>\n"
    )
    disclosure = read_disclosure(written(tmp_path, source, "full.txt"))
    section = disclosure.section("item_1a")
    start, end = disclosure.document.source_span(section.start, section.end)
    assert disclosure.document.source[start:end].startswith("Item 1A. Risk Factors</p>")
    assert start > source.index("<TYPE>10-K")
    assert disclosure.document.source[start:end].endswith("when prices rise.")
