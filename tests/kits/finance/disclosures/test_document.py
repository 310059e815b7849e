"""Documents are read strictly, and a sentence leads back to the file."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DocumentError, MissingInputError, SectionNotFoundError
from kits.finance.disclosures.document import (
    Disclosure,
    Document,
    Section,
    read_document,
    split_sentences,
)
from kits.finance.disclosures.rendering import render_html


def written(folder: Path, content: bytes, name: str = "filing.htm") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def stripped(source: str) -> str:
    """The letters and signs of a piece of HTML, without tags, entities and white space."""
    bare = re.sub(r"<[^>]*>", "", source)
    return "".join(re.sub("[\u00ad\u200b\u2060\ufeff]", "", html.unescape(bare)).split())


def test_plain_text_is_its_own_source(tmp_path: Path) -> None:
    """Text offsets are file offsets; line ends are kept; the digest is the file's."""
    content = b"Good afternoon.\r\nThank you for joining <UNK>.\r\n"
    document = read_document(written(tmp_path, content, "call.txt"))
    assert (document.kind, document.text) == ("text", content.decode())
    assert document.source_span(3, 9) == (3, 9)
    assert document.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        "<p>caf\u00e9 \u2019s</p>".encode(),
        "<p>caf\u00e9 \u2019s</p>".encode("cp1252"),
        b"\xef\xbb\xbf" + "<p>caf\u00e9 \u2019s</p>".encode(),
        "<p>caf\u00e9 \u2019s</p>".encode("utf-16"),
        b'<?xml version="1.0" encoding="koi8-r"?>' + "<p>caf\u00e9 \u2019s</p>".encode(),
        b'<meta charset="ISO-8859-1">' + "<p>caf\u00e9 \u2019s</p>".encode("cp1252"),
    ],
    ids=["utf-8", "cp1252", "bom", "utf-16", "declared", "latin-1 label"],
)
def test_encodings_are_declared_or_utf_8_or_cp1252(
    tmp_path: Path, content: bytes, request: pytest.FixtureRequest
) -> None:
    """A byte order mark or a declaration decides; else UTF-8, else CP1252."""
    text = read_document(written(tmp_path, content)).text
    if "[declared]" in request.node.name:
        assert text == "caf\u00e9 \u2019s".encode().decode("koi8-r").replace("\u00a0", " ")
    else:
        assert text == "caf\u00e9 \u2019s"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty document"),
        (b" \n\t ", "an empty document"),
        (b"<html><script>x</script></html>", "shows no text"),
        (b"%PDF-1.7\n%\xe2\xe3", "a damaged"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG picture"),
        (b"\x1f\x8b\x08\0\0", "a gzip archive"),
        (b"PK\x03\x04\0\0", "a ZIP archive"),
        (bytes(range(256)) * 4, "none of these can decode"),
        (b"text \x81\x8d text", "none of these can decode"),
        (b'<?xml version="1.0"?>\n<xbrli:xbrl><x>1</x></xbrli:xbrl>', "XML that holds no page"),
    ],
)
def test_what_is_no_text_is_refused_by_its_kind(tmp_path: Path, content: bytes, found: str) -> None:
    """Empty, binary and undecodable files raise DocumentError with what was found."""
    with pytest.raises(DocumentError, match=found):
        read_document(written(tmp_path, content))


@pytest.mark.parametrize("name", ["absent.htm", "."])
def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    """There must be a file."""
    with pytest.raises(MissingInputError, match="expected a file"):
        read_document(tmp_path / name)


def test_a_section_that_was_not_found_is_an_error_with_the_reason() -> None:
    """`section` names what was found whole, and why the one asked for was not."""
    document = Document("abc", "abc", "text", "")
    found = (Section("item_1", "Item 1. Business", 0, 3),)
    disclosure = Disclosure(document, "10-K", found, withheld={"item_1a": "it is cut off"})
    assert disclosure.section("item_1") == found[0]
    with pytest.raises(SectionNotFoundError, match=r"it is cut off \(found whole: item_1\)"):
        disclosure.section("item_1a")
    with pytest.raises(SectionNotFoundError, match="no such heading"):
        disclosure.section("item_7")


PIECES = st.lists(
    st.sampled_from(["Sales rose. ", "<b>R", "isk</b> ", "&nbsp;", "<p>", "</td><td>", "A&amp;B "]),
    max_size=20,
)


@given(PIECES, st.data())
def test_any_span_of_text_is_found_in_the_source(pieces: list[str], data: st.DataObject) -> None:
    """Tags, entities and white space apart, source[s0:s1] is text[start:end]."""
    source = "".join(pieces)
    text, segments = render_html(source)
    document = Document(source, text, "html", "", segments)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    s0, s1 = document.source_span(start, end)
    assert 0 <= s0 <= s1 <= len(source)
    assert stripped(source[s0:s1]) == "".join(text[start:end].split())


@pytest.mark.parametrize("name", ["Apple.10-K", "Nvidia.10-K", "Oracle.10-Q"])
def test_every_sentence_of_a_real_filing_is_found_in_its_source(
    sample: Callable[[str], Path], name: str
) -> None:
    """Each sentence of the whole filing, looked up in the iXBRL file, has the same signs."""
    document = read_document(sample(name))
    sentences = split_sentences(document, Section("all", "", 0, len(document.text)))
    assert len(sentences) > 1000
    for sentence in sentences:
        s0, s1 = document.source_span(sentence.start, sentence.end)
        assert stripped(document.source[s0:s1]) == "".join(sentence.text.split())
