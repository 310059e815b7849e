"""Volatility forecasts of many companies at once: one call for a portfolio.

GARCH and GJR are fitted to all companies together (`panel_garch`), HAR by one least squares
(`panel_har`). Each figure is that which the company's own call of `forecast_volatility` gives,
to the precision of a maximum of a likelihood: nothing is shared between companies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from common.errors import ModelError, TableError, TandemError
from kits.finance.markets.fitting import fit_volatility
from kits.finance.markets.garch_fit import PERCENT, FittedGarch, fit_garch
from kits.finance.markets.log_variance import log_daily_variance
from kits.finance.markets.panel_garch import PanelFit, fit_panel_garch
from kits.finance.markets.panel_har import fit_panel_har
from kits.finance.markets.paths import (
    MAXIMUM_FIT_DAYS,
    QUANTILE_LEVELS,
    FittedVolatility,
    VolatilityForecast,
    require_horizon,
    still_prices,
    summarise,
)
from kits.finance.markets.prices import PriceHistory, PriceTable
from kits.finance.markets.volatility import log_returns

__all__ = [
    "PANEL_MODELS",
    "PanelForecast",
    "RefusedCompany",
    "forecast_panel",
    "read_histories",
]

Floats = npt.NDArray[np.float64]
Progress = Callable[[str], None]

PANEL_MODELS = ("ewma", "garch", "gjr", "har")
"""What `forecast_panel` fits, in this order."""


@dataclass(frozen=True)
class RefusedCompany:
    """A company without a forecast, and why."""

    ticker: str
    reason: str


@dataclass(frozen=True, eq=False)
class PanelForecast:
    """The forecasts of N companies; every sequence is in the order of `tickers`.

    Args:
        horizon_days: Trading days ahead.
        tickers: The companies that have a forecast, in the order given.
        fits: Model to its N fits.
        expected_variance: Model to `(N, horizon_days)`, of each coming day.
        forecasts: Model to its N forecasts with quantiles; empty where none were asked for.
        refused: The other companies.
        notes: What was not done as usual, in words.
    """

    horizon_days: int
    tickers: tuple[str, ...]
    fits: Mapping[str, tuple[FittedVolatility, ...]]
    expected_variance: Mapping[str, Floats]
    forecasts: Mapping[str, tuple[VolatilityForecast, ...]]
    refused: tuple[RefusedCompany, ...]
    notes: tuple[str, ...]


def forecast_panel(
    histories: Sequence[PriceHistory],
    *,
    horizon_days: int = 30,
    models: Sequence[str] = PANEL_MODELS,
    quantile_levels: Sequence[float] | None = QUANTILE_LEVELS,
    seed: int = 0,
    refused: Sequence[RefusedCompany] = (),
    progress: Progress | None = None,
) -> PanelForecast:
    """Forecasts every company's volatility; one that cannot be is listed with its reason.

    Args:
        histories: Checked prices; `read_histories` reads them from a table.
        horizon_days: Trading days ahead, 1 to 250.
        models: Some of `PANEL_MODELS`.
        quantile_levels: Levels between 0 and 1, rising; None makes no paths and so no
            quantiles, which is most of the time.
        seed: Seed of each company's paths: the same as in its own call.
        refused: Companies that were refused before, to be listed with the others.
        progress: Called with the name of each step as it begins.

    Raises:
        TableError: Models, horizon or levels are out of bounds, or there is no history.
    """
    _require_arguments(histories, models, horizon_days, quantile_levels)
    step = progress or (lambda _: None)
    usable, out = _usable(histories)
    fits: dict[str, tuple[FittedVolatility, ...]] = {}
    notes: list[str] = []
    for model in models if usable else ():
        step(f"Fitting {model} to {len(usable)} companies")
        fits[model] = _fit(usable, model, notes)
    forecasts = {}
    for model in models if quantile_levels is not None else ():
        step(f"Simulating {model}")
        forecasts[model] = tuple(
            summarise(
                fit.simulate(horizon_days, seed=seed),
                model=model,
                quantile_levels=quantile_levels or (),
            )
            for fit in fits.get(model, ())
        )
    return PanelForecast(
        horizon_days=horizon_days,
        tickers=tuple(history.ticker for history in usable),
        fits=fits,
        expected_variance={
            model: np.stack([fit.expected_variance(horizon_days) for fit in fitted])
            for model, fitted in fits.items()
        },
        forecasts=forecasts,
        refused=(*refused, *out),
        notes=tuple(notes),
    )


def read_histories(
    table: PriceTable, tickers: Sequence[str], *, as_of: date | None = None
) -> tuple[list[PriceHistory], list[RefusedCompany]]:
    """Returns the checked histories of these tickers, and those that the border refuses.

    Args:
        table: Prices of many companies.
        tickers: Each read once, in this order.
        as_of: The last date that may be known; None takes every row.
    """
    histories, refused = [], []
    for ticker in dict.fromkeys(tickers):
        try:
            histories.append(table.history(ticker, as_of=as_of))
        except TableError as error:
            refused.append(RefusedCompany(ticker, str(error)))
    return histories, refused


def _require_arguments(
    histories: Sequence[PriceHistory],
    models: Sequence[str],
    horizon_days: int,
    quantile_levels: Sequence[float] | None,
) -> None:
    require_horizon(horizon_days, QUANTILE_LEVELS if quantile_levels is None else quantile_levels)
    unknown = sorted(set(models) - set(PANEL_MODELS))
    if unknown or not models or not histories:
        raise TableError(
            "panel forecast",
            expected=f"one history or more, models of {', '.join(PANEL_MODELS)}",
            found=f"{len(histories)} histories, models {', '.join(models) or 'none'}",
            remedy="Forecast other models company by company with forecast_volatility.",
        )


def _usable(
    histories: Sequence[PriceHistory],
) -> tuple[list[PriceHistory], list[RefusedCompany]]:
    """Returns the histories that every model can be fitted to, and the others' reasons."""
    usable, out = [], []
    for history in histories:
        try:
            if np.std(log_returns(history.close)[-MAXIMUM_FIT_DAYS:]) == 0:
                raise still_prices("equal returns on all days")
            log_daily_variance(history)
        except TandemError as error:
            out.append(RefusedCompany(history.ticker, str(error)))
        else:
            usable.append(history)
    return usable, out


def _fit(
    histories: Sequence[PriceHistory], model: str, notes: list[str]
) -> tuple[FittedVolatility, ...]:
    if model == "har":
        return fit_panel_har([log_daily_variance(history) for history in histories])
    if model == "ewma":
        return tuple(fit_volatility(history, model=model) for history in histories)
    returns = [log_returns(history.close)[-MAXIMUM_FIT_DAYS:] for history in histories]
    panel = fit_panel_garch(returns, model="gjr" if model == "gjr" else "garch")
    fits = [_as_garch(panel, at, model) for at in range(len(histories))]
    for at in np.flatnonzero(~panel.converged).tolist():
        fits[at] = _better(fits[at], histories[at], notes)
    return tuple(fits)


def _as_garch(panel: PanelFit, at: int, model: str) -> FittedGarch:
    """Returns one company's fit in the words of `arch`: parameters of returns in percent."""
    parameters = {
        "mu": panel.mu[at] * PERCENT,
        "omega": panel.omega[at] * PERCENT**2,
        "alpha[1]": panel.alpha[at],
        **({"gamma[1]": panel.gamma[at]} if model == "gjr" else {}),
        "beta[1]": panel.beta[at],
        "nu": panel.nu[at],
    }
    return FittedGarch(
        mean=float(panel.mu[at]),
        next_volatility=float(np.sqrt(panel.next_variance[at])),
        standardized_residuals=panel.standardized[at],
        parameters={name: float(value) for name, value in parameters.items()},
        result=None,
        model=model,
        log_likelihood=float(panel.log_likelihood[at]),
    )


def _better(fit: FittedGarch, history: PriceHistory, notes: list[str]) -> FittedGarch:
    """Fits a company alone whose joint search did not converge; the higher likelihood stays."""
    try:
        alone = fit_garch(history, model=fit.model)
    except ModelError:
        alone = fit
    best = max((fit, alone), key=lambda one: one.log_likelihood)
    notes.append(
        f"{history.ticker}: the likelihood of {fit.model} is flat where the search ended; "
        f"the {'joint' if best is fit else 'single'} fit is the higher one and is used."
    )
    return best
