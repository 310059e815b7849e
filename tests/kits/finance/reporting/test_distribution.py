"""Every score is counted once."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from kits.finance.reporting.distribution import HEIGHT, count_by_band, draw_distribution


@given(st.lists(st.floats(0, 100)))
def test_every_score_lies_in_one_band(scores) -> None:
    counts = count_by_band(scores)
    assert sum(counts) == len(scores)
    for i, n in enumerate(counts):
        assert n == sum(10 * i <= s < 10 * i + 10 or (i == 9 and s == 100) for s in scores)


@given(st.lists(st.floats(0, 100), max_size=300))
def test_the_picture_is_xml_and_inside_its_frame(scores) -> None:
    root = ET.fromstring(draw_distribution(scores))  # noqa: S314  # our own text
    for bar in root.iter("rect"):
        assert 0 <= float(bar.attrib["y"]) <= HEIGHT
        assert float(bar.attrib["height"]) > 0
