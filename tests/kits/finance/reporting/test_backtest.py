"""A backtest holds what the tests themselves give, on days that a window precedes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from common.errors import TableError
from kits.finance.markets.prices import PriceHistory
from kits.finance.markets.volatility import log_returns
from kits.finance.reporting.backtest import (
    backtest_forecasts,
    backtest_history,
    read_history,
    rejects,
)
from kits.finance.risk import backtests
from kits.finance.risk.rolling import roll_tail_risk
from tests.kits.finance.companies import price_csv


def history_of(n_days: int, seed: int = 0) -> PriceHistory:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n_days)))
    return PriceHistory("ABC", np.arange(n_days).astype("datetime64[D]"), close)


def test_right_forecasts_pass_and_forecasts_of_half_the_size_do_not() -> None:
    rng = np.random.default_rng(1)
    losses = rng.normal(0, 0.01, 1000)
    right = np.full(1000, 0.01 * norm.ppf(0.99))
    shortfall = np.full(1000, 0.01 * norm.pdf(norm.ppf(0.99)) / 0.01)
    good = backtest_forecasts(losses, right, shortfall, level=0.99)
    assert not any(rejects(one) for one in good.tests)
    bad = backtest_forecasts(losses, right / 2, shortfall / 2, level=0.99)
    assert {one.name for one in bad.tests if rejects(one)} >= {
        "Kupiec proportion of failures",
        "Acerbi-Szekely Z2",
    }
    assert bad.traffic_light.zone == "red"


def test_forecasts_rest_on_the_days_before_and_each_test_has_its_own_figures() -> None:
    history = history_of(800)
    found = backtest_history(history, level=0.95, method="historical", days=250)
    returns = log_returns(history.close)
    window = min(1000, len(returns) - 250)
    rolled = roll_tail_risk(
        returns[-window - 250 :], method="historical", level=0.95, window_days=window
    )
    assert found.value_at_risk == tuple(rolled.value_at_risk)
    exceptions = rolled.losses > rolled.value_at_risk
    assert found.n_exceptions == exceptions.sum()
    assert found.tests[0] == backtests.kupiec(exceptions, level=0.95)
    assert (found.first_date, found.last_date) == (
        str(history.dates[-250]),
        str(history.dates[-1]),
    )


def test_later_prices_do_not_change_earlier_forecasts() -> None:
    history = history_of(800)
    close = history.close.copy()
    close[-1] *= 0.5
    changed = PriceHistory("ABC", history.dates, close)
    one, two = (
        backtest_history(h, level=0.95, method="historical", days=100) for h in (history, changed)
    )
    assert one.value_at_risk == two.value_at_risk
    assert one.losses[:-1] == two.losses[:-1]
    assert two.n_exceptions >= 1


def test_what_was_not_tested_is_told() -> None:
    found = backtest_forecasts([0.01, 0.02], [0.03, 0.03], level=0.99)
    assert any("expected shortfall" in note for note in found.notes)
    assert any("dynamic quantile" in note for note in found.notes)
    assert any("coarse" in note for note in found.notes)
    assert found.green_share is None


def test_json_has_every_test_with_its_verdict_and_not_the_days() -> None:
    written = backtest_forecasts([0.01] * 300, [0.02] * 300, level=0.99).to_json()
    assert {"rejects", "p_value"} <= set(written["tests"][0])
    assert "losses" not in written
    assert written["expected_exceptions"] == pytest.approx(3)


def test_too_few_prices_are_refused() -> None:
    with pytest.raises(TableError, match="rows"):
        backtest_history(history_of(340))


def test_a_file_of_several_tickers_needs_one_named(tmp_path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(price_csv("ABC", "XYZ"))
    with pytest.raises(TableError, match="2 tickers"):
        read_history(path, ticker=None, as_of=None)
    assert read_history(path, ticker="xyz", as_of=None).ticker == "XYZ"
    path.write_text(price_csv("ABC"))
    assert read_history(path, ticker=None, as_of=None).ticker == "ABC"
