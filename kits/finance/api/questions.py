"""What callers of the finance API ask for, checked: what the service works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from kits.finance.api.uploads import Upload

__all__ = ["AssessmentQuestion", "ForecastQuestion", "PortfolioQuestion", "PriceQuestion"]


@dataclass(frozen=True)
class AssessmentQuestion:
    """One company to assess; see `kits.finance.pipeline.assess`."""

    ticker: str
    document: Upload
    prices: Upload | None
    as_of: date | None

    @property
    def n_bytes(self) -> int:
        """How large its files are together."""
        return self.document.n_bytes + (0 if self.prices is None else self.prices.n_bytes)


@dataclass(frozen=True)
class PortfolioQuestion:
    """A portfolio to assess: its CSV text, and the files that it names."""

    portfolio: str
    files: Mapping[str, Upload]


@dataclass(frozen=True)
class PriceQuestion:
    """Prices on which a method's VaR is backtested; see `kits.finance.reporting.backtest`."""

    prices: Upload
    ticker: str | None
    as_of: date | None
    level: float
    method: str


@dataclass(frozen=True)
class ForecastQuestion:
    """VaR forecasts of whatever model, beside the losses that came: one entry a day."""

    losses: tuple[float, ...]
    value_at_risk: tuple[float, ...]
    expected_shortfall: tuple[float, ...] | None
    level: float
