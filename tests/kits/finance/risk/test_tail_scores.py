"""Scores are those of the papers, and the truth has the lowest."""

from __future__ import annotations

import numpy as np
import pytest
from arch.data import sp500
from scipy import stats

from common.errors import TableError
from kits.finance.markets.losses import pinball_loss
from kits.finance.risk.tail_scores import fz0

# Printed by tests/reference/backtest_statistics.py: VaR 2.5%, ES 3.6%, level 97.5%.
PINBALL_FROM_LOOPS = 0.000698227291
FZ0_FROM_RETURNS = -3.558283314784


def test_scores_are_those_of_plain_loops() -> None:
    losses = -np.diff(np.log(sp500.load()["Close"].to_numpy()))[-1500:]
    var, es = np.full(1500, 0.025), np.full(1500, 0.036)
    assert pinball_loss(losses, var, level=0.975).mean() == pytest.approx(
        PINBALL_FROM_LOOPS, rel=1e-8
    )
    assert fz0(losses, var, es, level=0.975).mean() == pytest.approx(FZ0_FROM_RETURNS, rel=1e-8)


@pytest.mark.parametrize("wrong", [0.8, 1.25])
def test_the_truth_scores_lowest(wrong: float) -> None:
    losses = np.random.default_rng(0).standard_normal(200_000)
    var = np.full(len(losses), stats.norm.ppf(0.975))
    es = np.full(len(losses), stats.norm.pdf(var[0]) / 0.025)
    assert (
        pinball_loss(losses, var, level=0.975).mean()
        < pinball_loss(losses, wrong * var, level=0.975).mean()
    )
    true = fz0(losses, var, es, level=0.975).mean()
    assert true < fz0(losses, wrong * var, wrong * es, level=0.975).mean()
    assert true < fz0(losses, var, np.maximum(wrong * es, var), level=0.975).mean()


def test_a_shortfall_that_is_no_loss_is_refused() -> None:
    with pytest.raises(TableError, match="positive ES"):
        fz0(np.ones(3), -np.ones(3), np.array([1.0, 0.0, np.nan]), level=0.975)
