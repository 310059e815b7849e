"""A backtest as static SVG: each day's loss beside the VaR that was forecast for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = ["draw_backtest"]

WIDTH, HEIGHT = 900, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 22, 44
MOST_TICKS = 6


def draw_backtest(
    losses: Sequence[float], value_at_risk: Sequence[float], *, first_date: str, last_date: str
) -> str:
    """Returns one SVG element: losses as bars, VaR as a line, exceptions marked.

    Args:
        losses: One a day, oldest first, positive decimals; gains are negative.
        value_at_risk: Forecast for the same days.
        first_date: Named under the first day.
        last_date: Named under the last day.
    """
    percent = [100 * loss for loss in losses]
    var = [100 * value for value in value_at_risk]
    low, high = min(0.0, *percent), max(*percent, *var, 0.1)
    step = _step(high - low)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    width = (WIDTH - LEFT - RIGHT) / len(percent)

    def x(day: float) -> float:
        return LEFT + (day + 0.5) * width

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    exceeded = {day for day, loss in enumerate(percent) if loss > var[day]}
    bars = "".join(
        f'<line class="{"hit" if day in exceeded else "loss"}" x1="{x(day):.1f}" '
        f'x2="{x(day):.1f}" y1="{y(0):.1f}" y2="{y(loss):.1f}" '
        f'style="stroke-width:{max(0.8, 0.7 * width):.2f}"/>'
        for day, loss in enumerate(percent)
    )
    marks = "".join(
        f'<circle class="hit" cx="{x(day):.1f}" cy="{y(percent[day]):.1f}" r="3.5"/>'
        for day in sorted(exceeded)
    )
    line = " L".join(f"{x(day):.1f},{y(value):.1f}" for day, value in enumerate(var))
    said = (
        f"{len(percent)} days; the loss was above the forecast VaR on {len(exceeded)}; "
        f"VaR from {min(var):.2f}% to {max(var):.2f}%, the largest loss {max(percent):.2f}%"
    )
    return (
        f'<svg class="backtest" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>Daily losses beside value at risk</title><desc>{said}</desc>"
        f"{_grid(y, low, high, step)}{bars}"
        f'<path class="median" d="M{line}"/>{marks}'
        f'<text class="tick" x="{LEFT}" y="14">loss, % a day</text>'
        f'<text class="tick" x="{LEFT}" y="{HEIGHT - BOTTOM + 18}">{first_date}</text>'
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 18}" text-anchor="end">'
        f"{last_date}</text>{_legend()}</svg>"
    )


def _grid(y: Callable[[float], float], low: float, high: float, step: float) -> str:
    lines = []
    for at in range(round((high - low) / step) + 1):
        value = low + at * step
        height = y(value)
        kind = "zero" if abs(value) < step / 2 else "grid"
        lines.append(
            f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" '
            f'y2="{height:.1f}"/><text class="tick" x="{LEFT - 6}" y="{height + 4:.1f}" '
            f'text-anchor="end">{value:.3g}</text>'
        )
    return "".join(lines)


def _legend() -> str:
    y = HEIGHT - 8
    return (
        f'<path class="median" d="M{LEFT},{y - 4} L{LEFT + 22},{y - 4}"/>'
        f'<text class="tick" x="{LEFT + 28}" y="{y}">VaR forecast for the day</text>'
        f'<circle class="hit" cx="{LEFT + 222}" cy="{y - 4}" r="3.5"/>'
        f'<text class="tick" x="{LEFT + 232}" y="{y}">exception: loss above VaR</text>'
    )


def _step(spread: float) -> float:
    power = 10.0 ** math.floor(math.log10(spread / MOST_TICKS))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if spread / (m * power) <= MOST_TICKS)
