"""Rolling forecasts use the days before alone, and learn from their exceptions."""

from __future__ import annotations

import numpy as np
import pytest
from arch.data import sp500
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TableError
from kits.finance.risk.backtests import kupiec
from kits.finance.risk.filters import VolatilityFilter, fit_filter
from kits.finance.risk.methods import METHODS
from kits.finance.risk.rolling import follow_exceptions, roll_tail_risk
from kits.finance.risk.tails import EmpiricalTail, fit_pareto_tail

RETURNS = np.diff(np.log(sp500.load()["Close"].to_numpy()))[:560]
ASKED = {"level": 0.975, "window_days": 500, "refit_days": 20}


def test_historical_forecasts_are_the_quantiles_of_each_window() -> None:
    rolled = roll_tail_risk(RETURNS, method="historical", **ASKED)
    for day in (0, 19, 20, 59):
        tail = EmpiricalTail.of(-RETURNS[day : day + 500])
        assert rolled.value_at_risk[day] == tail.quantile(0.975)[0]
        assert rolled.expected_shortfall[day] == tail.shortfall(0.975)
    assert rolled.losses == pytest.approx(-RETURNS[500:])


def test_a_day_of_refitting_is_a_forecast_of_its_own() -> None:
    rolled = roll_tail_risk(RETURNS, method="evt", **ASKED)
    window = RETURNS[40:540]
    fitted = fit_filter(window, model="garch", distribution="t")
    filtered = fitted.run(window)
    tail = fit_pareto_tail(-filtered.residuals)
    expected = -fitted.mean + filtered.next_volatility * tail.quantile(0.975)[0]
    assert rolled.value_at_risk[40] == pytest.approx(expected, rel=1e-9)
    assert (rolled.n_refits, rolled.n_kept) == (3, 0)


@pytest.mark.parametrize("method", ["historical", "fhs-garch", "garch-t", "evt-ensemble"])
def test_later_returns_change_no_forecast(method: str) -> None:
    short = roll_tail_risk(RETURNS[:530], method=method, **ASKED)
    changed = RETURNS.copy()
    changed[530:] = -0.3
    long = roll_tail_risk(changed, method=method, **ASKED)
    assert np.array_equal(short.value_at_risk, long.value_at_risk[:30])
    assert np.array_equal(short.expected_shortfall, long.expected_shortfall[:30])


@pytest.mark.parametrize("method", METHODS)
def test_expected_shortfall_is_at_least_value_at_risk_on_every_day(method: str) -> None:
    rolled = roll_tail_risk(RETURNS, method=method, **(ASKED | {"refit_days": 60}))
    assert (rolled.expected_shortfall >= rolled.value_at_risk).all()
    assert len(rolled.exceptions) == 60


def test_levels_that_learn_bring_exceptions_to_their_share() -> None:
    """VaR is a fifth too low throughout; with the rule the share is right all the same."""
    losses = np.random.default_rng(0).standard_normal(20_000)
    grid = np.sort(np.random.default_rng(1).standard_normal(100_000))

    def too_low(_: int, level: float) -> float:
        return 0.8 * float(grid[int(level * len(grid))])

    fixed = follow_exceptions(losses, too_low, level=0.95, step=0.0)
    learned = follow_exceptions(losses, too_low, level=0.95, step=0.005)
    assert (fixed == 0.95).all()
    share = np.mean([loss > too_low(0, at) for loss, at in zip(losses, learned, strict=True)])
    assert share == pytest.approx(0.05, abs=0.004)


@settings(deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=60), st.floats(0, 0.05))
def test_a_level_depends_on_the_losses_before_it_alone(losses: list[float], step: float) -> None:
    def constant(_: int, level: float) -> float:
        return 2 * level

    levels = follow_exceptions(np.array(losses), constant, level=0.9, step=step)
    again = follow_exceptions(np.array([*losses[:-1], 99.0]), constant, level=0.9, step=step)
    assert np.array_equal(levels, again)
    assert ((levels >= 0.7 - 1e-12) & (levels <= 0.99 + 1e-12)).all()


def test_right_models_are_accepted_and_wrong_ones_rejected() -> None:
    z = np.random.default_rng(0).standard_t(4, (1, 6000)) * np.sqrt(2 / 4)
    truth = VolatilityFilter("garch", "t", 0.0, 1e-6, 0.08, 0.0, 0.9, 1e-4, (4.0,))
    returns = truth.simulate(1e-4, z)[0]
    right = roll_tail_risk(returns, method="garch-t", refit_days=1000)
    wrong = roll_tail_risk(returns, method="garch-normal", refit_days=1000)
    assert kupiec(right.exceptions, level=0.99).p_value > 0.01
    assert kupiec(wrong.exceptions, level=0.99).p_value < 0.01


@pytest.mark.parametrize(
    "asked", [{"window_days": 100}, {"window_days": 560}, {"refit_days": 0}, {"level": 0.999}]
)
def test_windows_and_levels_that_cannot_be_are_refused(asked: dict) -> None:
    with pytest.raises(TableError):
        roll_tail_risk(RETURNS, method="historical", **(ASKED | asked))
