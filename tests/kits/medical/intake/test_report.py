"""Reports are read in the encoding that their bytes prove, or refused."""

from __future__ import annotations

import codecs
import hashlib
from pathlib import Path

import pytest

from common.errors import DocumentError, MissingInputError
from kits.medical.intake.report import MAXIMUM_BYTES, read_report

TEXT = "FINDINGS: A 5 mm nodule, 3 µSv later – naïve?\r\nNo effusion.\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT.encode(), "utf-8"),
        (codecs.BOM_UTF8 + TEXT.encode(), "utf-8-sig"),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), "utf-16"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16"),
    ],
)
def test_unicode_is_recognised_and_the_mark_is_not_text(
    tmp_path: Path, data: bytes, encoding: str
) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(data)
    report = read_report(path)
    assert report.text == TEXT
    assert report.encoding == encoding
    assert report.digest == hashlib.sha256(data).hexdigest()


def test_latin_1_is_read_only_where_it_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes("Größe 5 mm".encode("latin-1"))
    with pytest.raises(DocumentError, match="latin-1 or cp1252"):
        read_report(path)
    assert read_report(path, encoding="latin-1").text == "Größe 5 mm"
    assert read_report(path, encoding="cp1252").text == "Größe 5 mm"


def test_a_mark_in_the_file_wins_over_a_declaration(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(codecs.BOM_UTF8 + TEXT.encode())
    assert read_report(path, encoding="latin-1").text == TEXT


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "no words"),
        (b" \n\t 12 ... \n", "no words"),
        (codecs.BOM_UTF8, "no words"),
        (b"%PDF-1.7\n\x01\x02\x03 stream", "control characters"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "zero bytes"),
        ("No nodule".encode("utf-16-le"), "zero bytes"),
        (codecs.BOM_UTF32_LE + "No nodule".encode("utf-32-le"), "UTF-32"),
        (codecs.BOM_UTF16_LE + b"a", "utf-16"),
        ("결절 없음".encode("euc-kr"), "not utf-8"),
    ],
)
def test_empty_binary_and_unknown_files_are_refused(
    tmp_path: Path, data: bytes, fault: str
) -> None:
    path = tmp_path / "Doe_Jane_report.txt"
    path.write_bytes(data)
    with pytest.raises(DocumentError, match=fault) as caught:
        read_report(path)
    assert "Doe" not in str(caught.value)


def test_a_wrong_declaration_shows_in_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes("naïve – nodule".encode("cp1252"))
    with pytest.raises(DocumentError, match="control characters"):
        read_report(path, encoding="latin-1")


def test_an_encoding_that_is_not_offered_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(b"No nodule.")
    for name in ("rot13", "euc-kr", "no such"):
        with pytest.raises(DocumentError, match="an encoding out of"):
            read_report(path, encoding=name)


def test_missing_folders_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="nothing at the path"):
        read_report(tmp_path / "absent.txt")
    with pytest.raises(MissingInputError, match="a folder"):
        read_report(tmp_path)
    path = tmp_path / "huge.txt"
    path.write_bytes(b"a" * (MAXIMUM_BYTES + 1))
    with pytest.raises(DocumentError, match="at most"):
        read_report(path)
