"""The reasons of a score as a picture: bars that start where the last one ended and add up.

Log-odds add, probabilities do not; so the bars stand on a scale of log-odds, and a second
scale beneath says which probability each log-odds is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from kits.finance.risk.score import Reason, probability

__all__ = ["draw_contributions", "draw_score_scale"]

WIDTH, ROW, LABELS, FIGURES = 900, 34, 210, 90
TOP, BOTTOM = 10, 56
MOST_TICKS = 8
_GLYPH = 6.6  # width of a character of the labels, for the longest that fits


@dataclass(frozen=True)
class _Bar:
    """One row: from where to where it reaches, in log-odds."""

    label: str
    start: float
    end: float
    kind: str


def draw_contributions(baseline: float, reasons: Sequence[Reason]) -> str:
    """Returns one SVG element: baseline, each reason, and their sum.

    Args:
        baseline: Log-odds before any reason.
        reasons: The additive parts, drawn in their order.
    """
    bars = _bars(baseline, reasons)
    axis = _Axis.over([0.0, *(v for bar in bars for v in (bar.start, bar.end))])
    height = TOP + ROW * len(bars) + BOTTOM
    total = bars[-1].end
    described = "; ".join(f"{bar.label} {bar.end - bar.start:+.3f}" for bar in bars)
    rows = [_row(axis, bar, TOP + ROW * i, bars) for i, bar in enumerate(bars)]
    return (
        f'<svg class="waterfall" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>Contributions to the log-odds, which add up to {total:+.3f}</title>"
        f"<desc>{escape(described)}</desc>" + _scale(axis, height) + "".join(rows) + "</svg>"
    )


def draw_score_scale(score: float, prices_only: float | None) -> str:
    """Returns one SVG element: the score on a scale from 0 to 100.

    Args:
        score: 0 to 100.
        prices_only: The same from prices alone; marked where it is given.
    """
    left, width, y = 10, WIDTH - 20, 34

    def x(value: float) -> float:
        return left + width * value / 100

    marks = "".join(
        f'<line class="grid" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{y}" y2="{y + 20}"/>'
        f'<text class="tick" x="{x(v):.1f}" y="{y + 46}" text-anchor="middle">{v}</text>'
        for v in range(0, 101, 10)
    )
    alone = ""
    if prices_only is not None:
        at = x(prices_only)
        alone = f'<path class="alone" d="M{at:.1f},{y + 20} l-6,11 l12,0 Z"/>'
    anchor = "start" if score < 10 else "end" if score > 90 else "middle"
    said = f"Score {score:.1f} of 100"
    if prices_only is not None:
        said += f"; from prices alone {prices_only:.1f}"
    return (
        f'<svg class="scale" viewBox="0 0 {WIDTH} 88" role="img"><title>{said}</title>'
        f'<rect class="track" x="{left}" y="{y}" width="{width}" height="20"/>'
        f'<rect class="filled" x="{left}" y="{y}" width="{x(score) - left:.1f}" height="20"/>'
        f"{marks}{alone}"
        f'<line class="needle" x1="{x(score):.1f}" x2="{x(score):.1f}" y1="{y - 6}" y2="{y + 24}"/>'
        f'<text class="value" x="{x(score):.1f}" y="{y - 12}" text-anchor="{anchor}">'
        f"{score:.1f}</text></svg>"
    )


def _bars(baseline: float, reasons: Sequence[Reason]) -> list[_Bar]:
    bars, reached = [_Bar("BASELINE", 0.0, baseline, "base")], baseline
    for reason in reasons:
        kind = "up" if reason.contribution > 0 else "down" if reason.contribution < 0 else "base"
        bars.append(_Bar(reason.code, reached, reached + reason.contribution, kind))
        reached += reason.contribution
    total = math.fsum([baseline, *(reason.contribution for reason in reasons)])
    return [*bars, _Bar("SUM", 0.0, total, "total")]


@dataclass(frozen=True)
class _Axis:
    """A scale of log-odds with round ticks."""

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, values: Sequence[float]) -> _Axis:
        spread = max(max(values) - min(values), 0.1)
        power = 10.0 ** math.floor(math.log10(spread / MOST_TICKS))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if spread / (m * power) <= MOST_TICKS)
        low = math.floor(min(values) / step) * step
        return cls(low, max(math.ceil(max(values) / step) * step, low + step), step)

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return LABELS + share * (WIDTH - LABELS - FIGURES)

    def ticks(self) -> list[float]:
        n_steps = round((self.high - self.low) / self.step)
        return [self.low + i * self.step for i in range(n_steps + 1)]


def _scale(axis: _Axis, height: int) -> str:
    foot = height - BOTTOM + 4
    parts = []
    for tick in axis.ticks():
        kind, words = ("grid", f"{tick:+.3g}") if abs(tick) > axis.step / 2 else ("zero", "0")
        x = f"{axis.x(tick):.1f}"
        parts.append(
            f'<line class="{kind}" x1="{x}" x2="{x}" y1="{TOP}" y2="{foot}"/>'
            f'<text class="tick" x="{x}" y="{foot + 16}" text-anchor="middle">{words}</text>'
            f'<text class="tick" x="{x}" y="{foot + 34}" text-anchor="middle">'
            f"{100 * probability(tick):.3g}%</text>"
        )
    parts.append(
        f'<text class="tick" x="0" y="{foot + 16}">log-odds</text>'
        f'<text class="tick" x="0" y="{foot + 34}">probability</text>'
    )
    return "".join(parts)


def _row(axis: _Axis, bar: _Bar, y: float, bars: Sequence[_Bar]) -> str:
    left, right = sorted((axis.x(bar.start), axis.x(bar.end)))
    label = bar.label
    if len(label) * _GLYPH > LABELS - 10:
        label = label[: int((LABELS - 10) / _GLYPH) - 1] + "…"
    link = ""
    if bar is not bars[-1]:  # leads from this bar's end to where the next one starts
        at = axis.x(bar.end)
        link = (
            f'<line class="link" x1="{at:.1f}" x2="{at:.1f}" y1="{y + 7:.1f}" '
            f'y2="{y + ROW + 27:.1f}"/>'
        )
    return (
        f'<text class="label" x="0" y="{y + 21:.1f}">{escape(label)}</text>'
        f'<rect class="{bar.kind}" x="{left:.1f}" y="{y + 7:.1f}" '
        f'width="{max(right - left, 1.5):.1f}" height="20"/>{link}'
        f'<text class="value" x="{WIDTH}" y="{y + 21:.1f}" text-anchor="end">'
        f"{bar.end - bar.start:+.3f}</text>"
    )
