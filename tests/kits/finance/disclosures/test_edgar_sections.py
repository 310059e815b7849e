"""edgartools reads offline, in private folders, and its sections are found in our text."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from kits.finance.disclosures.edgar_sections import WordIndex, read_edgar_sections

SCRIPT = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from pathlib import Path
from kits.finance.disclosures.filing import read_disclosure
assert "edgar" not in sys.modules
print(len(read_disclosure(Path(sys.argv[1])).sections))
assert "edgar" in sys.modules
"""


def test_reading_a_filing_touches_neither_network_nor_home_folder(
    sample: Callable[[str], Path], tmp_path: Path
) -> None:
    """In a fresh process with an empty home, nothing is written, nothing is printed."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary)}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[4])}
    environment = {k: v for k, v in environment.items() if not k.startswith("EDGAR_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(sample("Oracle.10-Q"))],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")
    assert list(home.rglob("*")) == []
    assert list(temporary.rglob("*")) == []


def test_the_environment_is_left_as_it_was() -> None:
    """Folders are redirected only while edgartools runs."""
    before = dict(os.environ)
    sections, note = read_edgar_sections("<html><body><p>Nothing here</p></body></html>", "10-K")
    assert (dict(sections), note) == ({}, None)
    assert dict(os.environ) == before


def test_words_are_found_by_their_first_and_last_few() -> None:
    """A contents entry with the same first words comes earlier and is not taken."""
    risks = " ".join(f"risk{n}" for n in range(40))
    text = f"Item 1A. Risk Factors 5\nItem 1A. Risk Factors\n{risks}.\nItem 1B."
    words = tuple(f"item 1a risk factors {risks}".split())
    start, end = WordIndex(text).find(words) or (0, 0)
    assert text[start:end] == f"Item 1A. Risk Factors\n{risks}"
    assert WordIndex(text).find(("absent", "words")) is None
    assert WordIndex(text).find(()) is None
    assert WordIndex(text).count(start, end) == 44
