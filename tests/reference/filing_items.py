"""Prints the words of Item 1A in the sample filings, read with lxml instead of our reader.

Run: python tests/reference/filing_items.py DATA_FOLDER
The text nodes of the lxml tree are joined, with a space wherever the nearest block element
changes; Item 1A reaches from the last heading of its name to the next one of `NEXT`.
"""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

from lxml import etree, html

FILINGS = {
    "Apple.10-K": (r"Item 1A\. Risk Factors", r"Item 1B\. Unresolved"),
    "Nvidia.10-K": (r"ITEM 1A\. RISK FACTORS", r"ITEM 1B\. UNRESOLVED"),
    "Oracle.10-Q": (r"Item 1A\. Risk Factors", r"Item 2\. Unregistered"),
}
BLOCKS = {"div", "p", "td", "th", "tr", "table", "body", "li", "ul", "h1", "h2", "h3"}


def main(folder: Path) -> None:
    for name, (begin, end) in FILINGS.items():
        content = gzip.decompress((folder / f"{name}.html.gz").read_bytes())
        text = " ".join("".join(pieces(html.fromstring(content))).split())
        start = [match.start() for match in re.finditer(begin, text)][-1]
        stop = re.compile(end).search(text, start)
        assert stop is not None
        words = text[start : stop.start()].split()
        print(name, len(words), "|", " ".join(words[:12]), "|", " ".join(words[-12:]))


def pieces(root: etree._Element) -> list[str]:
    found: list[str] = []
    walk(root, found)
    return found


def walk(element: etree._Element, found: list[str]) -> None:
    hidden = (
        not isinstance(element.tag, str)
        or element.tag in ("ix:header", "head", "script", "style")
        or re.search(r"display\s*:\s*none", element.get("style", "")) is not None
    )
    if not hidden:
        gap = " " if element.tag in BLOCKS or element.tag == "br" else ""
        found += [gap, element.text or ""]
        for child in element:
            walk(child, found)
        found.append(gap)
    found.append(element.tail or "")


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    main(Path(sys.argv[1]) / "finance" / "filings_samples")
