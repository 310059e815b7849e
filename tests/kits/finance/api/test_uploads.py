"""A file's name is a name: no path, nothing hidden, nothing that a log or a shell would eat."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from kits.finance.api.uploads import Upload


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", ".hidden", " x", "x ", "a\0b"),
        *("C:x", "a\nb", "x" * 201),
    ],
)
def test_a_name_that_is_no_plain_one_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="plain file name") as refused:
        Upload(name, io.BytesIO())
    assert "passwd" not in str(refused.value)


@given(st.text(max_size=210))
def test_a_name_that_is_taken_stays_within_its_folder(name: str) -> None:
    try:
        upload = Upload(name, io.BytesIO())
    except InputError:
        return
    folder = Path("/srv/jobs")
    assert (folder / upload.name).parent == folder
    assert "/" not in upload.suffix
    assert len(upload.suffix) <= 9


def test_content_is_written_once_and_never_over_another(tmp_path: Path) -> None:
    upload = Upload.of_text("10-K of 2016.html", "<p>Grüße</p>")
    path = upload.save(tmp_path / f"document{upload.suffix}")
    assert path.name == "document.html"
    assert path.stat().st_size == upload.n_bytes
    with pytest.raises(FileExistsError):
        upload.save(path)


def test_a_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InputError, match="surrogates"):
        Upload.of_text("a.txt", "\ud800")
