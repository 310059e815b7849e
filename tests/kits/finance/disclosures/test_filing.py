"""An item is whole or withheld; a silently short one is never returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from common.errors import DocumentError, MissingInputError, SectionNotFoundError
from kits.finance.disclosures.document import Disclosure
from kits.finance.disclosures.filing import TOLERANCE, read_disclosure

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
    return {number: text for number, text in whole.items() if text}


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
        ("<p>FORM 8-K</p><p>CURRENT REPORT</p>", "filing.htm", "Form 8-K"),
        ("FORM 10-KSB\n\nAnnual report", "filing.txt", "Form 10-KSB"),
        ("<p>A page about gardening.</p>", "page.htm", "no cover page"),
        ("SECURITIES AND EXCHANGE COMMISSION\nA letter.", "letter.txt", "no cover page"),
    ],
)
def test_other_forms_are_refused_by_name(
    tmp_path: Path, content: str, name: str, found: str
) -> None:
    """Only 10-K, 10-Q and plain-text calls are read."""
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
