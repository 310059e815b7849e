"""How a portfolio's scores are distributed, as static SVG: companies by tenths of the scale."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["BANDS", "count_by_band", "draw_distribution"]

BANDS = 10  # tenths of the scale
WIDTH, HEIGHT = 900, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 16, 26, 44
MOST_TICKS = 5


def count_by_band(scores: Sequence[float]) -> list[int]:
    """Returns how many scores lie in [0, 10), [10, 20), ... [90, 100]."""
    counts = [0] * BANDS
    for score in scores:
        counts[min(int(score * BANDS / 100), BANDS - 1)] += 1
    return counts


def draw_distribution(scores: Sequence[float]) -> str:
    """Returns one SVG element: a bar for each tenth of the scale, its count above it.

    Args:
        scores: 0 to 100 each.
    """
    counts = count_by_band(scores)
    highest = max(*counts, 1)
    step = next(s for s in _steps() if highest / s <= MOST_TICKS)
    top = -(-highest // step) * step
    width = (WIDTH - LEFT - RIGHT) / BANDS
    foot = HEIGHT - BOTTOM

    def y(count: float) -> float:
        return foot - (foot - TOP) * count / top

    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(n):.1f}" y2="{y(n):.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{y(n) + 4:.1f}" text-anchor="end">{n}</text>'
        for n in range(0, top + 1, step)
    )
    bars = "".join(
        f'<rect class="filled" x="{LEFT + i * width + 3:.1f}" y="{y(count):.1f}" '
        f'width="{width - 6:.1f}" height="{foot - y(count):.1f}"/>'
        f'<text class="value" x="{LEFT + (i + 0.5) * width:.1f}" y="{y(count) - 6:.1f}" '
        f'text-anchor="middle">{count}</text>'
        for i, count in enumerate(counts)
        if count
    )
    edges = "".join(
        f'<text class="tick" x="{LEFT + i * width:.1f}" y="{foot + 18}" text-anchor="middle">'
        f"{10 * i}</text>"
        for i in range(BANDS + 1)
    )
    said = ", ".join(f"{10 * i} to {10 * i + 10}: {n}" for i, n in enumerate(counts))
    return (
        f'<svg class="distribution" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>Companies by score</title><desc>{said}</desc>{grid}{bars}{edges}"
        f'<text class="tick" x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">'
        "score</text></svg>"
    )


def _steps() -> list[int]:
    return [m * 10**power for power in range(8) for m in (1, 2, 5)]
