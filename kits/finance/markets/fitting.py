"""The volatility models by name, and how each is fitted to one history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from common.errors import TableError
from kits.finance.markets.garch_fit import FORMS, fit_garch
from kits.finance.markets.log_variance import fit_arima, fit_ets, fit_har
from kits.finance.markets.paths import FittedVolatility
from kits.finance.markets.prices import PriceHistory

__all__ = ["MODELS", "fit_volatility"]

MODELS: Mapping[str, Callable[[PriceHistory], FittedVolatility]] = {
    "arima": fit_arima,
    "ets": fit_ets,
    "har": fit_har,
    **{name: partial(fit_garch, model=name) for name in FORMS},
}
"""Model name to what fits it; see `garch_fit` and `log_variance` for their equations."""


def fit_volatility(history: PriceHistory, *, model: str) -> FittedVolatility:
    """Fits one of `MODELS`.

    Raises:
        TableError: There is no such model, or the prices do not move.
        ModelError: The model has no maximum of its likelihood that could be found.
    """
    if model not in MODELS:
        raise TableError(
            "volatility forecast",
            expected=f"model {', '.join(sorted(MODELS))} or ensemble",
            found=f"model {model}",
            remedy="Name one of these.",
        )
    return MODELS[model](history)
