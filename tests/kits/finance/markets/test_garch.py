"""The GARCH family behind sktime: its checks, arch's numbers, and quantiles that hold."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from arch import arch_model
from arch.univariate import SkewStudent
from sktime.utils.estimator_checks import check_estimator

from common.errors import ModelError, TableError
from kits.finance.markets.garch import EGARCH, EWMA, GARCH, GJR
from kits.finance.markets.garch_fit import FORMS, fit_returns

STEPS = [1, 2, 5, 22]


@pytest.fixture(scope="module")
def returns() -> pd.Series:
    """GJR returns in decimals: mu .05%, omega .05, alpha .04, gamma .08, beta .87, nu 7."""
    rng = np.random.default_rng(3)
    variance, series = 1.0, np.empty(1500)
    for day, z in enumerate(rng.standard_t(7, size=1500) * np.sqrt(5 / 7)):
        e = np.sqrt(variance) * z
        series[day] = 0.05 + e
        variance = 0.05 + (0.04 + 0.08 * (z < 0)) * e**2 + 0.87 * variance
    return pd.Series(series / 100)


@pytest.mark.slow
@pytest.mark.parametrize("forecaster", [EWMA, GARCH, GJR, EGARCH])
def test_sktimes_own_checks_pass(forecaster: type) -> None:
    np.random.seed(0)  # sktime draws its series of twenty days from this state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sktime's and arch's, on series of twenty days
        results = check_estimator(forecaster, raise_exceptions=False, verbose=False)
    # twenty random days may have no maximum of EGARCH's likelihood, which is refused as such
    failed = {n: o for n, o in results.items() if o != "PASSED" and not isinstance(o, ModelError)}
    assert failed == {}


@pytest.mark.parametrize(("forecaster", "o"), [(GARCH, 0), (GJR, 1)])
def test_variances_are_archs_analytic_ones(forecaster: type, o: int, returns: pd.Series) -> None:
    fitted = arch_model(100 * returns, mean="Constant", p=1, o=o, q=1, dist="t", rescale=False)
    theirs = fitted.fit(disp="off").forecast(horizon=22, reindex=False).variance.to_numpy()[-1]
    ours = forecaster().fit(returns).predict_var(fh=STEPS)
    np.testing.assert_allclose(1e4 * ours[0], theirs[np.array(STEPS) - 1], rtol=1e-8)


def test_an_egarch_variance_is_archs_by_simulation(returns: pd.Series) -> None:
    """Beyond one day neither has a closed form: within the error of 4,000 paths."""
    ours = 1e4 * EGARCH().fit(returns).predict_var(fh=STEPS)[0].to_numpy()
    fitted = arch_model(100 * returns, mean="Constant", vol="EGARCH", p=1, o=1, q=1, dist="t")
    result = fitted.fit(disp="off")
    draws = np.random.default_rng(1)
    nu = result.params["nu"]
    theirs = result.forecast(
        horizon=22,
        method="simulation",
        simulations=4000,
        reindex=False,
        rng=lambda size: draws.standard_t(nu, size) * np.sqrt((nu - 2) / nu),
    ).variance.to_numpy()[-1]
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    np.testing.assert_allclose(ours, theirs[np.array(STEPS) - 1], rtol=0.05)


def test_ewma_is_the_recursion_written_out(returns: pd.Series) -> None:
    variance = float(np.mean(returns[:75] ** 2))
    for value in returns:
        variance = 0.06 * value**2 + 0.94 * variance
    ours = EWMA().fit(returns).predict_var(fh=STEPS)[0]
    np.testing.assert_allclose(ours, variance, rtol=1e-10)


@pytest.mark.parametrize("model", sorted(FORMS))
def test_every_form_fits_and_its_quantiles_rise(model: str, returns: pd.Series) -> None:
    fitted = fit_returns(returns.to_numpy(), model=model)
    levels = np.array([0.001, 0.05, 0.5, 0.95, 0.999])
    assert (np.diff(fitted.quantile(levels)) > 0).all()
    drawn = fitted.draw((200_000,), np.random.default_rng(0))
    assert drawn.std() == pytest.approx(1.0, abs=0.02)
    assert np.mean(drawn < fitted.quantile(np.array([0.05]))[0]) == pytest.approx(0.05, abs=0.003)


def test_the_asymmetry_of_simulated_returns_is_found(returns: pd.Series) -> None:
    parameters = fit_returns(returns.to_numpy(), model="gjr").parameters
    assert parameters["gamma[1]"] == pytest.approx(0.08, abs=0.06)
    assert parameters["alpha[1]"] + parameters["gamma[1]"] / 2 + parameters["beta[1]"] < 1


def test_the_skew_of_simulated_returns_is_found() -> None:
    """Constant variance, Hansen's t with 6 degrees of freedom and lambda -0.3."""
    u = np.random.default_rng(0).random(4000)
    drawn = SkewStudent().ppf(u, np.array([6.0, -0.3]))
    fitted = fit_returns(0.01 * drawn, model="garch-skewt")
    assert fitted.parameters["lambda"] == pytest.approx(-0.3, abs=0.08)
    assert fitted.parameters["eta"] == pytest.approx(6.0, abs=2.0)


@pytest.mark.parametrize("forecaster", [GARCH(), GJR("skewt"), EGARCH(), EWMA()])
def test_quantiles_do_not_cross_and_repeat(forecaster: GARCH, returns: pd.Series) -> None:
    levels = [0.01, 0.05, 0.5, 0.95, 0.99]
    fitted = forecaster.clone().fit(returns)
    first = fitted.predict_quantiles(fh=STEPS, alpha=levels)
    again = fitted.predict_quantiles(fh=STEPS, alpha=levels)
    assert (np.diff(first.to_numpy(), axis=1) > 0).all()
    pd.testing.assert_frame_equal(first, again)


def test_the_first_days_quantile_is_exact(returns: pd.Series) -> None:
    """At 1% it is mu + s t_nu(1%) sqrt((nu - 2) / nu)."""
    from scipy.stats import t

    fitted = GARCH().fit(returns)
    nu = fitted.fitted_.parameters["nu"]
    expected = fitted.fitted_.mean + fitted.fitted_.next_volatility * t.ppf(0.01, nu) * np.sqrt(
        (nu - 2) / nu
    )
    ours = fitted.predict_quantiles(fh=[1], alpha=[0.01]).iloc[0, 0]
    assert ours == pytest.approx(expected, rel=1e-9)


def test_a_fit_that_percents_defeat_succeeds_at_variance_one() -> None:
    """Returns of 500% a day: arch's search fails in percent, its parameters come back in it."""
    rng = np.random.default_rng(5)
    returns = 5.0 * rng.standard_t(6, size=600)
    for model in ("garch", "egarch"):
        large = fit_returns(returns, model=model)
        small = fit_returns(returns / 500, model=model)
        assert large.next_volatility == pytest.approx(500 * small.next_volatility, rel=0.02)


def test_new_days_move_the_variance_and_leave_the_parameters(returns: pd.Series) -> None:
    """An update without refitting is arch's recursion at the old parameters."""
    fitted = GJR().fit(returns[:1400])
    before = dict(fitted.fitted_.parameters)
    fitted.update(returns[1400:], update_params=False)
    assert fitted.fitted_.parameters == before
    described = arch_model(100 * returns, mean="Constant", p=1, o=1, q=1, dist="t")
    fixed = described.fix(list(before.values()))
    theirs = fixed.forecast(horizon=1, reindex=False).variance.to_numpy()[-1, 0]
    assert fitted.predict_var(fh=[1]).iloc[0, 0] == pytest.approx(theirs / 1e4)
    whole = GJR().fit(returns)
    fitted.update(returns[1499:], update_params=True)
    assert fitted.fitted_.parameters == whole.fitted_.parameters


def test_unusable_returns_and_names_are_refused(returns: pd.Series) -> None:
    with pytest.raises(TableError, match="prices that move"):
        GARCH().fit(pd.Series(np.zeros(500)))
    with pytest.raises(TableError, match="distribution t or skewt"):
        GARCH(distribution="normal").fit(returns)
