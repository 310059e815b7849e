"""Draws follow the tail that they come from."""

from __future__ import annotations

import numpy as np
import pytest

from kits.finance.risk.filters import VolatilityFilter
from kits.finance.risk.innovations import draw_residuals, residual_tails

FILTER = VolatilityFilter("garch", "t", 0.0, 1e-6, 0.1, 0.0, 0.85, 1e-4, (6.0,))
Z = np.random.default_rng(0).standard_t(6, 1000) * np.sqrt(4 / 6)


@pytest.mark.parametrize("kind", ["empirical", "law", "pareto"])
def test_drawn_residuals_have_the_quantiles_of_their_tail(kind: str) -> None:
    (tail,) = residual_tails(kind, FILTER, Z[np.newaxis])
    drawn = draw_residuals(tail, Z, (500_000, 1), np.random.default_rng(1))
    for level in (0.95, 0.99, 0.995):
        expected = float(tail.quantile(level)[0])
        assert float(np.quantile(-drawn, level)) == pytest.approx(expected, rel=0.03)


def test_gains_stay_as_they_were_seen_beside_a_pareto_tail() -> None:
    (tail,) = residual_tails("pareto", FILTER, Z[np.newaxis])
    drawn = draw_residuals(tail, Z, (1000, 10), np.random.default_rng(1))
    assert np.isin(drawn[-drawn <= tail.threshold], Z).all()
    assert not np.isin(drawn[-drawn > tail.threshold], Z).any()


def test_each_run_has_its_own_tail() -> None:
    runs = np.lib.stride_tricks.sliding_window_view(Z, 900)
    tails = residual_tails("pareto", FILTER, runs)
    (last,) = residual_tails("pareto", FILTER, runs[-1:])
    assert len(tails) == 101
    assert tails[-1] == last
