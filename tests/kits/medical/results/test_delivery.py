"""Result files arrive together or not at all, and spare what is not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import InputError
from kits.medical.results.delivery import deliver, require_usable

FILES = {"sr.dcm": b"sr", "reading.json": b"{}"}


def test_a_new_folder_holds_the_files_and_nothing_else(tmp_path: Path) -> None:
    deliver(FILES, tmp_path / "a" / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "a" / "out").iterdir()} == FILES
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["out"]


def test_other_files_stay_and_old_results_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    (out / "seg.dcm").write_bytes(b"of an earlier reading")
    deliver(FILES, out)
    assert sorted(p.name for p in out.iterdir()) == ["notes.txt", "reading.json", "sr.dcm"]
    assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_cannot_be_written_is_refused_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "reading.json").mkdir(parents=True)
    with pytest.raises(InputError, match="output folder"):
        deliver(FILES, out)
    assert [p.name for p in out.iterdir()] == ["reading.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_folders_place_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="a file in that place"):
        require_usable(tmp_path / "file" / "out")
    require_usable(tmp_path / "new" / "folder")
