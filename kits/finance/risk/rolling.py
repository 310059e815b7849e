"""Rolling forecasts of VaR and ES, day by day, each from the returns before its day.

Returns and losses are daily log returns in decimals; a loss is minus the return. Forecast t
uses the `window_days` returns before day t. The filter's parameters are estimated anew every
`refit_days` days, on the window that ends there; in between the recursion runs on with the
parameters held, and the sample of residuals and its tail move day by day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import ModelError, TableError
from kits.finance.risk.filters import Model, VolatilityFilter, fit_filter
from kits.finance.risk.innovations import residual_tails
from kits.finance.risk.methods import TailMethod, method_of
from kits.finance.risk.tails import EmpiricalTail, Tail, age_weights, require_level

__all__ = [
    "Member",
    "RollingFilters",
    "RollingTail",
    "follow_exceptions",
    "roll_filters",
    "roll_tail_risk",
]

Floats = npt.NDArray[np.float64]

WINDOW_DAYS = 1000
REFIT_DAYS = 20
LOWEST_TAIL_PROBABILITY = 0.1  # of the nominal 1 - level, and three times it is the highest
HIGHEST_TAIL_PROBABILITY = 3.0


@dataclass(frozen=True, eq=False)
class RollingTail:
    """Forecasts beside what came.

    Args:
        method: How they were computed, in words.
        level: Confidence level.
        losses: `(n,)`, minus the log return of each day.
        value_at_risk: `(n,)`, forecast before that day.
        expected_shortfall: `(n,)`, at least VaR.
        n_refits: How often parameters were estimated.
        n_kept: How often the optimiser failed and the parameters before were kept.
    """

    method: str
    level: float
    losses: Floats
    value_at_risk: Floats
    expected_shortfall: Floats
    n_refits: int
    n_kept: int

    @property
    def exceptions(self) -> npt.NDArray[np.bool_]:
        """Days whose loss is above VaR, `(n,)`."""
        return np.asarray(self.losses > self.value_at_risk)


@dataclass(frozen=True, eq=False)
class RollingFilters:
    """A method's filters, estimated along the days; VaR and ES can be read at any level.

    Args:
        spec: The method.
        window_days: Returns that a forecast uses.
        losses: `(n,)`, minus the log return of each day.
        members: One for each method whose VaR and ES are averaged.
    """

    spec: TailMethod
    window_days: int
    losses: Floats
    members: tuple[Member, ...]

    def tail_risk(self, *, level: float, level_step: float) -> RollingTail:
        """Reads VaR and ES of every day.

        Args:
            level: Confidence level.
            level_step: See `follow_exceptions`; 0 keeps the level.

        Raises:
            TableError: The level leaves too few losses beyond it.
        """
        require_level(level, self.window_days)
        levels = _follow(self.members, self.losses, level, level_step)
        var, es = np.mean([member.read(levels) for member in self.members], axis=0)
        return RollingTail(
            method=self.spec.name,
            level=level,
            losses=self.losses,
            value_at_risk=var,
            expected_shortfall=es,
            n_refits=sum(member.n_refits for member in self.members),
            n_kept=sum(member.n_kept for member in self.members),
        )


def roll_tail_risk(
    returns: Floats,
    *,
    method: str,
    level: float = 0.99,
    window_days: int = WINDOW_DAYS,
    refit_days: int = REFIT_DAYS,
) -> RollingTail:
    """Forecasts VaR and ES for each day after the first `window_days`.

    Args:
        returns: `(T,)`, daily log returns, oldest first.
        method: A key of `kits.finance.risk.methods.METHODS`.
        level: Confidence level.
        window_days: Returns that a forecast uses, 250 or more.
        refit_days: Days between estimations.

    Raises:
        TableError: There is no day to forecast, the method is unknown, or the level leaves
            too few losses beyond it.
        ModelError: The first fit found no maximum; later ones keep the parameters before.
    """
    step = method_of(method).level_step
    require_level(level, window_days)
    filters = roll_filters(returns, method=method, window_days=window_days, refit_days=refit_days)
    return filters.tail_risk(level=level, level_step=step)


def roll_filters(
    returns: Floats, *, method: str, window_days: int = WINDOW_DAYS, refit_days: int = REFIT_DAYS
) -> RollingFilters:
    """Estimates a method's filters along the days; see `roll_tail_risk`.

    Raises:
        TableError: There is no day to forecast, or the method is unknown.
        ModelError: The first fit found no maximum; later ones keep the parameters before.
    """
    spec = method_of(method)
    n = len(returns) - window_days
    if n < 1 or window_days < 250 or refit_days < 1 or not np.isfinite(returns).all():
        raise TableError(
            "rolling forecasts",
            expected="finite returns, more of them than the window's 250 or more days",
            found=f"{len(returns)} returns, window {window_days}, refit after {refit_days}",
            remedy="Give a longer history, or a shorter window.",
        )
    members = tuple(
        Member(method_of(name)).run(returns, window_days, refit_days)
        for name in spec.members or (method,)
    )
    return RollingFilters(spec, window_days, -returns[window_days:], members)


def follow_exceptions(
    losses: Floats, value_at_risk: Callable[[int, float], float], *, level: float, step: float
) -> Floats:
    """Returns the level at which each day's VaR is read, `(n,)`.

    With p = 1 - level the tail probability starts at p and learns from exceptions before the
    day: `p_{t+1} = p_t + step (p - 1{L_t > VaR_t})`, the adaptive conformal rule of Gibbs and
    Candes (2021, "Adaptive conformal inference under distribution shift"), kept within 0.1 p
    and 3 p. Too many exceptions in the past lower it, too few raise it.

    Args:
        losses: `(n,)`; entry t is looked at only for the levels after t.
        value_at_risk: The VaR of a day (0 to n - 1) at a level.
        level: Where it starts, and what it aims at.
        step: How far one exception moves it.
    """
    p = 1.0 - level
    levels = np.empty(len(losses))
    current = p
    for day, loss in enumerate(losses):
        levels[day] = 1.0 - current
        exception = float(loss > value_at_risk(day, float(levels[day])))
        moved = current + step * (p - exception)
        current = float(np.clip(moved, LOWEST_TAIL_PROBABILITY * p, HIGHEST_TAIL_PROBABILITY * p))
    return levels


def _follow(members: Sequence[Member], losses: Floats, level: float, step: float) -> Floats:
    if step == 0.0:
        return np.full(len(losses), level)

    def value_at_risk(day: int, at: float) -> float:
        return float(np.mean([member.value_at_risk(day, at) for member in members]))

    return follow_exceptions(losses, value_at_risk, level=level, step=step)


class Member:
    """The forecasts of one filter: day t's loss is location + scale x (a loss of its tail)."""

    def __init__(self, spec: TailMethod) -> None:
        self.spec = spec
        self.n_refits = 0
        self.n_kept = 0
        self.location: list[float] = []
        self.scale: list[float] = []
        self.tails: list[Tail] = []
        self._filter: VolatilityFilter | None = None

    def run(self, returns: Floats, window: int, refit_days: int) -> Member:
        """Forecasts every day after the first `window`, block by block, and returns itself."""
        for first in range(0, len(returns) - window, refit_days):
            last = min(first + refit_days, len(returns) - window)
            self._forecast(returns[first : last + window - 1], window)
        return self

    def value_at_risk(self, day: int, level: float) -> float:
        """Returns the VaR of one day."""
        return self.location[day] + self.scale[day] * float(self.tails[day].quantile(level)[0])

    def read(self, levels: Floats) -> tuple[Floats, Floats]:
        """Returns VaR and ES of every day; a day equal to the one before is read once."""
        pairs = np.empty((len(levels), 2))
        for day, (tail, level) in enumerate(zip(self.tails, levels, strict=True)):
            if day and tail is self.tails[day - 1] and level == levels[day - 1]:
                pairs[day] = pairs[day - 1]
            else:
                pairs[day] = tail.quantile(level)[0], tail.shortfall(level)
        both = np.array(self.location)[:, np.newaxis] + np.array(self.scale)[:, np.newaxis] * pairs
        return both[:, 0], both[:, 1]

    def _forecast(self, returns: Floats, window: int) -> None:
        """Estimates on the first `window` returns and forecasts the day after each window."""
        days = len(returns) - window + 1
        if self.spec.model is None:
            weights = None if self.spec.decay is None else age_weights(window, self.spec.decay)
            runs = np.lib.stride_tricks.sliding_window_view(-returns, window)
            self.location += [0.0] * days
            self.scale += [1.0] * days
            self.tails += [EmpiricalTail.of(run, weights) for run in runs]
            return
        fitted = self._fit(returns[:window], self.spec.model)
        filtered = fitted.run(returns)
        self.location += [-fitted.mean] * days
        self.scale += np.sqrt(filtered.variance[window:]).tolist()
        runs = np.lib.stride_tricks.sliding_window_view(filtered.residuals, window)
        self.tails += residual_tails(self.spec.tail, fitted, runs)

    def _fit(self, returns: Floats, model: Model) -> VolatilityFilter:
        self.n_refits += 1
        try:
            self._filter = fit_filter(returns, model=model, distribution=self.spec.distribution)
        except ModelError:
            if self._filter is None:
                raise
            self.n_kept += 1
        return self._filter
