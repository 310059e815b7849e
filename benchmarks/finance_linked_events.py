"""Risk recognition: will the 30-day volatility, reaction included, be in its top quintile?

The threshold is a quantile of a set's train labels; log-odds are fitted on train forecasts out of
fold and calibrated on dev (`kits.finance.risk.event`). Figures are of both sets' test calls
together, their intervals from companies drawn whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.finance_linked_links import LinkedSet
from benchmarks.suite import Role, Row
from common.evaluation.intervals import bootstrap_interval
from common.evaluation.metrics import (
    area_under_curve,
    brier_score,
    expected_calibration_error,
)
from kits.finance.risk.event import fit_event_model

__all__ = ["EventForecasts", "area", "event_forecasts", "event_rows", "relative_gain"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_LAST = 3  # the horizon of 30 days
_DRAWS = 1000
_POOLED = "MAEC-15 and MAEC-16"


@dataclass(frozen=True, eq=False)
class EventForecasts:
    """Probabilities of both sets' test calls.

    Args:
        name: Of the model.
        role: Its part in the comparison.
        probability: One array for each seed, `(n,)`.
        event: `(n,)`.
        company: `(n,)`.
        source: How the probabilities came about.
    """

    name: str
    role: Role
    probability: tuple[Floats, ...]
    event: npt.NDArray[np.bool_]
    company: npt.NDArray[np.str_]
    source: str

    def score(self, metric: Callable[[Floats, npt.NDArray[np.bool_]], float], rows: Ints) -> float:
        """Returns the mean of a metric over seeds, on some rows."""
        return float(np.mean([metric(p[rows], self.event[rows]) for p in self.probability]))


def event_forecasts(
    name: str,
    role: Role,
    sets: Sequence[LinkedSet],
    forecasts: Sequence[Sequence[Floats]],
    *,
    quantile: float,
) -> EventForecasts:
    """Fits the event model of each set and returns the test calls' probabilities.

    Args:
        name: Of the model.
        role: Its part.
        sets: Both sets.
        forecasts: For each set one array `(n, 4)` per seed; train rows out of fold.
        quantile: Of the train labels, above which the event lies.
    """
    probabilities, events, companies, methods = [], [], [], []
    for linked, of_seeds in zip(sets, forecasts, strict=True):
        calls = linked.calls
        train, dev, test = (calls.rows(split, "reaction") for split in ("train", "dev", "test"))
        outcome = calls.labels["reaction"][:, _LAST]
        threshold = float(np.quantile(outcome[train], quantile))
        models = [
            fit_event_model(
                f[train, _LAST],
                outcome[train],
                threshold=threshold,
                dev_forecast=f[dev, _LAST],
                dev_outcome=outcome[dev],
                dev_company=calls.ticker[dev],
            )
            for f in of_seeds
        ]
        probabilities.append(
            [m.probability(f[test, _LAST]) for m, f in zip(models, of_seeds, strict=True)]
        )
        events.append(outcome[test] > threshold)
        companies.append(calls.ticker[test])
        methods.append(f"{calls.dataset} {models[0].method} ({models[0].n_dev_events} dev events)")
    return EventForecasts(
        name,
        role,
        tuple(np.concatenate(pair) for pair in zip(*probabilities, strict=True)),
        np.concatenate(events),
        np.concatenate(companies),
        "this run; calibration: " + ", ".join(methods),
    )


def event_rows(models: Sequence[EventForecasts], linked: EventForecasts) -> Iterator[Row]:
    """Yields every model's figures, and what linked gains over each of the others."""
    event = linked.event
    yield Row(
        "no event ever",
        _POOLED,
        "event accuracy",
        float(1 - event.mean()),
        None,
        None,
        "1",
        "floor",
    )
    for model in models:
        rows = np.arange(len(model.event))
        for metric, score in _METRICS.items():
            found = bootstrap_interval(
                lambda rows, m=model, s=score: m.score(s, rows),  # type: ignore[misc]
                model.company,
                draws=_DRAWS,
            )
            yield Row(
                model.name, _POOLED, f"event {metric}", found.value, found.low, found.high,
                "1", model.role, model.source,
            )  # fmt: skip
        # a bootstrap of a calibration error is biased upwards: no interval
        error = model.score(expected_calibration_error, rows)
        yield Row(
            model.name, _POOLED, "event ECE", error, None, None, "1", model.role, model.source
        )
    for other in models:
        if other is linked:
            continue
        for metric in ("AUC", "accuracy"):
            score = _METRICS[metric]

            def gain(rows: Ints, o: EventForecasts = other, s: _Metric = score) -> float:
                return linked.score(s, rows) - o.score(s, rows)

            found = bootstrap_interval(gain, linked.company, draws=_DRAWS)
            yield Row(
                f"linked minus {other.name}", _POOLED, f"event {metric} difference",
                found.value, found.low, found.high, "1", "ours",
            )  # fmt: skip


def relative_gain(linked: EventForecasts, other: EventForecasts) -> float:
    """Returns linked's accuracy over another's, less one."""
    rows = np.arange(len(linked.event))
    return linked.score(_accuracy, rows) / other.score(_accuracy, rows) - 1


def area(model: EventForecasts) -> float:
    """Returns the area under the curve of all test calls, mean over seeds."""
    return model.score(_area, np.arange(len(model.event)))


_Metric = Callable[[Floats, npt.NDArray[np.bool_]], float]


def _area(p: Floats, event: npt.NDArray[np.bool_]) -> float:
    if event.sum() < 2 or (~event).sum() < 2:  # a draw of companies without the event
        return float("nan")
    return area_under_curve(p, event).value


def _accuracy(p: Floats, event: npt.NDArray[np.bool_]) -> float:
    return float(np.mean((p > 0.5) == event))


_METRICS: dict[str, _Metric] = {
    "AUC": _area,
    "accuracy": _accuracy,
    "Brier": brier_score,
}
