"""XBRL facts keep value, unit, period, dimensions and place, from pages and from instances."""

from __future__ import annotations

import gzip
import re
import tarfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from common.errors import DocumentError, MissingInputError
from kits.finance.disclosures.facts import FactTable, read_facts

# facts in each file, printed by tests/reference/filing_facts.py (lxml, edgartools)
FACTS_FROM_REFERENCE = {
    "Apple.10-K.html": 1127, "Nvidia.10-K.html": 1396, "Oracle.10-Q.html": 566,
    "apple.10K.xbrl.xml": 1174, "Netflix.10K.xbrl.xml": 964, "tsla-20240630_htm.xml": 1149,
    "unp-20121231.xml": 1526,
}  # fmt: skip

CONTEXTS = """
<xbrli:context id="d"><xbrli:entity><xbrli:identifier scheme="c">0000000001</xbrli:identifier>
</xbrli:entity><xbrli:period><xbrli:startDate>2023-01-01</xbrli:startDate>
<xbrli:endDate>2023-12-31</xbrli:endDate></xbrli:period></xbrli:context>
<xbrli:context id="i"><xbrli:entity><xbrli:identifier scheme="c">0000000001</xbrli:identifier>
<xbrli:segment><xbrldi:explicitMember dimension="gaap:StatementClassOfStockAxis">
gaap:CommonClassAMember</xbrldi:explicitMember>
<xbrldi:typedMember dimension="co:SiteAxis"><co:site>North</co:site>
</xbrldi:typedMember></xbrli:segment></xbrli:entity><xbrli:period>
<xbrli:instant>2024-01-01T00:00:00</xbrli:instant></xbrli:period></xbrli:context>
<xbrli:unit id="usd"><xbrli:measure>iso4217:USD</xbrli:measure></xbrli:unit>
<xbrli:unit id="eps"><xbrli:divide><xbrli:unitNumerator><xbrli:measure>iso4217:USD</xbrli:measure>
</xbrli:unitNumerator><xbrli:unitDenominator><xbrli:measure>xbrli:shares</xbrli:measure>
</xbrli:unitDenominator></xbrli:divide></xbrli:unit>
"""
NAMESPACES = (
    'xmlns:xbrli="http://www.xbrl.org/2003/instance" xmlns:xbrldi="http://xbrl.org/2006/xbrldi" '
    'xmlns:gaap="http://fasb.org/us-gaap/2023" xmlns:co="http://www.example.com/2023" '
    'xmlns:dei="http://xbrl.sec.gov/dei/2023" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)
PAGE = f"""<html {NAMESPACES} xmlns:ix="http://www.xbrl.org/2013/inlineXBRL">
<body><div style="display:none"><ix:header><ix:hidden>
<ix:nonNumeric name="dei:AmendmentFlag" contextRef="d" format="ixt:fixed-false">no</ix:nonNumeric>
</ix:hidden><ix:resources>{CONTEXTS}</ix:resources></ix:header></div>
<p>Loss of $ <ix:nonFraction name="gaap:NetIncomeLoss" contextRef="d" unitRef="usd" decimals="-6"
 scale="6" sign="-" format="ixt:num-dot-decimal">1,234.5</ix:nonFraction> m, per share
<ix:nonFraction name="gaap:EarningsPerShareBasic" contextRef="d" unitRef="eps" decimals="2"
 sign="-">0.12</ix:nonFraction>, none &#8212;
<ix:nonFraction name="gaap:ShortTermBorrowings" contextRef="i" unitRef="usd" decimals="0"
 format="ixt:fixed-zero">&#8212;</ix:nonFraction>
<ix:nonFraction name="gaap:Goodwill" contextRef="i" unitRef="usd" xsi:nil="true"></ix:nonFraction>
<ix:nonFraction name="gaap:Assets" contextRef="i" unitRef="usd" format="ixt:strange">5
</ix:nonFraction>
<ix:nonFraction name="gaap:Liabilities" contextRef="x" unitRef="usd">5</ix:nonFraction></p>
<ix:nonNumeric name="co:Policy" contextRef="d" continuedAt="c1">We <ix:exclude>Page 7</ix:exclude>
count</ix:nonNumeric><p>between</p><ix:continuation id="c1">cash &amp; more.</ix:continuation>
</body></html>"""
INSTANCE = f"""<?xml version="1.0"?><xbrli:xbrl {NAMESPACES}>{CONTEXTS}
<gaap:NetIncomeLoss contextRef="d" unitRef="usd" decimals="-6">-1234500000</gaap:NetIncomeLoss>
<gaap:EarningsPerShareBasic contextRef="d" unitRef="eps" decimals="2"> -0.12
</gaap:EarningsPerShareBasic>
<co:Policy contextRef="d">Wé count cash &amp; more.</co:Policy>
<gaap:Goodwill contextRef="i" unitRef="usd" xsi:nil="true"/>
</xbrli:xbrl>"""


def table(folder: Path, content: str, name: str = "page.htm") -> FactTable:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return read_facts(path)


@pytest.fixture(params=sorted(FACTS_FROM_REFERENCE))
def real(
    request: pytest.FixtureRequest, tandem_data: Path, tmp_path: Path
) -> tuple[str, FactTable]:
    folder = tandem_data / "finance" / "filings_samples"
    path = tmp_path / request.param
    if (folder / f"{request.param}.gz").exists():
        path.write_bytes(gzip.decompress((folder / f"{request.param}.gz").read_bytes()))
    else:
        with tarfile.open(folder / "edgartools_xbrl_tsla_unp.tar.gz") as archive:
            member = next(m for m in archive if m.name.endswith(f"/{request.param}"))
            packed = archive.extractfile(member)
            assert packed is not None
            path.write_bytes(packed.read())
    return request.param, read_facts(path)


def test_every_fact_of_a_real_filing_is_read(real: tuple[str, FactTable]) -> None:
    """As many as the reference finds, none unread, each one where the file says it."""
    name, facts = real
    assert len(facts.facts) == FACTS_FROM_REFERENCE[name]
    assert facts.unread == ()
    line_starts = [0, *(m.end() for m in re.finditer("\n", facts.source))]
    for fact in facts.facts:
        assert line_starts[fact.line - 1] <= fact.start <= fact.end
        shown = facts.source[fact.start : fact.end].replace(",", "")
        if isinstance(fact.value, Decimal) and re.fullmatch(r"-?[\d.]+", shown):
            exponent = Decimal(1) if not fact.value else abs(fact.value / Decimal(shown))
            assert exponent in {Decimal(1).scaleb(scale) for scale in (-2, 0, 3, 6, 9)}


def test_a_page_s_facts_carry_scale_sign_unit_and_period(tmp_path: Path) -> None:
    """Prefixes become the standard ones; dimensions and midnight instants are understood."""
    facts = table(tmp_path, PAGE)
    (loss,) = facts.of("us-gaap:NetIncomeLoss")
    assert (loss.value, loss.unit, loss.decimals) == (Decimal(-1234500000), "USD", -6)
    assert (loss.period.days, loss.entity, loss.hidden) == (365, "0000000001", False)
    assert facts.source[loss.start : loss.end] == "1,234.5"
    (per_share,) = facts.of("us-gaap:EarningsPerShareBasic")
    assert (per_share.value, per_share.unit) == (Decimal("-0.12"), "USD/shares")
    (borrowed,) = facts.of("us-gaap:ShortTermBorrowings")
    assert (borrowed.value, borrowed.period.end_date) == (0, date(2023, 12, 31))
    assert borrowed.dimensions == (
        ("co:SiteAxis", "North"),
        ("us-gaap:StatementClassOfStockAxis", "us-gaap:CommonClassAMember"),
    )
    assert facts.of("us-gaap:ShortTermBorrowings", whole_company=True) == ()
    assert facts.of("us-gaap:Goodwill")[0].value is None
    assert facts.document_fact("AmendmentFlag") == "false"
    assert facts.of("co:Policy")[0].value == "We count cash & more."


def test_a_fact_that_cannot_be_understood_is_listed_with_its_reason(tmp_path: Path) -> None:
    """An unknown format, a context that is not there; nothing is dropped in silence."""
    facts = table(tmp_path, PAGE)
    reasons = {fact.concept: fact.reason for fact in facts.unread}
    assert sorted(reasons) == ["us-gaap:Assets", "us-gaap:Liabilities"]
    assert "ixt:strange" in reasons["us-gaap:Assets"]
    assert "context" in reasons["us-gaap:Liabilities"]


def test_an_instance_tells_what_the_page_tells(tmp_path: Path) -> None:
    """Value, unit, period; places are characters, whatever the encoding's bytes."""
    page, instance = table(tmp_path, PAGE), table(tmp_path, INSTANCE, "instance.xml")
    assert (page.kind, instance.kind) == ("inline", "instance")
    for concept in ("us-gaap:NetIncomeLoss", "us-gaap:EarningsPerShareBasic", "us-gaap:Goodwill"):
        (a,), (b,) = page.of(concept), instance.of(concept)
        assert (a.value, a.unit, a.period, a.dimensions) == (
            b.value,
            b.unit,
            b.period,
            b.dimensions,
        )
    (policy,) = instance.of("co:Policy")
    assert instance.source[policy.start : policy.end] == "Wé count cash &amp; more."
    (after,) = instance.of("us-gaap:EarningsPerShareBasic")
    assert instance.source[after.start : after.end] == "-0.12"


def test_facts_of_a_full_submission_point_into_its_file(tmp_path: Path) -> None:
    """Be they in the main document or in an instance beside it."""
    head = "<DOCUMENT>\n<TYPE>{}\n<TEXT>\n<XBRL>\n"
    tail = "\n</XBRL>\n</TEXT>\n</DOCUMENT>\n"
    inline = head.format("10-K") + PAGE + tail
    beside = "<DOCUMENT>\n<TYPE>10-K\n<TEXT>\n<p>Text</p>\n</TEXT>\n</DOCUMENT>\n"
    beside += head.format("EX-101.INS") + INSTANCE + tail
    for source, shown in ((inline, "1,234.5"), (beside, "-1234500000")):
        facts = table(tmp_path, source, "full.txt")
        (loss,) = facts.of("us-gaap:NetIncomeLoss")
        assert facts.source[loss.start : loss.end] == shown
        assert loss.value == Decimal(-1234500000)


ENTITY = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e {}>]>' + INSTANCE.split("?>")[1]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (ENTITY.format('SYSTEM "file:///etc/passwd"'), "declared entity"),
        (ENTITY.format('"ha"'), "declared entity"),
        (INSTANCE[:-20], "fault on line"),
        (INSTANCE.replace("2003/instance", "2003/other"), "another root"),
        ("<html><p>No facts here.</p></html>", "neither"),
        (PAGE.replace('contextRef="', 'contextRef="none'), "no fact that could be read"),
        ("<DOCUMENT>\n<TYPE>8-K\n<TEXT>\nplain\n</TEXT>\n</DOCUMENT>\n", "submission without"),
    ],
)
def test_what_holds_no_facts_is_refused(tmp_path: Path, content: str, found: str) -> None:
    """Malformed, hostile, or without any fact."""
    with pytest.raises(DocumentError, match=found):
        table(tmp_path, content)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """With its own kind of error."""
    with pytest.raises(MissingInputError):
        read_facts(tmp_path / "absent.xml")


def test_the_table_becomes_rows_and_a_frame(tmp_path: Path) -> None:
    """One row a fact; numbers stay exact."""
    facts = table(tmp_path, PAGE)
    frame = facts.to_frame()
    assert len(frame) == len(facts.facts) == len(facts.rows())
    assert frame.loc[frame["concept"] == "us-gaap:NetIncomeLoss", "value"].item() == Decimal(
        -1234500000
    )
    assert "co:SiteAxis=North; us-gaap:" in frame["dimensions"].max()
