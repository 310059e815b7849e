"""Filters run as written out, agree with arch, and recover what was simulated."""

from __future__ import annotations

import numpy as np
import pytest
from arch import arch_model
from arch.data import sp500

from common.errors import TableError
from kits.finance.risk.filters import VolatilityFilter, fit_filter

RETURNS = np.diff(np.log(sp500.load()["Close"].to_numpy()))[-1000:]
GJR = VolatilityFilter(
    model="gjr",
    distribution="t",
    mean=0.0003,
    omega=2e-6,
    alpha=0.03,
    gamma=0.12,
    beta=0.88,
    first_variance=1e-4,
    shape=(7.0,),
)


def test_the_filter_is_the_recursion_written_out() -> None:
    filtered = GJR.run(RETURNS)
    variance = GJR.first_variance
    for day, value in enumerate(RETURNS):
        assert filtered.variance[day] == pytest.approx(variance, rel=1e-10)
        shock = value - GJR.mean
        assert filtered.residuals[day] == pytest.approx(shock / np.sqrt(variance), rel=1e-9)
        weight = GJR.alpha + GJR.gamma * (shock < 0)
        variance = GJR.omega + weight * shock**2 + GJR.beta * variance
    assert filtered.next_volatility == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize(("model", "law"), [("garch", "normal"), ("garch", "t"), ("gjr", "skewt")])
def test_a_fitted_filter_is_archs_own(model: str, law: str) -> None:
    ours = fit_filter(RETURNS, model=model, distribution=law).run(RETURNS)
    theirs = arch_model(
        100 * RETURNS, mean="Constant", vol="GARCH", o=int(model == "gjr"), dist=law, rescale=False
    ).fit(disp="off")
    assert ours.residuals == pytest.approx(np.asarray(theirs.std_resid), rel=1e-6, abs=1e-8)
    ahead = float(theirs.forecast(horizon=1, reindex=False).variance.to_numpy()[-1, 0])
    assert ours.variance[-1] == pytest.approx(ahead / 100**2, rel=1e-6)


def test_simulated_returns_filter_back_into_their_residuals() -> None:
    z = np.random.default_rng(0).standard_t(7, (3, 500)) * np.sqrt(5 / 7)
    for row, returns in enumerate(GJR.simulate(GJR.first_variance, z)):
        assert GJR.run(returns).residuals == pytest.approx(z[row], rel=1e-8, abs=1e-10)


def test_a_fit_recovers_the_filter_that_simulated() -> None:
    z = np.random.default_rng(1).standard_t(7, (1, 20_000)) * np.sqrt(5 / 7)
    fitted = fit_filter(GJR.simulate(GJR.first_variance, z)[0], model="gjr", distribution="t")
    assert fitted.beta == pytest.approx(GJR.beta, abs=0.02)
    assert fitted.gamma == pytest.approx(GJR.gamma, abs=0.03)
    assert fitted.shape[0] == pytest.approx(7.0, abs=0.8)


@pytest.mark.parametrize(("law", "shape"), [("normal", ()), ("t", (5.0,)), ("skewt", (6.0, -0.2))])
def test_quantiles_belong_to_a_law_of_mean_zero_and_variance_one(law: str, shape: tuple) -> None:
    filter_ = VolatilityFilter("garch", law, 0, 1e-6, 0.1, 0.0, 0.8, 1e-4, shape)
    z = filter_.quantile((np.arange(200_000) + 0.5) / 200_000)
    assert z.mean() == pytest.approx(0.0, abs=1e-3)
    assert z.var() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    "returns",
    [RETURNS[:100], np.zeros(500), np.append(RETURNS, np.nan)],
    ids=["few", "still", "nan"],
)
def test_unusable_returns_are_refused(returns: np.ndarray) -> None:
    with pytest.raises(TableError, match="daily returns"):
        fit_filter(returns)
