"""A fan chart of volatility as static SVG: the recent past, then forecast quantiles.

The picture is self-contained and takes its colours from the style of the page. Volatility is
per day, in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from kits.finance.markets.forecasters import VolatilityForecast
from kits.finance.markets.prices import PriceHistory
from kits.finance.markets.volatility import log_returns, realized_volatility

__all__ = ["PAST_WINDOW_DAYS", "draw_fan_chart"]

Floats = npt.NDArray[np.float64]

PAST_WINDOW_DAYS = 22  # one month of trading, the middle window of HAR (Corsi 2009)
PAST_SHOWN_DAYS = 120
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 44, 40
PANELS_A_ROW = 2
LEGEND = 26


@dataclass(frozen=True)
class _Axes:
    """Maps days (0 = last close) and percent to SVG coordinates."""

    first_day: int
    last_day: int
    top_percent: float

    def x(self, day: float) -> float:
        share = (day - self.first_day) / (self.last_day - self.first_day)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, percent: float) -> float:
        share = min(percent, self.top_percent) / self.top_percent
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def path(self, days: Sequence[int], percent: Sequence[float]) -> str:
        points = [f"{self.x(d):.1f},{self.y(v):.1f}" for d, v in zip(days, percent, strict=True)]
        return "M" + " L".join(points)


def draw_fan_chart(history: PriceHistory, forecasts: Sequence[VolatilityForecast]) -> str:
    """Returns one SVG element with a panel for each forecast, on a common scale.

    The scale reaches the largest quantile shown; nothing is cut off.

    Args:
        history: Prices up to the day of the forecast.
        forecasts: Forecasts from that day, of equal horizon.
    """
    past = 100 * realized_volatility(log_returns(history.close), PAST_WINDOW_DAYS)
    past = past[-PAST_SHOWN_DAYS:]
    highest = max(float(np.max(f.daily_volatility_quantiles)) for f in forecasts)
    axes = _Axes(
        first_day=-len(past) + 1,
        last_day=max(f.horizon_days for f in forecasts),
        top_percent=_round_up(max(100 * highest, float(past.max()))),
    )
    panels = [
        f'<g transform="translate({i % PANELS_A_ROW * WIDTH},{i // PANELS_A_ROW * HEIGHT})">'
        f"{_panel(axes, past, forecast, history)}</g>"
        for i, forecast in enumerate(forecasts)
    ]
    total = WIDTH * min(len(forecasts), PANELS_A_ROW)
    foot = HEIGHT * -(-len(forecasts) // PANELS_A_ROW)
    return (
        f'<svg class="fan" viewBox="0 0 {total} {foot + LEGEND}" role="img">'
        "<title>Daily volatility in percent: the last months, and forecast quantiles</title>"
        f"<desc>{_described(past, forecasts)}</desc>"
        + "".join(panels)
        + f'<g transform="translate(0,{foot})">{_legend(forecasts[0])}</g></svg>'
    )


def _described(past: Floats, forecasts: Sequence[VolatilityForecast]) -> str:
    """Returns what the picture shows, for who cannot see it."""
    told = [f"Realized at the last close: {past[-1]:.2f}% a day."]
    for forecast in forecasts:
        last = 100 * np.asarray(forecast.daily_volatility_quantiles)[-1]
        told.append(
            f"{forecast.model.upper()}, day {forecast.horizon_days}: "
            f"{last[0]:.2f}% to {last[-1]:.2f}% "
            f"(levels {forecast.quantile_levels[0]:g} to {forecast.quantile_levels[-1]:g})."
        )
    return escape(" ".join(told))


def _legend(forecast: VolatilityForecast) -> str:
    """Returns one line: realized, median, and the pair of levels of each band."""
    levels = [f"{100 * level:g}" for level in forecast.quantile_levels]
    entries = [
        ("past", f"realized over {PAST_WINDOW_DAYS} days"),
        ("median", "forecast: median"),
        *(
            (f"band{depth}", f"{levels[depth]}% to {levels[-1 - depth]}%")
            for depth in range(len(levels) // 2)
        ),
    ]
    parts, x = [], LEFT
    for kind, words in entries:
        if kind.startswith("band"):  # as dark as the nested bands of the chart
            box = f'<rect class="band" x="{x}" y="4" width="22" height="12"/>'
            parts.append(box * (int(kind[4:]) + 1))
        else:
            parts.append(f'<path class="{kind}" d="M{x},10 L{x + 22},10"/>')
        parts.append(f'<text class="tick" x="{x + 28}" y="14">{words}</text>')
        x += 46 + round(6.8 * len(words))
    return "".join(parts)


def _panel(axes: _Axes, past: Floats, forecast: VolatilityForecast, history: PriceHistory) -> str:
    days = list(range(1, forecast.horizon_days + 1))
    quantiles = 100 * np.asarray(forecast.daily_volatility_quantiles)  # (horizon, n_levels)
    past_days = list(range(-len(past) + 1, 1))
    today = f'x1="{axes.x(0):.1f}" x2="{axes.x(0):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
    return "".join(
        [
            f'<text class="title" x="{LEFT}" y="16">{escape(forecast.model.upper())}</text>',
            f'<text class="tick" x="{LEFT}" y="33">% a day</text>',
            _grid(axes, history),
            *_bands(axes, days, quantiles),
            f'<path class="median" d="{axes.path(days, _median(forecast, quantiles))}"/>',
            f'<path class="past" d="{axes.path(past_days, past.tolist())}"/>',
            f'<line class="today" {today}/>',
        ]
    )


def _bands(axes: _Axes, days: list[int], quantiles: Floats) -> list[str]:
    """Returns nested bands, the widest first: outermost pair of levels, then inwards."""
    bands = []
    for inner in range(quantiles.shape[1] // 2):
        low, high = quantiles[:, inner], quantiles[:, -1 - inner]
        outline = [*zip(days, high, strict=True), *reversed(list(zip(days, low, strict=True)))]
        path = axes.path([d for d, _ in outline], [float(v) for _, v in outline])
        bands.append(f'<path class="band" d="{path} Z"/>')
    return bands


def _median(forecast: VolatilityForecast, quantiles: Floats) -> list[float]:
    nearest = int(np.argmin(np.abs(np.asarray(forecast.quantile_levels) - 0.5)))
    return [float(v) for v in quantiles[:, nearest]]


def _grid(axes: _Axes, history: PriceHistory) -> str:
    lines = []
    for percent in np.linspace(0, axes.top_percent, 5):
        y = axes.y(float(percent))
        lines.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{percent:.3g}</text>"
        )
    for day in (axes.first_day, 0, axes.last_day):
        if day > 0:  # the days of trading to come have no dates yet
            name, anchor = f"+{day} days", "end"
        else:
            name, anchor = str(history.dates[day - 1]), "start" if day else "middle"
        # The forecast is short beside the past: the last date would meet the right label.
        row = HEIGHT - BOTTOM + (32 if day == 0 else 17)
        lines.append(
            f'<text class="tick" x="{axes.x(day):.1f}" y="{row}" text-anchor="{anchor}">'
            f"{name}</text>"
        )
    return "".join(lines)


def _round_up(percent: float) -> float:
    """Returns the next of 1, 2, 4, 6, 8 times a power of ten: a quarter of it is readable."""
    power = 10.0 ** np.floor(np.log10(percent))
    return float(next(m * power for m in (1, 2, 4, 6, 8, 10) if m * power >= percent))
