"""The methods of tail risk, as data: which filter, which tail, what is learned from exceptions.

The key of `METHODS` is the `method` that callers name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from common.errors import TableError
from kits.finance.risk.filters import Distribution, Model

__all__ = ["METHODS", "TailKind", "TailMethod", "method_of"]

TailKind = Literal["empirical", "law", "pareto"]


@dataclass(frozen=True)
class TailMethod:
    """One way to VaR and ES.

    Args:
        name: In words, with its source.
        members: Keys of other methods whose VaR and ES are averaged; then what follows, but
            for `level_step`, is theirs to say.
        model: Filter of the volatility; None takes the returns as they are.
        distribution: With which the filter is fitted.
        tail: Of the (filtered) losses: the losses themselves, a generalised Pareto law
            beyond a threshold, or the filter's distribution.
        decay: Weight of a day against the next younger one; None weighs them alike.
        level_step: How far one exception moves the level of later forecasts in rolling use
            (`kits.finance.risk.rolling`); 0 leaves it alone.
    """

    name: str
    model: Model | None = None
    distribution: Distribution = "normal"
    tail: TailKind = "empirical"
    decay: float | None = None
    level_step: float = 0.0
    members: tuple[str, ...] = ()

    @property
    def filtered(self) -> bool:
        """Whether the returns are freed of their volatility first."""
        return self.model is not None or bool(self.members)


METHODS: Mapping[str, TailMethod] = MappingProxyType(
    {
        "historical": TailMethod("historical simulation"),
        "age-weighted": TailMethod(
            "age-weighted historical simulation, decay 0.99 (Boudoukh et al. 1998)",
            decay=0.99,
        ),
        "fhs-ewma": TailMethod("filtered historical simulation, EWMA 0.94", "ewma"),
        "fhs-garch": TailMethod("filtered historical simulation, GARCH(1,1)-normal", "garch"),
        "fhs-gjr": TailMethod("filtered historical simulation, GJR-skew-t", "gjr", "skewt"),
        "garch-normal": TailMethod("GARCH(1,1)-normal", "garch", "normal", "law"),
        "garch-t": TailMethod("GARCH(1,1)-t", "garch", "t", "law"),
        "evt": TailMethod(
            "peaks over threshold of GARCH(1,1)-t residuals (McNeil and Frey 2000)",
            "garch",
            "t",
            "pareto",
        ),
        "evt-gjr": TailMethod(
            "peaks over threshold of GJR-skew-t residuals (McNeil and Frey 2000)",
            "gjr",
            "skewt",
            "pareto",
        ),
        "evt-ewma": TailMethod(
            "peaks over threshold of EWMA residuals", "ewma", "normal", "pareto"
        ),
        # Members and step were chosen on other series than those of `finance.var`:
        # docs/finance.md, "Tail risk", says on which.
        "evt-ensemble": TailMethod(
            "mean of peaks over threshold of GARCH-t, GJR-skew-t and EWMA residuals; in rolling "
            "use the level follows past exceptions",
            level_step=0.0005,
            members=("evt", "evt-gjr", "evt-ewma"),
        ),
    }
)


def method_of(name: str) -> TailMethod:
    """Returns the method of that name.

    Raises:
        TableError: There is none.
    """
    if name not in METHODS:
        raise TableError(
            "method of tail risk",
            expected=f"one of {', '.join(METHODS)}",
            found=repr(name),
            remedy="Name one of these.",
        )
    return METHODS[name]
