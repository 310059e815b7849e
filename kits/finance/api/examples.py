"""Bodies that the documentation shows; each is answered as it stands (a test sends them)."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["EXAMPLES"]

_CALL = (
    "Good morning, and thank you for joining the call. Orders fell in the second quarter, and "
    "we expect that demand in Europe stays weak. We may not be able to recover the full cost of "
    "the new plant. Our lenders have waived the covenant until next spring. On the other side, "
    "prices held, and the cash at hand covers what falls due this year. We reduced inventories "
    "by a tenth, and we will not give guidance for the year."
)
_N_DAYS = 260
# A sine of growing swing: figures that anybody can make again, with a few days beyond VaR.
_LOSSES = [round(0.012 * math.sin(1.7 * day) * (1 + day / _N_DAYS), 4) for day in range(_N_DAYS)]
_VAR = [round(0.0125 * (1 + 0.9 * day / _N_DAYS), 4) for day in range(_N_DAYS)]

_FILES = [{"name": "call.txt", "text": _CALL}]

EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "assessments": {
        "text alone": {
            "summary": "An earnings call without prices: reasons and passages, no score",
            "value": {"ticker": "ABC", "document": _FILES[0]},
        }
    },
    "portfolios": {
        "two companies": {
            "summary": "Two lines, one of which has no document and is listed with its reason",
            "value": {
                "portfolio": "ticker,document,weight\nABC,call.txt,3\nXYZ,filing.txt,1\n",
                "files": [*_FILES, {"name": "filing.txt", "text": "too short"}],
            },
        }
    },
    "backtests": {
        "your own forecasts": {
            "summary": "VaR forecasts of whatever model beside the losses that came",
            "value": {"level": 0.99, "losses": _LOSSES, "value_at_risk": _VAR},
        }
    },
}
"""Resource -> name -> an OpenAPI example object."""
