"""Fits of many companies reach arch's maxima or higher ones, and repeat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from arch import arch_model
from arch.data import sp500

from kits.finance.markets.panel_garch import fit_panel_garch
from kits.finance.markets.prices import read_prices
from kits.finance.markets.volatility import log_returns

# Printed by tests/reference/garch_sp500.py, a simplex search on a recursion written out.
GARCH_LOG_LIKELIHOOD = -1570.502761
GARCH_NEXT_VARIANCE = 3.795794
GARCH_VARIANCE_DAY_22 = 2.983498
GJR_LOG_LIKELIHOOD = -1540.260357
GJR_NEXT_VARIANCE = 2.507369
GJR_VARIANCE_DAY_22 = 1.556649

HORIZON_DAYS = 22


def simulated(n_companies: int, days: int, *, gamma: float = 0.0, seed: int = 0) -> np.ndarray:
    """Returns `(n_companies, days)` of GJR with mu .05, omega .05, alpha .06, beta .88, nu 7."""
    rng = np.random.default_rng(seed)
    z = rng.standard_t(7, size=(days + 500, n_companies)) * np.sqrt(5 / 7)
    s2 = np.full(n_companies, 0.05 / (1 - 0.06 - gamma / 2 - 0.88))
    returns = np.empty_like(z)
    for day, draw in enumerate(z):
        e = np.sqrt(s2) * draw
        returns[day] = 0.05 + e
        s2 = 0.05 + (0.06 + gamma * (e < 0)) * e**2 + 0.88 * s2
    return returns[500:].T / 100


def cut(returns: np.ndarray, days: tuple[int, ...]) -> list[np.ndarray]:
    return [series[-n:] for series, n in zip(returns, days, strict=True)]


def arch_of(returns: np.ndarray, model: str):  # type: ignore[no-untyped-def]
    return arch_model(
        100 * returns, mean="Constant", p=1, o=int(model == "gjr"), q=1, dist="t", rescale=False
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("garch", (GARCH_LOG_LIKELIHOOD, GARCH_NEXT_VARIANCE, GARCH_VARIANCE_DAY_22)),
        ("gjr", (GJR_LOG_LIKELIHOOD, GJR_NEXT_VARIANCE, GJR_VARIANCE_DAY_22)),
    ],
)
def test_the_sp500_gives_what_a_simplex_search_gives(model: str, expected: tuple) -> None:
    returns = np.diff(np.log(sp500.load()["Close"].to_numpy()))[-1500:]
    fit = fit_panel_garch([returns], model=model)
    path = 1e4 * fit.variance_path(HORIZON_DAYS)[0]
    assert fit.converged.all()
    assert fit.log_likelihood[0] - 1500 * np.log(100) == pytest.approx(expected[0], abs=1e-4)
    assert path[0] == pytest.approx(expected[1], rel=1e-4)
    assert path[-1] == pytest.approx(expected[2], rel=1e-4)


@pytest.mark.parametrize(("model", "gamma"), [("garch", 0.0), ("gjr", 0.08)])
def test_the_parameters_of_simulated_returns_are_recovered(model: str, gamma: float) -> None:
    """Their mean over 60 companies of 3,000 days lies near the truth."""
    fit = fit_panel_garch(list(simulated(60, 3000, gamma=gamma)), model=model)
    assert fit.converged.all()
    assert fit.alpha.mean() == pytest.approx(0.06, abs=0.01)
    assert fit.gamma.mean() == pytest.approx(gamma, abs=0.015)
    assert fit.beta.mean() == pytest.approx(0.88, abs=0.02)
    assert np.median(fit.nu) == pytest.approx(7.0, abs=0.6)
    assert fit.mu.mean() == pytest.approx(0.0005, abs=1e-4)


@pytest.mark.parametrize("model", ["garch", "gjr"])
def test_likelihoods_and_forecasts_are_those_of_arch(model: str) -> None:
    """Against arch's own optimum at a tight tolerance; never below it at the usual one."""
    returns = cut(simulated(6, 900), (900, 900, 800, 700, 600, 520))
    fit = fit_panel_garch(returns, model=model)
    paths = 1e4 * fit.variance_path(HORIZON_DAYS)
    for at, series in enumerate(returns):
        described = arch_of(series, model)
        usual = described.fit(disp="off", show_warning=False)
        tight = described.fit(
            disp="off",
            show_warning=False,
            tol=1e-12,
            starting_values=usual.params.to_numpy(),
            options={"maxiter": 500},
        )
        ours = fit.log_likelihood[at] - len(series) * np.log(100)
        best = max(usual.loglikelihood, tight.loglikelihood)
        assert (ours - best) / abs(best) > -1e-8
        if (ours - best) / abs(best) < 1e-8:
            theirs = tight.forecast(horizon=HORIZON_DAYS, reindex=False).variance.to_numpy()[-1]
            np.testing.assert_allclose(paths[at], theirs, rtol=1e-4)


@pytest.mark.parametrize("model", ["garch", "gjr"])
def test_the_forecast_is_archs_own_at_our_parameters(model: str) -> None:
    series = simulated(1, 1000)[0]
    fit = fit_panel_garch([series], model=model)
    gamma = [fit.gamma[0]] if model == "gjr" else []
    fixed = arch_of(series, model).fix(
        [100 * fit.mu[0], 1e4 * fit.omega[0], fit.alpha[0], *gamma, fit.beta[0], fit.nu[0]]
    )
    theirs = fixed.forecast(horizon=HORIZON_DAYS, reindex=False).variance.to_numpy()[-1]
    np.testing.assert_allclose(1e4 * fit.variance_path(HORIZON_DAYS)[0], theirs, rtol=1e-10)
    np.testing.assert_allclose(fit.standardized[0], fixed.std_resid, rtol=1e-9)


def test_a_company_is_fitted_alike_alone_and_among_others() -> None:
    returns = cut(simulated(5, 800), (800, 640, 800, 700, 520))
    together = fit_panel_garch(returns, model="gjr")
    again = fit_panel_garch(returns, model="gjr")
    np.testing.assert_array_equal(together.next_variance, again.next_variance)
    for at, series in enumerate(returns):
        alone = fit_panel_garch([series], model="gjr")
        assert alone.next_variance[0] == pytest.approx(together.next_variance[at], rel=1e-5)
        assert alone.log_likelihood[0] == pytest.approx(together.log_likelihood[at], rel=1e-10)


def test_the_slow_basin_is_found_beside_the_fast_one() -> None:
    """Rare jumps on a drifting variance: a single search near the jumps ends lower.

    Found as arch finds it from its own grid, or higher.
    """
    rng = np.random.default_rng(11)
    drift = np.exp(0.5 * np.sin(np.linspace(0, 4, 1200)))
    jumps = (rng.random(1200) < 0.01) * rng.normal(0, 10, 1200)
    returns = 0.01 * (drift * rng.standard_t(4, 1200) + jumps)
    for model in ("garch", "gjr"):
        fit = fit_panel_garch([returns], model=model)
        theirs = arch_of(returns, model).fit(disp="off", show_warning=False).loglikelihood
        ours = fit.log_likelihood[0] - 1200 * np.log(100)
        assert (ours - theirs) / abs(theirs) > -1e-8


def test_real_companies_never_fall_below_archs_likelihood(tandem_data: Path) -> None:
    """Thirty shares of the open data; a higher likelihood of ours is arch's unfinished search."""
    table = read_prices(tandem_data / "finance/us_prices/prices_2010_2017.parquet")
    assert table.positions is not None
    tickers = [name for name, rows in table.positions.items() if len(rows) > 1700][:300:10]
    returns = [log_returns(table.history(name).close)[-1500:] for name in tickers]
    for model in ("garch", "gjr"):
        fit = fit_panel_garch(returns, model=model)
        for at, series in enumerate(returns):
            theirs = arch_of(series, model).fit(disp="off", show_warning=False).loglikelihood
            ours = fit.log_likelihood[at] - 1500 * np.log(100)
            assert (ours - theirs) / abs(theirs) > -1e-8
