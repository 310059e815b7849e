"""Residuals of a filter: their tail, and draws from it for simulated days.

Residuals z are `(T,)` with variance near 1; the tail is that of their losses, -z.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kits.finance.risk.filters import VolatilityFilter
from kits.finance.risk.methods import TailKind
from kits.finance.risk.tails import EmpiricalTail, LawTail, ParetoTail, Tail, fit_pareto_tails

__all__ = ["draw_residuals", "residual_tails"]

Floats = npt.NDArray[np.float64]


def residual_tails(kind: TailKind, fitted: VolatilityFilter, runs: Floats) -> list[Tail]:
    """Returns the tail of -z for each run of residuals.

    Args:
        kind: "empirical" (the residuals), "pareto" (a law beyond their 90% quantile) or
            "law" (the distribution with which the filter was fitted).
        fitted: The filter.
        runs: `(n_runs, T)`, z.

    Raises:
        TableError: There are too few residuals for a Pareto law.
    """
    if kind == "empirical":
        return [EmpiricalTail.of(-run) for run in runs]
    if kind == "pareto":
        return [*fit_pareto_tails(-runs)]
    law = LawTail(lambda levels: -fitted.quantile(1.0 - levels))
    return [law] * len(runs)


def draw_residuals(
    tail: Tail, residuals: Floats, shape: tuple[int, int], rng: np.random.Generator
) -> Floats:
    """Draws z for simulated days, `shape`.

    A sample is drawn with replacement. With a Pareto tail, a drawn residual that lies beyond
    the threshold is replaced by a draw from the law (McNeil and Frey 2000, section 4; here
    for losses alone: gains stay as they were seen). A law is drawn by its quantiles.
    """
    if isinstance(tail, LawTail):
        return np.asarray(-tail.quantile(rng.random(shape).ravel()).reshape(shape))
    drawn = rng.choice(residuals, shape)
    if isinstance(tail, ParetoTail):
        beyond = -drawn > tail.threshold
        levels = 1.0 - tail.share * (1.0 - rng.random(int(beyond.sum())))
        drawn[beyond] = -tail.quantile(levels)
    return drawn
