"""Bars start where the last one ended, end at the sum, and stay in their frame."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.finance.reporting.contributions import LABELS, WIDTH, draw_contributions, draw_score_scale
from kits.finance.risk.score import Reason

parts = st.floats(-30, 30, allow_nan=False)


def bars_of(svg: str) -> list[tuple[float, float]]:
    root = ET.fromstring(svg)  # noqa: S314  # our own text
    return [
        (float(r.attrib["x"]), float(r.attrib["x"]) + float(r.attrib["width"]))
        for r in root.iter("rect")
    ]


@given(baseline=parts, contributions=st.lists(parts, max_size=12))
def test_bars_follow_one_another_and_add_up(baseline, contributions) -> None:
    reasons = [Reason(f"CODE_{i}", "Words.", c) for i, c in enumerate(contributions)]
    svg = draw_contributions(baseline, reasons)
    bars = bars_of(svg)
    assert len(bars) == len(reasons) + 2
    for before, after in pairwise(bars[:-1]):  # one end meets the next start
        assert min(abs(a - b) for a in before for b in after) <= 1.6  # bars are 1.5 wide at least
    last = bars[-2]
    assert min(abs(a - b) for a in last for b in bars[-1]) <= 1.6
    assert all(LABELS - 0.1 <= x <= WIDTH for bar in bars for x in bar)
    assert f"add up to {baseline + sum(contributions):+.3f}"[:-2] in svg


def test_codes_are_escaped_and_the_figures_are_told() -> None:
    svg = draw_contributions(-1.5, [Reason("<b>", "Words.", 0.5)])
    assert "<b>" not in svg
    assert "&lt;b&gt; +0.500" in svg


@pytest.mark.parametrize("score", [0.0, 3.0, 50.0, 99.5, 100.0])
def test_the_scale_fills_up_to_the_score(score: float) -> None:
    svg = draw_score_scale(score, None)
    width = float(re.search(r'class="filled"[^>]*width="([\d.]+)"', svg)[1])
    assert width == pytest.approx((WIDTH - 20) * score / 100, abs=0.06)
    assert "prices alone" not in svg
