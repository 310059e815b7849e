"""Splits, choice, ratios and coefficients of `finance.realized`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.finance_realized import choose, first_coefficients, loss_ratio, origins_between
from benchmarks.realized_models import MODELS, can_run, model_forecasts, random_walk
from benchmarks.realized_pool import past_weights, pooled_forecasts
from benchmarks.realized_series import RealizedSeries, read_series
from common.errors import MissingInputError

SETTINGS = {
    "training_pairs": 200,
    "horizons_days": [1, 5],
    "choose_until": "2001-08-31",
    "tie": 0.01,
    "every": 5,
}


def simulated(n_days: int = 700) -> RealizedSeries:
    """A market with leverage: volatility rises after losses."""
    rng = np.random.default_rng(0)
    level, returns = np.zeros(n_days), np.zeros(n_days)
    for day in range(1, n_days):
        loss = min(returns[day - 1], 0.0)
        level[day] = 0.8 * level[day - 1] - 0.2 * loss - 0.08 + rng.normal(0, 0.1)
        returns[day] = np.exp(level[day] / 2) * rng.normal()
    variance = np.exp(level + rng.normal(0, 0.2, n_days))
    return RealizedSeries(
        name="simulated",
        dates=np.datetime64("2000-01-01") + np.arange(n_days),
        variance=variance,
        returns=returns,
        quarticity=variance**2 * rng.uniform(1, 3, n_days),
        implied=None,
    )


def test_the_days_of_the_choice_and_of_the_report_do_not_overlap() -> None:
    series = simulated()
    limit = np.datetime64("2001-08-31")
    before = origins_between(series, 5, training_pairs=200, until="2001-08-31")
    after = origins_between(series, 5, training_pairs=200, after="2001-08-31")
    assert before[0] == 21 + 5 + 199
    assert series.dates[before.max() + 5] <= limit
    assert series.dates[after.min()] > limit
    assert after.max() == 694


def test_the_choice_finds_the_leverage_and_sees_no_later_day() -> None:
    series = simulated()
    name, ratios = choose(["log-HAR", "LHARQ negative"], series, SETTINGS)
    assert name == "LHARQ negative"
    assert ratios[name] < ratios["log-HAR"]
    later = series.dates > np.datetime64("2001-08-31")
    series.variance[later] = 1e6
    again, others = choose(["log-HAR", "LHARQ negative"], series, SETTINGS)
    assert again == name
    assert others == pytest.approx(ratios, rel=1e-9)


def test_of_equal_candidates_the_average_is_taken() -> None:
    loose = {**SETTINGS, "tie": 10.0}
    assert choose(["LHAR negative", "LHAR"], simulated(), loose)[0] == "LHAR"


def test_a_ratio_of_equal_losses_is_one_and_of_others_lies_in_its_interval() -> None:
    losses = np.random.default_rng(0).chisquare(2, 500)
    assert loss_ratio(losses, losses, block_days=5, draws=50, seed=0) == (1.0, 1.0, 1.0)
    value, low, high = loss_ratio(losses, losses[::-1], block_days=5, draws=200, seed=0)
    assert value == pytest.approx(1.0)
    assert low < value < high


def test_shuffled_days_forecast_worse_than_their_own() -> None:
    series = simulated()
    origins = origins_between(series, 1, training_pairs=200, every=3)
    options = {"horizon_days": 1, "training_pairs": 200}
    own = model_forecasts(MODELS["LHARQ"], series, origins, **options)
    dealt = model_forecasts(MODELS["LHARQ"], series, origins, shuffle_seed=0, **options)
    outcome = np.log(series.variance[origins + 1])
    assert np.std(outcome - np.log(own)) < 0.8 * np.std(outcome - np.log(dealt))


def test_the_floor_is_the_mean_of_the_days_before() -> None:
    series = simulated()
    walk = random_walk(series, np.array([100]), 5)
    assert walk[0] == pytest.approx(series.variance[96:101].mean())


def test_weights_come_from_known_losses_alone() -> None:
    """Worked by hand: at position 3 with a lag of 2 the losses of positions 0 and 1 are known."""
    losses = np.array([[1.0, 2.0, 9.0, 9.0], [3.0, 3.0, 9.0, 9.0]])
    weights = past_weights(losses, lag=2, at_least=1)
    np.testing.assert_allclose(weights[:, :2], 0.5)
    np.testing.assert_allclose(weights[:, 2], [3 / 4, 1 / 4])
    np.testing.assert_allclose(weights[:, 3], [2 / 3, 1 / 3])
    np.testing.assert_allclose(past_weights(losses, 2, remembered=1, at_least=1)[:, 3], [0.6, 0.4])
    np.testing.assert_allclose(past_weights(losses, lag=2), 0.5)


def test_a_pool_sees_no_later_day_and_starts_equal() -> None:
    series = simulated()
    names = ["HAR", "LHARQ"]
    origins = origins_between(series, 5, training_pairs=200)
    options = {"horizon_days": 5, "training_pairs": 200}
    whole = pooled_forecasts(names, series, origins[100:], earlier=origins[:100], **options)
    singles = [model_forecasts(MODELS[name], series, origins, **options) for name in names]
    assert (np.min(singles, axis=0)[100:] <= whole).all()
    assert (whole <= np.max(singles, axis=0)[100:]).all()
    alone = pooled_forecasts(names, series, origins, earlier=origins[:0], **options)
    np.testing.assert_allclose(alone[:26], np.mean(singles, axis=0)[:26])
    series.variance[origins[200] + 1 :] *= 5.0
    changed = pooled_forecasts(names, series, origins[100:], earlier=origins[:100], **options)
    np.testing.assert_allclose(changed[:101], whole[:101])


def test_models_run_only_where_the_series_has_what_they_need() -> None:
    series = simulated()
    bare = RealizedSeries("bare", series.dates, series.variance, series.returns, None, None)
    runs = {name for name, model in MODELS.items() if can_run(model, bare)}
    assert {"HAR", "log-HAR", "LHAR", "LHARQ"} <= runs
    assert not {"HARQ", "HARQ-F", "log-HARQ", "LHARQ implied"} & runs


def test_the_published_coefficients_come_from_the_file(tandem_data: Path) -> None:
    series, digests = read_series(tandem_data)
    found = first_coefficients(series[0])
    assert {name: round(value, 3) for name, value in found.items()} == {"AR": 0.651, "ARQ": 0.983}
    assert [len(each.variance) for each in series] == [4096, 4695, 1494]
    assert len(digests) == 5
    for each in series:
        assert np.isfinite(each.returns).all()
        assert (each.variance > 0).all()


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"SP500RM\.csv\.gz"):
        read_series(tmp_path)
