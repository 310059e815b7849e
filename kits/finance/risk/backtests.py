"""Backtests of value at risk and expected shortfall. Losses are positive.

Arrays are `(T,)`, oldest first, one entry a day: the loss, and the VaR (and ES) that was
forecast for that day before it began. A day is an exception when its loss is above its VaR.
`level` is 0.99 for 99%. A small p value speaks against the forecasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import binom, chi2

from common.errors import TableError

__all__ = [
    "BacktestResult",
    "TrafficLight",
    "Zone",
    "acerbi_szekely",
    "conditional_coverage",
    "dynamic_quantile",
    "exceptions_of",
    "green_share",
    "independence",
    "kupiec",
    "run_backtests",
    "traffic_light",
]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Zone = Literal["green", "amber", "red"]

WINDOW_DAYS = 250  # MAR32.5: the last twelve months of trading
# MAR99, "definition of zones": amber from a cumulative probability of 95%, red from 99.99%.
AMBER_PROBABILITY = 0.95
RED_PROBABILITY = 0.9999
# MAR32.9, Table 1: multiplier for 250 days at 99%, by number of exceptions, 10 and more last.
_MULTIPLIERS = (1.50, 1.50, 1.50, 1.50, 1.50, 1.70, 1.76, 1.83, 1.88, 1.92, 2.00)
N_SCENARIOS = 10_000


@dataclass(frozen=True)
class BacktestResult:
    """One test of forecasts.

    Args:
        name: The test.
        statistic: Its statistic.
        p_value: Probability of a statistic at least as bad when the forecasts are right.
        n_days: Days tested.
        n_exceptions: Days whose loss was above VaR.
        expected_exceptions: Their expected number.
    """

    name: str
    statistic: float
    p_value: float
    n_days: int
    n_exceptions: int
    expected_exceptions: float


@dataclass(frozen=True)
class TrafficLight:
    """The supervisors' zone of a year of VaR forecasts.

    Args:
        zone: "green", "amber" or "red".
        n_exceptions: Days whose loss was above VaR.
        n_days: Days counted.
        cumulative_probability: Of that many exceptions or fewer when VaR is right.
        multiplier: Multiplier of the capital charge; None unless it is 250 days at 99%, for
            which alone MAR32.9 has a table.
    """

    zone: Zone
    n_exceptions: int
    n_days: int
    cumulative_probability: float
    multiplier: float | None


def run_backtests(
    losses: Floats,
    value_at_risk: Floats,
    expected_shortfall: Floats,
    *,
    level: float,
    seed: int = 0,
) -> tuple[BacktestResult, ...]:
    """Runs every test of this file, in the order in which a report lists them.

    Raises:
        TableError: See each test.
    """
    exceptions = exceptions_of(losses, value_at_risk)
    return (
        kupiec(exceptions, level=level),
        independence(exceptions, level=level),
        conditional_coverage(exceptions, level=level),
        dynamic_quantile(exceptions, value_at_risk, level=level),
        *acerbi_szekely(losses, value_at_risk, expected_shortfall, level=level, seed=seed),
    )


def exceptions_of(losses: Floats, value_at_risk: Floats) -> Flags:
    """Returns the days whose loss is above their VaR, `(T,)`.

    Raises:
        TableError: The arrays are not of one length, or hold a value that is not finite.
    """
    _require_same_days(losses=losses, value_at_risk=value_at_risk)
    return np.asarray(losses > value_at_risk)


def kupiec(exceptions: Flags, *, level: float) -> BacktestResult:
    """Tests whether exceptions are as frequent as they should be.

    `LR = 2 ln [(x/T)^x (1 - x/T)^(T - x) / (p^x (1 - p)^(T - x))] ~ chi2(1)`, p = 1 - level
    (Kupiec 1995, "Techniques for verifying the accuracy of risk measurement models").

    Raises:
        TableError: There is no day, or the level is out of bounds.
    """
    n, x = _counts(exceptions, level)
    p = 1.0 - level
    statistic = 2.0 * (_log_likelihood(x, n, x / n) - _log_likelihood(x, n, p))
    return _result("Kupiec proportion of failures", statistic, 1, exceptions, level)


def independence(exceptions: Flags, *, level: float) -> BacktestResult:
    """Tests whether an exception makes one on the next day more or less likely.

    `LR = 2 ln [L(pi_01, pi_11) / L(pi)] ~ chi2(1)` of a Markov chain of first order, pi_ij the
    share of state j after state i (Christoffersen 1998, "Evaluating interval forecasts"). It
    does not see dependence over more than a day; `dynamic_quantile` does.

    Raises:
        TableError: There are fewer than two days, or the level is out of bounds.
    """
    n, _ = _counts(exceptions, level, least=2)
    before, after = exceptions[:-1], exceptions[1:]
    after_quiet, after_exception = int(np.sum(~before)), int(np.sum(before))
    n_01, n_11 = int(np.sum(after & ~before)), int(np.sum(after & before))
    free = _log_likelihood(n_01, after_quiet, n_01 / max(after_quiet, 1)) + _log_likelihood(
        n_11, after_exception, n_11 / max(after_exception, 1)
    )
    bound = _log_likelihood(n_01 + n_11, n - 1, (n_01 + n_11) / (n - 1))
    name = "Christoffersen independence"
    return _result(name, 2.0 * (free - bound), 1, exceptions, level)


def conditional_coverage(exceptions: Flags, *, level: float) -> BacktestResult:
    """Tests frequency and independence together: the sum of both statistics, ~ chi2(2).

    Christoffersen (1998). The frequency is counted on all T days, as is usual; his own
    derivation leaves the first one out.

    Raises:
        TableError: There are fewer than two days, or the level is out of bounds.
    """
    parts = (kupiec(exceptions, level=level), independence(exceptions, level=level))
    statistic = sum(part.statistic for part in parts)
    return _result("Christoffersen conditional coverage", statistic, 2, exceptions, level)


def dynamic_quantile(
    exceptions: Flags, value_at_risk: Floats, *, level: float, lags: int = 4
) -> BacktestResult:
    """Tests whether exceptions can be foretold from earlier ones and from VaR itself.

    With Hit = exception - p and X = (1, its `lags` last values, VaR of the day):
    `DQ = Hit' X (X'X)^-1 X' Hit / (p (1 - p)) ~ chi2(rank of X)` (Engle and Manganelli 2004,
    "CAViaR", out of sample). At 99% a few hundred days are too few: it rejects too often.

    Raises:
        TableError: There are too few days for the regressors, the level is out of bounds, or
            the arrays do not belong together.
    """
    _require_same_days(exceptions=exceptions, value_at_risk=value_at_risk)
    n, _ = _counts(exceptions, level, least=10 * (lags + 2))
    p = 1.0 - level
    hit = exceptions - p
    columns = [hit[lags - lag : n - lag] for lag in range(1, lags + 1)]
    # VaR is divided by its mean: its unit must not decide what counts as collinear.
    scaled = value_at_risk[lags:] / np.abs(value_at_risk).mean()
    design = np.column_stack([np.ones(n - lags), *columns, scaled])  # [T - lags, lags + 2]
    target = hit[lags:]
    solution, _, rank, _ = np.linalg.lstsq(design, target)
    statistic = float(np.sum((design @ solution) ** 2)) / (p * (1.0 - p))
    return _result("dynamic quantile", statistic, int(rank), exceptions, level)


def traffic_light(exceptions: Flags, *, level: float = 0.99) -> TrafficLight:
    """Returns the zone of the last 250 days, or of all when there are fewer.

    Raises:
        TableError: There is no day, or the level is out of bounds.
    """
    n, x = _counts(exceptions[-WINDOW_DAYS:], level)
    probability = float(binom.cdf(x, n, 1.0 - level))
    basel = n == WINDOW_DAYS and abs(level - 0.99) < 1e-12
    multiplier = _MULTIPLIERS[min(x, len(_MULTIPLIERS) - 1)]
    return TrafficLight(
        zone=_zone(probability),
        n_exceptions=x,
        n_days=n,
        cumulative_probability=probability,
        multiplier=multiplier if basel else None,
    )


def green_share(exceptions: Flags, *, level: float = 0.99) -> float:
    """Returns the share of all runs of 250 consecutive days that lie in the green zone.

    Raises:
        TableError: There are fewer than 250 days, or the level is out of bounds.
    """
    _counts(exceptions, level, least=WINDOW_DAYS)
    runs = np.lib.stride_tricks.sliding_window_view(exceptions, WINDOW_DAYS)
    probability = binom.cdf(runs.sum(axis=1), WINDOW_DAYS, 1.0 - level)
    return float(np.mean(probability < AMBER_PROBABILITY))


def acerbi_szekely(
    losses: Floats,
    value_at_risk: Floats,
    expected_shortfall: Floats,
    *,
    level: float,
    tail_shape: float = 0.1,
    n_scenarios: int = N_SCENARIOS,
    seed: int = 0,
) -> tuple[BacktestResult, BacktestResult]:
    """Tests ES: Z1 the size of exceptions alone, Z2 size and frequency together.

        Z1 = 1 - mean over exceptions of L_t / ES_t
        Z2 = 1 - sum over exceptions of L_t / (T (1 - level) ES_t)

    (Acerbi and Szekely 2014, "Backtesting expected shortfall", tests 1 and 2.) Both are
    negative when losses exceed ES. Their law is simulated: an exception comes with probability
    1 - level, and its loss is VaR plus a generalised Pareto excess with mean ES - VaR, so
    that the scenarios have the forecast VaR and ES. Z1 is simulated given the number of
    exceptions, on days drawn at random; without any its p value is 1.

    Args:
        losses: `(T,)`.
        value_at_risk: `(T,)`.
        expected_shortfall: `(T,)`, at least VaR and positive.
        level: Of VaR and ES.
        tail_shape: Shape xi of the excess, 0 for an exponential one, below 0.5.
        n_scenarios: Simulated samples.
        seed: Of the simulation.

    Raises:
        TableError: The arrays do not belong together, ES is below VaR, or a parameter is out
            of bounds.
    """
    _require_same_days(losses=losses, var=value_at_risk, es=expected_shortfall)
    _require_shortfall(value_at_risk, expected_shortfall, tail_shape)
    exceptions = losses > value_at_risk
    n, x = _counts(exceptions, level)
    ratios = losses[exceptions] / expected_shortfall[exceptions]
    expected = n * (1.0 - level)
    z1 = 1.0 - float(ratios.mean()) if x else 0.0
    z2 = 1.0 - float(ratios.sum()) / expected
    rng = np.random.default_rng(seed)
    floor = value_at_risk / expected_shortfall  # L / ES = floor + (1 - floor) excess, mean 1
    counts = rng.binomial(n, 1.0 - level, n_scenarios)
    drawn = _ratios(floor, int(counts.sum()), tail_shape, rng)
    scenario = np.repeat(np.arange(n_scenarios), counts)
    sums = np.bincount(scenario, weights=drawn, minlength=n_scenarios)
    p1, p2 = 1.0, _share_at_most(1.0 - sums / expected, z2)
    if x:
        drawn = _ratios(floor, n_scenarios * x, tail_shape, rng).reshape(n_scenarios, x)
        p1 = _share_at_most(1.0 - drawn.mean(axis=1), z1)
    return (
        BacktestResult("Acerbi-Szekely Z1", z1, p1, n, x, expected),
        BacktestResult("Acerbi-Szekely Z2", z2, p2, n, x, expected),
    )


def _ratios(floor: Floats, count: int, xi: float, rng: np.random.Generator) -> Floats:
    """Draws L / ES of `count` exceptions on random days."""
    at = floor[rng.integers(0, len(floor), count)]
    unit = rng.exponential(size=count)
    excess = unit if xi == 0 else (1.0 - xi) / xi * np.expm1(xi * unit)  # mean 1
    return np.asarray(at + (1.0 - at) * excess)


def _share_at_most(simulated: Floats, observed: float) -> float:
    """Returns the p value, the observed statistic counted among the simulated ones."""
    return float((1.0 + np.sum(simulated <= observed)) / (len(simulated) + 1.0))


def _zone(cumulative_probability: float) -> Zone:
    if cumulative_probability < AMBER_PROBABILITY:
        return "green"
    return "amber" if cumulative_probability < RED_PROBABILITY else "red"


def _log_likelihood(x: float, n: float, p: float) -> float:
    return float(xlogy(x, p) + xlogy(n - x, 1.0 - p))


def _result(
    name: str, statistic: float, degrees: int, exceptions: Flags, level: float
) -> BacktestResult:
    return BacktestResult(
        name=name,
        statistic=max(statistic, 0.0),  # rounding
        p_value=float(chi2.sf(max(statistic, 0.0), degrees)),
        n_days=len(exceptions),
        n_exceptions=int(exceptions.sum()),
        expected_exceptions=len(exceptions) * (1.0 - level),
    )


def _counts(exceptions: Flags, level: float, *, least: int = 1) -> tuple[int, int]:
    n = len(exceptions)
    if n < least or exceptions.ndim != 1 or exceptions.dtype != np.bool_ or not 0 < level < 1:
        raise TableError(
            "backtest",
            expected=f"{least} or more days as true or false, and a level between 0 and 1",
            found=f"{n} days of {exceptions.dtype}, level {level:g}",
            remedy="Give more days, or correct the level.",
        )
    return n, int(exceptions.sum())


def _require_same_days(**arrays: npt.NDArray[np.generic]) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    finite = all(np.isfinite(array.astype(np.float64)).all() for array in arrays.values())
    if len(set(shapes.values())) == 1 and finite:
        return
    raise TableError(
        "backtest",
        expected="losses and forecasts of the same days, all finite",
        found=", ".join(f"{name} {shape}" for name, shape in shapes.items())
        + ("" if finite else ", with values that are not finite"),
        remedy="Align losses and forecasts by day, and leave out days without either.",
    )


def _require_shortfall(value_at_risk: Floats, expected_shortfall: Floats, xi: float) -> None:
    below = int(np.sum(expected_shortfall < value_at_risk))
    unusable = int(np.sum(expected_shortfall <= 0))
    if below or unusable or not 0 <= xi < 0.5:
        raise TableError(
            "backtest of expected shortfall",
            expected="ES at least VaR and positive, and a tail shape of 0 to below 0.5",
            found=f"{below} days with ES below VaR, {unusable} with none, shape {xi:g}",
            remedy="Losses count as positive: check the signs of VaR and ES.",
        )
