"""Each exception is marked once, and nothing leaves the frame."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from kits.finance.reporting.backtest_chart import HEIGHT, draw_backtest

days = st.tuples(st.floats(-0.5, 0.5), st.floats(0, 0.4))


@given(st.lists(days, min_size=1, max_size=60))
def test_exceptions_are_marked_and_nothing_leaves_the_frame(pairs) -> None:
    losses, var = zip(*pairs, strict=True)
    svg = draw_backtest(losses, var, first_date="2016-01-04", last_date="2016-12-30")
    root = ET.fromstring(svg)  # noqa: S314  # our own text
    marks = [c for c in root.iter("circle") if c.attrib["class"] == "hit"]
    n_exceptions = sum(100 * loss > 100 * value for loss, value in pairs)
    assert len(marks) == n_exceptions + 1, "one more in the legend"
    heights = [float(one.attrib[y]) for one in root.iter("line") for y in ("y1", "y2")]
    assert all(0 <= y <= HEIGHT for y in heights)
    assert f"on {n_exceptions};" in svg
