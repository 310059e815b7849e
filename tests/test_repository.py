"""What the repository holds: no secrets, no machine paths, no large files without a card."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Written in pieces, so that this file does not hold what it looks for.
PRIVATE_KEY = re.compile("BEGIN [A-Z ]*" + "PRIVATE KEY")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:" + "work|root|farm" + r")/\w")
LARGEST_FILE_BYTES = 3_000_000
LARGEST_WEIGHTS_BYTES = 15_000_000


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="ignore")


def test_no_file_holds_a_private_key_or_a_machine_path() -> None:
    texts = [p for p in tracked() if p.suffix != ".safetensors"]
    found = [p for p in texts if PRIVATE_KEY.search(text_of(p)) or MACHINE_PATH.search(text_of(p))]
    assert found == []


def test_large_files_stand_beside_a_model_card() -> None:
    large = [p for p in tracked() if p.stat().st_size > LARGEST_FILE_BYTES]
    assert [p for p in large if not (p.parent / "README.md").is_file()] == []


def test_weights_are_safetensors_with_cards_and_small_together() -> None:
    weights = [
        p for p in tracked() if "weights" in p.parts and p.suffix not in {".py", ".md", ".json"}
    ]
    assert {p.suffix for p in weights} == {".safetensors"}
    assert all((p.parent / "README.md").is_file() for p in weights)
    assert sum(p.stat().st_size for p in weights) < LARGEST_WEIGHTS_BYTES
