"""Tail risk of one position: value at risk and expected shortfall, for one or more days.

Losses are positive decimals: 0.02 is 2% of the position's value. A log return r over the
horizon is a loss of 1 - exp(r). Everything comes from the returns up to the as-of date.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from common.errors import TableError
from kits.finance.markets.forecasters import FittedGarch, fit_garch
from kits.finance.markets.prices import PriceHistory
from kits.finance.markets.volatility import log_returns
from kits.finance.risk.filters import VolatilityFilter, fit_filter
from kits.finance.risk.innovations import draw_residuals, residual_tails
from kits.finance.risk.methods import TailMethod, method_of
from kits.finance.risk.tails import (
    LEAST_TAIL_LOSSES,
    EmpiricalTail,
    LawTail,
    Tail,
    age_weights,
    require_level,
)

__all__ = ["TailRisk", "one_day_var_es", "tail_risk", "tail_risk_of"]

Floats = npt.NDArray[np.float64]

METHOD = "filtered historical simulation, GARCH(1,1)-t"
WINDOW_DAYS = 2500  # about ten years, as in `markets.forecasters`
MINIMUM_RETURNS = 499  # of the 500 prices that `markets.prices` asks for
N_PATHS = 20_000
LONGEST_HORIZON_DAYS = 60


@dataclass(frozen=True)
class TailRisk:
    """Loss over the horizon as a share of the position's value.

    Args:
        level: Confidence level, 0.99 for 99%.
        value_at_risk: The loss that is not exceeded with probability `level`.
        expected_shortfall: Mean of the losses from value at risk upwards.
        method: How both were computed.
        horizon_days: Trading days.
        n_returns: Daily returns that were used; 0 where that was not recorded.
        notes: What limits the figures, in words for a report.
    """

    level: float
    value_at_risk: float
    expected_shortfall: float
    method: str
    horizon_days: int = 1
    n_returns: int = 0
    notes: tuple[str, ...] = ()


def tail_risk(
    history: PriceHistory | Floats,
    *,
    method: str = "fhs-garch",
    level: float = 0.99,
    horizon_days: int = 1,
    as_of: date | None = None,
    window_days: int = WINDOW_DAYS,
    n_paths: int = N_PATHS,
    seed: int = 0,
) -> TailRisk:
    """Returns VaR and ES of the `horizon_days` after the last day that may be known.

    One day is read from the tail itself. Longer horizons are simulated with the fitted
    filter, day by day; historical simulation takes the overlapping returns over the horizon,
    which are fewer in truth than they are in number. Nothing is scaled by a root of time.

    Args:
        history: Prices, or `(T,)` daily log returns in decimals, oldest first.
        method: A key of `kits.finance.risk.methods.METHODS`.
        level: Confidence level, at least 0.5 and below 1.
        horizon_days: Trading days, 1 to 60.
        as_of: Prices after this day are cut first; for a `PriceHistory` alone.
        window_days: How many of the latest returns are used at most.
        n_paths: Simulated paths of a longer horizon.
        seed: Of the simulation; equal seeds give equal figures.

    Raises:
        TableError: A parameter is out of bounds, there are too few returns, or the level
            leaves too few losses beyond VaR.
        ModelError: The filter could not be fitted.
    """
    spec = method_of(method)
    returns = _known_returns(history, as_of)[-window_days:]
    _require_usable(returns, horizon_days, n_paths)
    require_level(level, len(returns) - horizon_days + 1)
    members = [method_of(name) for name in spec.members] or [spec]
    run = _Simulation(horizon_days, n_paths, seed)
    tails = [_tail_of(returns, member, run) for member in members]
    notes = _simulation_notes(run) if spec.filtered else _historical_notes(tails[0], level, run)
    return TailRisk(
        level=level,
        value_at_risk=float(np.mean([tail.quantile(level)[0] for tail in tails])),
        expected_shortfall=float(np.mean([tail.shortfall(level) for tail in tails])),
        method=spec.name,
        horizon_days=horizon_days,
        n_returns=len(returns),
        notes=notes,
    )


def one_day_var_es(history: PriceHistory, *, level: float = 0.99) -> TailRisk:
    """Returns VaR and ES of the day after the last close.

    Filtered historical simulation (Barone-Adesi, Giannopoulos and Vosper 1999; Hull and
    White 1998): the standardised residuals of a GARCH(1,1)-t fit, scaled by tomorrow's
    volatility, are the scenarios.

    Args:
        history: Prices up to today.
        level: Confidence level, at least 0.5 and below 1.

    Raises:
        TableError: The level is out of bounds, or leaves too few losses beyond VaR.
        ModelError: The GARCH model could not be fitted.
    """
    return tail_risk_of(fit_garch(history), level=level)


def tail_risk_of(fitted: FittedGarch, *, level: float) -> TailRisk:
    """Returns VaR and ES from a fit that is at hand; see `one_day_var_es`.

    VaR is the smallest scenario loss whose share of smaller or equal losses is at least
    `level`; a log return r is a loss of 1 - exp(r).

    Raises:
        TableError: The level is out of bounds, or leaves too few losses beyond VaR.
    """
    scenarios = fitted.mean + fitted.next_volatility * fitted.standardized_residuals
    require_level(level, len(scenarios))
    tail = EmpiricalTail.of(-np.expm1(scenarios))
    return TailRisk(
        level=level,
        value_at_risk=float(tail.quantile(level)[0]),
        expected_shortfall=tail.shortfall(level),
        method=METHOD,
        n_returns=len(scenarios),
    )


@dataclass(frozen=True)
class _Simulation:
    horizon_days: int
    n_paths: int
    seed: int


def _tail_of(returns: Floats, spec: TailMethod, run: _Simulation) -> Tail:
    """The tail of the loss over the horizon."""
    if spec.model is not None:
        fitted = fit_filter(returns, model=spec.model, distribution=spec.distribution)
        return _filtered_tail(returns, fitted, spec, run)
    sums = np.lib.stride_tricks.sliding_window_view(returns, run.horizon_days).sum(axis=1)
    weights = None if spec.decay is None else age_weights(len(sums), spec.decay)
    return EmpiricalTail.of(-np.expm1(sums), weights)


def _filtered_tail(
    returns: Floats, fitted: VolatilityFilter, spec: TailMethod, run: _Simulation
) -> Tail:
    filtered = fitted.run(returns)
    (tail,) = residual_tails(spec.tail, fitted, filtered.residuals[np.newaxis])
    if run.horizon_days > 1:
        shape = (run.n_paths, run.horizon_days)
        drawn = draw_residuals(tail, filtered.residuals, shape, np.random.default_rng(run.seed))
        paths = fitted.simulate(float(filtered.variance[-1]), drawn)
        return EmpiricalTail.of(-np.expm1(paths.sum(axis=1)))
    location, scale = -fitted.mean, filtered.next_volatility
    if isinstance(tail, EmpiricalTail):
        return EmpiricalTail(-np.expm1(-location - scale * tail.losses), tail.weights)
    return LawTail(lambda levels: -np.expm1(-location - scale * tail.quantile(levels)))


def _simulation_notes(run: _Simulation) -> tuple[str, ...]:
    if run.horizon_days == 1:
        return ()
    return (f"{run.n_paths:,} simulated paths, seed {run.seed}.",)


def _historical_notes(tail: Tail, level: float, run: _Simulation) -> tuple[str, ...]:
    if not isinstance(tail, EmpiricalTail):
        return ()
    notes = []
    beyond = (1.0 - level) * tail.effective_size
    if beyond < LEAST_TAIL_LOSSES:
        notes.append(f"With these weights ES rests on as much as {beyond:.1f} equal losses.")
    if run.horizon_days > 1:
        n = len(tail.losses)
        notes.append(
            f"{n:,} overlapping {run.horizon_days}-day returns, of which "
            f"{n // run.horizon_days:,} do not overlap."
        )
    return tuple(notes)


def _known_returns(history: PriceHistory | Floats, as_of: date | None) -> Floats:
    if isinstance(history, PriceHistory):
        known = slice(None)
        if as_of is not None:
            known = slice(int(np.searchsorted(history.dates, np.datetime64(as_of, "D"), "right")))
        return log_returns(history.close[known])
    if as_of is None:
        return np.asarray(history, dtype=np.float64)
    raise TableError(
        "daily returns",
        expected="dates, so that they can be cut at the as-of date",
        found="returns without dates",
        remedy="Give a PriceHistory, or cut the returns and leave as_of out.",
    )


def _require_usable(returns: Floats, horizon: int, n_paths: int) -> None:
    fits = 1 <= horizon <= LONGEST_HORIZON_DAYS and n_paths >= 1000
    if len(returns) >= MINIMUM_RETURNS and fits and np.isfinite(returns).all():
        return
    raise TableError(
        "tail risk",
        expected=f"{MINIMUM_RETURNS} or more finite returns in the window, 1 to "
        f"{LONGEST_HORIZON_DAYS} days, 1,000 or more paths",
        found=f"{len(returns)} returns, {horizon} days, {n_paths} paths",
        remedy="Give a longer history or window, or a shorter horizon.",
    )
