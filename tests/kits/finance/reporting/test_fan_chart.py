"""The fan chart is well-formed and cuts nothing off."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from kits.finance.reporting.fan_chart import draw_fan_chart


def test_the_fan_chart_is_xml_and_inside_its_frame(market) -> None:
    root = ET.fromstring(draw_fan_chart(market.history, [market.har, market.garch]))  # noqa: S314  # our own text
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for path in root.iter("path"):
        points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.attrib["d"])
        assert points
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points)


def test_panels_stand_two_in_a_row(market) -> None:
    one = draw_fan_chart(market.history, [market.har])
    three = draw_fan_chart(market.history, [market.har, market.garch, market.har])
    frames = [re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups() for svg in (one, three)]
    assert int(frames[1][0]) == 2 * int(frames[0][0])
    assert int(frames[1][1]) > int(frames[0][1])


def test_the_last_close_is_named_by_its_date(market) -> None:
    assert str(market.history.dates[-1]) in draw_fan_chart(market.history, [market.har])
