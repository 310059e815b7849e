"""Prints statement figures of the sample filings, read without our XBRL reader.

Run: python tests/reference/filing_facts.py DATA_FOLDER
Inline pages go through lxml as XML: a figure is the element's text without commas times ten to
its scale. Instances go through edgartools' own instance parser. Of each concept the facts
without dimensions that end on the balance-sheet date are printed, the longest period's first.
"""

from __future__ import annotations

import gzip
import sys
import tarfile
from datetime import date
from decimal import Decimal
from pathlib import Path

from lxml import etree

CONCEPTS = (
    "Assets", "Liabilities", "LiabilitiesAndStockholdersEquity", "StockholdersEquity",
    "RetainedEarningsAccumulatedDeficit", "Revenues",
    "RevenueFromContractWithCustomerExcludingAssessedTax", "OperatingIncomeLoss",
    "NetIncomeLoss", "NetCashProvidedByUsedInOperatingActivities",
    "NetCashProvidedByUsedInFinancingActivities", "LongTermDebtNoncurrent",
)  # fmt: skip
INLINE = ("Apple.10-K.html", "Nvidia.10-K.html", "Oracle.10-Q.html")
INSTANCES = (
    "apple.10K.xbrl.xml",
    "Netflix.10K.xbrl.xml",
    "tsla-20240630_htm.xml",
    "unp-20121231.xml",
)
IX = "{http://www.xbrl.org/2013/inlineXBRL}"
XBRLI = "{http://www.xbrl.org/2003/instance}"

Figure = tuple[str, str | None, str, Decimal]  # concept, start, end, value


def main(folder: Path) -> None:
    for name in INLINE:
        figures, n_facts = inline(gzip.decompress((folder / f"{name}.gz").read_bytes()))
        report(name, figures, n_facts)
    for name in INSTANCES:
        figures, n_facts = instance(content_of(folder, name).decode("utf-8"))
        report(name, figures, n_facts)


def content_of(folder: Path, name: str) -> bytes:
    if (folder / f"{name}.gz").exists():
        return gzip.decompress((folder / f"{name}.gz").read_bytes())
    with tarfile.open(folder / "edgartools_xbrl_tsla_unp.tar.gz") as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(f"/{name}"))
        packed = archive.extractfile(member)
        assert packed is not None
        return packed.read()


def inline(content: bytes) -> tuple[list[Figure], int]:
    root = etree.fromstring(content, etree.XMLParser(recover=True, resolve_entities=False))
    contexts = {}
    for context in root.iter(f"{XBRLI}context"):
        if context.find(f".//{XBRLI}segment") is None:
            day = {e.tag.removeprefix(XBRLI): e.text for e in context.iter() if e.tag != XBRLI}
            end = day.get("endDate", day.get("instant"))
            contexts[context.get("id")] = (day.get("startDate"), end)
    figures, n_facts = [], 0
    for element in root.iter(f"{IX}nonFraction", f"{IX}nonNumeric"):
        n_facts += 1
        if element.tag != f"{IX}nonFraction" or element.get("contextRef") not in contexts:
            continue
        value = shown(element)
        if value is not None:
            start, end = contexts[element.get("contextRef")]
            figures.append((element.get("name").partition(":")[2], start, end, value))
    return figures, n_facts


def shown(element: etree._Element) -> Decimal | None:
    text = "".join(element.itertext()).strip().replace(",", "")
    if "zero" in (element.get("format") or ""):
        text = "0"
    if not text.replace(".", "", 1).isdigit():
        return None
    value = Decimal(text) * Decimal(10) ** int(element.get("scale") or 0)
    return -value if element.get("sign") == "-" else value


def instance(content: str) -> tuple[list[Figure], int]:
    from edgar.xbrl import XBRL

    xbrl = XBRL()
    xbrl.parser.parse_instance_content(content)
    figures = []
    for fact in xbrl.parser.facts.values():
        context = xbrl.parser.contexts[fact.context_ref]
        if context.dimensions or fact.numeric_value is None:
            continue
        period = context.period
        end = period.get("endDate") or period.get("instant")
        name = fact.element_id.replace(":", "_").partition("_")[2]
        figures.append((name, period.get("startDate"), end, Decimal(fact.value)))
    return figures, len(xbrl.parser.facts)


def report(file: str, figures: list[Figure], n_facts: int) -> None:
    balance = max(end for concept, _, end, _ in figures if concept == "Assets")
    print(f"{file}: {n_facts} facts, balance date {balance}")
    for concept in CONCEPTS:
        found = {
            (days(start, end), value)
            for name, start, end, value in figures
            if (name, end) == (concept, balance)
        }
        if found:
            longest = max(length for length, _ in found if length <= 380)
            print(f"  {concept}: {[int(value) for length, value in found if length == longest]}")


def days(start: str | None, end: str) -> int:
    return 0 if start is None else (date.fromisoformat(end) - date.fromisoformat(start)).days + 1


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "finance" / "filings_samples")
