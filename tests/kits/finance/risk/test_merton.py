"""Distances to default agree with a textbook, with one another, and recover what was simulated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TableError
from kits.finance.risk.merton import (
    DefaultPoint,
    equity_value,
    merton_distance_to_default,
    merton_from_equity_volatility,
    naive_distance_to_default,
)

# Printed by tests/reference/credit_scores.py; Hull prints 12.40, 21.23% and 12.7%.
EXPECTED_ASSETS, EXPECTED_VOLATILITY, EXPECTED_DEFAULT = 12.39538719, 0.21230471, 0.12697124
EXPECTED_NAIVE_VOLATILITY, EXPECTED_NAIVE_DISTANCE = 0.3769230769, -0.0230053266

HULLS = DefaultPoint(short_term_debt=10.0, long_term_debt=0.0, currency="USD")


def simulated(
    *, n_days: int = 253, volatility: float = 0.25, drift: float = 0.08, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Daily assets of a geometric Brownian motion from 150, and the equity over a debt of 100."""
    random = np.random.default_rng(seed)
    steps = random.normal(
        (drift - volatility**2 / 2) / 252, volatility / np.sqrt(252), size=n_days - 1
    )
    V = 150 * np.exp(np.concatenate([[0.0], np.cumsum(steps)]))
    return V, equity_value(V, 100.0, asset_volatility=volatility, risk_free_rate=0.03)


def test_hulls_example_is_solved_as_he_prints_it() -> None:
    found = merton_from_equity_volatility(
        3.0, HULLS, currency="USD", equity_volatility=0.8, risk_free_rate=0.05
    )
    assert found.asset_value == pytest.approx(EXPECTED_ASSETS, rel=1e-7)
    assert found.asset_volatility == pytest.approx(EXPECTED_VOLATILITY, rel=1e-6)
    assert found.probability_of_default == pytest.approx(EXPECTED_DEFAULT, rel=1e-6)


def test_the_naive_distance_is_the_formula_written_out() -> None:
    found = naive_distance_to_default(
        3.0, HULLS, currency="USD", equity_volatility=0.8, past_year_return=-0.2,
        risk_free_rate=0.05,
    )  # fmt: skip
    assert found.asset_volatility == pytest.approx(EXPECTED_NAIVE_VOLATILITY, abs=1e-10)
    assert found.distance_to_default == pytest.approx(EXPECTED_NAIVE_DISTANCE, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_iteration_recovers_the_assets_that_were_simulated(seed: int) -> None:
    """Nearly the volatility of the year's own steps and the last value.

    Nearly, since the equity was priced with the true volatility, and the iteration prices it
    with the year's. It matters most near default: seed 1 ends at 106 over a debt of 100.
    """
    V, E = simulated(seed=seed)
    found = merton_distance_to_default(
        E, DefaultPoint(60.0, 80.0, "USD"), currency="USD", risk_free_rate=0.03
    )
    realized = np.diff(np.log(V)).std(ddof=1) * np.sqrt(252)
    assert found.default_point == 100.0
    assert found.asset_value == pytest.approx(V[-1], rel=0.015)
    assert found.asset_volatility == pytest.approx(realized, rel=0.03)
    assert found.n_days == 253


def test_volatility_and_drift_are_recovered_over_many_years() -> None:
    _, E = simulated(n_days=252 * 60, drift=0.04, volatility=0.15, seed=3)
    found = merton_distance_to_default(
        E, DefaultPoint(100.0, 0.0, "USD"), currency="USD", risk_free_rate=0.03
    )
    assert found.asset_volatility == pytest.approx(0.15, rel=0.02)
    assert found.asset_drift == pytest.approx(0.04, abs=3 * 0.15 / np.sqrt(60))


@settings(deadline=None, max_examples=60)
@given(st.floats(0.02, 3), st.floats(0.05, 1.5), st.floats(-0.02, 0.15), st.floats(0.25, 5))
def test_two_equations_hold_at_their_solution(E, volatility, rate, horizon) -> None:
    point = DefaultPoint(0.5, 1.0, "EUR")
    found = merton_from_equity_volatility(
        E, point, currency="EUR", equity_volatility=volatility, risk_free_rate=rate,
        horizon_years=horizon,
    )  # fmt: skip
    V, s = found.asset_value, found.asset_volatility
    again = equity_value(V, 1.0, asset_volatility=s, risk_free_rate=rate, horizon_years=horizon)
    assert again[0] == pytest.approx(E, rel=1e-7)
    bumped = equity_value(
        [V * (1 - 1e-6), V * (1 + 1e-6)], 1.0, asset_volatility=s, risk_free_rate=rate,
        horizon_years=horizon,
    )  # fmt: skip
    delta = (bumped[1] - bumped[0]) / (2e-6 * V)
    assert delta * s * V / E == pytest.approx(volatility, rel=1e-4)
    assert found.distance_to_default == pytest.approx(found.risk_neutral_distance)


def test_the_unit_of_account_does_not_matter() -> None:
    _, E = simulated()
    one, other = (
        merton_distance_to_default(
            E * scale, DefaultPoint(100.0 * scale, 0.0, "USD"), currency="USD", risk_free_rate=0.03
        )
        for scale in (1.0, 1e6)
    )
    assert one.distance_to_default == pytest.approx(other.distance_to_default, rel=1e-6)


def test_more_debt_is_nearer_to_default() -> None:
    _, E = simulated()
    distances = [
        merton_distance_to_default(
            E, DefaultPoint(debt, 0.0, "USD"), currency="USD", risk_free_rate=0.03
        ).risk_neutral_distance
        for debt in (20.0, 60.0, 100.0, 200.0)
    ]
    assert distances == sorted(distances, reverse=True)


def test_what_has_no_distance_is_refused() -> None:
    _, E = simulated()
    for short, long, reason in ((0.0, 0.0, "no debt"), (-1.0, 5.0, "below zero")):
        with pytest.raises(TableError, match=reason):
            DefaultPoint(short, long, "USD")
    for values, reason in (
        (E[:100], "120 or more"),
        (np.ones(253), "equal ones"),
        (np.append(E, 0.0), "1 others"),
    ):
        with pytest.raises(TableError, match=reason):
            merton_distance_to_default(values, HULLS, currency="USD", risk_free_rate=0.0)
    with pytest.raises(TableError, match="USD and EUR"):
        merton_distance_to_default(E, HULLS, currency="EUR", risk_free_rate=0.0)
    with pytest.raises(TableError, match="a rate within"):
        merton_distance_to_default(E, HULLS, currency="USD", risk_free_rate=3.0)
    with pytest.raises(TableError, match="positive market value"):
        merton_from_equity_volatility(
            3.0, HULLS, currency="USD", equity_volatility=0.0, risk_free_rate=0.0
        )
    with pytest.raises(TableError, match="past return"):
        naive_distance_to_default(
            3.0, HULLS, currency="USD", equity_volatility=0.5, past_year_return=-1.0,
            risk_free_rate=0.0,
        )  # fmt: skip
