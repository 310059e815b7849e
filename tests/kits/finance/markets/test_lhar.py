"""LHAR as an sktime forecaster."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from common.errors import TableError
from kits.finance.markets.har import HAR
from kits.finance.markets.lhar import LHAR


def market(n_days: int = 800, noise: float = 0.2) -> tuple[pd.Series, pd.DataFrame]:
    """A log-variance that rises by 0.1 for each percent that the day before lost."""
    rng = np.random.default_rng(0)
    level, returns = np.zeros(n_days), np.zeros(n_days)
    for day in range(1, n_days):
        loss = min(returns[day - 1], 0.0)
        level[day] = 0.8 * level[day - 1] - 0.1 * loss - 0.04 + rng.normal(0, 0.1)
        returns[day] = np.exp(level[day] / 2) * rng.normal()
    variance = np.exp(level + noise * rng.normal(size=n_days))
    exogenous = pd.DataFrame(
        {"return": returns, "RQ": variance**2 * rng.uniform(1, 3, n_days), "VIX2": np.exp(level)}
    )
    return pd.Series(variance, name="RV"), exogenous


def test_a_day_after_a_loss_is_forecast_more_volatile() -> None:
    variance, exogenous = market()
    forecasts = []
    for last in (-3.0, 3.0):
        changed = exogenous.copy()
        changed.loc[len(changed) - 1, "return"] = last
        forecasts.append(LHAR().fit(variance, X=changed).predict(fh=[1]).iloc[0])
    assert forecasts[0] > 1.2 * forecasts[1]


def test_the_leverage_of_a_simulated_market_is_recovered() -> None:
    variance, exogenous = market(n_days=6000, noise=0.0)
    fitted = LHAR(windows=(1, 5), leverages=("negative",)).fit(variance, X=exogenous)
    assert fitted.coefficients(1)[3] == pytest.approx(-0.1, abs=0.02)


def test_one_regression_is_that_of_statsmodels() -> None:
    variance, exogenous = market()
    regressors = pd.DataFrame(
        {
            "day": np.log(variance),
            "week": np.log(variance.rolling(5).mean()),
            "loss": exogenous["return"].clip(upper=0),
            "losses": exogenous["return"].clip(upper=0).rolling(5).mean(),
        }
    )
    ahead = np.log(variance.rolling(5).mean().shift(-5))
    rows = regressors.notna().all(axis=1) & ahead.notna()
    expected = sm.OLS(ahead[rows], sm.add_constant(regressors[rows])).fit()
    fitted = LHAR(windows=(1, 5), target="average", leverages=("negative",))
    found = fitted.fit(variance, X=exogenous[["return"]])
    np.testing.assert_allclose(found.coefficients(5), expected.params, rtol=1e-6, atol=1e-9)


def test_forecasts_and_quantiles_are_the_mean_of_one_regression_each() -> None:
    variance, exogenous = market(n_days=200)
    names = {"returns": "return", "quarticity": "RQ", "implied": "VIX2"}
    both = LHAR(**names).fit(variance, X=exogenous)
    single = [LHAR(leverages=(k,), **names) for k in ("negative", "standardized")]
    for each in single:
        each.fit(variance, X=exogenous)
    mean = np.mean([each.predict(fh=[1, 5]) for each in single], axis=0)
    np.testing.assert_allclose(both.predict(fh=[1, 5]), mean, rtol=1e-12)
    levels = [0.05, 0.5, 0.95]
    quantiles = both.predict_quantiles(fh=[5], alpha=levels).to_numpy()
    assert (np.diff(quantiles) > 0).all()
    separate = [each.predict_quantiles(fh=[5], alpha=levels).to_numpy() for each in single]
    np.testing.assert_allclose(quantiles, np.mean(separate, axis=0), rtol=1e-12)


def test_without_returns_it_is_refused_or_log_har() -> None:
    variance, _ = market(n_days=200)
    with pytest.raises(TableError, match="daily returns"):
        LHAR().fit(variance)
    plain = LHAR(without_returns="har").fit(variance).predict(fh=[1])
    pd.testing.assert_series_equal(plain, HAR(logs=True).fit(variance).predict(fh=[1]))


def test_unusable_columns_and_parameters_are_refused() -> None:
    variance, exogenous = market(n_days=200)
    with pytest.raises(TableError, match="implied variance"):
        LHAR(implied="return").fit(variance, X=exogenous)
    with pytest.raises(TableError, match="named medRQ"):
        LHAR(quarticity="medRQ").fit(variance, X=exogenous)
    still = exogenous.assign(VIX2=exogenous["VIX2"].where(exogenous.index != 7, 0.0))
    with pytest.raises(TableError, match="1 of them not such"):
        LHAR(implied="VIX2").fit(variance, X=still)
    for parameters in ({"leverages": ("positive",)}, {"leverages": ()}, {"estimation": "wls"}):
        with pytest.raises(TableError, match="HAR"):
            LHAR(**parameters).fit(variance, X=exogenous)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_of_sktimes_checks_pass() -> None:
    from sktime.utils.estimator_checks import check_estimator

    # its variances are zero on the first day, which has no logarithm
    left_out = "test_update_with_exogenous_variables"
    results = check_estimator(LHAR, verbose=False, tests_to_exclude=left_out)
    assert not [name for name, result in results.items() if result != "PASSED"]
