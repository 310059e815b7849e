"""Content is kept once, under its sha256, and found damaged rather than wrong."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MissingInputError, StoreError
from kits.finance.governance.archive import Archive, file_sha256


@given(content=st.binary(max_size=200))
def test_what_is_kept_comes_back_under_its_sha256(tmp_path_factory, content):
    """For any bytes."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "file").write_bytes(content)
    archive = Archive(folder / "kept")
    sha256 = archive.keep(folder / "file")
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert archive.find(sha256).read_bytes() == content


def test_equal_content_is_kept_once_and_privately(tmp_path):
    """Two files of one content are one copy of mode 0600."""
    archive = Archive(tmp_path / "kept")
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"the same")
        archive.keep(tmp_path / name)
    (copy,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700


def test_a_copy_that_was_changed_is_refused(tmp_path):
    """A digest never leads to other content."""
    archive = Archive(tmp_path / "kept")
    (tmp_path / "file").write_bytes(b"as it was")
    sha256 = archive.keep(tmp_path / "file")
    archive.find(sha256).write_bytes(b"as it is")
    with pytest.raises(StoreError, match="changed"):
        archive.find(sha256)


@pytest.mark.parametrize("name", ["", "0" * 64, "../../etc/passwd", "A" * 64])
def test_what_is_not_kept_is_not_found(tmp_path, name):
    """A name that is no digest leads nowhere, whatever it says."""
    assert Archive(tmp_path).find(name) is None


def test_a_digest_is_taken_anew_when_the_file_changes(tmp_path):
    """The remembered digest belongs to the file's stamp."""
    path = tmp_path / "file"
    path.write_bytes(b"a")
    first = file_sha256(path)
    path.write_bytes(b"bb")
    assert file_sha256(path) == hashlib.sha256(b"bb").hexdigest() != first
    path.unlink()
    with pytest.raises(MissingInputError):
        file_sha256(path)


def test_old_copies_are_erased_and_nothing_else(tmp_path):
    """By the time at which they were kept."""
    archive = Archive(tmp_path / "kept")
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
    old, new = (archive.keep(tmp_path / name) for name in ("old", "new"))
    os.utime(archive.find(old), (0, 0))
    assert archive.purge(3600) == 1
    assert archive.find(old) is None
    assert archive.find(new).read_text() == "new"
    assert not list((tmp_path / "kept").rglob(".making-*"))
