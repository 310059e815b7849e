"""Filings and calls for the tests: real samples, and pages composed item by item."""

from __future__ import annotations

import gzip
import html
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

# each of the 62 sample filings, by item number
SplitFiling = Mapping[str, str]


@pytest.fixture(scope="session")
def sample(tandem_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacks a sample filing ("Apple.10-K") and returns its path."""
    folder = tmp_path_factory.mktemp("filings")

    def unpack(name: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            packed = tandem_data / "finance" / "filings_samples" / f"{name}.html.gz"
            path.write_bytes(gzip.decompress(packed.read_bytes()))
        return path

    return unpack


@pytest.fixture(scope="session")
def split_filings(tandem_data: Path) -> dict[str, SplitFiling]:
    """The 62 sample 10-Ks as item number ("1A") to text, empty items left out."""
    packed = tandem_data / "finance" / "filings_samples" / "edgar_crawler_10K_items_62.zip"
    filings = {}
    with zipfile.ZipFile(packed) as archive:
        for name in sorted(n for n in archive.namelist() if n.endswith(".json")):
            content = json.loads(archive.read(name))
            items = {k[5:]: v for k, v in content.items() if k.startswith("item_") and v}
            filings[Path(name).stem] = items
    return filings


@pytest.fixture(scope="session")
def compose() -> Callable[..., str]:
    """Composes a 10-K page: a cover, a contents table if wanted, one paragraph a line."""

    def page(items: SplitFiling, *, contents: bool = False, page_numbers: bool = True) -> str:
        rows = "".join(
            f"<tr><td>Item {number}.</td><td>{html.escape(_caption(text))}</td>"
            f"<td>{place if page_numbers else ''}</td></tr>"
            for place, (number, text) in enumerate(items.items(), start=3)
        )
        lines = "\n".join(items.values()).split("\n")
        body = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
        table = f"<table>{rows}</table>" if contents else ""
        return f"<html><body><p>FORM 10-K</p><p>ANNUAL REPORT</p>{table}{body}</body></html>"

    return page


def _caption(text: str) -> str:
    return " ".join(text.split()[2:5])
