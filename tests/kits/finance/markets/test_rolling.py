"""Rolling forecasts against forecasters that are fitted anew each day."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from common.errors import TableError
from kits.finance.markets.har import HAR, HARQ
from kits.finance.markets.har_regression import har_regressors
from kits.finance.markets.leverage import LEVERAGES, leverage_regressors
from kits.finance.markets.lhar import LHAR
from kits.finance.markets.rolling import rolling_forecasts

ORIGINS = np.array([150, 151, 199, 230])


def market(n_days: int = 240) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(0)
    variance = np.exp(np.convolve(rng.normal(size=n_days + 9), np.ones(10) / 3, mode="valid"))
    columns = {"return": rng.normal(size=n_days), "RQ": variance**2 * rng.uniform(1, 3, n_days)}
    return variance, pd.DataFrame(columns)


def refitted(forecaster: HAR, exogenous: pd.DataFrame | None, horizon: int) -> list[float]:
    variance = pd.Series(market()[0])
    found = []
    for origin in ORIGINS:
        known = None if exogenous is None else exogenous.iloc[: origin + 1]
        fitted = forecaster.clone().fit(variance.iloc[: origin + 1], X=known)
        found.append(fitted.predict(fh=[horizon]).iloc[0])
    return found


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("logs", [False, True])
def test_each_forecast_is_that_of_a_forecaster_fitted_to_the_days_before(
    horizon: int, logs: bool
) -> None:
    """HARQ's regressors are centred by all days, which no fit depends on."""
    variance, exogenous = market()
    options = {"target": "average", "logs": logs, "training_days": 100}
    for forecaster, quarticity in (
        (HAR(**options), None),
        (HARQ(quarticity="RQ", **options), exogenous["RQ"].to_numpy()),
    ):
        regressors = har_regressors(variance, logs=logs, quarticity=quarticity)
        found = rolling_forecasts(
            variance, regressors, ORIGINS, horizon_days=horizon, training_pairs=100, logs=logs
        )
        known = None if quarticity is None else exogenous
        np.testing.assert_allclose(found, refitted(forecaster, known, horizon), rtol=1e-8)


def test_the_mean_of_both_leverages_is_lhar() -> None:
    variance, exogenous = market()
    base = har_regressors(variance, logs=True, quarticity=exogenous["RQ"].to_numpy())
    found = []
    for kind in LEVERAGES:
        leverage = leverage_regressors(exogenous["return"].to_numpy(), variance, kind)
        regressors = np.column_stack([base, leverage])
        found.append(
            rolling_forecasts(
                variance, regressors, ORIGINS, horizon_days=5, training_pairs=100, logs=True
            )
        )
    forecaster = LHAR(target="average", training_days=100, returns="return", quarticity="RQ")
    expected = refitted(forecaster, exogenous, 5)
    np.testing.assert_allclose(np.mean(found, axis=0), expected, rtol=1e-8)


def test_later_days_change_nothing() -> None:
    variance, _ = market()
    changed = variance.copy()
    changed[200:] *= 7.0
    for values in (variance, changed):
        found = rolling_forecasts(
            values, har_regressors(values), ORIGINS[:3], horizon_days=5, training_pairs=100
        )
        if values is variance:
            expected = found
    np.testing.assert_array_equal(found, expected)


def test_origins_without_enough_days_are_refused() -> None:
    variance, _ = market()
    regressors = har_regressors(variance)
    with pytest.raises(TableError, match="positions from 104"):
        rolling_forecasts(variance, regressors, ORIGINS - 100, horizon_days=5, training_pairs=100)
    with pytest.raises(TableError, match="without"):
        rolling_forecasts(variance, regressors, ORIGINS, horizon_days=5, training_pairs=140)
