"""Distance to default: how many standard deviations assets are above what is owed.

Merton (1974, "On the pricing of corporate debt"): equity is a call on the assets. Amounts are in
one currency and unit, rates and volatilities per year and continuous, decimals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import ModelError, TableError

__all__ = [
    "DefaultPoint",
    "DistanceToDefault",
    "equity_value",
    "merton_distance_to_default",
    "merton_from_equity_volatility",
    "naive_distance_to_default",
]

Floats = npt.NDArray[np.float64]
Method = Literal["iterative", "two equations", "naive"]

_NORMAL = NormalDist()
LEAST_DAYS = 120  # half a year of closes; fewer give a volatility that means little
_ROUNDS = 500
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class DefaultPoint:
    """What is owed within the horizon, as far as the market fears it.

    Short-term debt plus half of the long-term debt, as Vassalou and Xing (2004) and KMV.

    Args:
        short_term_debt: Due within a year.
        long_term_debt: Due later.
        currency: ISO 4217 code; that of the equity's value.

    Raises:
        TableError: An amount is below zero or no number, or nothing is owed.
    """

    short_term_debt: float
    long_term_debt: float
    currency: str

    def __post_init__(self) -> None:
        amounts = (self.short_term_debt, self.long_term_debt)
        fits = all(math.isfinite(amount) and amount >= 0 for amount in amounts)
        if not fits or self.amount <= 0:
            raise TableError(
                "default point",
                expected="debts not below zero, and some debt",
                found="no debt" if fits else "a debt below zero, or none stated",
                remedy="Without debt there is no distance to default: leave it out.",
            )

    @property
    def amount(self) -> float:
        """`short_term_debt + long_term_debt / 2`."""
        return self.short_term_debt + 0.5 * self.long_term_debt


@dataclass(frozen=True)
class DistanceToDefault:
    """Assets as the market sees them, and how far they are from the default point.

    Args:
        method: How it was found.
        asset_value: V, in the equity's currency.
        asset_volatility: sigma of V, per year.
        asset_drift: mu of V, per year: dV = mu V dt + sigma V dW.
        default_point: F.
        distance_to_default: `(ln(V / F) + (mu - sigma^2 / 2) T) / (sigma sqrt T)`.
        risk_neutral_distance: The same with the risk-free rate as drift, which no lucky year moves.
        probability_of_default: N(-distance_to_default); of the model, whose tails are far too thin.
        horizon_years: T.
        n_days: Daily values that it rests on; 1 without a history.
    """

    method: Method
    asset_value: float
    asset_volatility: float
    asset_drift: float
    default_point: float
    distance_to_default: float
    risk_neutral_distance: float
    probability_of_default: float
    horizon_years: float
    n_days: int


def merton_distance_to_default(
    market_equity: npt.ArrayLike,
    default_point: DefaultPoint,
    *,
    currency: str,
    risk_free_rate: float,
    horizon_years: float = 1.0,
    days_per_year: int = 252,
) -> DistanceToDefault:
    """Returns the distance by the iteration of Vassalou and Xing (2004).

    "Default risk in equity returns": start with the equity's volatility; solve each day's equity
    for the assets; take the volatility of their log returns; repeat until it stands still. The
    drift is the mean log return plus sigma^2 / 2, so that mu - sigma^2 / 2 is the mean itself
    (the paper's text leaves open which; a year's mean says little either way).

    Args:
        market_equity: `(n_days,)` daily market value of all shares, oldest first, up to today;
            a year of it (about 252). Splits and new shares are in the number of shares.
        default_point: What is owed, known today.
        currency: ISO 4217 code of `market_equity`.
        risk_free_rate: Continuous, per year.
        horizon_years: T, above zero.
        days_per_year: Trading days of a year.

    Raises:
        TableError: Currencies differ, there are fewer than 120 values, one is not positive, they
            never move, or rate or horizon are out of bounds.
        ModelError: The iteration does not settle.
    """
    E = np.asarray(market_equity, dtype=np.float64)
    _check_history(E)
    owed = _owed(default_point, currency, risk_free_rate, horizon_years)
    sigma = float(np.diff(np.log(E)).std(ddof=1)) * math.sqrt(days_per_year)
    for _ in range(_ROUNDS):
        V = _assets(E, sigma, owed)
        steps = np.diff(np.log(V))
        found = float(steps.std(ddof=1)) * math.sqrt(days_per_year)
        if abs(found - sigma) <= _TOLERANCE:
            drift = float(steps.mean()) * days_per_year + found**2 / 2
            return _distance("iterative", (float(V[-1]), found, drift), owed, len(E))
        sigma = found
    raise _unsettled("asset volatility", f"{_ROUNDS} rounds without it")


def merton_from_equity_volatility(
    market_equity: float,
    default_point: DefaultPoint,
    *,
    currency: str,
    equity_volatility: float,
    risk_free_rate: float,
    horizon_years: float = 1.0,
) -> DistanceToDefault:
    """Returns the distance from one day's equity and its volatility.

    `E = V N(d1) - F exp(-r T) N(d2)` and `sigma_E E = N(d1) sigma_V V` (Jones, Mason and Rosenfeld
    1984, "Contingent claims analysis of corporate capital structures"). The drift is the risk-free
    rate. The second equation holds at an instant: where leverage moves much, prefer the iteration.

    Args:
        market_equity: Market value of all shares.
        default_point: What is owed.
        currency: ISO 4217 code of `market_equity`.
        equity_volatility: Of the share, per year, above zero.
        risk_free_rate: Continuous, per year.
        horizon_years: T, above zero.

    Raises:
        TableError: As in `merton_distance_to_default`.
        ModelError: The equations could not be solved.
    """
    E = np.array([market_equity], dtype=np.float64)
    _check_amounts(E, equity_volatility)
    owed = _owed(default_point, currency, risk_free_rate, horizon_years)

    def missing(sigma: float) -> float:
        """Returns implied less given equity volatility: it rises with the assets' volatility."""
        V = float(_assets(E, sigma, owed)[0])
        return _delta(V, sigma, owed) * sigma * V / market_equity - equity_volatility

    sigma = _root(missing, 1e-6, equity_volatility)
    V = float(_assets(E, sigma, owed)[0])
    return _distance("two equations", (V, sigma, risk_free_rate), owed, 1)


def naive_distance_to_default(
    market_equity: float,
    default_point: DefaultPoint,
    *,
    currency: str,
    equity_volatility: float,
    past_year_return: float,
    risk_free_rate: float,
    horizon_years: float = 1.0,
) -> DistanceToDefault:
    """Returns the naive distance of Bharath and Shumway (2008), which solves nothing.

    "Forecasting default with the Merton distance to default model": debt is worth its face, its
    volatility is 0.05 + 0.25 sigma_E, the assets' is the mean of both weighted by value, and the
    drift is the share's return over the past year.

    Args:
        market_equity: Market value of all shares.
        default_point: What is owed; the paper's F.
        currency: ISO 4217 code of `market_equity`.
        equity_volatility: Of the share, per year, above zero.
        past_year_return: Of the share, decimal, above -1.
        risk_free_rate: For `risk_neutral_distance` alone.
        horizon_years: T, above zero.

    Raises:
        TableError: Currencies differ, or an amount, rate or horizon is out of bounds.
    """
    _check_amounts(np.array([market_equity], dtype=np.float64), equity_volatility)
    owed = _owed(default_point, currency, risk_free_rate, horizon_years)
    if not (math.isfinite(past_year_return) and past_year_return > -1):
        raise _out_of_bounds("a past return above -1", f"{past_year_return:g}")
    V = market_equity + owed.F
    of_debt = 0.05 + 0.25 * equity_volatility
    sigma = market_equity / V * equity_volatility + owed.F / V * of_debt
    return _distance("naive", (V, sigma, past_year_return), owed, 1)


def equity_value(
    asset_value: npt.ArrayLike,
    default_point: float,
    *,
    asset_volatility: float,
    risk_free_rate: float,
    horizon_years: float = 1.0,
) -> Floats:
    """Returns the value of the call on the assets (Black and Scholes 1973), `(n,)`.

    Args:
        asset_value: `(n,)` V.
        default_point: F.
        asset_volatility: sigma, per year.
        risk_free_rate: r, continuous, per year.
        horizon_years: T.
    """
    V = np.atleast_1d(np.asarray(asset_value, dtype=np.float64))
    return _call(V, asset_volatility, _Owed(default_point, risk_free_rate, horizon_years))[0]


@dataclass(frozen=True)
class _Owed:
    """F, due in T years, at the risk-free rate r."""

    F: float
    r: float
    T: float

    @property
    def present_value(self) -> float:
        return self.F * math.exp(-self.r * self.T)


def _call(V: Floats, sigma: float, owed: _Owed) -> tuple[Floats, Floats]:
    """Returns the call's value and its delta N(d1)."""
    from scipy.special import ndtr

    spread = sigma * math.sqrt(owed.T)
    d1 = (np.log(V / owed.F) + (owed.r + sigma**2 / 2) * owed.T) / spread
    delta = ndtr(d1)
    return np.asarray(V * delta - owed.present_value * ndtr(d1 - spread)), np.asarray(delta)


def _assets(E: Floats, sigma: float, owed: _Owed) -> Floats:
    """Returns V with call(V) = E: Newton from above, the side that it never leaves.

    The call rises and is convex in V.
    """
    V = E + owed.present_value  # the call is worth at least V less that
    for _ in range(_ROUNDS):
        value, delta = _call(V, sigma, owed)
        step = (value - E) / delta
        V = V - step
        if np.all(np.abs(step) <= V * (1e-13 + 1e-15 / delta)):  # no finer than rounding allows
            return V
    raise _unsettled("asset value", f"{_ROUNDS} steps without it")


def _delta(V: float, sigma: float, owed: _Owed) -> float:
    return float(_call(np.array([V]), sigma, owed)[1][0])


def _distance(
    method: Method, assets: tuple[float, float, float], owed: _Owed, n_days: int
) -> DistanceToDefault:
    V, sigma, mu = assets

    def distance(drift: float) -> float:
        reach = math.log(V / owed.F) + (drift - sigma**2 / 2) * owed.T
        return reach / (sigma * math.sqrt(owed.T))

    return DistanceToDefault(
        method=method,
        asset_value=V,
        asset_volatility=sigma,
        asset_drift=mu,
        default_point=owed.F,
        distance_to_default=distance(mu),
        risk_neutral_distance=distance(owed.r),
        probability_of_default=_NORMAL.cdf(-distance(mu)),
        horizon_years=owed.T,
        n_days=n_days,
    )


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    try:
        return float(brentq(function, low, high, xtol=1e-12))
    except ValueError as error:
        raise _unsettled("asset volatility", "no sign change in the bracket") from error


def _check_history(E: Floats) -> None:
    if E.ndim != 1 or len(E) < LEAST_DAYS:
        raise _out_of_bounds(f"{LEAST_DAYS} or more daily market values (n,)", f"shape {E.shape}")
    bad = int((~(np.isfinite(E) & (E > 0))).sum())
    if bad or E.min() == E.max():
        raise _out_of_bounds("positive values that move", f"{bad} others" if bad else "equal ones")


def _check_amounts(E: Floats, equity_volatility: float) -> None:
    positive = np.isfinite(E).all() and (E > 0).all()
    if not positive or not (math.isfinite(equity_volatility) and equity_volatility > 0):
        raise _out_of_bounds(
            "a positive market value and volatility", f"volatility {equity_volatility:g}"
        )


def _owed(point: DefaultPoint, currency: str, rate: float, horizon: float) -> _Owed:
    if point.currency != currency:
        raise _out_of_bounds("debt and equity in one currency", f"{point.currency} and {currency}")
    if not (math.isfinite(rate) and abs(rate) < 1 and math.isfinite(horizon) and horizon > 0):
        raise _out_of_bounds(
            "a rate within -1 to 1 and a horizon above zero", f"{rate:g} and {horizon:g}"
        )
    return _Owed(point.amount, rate, horizon)


def _out_of_bounds(expected: str, found: str) -> TableError:
    return TableError(
        "distance to default",
        expected=expected,
        found=found,
        remedy="Rates and volatilities are decimals per year; convert amounts to one currency.",
    )


def _unsettled(expected: str, found: str) -> ModelError:
    return ModelError(
        "distance to default",
        expected=expected,
        found=found,
        remedy="Check that debt and market value have the same unit.",
    )
