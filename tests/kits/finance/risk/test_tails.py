"""Tails recover what was simulated and agree with routes of their own."""

from __future__ import annotations

import numpy as np
import pytest
from arch.data import sp500
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from common.errors import TableError
from kits.finance.risk.filters import fit_filter
from kits.finance.risk.tails import (
    EmpiricalTail,
    LawTail,
    ParetoTail,
    age_weights,
    fit_pareto_tail,
    fit_pareto_tails,
    require_level,
)

# Printed by tests/reference/tail_methods.py.
PARETO_FROM_MPMATH = (1.2682217066, 0.0795488614, 0.7095631859)
PARETO_Z_FROM_MPMATH = (2.3081734045, 3.16893627)

losses = hnp.arrays(np.float64, st.integers(20, 200), elements=st.floats(-1, 1, width=32))


def sp500_returns(n: int) -> np.ndarray:
    return np.diff(np.log(sp500.load()["Close"].to_numpy()))[-n:]


def test_the_pareto_tail_is_that_of_the_papers_formulas() -> None:
    returns = sp500_returns(1500)
    z = fit_filter(returns, model="garch", distribution="t").run(returns).residuals
    tail = fit_pareto_tail(-z)
    assert (tail.threshold, tail.xi, tail.scale) == pytest.approx(PARETO_FROM_MPMATH, rel=1e-4)
    read = (tail.quantile(0.975)[0], tail.shortfall(0.975))
    assert read == pytest.approx(PARETO_Z_FROM_MPMATH, rel=1e-5)


@pytest.mark.parametrize("xi", [-0.2, 0.0, 0.3])
def test_a_simulated_pareto_tail_is_recovered(xi: float) -> None:
    rng = np.random.default_rng(0)
    sample = stats.genpareto.rvs(xi, scale=2.0, size=(20, 20_000), random_state=rng)
    tails = fit_pareto_tails(sample, share=0.2)
    # Beyond u the scale is 2 + xi u (threshold stability).
    assert np.mean([tail.xi for tail in tails]) == pytest.approx(xi, abs=0.01)
    assert np.mean([tail.scale - tail.xi * tail.threshold for tail in tails]) == pytest.approx(
        2.0, rel=0.02
    )


@settings(deadline=None)
@given(st.floats(-0.4, 0.8), st.floats(0.01, 5), st.floats(0.9, 0.999))
def test_the_closed_shortfall_is_the_integral_of_the_quantiles(
    xi: float, scale: float, level: float
) -> None:
    tail = ParetoTail(threshold=1.0, share=0.1, xi=xi, scale=scale)
    by_integral = LawTail(tail.quantile).shortfall(level)
    assert by_integral == pytest.approx(tail.shortfall(level), rel=0.02 if xi > 0.5 else 1e-4)


def test_the_integral_of_a_normal_law_is_its_closed_shortfall() -> None:
    closed = stats.norm.pdf(stats.norm.ppf(0.99)) / 0.01
    assert LawTail(stats.norm.ppf).shortfall(0.99) == pytest.approx(closed, rel=1e-5)


@settings(deadline=None)
@given(losses, st.floats(0.5, 0.99))
def test_an_empirical_shortfall_is_never_below_its_quantile(
    sample: np.ndarray, level: float
) -> None:
    tail = EmpiricalTail.of(sample)
    assert tail.shortfall(level) >= tail.quantile(level)[0] - 1e-12
    assert np.mean(sample <= tail.quantile(level)[0]) >= level - 1e-9


@settings(deadline=None)
@given(losses)
def test_equal_weights_are_no_weights(sample: np.ndarray) -> None:
    even = np.full(len(sample), 1 / len(sample))
    assert EmpiricalTail.of(sample, even).shortfall(0.9) == pytest.approx(
        EmpiricalTail.of(sample).shortfall(0.9)
    )


@settings(deadline=None)
@given(st.integers(1, 2000), st.floats(0.9, 0.999))
def test_age_weights_add_up_and_the_latest_is_the_largest(n: int, decay: float) -> None:
    weights = age_weights(n, decay)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[-1] == weights.max()


@pytest.mark.parametrize("sample", [np.linspace(0, 1, 100), np.ones(1000)])
def test_samples_without_a_tail_are_refused(sample: np.ndarray) -> None:
    with pytest.raises(TableError, match="tail of losses"):
        fit_pareto_tail(sample)


@pytest.mark.parametrize(("level", "n"), [(0.3, 1000), (1.0, 1000), (0.99, 300)])
def test_levels_without_losses_beyond_them_are_refused(level: float, n: int) -> None:
    with pytest.raises(TableError, match="level of value at risk"):
        require_level(level, n)
