"""A PDF's text is read page by page, or refused with its reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from common.errors import DocumentError, MissingExtraError
from kits.finance.disclosures import pdf
from kits.finance.disclosures.document import read_document, split_sentences
from kits.finance.disclosures.filing import read_disclosure

LINES = (
    "SECURITIES AND EXCHANGE COMMISSION", "FORM 10-K", "Item 1. Business",
    *["We make and sell things in many places."] * 12, "Item 1A. Risk Factors",
    *["Our sales may fall when prices rise."] * 12, "Item 1B. Unresolved Staff Comments", "None.",
    "Item 2. Properties", "We lease one building.",
)  # fmt: skip


def written(lines: tuple[str, ...], *, per_page: int = 20) -> bytes:
    """A PDF of one font, as ISO 32000-1 asks for it at the least."""
    pages = [lines[start : start + per_page] for start in range(0, len(lines), per_page)]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} /MediaBox [0 0 595 842] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    font = "/Resources << /Font << /F1 3 0 R >> >>"
    for number, page in enumerate(pages):
        shown = " ".join(f"({line}) Tj T*" for line in page)
        stream = f"BT /F1 11 Tf 14 TL 60 780 Td {shown} ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R {font} /Contents {5 + 2 * number} 0 R >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    body, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    tail = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return f"{body}xref\n0 {size}\n0000000000 65535 f \n{table}{tail}".encode("ascii")


def test_a_filing_as_pdf_is_read_into_items(tmp_path: Path) -> None:
    """Its offsets lead into the extracted text, in which form feeds end the pages."""
    path = tmp_path / "filing.pdf"
    path.write_bytes(written(LINES))
    disclosure = read_disclosure(path)
    document, section = disclosure.document, disclosure.section("item_1a")
    assert (disclosure.form, document.kind, document.text.count("\f")) == ("10-K", "pdf", 2)
    text = document.text[section.start : section.end]
    assert text.split() == " ".join(LINES[15:28]).split()
    assert document.source_span(section.start, section.end) == (section.start, section.end)
    assert len(split_sentences(document, section)) >= 12


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"%PDF-1.7 and nothing else", "damaged"), (written(("",)), "pages without text")],
)
def test_a_pdf_without_text_is_refused(content: bytes, found: str) -> None:
    """Damaged, or made of pictures alone."""
    with pytest.raises(DocumentError, match=found):
        pdf.read_pdf(content)


def test_without_a_reader_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither pdftotext nor pypdf is there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pypdf", None)
    path = tmp_path / "filing.pdf"
    path.write_bytes(written(LINES))
    with pytest.raises(MissingExtraError, match="pdftotext"):
        read_document(path)
