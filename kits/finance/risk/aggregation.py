"""A portfolio's tail risk, and what each position contributes to it.

Positions are exposures in one currency, positive when held and negative when sold short.
Scenarios are simple returns, `(T, n)`: days down, positions across, so that a position's loss is
minus exposure times return, and the portfolio's is their sum, exactly. Losses are positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import TableError
from kits.finance.risk.filters import fit_filter
from kits.finance.risk.methods import method_of
from kits.finance.risk.portfolio import Portfolio
from kits.finance.risk.tails import require_level

__all__ = ["PortfolioTailRisk", "PositionRisk", "Scenarios", "portfolio_tail_risk"]

Floats = npt.NDArray[np.float64]
Scenarios = Literal["filtered", "historical"]

NEIGHBOURS_SHARE = 0.01  # of the scenarios on each side of VaR, for its contributions
_FILTER = "fhs-garch"


@dataclass(frozen=True)
class PositionRisk:
    """One position's part in the portfolio's tail, in the portfolio's currency.

    Args:
        ticker: The position.
        exposure: Its value; negative when sold short.
        value_at_risk: Of the position alone.
        expected_shortfall: Of the position alone.
        component_var: Its part of the portfolio's VaR; the parts add up.
        component_es: Its part of the portfolio's ES; the parts add up.
        marginal_var: `component_var` per unit of exposure: the derivative of VaR.
        marginal_es: `component_es` per unit of exposure: the derivative of ES.
    """

    ticker: str
    exposure: float
    value_at_risk: float
    expected_shortfall: float
    component_var: float
    component_es: float
    marginal_var: float
    marginal_es: float


@dataclass(frozen=True)
class PortfolioTailRisk:
    """VaR and ES of a portfolio over one day, in its currency.

    Args:
        currency: ISO 4217 code of every amount here.
        level: Confidence level.
        value_at_risk: Of the whole.
        expected_shortfall: Of the whole.
        positions: What each position adds.
        method: How the scenarios were made.
        n_scenarios: How many there are.
        notes: What was left out, and what the figures rest on.
    """

    currency: str
    level: float
    value_at_risk: float
    expected_shortfall: float
    positions: tuple[PositionRisk, ...]
    method: str
    n_scenarios: int
    notes: tuple[str, ...]

    @property
    def undiversified_es(self) -> float:
        """The sum of the positions' own ES: never below that of the whole."""
        return sum(position.expected_shortfall for position in self.positions)

    @property
    def diversification(self) -> float:
        """The share of `undiversified_es` that holding them together takes away."""
        return 1.0 - self.expected_shortfall / self.undiversified_es


def portfolio_tail_risk(
    portfolio: Portfolio, *, level: float = 0.99, scenarios: Scenarios = "filtered"
) -> PortfolioTailRisk:
    """Returns one-day VaR and ES with Euler contributions.

    Contributions follow Tasche (1999, "Risk contributions and performance measurement"):
    that to ES is the mean loss of the position on the days that make up the portfolio's ES,
    so the parts add up by themselves. That to VaR is the mean loss on the days around VaR
    (1% of the scenarios on each side), brought to the sum by one common factor.

    "filtered" scales each position's past shocks to tomorrow's volatility and keeps the days
    together (Barone-Adesi, Giannopoulos and Vosper 1999), so that common shocks stay common;
    "historical" takes the past returns as they are.

    Raises:
        TableError: The level leaves too few losses beyond VaR.
        ModelError: A position's filter could not be fitted.
    """
    returns = portfolio.returns if scenarios == "historical" else _filtered(portfolio.returns)
    require_level(level, len(returns))
    parts = -returns * np.array(portfolio.exposures)  # [T, n]
    order = np.argsort(parts.sum(axis=1), kind="stable")
    first = int(np.ceil(level * len(order) - 1e-9)) - 1
    total = parts.sum(axis=1)[order]
    var, es = float(total[first]), float(total[first:].mean())
    component_es = parts[order[first:]].mean(axis=0)
    component_var = _var_parts(parts[order], first)
    own = np.sort(parts, axis=0)
    positions = tuple(
        PositionRisk(
            ticker=ticker,
            exposure=exposure,
            value_at_risk=float(own[first, at]),
            expected_shortfall=float(own[first:, at].mean()),
            component_var=float(component_var[at]),
            component_es=float(component_es[at]),
            marginal_var=float(component_var[at] / exposure),
            marginal_es=float(component_es[at] / exposure),
        )
        for at, (ticker, exposure) in enumerate(
            zip(portfolio.tickers, portfolio.exposures, strict=True)
        )
    )
    return PortfolioTailRisk(
        currency=portfolio.currency,
        level=level,
        value_at_risk=var,
        expected_shortfall=es,
        positions=positions,
        method=_method_name(scenarios),
        n_scenarios=len(returns),
        notes=portfolio.notes,
    )


def _method_name(scenarios: Scenarios) -> str:
    if scenarios == "historical":
        return "historical simulation of the positions' common days"
    return f"{method_of(_FILTER).name}, each position filtered, days kept together"


def _filtered(returns: Floats) -> Floats:
    """Scales each position's past shocks to tomorrow's volatility, `(T, n)`."""
    spec = method_of(_FILTER)
    scaled = np.empty_like(returns)
    for at, column in enumerate(np.log1p(returns).T):
        fitted = fit_filter(column, model=spec.model or "ewma", distribution=spec.distribution)
        filtered = fitted.run(column)
        scaled[:, at] = np.expm1(fitted.mean + filtered.next_volatility * filtered.residuals)
    return scaled


def _var_parts(parts: Floats, first: int) -> Floats:
    """Returns what each position loses around VaR, adding up to VaR, `(n,)`.

    Args:
        parts: `(T, n)`, in the order of the portfolio's loss.
        first: The row of VaR.

    Raises:
        TableError: The portfolio does not lose around VaR, so that there is nothing to share.
    """
    width = max(1, int(NEIGHBOURS_SHARE * len(parts)))
    width = min(width, len(parts) - 1 - first)  # as many above as below: no drift into the tail
    around = parts[first - width : first + width + 1].mean(axis=0)
    value_at_risk = float(parts[first].sum())
    if not (around.sum() > 0 and value_at_risk > 0):
        raise TableError(
            "contributions to value at risk",
            expected="a portfolio that loses at this level",
            found=f"a VaR of {value_at_risk:g}",
            remedy="Choose a higher level: a gain cannot be shared out as a loss.",
        )
    return np.asarray(around * (value_at_risk / around.sum()))
